"""The law of a sum of losses, each of which takes one of two values: enclosed by finitely many atoms.

n equal losses u or −v sum up to S u − (n − S) v, S binomial with P(u) = (1 − e^{−v})/(1 − e^{−u−v}), so that

    δ(ε) = E (1 − e^{ε − L})₊ = Σ_{x > ε} P(L = x) (1 − e^{ε − x})                    [KOV15; MV16 for unequal ones]

Unequal losses multiply the number of atoms. Where it would exceed `MOST_ATOMS` they are moved to a grid, twice: as a
dominating law, each atom split onto the points beside it such that P's and Q's masses both stay [DGKKM22], and as one
that is dominated, each cell merged into one atom of its total masses under P and Q, which shows less than its atoms do.

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
[MV16] J. Murtagh, S. Vadhan. The Complexity of Computing the Optimal Composition of Differential Privacy. TCC 2016.
arXiv:1507.03113.
[DGKKM22] V. Doroshenko, B. Ghazi, P. Kamath, R. Kumar, P. Manurangsi. Connect the Dots: Tighter Discrete Approximations
of Privacy Loss Distributions. PoPETs 2022. arXiv:2207.04380.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from accountant.core.binomial import DIGITS, log_factorial
from mechanisms.core.bounds import Array
from mechanisms.core.pair import UNIT_ROUNDOFF

MOST_ATOMS = 2**18
FINE, COARSE = 2**22, 2**19  # points of a grid, times kinds of steps; and products of atoms
GRIDS = 2**10, 2**16
MOST_CUT = 1e-6
LARGEST_LOSS, LARGEST_ODDS = 1e290, 1e300
NEGLIGIBLE, TINIEST = 1e-100, 1e-290
NATS = 660.0  # −log of the mass that a window leaves out
FLUSHED = 1e-306  # bounds what underflow takes from a mass, or adds to it; 2^22 atoms of 10^9 kinds: < `TINIEST`
NARROW = 300.0  # of a block of losses, whose exponentials are floats
TINY = Decimal("1e-10")


@dataclass(frozen=True, kw_only=True, eq=False)
class Law:
    """Atoms of a loss under P, those under Q being e^{−x} times as heavy.

    Args:
        losses: increasing, shape (n,).
        masses: P's.
        relative: bounds the relative error of the masses.
        shift: bounds the error of the losses.
        rest: bounds P's mass of what is not among the atoms.
    """

    losses: Array
    masses: Array
    relative: float
    shift: float
    rest: float

    def upper(self, epsilon: Array) -> Array:
        """Return a bound of δ(ε) from above."""
        return (self._delta(epsilon - self._away(epsilon)) + self.rest) * (1.0 + 2.0 * self._error)

    def lower(self, epsilon: Array) -> Array:
        """Return a bound of δ(ε) from below; masses that floats hold badly may be too large by `TINIEST` together."""
        found = self._delta(epsilon + self._away(epsilon)) * (1.0 - self._error)
        return np.where(found > TINIEST, found - TINIEST, 0.0)

    @property
    def _error(self) -> float:
        """Of the masses, and of the sums that are made of them."""
        return self.relative + (4.0 * len(self.losses) + 64.0) * UNIT_ROUNDOFF

    def _away(self, epsilon: Array) -> Array:
        """Of the losses, and of sums with ε."""
        return self.shift + 4.0 * UNIT_ROUNDOFF * (np.abs(epsilon) + self.shift)

    def _delta(self, epsilon: Array) -> Array:
        """With j the first atom beyond ε: δ(ε) = δ(x_j) + (1 − e^{ε − x_j}) B_j, all terms positive."""
        beyond, falls = self._tails
        j = np.searchsorted(self.losses, epsilon, side="right")
        at = np.minimum(j, len(self.losses) - 1)
        found = falls[at] - np.expm1(np.minimum(epsilon - self.losses[at], 0.0)) * beyond[at]
        return np.where(j < len(self.losses), found, 0.0)

    @cached_property
    def _tails(self) -> tuple[Array, Array]:
        """Return B_j = Σ_{i >= j} p_i e^{x_j − x_i} and δ(x_j) = Σ_{i > j} (1 − e^{x_{i−1} − x_i}) B_i.

        In blocks from the last one on, each as long as its losses lie within `NARROW` or the spacing of floats there.
        """
        x, beyond, later, first = self.losses, np.empty_like(self.masses), 0.0, len(self.losses)
        with np.errstate(under="ignore"):
            while first > 0:
                last, first = first, int(np.searchsorted(x, x[first - 1] - NARROW))
                block = x[first:last]
                decay = np.exp(block - block[-1])
                carried = later * math.exp(block[-1] - x[last]) if last < len(x) else 0.0
                sums = np.cumsum((self.masses[first:last] / decay)[::-1])[::-1]
                beyond[first:last] = decay * (sums + carried)
                later = float(beyond[first])
            steps = -np.expm1(x[:-1] - x[1:]) * beyond[1:]
        return beyond, np.append(np.cumsum(steps[::-1])[::-1], 0.0)


@lru_cache(maxsize=16)
def sum_of(kinds: tuple[tuple[float, float, int], ...], *, above: bool, work: int = FINE) -> Law | None:
    """Return the law of the sum of n losses u or −v of every kind (u, v, n), or one near it on the side asked for.

    It dominates the sum if `above`, else the sum dominates it; the closer, the more `work` (points of the grid, times
    kinds) it may take where there are many atoms. None where one kind alone has too many.

    >>> answer = sum_of(((1.0, 1.0, 1),), above=True)
    >>> [bool(abs(answer.upper(x) - 0.46211715726000976) < 1e-12) for x in np.zeros((1, 1))]
    [True]
    """
    laws = [_binomial(u, v, n) for u, v, n in kinds if u > 0.0 and v > 0.0]  # else the loss is 0
    known = sorted((law for law in laws if law is not None), key=lambda law: len(law.losses))
    if len(known) < len(laws):
        return None
    points = int(np.clip(work // max(1, len(laws)), *GRIDS))
    found = Law(losses=np.zeros(1), masses=np.ones(1), relative=0.0, shift=0.0, rest=0.0)
    for law in known:
        found = _both(found, law, points, work, _dominating if above else _dominated)
    return found


def _both(one: Law, other: Law, points: int, products: int, coarser: Callable[[Law, int], Law]) -> Law:
    """Return the law of the sum of two independent losses, or a coarser one on the side asked for.

    Of so many products of atoms at most, and on so many points where there are many more.
    """
    small, large = sorted((one, other), key=lambda law: len(law.losses))
    if len(small.losses) * len(large.losses) > products:
        room = math.isqrt(products)
        small = coarser(small, room) if len(small.losses) > room else small
        large = coarser(large, products // len(small.losses))
    found = _product(small, large)
    if len(found.losses) > 4 * points:
        return coarser(found, points)
    order = np.argsort(found.losses, kind="stable")
    return replace(found, losses=found.losses[order], masses=found.masses[order])


def _binomial(u: float, v: float, n: int) -> Law | None:
    """Return the law of S u − (n − S) v around the mode of S, masses by the ratio of neighbours (n − j)/(j + 1) odds.

    Further than w from its mean S lies with probability 2 e^{−2 w²/n} at most, by Hoeffding's inequality.
    """
    width = min(2 + math.isqrt(int(n * NATS / 2)), MOST_ATOMS // 2)
    cut = 2.0 * math.exp(-2.0 * (width - 2) ** 2 / n) if width < n else 0.0
    if n * max(u, v) > LARGEST_LOSS or cut > MOST_CUT:
        return None
    with localcontext(DIGITS):
        log_up, log_down = (_log_share(Decimal(x)) - _log_share(Decimal(u) + Decimal(v)) for x in (v, u))
        log_down -= Decimal(v)
        chance = float(log_up.exp())
        odds, against = (min(float(one.exp()), LARGEST_ODDS) for one in (log_up - log_down, log_down - log_up))
        mode = min(n, int((n + 1) * chance))
        log_mass = log_factorial(n) - log_factorial(mode) - log_factorial(n - mode)
        log_mass += mode * log_up + (n - mode) * log_down
        heaviest = math.exp(float(log_mass)) * (1.0 + float(log_mass - Decimal(float(log_mass))))
    above = np.arange(mode, min(n, mode + width), dtype=np.float64)
    below = np.arange(mode, max(0, mode - width), -1.0)
    with np.errstate(under="ignore"):
        ups = np.cumprod((n - above) / (above + 1.0) * odds)
        downs = np.cumprod(below / (n - below + 1.0) * against)
        masses = heaviest * np.concatenate([downs[::-1], [1.0], ups])
    answers = np.arange(mode - len(below), mode + len(above) + 1, dtype=np.float64)
    kept = masses > FLUSHED  # the window is too wide by far where one loss is rare
    return Law(
        losses=(answers * u - (n - answers) * v)[kept],
        masses=masses[kept],
        relative=(32.0 + 6.0 * max(len(above), len(below))) * UNIT_ROUNDOFF,
        shift=4.0 * UNIT_ROUNDOFF * n * max(u, v),
        rest=cut + 2.0 * FLUSHED * len(answers),
    )


def _log_share(x: Decimal) -> Decimal:
    """log(1 − e^{−x}) to 25 digits, as log x − x/2 + x²/24 − … for small x."""
    return x.ln() - x / 2 + x * x / 24 if x < TINY else (1 - (-x).exp()).ln()


def _product(one: Law, other: Law) -> Law:
    """Return the law of the sum of two independent losses, its atoms in any order."""
    losses = np.add.outer(one.losses, other.losses).ravel()
    with np.errstate(under="ignore"):
        masses = np.multiply.outer(one.masses, other.masses).ravel()
    return Law(
        losses=losses,
        masses=masses,
        relative=one.relative + other.relative + one.relative * other.relative + 2 * UNIT_ROUNDOFF,
        shift=one.shift + other.shift + UNIT_ROUNDOFF * float(np.max(np.abs(losses))),
        rest=one.rest + other.rest + FLUSHED * len(losses),
    )


def _dominating(law: Law, points: int) -> Law:
    """Return a law on `points` points that dominates this one: each atom split onto the two beside it.

    P's share of the one above is (1 − e^{y − x})/(1 − e^{y − y'}), y <= x <= y'.
    """
    law, nodes, cell = _cells(law, points)
    gap, width = nodes[cell] - law.losses, nodes[cell] - nodes[cell + 1]
    same = width == 0.0  # points that floats cannot tell apart
    share = np.clip(np.expm1(gap) / np.where(same, -1.0, np.expm1(width)), 0.0, 1.0)
    raised = np.bincount(cell + 1, law.masses * share, minlength=points)
    masses = raised + np.bincount(cell, law.masses * (1.0 - share), minlength=points)
    slack = (2.0 * np.max(np.bincount(cell)) + 32.0) * UNIT_ROUNDOFF
    return replace(law, losses=nodes, masses=masses, relative=law.relative * (1.0 + slack) + slack)


def _dominated(law: Law, points: int) -> Law:
    """Return a law of fewer than `points` atoms that this one dominates: each cell's atoms merged into one."""
    law, _, cell = _cells(law, points)
    least = np.full(points, np.inf)  # the least loss of each cell, which may be wider than exponentials hold
    np.minimum.at(least, cell, law.losses)
    masses = np.bincount(cell, law.masses, minlength=points)
    with np.errstate(under="ignore"):
        others = np.bincount(cell, law.masses * np.exp(least[cell] - law.losses), minlength=points)
    kept = masses > 0.0
    slack = (2.0 * np.max(np.bincount(cell)) + 32.0) * UNIT_ROUNDOFF
    return replace(
        law,
        losses=least[kept] - np.log(others[kept] / masses[kept]),
        masses=masses[kept],
        relative=law.relative * (1.0 + slack) + slack,
        shift=law.shift + 2.0 * slack,
    )


def _cells(law: Law, points: int) -> tuple[Law, Array, NDArray[np.intp]]:
    """Return the atoms of some mass, a grid over their losses, and the index of the cell of each."""
    kept = law.masses > NEGLIGIBLE
    losses, masses = law.losses[kept], law.masses[kept]
    nodes = np.linspace(float(np.min(losses)), float(np.max(losses)) + TINIEST, points)
    cell = np.clip(np.searchsorted(nodes, losses, side="right") - 1, 0, points - 2)
    rest = law.rest + NEGLIGIBLE * (len(law.losses) - len(losses))
    shift = law.shift + 8.0 * UNIT_ROUNDOFF * float(np.max(np.abs(nodes)))
    return replace(law, losses=losses, masses=masses, rest=rest, shift=shift), nodes, cell
