"""Hypothesis strategies for everything that laws are stated about: processes, pairs, numbers, and what is no number.

Processes are kept to a few steps of moderate noise, where one certified answer takes a few hundredths of a second on a
coarse grid; extreme parameters have tests of their own.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from mechanisms import (
    ZCDP,
    Adjacency,
    Allocated,
    ApproximateDP,
    BallsInBins,
    BoundedGaussian,
    BoundedLaplace,
    Compose,
    DiscreteGaussian,
    DiscreteLaplace,
    DiscretePair,
    Exponential,
    FixedSize,
    Gaussian,
    GNMax,
    Group,
    Histogram,
    Laplace,
    Mechanism,
    PermuteAndFlip,
    PerUser,
    Poisson,
    PoissonRuns,
    Process,
    PureDP,
    RandomizedResponse,
    Repeat,
    Sampled,
    Selection,
    Shuffled,
    SparseVector,
    Staircase,
    Sum,
    Tree,
    TruncatedLaplace,
    TruncatedNegativeBinomial,
    TruncatedPoisson,
    UnaryEncoding,
    UnsupportedProcess,
    WithReplacement,
)

ADD_REMOVE, REPLACE_ONE, ZERO_OUT = Adjacency.ADD_REMOVE, Adjacency.REPLACE_ONE, Adjacency.ZERO_OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Tabulated(Mechanism):
    """A mechanism with finitely many outcomes: `p` with the record, `q` without it; it exists in tests only."""

    p: tuple[float, ...]
    q: tuple[float, ...]

    def pairs(self, adjacency: Adjacency) -> Any:
        if adjacency is REPLACE_ONE:
            raise UnsupportedProcess("Tabulated: its neighbours differ by one record more or less.")
        pair = DiscretePair.from_probabilities(self.p, self.q, attained=True)
        return {"remove": pair, "add": pair.reverse()}

    def release(self, value: Any, *, sensitivity: float, randomness: Any) -> Any:
        raise NotImplementedError


noise_multipliers = st.sampled_from((0.5, 0.8, 1.0, 1.1, 2.0, 3.7, 10.0, 25.0))
any_noise_multipliers = st.floats(min_value=0.0, max_value=1e300, allow_subnormal=True)
probabilities = st.sampled_from((0.01, 0.05, 0.1, 0.3, 0.5, 0.9))
any_probabilities = st.floats(min_value=0.0, max_value=1.0, allow_subnormal=True)
deltas = st.sampled_from((1e-2, 1e-3, 1e-5, 1e-7, 1e-10, 1e-15))
epsilons = st.sampled_from((0.0, 0.03, 0.1, 0.5, 1.0, 1.7, 3.0, 6.0))
counts = st.integers(min_value=0, max_value=10**6)

gaussians = st.builds(Gaussian, noise_multiplier=noise_multipliers)
sampled_gaussians = st.builds(Sampled, gaussians, st.builds(Poisson, probability=probabilities))
responses = st.builds(
    RandomizedResponse, epsilon=st.sampled_from((0.1, 0.5, math.log(3), 2.0)), categories=st.sampled_from((2, 3, 7))
)
laplaces = st.builds(Laplace, noise_multiplier=st.sampled_from((0.5, 1.0, 2.0, 5.0, 16.0)))
sampled_laplaces = st.builds(Sampled, laplaces, st.builds(Poisson, probability=probabilities))


def guarantees(adjacency: Adjacency) -> st.SearchStrategy[Process]:
    """Guarantees given as numbers, about these neighbours."""
    of_one = st.sampled_from((0.05, 0.5, 1.0))
    return st.builds(PureDP, epsilon=of_one, adjacency=st.just(adjacency)) | st.builds(
        ApproximateDP, epsilon=of_one, delta=st.sampled_from((1e-9, 1e-4)), adjacency=st.just(adjacency)
    )


@st.composite
def vectors(draw: Any, size: int) -> tuple[float, ...]:
    """Probability vectors whose entries are multiples of 1/64, so that sums and complements are exact."""
    cuts = sorted(draw(st.lists(st.integers(0, 64), min_size=size - 1, max_size=size - 1)))
    ends = [0, *cuts, 64]
    return tuple((b - a) / 64 for a, b in itertools.pairwise(ends))


@st.composite
def tables(draw: Any) -> Tabulated:
    """Finite mechanisms, some of whose outcomes give the record away, with at least two finite losses."""
    size = draw(st.integers(2, 5))
    p, q = draw(vectors(size)), draw(vectors(size))
    assume(len({a / b for a, b in zip(p, q, strict=True) if a and b}) > 1)
    return Tabulated(p=p, q=q)


def steps(adjacency: Adjacency) -> st.SearchStrategy[Process]:
    """Single steps that have a pair under this adjacency."""
    sampled = sampled_gaussians | sampled_laplaces
    return gaussians | laplaces | guarantees(adjacency) | (responses if adjacency is REPLACE_ONE else sampled)


def processes(adjacency: Adjacency, *, most: int = 3) -> st.SearchStrategy[Process]:
    """Up to `most` kinds of step, each run up to four times."""
    runs = st.builds(Repeat, steps(adjacency), st.integers(1, 4))
    return st.lists(runs, min_size=1, max_size=most).map(lambda parts: Compose(tuple(parts)))


SCHEMES = (
    Poisson(probability=0.25),
    FixedSize(batch_size=2, records=8),
    WithReplacement(batch_size=2, records=8),
    TruncatedPoisson(probability=0.25, largest_batch=3),
    TruncatedPoisson(probability=0.25, largest_batch=3, records=8),
)
"""One small sample of every kind; few different ones, so that what was computed about them is remembered."""


def schemes(adjacency: Adjacency) -> st.SearchStrategy[Process]:
    """Steps on samples of every kind, runs over whose steps records are spread, groups, and concentrated guarantees."""
    found: list[Process] = [ZCDP(rho=0.1, adjacency=adjacency)]
    for step in (Gaussian(noise_multiplier=2.0), Laplace(noise_multiplier=2.0)):
        found += [Sampled(step, scheme) for scheme in SCHEMES]
        found += [Allocated(Repeat(step, 3), BallsInBins()), Group(step, 2), Group(Sampled(step, SCHEMES[0]), 2)]
        if adjacency is not ADD_REMOVE:
            found.append(Allocated(Repeat(step, 3), Shuffled()))
    if adjacency is REPLACE_ONE:
        found.append(Sampled(RandomizedResponse(epsilon=0.5), SCHEMES[1]))
        found.append(Sampled(ZCDP(rho=0.1, adjacency=adjacency), SCHEMES[1]))
    return st.sampled_from(found)


def mechanisms(adjacency: Adjacency) -> st.SearchStrategy[Process]:
    """One of every kind of step that has a pair of its own sort under this adjacency."""
    found: list[Process] = [
        DiscreteGaussian(noise_multiplier=2.0, sensitivity=2),
        DiscreteLaplace(noise_multiplier=2.0, sensitivity=2),
        Exponential(epsilon=0.5, adjacency=adjacency),
        PermuteAndFlip(epsilon=0.5, adjacency=adjacency),
        SparseVector(epsilon=0.5, hits=2, adjacency=adjacency),
        Staircase(epsilon=0.5),
        TruncatedLaplace(noise_multiplier=2.0, bound=20.0),
        BoundedLaplace(noise_multiplier=4.0, lower=0.0, upper=5.0, sensitivity=1.0),
        BoundedGaussian(noise_multiplier=4.0, lower=0.0, upper=5.0, sensitivity=1.0),
        GNMax(noise_multiplier=4.0),
        Sum(lower=-0.5, upper=1.0, noise=Gaussian(noise_multiplier=2.0)),
        Histogram(categories=(1, 2), noise=Laplace(noise_multiplier=2.0)),
    ]
    if adjacency is not ADD_REMOVE:
        found.append(Tree(noise_multiplier=4.0, steps=8))
    if adjacency is REPLACE_ONE:
        found.append(UnaryEncoding(epsilon=0.5, categories=4, encoding="symmetric"))
    return st.sampled_from(found)


def all_processes(adjacency: Adjacency) -> st.SearchStrategy[Process]:
    """One or two kinds of step, on samples or not, each run up to three times."""
    runs = st.builds(Repeat, steps(adjacency) | schemes(adjacency) | mechanisms(adjacency), st.integers(1, 3))
    return st.lists(runs, min_size=1, max_size=2).map(lambda parts: Compose(tuple(parts)))


def any_samplings() -> st.SearchStrategy[Any]:
    """Schemes of every kind and any valid parameters, drawn anew in every step."""
    sizes = st.integers(0, 10**30)
    some = st.integers(1, 10**30)
    return (
        st.builds(Poisson, probability=any_probabilities)
        | st.builds(TruncatedPoisson, probability=any_probabilities, largest_batch=some, records=st.none() | some)
        | st.builds(lambda batch, others: FixedSize(batch_size=batch, records=batch + others), sizes, some)
        | st.builds(WithReplacement, batch_size=sizes, records=some)
    )


def any_processes() -> st.SearchStrategy[Process]:
    """Process trees of any shape and any valid parameters, to be described rather than accounted for, or put inside."""
    adjacencies = st.sampled_from(Adjacency)
    leaf = (
        st.builds(Gaussian, noise_multiplier=any_noise_multipliers)
        | st.builds(Laplace, noise_multiplier=any_noise_multipliers)
        | st.builds(RandomizedResponse, epsilon=any_noise_multipliers, categories=st.integers(2, 10**30))
        | st.builds(PureDP, epsilon=any_noise_multipliers, adjacency=adjacencies)
        | st.builds(ApproximateDP, epsilon=any_noise_multipliers, delta=any_probabilities, adjacency=adjacencies)
        | st.builds(ZCDP, rho=any_noise_multipliers, adjacency=adjacencies)
        | adjacencies.flatmap(mechanisms)
    )
    allocations = st.sampled_from((Shuffled(), BallsInBins()))
    times = st.sampled_from((TruncatedNegativeBinomial(eta=0.5, gamma=0.1), PoissonRuns(runs=10.0)))
    return st.recursive(
        leaf,
        lambda inner: (
            st.builds(Compose, st.lists(inner, max_size=3).map(tuple))
            | st.builds(Repeat, inner, counts)
            | st.builds(Sampled, inner, any_samplings())
            | st.builds(Allocated, st.builds(Repeat, inner, counts), allocations)
            | st.builds(Group, inner, st.integers(1, 10**6))
            | st.builds(Selection, part=inner, runs=times)
        ),
        max_leaves=6,
    )


def any_runs() -> st.SearchStrategy[Process]:
    """Whole runs, for records or for users: what can stand at the top and, if it is for users, in nothing else."""
    return any_processes() | st.builds(PerUser, any_processes())


VALID_REALS = (
    0.25,
    np.float64(0.25),
    np.float32(0.25),
    np.array(0.25),
    Fraction(1, 4),
    Decimal("0.25"),
)
"""One quarter, in every guise that a number may come in."""


class Stranger:
    """Something of no use as a number, with a representation that is the same in every process."""

    def __repr__(self) -> str:
        return "Stranger()"


NO_REALS = (math.nan, np.float64(math.nan), "0.25", b"0.25", None, True, [0.25], (0.25,), 0.25 + 0j, Stranger(), {})
"""What no parameter takes."""

ODD_REALS = (
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    1e-310,
    1e-30,
    1.0,
    1.0 + 2.0**-52,
    1.0 - 2.0**-53,
    -1.0,
    1e30,
    1e308,
    math.inf,
    -math.inf,
    2**63,
    2**64 + 1,
    10**400,
    -(10**400),
    np.int64(1),
    np.uint8(1),
    np.float16(0.5),
    Fraction(10**400, 3),
    Decimal("1e-400"),
    *NO_REALS,
)
"""Values at the edges of floats, and beyond them."""
