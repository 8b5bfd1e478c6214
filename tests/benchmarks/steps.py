"""What privacy costs a training step: CPU seconds of the private step ÷ those of the plain one, on one thread.

    python -m tests.benchmarks.steps [rounds]

The private step fetches its batch, sums clipped gradients, adds Gaussian noise and moves the weights; the plain one
fetches the same batch and does backward and `torch.optim.SGD`. Both take turns; ratios are of medians.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dpsgd import gradient_sum
from dpsgd.noise import Noise
from dpsgd.parameters import assign, flatten, trainable
from mechanisms import SystemSource

RECORDS = 1024
MOST_STEPS = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model with the batch it is trained on.

    Args:
        make: the model.
        batch: number of examples.
        bar: the ratio not to exceed.
        shape: of one example's features.
        words: number of words if features are words, which are then the targets as well; 0 for real features.
        classes: number of targets.
    """

    make: Callable[[], nn.Module]
    batch: int
    bar: float
    shape: tuple[int, ...]
    words: int = 0
    classes: int = 10

    def data(self) -> tuple[Tensor, Tensor]:
        """Return random features and targets."""
        if self.words:
            features = torch.randint(self.words, (RECORDS, *self.shape))
            return features, features.roll(-1, dims=1)
        return torch.randn(RECORDS, *self.shape), torch.randint(self.classes, (RECORDS,))


class Causal(nn.Module):
    """A language model: every word mixes with the three before it."""

    def __init__(self, words: int = 1000, width: int = 64) -> None:
        super().__init__()
        self.look = nn.Embedding(words, width)
        self.mix = nn.Conv1d(width, width, 4, padding=3)
        self.norm, self.tell = nn.LayerNorm(width), nn.Linear(width, words)

    def forward(self, words: Tensor) -> Tensor:
        """Return logits (n, T, words) of the following words."""
        looked = self.look(words)
        mixed = self.mix(looked.mT)[:, :, : words.shape[1]].mT
        return self.tell(self.norm(looked + torch.tanh(mixed)))


def tanh_cnn() -> nn.Sequential:
    """Return the CIFAR network of six convolutions that private training is often shown on."""
    layers: list[nn.Module] = []
    for before, width in ((3, 32), (32, 64), (64, 128)):
        for channels in (before, width):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.Tanh()]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 128), nn.Tanh(), nn.Linear(128, 10))


def mnist_cnn() -> nn.Sequential:
    """Return the MNIST network of Opacus's example."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, stride=2, padding=3), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(16, 32, 4, stride=2),
        nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


CASES = {
    "logreg 784-10, B=256": Case(make=lambda: nn.Linear(784, 10), batch=256, bar=1.2, shape=(784,)),
    "MLP 784-256-10, B=256": Case(
        make=lambda: nn.Sequential(nn.Linear(784, 256), nn.Tanh(), nn.Linear(256, 10)), batch=256, bar=1.3, shape=(784,)
    ),
    "MNIST CNN, B=256": Case(make=mnist_cnn, batch=256, bar=1.35, shape=(1, 28, 28)),
    "tanh CIFAR CNN, B=64": Case(make=tanh_cnn, batch=64, bar=1.3, shape=(3, 32, 32)),
    "language model V=1000, d=64, T=64, B=64": Case(make=Causal, batch=64, bar=1.2, shape=(64,), words=1000),
}


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return one cross-entropy an example, the mean over its places."""
    if targets.dim() == 1:
        return cross_entropy(outputs, targets, reduction="none")
    return cross_entropy(outputs.mT, targets, reduction="none").mean(1)


def private_step(case: Case, features: Tensor, targets: Tensor, model: nn.Module) -> Callable[[Tensor, int], None]:
    """Return the function that takes a private step on the rows given."""
    parameters = list(trainable(model).values())
    weights = flatten(parameters)
    assign(weights, parameters)
    noise = Noise(source=SystemSource(), run=0, steps=MOST_STEPS, like=weights)
    clipped = gradient_sum(model, example_dimensions=len(case.shape), loss=loss, max_grad_norm=1.0)

    def step(rows: Tensor, turn: int) -> None:
        total = clipped(features.index_select(0, rows), targets.index_select(0, rows))
        noise.add_to(total, step=turn, scale=1.0)
        weights.sub_(total, alpha=0.1 / case.batch)

    return step


def plain_step(features: Tensor, targets: Tensor, model: nn.Module) -> Callable[[Tensor, int], None]:
    """Return the function that takes a plain step on the rows given."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(rows: Tensor, turn: int) -> None:
        optimizer.zero_grad()
        loss(model(features.index_select(0, rows)), targets.index_select(0, rows)).mean().backward()
        optimizer.step()

    return step


def measure(case: Case, *, rounds: int) -> dict[str, float]:
    """Return the medians of the milliseconds of the steps and of the private one's noise, and the coordinates."""
    torch.manual_seed(0)
    model, (features, targets) = case.make(), case.data()
    private = copy.deepcopy(model)
    like = flatten(private.parameters())
    noise = Noise(source=SystemSource(), run=0, steps=MOST_STEPS, like=like)
    contestants: dict[str, Callable[[Tensor, int], object]] = {
        "plain": plain_step(features, targets, model),
        "private": private_step(case, features, targets, private),
        "noise": lambda _, turn: noise.add_to(like, step=turn, scale=1.0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 2):
        rows = torch.randperm(RECORDS)[: case.batch]
        for name, step in contestants.items():
            start = time.process_time()
            step(rows, turn)
            seconds[name].append(time.process_time() - start)
    return {"coordinates": len(like)} | {name: 1e3 * statistics.median(taken[2:]) for name, taken in seconds.items()}


def main(rounds: int) -> None:
    """Print one line a case."""
    torch.set_num_threads(1)
    print(f"{'case':40} {'plain ms':>9} {'private':>9} {'of it noise':>12} {'ns each':>8} {'ratio':>6} {'bar':>5}")
    for name, case in CASES.items():
        taken = measure(case, rounds=rounds)
        ratio, each = taken["private"] / taken["plain"], 1e6 * taken["noise"] / taken["coordinates"]
        milliseconds = f"{taken['plain']:9.2f} {taken['private']:9.2f} {taken['noise']:12.2f}"
        print(f"{name:40} {milliseconds} {each:8.2f} {ratio:6.2f} {case.bar:5}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
