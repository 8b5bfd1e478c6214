"""Fourier transforms of the privacy loss of normals, Poisson-sampled or not, with a bound for every error.

With r = 1 − q + q e^{μz − μ²/2} and z standard normal, the loss of ((1 − q) N(0, 1) + q N(μ, 1), N(0, 1)) is log r, and
that of the reversed pair −log r; the moments E_Q[e^{tL}] are E[r^s] with s = t and s = 1 − t. How E[r^s] is integrated
and bounded is said in `mechanisms.core.mixture_grid`; here it is summed at many complex s at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.likelihood_ratio import log_mixture
from mechanisms.core.loss_transform import STAIRS, Losses, known, piled, rough_cumulants
from mechanisms.core.mixture_grid import LOG_ROOT_TWO_PI, Grid, grid, grids

ROUGH_REACH, MOST_ROUGH = 8.0, 512
MOST_SIDE_BY_SIDE = 32  # pairs for which numpy's overhead outweighs the work
APART, LARGEST_APART = 12.0, 3e3  # shifts from which on r is 1 − q or q e^x, for plans, and the last planned for
TAIL, FARTHEST = 0.004, 1e-12  # of the tilted law that stairs leave out on either side, and those of its tail
PILES, ONE_MODE = 4, 0.95  # of stairs in the tail; what one pile must hold of what so many do


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledNormals(Losses):
    """k pairs ((1 − q) N(0, 1) + q N(μ, 1), N(0, 1)), or all of them reversed.

    Args:
        shift: enclosure of μ > 0, shape (k,).
        probability: q in (0, 1), shape (k,).
        reverse: whether the pairs are (N(0, 1), (1 − q) N(0, 1) + q N(μ, 1)).

    >>> pairs = SampledNormals(shift=Bounds.exact([1.0]), probability=np.array([0.5]), reverse=False)
    >>> expected = np.log1p(0.25 * np.expm1(1.0))  # E[r²] = 1 + q² (e^{μ²} − 1)
    >>> bool(abs(pairs.transform(2.0, np.array([0.0])).log_modulus[0, 0] - expected) < 1e-14)
    True
    """

    shift: Bounds
    probability: Array

    def steps_apart(self, power: float) -> tuple[Array, Array, Array]:
        """Return zeros: there are no atoms."""
        none = np.zeros(len(self.probability))
        return none, none, none

    def _nodes(self, exponent: float, frequency: float) -> Grid:
        return grid(self.shift, self.probability, exponent, frequency)

    def prepare(self, *powers: float) -> None:
        """Lay out the nodes of several real moments in one pass over arrays, which takes little more than one's time.

        Raises:
            NumericalFailure: as `transform`.
        """
        missing = [s for s in map(self._exponent, powers) if s not in self._grids]
        if len(missing) < 2 or len(self.probability) > MOST_SIDE_BY_SIDE:
            Losses.prepare(self, *powers)
        else:
            self._keep(dict(zip(missing, grids(self.shift, self.probability, missing, 0.0), strict=True)))

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """Return about log E_Q[e^{tL}] at many real t and its first two derivatives, shape (len(powers), k) each.

        For plans, not for bounds: three digits are aimed at. Where powers leave the floats, all three are infinite.
        """
        if np.max(self._middle) > APART:
            return self._apart(self._exponent(powers)[:, None])
        exponent = self._exponent(powers)[:, None, None]
        mu, q = self._middle[None, :, None], self.probability[None, :, None]
        least = -ROUGH_REACH - np.maximum(2.0 - exponent, 0.0) * mu * np.minimum(1.0, q / (1.0 - q))
        span = ROUGH_REACH + np.maximum(exponent, 2.0) * mu - least
        count = int(np.clip(np.max(span / np.minimum(0.4, 0.8 / mu)), 48, MOST_ROUGH))
        z = least + span * np.linspace(0.0, 1.0, count)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            x = mu * z - 0.5 * mu * mu
            w, loss = q * np.expm1(x), log_mixture(x, q)
            log_weight = np.log(span / (count - 1)) - LOG_ROOT_TWO_PI - 0.5 * z * z
            value, slope, bend = rough_cumulants(w, loss, log_weight, exponent)
            lost = ~np.isfinite(value + slope + bend) | (span / (count - 1) > 1.0)[:, :, 0]
        return known(value, -slope if self.reverse else slope, bend, lost)

    def _apart(self, exponent: Array) -> tuple[Array, Array, Array]:
        """E[r^s] = (1 − q)^s + q^s e^{s (s − 1) μ²/2} or so, where μ is large; the first term alone where s < 0."""
        mu, q = self._middle, self.probability
        with np.errstate(over="ignore", invalid="ignore"):
            near = exponent * np.log1p(-q)
            far = np.where(exponent > 0, exponent * np.log(q) + 0.5 * exponent * (exponent - 1.0) * mu**2, -np.inf)
            value = np.logaddexp(near, far)
            share = np.exp(far - value)
            ends = np.log1p(-q), np.log(q) + (exponent - 0.5) * mu**2
            slope = (1.0 - share) * ends[0] + np.where(share > 0, share * ends[1], 0.0)
            bend = np.where(share > 0, share * ((1.0 - share) * (ends[1] - ends[0]) ** 2 + mu**2), 0.0)
        lost = ~np.isfinite(value + slope + bend) | (mu > LARGEST_APART)
        return known(value, -slope if self.reverse else slope, bend, lost)

    def _on_axis(self, nodes: Grid) -> Array:
        """Return the z of nodes, about."""
        return nodes.z

    def _uniform_layers(self, exponent: float) -> tuple[Array, Array]:
        """Return the layers under stairs below most of the tilted law, and below its tail, where rare jumps are.

        One pile suits a law with one mode; in more piles less of one with two is lost.
        """
        moment = self._largest_moment(exponent)
        first, last, farthest = self._quantiles(exponent, moment, (TAIL, 1.0 - TAIL, 1.0 - FARTHEST))
        most = self._stairs(np.linspace(first - 1e-9, last + 1e-9, STAIRS + 1, axis=1), exponent, moment)
        beyond = np.linspace(last + 1e-9, np.maximum(farthest, last) + 1e-8, STAIRS + 1, axis=1)
        tail = self._stairs(beyond, exponent, moment)
        whole = _layers(*most, 1)
        losses, densities = (np.vstack(both) for both in zip(most, tail, strict=True))
        weight, width = _layers(losses, densities, PILES)
        count = len(self.probability)
        one = (np.sum(whole[0], axis=1) > ONE_MODE * np.sum(weight[:count], axis=1))[:, None]
        return (
            np.hstack([np.where(one, whole[0], weight[:count]), weight[count:]]),
            np.hstack([np.where(one, whole[1], width[:count]), width[count:]]),
        )

    def _quantiles(self, exponent: float, moment: Array, levels: tuple[float, ...]) -> list[Array]:
        """Return about the z below which so much of the tilted law lies, shape (k,) for each level."""
        nodes, rows = self._real_nodes(exponent), np.arange(len(self.probability))
        mass = np.cumsum(nodes.weight * np.exp(exponent * nodes.loss), axis=1) / moment[:, None]
        z = self._on_axis(nodes)
        return [z[rows, np.minimum(np.sum(mass < level, axis=1), mass.shape[1] - 1)] for level in levels]

    def _staircase(self, exponent: float) -> tuple[Array, Array]:
        """Return the losses at the ends of `STAIRS` stairs, increasing, and bounds of their density from below."""
        moment = self._largest_moment(exponent)
        first, last = self._quantiles(exponent, moment, (TAIL, 1.0 - TAIL))
        return self._stairs(np.linspace(first - 1e-9, last + 1e-9, STAIRS + 1, axis=1), exponent, moment)

    def _stairs(self, ends: Array, exponent: float, moment: Array) -> tuple[Array, Array]:
        """Return log r at the ends of stairs, given in z, and bounds from below of the tilted density between them.

        The loss log r has the density φ(z) r^{s+1} / (μ q e^x E[r^s]).
        """
        mu, q = self._middle[:, None], self.probability[:, None]
        x = mu * ends - 0.5 * mu * mu
        loss = log_mixture(x, q)
        farthest = np.maximum(np.abs(ends[:, :-1]), np.abs(ends[:, 1:]))
        lower_power = (exponent + 1.0) * (loss[:, :-1] if exponent > -1 else loss[:, 1:])
        log_density = lower_power - x[:, 1:] - 0.5 * farthest**2 - LOG_ROOT_TWO_PI
        log_density -= np.log(mu) + np.log(q) + np.log(moment[:, None])
        return loss, np.exp(np.minimum(log_density, 700.0))

    @property
    def _middle(self) -> Array:
        return np.asarray(0.5 * (self.shift.lower + self.shift.upper))


def _layers(loss: Array, density: Array, piles: int) -> tuple[Array, Array]:
    """Return the layers of so many piles of stairs side by side, shape (k, n) each."""
    rows, stairs = density.shape
    each = stairs // piles
    ends = loss[:, each * np.arange(piles)[:, None] + np.arange(each + 1)].reshape(rows * piles, each + 1)
    weight, width = piled(density.reshape(rows * piles, each), ends)
    return weight.reshape(rows, stairs), width.reshape(rows, stairs)
