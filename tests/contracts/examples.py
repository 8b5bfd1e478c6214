"""One working example of every mechanism: what the contract tests of releases start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mechanisms import (
    ZCDP,
    Adjacency,
    ApproximateDP,
    BoundedGaussian,
    BoundedLaplace,
    ConfidentGNMax,
    Count,
    Covariance,
    DiscreteGaussian,
    DiscreteLaplace,
    Exponential,
    Gaussian,
    GNMax,
    Histogram,
    Laplace,
    LNMax,
    LocalCategories,
    LocalNoise,
    MatrixMechanism,
    Mean,
    Mechanism,
    NoisyMax,
    ObjectivePerturbation,
    PermuteAndFlip,
    PerturbedTable,
    PureDP,
    Quantile,
    RandomizedResponse,
    SparseVector,
    Staircase,
    Sum,
    TopK,
    Tree,
    TruncatedLaplace,
    UnaryEncoding,
    UserSupplied,
    VectorMean,
    VectorSum,
    VoteThreshold,
)

ONE = Adjacency.REPLACE_ONE
GAUSSIAN, RESPONSE = Gaussian(noise_multiplier=1.5), RandomizedResponse(epsilon=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A mechanism and a release of it.

    Args:
        mechanism: the mechanism, no field of which is at its default where another one is as good.
        value: what it releases, as lists and plain numbers; None for one that does not run.
        sensitivity: the keyword it takes; None where it follows from the mechanism.
        unit: whether the keyword may be given after all, as 1: a record is a whole value, or a vote.
    """

    mechanism: Mechanism
    value: Any = None
    sensitivity: float | None = None
    unit: bool = False


_NOISE = LocalNoise(low=-1.0, high=2.0, mechanism=Laplace(noise_multiplier=2.0), missing=0.5)
_LABELS = LocalCategories(labels=("no", "yes"), mechanism=RESPONSE)

EXAMPLES: dict[str, Example] = {
    "approximate_dp": Example(mechanism=ApproximateDP(epsilon=1.0, delta=1e-6, adjacency=ONE)),
    "bounded_gaussian": Example(
        mechanism=BoundedGaussian(noise_multiplier=1.5, lower=-4.0, upper=5.0, sensitivity=2.0),
        value=1.25,
        sensitivity=2.0,
    ),
    "bounded_laplace": Example(
        mechanism=BoundedLaplace(noise_multiplier=1.5, lower=-4.0, upper=5.0, sensitivity=2.0),
        value=1.25,
        sensitivity=2.0,
    ),
    "count": Example(mechanism=Count(noise=DiscreteLaplace(noise_multiplier=2.0)), value=[True, False, True]),
    "covariance": Example(
        mechanism=Covariance(max_norm=3.0, dimensions=2, noise=GAUSSIAN, nan=0.5), value=[[1.0, 2.0], [-4.0, 0.25]]
    ),
    "discrete_gaussian": Example(
        mechanism=DiscreteGaussian(noise_multiplier=1.5, sensitivity=2, dimension=3), value=[4, -2, 0], sensitivity=2
    ),
    "discrete_laplace": Example(
        mechanism=DiscreteLaplace(noise_multiplier=1.5, sensitivity=2), value=[4, -2, 0], sensitivity=2
    ),
    "exponential": Example(
        mechanism=Exponential(epsilon=1.0, adjacency=ONE, monotonic=True), value=[0.5, 3.0, 1.0], sensitivity=1.0
    ),
    "gaussian": Example(mechanism=GAUSSIAN, value=[1.25, -3.0], sensitivity=2.0),
    "histogram": Example(
        mechanism=Histogram(edges=(0.0, 1.0, 2.5), outside="count", noise=GAUSSIAN), value=[0.5, 2.5, 9.0]
    ),
    "laplace": Example(mechanism=Laplace(noise_multiplier=1.5), value=[1.25, -3.0], sensitivity=2.0),
    "local_categories": Example(mechanism=_LABELS, value=["no", "yes", "yes"], unit=True),
    "local_noise": Example(mechanism=_NOISE, value=[0.25, 7.0], unit=True),
    "matrix": Example(
        mechanism=MatrixMechanism(
            noise_multiplier=1.5, coefficients=(1.0, 0.5), steps=4, participations=2, separation=2
        ),
        value=[1.0, 0.5, -2.0, 0.0],
        sensitivity=2.0,
    ),
    "mean": Example(mechanism=Mean(lower=-1.0, upper=3.0, noise=GAUSSIAN, records=3, nan=0.5), value=[0.0, 9.0, 1.5]),
    "noisy_max": Example(
        mechanism=NoisyMax(epsilon=1.0, adjacency=ONE, monotonic=True, noise="laplace"),
        value=[0.5, 3.0, 1.0],
        sensitivity=1.0,
    ),
    "objective_perturbation": Example(
        mechanism=ObjectivePerturbation(noise_multiplier=1.5, curvature_ratio=0.5, slopes="two_signed")
    ),
    "pate.ConfidentGNMax": Example(
        mechanism=ConfidentGNMax(threshold=5.0, threshold_noise_multiplier=1.5, noise_multiplier=2.0),
        value=[3, 9, 0],
        unit=True,
    ),
    "pate.GNMax": Example(mechanism=GNMax(noise_multiplier=1.5), value=[3, 9, 0], unit=True),
    "pate.LNMax": Example(mechanism=LNMax(noise_multiplier=1.5), value=[3, 9, 0], unit=True),
    "pate.VoteThreshold": Example(
        mechanism=VoteThreshold(threshold=5.0, noise_multiplier=1.5), value=[3, 9, 0], unit=True
    ),
    "permute_and_flip": Example(
        mechanism=PermuteAndFlip(epsilon=1.0, adjacency=ONE, monotonic=True), value=[0.5, 3.0, 1.0], sensitivity=1.0
    ),
    "perturbed_table": Example(
        mechanism=PerturbedTable(names=("x", "member"), columns=(_NOISE, _LABELS)),
        value={"x": [0.25, 7.0], "member": ["no", "yes"]},
        unit=True,
    ),
    "pure_dp": Example(mechanism=PureDP(epsilon=1.0, adjacency=ONE)),
    "quantile": Example(
        mechanism=Quantile(quantile=0.25, lower=-1.0, upper=3.0, epsilon=1.0, nan=0.5), value=[0.0, 9.0, 1.5]
    ),
    "randomized_response": Example(mechanism=RandomizedResponse(epsilon=1.0, categories=3), value=[0, 2, 1], unit=True),
    "sparse_vector": Example(
        mechanism=SparseVector(epsilon=1.0, hits=2, adjacency=ONE, monotonic=True, numeric_share=0.25),
        value=[0.5, -3.0, 9.0],
        sensitivity=1.0,
    ),
    "staircase": Example(mechanism=Staircase(epsilon=1.0, fraction=0.25), value=1.25, sensitivity=2.0),
    "sum": Example(mechanism=Sum(lower=-1.0, upper=3.0, noise=GAUSSIAN, nan=0.5), value=[0.0, 9.0, 1.5]),
    "top_k": Example(
        mechanism=TopK(epsilon=1.0, adjacency=ONE, monotonic=True, count=2), value=[0.5, 3.0, 1.0], sensitivity=1.0
    ),
    "tree": Example(
        mechanism=Tree(noise_multiplier=1.5, steps=4, participations=2, separation=2),
        value=[1.0, 0.5, -2.0, 0.0],
        sensitivity=2.0,
    ),
    "truncated_laplace": Example(
        mechanism=TruncatedLaplace(noise_multiplier=1.5, bound=4.0), value=1.25, sensitivity=2.0
    ),
    "unary_encoding": Example(
        mechanism=UnaryEncoding(epsilon=1.0, categories=3, encoding="optimised"), value=[0, 2, 1], unit=True
    ),
    "user_supplied": Example(mechanism=UserSupplied(p=(3, 1), q=(1, 3), adjacency=ONE, attained=True)),
    "vector_mean": Example(
        mechanism=VectorMean(max_norm=3.0, dimensions=2, records=2, noise=GAUSSIAN), value=[[1.0, 2.0], [-4.0, 0.25]]
    ),
    "vector_sum": Example(
        mechanism=VectorSum(max_norm=3.0, dimensions=2, noise=GAUSSIAN, nan=0.5), value=[[1.0, 2.0], [-4.0, 0.25]]
    ),
    "zcdp": Example(mechanism=ZCDP(rho=0.5, adjacency=ONE)),
}
