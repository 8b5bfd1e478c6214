"""Fourier transforms of bounded privacy losses, Poisson-sampled or not: of discrete steps and of Laplace steps.

With l the loss of (P, Q) and r = 1 − q + q e^l, E_Q[r] = 1, so that E_Q[r^s] = 1 + E_Q[f], f = r^s − 1 − s (r − 1), as
in `mechanisms.core.loss_transform`. Atoms of l are summed; where l has the density e^{−(σ + l)/2}/4 on (−σ, σ), it is
integrated as in `mechanisms.core.panels`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array, Bounds, exp
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.loss_transform import STAIRS, Losses, known, piled, rough_cumulants
from mechanisms.core.mixture_grid import LARGEST_EXPONENT, LARGEST_SPREAD, Grid
from mechanisms.core.mixtures import BoundedMixture
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.panels import AXES, LEAST, STEEPEST, WIDEST, Panels, log_ratio, node_doubt, row, stacked

MOST_PANELS, ROUGH_PANELS = 1000, 25  # on either side of 0
ROUGH = 2**17  # nodes × powers that are planned at once
TAIL = 0.004  # of the tilted density that the stairs leave out on either side


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoundedLosses(Losses):
    """The losses of k mixtures of one direction.

    Args:
        mixtures: the k mixtures, all reversed or none.
        reverse: whether they are.

    >>> coin = BoundedMixture(losses=Bounds.exact([-np.log(3), np.log(3)]), masses=Bounds.exact([0.75, 0.25]),
    ...     reach=Bounds.exact(0.0), probability=1.0, reverse=False)
    >>> pairs = BoundedLosses(mixtures=(coin,), reverse=False)
    >>> bool(abs(pairs.transform(2.0, np.array([0.0])).log_modulus[0, 0] - np.log(7 / 3)) < 1e-14)
    True
    """

    mixtures: tuple[BoundedMixture, ...]

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """Return about log E_Q[e^{tL}] at many real t and its first two derivatives, shape (len(powers), k) each.

        For plans, not for bounds: three digits are aimed at. Where powers leave the floats, all three are infinite.
        """
        exponent = self._exponent(powers)[:, None, None]
        found: list[Array] = []
        for one in self.mixtures:
            l, mass = _rough_law(one)  # noqa: E741
            rows = max(1, ROUGH // len(l))
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                loss, w = log_ratio(l, one.probability), one.probability * np.expm1(l)
                parts = [
                    rough_cumulants(w, loss, np.log(mass), exponent[k : k + rows]) for k in range(0, len(powers), rows)
                ]
            found.append(np.concatenate(parts, axis=1))
        value, slope, bend = np.concatenate(found, axis=2) if len(powers) else np.zeros((3, 0, len(self.mixtures)))
        lost = ~(np.isfinite(value) & np.isfinite(slope) & np.isfinite(bend))
        return known(value, -slope if self.reverse else slope, bend, lost)

    def steps_apart(self, power: float) -> tuple[Array, Array, Array]:
        """Return those of the two atoms that are heaviest in the tilted law."""
        exponent = self._exponent(power)
        moment = self._largest_moment(exponent)
        found = [_two_atoms(one, exponent, float(m)) for one, m in zip(self.mixtures, moment, strict=True)]
        weight, least, most = np.array(found).T
        return weight, least, most

    def _nodes(self, exponent: float, frequency: float) -> Grid:
        return stacked([_row(one, exponent, frequency) for one in self.mixtures])

    def _uniform_layers(self, exponent: float) -> tuple[Array, Array]:
        """log r has the density e^{−(σ + l)/2} r^{s+1} / (4 q e^l E[r^s]), bounded from below on each stair."""
        moment = self._largest_moment(exponent)
        stairs = [_stairs(one, exponent, float(m)) for one, m in zip(self.mixtures, moment, strict=True)]
        return piled(np.array([density for density, _ in stairs]), np.array([ends for _, ends in stairs]))


def _law(panels: Panels, reach: float) -> tuple[Array, Array]:
    """Return the nodes and their weights, the density included."""
    nodes, weight = panels.nodes()
    return nodes, 0.25 * weight * np.exp(-0.5 * (reach + nodes))


def _row(one: BoundedMixture, exponent: float, frequency: float) -> Grid:
    """Return the nodes of one mixture, those of the density first.

    Nodes are off by ulps of their panel's ends; stretching σ, and with it l, by 1 + ε changes the density by (1 + σ) ε
    of itself.
    """
    q, reach, missed = one.probability, float(_middle(one.reach)), 0.0
    l, mass, moved, heavier = _atoms(one)  # noqa: E741
    if max(float(np.max(np.abs(l))), reach) > LARGEST_EXPONENT:
        raise NumericalFailure("contour: the likelihood ratio leaves the floats. Use accountant='pld'.")
    if reach > 0:
        panels = _panels(reach, q, exponent, frequency)
        missed = panels.missed(-0.5 * (reach + panels.bottom) - math.log(4.0), q, exponent, frequency)
        within, weight = _law(panels, reach)
        stretched = float(one.reach.width) / reach / UNIT_ROUNDOFF
        changed = np.full(len(within), stretched * (1.0 + reach) + 16.0 + 4.0 * reach)
        l, mass = np.append(within, l), np.append(weight, mass)  # noqa: E741
        moved, heavier = np.append(stretched + panels.rounded(within), moved), np.append(changed, heavier)
    loss = log_ratio(l, q)
    if not max(np.max(exponent * loss), np.max((exponent - 1.0) * loss)) <= LARGEST_EXPONENT:
        raise NumericalFailure("contour: powers of the likelihood ratio leave the floats. Use accountant='pld'.")
    return row(l, mass, node_doubt(l, loss, moved, heavier, exponent), missed, q)


def _atoms(one: BoundedMixture) -> tuple[Array, Array, Array, Array]:
    """Return the atoms, their masses, and by how many units of the unit roundoff, relative, each of both may be off.

    Raises:
        NumericalFailure: if a mass or a loss is not known well, or P's or Q's masses do not sum to 1.
    """
    l, mass = _middle(one.losses), _middle(one.masses)  # noqa: E741
    moved, heavier = (
        np.asarray(bounds.width) / np.maximum(np.abs(middle), LEAST) / UNIT_ROUNDOFF
        for bounds, middle in ((one.losses, l), (one.masses, mass))
    )
    if not max(np.max(moved), np.max(heavier)) <= LARGEST_SPREAD:
        raise NumericalFailure("contour: the losses or masses of a step are not known to 1e-10. Use accountant='pld'.")
    totals = (_sum(one.masses), _sum(one.masses * exp(one.losses)))
    if one.reach.upper == 0 and not all(total.contains(1.0) for total in totals):
        off = max((total - 1.0 for total in totals), key=lambda total: max(-total.lower, total.upper))
        raise NumericalFailure(
            "contour: it integrates laws, and the pair of a step, or of records spread over steps, is a bound rounded "
            f"to one side, whose masses sum to 1 {off.lower if off.upper < 0 else off.upper:+.1e}. "
            "Use accountant='pld', which takes such pairs."
        )
    return l, mass, moved, heavier


def _sum(terms: Bounds) -> Bounds:
    ends = Bounds(lower=float(np.sum(terms.lower)), upper=float(np.sum(terms.upper)))
    return ends.inflate(2.0 * len(terms.lower) * UNIT_ROUNDOFF)


def _panels(reach: float, q: float, exponent: float, frequency: float) -> Panels:
    """Return panels so narrow that on their ellipses log |f| changes by a few nats only."""
    top = min(reach + AXES[0] * WIDEST, LARGEST_EXPONENT)
    slope = min(1.0, q / (1.0 - q) * math.exp(top)) if q < 1.0 else 1.0
    steepness = 0.5 + (abs(exponent) + frequency) * slope
    count = max(1.0, 0.5 * reach / WIDEST, 0.5 * reach * steepness / STEEPEST)
    if not count <= MOST_PANELS:
        raise NumericalFailure("contour: moments need more nodes than the budget allows. Use accountant='pld'.")
    return _equal(reach, math.ceil(count))


def _equal(reach: float, count: int) -> Panels:
    """Return `count` equal panels on either side of 0."""
    half = 0.5 * reach / count
    return Panels(half=np.full(2 * count, half), centres=half * (2.0 * np.arange(-count, count) + 1.0))


def _stairs(one: BoundedMixture, exponent: float, moment: float) -> tuple[Array, Array]:
    """Return a staircase below the tilted density of log r, shape (STAIRS,), and where its stairs end."""
    reach, q = float(one.reach.lower), one.probability
    if reach == 0:
        return np.zeros(STAIRS), np.zeros(STAIRS + 1)
    nodes, mass = _law(_panels(reach, q, exponent, 0.0), reach)
    tilted = np.cumsum(mass * np.exp(exponent * log_ratio(nodes, q)))
    first, last = (int(np.searchsorted(tilted, share * tilted[-1])) for share in (TAIL, 1 - TAIL))
    l = np.linspace(nodes[first], nodes[min(last, len(nodes) - 1)], STAIRS + 1)  # noqa: E741
    loss = log_ratio(l, q)
    lower_power = (exponent + 1.0) * (loss[:-1] if exponent > -1 else loss[1:])
    log_density = lower_power - 1.5 * l[1:] - 0.5 * float(one.reach.upper) - math.log(4 * q * moment)
    return np.exp(np.minimum(log_density, 700.0)), loss


def _two_atoms(one: BoundedMixture, exponent: float, moment: float) -> tuple[float, float, float]:
    """Return w of the two heaviest atoms of the tilted law, and an enclosure of how far they are apart."""
    l, mass, moved, _ = _atoms(one)  # noqa: E741
    loss = log_ratio(l, one.probability)
    tilted = np.asarray(one.masses.lower) * np.exp(exponent * loss) / moment * (1 - 1e-9)
    if np.sum(mass > 0) < 2:
        return 0.0, 0.0, 0.0
    i, j = np.argsort(-tilted, kind="stable")[:2]
    apart = abs(float(loss[i] - loss[j]))
    slack = 64.0 * UNIT_ROUNDOFF * float(np.sum(((1.0 + moved) * (1.0 + np.abs(l)) * np.abs(loss))[[i, j]]))
    total = float(tilted[i] + tilted[j])
    if not apart > 2.0 * slack or not total > 0:
        return 0.0, 0.0, 0.0
    return 2.0 * float(tilted[i] * tilted[j]) / total * (1 - 1e-9), apart - slack, apart + slack


def _rough_law(one: BoundedMixture) -> tuple[Array, Array]:
    l, mass, reach = _middle(one.losses), _middle(one.masses), float(_middle(one.reach))  # noqa: E741
    if reach > 0:
        within, weight = _law(_equal(reach, min(math.ceil(reach), ROUGH_PANELS)), reach)
        l, mass = np.append(within, l), np.append(weight, mass)  # noqa: E741
    return l, mass


def _middle(bounds: Bounds) -> Array:
    return np.asarray(0.5 * (np.asarray(bounds.lower) + np.asarray(bounds.upper)))
