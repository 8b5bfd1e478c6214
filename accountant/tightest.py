"""The tightest certified bracket there is: every accountant asked, the ends that are closest kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accountant.core.base import Accountant, available
from accountant.core.ledger import Ledger
from accountant.core.profile import Curve, Profile
from mechanisms.core.bounds import Array, Bounds, intersection
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.process import Adjacency, Process


@dataclass(frozen=True, slots=True)
class Tightest(Accountant):
    """The intersection of what all other accountants certify; an exact one alone where there is one.

    Guarantees: those of the accountants it asks: the truth lies in each of their brackets, so in the intersection. The
    `method` of a claim names the one that gave the upper end.

    >>> from mechanisms import Gaussian
    >>> Tightest().profile(Gaussian(noise_multiplier=1.0), adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5).method
    'gdp'
    """

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the tightest profile.

        Raises:
            UnsupportedProcess: if no accountant can treat the process; the message is the last one's.
        """
        profiles, refusal = [], UnsupportedProcess("tightest: no accountant is installed.")
        for kind in available().values():
            if kind is Tightest:
                continue
            try:
                profiles.append(kind().profile(process, adjacency=adjacency))
            except UnsupportedProcess as error:
                refusal = error
                continue
            if kind.exact:
                return profiles[-1]
        if not profiles:
            raise refusal
        curves = {direction: [] for direction, _ in profiles[0].curves}  # type: dict[str, list[tuple[str, Curve]]]
        for profile in profiles:
            for direction, curve in profile.curves:
                curves[direction].append((profile.method, curve))
        return Profile(
            curves=tuple(
                (direction, TightestCurve(routes=tuple(curves[direction]))) for direction, _ in profiles[0].curves
            ),
            adjacency=adjacency,
            method=self.name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TightestCurve(Curve):
    """The intersection of several enclosures of one δ(ε).

    Args:
        routes: (accountant's name, its curve).
    """

    routes: tuple[tuple[str, Curve], ...]

    @property
    def supremum(self) -> Bounds:
        """The intersection of the routes' suprema."""
        return intersection([curve.supremum for _, curve in self.routes])

    def delta(self, epsilon: Array) -> Bounds:
        """Enclose δ by all routes at once."""
        return intersection([curve.delta(epsilon) for _, curve in self.routes])

    def guess(self, delta: float) -> float:
        """Return the smallest of the routes' guesses: they err upwards."""
        return min(curve.guess(delta) for _, curve in self.routes)

    def method(self, epsilon: float) -> str:
        """Name the route with the smallest upper end."""
        return self._best(epsilon)[0]

    def ledger(self, epsilon: float) -> Ledger:
        """Return that route's ledger."""
        return self._best(epsilon)[1].ledger(epsilon)

    def _best(self, epsilon: float) -> tuple[str, Curve]:
        return min(self.routes, key=lambda route: float(route[1].delta(np.array([epsilon])).upper[0]))
