"""The discrete Gaussian mechanism: add integer noise to an integer query, drawn exactly.

N_Z(0, σ²) has the mass e^{−k²/2σ²}/Z at the integer k. Moved by s, its privacy loss at k is (2ks − s²)/2σ², the normal
one's at k: on a lattice of spacing s/σ², rising with k.

[CKS20] C. Canonne, G. Kamath, T. Steinke. The Discrete Gaussian for Differential Privacy. NeurIPS 2020.
arXiv:2004.00010.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import special

from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, exp, log_sub_exp, where
from mechanisms.core.discrete_noise import discrete_gaussian
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.integers import check_sensitivity, noisy_integers
from mechanisms.core.lattice_moments import log_lattice_moments, tilted
from mechanisms.core.lattice_normal import LatticeNormal
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair, LossBins
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source
from mechanisms.core.renyi import MirroredDivergence

LARGEST_SIGMA, LARGEST_SHIFT = 2.0**45, 2**50  # up to which all integers that matter are floats
MOST_MU = 1000.0  # s/σ, beyond which nothing is counted as protected
FAR = 1e200


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscreteGaussian(Mechanism):
    """Add N_Z(0, σ²), σ = noise_multiplier · sensitivity, to every coordinate of a query of integers    [CKS20].

    The sensitivity is the largest Euclidean norm that one record contributes, an integer. Under add/remove and zero-out
    neighbours the query moves by at most that; under replace-one by at most twice that. Other than for normal noise,
    what is guaranteed depends on both fields, not on their quotient σ ÷ sensitivity alone.

    In one dimension the largest movement is the worst: for a test K > t, randomised at t, a movement of d + 1 has at
    least the power of one of d, and such tests are the best ones, as the loss rises with k. In several dimensions a
    movement of norm 1 is one of a single coordinate. Longer ones have no known worst case; of them all, with
    Δ = the movement,

        D_α <= α Δ² / (2σ²)    for every α > 1,

    since that holds for every coordinate: the moment is a normal's times Θ(αs)/Θ(0) <= 1, see
    `mechanisms.core.lattice_moments`.

    Args:
        noise_multiplier: σ ÷ sensitivity, >= 0; 0 adds nothing and protects nothing.
        sensitivity: an integer >= 1.
        dimension: how many integers the query has.

    Raises:
        InvalidParameter: if the noise multiplier is negative, infinite, NaN or not a number, or another field is no
            whole number of at least 1.

    >>> DiscreteGaussian(noise_multiplier=2.0, sensitivity=3)
    DiscreteGaussian(noise_multiplier=2.0, sensitivity=3, dimension=1)
    """

    noise_multiplier: float
    sensitivity: int = 1
    dimension: int = 1

    def __post_init__(self) -> None:
        checked = validate.non_negative("DiscreteGaussian", "noise_multiplier", self.noise_multiplier)
        object.__setattr__(self, "noise_multiplier", checked)
        for name in ("sensitivity", "dimension"):
            whole = validate.count("DiscreteGaussian", name, getattr(self, name), least=1)
            object.__setattr__(self, name, whole)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return N_Z(s, σ²) against N_Z(0, σ²), s the largest movement, in every direction.

        Raises:
            UnsupportedProcess: for several dimensions and movements above 1, and for σ >= 2^45 or s > 2^50.
        """
        movement = self.sensitivity * (2 if adjacency is Adjacency.REPLACE_ONE else 1)
        if self.dimension > 1 and movement > 1:
            raise UnsupportedProcess(
                f"DiscreteGaussian: no dominating pair is known for movements of norm {movement} in "
                f"{self.dimension} dimensions under {adjacency.value}.\nUse accountant='rdp' or accountant='zcdp'."
            )
        return dict.fromkeys(adjacency.directions, self._pair(movement))

    def renyi(self, adjacency: Adjacency) -> MirroredDivergence:
        """Return D_α <= α Δ²/2σ², in any number of dimensions."""
        ratio = (2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0) / Bounds.exact(self.noise_multiplier)
        return MirroredDivergence(rho=float((ratio * ratio / 2.0).upper))

    def release(self, value: Any, *, sensitivity: float, randomness: Source) -> Any:
        """Return `value` plus noise: an int for an int, else an array of the same shape, int64 where all of it fits.

        Guarantees: the law above, exactly, for the rational number that noise_multiplier is: integer arithmetic and
        comparisons of binary digits decide every draw. How long it takes depends on the draws, not on the data.

        Args:
            value: an int or an array of as many integers as there are dimensions; the caller has bounded every record's
                contribution to it.
            sensitivity: must be the declared one.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value holds anything but integers, or not as many as there are dimensions, or the
                sensitivity is another one.

        >>> from mechanisms import KeyedSource
        >>> DiscreteGaussian(noise_multiplier=2.0).release(10, sensitivity=1, randomness=KeyedSource(0))
        11
        """
        check_sensitivity("DiscreteGaussian", self.sensitivity, sensitivity)
        sigma = Fraction(self.noise_multiplier) * self.sensitivity

        def noise(n: int) -> Array:
            if not sigma:
                return np.zeros(n, dtype=np.int64)
            return discrete_gaussian(randomness, "discrete_gaussian", sigma**2, n)

        return noisy_integers("DiscreteGaussian", value, noise, self.dimension)

    def _pair(self, movement: int) -> DominatingPair:
        one, none = Bounds.exact(1.0), Fraction(0)
        exact = Fraction(self.noise_multiplier) * self.sensitivity
        if exact == none or movement / exact > MOST_MU:
            return DiscretePair(losses=(), masses=(), infinite_mass=one, missing_mass=one, attained=exact == none)
        if movement > LARGEST_SHIFT or exact >= LARGEST_SIGMA:
            raise UnsupportedProcess(
                "DiscreteGaussian: its pair is computed for standard deviations below 2^45 and movements up to 2^50.\n"
                "Use accountant='rdp' or accountant='zcdp'."
            )
        sigma = Bounds.exact(self.noise_multiplier) * float(self.sensitivity)
        return DiscreteGaussianPair(sigma=sigma, shift=movement, attained=True, dimension=self.dimension)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscreteGaussianPair(DominatingPair):
    """N_Z(s, σ²) against N_Z(0, σ²): at the integer k the loss is L = (2ks − s²)/2σ².

    Args:
        sigma: enclosure of σ.
        shift: s >= 1.
        attained: whether named neighbours have this pair.
        dimension: of the query: in several, records of a group may move several coordinates.

    >>> pair = DiscreteGaussianPair(sigma=Bounds.exact(1.0), shift=1, attained=True)
    >>> bool(pair.delta(Bounds.exact(1.0)).contains(0.14135133940562))
    True
    """

    sigma: Bounds
    shift: int
    attained: bool
    dimension: int = 1

    @property
    def supremum(self) -> Bounds:
        """Infinite: the loss is unbounded."""
        return Bounds.exact(math.inf)

    @property
    def infinite_mass(self) -> Bounds:
        """0."""
        return Bounds.exact(0.0)

    def delta(self, epsilon: Bounds) -> Bounds:
        """δ(ε) = P(K >= m) − e^ε Q(K >= m), m the least integer of loss above ε; any other m gives a lower end."""
        low, high = (np.ravel(end).astype(np.float64) for end in (epsilon.lower, epsilon.upper))
        lower = self._test(high).lower
        upper = np.maximum(lower, self._test(low).upper)
        shape = np.shape(epsilon.lower)
        return Bounds(lower=lower.reshape(shape)[()], upper=upper.reshape(shape)[()])

    def _test(self, epsilon: Array) -> Bounds:
        """Enclose δ, shape (n,). The loss of an integer that rounding may have put on the wrong side is nearly ε."""
        here = epsilon < FAR  # beyond, where the law has no mass that a float could tell from 0
        at = np.where(here, epsilon, 0.0)
        cuts, error = self._cuts(at)
        law, s, scale = self._law, float(self.shift), self._middle**2 / self.shift
        log_p, log_q = law.log_tail(cuts + 1.0 - s), Bounds.exact(at) + law.log_tail(cuts + 1.0)
        known = np.isfinite(log_p.lower)  # else P's tail is too small for a float, and all there is
        none = Bounds.exact(np.zeros_like(at))
        found = exp(log_sub_exp(where(known, log_p, none), where(known, log_q, none)))
        beyond = at * scale + 0.5 * s - cuts  # in [0, 1), of the way to the next integer
        low, high = beyond <= error * scale, beyond >= 1.0 - error * scale
        tail = exp(where(low, law.log_tail(cuts - s), log_p)).upper
        upper = np.where(known, found.upper, exp(log_p).upper) + np.where(
            low | high, np.minimum(4.0 * error, 1.0) * tail, 0.0
        )
        least = np.where(np.isinf(epsilon), 0.0, 1e-300)
        return Bounds(
            lower=np.clip(np.where(known & here, found.lower, 0.0), 0.0, 1.0),
            upper=np.where(here, np.clip(upper, 0.0, 1.0), least),
        )

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Masses of the runs of integers whose losses lie between the edges; Q's at most e^{−edge} of P's."""
        cuts, error = self._cuts(edges)
        law, s = self._law, float(self.shift)
        p = law.runs(cuts, s, np.zeros_like(scale), s)
        q = law.runs(cuts, 0.0, scale, s)
        most = exp(Bounds.exact(scale) - edges[:-1] + 2.0 * error[:-1]) * p
        tight = np.maximum(np.minimum(q.upper, most.upper), q.lower)
        return LossBins(p=p, q=Bounds(lower=q.lower, upper=tight), edge_error=error)

    def loss_range(self, tail: float) -> tuple[float, float]:
        """±(μ²/2 + μ z), μ = s/σ and Φ(−z) = tail, and a step of the lattice more."""
        mu, sigma = self.shift / self._middle, self._middle
        reach = mu * (mu / 2 - float(special.ndtri_exp(math.log(tail))) + 1.0 / sigma)
        return -reach, reach

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """See `mechanisms.core.lattice_moments`."""
        return self.log_mixture_moments(probability, np.array([power], dtype=np.float64))[0]

    def log_mixture_moments(self, probability: float, powers: Array) -> Bounds:
        """See `mechanisms.core.lattice_moments`."""
        return log_lattice_moments(self._law, self.shift, probability, np.asarray(powers, dtype=np.float64))

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """The moment and those of the tilted law, which is a discrete Gaussian around ts."""
        powers = np.asarray(powers, dtype=np.float64)
        value = self.log_mixture_moments(1.0, powers)
        mean, variance = tilted(self._law, self.shift, powers)
        step = self.shift / self._middle**2
        return 0.5 * (value.lower + value.upper), step * (mean - 0.5 * self.shift), step * step * variance

    def reverse(self) -> DiscreteGaussianPair:
        """Return the pair itself: mirrored at s/2, N_Z(0, σ²) against N_Z(s, σ²) is N_Z(s, σ²) against N_Z(0, σ²)."""
        return self

    def group(self, size: int) -> DominatingPair:
        """Return the pair of movement size · s: so far do that many records move a query, if they all agree.

        Raises:
            UnsupportedProcess: where that is too far to be computed, and in several dimensions.
        """
        shift = self.shift * size
        if self.dimension > 1 or shift > LARGEST_SHIFT or shift > MOST_MU * self.sigma.lower:
            return DominatingPair.group(self, size)
        return DiscreteGaussianPair(sigma=self.sigma, shift=shift, attained=self.attained)

    @property
    def _law(self) -> LatticeNormal:
        return LatticeNormal(sigma=self.sigma)

    @property
    def _middle(self) -> float:
        return float(0.5 * (self.sigma.lower + self.sigma.upper))

    def _cuts(self, losses: Array) -> tuple[Array, Array]:
        """Return the largest integers whose losses are at most these, and how far the losses may be off for that."""
        s, square = float(self.shift), self._middle * self._middle
        with np.errstate(over="ignore"):
            cuts = np.floor(losses * (square / s) + 0.5 * s)
        finite = np.where(np.isfinite(losses), np.abs(losses), 0.0)
        spread = float(self.sigma.width / self._middle)
        return cuts, (8.0 * UNIT_ROUNDOFF + 4.0 * spread) * (finite + s * s / square)
