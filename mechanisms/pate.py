"""Private aggregation of teachers' votes: the class with the most votes, under noise.

Teachers are trained on disjoint shards of the records and vote on every query; a record is in the shard of one teacher
alone, whose vote may change arbitrarily with it. One changed vote moves the histogram by 1 in two classes: by √2 in the
Euclidean norm, by 2 in the L1 norm, and its largest count by 1. That holds under every adjacency as long as the rule
that assigns records to shards moves no other record, and a changed record stays in its shard: assign by a key that is
not part of the data, never by position in what is left.

[PAEGT17] N. Papernot, M. Abadi, Ú. Erlingsson, I. Goodfellow, K. Talwar. Semi-supervised Knowledge Transfer for Deep
Learning from Private Training Data. ICLR 2017. arXiv:1610.05755.
[PSMRTE18] N. Papernot, S. Song, I. Mironov, A. Raghunathan, K. Talwar, Ú. Erlingsson. Scalable Private Learning with
PATE. ICLR 2018. arXiv:1802.08908.
[ST22] A. Smith, A. Thakurta. Fully Adaptive Composition for Gaussian Differential Privacy. 2022. arXiv:2210.17520.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mechanisms.core import validate
from mechanisms.core.arrays import plain_array
from mechanisms.core.bounds import Array, Bounds, sqrt
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.local import is_one
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source
from mechanisms.core.votes import ConfidentVotes, DataDependentRenyi, GaussianVotes, LaplaceVotes
from mechanisms.gaussian import Gaussian, GaussianPair
from mechanisms.laplace import Laplace, LaplacePair

MOST_VOTES = 2**53
UNANSWERED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class GNMax(Mechanism):
    """Name the class of the largest count under Gaussian noise on every count                [PSMRTE18].

    What it shows is computed from the noisy histogram, so that N(√2/σ, 1) against N(0, 1) dominates it: its divergences
    are the α/σ² of the paper, and its δ(ε) is below what they say.

    Args:
        noise_multiplier: standard deviation σ of the noise on a count, in votes, >= 0.

    Raises:
        InvalidParameter: if it is negative, infinite, NaN or not a number.

    >>> from mechanisms import KeyedSource
    >>> GNMax(noise_multiplier=10.0).release([[3, 240, 7], [190, 30, 30]], randomness=KeyedSource(0)).tolist()
    [1, 0]
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        checked = validate.non_negative("GNMax", "noise_multiplier", self.noise_multiplier)
        object.__setattr__(self, "noise_multiplier", checked)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return N(√2/σ, 1) against N(0, 1) in every direction: it dominates, and no neighbours attain it."""
        return dict.fromkeys(adjacency.directions, _gaussian((2.0, self.noise_multiplier)))

    def release(self, value: Any, *, sensitivity: float = 1.0, randomness: Source) -> Any:
        """Return the class: an int for one query, int64 of shape (queries,) for several; of equals the first.

        Guarantees: those of `Gaussian.release` for the noisy counts; taking the largest costs nothing.

        Args:
            value: counts of votes, whole numbers of shape (classes,) or (queries, classes), classes >= 2.
            sensitivity: must be 1: a teacher has one vote.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the counts are no whole numbers from 0 on or of another shape.
        """
        return _answers(_noisy_most(self, value, sensitivity, randomness))

    def data_dependent(self, value: Any) -> DataDependentRenyi:
        """Return what these very votes let show, which is no guarantee and itself private: see `DataDependentRenyi`."""
        votes = GaussianVotes(noise_multiplier=self.noise_multiplier)
        return DataDependentRenyi(kind=votes, votes=_counts("GNMax", value))


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteThreshold(Mechanism):
    """Tell whether the largest count, under Gaussian noise, reaches a threshold             [PSMRTE18].

    The first half of `ConfidentGNMax`, for runs that stop after so many answers: at most k answers to n queries are
    Compose((Repeat(VoteThreshold(...), n), Repeat(GNMax(...), k))), whichever queries they turn out to be: Gaussians of
    a fixed sum of squared shifts may come in any order that the answers decide [ST22].

    Args:
        threshold: T, in votes; public.
        noise_multiplier: standard deviation σ₁ of the noise on the largest count, in votes, >= 0.

    Raises:
        InvalidParameter: if a parameter breaks its rule.

    >>> from mechanisms import KeyedSource
    >>> check = VoteThreshold(threshold=150.0, noise_multiplier=5.0)
    >>> check.release([[3, 240, 7], [90, 80, 80]], randomness=KeyedSource(0)).tolist()
    [True, False]
    """

    threshold: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", validate.finite("VoteThreshold", "threshold", self.threshold))
        checked = validate.non_negative("VoteThreshold", "noise_multiplier", self.noise_multiplier)
        object.__setattr__(self, "noise_multiplier", checked)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return N(1/σ₁, 1) against N(0, 1) in every direction: it dominates, and no neighbours attain it."""
        return dict.fromkeys(adjacency.directions, _gaussian((1.0, self.noise_multiplier)))

    def release(self, value: Any, *, sensitivity: float = 1.0, randomness: Source) -> Any:
        """Return whether it is reached: a bool for one query, of shape (queries,) for several; see `GNMax.release`."""
        most = _votes(self, value, sensitivity).max(axis=-1)
        noisy = Gaussian(noise_multiplier=self.noise_multiplier).release(most, sensitivity=1.0, randomness=randomness)
        reached = np.greater_equal(noisy, self.threshold)
        return bool(reached) if reached.ndim == 0 else reached


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidentGNMax(Mechanism):
    """Answer as `GNMax` where `VoteThreshold` is reached, else not at all: one query of the aggregator of [PSMRTE18].

    Priced as if every query were answered: N(√(1/σ₁² + 2/σ₂²), 1) against N(0, 1). That paper weighs the second part
    by the probability of an answer, which is an expectation over runs and no bound.

    Args:
        threshold: T, in votes; public.
        threshold_noise_multiplier: σ₁ of the noise on the largest count, in votes, >= 0.
        noise_multiplier: σ₂ of the noise on the counts, in votes, >= 0.

    Raises:
        InvalidParameter: if a parameter breaks its rule.

    >>> from mechanisms import KeyedSource
    >>> careful = ConfidentGNMax(threshold=150.0, threshold_noise_multiplier=15.0, noise_multiplier=4.0)
    >>> careful.release([[3, 240, 7], [90, 80, 80]], randomness=KeyedSource(0)).tolist()
    [1, -1]
    """

    threshold: float
    threshold_noise_multiplier: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", validate.finite("ConfidentGNMax", "threshold", self.threshold))
        for name in ("threshold_noise_multiplier", "noise_multiplier"):
            checked = validate.non_negative("ConfidentGNMax", name, getattr(self, name))
            object.__setattr__(self, name, checked)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the Gaussian pair of both parts in every direction: it dominates, and no neighbours attain it."""
        pair = _gaussian((1.0, self.threshold_noise_multiplier), (2.0, self.noise_multiplier))
        return dict.fromkeys(adjacency.directions, pair)

    def release(self, value: Any, *, sensitivity: float = 1.0, randomness: Source) -> Any:
        """Return the classes, −1 where the threshold was not reached; see `GNMax.release`.

        Both parts are drawn for every query, so that what takes how long tells nothing of the votes.
        """
        check = VoteThreshold(threshold=self.threshold, noise_multiplier=self.threshold_noise_multiplier)
        reached = check.release(_votes(self, value, sensitivity), randomness=randomness)
        return _answers(np.where(reached, _noisy_most(self, value, sensitivity, randomness), UNANSWERED))

    def data_dependent(self, value: Any) -> DataDependentRenyi:
        """Return what these very votes let show, which is no guarantee and itself private: see `DataDependentRenyi`."""
        kind = ConfidentVotes(
            threshold=self.threshold,
            threshold_noise_multiplier=self.threshold_noise_multiplier,
            noise_multiplier=self.noise_multiplier,
        )
        return DataDependentRenyi(kind=kind, votes=_counts("ConfidentGNMax", value))


@dataclass(frozen=True, slots=True, kw_only=True)
class LNMax(Mechanism):
    """Name the class of the largest count under Laplace noise of scale 1/γ on every count    [PAEGT17].

    What it shows is computed from the noisy histogram, which moves by 1 in two classes: Lap(0, 1) against Lap(2γ, 1)
    dominates it (`mechanisms.laplace`). That paper knows it as 2γ-differentially private, which is more.

    Args:
        noise_multiplier: scale 1/γ of the noise on a count, in votes, >= 0.

    Raises:
        InvalidParameter: if it is negative, infinite, NaN or not a number.

    >>> LNMax(noise_multiplier=20.0).pairs(Adjacency.ADD_REMOVE)["add"].supremum.contains(0.1)
    True
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        checked = validate.non_negative("LNMax", "noise_multiplier", self.noise_multiplier)
        object.__setattr__(self, "noise_multiplier", checked)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return Lap(0, 1) against Lap(2γ, 1) in every direction: it dominates, and no neighbours attain it."""
        shift = 2.0 / Bounds.exact(self.noise_multiplier)
        pair = _no_protection() if math.isinf(shift.upper) else LaplacePair(shift=shift, attained=False)
        return dict.fromkeys(adjacency.directions, pair)

    def release(self, value: Any, *, sensitivity: float = 1.0, randomness: Source) -> Any:
        """Return the class; see `GNMax.release`, with the guarantees of `Laplace.release`."""
        return _answers(_noisy_most(self, value, sensitivity, randomness))

    def data_dependent(self, value: Any) -> DataDependentRenyi:
        """Return what these very votes let show, which is no guarantee and itself private: see `DataDependentRenyi`."""
        return DataDependentRenyi(
            kind=LaplaceVotes(noise_multiplier=self.noise_multiplier), votes=_counts("LNMax", value)
        )


def _gaussian(*parts: tuple[float, float]) -> DominatingPair:
    """Return the pair of Gaussians, each given by its squared movement and its standard deviation, in votes."""
    if min(scale for _, scale in parts) == 0.0:
        return _no_protection()
    squares = [Bounds.exact(moved) / Bounds.exact(scale) / Bounds.exact(scale) for moved, scale in parts]
    shift = sqrt(sum(squares, start=Bounds.exact(0.0)).clip(0.0, math.inf))
    return _no_protection() if math.isinf(shift.upper) else GaussianPair(shift=shift, attained=False)


def _no_protection() -> DominatingPair:
    one = Bounds.exact(1.0)
    return DiscretePair(losses=(), masses=(), infinite_mass=one, missing_mass=one, attained=False)


def _noisy_most(mechanism: GNMax | ConfidentGNMax | LNMax, value: Any, sensitivity: float, randomness: Source) -> Array:
    kind = Laplace if isinstance(mechanism, LNMax) else Gaussian
    votes, noise = _votes(mechanism, value, sensitivity), kind(noise_multiplier=mechanism.noise_multiplier)
    return np.asarray(np.argmax(noise.release(votes, sensitivity=1.0, randomness=randomness), axis=-1))


def _answers(classes: Array) -> Any:
    found = np.asarray(classes, dtype=np.int64)
    return int(found) if found.ndim == 0 else found


def _counts(owner: str, value: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in np.atleast_2d(_checked(owner, value)).tolist())


def _votes(mechanism: Mechanism, value: Any, sensitivity: float) -> Array:
    owner = type(mechanism).__name__
    if not is_one(sensitivity):
        raise InvalidParameter(f"{owner}: sensitivity must be 1, as a teacher has one vote, got {sensitivity!r}.")
    return _checked(owner, value)


def _checked(owner: str, value: Any) -> Array:
    data = plain_array(owner, value)
    if data.dtype.kind not in "iu" or data.ndim not in (1, 2) or data.shape[-1] < 2:
        raise InvalidParameter(
            f"{owner}: value must hold whole numbers of shape (classes,) or (queries, classes) with 2 classes or more, "
            f"got {data.dtype} of shape {data.shape}.\nCount the votes first: np.bincount(labels, minlength=classes)."
        )
    if np.any(data < 0) or np.any(data > MOST_VOTES):
        raise InvalidParameter(f"{owner}: value must hold counts of votes, from 0 to 2**53.")
    return data
