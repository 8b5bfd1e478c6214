"""The committed matrix accountant × process × adjacency: who answers what, and who refuses.

`python -m tests.contracts.matrix --write` writes `matrix.json`; without the option it prints what has changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from accountant import available
from mechanisms import (
    ZCDP,
    Adjacency,
    Allocated,
    ApproximateDP,
    BallsInBins,
    BoundedGaussian,
    BoundedLaplace,
    Compose,
    ConfidentGNMax,
    Count,
    Covariance,
    DiscreteGaussian,
    DiscreteLaplace,
    Exponential,
    FixedSize,
    Gaussian,
    GNMax,
    Group,
    Histogram,
    Laplace,
    LNMax,
    LocalCategories,
    LocalNoise,
    MatrixMechanism,
    Mean,
    NoisyMax,
    NumericalFailure,
    ObjectivePerturbation,
    PermuteAndFlip,
    PerturbedTable,
    PerUser,
    Poisson,
    Process,
    PureDP,
    Quantile,
    RandomizedResponse,
    Repeat,
    Sampled,
    Selection,
    Shuffled,
    SparseVector,
    Staircase,
    Sum,
    TopK,
    Tree,
    TruncatedLaplace,
    TruncatedNegativeBinomial,
    TruncatedPoisson,
    UnaryEncoding,
    UnsupportedProcess,
    UserSupplied,
    VectorMean,
    VectorSum,
    VoteThreshold,
    WithReplacement,
)
from mechanisms.core.sampling import Sampling
from tests.contracts.coarse import ACCOUNTANTS, profile

Rows = dict[str, dict[str, dict[str, str]]]  # label -> adjacency -> accountant -> state
FILE = Path(__file__).with_name("matrix.json")
SCHEMA = "dp-calipers/matrix/1"
EPSILONS = np.array([0.03, 12.0, 60.0])
ANSWERS = ("exact", "bracket", "upper")
STATES = (*ANSWERS, "not finite", "hands over", "refused")
"""How δ(ε) is answered: to the rounding of floats, from both sides, from above; by nothing but 1, by a failure of the
numbers that names another accountant, or by a refusal of the kind of process."""

GAUSSIAN, LAPLACE, ANSWER = (
    Gaussian(noise_multiplier=4.0),
    Laplace(noise_multiplier=4.0),
    RandomizedResponse(epsilon=0.5),
)
POISSON, FIXED, DRAWN = (
    Poisson(probability=0.25),
    FixedSize(batch_size=2, records=16),
    WithReplacement(batch_size=2, records=16),
)
CUT = TruncatedPoisson(probability=0.25, largest_batch=8, records=16)


def _sampled(step: Process, sampling: Sampling, times: int = 3) -> Callable[[Adjacency], Process]:
    return lambda adjacency: Repeat(Sampled(step, sampling), times)


def _pure(adjacency: Adjacency) -> Process:
    return PureDP(epsilon=0.5, adjacency=adjacency)


PROCESSES: dict[str, Callable[[Adjacency], Process]] = {
    "Gaussian": lambda adjacency: Repeat(GAUSSIAN, 3),
    "Laplace": lambda adjacency: LAPLACE,
    "Laplace, hundreds": lambda adjacency: Repeat(Laplace(noise_multiplier=16.0), 300),
    "RandomizedResponse": lambda adjacency: Repeat(ANSWER, 3),
    "PureDP": lambda adjacency: Repeat(_pure(adjacency), 3),
    "ApproximateDP": lambda adjacency: Repeat(ApproximateDP(epsilon=0.5, delta=1e-6, adjacency=adjacency), 3),
    "ZCDP": lambda adjacency: Repeat(ZCDP(rho=0.01, adjacency=adjacency), 3),
    "Gaussian, Poisson": _sampled(GAUSSIAN, POISSON, 100),
    "Gaussian, Poisson, rare": lambda adjacency: Sampled(Gaussian(noise_multiplier=0.4), Poisson(probability=1e-6)),
    "Laplace, Poisson": _sampled(LAPLACE, POISSON),
    "PureDP, Poisson": lambda adjacency: Repeat(Sampled(_pure(adjacency), POISSON), 3),
    "composition": lambda adjacency: Compose((Repeat(Sampled(GAUSSIAN, POISSON), 2), LAPLACE)),
    "Gaussian, FixedSize": _sampled(GAUSSIAN, FIXED, 100),
    "Laplace, FixedSize": _sampled(LAPLACE, FIXED),
    "RandomizedResponse, FixedSize": _sampled(ANSWER, FIXED),
    "ZCDP, FixedSize": lambda adjacency: Repeat(Sampled(ZCDP(rho=0.01, adjacency=adjacency), FIXED), 3),
    "Gaussian, WithReplacement": _sampled(GAUSSIAN, DRAWN),
    "Laplace, WithReplacement": _sampled(LAPLACE, DRAWN),
    "Gaussian, TruncatedPoisson": _sampled(GAUSSIAN, CUT),
    "Gaussian, Shuffled": lambda adjacency: Allocated(Repeat(GAUSSIAN, 5), Shuffled()),
    "PureDP, Shuffled": lambda adjacency: Allocated(Repeat(_pure(adjacency), 5), Shuffled()),
    "Gaussian, BallsInBins": lambda adjacency: Allocated(Repeat(GAUSSIAN, 5), BallsInBins()),
    "PureDP, BallsInBins": lambda adjacency: Allocated(Repeat(_pure(adjacency), 5), BallsInBins()),
    "Gaussian, Group": lambda adjacency: Group(Repeat(GAUSSIAN, 3), 2),
    "PureDP, Group": lambda adjacency: Group(Repeat(_pure(adjacency), 3), 2),
    "Gaussian, Poisson, Group": lambda adjacency: Group(Repeat(Sampled(GAUSSIAN, POISSON), 3), 2),
    "Gaussian, PerUser": lambda adjacency: PerUser(Repeat(GAUSSIAN, 3)),
    "Gaussian, Poisson, PerUser": lambda adjacency: PerUser(Repeat(Sampled(GAUSSIAN, POISSON), 3)),
    "Gaussian, Shuffled, PerUser": lambda adjacency: PerUser(Allocated(Repeat(GAUSSIAN, 5), Shuffled())),
    "DiscreteGaussian": lambda adjacency: Repeat(DiscreteGaussian(noise_multiplier=4.0), 3),
    "DiscreteGaussian, vectors": lambda adjacency: DiscreteGaussian(noise_multiplier=4.0, sensitivity=3, dimension=9),
    "DiscreteGaussian, Poisson": _sampled(DiscreteGaussian(noise_multiplier=4.0), POISSON),
    "DiscreteGaussian, vectors, Poisson": _sampled(
        DiscreteGaussian(noise_multiplier=4.0, sensitivity=3, dimension=9), POISSON
    ),
    "DiscreteLaplace": lambda adjacency: Repeat(DiscreteLaplace(noise_multiplier=4.0), 3),
    "Staircase": lambda adjacency: Repeat(Staircase(epsilon=0.5, fraction=0.25), 3),
    "TruncatedLaplace": lambda adjacency: Repeat(TruncatedLaplace(noise_multiplier=2.0, bound=20.0), 3),
    "BoundedLaplace": lambda adjacency: Repeat(
        BoundedLaplace(noise_multiplier=4.0, lower=0.0, upper=20.0, sensitivity=1.0), 3
    ),
    "BoundedGaussian": lambda adjacency: Repeat(
        BoundedGaussian(noise_multiplier=4.0, lower=0.0, upper=20.0, sensitivity=1.0), 3
    ),
    "BoundedGaussian, narrow": lambda adjacency: Repeat(
        BoundedGaussian(noise_multiplier=4.0, lower=0.0, upper=4.0, sensitivity=1.0), 3
    ),
    "Exponential": lambda adjacency: Repeat(Exponential(epsilon=0.5, adjacency=adjacency), 20),
    "Exponential, Poisson": lambda adjacency: Sampled(Exponential(epsilon=0.5, adjacency=adjacency), POISSON),
    "PermuteAndFlip": lambda adjacency: Repeat(PermuteAndFlip(epsilon=0.5, adjacency=adjacency), 3),
    "NoisyMax": lambda adjacency: Repeat(NoisyMax(epsilon=0.5, adjacency=adjacency, noise="laplace"), 3),
    "TopK": lambda adjacency: TopK(epsilon=0.5, count=5, adjacency=adjacency),
    "SparseVector": lambda adjacency: Repeat(SparseVector(epsilon=0.5, hits=2, adjacency=adjacency), 3),
    "UnaryEncoding": lambda adjacency: Repeat(UnaryEncoding(epsilon=0.5, categories=4, encoding="optimised"), 3),
    "LocalNoise": lambda adjacency: LocalNoise(low=0.0, high=1.0, mechanism=LAPLACE),
    "PerturbedTable": lambda adjacency: PerturbedTable(
        names=("age", "colour"),
        columns=(
            LocalNoise(low=0.0, high=99.0, mechanism=LAPLACE),
            LocalCategories(labels=("a", "b"), mechanism=ANSWER),
        ),
    ),
    "UserSupplied": lambda adjacency: Repeat(
        UserSupplied(p=(0.5, 0.5), q=(0.25, 0.75), adjacency=adjacency, attained=True), 3
    ),
    "Count": lambda adjacency: Count(noise=DiscreteLaplace(noise_multiplier=4.0)),
    "Sum": lambda adjacency: Repeat(Sum(lower=0.0, upper=1.0, noise=GAUSSIAN), 3),
    "Mean": lambda adjacency: Mean(lower=0.0, upper=1.0, noise=GAUSSIAN),
    "Histogram": lambda adjacency: Histogram(categories=("a", "b"), noise=GAUSSIAN),
    "Quantile": lambda adjacency: Quantile(quantile=0.5, lower=0.0, upper=1.0, epsilon=0.5),
    "VectorSum": lambda adjacency: VectorSum(max_norm=1.0, dimensions=9, noise=GAUSSIAN),
    "VectorMean": lambda adjacency: VectorMean(max_norm=1.0, dimensions=9, records=99, noise=GAUSSIAN),
    "Covariance": lambda adjacency: Covariance(max_norm=1.0, dimensions=3, noise=GAUSSIAN),
    "Tree": lambda adjacency: Tree(noise_multiplier=10.0, steps=100, participations=3, separation=30),
    "MatrixMechanism": lambda adjacency: MatrixMechanism(noise_multiplier=4.0, coefficients=(1.0, 0.5), steps=100),
    "GNMax": lambda adjacency: Repeat(GNMax(noise_multiplier=40.0), 20),
    "ConfidentGNMax": lambda adjacency: Repeat(
        ConfidentGNMax(threshold=200.0, threshold_noise_multiplier=150.0, noise_multiplier=40.0), 20
    ),
    "VoteThreshold": lambda adjacency: VoteThreshold(threshold=200.0, noise_multiplier=150.0),
    "LNMax": lambda adjacency: Repeat(LNMax(noise_multiplier=20.0), 3),
    "ObjectivePerturbation": lambda adjacency: ObjectivePerturbation(
        noise_multiplier=8.0, curvature_ratio=0.1, slopes="one_signed"
    ),
    "Selection": lambda adjacency: Selection(part=GAUSSIAN, runs=TruncatedNegativeBinomial(eta=1.0, gamma=0.1)),
    "Selection, PureDP": lambda adjacency: Selection(
        part=_pure(adjacency), runs=TruncatedNegativeBinomial(eta=1.0, gamma=0.1)
    ),
}


def cell(name: str, process: Process, adjacency: Adjacency) -> str:
    """Return one of `STATES`."""
    try:
        found = profile(name, process, adjacency)
        near = found.delta(EPSILONS[0])
        lower, upper = near.lower, near.upper
        if not (lower > 0.0 and upper < 1.0):  # else those far out, which take grids of their own, change nothing
            far = found.delta(EPSILONS[1:])
            lower, upper = max(lower, np.max(far.lower)), min(upper, np.min(far.upper))
    except UnsupportedProcess:
        return "refused"
    except NumericalFailure:
        return "hands over"
    if upper >= 1.0:
        return "not finite"
    if near.width <= 1e-9 * near.upper and available()[near.method].exact:
        return "exact"
    return "bracket" if lower > 0.0 else "upper"


def row(label: str, adjacencies: Iterable[Adjacency] = Adjacency) -> dict[str, dict[str, str]]:
    """Return adjacency -> accountant -> state for one kind of process."""
    return {
        adjacency.value: {name: cell(name, PROCESSES[label](adjacency), adjacency) for name in ACCOUNTANTS}
        for adjacency in adjacencies
    }


def committed() -> Rows:
    """Return the rows of the file."""
    document = json.loads(FILE.read_text(encoding="utf-8"))
    assert document["schema"] == SCHEMA, document["schema"]
    rows: Rows = document["rows"]
    return rows


def changes(rows: Rows) -> Iterator[str]:
    """Name every cell that is another one than in the file."""
    known = committed()
    for label, adjacencies in rows.items():
        for adjacency, states in adjacencies.items():
            for name, state in states.items():
                before = known.get(label, {}).get(adjacency, {}).get(name, "missing")
                if before != state:
                    yield f"{label}, {adjacency}, {name}: {before} -> {state}"


def written(rows: Rows) -> str:
    """Return the file's text, a line for each process and adjacency, so that a change shows as one."""
    blocks = [
        f"  {json.dumps(label)}: {{\n"
        + ",\n".join(f"   {json.dumps(adjacency)}: {json.dumps(states)}" for adjacency, states in adjacencies.items())
        + "\n  }"
        for label, adjacencies in rows.items()
    ]
    return f'{{\n "schema": {json.dumps(SCHEMA)},\n "rows": {{\n' + ",\n".join(blocks) + "\n }\n}\n"


def main(arguments: list[str]) -> int:
    """Write the file, or print what has changed since: then 1."""
    rows = {label: row(label) for label in PROCESSES}
    if arguments == ["--write"]:
        FILE.write_text(written(rows), encoding="utf-8")
        return 0
    found = list(changes(rows))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
