"""Canaries of every kind in one private training run: their interference, what they cost, and how well they are found.

    python -m tests.benchmarks.canaries [--json FILE] [--epsilon E] [--runs N] [--canaries M …]

An MLP is trained on digits with a budget of ε at δ = 1e-5. "cos" is the largest and the root mean square cosine of two
canaries' gradients at the initial weights, "share" what `interference` predicts others to explain of a score's
variance there and, behind it, what they did explain in the runs. Areas are those of the white-box scores, accuracy
that on the test records, less that of the same runs without canaries.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from audit.attack import Attack
from audit.attacks.gradient import GradientProjection
from audit.attacks.input_gradient import GradientProduct
from audit.canaries import Canaries, GradientCanaries, InputCanaries, signed_coordinates
from audit.core.example_gradients import ExampleGradients
from audit.demo import accuracy
from audit.directions import orthogonal_directions, random_directions
from audit.input_canaries import blank, least_variance, mislabelled, uniform_noise
from audit.interference import explained_share, predicted_interference
from audit.roc import area_under_curve
from audit.runs import Setup, observe_one_run
from audit.scores import GuessExtremes
from audit.trainers import dpsgd_trainer
from dpsgd import DPSGD, Dataset, count_parameters, load, mlp, train
from mechanisms import KeyedSource, Poisson, __version__

SCHEMA = "dp-calipers/canary-benchmark/1"
LOSS = nn.CrossEntropyLoss(reduction="none")
DELTA, CLASSES = 1e-5, 10


@dataclass(frozen=True, kw_only=True)
class Training:
    """The run that canaries enter: its model is left with the weights of the run before."""

    model: nn.Module
    known: Dataset
    test: Dataset
    config: DPSGD


def training(epsilon: float) -> Training:
    """Return the training of digits with this budget."""
    known, test = load("digits")
    torch.manual_seed(0)
    config = DPSGD.for_budget(
        epsilon=epsilon, delta=DELTA, max_grad_norm=1.0, sampling=Poisson(probability=0.25),
        expected_batch_size=360, steps=100, learning_rate=3.0,
    )  # fmt: skip
    return Training(model=mlp(64, (64,), CLASSES), known=known, test=test, config=config)


def kinds(known: Dataset, dimension: int, canaries: int) -> dict[str, Canaries]:
    """Return canaries of every kind that there can be as many of."""
    rng = np.random.default_rng(0)
    features, targets = known.features.numpy(), known.targets.numpy()
    common = {"canaries": canaries, "rng": rng}
    found: dict[str, Canaries] = {
        "mislabelled": mislabelled(features, targets, classes=CLASSES, **common),
        "blank": blank((64,), canaries=canaries, classes=CLASSES),
        "uniform noise": uniform_noise((64,), classes=CLASSES, **common),
        "Dirac": signed_coordinates(dimension=dimension, **common),
        "random direction": random_directions(dimension=dimension, **common),
        "orthogonal": orthogonal_directions(dimension=dimension, **common),
    }
    if canaries <= features.shape[1]:
        found["least variance"] = least_variance(features, classes=CLASSES, **common)
    return found


def gradients(canaries: Canaries, model: nn.Module) -> NDArray[np.float64]:
    """Return the canaries' clipped gradients at the model's weights, in units of the clip norm, (m, d)."""
    if isinstance(canaries, GradientCanaries):
        return np.stack([canaries.total(np.arange(len(canaries)) == number) for number in range(len(canaries))])
    assert isinstance(canaries, InputCanaries)
    records = Dataset(features=torch.tensor(canaries.features), targets=torch.tensor(canaries.targets))
    weights = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])
    return ExampleGradients.of(model, records, loss=LOSS, max_grad_norm=1.0).matrix(weights).double().numpy()


def row(canaries: Canaries, base: Training, *, runs: int, plain: float) -> dict[str, float]:
    """Return the figures of one kind of canaries, means over runs."""
    initial = {name: value.clone() for name, value in base.model.state_dict().items()}
    vectors, process = gradients(canaries, base.model), base.config.process()
    lengths = np.linalg.norm(vectors, axis=1)
    kept = predicted_interference(vectors[lengths > 0], process)
    attack: Attack = (
        GradientProjection() if isinstance(canaries, GradientCanaries) else GradientProduct(model=base.model, loss=LOSS)
    )
    trainer = dpsgd_trainer(base.model, base.known, base.config, loss=LOSS)
    areas, accuracies, shares = [], [], []
    for run in range(runs):
        setup = Setup(
            trainer=trainer, canaries=canaries, attack=attack, process=process, randomness=KeyedSource(run),
            guessing_rule=GuessExtremes(included=0, excluded=0),
        )  # fmt: skip
        data = observe_one_run(setup)
        areas.append(area_under_curve(data.included, data.excluded, confidence=0.95).value)
        accuracies.append(accuracy(base.model, base.test))
        shares.append(explained_share(vectors, data))
        base.model.load_state_dict(initial)
    return {
        "canaries": len(canaries),
        "mean length": float(lengths.mean()),
        "largest cosine": kept.largest_cosine,
        "root mean square cosine": kept.root_mean_square_cosine,
        "mean share": kept.mean_share,
        "explained share": float(np.mean(shares)),
        "area": float(np.mean(areas)),
        "area standard error": float(np.std(areas, ddof=1) / np.sqrt(runs)),
        "accuracy lost": plain - float(np.mean(accuracies)),
        "accuracy lost standard error": float(np.std(accuracies, ddof=1) / np.sqrt(runs)),
    }


def without_canaries(base: Training, runs: int) -> float:
    """Return the mean accuracy of as many runs of the trainer alone."""
    found = []
    for run in range(runs):
        result = train(base.model, base.known, base.config, loss=LOSS, randomness=KeyedSource(run))
        found.append(accuracy(result.model, base.test))
    return float(np.mean(found))


def main(arguments: list[str] | None = None) -> int:
    """Print one line a kind, write them if asked, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.canaries", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--canaries", type=int, nargs="+", default=[60, 500])
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cpu, wall = time.process_time(), time.perf_counter()
    base = training(given.epsilon)
    plain = without_canaries(base, given.runs)
    print(f"digits, ε = {given.epsilon:g}, accuracy without canaries {plain:.4f}, {given.runs} runs")
    print(f"{'canaries':22} {'length':>6} {'cos':>13} {'share':>13} {'area':>6} {'±':>6} {'accuracy lost':>13}")
    rows: dict[str, dict[str, float]] = {}
    for number in given.canaries:
        for name, canaries in kinds(base.known, count_parameters(base.model), number).items():
            found = rows[f"{number} {name}"] = row(canaries, base, runs=given.runs, plain=plain)
            print(
                f"{number:4} {name:17} {found['mean length']:6.2f} {found['largest cosine']:6.3f} "
                f"{found['root mean square cosine']:6.3f} {found['mean share']:6.3f} {found['explained share']:6.3f} "
                f"{found['area']:6.3f} {found['area standard error']:6.3f} {found['accuracy lost']:+13.4f}",
                flush=True,
            )
    seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    print(f"{seconds['cpu']:.1f} CPU seconds, {seconds['wall']:.1f} s")
    if given.json:
        document = {
            "schema": SCHEMA, "library": __version__, "epsilon": given.epsilon, "delta": DELTA, "runs": given.runs,
            "accuracy": plain, "seconds": seconds, "rows": rows,
        }  # fmt: skip
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
