"""The discrete Laplace (geometric) mechanism: add integer noise to an integer query, drawn exactly.

[GRS09] A. Ghosh, T. Roughgarden, M. Sundararajan. Universally Utility-Maximizing Privacy Mechanisms. STOC 2009.
arXiv:0811.2841.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, down, exp, expm1
from mechanisms.core.discrete_noise import discrete_laplace
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.integers import check_sensitivity, noisy_integers
from mechanisms.core.opposed_records import opposed_discrete
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Direction, Mechanism, Pairs
from mechanisms.core.randomness import Source
from mechanisms.laplace import LaplacePair

MOST_STEPS = 4096  # of the loss, that a pair lists one by one
LEAST_LOSS = 1e-290  # whose multiples are floats with all their digits


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscreteLaplace(Mechanism):
    """Add integers k of probability (1 − r)/(1 + r) r^|k|, r = e^{−1/b}, to every coordinate of a query     [GRS09].

    The scale b is noise_multiplier · sensitivity, the sensitivity the largest L1 norm that one record contributes, an
    integer. Under add/remove and zero-out neighbours the query moves by at most that; under replace-one by at most
    twice that. Other than for continuous noise, what is guaranteed depends on both fields, not on b ÷ sensitivity
    alone.

    A movement of one coordinate, by as much as there may be, is the worst. In one dimension the loss rises with k, and
    a randomised test at k has the more power the larger the movement. For the movement s,

        δ_s(ε) = 1 − e^{(ε − s/b)/2}        at ε = (s − 2j)/b, j = 0, …, s,

    linear in e^ε between these and 0 above. Of movements s₁ <= s₂ of two coordinates the losses lie on the lattice of
    s₁ + s₂. At its ε >= 0, δ = E δ_{s₂}(ε − L₁) = E (1 − e^{(ε − L₁ − s₂/b)/2})₊ <= δ_{s₁ + s₂}(ε), as
    −s₂/b <= ε − L₁ on the lattice of s₂ and L₁ <= s₁/b; as both pairs are their own mirror images it holds at −ε too,
    and δ being linear in e^ε in between, everywhere. So any number of coordinates may be merged, two by two.

    Args:
        noise_multiplier: b ÷ sensitivity, >= 0; 0 adds nothing and protects nothing.
        sensitivity: an integer >= 1.

    Raises:
        InvalidParameter: if the noise multiplier is negative, infinite, NaN or not a number, or the sensitivity no
            whole number of at least 1.

    >>> DiscreteLaplace(noise_multiplier=2.0).pairs(Adjacency.ADD_REMOVE)["remove"].losses
    (-0.5, 0.5)
    """

    noise_multiplier: float
    sensitivity: int = 1

    def __post_init__(self) -> None:
        checked = validate.non_negative("DiscreteLaplace", "noise_multiplier", self.noise_multiplier)
        object.__setattr__(self, "noise_multiplier", checked)
        whole = validate.count("DiscreteLaplace", "sensitivity", self.sensitivity, least=1)
        object.__setattr__(self, "sensitivity", whole)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the noise against itself moved by s, the largest movement, in every direction: s + 1 losses.

        Beyond 4096 of them, two Laplace mechanisms' pairs stand for it. That of movement s has the δ above at every ε,
        so that this one dominates it: its neighbours show the other's, at least, as a witness. That of s + 2 has no
        smaller δ than this one has at the lattice point before, and dominates.
        """
        twice = 2 if adjacency is Adjacency.REPLACE_ONE else 1
        movement = twice * self.sensitivity
        unit = 1.0 / Bounds.exact(self.noise_multiplier)
        one = Bounds.exact(1.0)
        if self.noise_multiplier == 0.0 or not (4.0 * unit).upper < math.inf:
            no_noise = self.noise_multiplier == 0.0
            lost = DiscretePair(losses=(), masses=(), infinite_mass=one, missing_mass=one, attained=no_noise)
            return dict.fromkeys(adjacency.directions, lost)
        if movement <= MOST_STEPS and unit.lower / self.sensitivity > LEAST_LOSS:
            return dict.fromkeys(adjacency.directions, self._pair(movement))
        more = 2.0 / Bounds.exact(_float(self.sensitivity))
        above = LaplacePair(shift=(float(twice) + more) * unit, attained=False)
        below = LaplacePair(shift=float(twice) * unit, attained=True)
        found: dict[Direction, DominatingPair] = dict.fromkeys(adjacency.directions, above)
        witnesses: tuple[Direction, ...] = ("witness", "witness_reversed")
        return found | dict.fromkeys(witnesses[: len(adjacency.directions)], below)

    def opposed(self, probability: float) -> DominatingPair | None:
        """Return the pair of `mechanisms.core.opposed_records`."""
        return opposed_discrete(self.noise_multiplier, self.sensitivity, probability)

    def release(self, value: Any, *, sensitivity: float, randomness: Source) -> Any:
        """Return `value` plus noise: an int for an int, else an array of the same shape, int64 where all of it fits.

        Guarantees: the law above, exactly, for the rational number that noise_multiplier is: integer arithmetic and
        comparisons of binary digits decide every draw. How long it takes depends on the draws, not on the data.

        Args:
            value: an int or an array of integers; the caller has bounded every record's contribution to it.
            sensitivity: must be the declared one, of the whole value in the L1 norm.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value holds anything but integers or the sensitivity is another one.

        >>> from mechanisms import KeyedSource
        >>> DiscreteLaplace(noise_multiplier=2.0).release(10, sensitivity=1, randomness=KeyedSource(0))
        8
        """
        check_sensitivity("DiscreteLaplace", self.sensitivity, sensitivity)
        scale = Fraction(self.noise_multiplier) * self.sensitivity

        def noise(n: int) -> Array:
            if not scale:
                return np.zeros(n, dtype=np.int64)
            return discrete_laplace(randomness, "discrete_laplace", scale, n)

        return noisy_integers("DiscreteLaplace", value, noise)

    def _pair(self, movement: int) -> DiscretePair:
        """Return the losses (s − 2j)/b and their masses: the two ends hold all integers beyond them."""
        j = np.arange(float(movement), -1.0, -1.0)
        losses = (movement - 2.0 * j) / self.sensitivity / self.noise_multiplier
        rate = 1.0 / (Bounds.exact(self.noise_multiplier) * float(self.sensitivity))
        whole = 1.0 + exp(-rate)
        powers = exp(-(Bounds.exact(j) * rate)) / whole
        inside = -expm1(-rate) * powers
        ends = (j == 0) | (j == movement)
        lower, upper = (
            np.where(ends, getattr(powers, end), getattr(inside, end)).tolist() for end in ("lower", "upper")
        )
        return DiscretePair(
            losses=tuple(losses.tolist()),
            masses=tuple(Bounds(lower=max(a, 0.0), upper=min(b, 1.0)) for a, b in zip(lower, upper, strict=True)),
            infinite_mass=Bounds.exact(0.0),
            missing_mass=Bounds.exact(0.0),
            attained=True,
        )


def _float(whole: int) -> float:
    """Return a float that is at most `whole`, and near it."""
    return float(down(float(min(whole, 2**1000))))
