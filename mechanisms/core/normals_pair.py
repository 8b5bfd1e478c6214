"""Mixtures of normals on either side of 0: the pairs of Gaussian steps in which records take part at random.

    P = Σ a_i N(i ν, 1),    Q = Σ b_j N(−j ν, 1),    i, j >= 0,    L(z) = log r_P(z) − log r_Q(z),

with r_P = Σ a_i e^{iνz − (iν)²/2} and r_Q = Σ b_j e^{−jνz − (jν)²/2} the ratios to N(0, 1), so that L rises with z.

**Why they dominate.** Given all other choices, let T be the random set of places that the records in question take, of
probability w_T. The step then shows Σ w_T N(u_T, I) against Σ w_T N(v_T, I), where the others' part is taken as 0, and

    H_α = E s(Σ w_T U_T − α Σ w_T V_T),  s(y) = max(y, 0),  U_T = e^{<u_T, z> − |u_T|²/2},  V_T likewise,  z ~ N(0, I).

Let the covariances of (<u_T, z>, <v_T, z>) move linearly from C to C*; as U and V are exponential martingales,

    dH_α/dt = ½ E s''(…) Σ (C* − C)_{ij} c_i c_j Y_i Y_j,      c = w_T for U_T and −α w_T for V_T,      s'' >= 0,

which is >= 0 where C* has no smaller an entry for two of a kind and no larger one for a U and a V. With |u_T| <= |T| ν
and |v_T| <= |T| ν that is so for u_T = |T| ν e, v_T = −|T| ν e on one line, the largest and the smallest inner products
there can be; where v_T = 0 for all T, for u_T = |T| ν e. The same argument, from the last step back to the first, holds
for several adaptive steps inside one draw, as E s(…) as a function of the U and V so far has second derivatives of
these signs. So the pair on the line dominates for every α > 0, and records that all point along it attain it where the
others contribute nothing, or, in batches of a fixed number of draws, what v_T = 0 stands for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy

from mechanisms.core.binned_law import binned_law, convex_sum, cumulants, log_excess
from mechanisms.core.bounds import Array, Bounds, exp, expm1, log, log1p, log_ndtr, log_sub_exp, where
from mechanisms.core.mixture_sums import log_ratio
from mechanisms.core.mixtures import NONE
from mechanisms.core.normal_masses import interval_masses
from mechanisms.core.pair import DominatingPair, LossBins

Part = tuple[tuple[float, Bounds], ...]
TABLE, ROUNDS, FAR = 4000, 6, 42.0
LARGE = 1.0  # ε beyond which e^ε is put into exponents


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalsPair(DominatingPair):
    """Σ a_i N(i ν, 1) against Σ b_j N(−j ν, 1).

    Args:
        unit: enclosure of ν > 0.
        above: (i, enclosure of a_i), i >= 0 increasing, the first 0.
        below: (j, enclosure of b_j), likewise.
        lost: enclosure of what the a_i leave of P, taken as infinite losses for upper ends.
        missing: what the b_j leave of Q, likewise.
        attained: whether named neighbours have this pair.
    """

    unit: Bounds
    above: Part
    below: Part
    attained: bool
    lost: Bounds = NONE
    missing: Bounds = NONE

    @property
    def supremum(self) -> Bounds:
        """Infinite, or −log b_0 where P is N(0, 1)."""
        return Bounds.exact(math.inf) if self.above[-1][0] > 0 else -log(self.below[0][1])

    @property
    def supremum_mass(self) -> Bounds:
        """0: it is only approached."""
        return NONE

    @property
    def infinite_mass(self) -> Bounds:
        """What the a_i leave."""
        return self.lost

    def delta(self, epsilon: Bounds) -> Bounds:
        """Enclose δ(ε) = P(z > z*) − e^ε Q(z > z*) with L(z*) = ε, and what is lost.

        With a_0 and b_0 as what the other weights leave, no digits are lost where these are small:

            Σ a_i (Φ(iν − z) − Φ(−z)) + Σ b_j (Φ(−z) − Φ(−jν − z)) − (e^ε − 1) Q(z* > z) + (missing − lost) Φ(−z).

        Any z gives a lower end; what a z of loss ε ± e misses is at most e^ε (e^e − 1) times Q's mass between z and z*.
        Where e^ε is large it stands in the exponents of Q's masses, which keep it from leaving the floats.
        """
        asked = Bounds(lower=np.atleast_1d(epsilon.lower), upper=np.atleast_1d(epsilon.upper))
        middle = np.asarray(0.5 * (asked.lower + asked.upper), dtype=np.float64)
        z, error = self._solved(middle)
        error = error + asked.width
        ends = np.isposinf(z) & ~(asked.lower < self.supremum.upper)
        asked = where(ends, Bounds.exact(np.zeros_like(z)), asked)
        plain = log_ndtr(Bounds.exact(-z))
        terms = [w * exp(log_sub_exp(log_ndtr(i * self.unit - z), plain)) for i, w in self.above[1:]]
        terms += [w * exp(log_sub_exp(plain, log_ndtr(-j * self.unit - z))) for j, w in self.below[1:]]
        beyond = [(w, log_ndtr(-j * self.unit - z)) for j, w in self.below]
        test = sum(terms, start=-_grown(beyond, asked)) + (self.missing - self.lost) * exp(plain)
        most = np.logaddexp.reduce([np.log(w.upper) + one.upper for w, one in beyond], axis=0)
        found = test + Bounds(lower=np.zeros_like(z), upper=self._missed(z, error, asked.upper, most))
        lost = Bounds(lower=np.full_like(z, self.lost.lower), upper=np.full_like(z, self.lost.upper))
        found = where(ends, lost, (found + self.lost).clip(0.0, 1.0))
        return found if np.ndim(epsilon.upper) else Bounds(lower=float(found.lower[0]), upper=float(found.upper[0]))

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Masses of the normals between the z_k with L(z_k) = x_k, whose floats define the bins."""
        z, error = self._solved(edges)
        spread, none = float(self.unit.width / self.unit.lower), np.zeros_like(scale)
        p = _total([w * interval_masses(z, i * self._middle, none, spread) for i, w in self.above])
        q = _total([w * interval_masses(z, -j * self._middle, scale, spread) for j, w in self.below])
        return LossBins(p=p, q=q, edge_error=error)

    def loss_range(self, tail: float) -> tuple[float, float]:
        """Map the z that leave out `tail` of Q below and of P above."""
        ends = np.array([-_reach(self.below, self._middle, tail), _reach(self.above, self._middle, tail)])
        low, high = self._loss(ends)[0]
        return float(low), float(high)

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """log (1 + t p (E_Q[e^L] − 1) + E_Q[f(e^L)]), f = r^t − 1 − t p (e^L − 1) of one sign, by bins.

        For t > 1, E_Q[e^{tL}; z > Z] <= b_0^{1 − t} Σ c_i e^{t (t − 1) (iν)²/2} Φ(t i ν − Z) beyond all bins, with
        c_i = a_i (Jensen) or (n a_i)^t, n the number of the a_i (the largest term times n).
        """
        if power in (0.0, 1.0) and self.lost.upper == self.missing.upper == 0:
            return Bounds.exact(0.0)
        if probability == 1.0 and power < 0:
            known = self.missing.upper == 0
            return self.reverse().log_mixture_moment(1.0, 1.0 - power) if known else Bounds(lower=-np.inf, upper=np.inf)
        sign, law = float(np.sign(power * (power - 1.0))), binned_law(self)
        last = float(law.p.upper[-1])
        beyond = abs(power) * probability * last
        if power > 1:
            beyond = last + probability * self._tail_moment(float(law.low[-1]), power)
        bent = convex_sum(law, lambda loss: log_excess(loss, probability, power), beyond)
        seen_p, seen_q = 1.0 - self.lost, 1.0 - self.missing
        nothing = self.missing * exp(power * log1p(Bounds.exact(-probability)))
        return log(seen_q + sign * bent + power * probability * (seen_p - seen_q) + nothing)

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """From a few thousand bins."""
        return cumulants(self, powers)

    def reverse(self) -> NormalsPair:
        """Return (Q, P), mirrored at 0."""
        return NormalsPair(
            unit=self.unit,
            above=self.below,
            below=self.above,
            attained=self.attained,
            lost=self.missing,
            missing=self.lost,
        )

    @property
    def _middle(self) -> float:
        return float(0.5 * (self.unit.lower + self.unit.upper))

    def _loss(self, z: Array) -> tuple[Array, Array, Array]:
        """Return L(z), its slope and a bound of its error."""
        up, down = log_ratio(z, self.unit, self.above), log_ratio(-z, self.unit, self.below)
        return up.value - down.value, up.slope + down.slope, up.error + down.error

    def _solved(self, x: Array) -> tuple[Array, Array]:
        """Return increasing z and a bound of |L(z) − x|, ±∞ and 0 where losses end before x.

        By Newton's method from a table, kept between its neighbours there.
        """
        z = np.where(x > 0, np.inf, -np.inf)
        inside = (x < self.supremum.upper) & (x > -self.reverse().supremum.upper) & np.isfinite(x)
        error = np.zeros_like(z)
        if not np.any(inside):
            return z, error
        nodes = self._nodes(float(np.max(np.abs(x[inside]))))
        losses = np.maximum.accumulate(self._loss(nodes)[0])
        goal = x[inside]
        place = np.clip(np.searchsorted(losses, goal), 1, len(nodes) - 1)
        low, high = nodes[place - 1], nodes[place]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            share = np.clip((goal - losses[place - 1]) / (losses[place] - losses[place - 1]), 0.0, 1.0)
            found = low + np.nan_to_num(share, nan=0.5) * (high - low)
            left = np.arange(len(goal))
            for _ in range(ROUNDS):
                loss, slope, doubt = self._loss(found[left])
                away = loss - goal[left]
                low[left] = np.where(away < 0, found[left], low[left])
                high[left] = np.where(away > 0, found[left], high[left])
                moved = found[left] - away / slope
                kept = (moved >= low[left]) & (moved <= high[left])
                found[left] = np.where(kept, moved, 0.5 * (low[left] + high[left]))
                left = left[np.abs(away) > doubt]
                if not len(left):
                    break
        z[inside] = np.maximum.accumulate(found) if np.all(np.diff(goal) >= 0) else found
        loss, _, doubt = self._loss(z[inside])
        error[inside] = np.abs(loss - goal) + doubt
        return z, error

    def _nodes(self, farthest: float) -> Array:
        """Return z between which L takes all values up to ± farthest, or nearly those that it has."""
        ends = []
        for part in (self.below, self.above):
            multiple, weight = part[-1]
            shift = multiple * self._middle
            near = FAR + shift
            grows = (farthest - math.log(weight.lower)) / shift + shift if multiple else 0.0
            ends.append((near, max(2.0 * near, 2.0 * grows, FAR / self._middle)))
        (left, far_left), (right, far_right) = ends
        outer = np.geomspace(1.0, 2.0, TABLE // 8)[1:]
        return np.concatenate(
            [
                -(left * (far_left / left) ** np.log2(outer))[::-1],
                np.linspace(-left, right, TABLE),
                right * (far_right / right) ** np.log2(outer),
            ]
        )

    def _missed(self, z: Array, error: Array, epsilon: Array, beyond: Array) -> Array:
        """Bound e^ε (e^e − 1) times Q's mass between z and the z* whose loss is less than e = `error` away.

        All in logarithms, as is `beyond`: the mass by its density, or as all beyond z.
        """
        weights = np.log([w.upper for _, w in self.below])[:, None]
        places = np.array([j * self._middle for j, _ in self.below])[:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            apart = 4.0 * error / self._loss(z)[1]
            ahead, behind = self._loss(z + apart), self._loss(z - apart)
            here = self._loss(z)[0]
            sure = (ahead[0] - ahead[2] - here > error) & (here - behind[0] - behind[2] > error)
            steep = apart * (np.abs(z) + self.below[-1][0] * self.unit.upper + apart)
            density = np.logaddexp.reduce(weights - 0.5 * (z + places) ** 2, axis=0)
            mass = np.where(sure, np.fmin(np.log(0.5 * apart) + steep + density, math.log(2.0) + beyond), 0.0)
            return np.exp(math.log(2.0) + error + np.log(-np.expm1(-error)) + epsilon + mass)

    def _tail_moment(self, loss: float, power: float) -> float:
        """Bound E_Q[e^{tL}; L > loss] for t > 1."""
        z, error = self._solved(np.array([loss]))
        start = float(z[0]) - float(error[0]) / max(float(self._loss(z)[1][0]), 1e-300)
        t, rarest = Bounds.exact(power), (1.0 - power) * log(self.below[0][1])
        plain, apart = 0.0, 0.0
        for multiple, weight in self.above:
            shift = multiple * self.unit
            moment = t * (t - 1.0) * shift * shift / 2.0 + log_ndtr(t * shift - start) + rarest
            plain += float(exp(moment + log(weight)).upper)
            apart += float(exp(moment + t * log(float(len(self.above)) * weight)).upper)
        return min(plain, apart) * (1 + 1e-12)


def _reach(part: Part, unit: float, tail: float) -> float:
    """Return a z beyond which the weighted normals N(i unit, 1) have mass of about `tail` together."""
    share = tail / len(part)
    logs = [(i * unit, math.log(share / max(weight.upper, share))) for i, weight in part]
    return max(centre - float(scipy.special.ndtri_exp(log)) for centre, log in logs if log < 0.0)


def _grown(logs: list[tuple[Bounds, Bounds]], epsilon: Bounds) -> Bounds:
    """Enclose (e^ε − 1) Σ w_i e^{x_i}, given the w_i and x_i."""
    plain = _total([weight * exp(x) for weight, x in logs])
    large = _total([weight * exp(epsilon + x) for weight, x in logs]) - plain
    return where(epsilon.upper > LARGE, large, expm1(epsilon.clip(-math.inf, LARGE)) * plain)


def _total(parts: list[Bounds]) -> Bounds:
    return sum(parts[1:], start=parts[0])
