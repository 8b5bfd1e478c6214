"""The tightest certified bracket there is: accountants asked in order of cost, until the bracket is narrow."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from accountant.core.base import Accountant, available
from accountant.core.curve import Curve
from accountant.core.ledger import Ledger
from accountant.core.profile import Profile
from mechanisms.core.bounds import Array, Bounds, intersection
from mechanisms.core.errors import DPError, NumericalFailure, UnsupportedProcess
from mechanisms.core.process import Adjacency, Process

NARROW, ENOUGH = 1e-6, 1e-7  # relative widths of ε and of δ at which no slower accountant is asked
ALMOST = 1e-3  # relative widths at which no rough accountant is asked
NEGLIGIBLE = 1e-300  # of δ, below which relative widths mean nothing


@dataclass(frozen=True, slots=True)
class Tightest(Accountant):
    """The intersection of what the other accountants certify, the quick ones asked first.

    Use it by default, as `compute_epsilon` does. No theorem of its own: it asks exact accountants first, then cheap
    ones, until the bracket is within a relative 1e-6.

    Assumes and guarantees what the accountants it asks do: the truth lies in each of their brackets, so in the
    intersection. The `method` of a claim names the one that gave the upper end.

    >>> from mechanisms import Gaussian
    >>> Tightest().profile(Gaussian(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5).method
    'gdp'

    The case of Abadi et al. (σ = 4, q = .01, 10,000 steps, δ = 1e-5) it brackets to 2e-12:

    >>> from accountant import dp_sgd
    >>> abadi = dp_sgd(noise_multiplier=4.0, sample_rate=0.01, steps=10_000)
    >>> found = Tightest().profile(abadi, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5)
    >>> found.method, found.contains(0.94686680076438046), found.width < 1e-11
    ('contour', True, True)
    """

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the tightest profile.

        Raises:
            UnsupportedProcess: if no accountant can treat the process; the message is the last one's.
            NumericalFailure: likewise, where it is the numbers that none can treat.
        """
        profiles: list[Profile] = []
        refusal: DPError = UnsupportedProcess("tightest: no accountant is installed.")
        for accountant in _by_cost():
            try:
                profiles.append(accountant.profile(process, adjacency=adjacency))
            except (UnsupportedProcess, NumericalFailure) as error:
                refusal = error
                continue
            if accountant.exact:
                return profiles[-1]
        if not profiles:
            raise refusal
        named = [(profile.method, dict(profile.curves)) for profile in profiles]  # not all of them ask witnesses
        return Profile(
            curves=tuple(
                (d, TightestCurve(routes=tuple((name, curves[d]) for name, curves in named if d in curves)))
                for d in dict.fromkeys(direction for _, curves in named for direction in curves)
            ),
            adjacency=adjacency,
            method=self.name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TightestCurve(Curve):
    """The intersection of several enclosures of one δ(ε), taken as far as it is worth.

    Args:
        routes: (accountant's name, its curve), the cheapest first.
    """

    routes: tuple[tuple[str, Curve], ...]
    _chosen: dict[float, tuple[str, Curve]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def lost(self) -> Bounds:
        """The intersection of what the routes say."""
        return intersection([curve.lost for _, curve in self.routes])

    @property
    def supremum(self) -> Bounds:
        """The intersection of the routes' suprema."""
        return intersection([curve.supremum for _, curve in self.routes])

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ, at every ε by as many routes as it takes to make the bracket narrow.

        Raises:
            NumericalFailure: if no route has an answer; the message is the last one's.
            UnsupportedProcess: likewise, where a route finds that out only when it looks at the masses.
        """
        epsilon = np.asarray(epsilon, dtype=np.float64)
        lower, upper = np.zeros_like(epsilon), np.full_like(epsilon, math.inf)
        failure: DPError = NumericalFailure("tightest: no accountant has an answer.")
        for name, curve in self.routes:
            open_ends = np.asarray(_worth(name, lower, upper))
            if not np.any(open_ends):
                continue
            try:
                found = curve.delta(epsilon[open_ends])
            except (NumericalFailure, UnsupportedProcess) as error:
                failure = error
                continue
            lower[open_ends] = np.maximum(lower[open_ends], found.lower)
            upper[open_ends] = np.minimum(upper[open_ends], found.upper)
        if np.any(np.isinf(upper)):
            raise failure
        return Bounds(lower=lower, upper=upper)

    def epsilon(self, delta: float) -> Bounds:
        """Enclose ε by as many routes as it takes to make the bracket narrow.

        Raises:
            NumericalFailure: if no route has an answer; the message is the last one's.
            UnsupportedProcess: likewise, where a route finds that out only when it looks at the masses.
        """
        best = Bounds(lower=0.0, upper=math.inf)
        failure: DPError = NumericalFailure("tightest: no accountant has an answer.")
        chosen = None
        for route in self.routes:
            if chosen and best.width <= ALMOST * best.upper < math.inf and available()[route[0]].rough:
                continue
            try:
                found = route[1].epsilon(delta)
            except (NumericalFailure, UnsupportedProcess) as error:
                failure = error
                continue
            chosen = route if chosen is None or found.upper < best.upper else chosen
            best = intersection([best, found])
            if best.lower == best.upper or best.width <= NARROW * best.upper < math.inf:
                break
        if chosen is None:
            raise failure
        self._chosen[float(best.upper)] = chosen
        return best

    def keeps(self, epsilon: float, delta: float) -> bool:
        """Tell whether a route certifies δ(ε) <= delta, before one certifies that it does not."""
        for _, curve in self.routes:
            with contextlib.suppress(NumericalFailure, UnsupportedProcess):
                found = curve.delta(np.array([epsilon]))
                if found.upper[0] <= delta or found.lower[0] > delta:
                    return bool(found.upper[0] <= delta)
        return False

    def method(self, epsilon: float) -> str:
        """Name the route that gave this upper end of ε, else the smallest upper end of δ there."""
        return self._best(epsilon)[0]

    def ledger(self, epsilon: float) -> Ledger:
        """Return that route's ledger."""
        return self._best(epsilon)[1].ledger(epsilon)

    def _best(self, epsilon: float) -> tuple[str, Curve]:
        if epsilon in self._chosen:
            return self._chosen[epsilon]
        point, best, known = np.array([epsilon]), self.routes[0], Bounds(lower=0.0, upper=math.inf)
        for route in self.routes:
            if not _worth(route[0], float(known.lower), float(known.upper)):
                continue
            try:
                found = route[1].delta(point)[0]
            except (NumericalFailure, UnsupportedProcess):
                continue
            best = route if found.upper < known.upper else best
            known = intersection([known, found])
        return best


def _worth(name: str, lower: Array | float, upper: Array | float) -> Array | bool:
    """Tell where an accountant is to be asked for δ, of which this is known."""
    width = ALMOST if available()[name].rough else ENOUGH
    return np.isinf(upper) | (upper - lower > width * np.minimum(upper, 1.0) + NEGLIGIBLE)


@cache
def _by_cost() -> tuple[Accountant, ...]:
    kinds = [kind for kind in available().values() if kind is not Tightest and kind.cost < math.inf]
    return tuple(kind() for kind in sorted(kinds, key=lambda kind: (not kind.exact, kind.cost)))
