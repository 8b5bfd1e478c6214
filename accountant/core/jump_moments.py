"""Moments of rare jumps: of the losses of sampled normals between thresholds, at many tilts. For plans, not for bounds.

M_i(a) = E[e^{θL}; L <= a] and J_i(a, b) = E[e^{θL}; a < L <= b] are sums over nodes z, as E[f(z); z <= Z] under Q with
f = r^{1 + θ}; M − 1 from r^s − 1 − s (r − 1), whose mean is as small as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from accountant.core.base import Steps
from accountant.core.loss_sums import LossSum
from accountant.core.plans import Plan, cumulant, rare
from mechanisms.core.bounds import Array
from mechanisms.core.cut_normals import CutNormals
from mechanisms.core.likelihood_ratio import log_mixture

FIRST, NODES = -10.0, 600  # the least z, and how many are summed over
SMALL, LARGE = 1e-3, 30.0  # |w| (|s| + 2) below which r^s − 1 − s w is its first term; x where e^x − 1 is e^x


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Tilted masses of sampled normals between losses, about, for many θ at once.

    Args:
        losses: at the nodes z, shape (k, NODES).
        excess: r − 1 there.
        weights: the density of z times the distance of the nodes.
        times: n_i, shape (k,).
        others: the cumulant of all other steps.
    """

    losses: Array
    excess: Array
    weights: Array
    times: Array
    others: Plan

    @classmethod
    def of(cls, parts: Steps, depth: float) -> Moments:
        """Lay out the nodes of the parts' jumps, outcomes of probability e^{−depth} or so left out."""
        jumping = tuple(part for part in parts if rare((part,)))
        ((cut, times),) = LossSum.of(jumping, depth).groups
        assert isinstance(cut, CutNormals)
        mu, q, last = 0.5 * (cut.shift.lower + cut.shift.upper)[:, None], cut.probability[:, None], cut.last[:, None]
        z = FIRST + (last - FIRST) * np.linspace(0.0, 1.0, NODES)
        x = mu * z - 0.5 * mu * mu
        weights = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) * (last - FIRST) / (NODES - 1)
        others = cumulant(tuple(part for part in parts if not rare((part,))))
        with np.errstate(over="ignore"):
            excess = q * np.expm1(x)
        return cls(losses=log_mixture(x, q), excess=excess, weights=weights, times=times, others=others)

    def segments(self, theta: Array, thresholds: Array) -> tuple[Array, Array]:
        """Return M_i − 1 up to every threshold and the mass from there to the next, shape (θ, k, thresholds).

        With the first mass that up to the first threshold, and the last M_i that of all.
        """
        s = 1.0 + theta[:, None]
        below, between = [], []
        with np.errstate(over="ignore", invalid="ignore"):
            for loss, w, weight in zip(self.losses, self.excess, self.weights, strict=True):
                tilted = weight * np.exp(s * loss)
                bent = weight * (np.expm1(s * loss) - s * w)
                bent = np.where(np.abs(w) * (np.abs(s) + 2.0) < SMALL, 0.5 * s * (s - 1.0) * weight * w * w, bent)
                at = np.searchsorted(loss, thresholds, side="right")
                sums = [np.concatenate([np.zeros((len(theta), 1)), np.cumsum(part, axis=1)], axis=1)
                        for part in (bent, tilted)]  # fmt: skip
                below.append(sums[0][:, at])
                pieces = np.add.reduceat(np.append(tilted, np.zeros((len(theta), 1)), axis=1), np.append(0, at), axis=1)
                empty = np.append(0, at)[:-1] == np.append(0, at)[1:]
                pieces[:, :-1][:, empty] = 0.0
                between.append(pieces[:, :-1])
        return np.stack(below, axis=1), np.stack(between, axis=1)

    def values(self, theta: Array, thresholds: Array, ends: tuple[int, int]) -> Array:
        """Return about K of the layer between two thresholds, the first −1 for the lowest layer."""
        return together(layer_cumulant(self, theta, *self.segments(theta, thresholds), ends), self.others(theta)[0])


def layer_cumulant(moments: Moments, theta: Array, below: Array, between: Array, ends: tuple[int, int]) -> Array:
    """Return K of the layer between two thresholds less that of other steps; arguments as of and from `Moments`."""
    low, high = ends
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if low < 0:
            return np.asarray(np.log1p(below[:, :, high]) @ moments.times)
        base = np.log1p(below[:, :, low])
        band = np.sum(between[:, :, low + 1 : high + 1], axis=2)
        more = np.log1p(band * np.exp(-base)) @ moments.times
        found = base @ moments.times + np.where(more > LARGE, more, np.log(np.expm1(np.minimum(more, LARGE))))
    return np.asarray(np.where(np.isnan(found), np.inf, found))


def together(layer: Array, others: Array) -> Array:
    """Return the sum of a layer's K and that of other steps: −inf where the layer is empty, whatever the others are."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(layer == -np.inf, -np.inf, layer + others))
