"""Models, and the training steps on them that the benchmark of steps sets side by side."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dpsgd import DPSGD, Dataset, steps
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.forms import Noting, plan_of
from dpsgd.core.layers import Plan
from dpsgd.core.noise import Noise
from dpsgd.core.parameters import assign, flatten, trainable
from dpsgd.core.population import Examples
from dpsgd.core.tuning import fastest_forms
from dpsgd.gradients import GradientSum, gradient_sum_by
from mechanisms import Poisson, SystemSource

RECORDS = 1024
MOST_STEPS = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model with the batch it is trained on.

    Args:
        make: the model.
        batch: number of examples.
        bar: the ratio not to exceed, noise included.
        quiet: the same without noise; none if infinite.
        compiled: the same of the compiled step, noise included; none if infinite.
        shape: of one example's features.
        words: number of words if features are words, which are then the targets as well; 0 for real features.
        classes: number of targets.
    """

    make: Callable[[], nn.Module]
    batch: int
    bar: float
    shape: tuple[int, ...]
    quiet: float = math.inf
    compiled: float = math.inf
    words: int = 0
    classes: int = 10

    def data(self, records: int = RECORDS) -> tuple[Tensor, Tensor]:
        """Return random features and targets."""
        if self.words:
            features = torch.randint(self.words, (records, *self.shape))
            return features, features.roll(-1, dims=1)
        return torch.randn(records, *self.shape), torch.randint(self.classes, (records,))


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
        mixed = self.mix(looked.mT.contiguous())[:, :, : words.shape[1]].mT  # as `dpsgd.train` asks for
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
    "logreg 784-10, B=256": Case(make=lambda: nn.Linear(784, 10), batch=256, bar=1.2, compiled=1.0, shape=(784,)),
    "MLP 784-256-10, B=256": Case(
        make=lambda: nn.Sequential(nn.Linear(784, 256), nn.Tanh(), nn.Linear(256, 10)),
        batch=256,
        bar=1.3,
        quiet=1.1,
        compiled=1.3,
        shape=(784,),
    ),
    "MNIST CNN, B=256": Case(make=mnist_cnn, batch=256, bar=1.35, shape=(1, 28, 28)),
    "tanh CIFAR CNN, B=256": Case(make=tanh_cnn, batch=256, bar=1.3, shape=(3, 32, 32)),
    "language model V=1000, d=64, T=64, B=64": Case(make=Causal, batch=64, bar=1.2, shape=(64,), words=1000),
}


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return one cross-entropy an example, the mean over its places."""
    if targets.dim() == 1:
        return cross_entropy(outputs, targets, reduction="none")
    return cross_entropy(outputs.mT, targets, reduction="none").mean(1)


Step = Callable[[Tensor, int], object]
"""Takes a step, on the rows given, with a number."""


def plain(case: Case, features: Tensor, targets: Tensor, model: nn.Module) -> Step:
    """Return backward and `torch.optim.SGD`."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(rows: Tensor, turn: int) -> None:
        optimizer.zero_grad()
        loss(model(features.index_select(0, rows)), targets.index_select(0, rows)).mean().backward()
        optimizer.step()

    return step


def private(case: Case, features: Tensor, targets: Tensor, model: nn.Module) -> Step:
    """Return clipped gradients, Gaussian noise, and the move of the weights."""
    return _private(case, features, targets, model, noisy=True)


def quiet(case: Case, features: Tensor, targets: Tensor, model: nn.Module) -> Step:
    """Return the private step without noise."""
    return _private(case, features, targets, model, noisy=False)


def compiled(case: Case, features: Tensor, targets: Tensor, model: nn.Module) -> Step:
    """Return the private step whose clipped sum and noise are compiled."""
    return _private(case, features, targets, model, noisy=True, compiled=True)


def _private(
    case: Case, features: Tensor, targets: Tensor, model: nn.Module, *, noisy: bool, compiled: bool = False
) -> Step:
    parameters = list(trainable(model).values())
    weights = flatten(parameters)
    assign(weights, parameters)
    noise = Noise(source=SystemSource(), run=0, steps=MOST_STEPS, like=weights, compiled=compiled)
    noting = Noting(model=model)

    def clipped_sum(plan: Plan) -> GradientSum:
        clip, dimensions = FlatClipper(max_grad_norm=1.0), len(case.shape)
        return gradient_sum_by(
            clip, model, example_dimensions=dimensions, loss=loss, overwrite=True, compiled=compiled, plan=plan
        )

    clipped_sum(noting.plan)(features[: case.batch].clone(), targets[: case.batch])
    forms = fastest_forms(noting.given)  # as a run with a SystemSource does before its first step
    sums = clipped_sum(plan_of(model, forms))
    examples = Examples(dataset=Dataset(features=features, targets=targets), clipped_sum=sums)

    def step(rows: Tensor, turn: int) -> None:
        total = examples.sum_of(rows.numpy(), 0, rows.numpy())
        if noisy:
            noise.add_to(total, step=turn, scale=1.0)
        weights.sub_(total, alpha=0.1 / case.batch)

    return step


def run(case: Case, features: Tensor, targets: Tensor, model: nn.Module) -> Step:
    """Return a step of `dpsgd.steps`: a Poisson sample is drawn, the model looked at, and the release copied too."""
    config = DPSGD(
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        sampling=Poisson(probability=case.batch / RECORDS),
        expected_batch_size=case.batch,
        steps=MOST_STEPS,
        learning_rate=0.1,
    )
    dataset = Dataset(features=features, targets=targets)
    taken = steps(model, dataset, config, loss=loss, randomness=SystemSource())
    return lambda rows, turn: next(taken)


def noise_alone(case: Case, features: Tensor, targets: Tensor, model: nn.Module) -> Step:
    """Return the noise of a step."""
    like = flatten(model.parameters())
    noise = Noise(source=SystemSource(), run=0, steps=MOST_STEPS, like=like)
    return lambda rows, turn: noise.add_to(like, step=turn, scale=1.0)


def opacus_hooks(case: Case, features: Tensor, targets: Tensor, model: nn.Module) -> Step:
    """Return Opacus's step of its default mode."""
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    module = GradSampleModule(model)
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.1), noise_multiplier=1.0, max_grad_norm=1.0,
        expected_batch_size=case.batch,
    )  # fmt: skip

    def step(rows: Tensor, turn: int) -> None:
        optimizer.zero_grad()
        loss(module(features.index_select(0, rows)), targets.index_select(0, rows)).mean().backward()
        optimizer.step()

    return step


def opacus_ghost(case: Case, features: Tensor, targets: Tensor, model: nn.Module) -> Step:
    """Return Opacus's step by ghost clipping."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

    module = GradSampleModuleFastGradientClipping(model, max_grad_norm=1.0, use_ghost_clipping=True)
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(model.parameters(), lr=0.1), noise_multiplier=1.0, max_grad_norm=1.0,
        expected_batch_size=case.batch,
    )  # fmt: skip

    def step(rows: Tensor, turn: int) -> None:
        optimizer.zero_grad()
        losses = loss(module(features.index_select(0, rows)), targets.index_select(0, rows))
        DPTensorFastGradientClipping(module, optimizer, losses).backward()
        optimizer.step()

    return step


Maker = Callable[[Case, Tensor, Tensor, nn.Module], Step]
OURS: dict[str, Maker] = {
    "plain": plain,
    "private": private,
    "private without noise": quiet,
    "private in a run": run,
    "noise": noise_alone,
}
COMPILED: dict[str, Maker] = {"private compiled": compiled}
"""Of the cases with a bar for it: compiling takes longer than measuring."""
PEERS: dict[str, Maker] = {"Opacus hooks": opacus_hooks, "Opacus ghost": opacus_ghost}
AVAILABLE = OURS | COMPILED | (PEERS if importlib.util.find_spec("opacus") else {})
