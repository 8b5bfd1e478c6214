"""Families of processes that differ in the size of their noise alone, and what their trade-off curves lie above."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from accountant import Profile
from accountant.tightest import Tightest
from mechanisms import Gaussian, Laplace, Process, PureDP, RandomizedResponse, UnsupportedProcess
from mechanisms.core import validate
from mechanisms.core.process import Adjacency, Allocated, Compose, Repeat, Sampled

Array = NDArray[np.float64]
ROUNDING = 1e-12  # absolute: far more than the few operations on numbers up to 1 err by
POSITIONS = np.append(np.linspace(0.0, 4.0, 65), np.linspace(4.25, 10.0, 24))  # along the curve, see `TradeoffCurve`
FARTHEST = 300.0  # losses that are looked at: e^ε must remain a float
SMALLEST, LARGEST = 1e-6, 12.0  # shifts of the normal that places the tangents


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TradeoffCurve:
    """A convex curve that a process's trade-off function f lies above: the largest of finitely many tangents.

    A test with type I error α on a process that is (ε_j, δ_j)-differentially private in both orders of its neighbours
    misses with probability at least                                                                        [DRS22]

        max over j of max{0,  1 − δ_j − e^{ε_j} α,  e^{−ε_j} (1 − δ_j − α)},

    δ_j being upper ends of the accountant's. With each line the set holds its mirror image, so that the curve is its
    own inverse, as f is.

    [DRS22] J. Dong, A. Roth, W. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.

    Args:
        heights: of the lines at α = 0, shape (j,), in that order.
        slopes: what the lines fall by, in falling order: the e^{ε_j}, 1 and the e^{−ε_j}, shape (j,).

    >>> TradeoffCurve.perfect()(np.array([0.2, 0.5])).round(9)
    array([0.8, 0.5])
    """

    heights: Array
    slopes: Array

    @classmethod
    def perfect(cls) -> TradeoffCurve:
        """Return 1 − α: the curve of a process that loses nothing."""
        return cls(heights=np.ones(1), slopes=np.ones(1))

    @classmethod
    def below(cls, profile: Profile, *, shift: float) -> TradeoffCurve:
        """Return a curve below f of this profile, by less than 1e-3 where f is like that of a normal of this shift.

        Args:
            profile: of a process; its upper ends are used alone.
            shift: μ > 0 of the normal whose tangents say at which ε the profile is asked.
        """
        largest = [float(curve.supremum.upper) for _, curve in profile.curves]  # the slope of a corner there may be
        epsilon = 0.5 * float(np.clip(shift, SMALLEST, LARGEST)) * POSITIONS
        epsilon = np.unique(np.append(epsilon, [loss for loss in largest if loss < FARTHEST]))
        least, growth = 1.0 - profile.delta(epsilon).upper, np.exp(epsilon)
        return cls(
            heights=np.append(least[::-1], least[1:] / growth[1:]), slopes=np.append(growth[::-1], 1.0 / growth[1:])
        )

    def __call__(self, alpha: Array) -> Array:
        """Return a lower bound of f at every α in [0, 1], of any shape."""
        drop = np.maximum(self.slopes[:-1] - self.slopes[1:], 1e-200)  # 0 where two ε are as good as equal
        corners = np.maximum.accumulate((self.heights[:-1] - self.heights[1:]) / drop)
        best = np.searchsorted(corners, alpha)  # whichever lines are taken, they give a lower bound
        values = [
            self.heights[line] - self.slopes[line] * alpha
            for line in (np.maximum(best - 1, 0), best, np.minimum(best + 1, len(corners)))
        ]
        below: Array = np.maximum(np.max(values, axis=0) - ROUNDING, 0.0)
        return below


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFamily:
    """A described process and all those with `factor` times its noise, factor > 0.

    Noise is added by every Gaussian and Laplace step, and by every answer of a randomised response or pure guarantee,
    whose ε is divided by the factor. More noise is post-processing of less, so the family is nested: its trade-off
    curves rise with the factor, its ε fall.

    Args:
        process: the description, with factor 1.
        adjacency: which datasets are neighbours.

    Raises:
        UnsupportedProcess: if a step is none of these, so that its noise has no such scale.

    >>> NoiseFamily(process=Gaussian(noise_multiplier=2.0), adjacency=Adjacency.ADD_REMOVE).member(1.5)
    Gaussian(noise_multiplier=3.0)
    """

    process: Process
    adjacency: Adjacency

    def __post_init__(self) -> None:
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency))
        self.member(1.0)

    def member(self, factor: float) -> Process:
        """Return the process with `factor` times the noise."""
        return _scaled(self.process, validate.positive("NoiseFamily", "factor", factor))

    @property
    def shift(self) -> float:
        """μ of the normal whose advantage δ(0) is the described process's, 12 at most."""
        return _shift(self)

    def curve(self, factor: float) -> TradeoffCurve:
        """Return a curve below the trade-off function with `factor` times the noise, from the tightest accountant.

        Raises:
            UnsupportedProcess: if no accountant can treat the process.
            NumericalFailure: likewise, where it is the numbers that none can treat.
        """
        return _curve(self, factor)

    def epsilon(self, factor: float, *, delta: float) -> float:
        """Return the accountant's lower end of ε at δ with `factor` times the noise. Errors are those of `curve`."""
        return float(_profile(self, factor).epsilon(delta).lower)


@lru_cache(maxsize=256)
def _profile(family: NoiseFamily, factor: float) -> Profile:
    return Tightest().profile(family.member(factor), adjacency=family.adjacency)


@lru_cache(maxsize=256)
def _curve(family: NoiseFamily, factor: float) -> TradeoffCurve:
    return TradeoffCurve.below(_profile(family, factor), shift=_shift(family) / factor)


@lru_cache(maxsize=256)
def _shift(family: NoiseFamily) -> float:
    advantage = float(_profile(family, 1.0).delta(0.0).upper)
    return float(np.clip(2.0 * special.ndtri(0.5 + 0.5 * advantage), SMALLEST, LARGEST))


def _scaled(process: Process, factor: float) -> Process:
    if isinstance(process, Compose):
        return Compose(tuple(_scaled(part, factor) for part in process.parts))
    if isinstance(process, Repeat):
        return Repeat(_scaled(process.part, factor), process.times)
    if isinstance(process, Sampled):
        return Sampled(_scaled(process.part, factor), process.sampling)
    if isinstance(process, Allocated):
        return Allocated(Repeat(_scaled(process.part.part, factor), process.part.times), process.sampling)
    if isinstance(process, (Gaussian, Laplace)):
        return dataclasses.replace(process, noise_multiplier=process.noise_multiplier * factor)
    if isinstance(process, (RandomizedResponse, PureDP)):
        return dataclasses.replace(process, epsilon=process.epsilon / factor)
    raise UnsupportedProcess(
        f"NoiseFamily: steps must be Gaussian, Laplace, RandomizedResponse or PureDP, got {process!r}.\n"
        "Of these alone more noise is known to be post-processing of less, without which no noise can be inverted for."
    )
