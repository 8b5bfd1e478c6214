"""A batch of fixed size that takes a record in, against one that takes nothing in, for the place of one opposed to it.

    P = (1 − γ) N(0, 1) + γ N(2μ, 1),    Q = (1 − γ) N(0, 1) + γ N(μ, 1),    L(z) = log(1 + s (e^t − 1)),

    t = μ z − 3μ²/2,    s = γ u/(1 − γ + γ u),    u = e^{t + μ²}.

L is 0 at t = 0, rises beyond, and on the other side falls from 0 at z = −∞ to its least value before. By Vieta, with
v = u e^{−μ² − x} the z with L(z) = x are those with

    v² − v + κ = 0,    κ = (1 − γ)/γ e^{−μ²} (1 − e^x) e^{−2x},    z = 3μ/2 + (x + log v)/μ:

one for x > 0, two between 0 and the least loss, where κ = 1/4.

**Why it dominates** zeroing a record x of a batch of m of n records by a normal step, γ = m/n, for α >= 1. A batch with
x is a uniform batch B of the others in which x has taken the place of a uniform member y. Revealing (B, y) and by joint
convexity, with w = x and v = −y (in units of the noise, by which zeroing one record moves the query),

    H_α  <=  sup H_α((1 − γ) N(0, I) + γ N(v + w, I) ‖ (1 − γ) N(0, I) + γ N(v, I)),      |v|, |w| <= μ,
          =  γ E (U − αV − c)₊,    c = (1 − γ)(α − 1)/γ,    U, V = e^{<., Z> − |.|²/2} at v + w and v, Z ~ N(0, I).

Along a line between the inner products of two such (v, w), as U and V are exponential martingales,

    dH_α/dt = γ/2 E δ(U − αV − c) (U² d|w|² + 2 c U d<v, w> + c² d|v|²),

from U² d|v + w|² + α² V² d|v|² − 2 α U V d<v + w, v> with U − αV = c. (In the place of δ stand second derivatives of
smooth convex functions, flat but for just above c; α = 1 by continuity.) For α > 1 the three factors are >= 0, and
v = w with |v| = μ, y = −x, gives most: the pair above. For α < 1, where c < 0, most is had by v = −w, y = x:

    N(0, 1)  against  (1 − γ) N(0, 1) + γ N(−μ, 1),

a Poisson pair. Several adaptive steps inside one draw are as one: from the last step back, E(…)₊ as a function F of the
U and V so far has F_UU >= 0, c (U F_UU + V F_UV) >= 0 and is convex, which are the factors. At α = 1 both give
γ (2Φ(μ/2) − 1), so that their merged pair (`mechanisms.core.merged`) dominates, and no other dominates it: each is
attained by records of norm μ, all others −x, or all others x, in all steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mechanisms.core.binned_law import BinnedLaw, binned_law, convex_sum, cumulants, log_excess
from mechanisms.core.bounds import Array, Bounds, exp, expm1, log, log_ndtr, log_sub_exp, where
from mechanisms.core.mixtures import NONE
from mechanisms.core.normal_masses import interval_masses
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair, LossBins


@dataclass(frozen=True, slots=True, kw_only=True)
class OpposedNormals(DominatingPair):
    """(1 − γ) N(0, 1) + γ N(2μ, 1) against (1 − γ) N(0, 1) + γ N(μ, 1), or that reversed.

    Args:
        shift: enclosure of μ > 0, finite.
        probability: γ in (0, 1).
        attained: whether named neighbours have this pair.
        backward: whether it is reversed.
    """

    shift: Bounds
    probability: float
    attained: bool
    backward: bool = False

    @property
    def supremum(self) -> Bounds:
        """Infinite, or minus the least loss."""
        if not self.backward:
            return Bounds.exact(math.inf)
        loss, error = self._loss(np.array([self._turn[1]]))
        return Bounds(lower=float(-loss[0] - error[0]), upper=float(-loss[0] + error[0]))

    @property
    def supremum_mass(self) -> Bounds:
        """0: losses have no atoms."""
        return NONE

    @property
    def infinite_mass(self) -> Bounds:
        """0."""
        return NONE

    def delta(self, epsilon: Bounds) -> Bounds:
        """Enclose P(S) − e^ε Q(S), S = {L > ε}, and what an S whose ends have losses ε ± e misses.

        Any S gives a lower end. Between the right ends and those of S, |P − e^ε Q| is at most (e^e − 1) P.
        """
        many = np.ndim(epsilon.lower) > 0
        lower = self._delta(np.atleast_1d(np.asarray(epsilon.upper, dtype=np.float64))).lower
        upper = self._delta(np.atleast_1d(np.asarray(epsilon.lower, dtype=np.float64))).upper
        found = Bounds(lower=np.minimum(lower, upper), upper=upper)
        return found if many else Bounds(lower=float(found.lower[0]), upper=float(found.upper[0]))

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Masses between the z whose losses are the edges, on both sides of the least loss."""
        if self.backward:
            left, right, error = self._solved(-edges[::-1])
            p = self._between(left, right, np.zeros_like(scale), 1.0)[::-1]
            q = self._between(left, right, scale[::-1], 2.0)[::-1]
            return LossBins(p=p, q=q, edge_error=error[::-1])
        left, right, error = self._solved(edges)
        return LossBins(
            p=self._between(left, right, np.zeros_like(scale), 2.0),
            q=self._between(left, right, scale, 1.0),
            edge_error=error,
        )

    def loss_range(self, tail: float) -> tuple[float, float]:
        """Return the least loss and that of a z which leaves out `tail` of both laws."""
        reach = math.sqrt(-2.0 * math.log(min(tail, 0.5)))
        low, high = self._turn[0], float(self._loss(np.array([2.0 * self._middle + reach]))[0][0])
        return (-high, -low) if self.backward else (low, high)

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """log (1 + E_Q[f(e^L)]), f = r^t − 1 − t p (e^L − 1), r = 1 − p + p e^L, by bins.

        As e^L <= e^t beyond z = 3μ/2, E_Q[e^{kL}; z > Z] <= Σ b_i e^{k (i − 3/2) μ² + k² μ²/2} Φ((i + k) μ − Z) there.
        """
        if power in (0.0, 1.0):
            return Bounds.exact(0.0)
        if probability == 1.0 and self.backward:
            return replace(self, backward=False).log_mixture_moment(1.0, 1.0 - power)
        sign, law = float(np.sign(power * (power - 1.0))), self._law
        beyond = abs(power) * probability * float(law.p.upper[-1])
        if power > 1 and not self.backward:
            beyond = float(law.p.upper[-1]) + probability * self._tail_moment(float(law.low[-1]), power)
        bent = convex_sum(law, lambda loss: log_excess(loss, probability, power), beyond)
        return log(1.0 + sign * bent)

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """From a few thousand bins."""
        return cumulants(self, powers)

    def reverse(self) -> OpposedNormals:
        """Return (Q, P)."""
        return replace(self, backward=not self.backward)

    @property
    def _middle(self) -> float:
        return float(0.5 * (self.shift.lower + self.shift.upper))

    @property
    def _odds(self) -> float:
        """log(γ/(1 − γ))."""
        return math.log(self.probability) - math.log1p(-self.probability)

    @property
    def _law(self) -> BinnedLaw:
        """The bins but for the one on the far side of the least loss, which holds nothing."""
        law = binned_law(self)
        held = np.isfinite(law.high) if self.backward else np.isfinite(law.low)
        return BinnedLaw(low=law.low[held], high=law.high[held], p=law.p[held], log_q=law.log_q[held])

    @property
    def _turn(self) -> tuple[float, float]:
        """The least loss and its z: e^{−x} = (1 + (1 + 1/K)^½)/2, K = (1 − γ)/γ e^{−μ²}."""
        root = 0.5 * np.logaddexp(0.0, self._odds + self._middle**2)
        loss = float(math.log(2.0) - np.logaddexp(0.0, root))
        return loss, 1.5 * self._middle + (loss - math.log(2.0)) / self._middle

    def _loss(self, z: Array) -> tuple[Array, Array]:
        """Return L(z) and a bound of its error: |dL/dt| <= 2, |dL/d log u| <= 1, and that of t and log u."""
        mu, spread = self._middle, float(self.shift.width / self.shift.lower)
        with np.errstate(over="ignore", invalid="ignore"):
            t = mu * (z - 1.5 * mu)
            odds = self._odds + t + mu * mu
            near = np.log1p(np.expm1(np.clip(t, -1.0, 1.0)) * np.exp(-np.logaddexp(0.0, -odds)))
            loss = np.where(np.abs(t) > 1.0, np.logaddexp(0.0, odds + t) - np.logaddexp(0.0, odds), near)
            moved = np.abs(mu * z) + 4.0 * mu * mu
            error = 3.0 * (4.0 * UNIT_ROUNDOFF + 2.0 * spread) * moved
            error = error + 8.0 * UNIT_ROUNDOFF * (4.0 + abs(self._odds) + np.abs(t))
        return loss, error

    def _solved(self, x: Array) -> tuple[Array, Array, Array]:
        """Return the z on either side of the least loss with L(z) = x, and a bound of |L(z) − x| at both.

        On the left −∞ for x >= 0; both the z of the least loss for x below it.
        """
        mu, (least, turn) = self._middle, self._turn
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            inside = np.clip(x, least, 1e300)
            size = np.log(np.abs(np.expm1(np.minimum(inside, 1.0)))) - 2.0 * np.minimum(inside, 1.0)
            far = np.log(-np.expm1(-np.maximum(inside, 1.0))) - np.maximum(inside, 1.0)
            log_kappa = np.where(inside > 1.0, far, size) - self._odds - mu * mu
            kappa = np.where(inside > 0, -1.0, 1.0) * np.exp(log_kappa)
            root = np.sqrt(np.maximum(1.0 - 4.0 * kappa, 0.0))
            right = 1.5 * mu + (inside + np.log1p(-2.0 * np.minimum(kappa, 0.25) / (1.0 + root))) / mu
            left = 1.5 * mu + (inside + math.log(2.0) + log_kappa - np.log1p(root)) / mu
        left = np.minimum(np.where(inside >= 0, -np.inf, left), turn)
        right = np.where(np.isposinf(x), np.inf, np.maximum(right, turn))
        left, right = np.where(x <= least, turn, left), np.where(x <= least, turn, right)
        if np.all(x[1:] >= x[:-1]):
            left, right = np.minimum.accumulate(left), np.maximum.accumulate(right)
        errors = [self._off(z, inside) for z in (left, right)]
        return left, right, np.maximum(*errors)

    def _off(self, z: Array, x: Array) -> Array:
        known = np.isfinite(z)
        loss, error = self._loss(np.where(known, z, 0.0))
        return np.where(known, np.abs(loss - x) + error, 0.0)

    def _between(self, left: Array, right: Array, scale: Array, multiple: float) -> Bounds:
        """Enclose e^scale times the masses of (1 − γ) N(0, 1) + γ N(multiple μ, 1) between successive z."""
        mean, spread = multiple * self._middle, float(self.shift.width / self.shift.lower)
        rest, share = 1.0 - Bounds.exact(self.probability), self.probability
        ahead = [interval_masses(right, at, scale, spread) for at in (0.0, mean)]
        behind = [interval_masses(left[::-1], at, scale[::-1], spread)[::-1] for at in (0.0, mean)]
        found = rest * (ahead[0] + behind[0]) + share * (ahead[1] + behind[1])
        empty = (left[1:] == left[:-1]) & (right[1:] == right[:-1])  # exactly, where rounding outward would show a mass
        return where(empty, Bounds.exact(np.zeros_like(scale)), found.clip(0.0, np.inf))

    def _delta(self, x: Array) -> Bounds:
        """Enclose δ at floats x >= 0."""
        end, (left, right, error) = self.supremum.upper, self._solved(-x if self.backward else x)
        slack = 4.0 * error + 1e-300
        wide = self._solved(-x + slack if self.backward else x - slack)
        sure = wide[2] < 2.0 * error + 1e-300
        if not self.backward:
            left, wide = np.full_like(x, np.inf), (np.full_like(x, np.inf), np.where(sure, wide[1], -np.inf), error)
            inner, outer = (right, left), (wide[1], wide[0])
        else:
            inner = left, right
            outer = np.where(sure, wide[0], -np.inf), np.where(sure, wide[1], np.inf)
        one, other = (1.0, 2.0) if self.backward else (2.0, 1.0)
        rest, share, large = log(1.0 - Bounds.exact(self.probability)), log(Bounds.exact(self.probability)), x > 1.0
        plain, here, there = (self._log_mass(*inner, multiple) for multiple in (0.0, one, other))
        near = exp(share + here) - exp(share + there)
        grown = expm1(Bounds.exact(np.minimum(x, 1.0))) * (exp(rest + plain) + exp(share + there))
        ends = Bounds.exact(np.minimum(x, end))
        far = exp(rest + plain) + exp(share + here) - (exp(rest + plain + ends) + exp(share + there + ends))
        most = (exp(rest + self._log_mass(*outer, 0.0)) + exp(share + self._log_mass(*outer, one))).upper
        found = where(large, far, near - grown)
        missed = np.where(np.isfinite(error), np.expm1(np.minimum(error, 1.0)) * (1.0 + 1e-12) * most, 1.0)
        found = (found + Bounds(lower=np.zeros_like(x), upper=missed)).clip(0.0, 1.0)
        return where(x > end, Bounds.exact(np.zeros_like(x)), found)

    def _log_mass(self, low: Array, high: Array, multiple: float) -> Bounds:
        """Enclose log N(multiple μ, 1)(low, high), from the side where it has less beyond."""
        mean = multiple * self.shift
        flip = np.clip(low, -1e300, 1e300) + np.clip(high, -1e300, 1e300) > 2.0 * self._middle * multiple
        a = where(flip, mean - high, low - mean)
        b = where(flip, mean - low, high - mean)
        return log_sub_exp(log_ndtr(b), log_ndtr(a))

    def _tail_moment(self, loss: float, power: float) -> float:
        """Bound E_Q[e^{kL}; L > loss] for k > 1."""
        start, k, square = (
            float(self._solved(np.array([loss - 1e-6]))[1][0]),
            Bounds.exact(power),
            self.shift * self.shift,
        )
        parts = ((0.0, 1.0 - Bounds.exact(self.probability)), (1.0, Bounds.exact(self.probability)))
        logs = [
            log(weight) + k * (i - 1.5 + k / 2.0) * square + log_ndtr((k + i) * self.shift - start)
            for i, weight in parts
        ]
        return float(sum((exp(one) for one in logs), start=NONE).upper)
