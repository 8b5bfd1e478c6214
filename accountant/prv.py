"""Privacy random variables: the losses rounded with their means kept, composed by Fourier transforms.

[GLW21] S. Gopi, Y. T. Lee, L. Wutschitz. Numerical Composition of Differential Privacy. NeurIPS 2021. arXiv:2106.02848.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accountant.core.base import Accountant, Steps, largest_loss, lost_mass, steps
from accountant.core.curve import Curve
from accountant.core.ledger import Ledger
from accountant.core.plans import depth, depths, rare
from accountant.core.profile import Profile
from accountant.core.rounded_grid import composed, levels, plan
from accountant.core.rounded_sum import RoundedSum
from accountant.core.saddle import saddle
from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.process import Adjacency, Process

RESERVE, DEPTHS = 18.0, 32.0  # nats from δ to the outcomes that its tilt does not look at, and between such depths
TRIES = 5  # of ends of ε, before a search, and of levels


@dataclass(frozen=True, slots=True, kw_only=True)
class PRV(Accountant):
    """Brackets any composition of dominating pairs to ε_error, by rounding losses to a grid with their means kept.

    Rounding errors of mean 0 and range h add up to more than ε_error with the chance e^{−2 ε_error² / (n h²)} only
    (Hoeffding), so that with the estimate δ~ of the rounded losses

        δ~(ε + ε_error) − δ_error  <=  δ(ε)  <=  δ~(ε − ε_error) + δ_error,    h = ε_error / √((n/2) log(12/δ_error)).

    Windows are planned by Chernoff's inequality for the composition, and by every step's own tail at δ_error / (8n), as
    in the authors' program; what they leave out is then bounded and counted, whatever was planned.

    Assumes: every step has a dominating pair, whatever the law of its loss. Guarantees: lower <= ε <= upper; lower ends
    are 0 unless all pairs are attained. The round-off constants of transforms and special functions are `validated`.
    Transforms are tilted, so that round-off is small beside δ as far down as floats go. Same input, same bits.

    When to use it: for a second opinion of known width, by other mathematics than that of `pld` and `contour`, and to
    reproduce published numbers, which are upper ends at ε_error = .01. Others are tighter by orders of magnitude. An ε
    below ε_error has the lower end 0, and an upper end of a few ε_error where δ is very small.

    Args:
        eps_error: ε_error > 0: the bracket is about twice as wide. Time grows as √n / ε_error.
        delta_error: δ_error in (0, 1); by default it follows the δ asked for, at most a thousandth of it.
        most_points: the budget, the largest number of points of a transform, of about 40 bytes each: 420 MB in all.

    Abadi et al.'s case, whose truth is .946867, with both ends by ε_error = .01 and δ_error away from it:

    >>> from accountant import dp_sgd
    >>> abadi = dp_sgd(noise_multiplier=4.0, sample_rate=0.01, steps=10_000)
    >>> found = PRV().profile(abadi, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5)
    >>> [round(0.946867 - found.lower, 4), round(found.upper - 0.946867, 4)]
    [0.01, 0.01]
    """

    eps_error: float = 0.01
    delta_error: float | None = None
    most_points: int = 5 * 2**21

    cost: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps_error", validate.positive("PRV", "eps_error", self.eps_error))
        object.__setattr__(self, "most_points", validate.count("PRV", "most_points", self.most_points, least=2**10))
        if self.delta_error is not None:
            found = validate.probability("PRV", "delta_error", self.delta_error)
            object.__setattr__(self, "delta_error", validate.positive("PRV", "delta_error", found))

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the bracketed profile."""
        curves = tuple(
            (direction, PRVCurve(steps=parts, settings=self))
            for direction, parts in steps(process, adjacency).items()
            if parts
        )
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class PRVCurve(Curve):
    """δ(ε) of the composition of one direction's steps.

    Args:
        steps: the pairs and how often each runs.
        settings: the accountant.
    """

    steps: Steps
    settings: PRV

    @property
    def supremum(self) -> Bounds:
        """Σ n_i (largest loss of step i)."""
        return largest_loss(self.steps)

    @property
    def lost(self) -> Bounds:
        """Enclose P(L = ∞)."""
        found = lost_mass(self.steps)
        return found if self._attained else Bounds(lower=0.0, upper=found.upper)

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ, each ε with the grid and the tilt that suit it.

        Raises:
            NumericalFailure: if the grid would have too many points.
        """
        epsilon = np.asarray(epsilon, dtype=np.float64)
        if any(pair.infinite_mass.lower >= 1 for pair, _ in self.steps):
            return Bounds.exact(np.ones_like(epsilon))
        lower, upper = np.zeros_like(epsilon), np.zeros_like(epsilon)
        inside = epsilon < self.supremum.upper  # beyond the largest loss δ is exactly 0
        if not self._planned:
            return Bounds(lower=lower, upper=np.where(inside, 1.0, 0.0))
        moved = self.settings.eps_error
        upper[inside] = self._read(epsilon[inside] - moved, RoundedSum.most)
        if self._attained:
            lower[inside] = np.minimum(self._read(epsilon[inside] + moved, RoundedSum.least), upper[inside])
        return Bounds(lower=lower, upper=upper)

    def _read(self, moved: Array, end: Callable[[RoundedSum, Array], Array]) -> Array:
        """Return the ends of δ, read off where ε_error has moved each ε, with the grid and the tilt for δ there."""
        found, places = np.empty_like(moved), self._places(moved)
        for cut, level in np.unique(places, axis=0):
            chosen = np.all(places == (cut, level), axis=1)
            found[chosen] = end(self._composed(float(cut), int(level)), moved[chosen])
        return found

    def epsilon(self, delta: float) -> Bounds:
        """Enclose ε: by the ends that the composition for this δ has, where they are certified, else by a search.

        Raises:
            NumericalFailure: if the grid would have too many points.
        """
        place = self._place_for(delta) if self.lost.upper < delta < 1.0 else None
        return (place and self._certified(delta, place)) or Curve.epsilon(self, delta)

    def _certified(self, delta: float, place: tuple[float, int]) -> Bounds | None:
        """Return ends that compositions propose, where they are certified: that for this δ first, then nearby ones."""
        served, moved, slack = (place, place), np.array([1.0, -1.0]) * self.settings.eps_error, np.zeros(2)
        step = self._composed(*place).window.step
        for _ in range(TRIES):
            lower, upper = (self._composed(*one).enclosed(delta)[side] for side, one in enumerate(served))
            ends = np.array([max(lower - slack[0], 0.0), min(upper + slack[1], float(self.supremum.upper))])
            if ends[0] == 0.0 and self.keeps(0.0, delta):
                return Bounds.exact(0.0)
            if not ends[0] <= ends[1] < math.inf:
                break
            bounds = self.delta(ends)
            missed = np.array(
                [self._attained and ends[0] > 0.0 and not bounds.lower[0] > delta, bounds.upper[1] > delta]
            )
            if not np.any(missed):
                return Bounds(lower=float(ends[0]) if self._attained else 0.0, upper=float(ends[1]))
            slack += missed * np.maximum(3 * slack, 0.5 * step)
            first, second = ((float(cut), int(level)) for cut, level in self._places(ends + moved))
            served = first, second  # whose δ is another one's, and their grids
        return None

    def guess(self, delta: float) -> float:
        """Invert the estimate."""
        place = self._place_for(delta)
        return self._composed(*place).inverted(delta) if place else 1e-9

    def _place_for(self, delta: float) -> tuple[float, int] | None:
        """Return the place of the composition for this δ, None where there is none."""
        if not self._planned:
            return None
        looked = rare(self.steps) and saddle(self.steps, DEPTHS) is not None
        cut = float(depth(math.log(delta), RESERVE, DEPTHS)) if looked else math.inf
        return cut, int(levels(np.array([math.log(delta)]))[0])

    def ledger(self, epsilon: float) -> Ledger:
        """Return what was added at the grid and the tilt used for this ε."""
        if epsilon >= self.supremum.upper or not self._planned:
            return ()
        cut, level = self._places(np.array([epsilon - self.settings.eps_error]))[0]
        return self._composed(float(cut), int(level)).ledger(epsilon)

    def _places(self, epsilon: Array) -> Array:
        """Return, for every ε, the depth down to which its tilt's plan looks, and the level of δ, shape (n, 2)."""
        cuts = np.full(epsilon.shape, math.inf)
        if rare(self.steps) and saddle(self.steps, DEPTHS) is not None:
            cuts = depths(lambda cut, x: plan(self.steps, cut).log_delta_at(x), epsilon, RESERVE, DEPTHS)
        found = np.zeros_like(epsilon)
        for cut in np.unique(cuts):
            expected = plan(self.steps, float(cut)).log_delta_at(epsilon[cuts == cut])
            least = math.log(max(lost_mass(self.steps).upper, 1e-300))
            found[cuts == cut] = levels(np.maximum(expected, least))
        return self._deepened(epsilon, np.stack([cuts, found], axis=1))

    def _deepened(self, epsilon: Array, places: Array) -> Array:
        """Return the places again, with deeper levels where compositions say that less is left than was planned."""
        for _ in range(TRIES):
            found = places.copy()
            for cut, level in np.unique(places, axis=0):
                chosen = np.all(places == (cut, level), axis=1)
                about = self._composed(float(cut), int(level)).about(epsilon[chosen])
                found[chosen, 1] = np.maximum(level, levels(np.log(np.maximum(about, 1e-300))))
            if np.array_equal(found, places):
                break
            places = found
        return places

    @property
    def _attained(self) -> bool:
        return all(pair.attained for pair, _ in self.steps)

    @property
    def _planned(self) -> bool:
        """Whether there are losses to speak of that stay in the floats."""
        certain = any(pair.infinite_mass.lower >= 1 for pair, _ in self.steps)
        return not certain and saddle(self.steps, math.inf) is not None

    def _composed(self, cut: float, level: int) -> RoundedSum:
        given = self.settings
        return composed(
            self.steps,
            cut,
            level,
            eps_error=given.eps_error,
            delta_error=given.delta_error,
            most_points=given.most_points,
        )
