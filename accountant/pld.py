"""Privacy loss distributions: the loss of every step on a grid, composed by tilted Fourier transforms, as a bracket.

The mathematics is in `accountant.core.bins` (one step) and `accountant.core.convolve` (their sum); here the sums are
read off at an ε, from above by the dominating masses and from below by the Neyman–Pearson test on sums of indices:

    δ(ε) <= P(L = ∞) + Σ_S P(S) (1 − e^{ε − x_S})₊          δ(ε) >= P(S >= t) − e^ε Q(S >= t)  for any t
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from accountant.core.base import Accountant, Steps, largest_loss, lost_mass, steps
from accountant.core.composed import Composed
from accountant.core.curve import Curve
from accountant.core.grids import composed_on
from accountant.core.layered import Layered, cell, layered
from accountant.core.layers import Layer, expected_epsilon, far_layers, layers
from accountant.core.ledger import Ledger
from accountant.core.plans import cuttable, depth, depths, rare
from accountant.core.profile import Profile
from accountant.core.saddle import Saddle, saddle
from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.mixtures import NormalMixture
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Process

NO_GRID = "pld: losses are too small or too large for any grid. Use accountant='rdp'."
RESERVE, STEP = 18.0, 32.0  # nats from δ to the outcomes that its tilt does not look at, and between such depths
FIRST_POINTS = 3 * 2**12
AIM, FEW = 0.05, 5  # of the width asked for, that grids are refined to where the kinds of steps are this few
AIM_SPLIT = 0.2  # of the width asked for, that layers are refined to
SPLIT = 2  # how many times fewer points a layer's grid may have
LEAST_SPLIT = 1e-12  # of ε, below which layers are those of that
COARSE = 1e-3  # relative width of ε beyond which one grid for all losses is tried to be done without
MOST_GUESSES = 3  # of the place that serves a δ
HELPED = 0.6  # of the width before, that a finer grid must do better than to be made finer still


@dataclass(frozen=True, slots=True, kw_only=True)
class PLD(Accountant):
    """Brackets any composition of dominating pairs.

    Losses are moved to a grid, from above with the dots connected and from below by the Neyman–Pearson test of the sum
    of bins, see `accountant.core.bins`, and composed by tilted transforms, see `accountant.core.convolve`. Use it for
    steps of mixed kinds, for few steps and where `contour` gives up.

    Assumes that every step has a dominating pair, whatever the law of its loss. Guarantees: lower <= ε <= upper
    with discretisation, truncation, aliasing and round-off counted, see the ledger; the round-off constants of the
    transforms and of the special functions are `validated`. Lower ends are 0 unless every step's pair is attained.
    Same input, same bits: the budget is a number of grid points, never a clock.

    Args:
        relative_width: the width of the bracket aimed at, relative to ε; wider where the grid would exceed the budget.
        most_points: the budget, the largest number of grid points of a composition.

    >>> from mechanisms import Gaussian
    >>> found = PLD().profile(Gaussian(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5)
    >>> found.contains(4.377178095681225)
    True

    The case of Abadi et al. (σ = 4, q = .01, 10,000 steps, δ = 1e-5) it brackets to 7e-7:

    >>> from accountant import dp_sgd
    >>> abadi = dp_sgd(noise_multiplier=4.0, sample_rate=0.01, steps=10_000)
    >>> found = PLD().profile(abadi, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5)
    >>> found.contains(0.94686680076438046), found.width < 1e-6
    (True, True)
    """

    relative_width: float = 1e-6
    most_points: int = 3 * 2**18

    def __post_init__(self) -> None:
        object.__setattr__(self, "relative_width", validate.positive("PLD", "relative_width", self.relative_width))
        object.__setattr__(self, "most_points", validate.count("PLD", "most_points", self.most_points, least=2**10))

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the bracketed profile."""
        curves = tuple(
            (
                direction,
                LossCurve(steps=united(parts), relative_width=self.relative_width, most_points=self.most_points),
            )
            for direction, parts in steps(process, adjacency).items()
            if parts
        )
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCurve(Curve):
    """δ(ε) of the composition of one direction's steps.

    Args:
        steps: the pairs and how often each runs.
        relative_width: see `PLD`.
        most_points: see `PLD`.
    """

    steps: Steps
    relative_width: float
    most_points: int

    @property
    def supremum(self) -> Bounds:
        """Σ n_i (largest loss of step i)."""
        return largest_loss(self.steps)

    @property
    def lost(self) -> Bounds:
        """Enclose P(L = ∞)."""
        found = lost_mass(self.steps)
        attained = all(pair.attained for pair, _ in self.steps)
        return found if attained else Bounds(lower=0.0, upper=found.upper)

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ, each ε with the tilt that suits it.

        Raises:
            NumericalFailure: if losses are too small or too large for any grid.
        """
        epsilon = np.asarray(epsilon, dtype=np.float64)
        if self._certain:
            return Bounds.exact(np.ones_like(epsilon))
        lower, upper = np.zeros_like(epsilon), np.zeros_like(epsilon)
        inside = epsilon < self.supremum.upper  # beyond the largest loss δ is exactly 0
        if not np.any(inside):
            return Bounds(lower=lower, upper=upper)
        if saddle(self.steps, math.inf) is None:  # no loss to speak of, or one that leaves the floats
            return Bounds(lower=lower, upper=np.where(inside, 1.0, 0.0))
        places = self._places(epsilon)
        for place in np.unique(places[inside], axis=0):
            chosen = inside & np.all(places == place, axis=1)
            bounds = self._composed(place).delta(epsilon[chosen])
            lower[chosen], upper[chosen] = bounds.lower, bounds.upper
        attained = all(pair.attained for pair, _ in self.steps)
        return Bounds(lower=np.minimum(lower, upper) if attained else np.zeros_like(lower), upper=upper)

    def guess(self, delta: float) -> float:
        """Invert the upper end of the composition that serves about this δ."""
        if self._certain or saddle(self.steps, math.inf) is None:
            return 1e-9
        if rare(self.steps):
            epsilon = expected_epsilon(self.steps, delta)
            place = self._places(np.array([epsilon]))[0]
        else:
            cut = float(depth(math.log(delta), RESERVE, STEP)) if cuttable(self.steps) else math.inf
            found = saddle(self.steps, cut)
            place = np.array([cut, found.for_delta(delta), 0.0]) if found else np.array([math.inf, 0.0, 0.0])
        for _ in range(MOST_GUESSES):
            epsilon = self._composed(place).inverted(delta)
            closer = self._places(np.array([epsilon]))[0]
            if np.array_equal(closer, place):
                break
            place = closer
        return epsilon

    def ledger(self, epsilon: float) -> Ledger:
        """Return what was added at the tilt used for this ε."""
        if epsilon >= self.supremum.upper or self._certain or saddle(self.steps, math.inf) is None:
            return ()
        return self._composed(self._places(np.array([epsilon]))[0]).ledger(epsilon)

    def _places(self, epsilon: Array) -> Array:
        """Return, for every ε, the depth down to which the tilts' plan looks, the rung, and 0, shape (n, 3).

        Where runs are better split into layers, the last is the ε that these are laid out for.
        """
        cuts = np.full(epsilon.shape, math.inf)
        cutting = cuttable(self.steps) and saddle(self.steps, STEP) is not None
        if cutting:
            cuts = depths(lambda cut, x: self._saddle(cut).log_delta_at(x), epsilon, RESERVE, STEP)
        places = np.stack([cuts, np.zeros_like(epsilon), np.zeros_like(epsilon)], axis=1)
        for cut in np.unique(cuts):
            chosen = cuts == cut
            places[chosen, 1] = self._saddle(float(cut)).rungs(epsilon[chosen])
            if cutting and rare(self.steps):
                places[chosen] = self._split(epsilon[chosen], places[chosen])
        return places

    def _split(self, epsilon: Array, places: Array) -> Array:
        """Return the places with those split into layers where that is worth it."""
        found, cut = places.copy(), float(places[0, 0])
        for near in np.unique(cell(np.maximum(epsilon, LEAST_SPLIT))):
            if _planned(self.steps, cut, float(near), self.relative_width, self.most_points)[0]:
                found[cell(np.maximum(epsilon, LEAST_SPLIT)) == near, 2] = near
        return found

    def _saddle(self, cut: float) -> Saddle:
        found = saddle(self.steps, cut)
        if found is None:
            raise NumericalFailure(NO_GRID)
        return found

    @property
    def _certain(self) -> bool:
        """Whether an infinite loss is certain."""
        return any(pair.infinite_mass.lower >= 1 for pair, _ in self.steps)

    def _composed(self, place: Array) -> Composed | Layered:
        cut, rung, near = map(float, place)
        if near:
            with contextlib.suppress(NumericalFailure):
                return _layered(self.steps, cut, near, self.relative_width, self.most_points)
        return _compose(self.steps, cut, int(rung), self.relative_width, self.most_points)


@lru_cache(maxsize=2)
def _layered(parts: Steps, cut: float, near: float, relative_width: float, most_points: int) -> Layered:
    """Compose the layers for ε near this one.

    Raises:
        NumericalFailure: if there is no grid for these losses.
    """
    plan, rung = _planned(parts, cut, near, relative_width, most_points)
    whole = None if rung is None else _compose(parts, cut, rung, relative_width, most_points)
    points = (min(FIRST_POINTS, most_points), max(most_points // SPLIT, 1))
    return layered(parts, plan, near, aim=AIM_SPLIT * relative_width, points=points, whole=whole)


@lru_cache(maxsize=64)
def _planned(
    parts: Steps, cut: float, near: float, relative_width: float, most_points: int
) -> tuple[tuple[Layer, ...], int | None]:
    """Return the layers for ε near this one, and the rung of whole runs if theirs may be as tight.

    There are none where runs are better not split. Where round-off is no reason to, one grid for all losses may be too
    coarse; whole runs are then looked at as well.
    """
    found = saddle(parts, cut)
    if found is None:
        return (), None
    height = found.height(near)
    if plan := layers(parts, near, height):
        return plan, None
    if plan := far_layers(parts, near, height):
        rung = int(found.rungs(np.array([near]))[0])
        with contextlib.suppress(NumericalFailure):
            whole = _compose(parts, cut, rung, relative_width, most_points)
            return (plan if whole.relative_width(np.array([near])) > COARSE else ()), rung
    return (), None


@lru_cache(maxsize=8)
def _compose(parts: Steps, cut: float, rung: int, relative_width: float, most_points: int) -> Composed:
    """Compose on ever finer grids, until brackets at the ends of this rung are as narrow as asked or it does not help.

    The bracket of δ widens with the square of the step, so each composition tells the step of the next one.

    Raises:
        NumericalFailure: if there is no grid for these losses.
    """
    found = saddle(parts, cut)
    tilt = found.tilt(rung) if found else None
    if found is None or tilt is None or not tilt.usable:
        raise NumericalFailure(NO_GRID)
    served, points, before = np.array(tilt.served), FIRST_POINTS, math.inf
    kept = found.log_delta_at(served) >= RESERVE - cut  # beyond it tilts for rarer outcomes serve
    served = served[: max(1, np.count_nonzero(kept))]
    aim = min(1.0, AIM * max(1.0, len(parts) / FEW)) * relative_width
    while True:
        composed = composed_on(parts, tilt, min(points, most_points))
        wide = composed.relative_width(served) / aim
        if points >= most_points or wide <= 1.0 or wide > HELPED * before:
            return composed
        points, before = math.ceil(points * min(max(1.2 * math.sqrt(wide), 1.5), 32.0)), wide


def united(parts: Steps) -> Steps:
    """Return the steps with all unsampled Gaussians as one, which they are          [DRS22]."""
    whole: DominatingPair | None = None
    others = []
    for pair, times in parts:
        if not isinstance(pair.mixture, NormalMixture) or pair.mixture.probability < 1.0:
            others.append((pair, times))
            continue
        power = pair.power(times)
        whole = power if whole is None else whole.times(power)
    return (((whole, 1),) if whole else ()) + tuple(others)
