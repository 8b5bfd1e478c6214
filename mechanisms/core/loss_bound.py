"""Pairs made from a bound of the privacy loss: what mechanisms have of which the loss, not a worst case, is known.

Let the loss of x against x' be at most X almost surely under M(x), where X has the law of base + μ R, R >= 0. Then

    sup_S Pr[M(x) ∈ S] − e^ε Pr[M(x') ∈ S]  =  E (1 − e^{ε − loss})₊  <=  E (1 − e^{ε − X})₊        for all real ε,

which is the profile of the pair with that law P of the loss, Q = e^{−X} P, and the rest of Q's mass where P has none.

| law | R | base | P(R > r) | Q(R > r) |
|---|---|---|---|---|
| one_signed | (z + μ/2)₊ | k | Φ(μ/2 − r) | e^{−k} Φ(−μ/2 − r) |
| two_signed | abs(z) | k + μ²/2 | 2 Φ(−r) | 2 e^{−k} Φ(−μ − r) |
| plane | √(z² + z'²) | k + μ²/2 | e^{−r²/2} | e^{−k} (e^{−(r + μ)²/2} − μ √(2π) Φ(−μ − r)) |

z and z' are standard normal; one_signed has the mass Φ(−μ/2) at R = 0 under P, e^{−k} times that under Q.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy

from mechanisms.core.binned_law import binned_law, convex_sum, cumulants, log_excess
from mechanisms.core.bounds import Array, Bounds, exp, largest, log, log1p, log_ndtr, log_sub_exp, ndtr, sqrt, where
from mechanisms.core.mixtures import NONE
from mechanisms.core.normal_masses import NODES, WEIGHTS, interval_masses
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair, LossBins

LAWS = ("one_signed", "two_signed", "plane")
ROOT_TWO_PI = sqrt(Bounds(lower=6.283185307179586, upper=6.283185307179587))
LOG_TWO = log(Bounds.exact(2.0))
NARROW = 0.1  # w (1 + A), see `_plane_masses`


@dataclass(frozen=True, slots=True, kw_only=True)
class LossBoundPair(DominatingPair):
    """The pair whose loss is the bound base + μ R, or that reversed.

    Args:
        shift: enclosure of μ > 0, finite.
        offset: enclosure of k >= 0, finite.
        law: of R, one of `LAWS`.
        reversed: whether this is (Q, P).

    >>> pair = LossBoundPair(shift=Bounds.exact(1.0), offset=Bounds.exact(0.0), law="one_signed")
    >>> pair.delta(Bounds.exact(1.0)).contains(0.1269367375066439458)
    True
    """

    shift: Bounds
    offset: Bounds
    law: str
    reversed: bool = False
    attained: bool = False

    @property
    def supremum(self) -> Bounds:
        """Infinite; of the reversed pair the least loss, turned."""
        return -self._base if self.reversed else Bounds.exact(math.inf)

    @property
    def infinite_mass(self) -> Bounds:
        """0; of the reversed pair what Q has beyond e^{−X} P."""
        return self._rest if self.reversed else NONE

    @property
    def missing_mass(self) -> Bounds:
        """What Q has beyond e^{−X} P; 0 of the reversed pair."""
        return NONE if self.reversed else self._rest

    def delta(self, epsilon: Bounds) -> Bounds:
        """The better one of two tests: accept all, or losses above ε; reversed, losses are 0 at most or infinite."""
        if self.reversed:
            return (self._rest + 0.0 * epsilon).clip(0.0, 1.0)
        r = ((epsilon - self._base) / self.shift).clip(0.0, np.inf)
        everything = 1.0 - exp(epsilon) * (1.0 - self._rest)
        return largest([everything, self._difference(r, epsilon)]).clip(0.0, 1.0)

    def loss_bins(self, edges: Array, scale: Array) -> LossBins:
        """Masses between r_k = (x_k − base)/μ, whose floats define the bins."""
        if self.reversed:
            bins = self.reverse().loss_bins(-edges[::-1], np.zeros_like(scale))
            p, q = (Bounds(lower=mass.lower[::-1], upper=mass.upper[::-1]) for mass in (bins.q, bins.p))
            finite = np.where(np.isfinite(edges), np.abs(edges), 0.0)
            return LossBins(p=p, q=q * exp(Bounds.exact(scale)), edge_error=bins.edge_error[::-1] + 1e-15 * finite)
        mu, base = _middle(self.shift), _middle(self._base)
        r = np.maximum((edges - base) / mu, 0.0)
        p, q = self._masses(r, scale)
        held = np.where((edges[:-1] < base) & (edges[1:] >= base), 1.0, 0.0)
        weight = held * exp(Bounds.exact(np.where(held > 0, scale, 0.0)))
        slack = 8.0 * UNIT_ROUNDOFF * (1.0 + mu)  # of mass beside R = 0, where the end of the bins is a rounded number
        p, q = (mass + w * Bounds(lower=-slack, upper=slack) for mass, w in ((p, held), (q, weight)))
        if self.law == "one_signed":
            atom = ndtr(-self.shift / 2.0)
            p, q = p + held * atom, q + weight * atom * exp(-self.offset)
        finite = np.where(np.isfinite(edges), np.abs(edges), 0.0)
        spread = float((self.shift.width / self.shift.lower + 8.0 * UNIT_ROUNDOFF) * 2.0)
        error = spread * (finite + base) + float(self._base.width) + mu * 4.0 * UNIT_ROUNDOFF * (mu + 8.0)
        return LossBins(p=p.clip(0.0, np.inf), q=q.clip(0.0, np.inf), edge_error=error)

    def loss_range(self, tail: float) -> tuple[float, float]:
        """From the least loss to that of the z that leave out `tail`."""
        reach = -float(scipy.special.ndtri_exp(math.log(tail))) + _middle(self.shift) + 1.0
        low, high = float(self._base.lower), float((self._base + reach * self.shift).upper)
        return (-high, -low + 1e-6 * (high - low)) if self.reversed else (low, high)  # above the atom, not at it

    def log_mixture_moment(self, probability: float, power: float) -> Bounds:
        """log E_Q[e^{tL}] = log E_P[e^{(t − 1) X}], log E_P[e^{−tX}] of the reversed pair; for p < 1 from bins."""
        if probability < 1.0:
            return self._binned_moment(probability, power)
        if not self.reversed and power <= 0:
            return Bounds(lower=-math.inf, upper=math.inf)
        exponent = -power if self.reversed else power - 1.0
        return exponent * self._base + self._log_moment(exponent) if exponent else NONE

    def cumulants(self, powers: Array) -> tuple[Array, Array, Array]:
        """From a few thousand bins."""
        return cumulants(self, powers)

    def reverse(self) -> LossBoundPair:
        """Return (Q, P)."""
        return LossBoundPair(shift=self.shift, offset=self.offset, law=self.law, reversed=not self.reversed)

    @property
    def _base(self) -> Bounds:
        return self.offset if self.law == "one_signed" else self.offset + self.shift * self.shift / 2.0

    @property
    def _rest(self) -> Bounds:
        """Enclose 1 − E_P[e^{−X}]."""
        seen = exp(self._log_q(Bounds.exact(0.0)))
        return (1.0 - (2.0 * seen if self.law == "one_signed" else seen)).clip(0.0, 1.0)

    def _log_p(self, r: Bounds) -> Bounds:
        """Enclose log P(R > r)."""
        if self.law == "plane":
            return -r * r / 2.0
        return log_ndtr(self.shift / 2.0 - r) if self.law == "one_signed" else LOG_TWO + log_ndtr(-r)

    def _log_q(self, r: Bounds) -> Bounds:
        """Enclose log Q(R > r)."""
        if self.law == "one_signed":
            return log_ndtr(-self.shift / 2.0 - r) - self.offset
        beyond = self.shift + r
        if self.law == "two_signed":
            return LOG_TWO + log_ndtr(-beyond) - self.offset
        mills = self.shift * ROOT_TWO_PI * exp(log_ndtr(-beyond) + beyond * beyond / 2.0)
        closed = log((1.0 - mills).clip(0.0, 1.0))
        return (closed - beyond * beyond / 2.0).clip(-np.inf, 0.0) - self.offset

    def _difference(self, r: Bounds, epsilon: Bounds) -> Bounds:
        """Enclose P(R > r) − e^ε Q(R > r)."""
        return exp(log_sub_exp(self._log_p(r), epsilon + self._log_q(r)))

    def _masses(self, r: Array, scale: Array) -> tuple[Bounds, Bounds]:
        """Enclose the masses between the r, Q's multiplied by e^scale."""
        mu, none = _middle(self.shift), np.zeros_like(scale)
        if self.law == "plane":
            return self._plane_masses(r, scale)
        z, weight = (r - mu / 2.0, 1.0) if self.law == "one_signed" else (r, 2.0)
        spread = float(self.shift.width / self.shift.lower)
        p = interval_masses(z, 0.0, none, 0.0)
        q = interval_masses(z, -mu, scale, spread) * exp(-self.offset)
        return weight * p, weight * q

    def _plane_masses(self, r: Array, scale: Array) -> tuple[Bounds, Bounds]:
        """P's in closed form; Q's on narrow bins by quadrature, on wide ones also from P's and the ends of e^{−X}.

        With A the largest r + μ and w the width, the derivatives of f = r e^{−r²/2 − μr} are at most
        (A + 2)^9 (r (A + 2) + 10) e^{−r²/2 − μr} at order 10, so that five Gauss–Legendre nodes err by less than
        8e-12 (w (A + 2))^9 < 1e-17 of the mass.
        """
        low, high = Bounds.exact(r[:-1]), Bounds.exact(r[1:])
        p = exp(log_sub_exp(-low * low / 2.0, -high * high / 2.0)).clip(0.0, 1.0)
        mu, base = _middle(self.shift), _middle(self._base)
        with np.errstate(invalid="ignore", over="ignore"):  # a bin without an end is wide
            narrow = (r[1:] - r[:-1]) * (1.0 + mu + r[1:]) <= NARROW
        finite = np.where(narrow[:, None], np.stack([r[:-1], r[1:]], axis=1), 0.0)
        half = 0.5 * (finite[:, 1] - finite[:, 0])
        x = finite[:, :1] + half[:, None] * (1.0 + NODES)
        with np.errstate(over="ignore"):
            value = half * ((x * np.exp(np.where(narrow, scale, 0.0)[:, None] - base - x * (0.5 * x + mu))) @ WEIGHTS)
        size = 64.0 + 4.0 * (np.abs(scale) + base + finite[:, 1] * (finite[:, 1] + mu))
        error = UNIT_ROUNDOFF * size + 2.0 * float(self._base.width) + finite[:, 1] * float(self.shift.width)
        near = Bounds(lower=value, upper=value).inflate(np.minimum(error, 0.5))
        least, most = (exp(scale - self._base - self.shift * end) for end in (high, low))
        apart = exp(scale + log_sub_exp(self._log_q(low), self._log_q(high)))
        wide = Bounds(lower=np.maximum((p * least).lower, apart.lower), upper=np.minimum((p * most).upper, apart.upper))
        return p, where(narrow, near, wide)

    def _log_moment(self, s: float) -> Bounds:
        """Enclose log E_P[e^{sμR}]."""
        if self.law == "one_signed":
            return _log_add(log_ndtr(-self.shift / 2.0), self._log_moment_beyond(s, 0.0))
        if self.law == "two_signed" or s > 0:
            return self._log_moment_beyond(s, 0.0)
        fall = -s * self.shift
        mills = fall * ROOT_TWO_PI * exp(fall * fall / 2.0 + log_ndtr(-fall))
        return log((1.0 - mills).clip(0.0, 1.0))

    def _log_moment_beyond(self, s: float, r: float) -> Bounds:
        """Enclose log E_P[e^{sμR}; R > r], for s > 0 where the law is the plane's."""
        move = s * self.shift
        square = move * move / 2.0
        if self.law == "one_signed":
            return square + move * self.shift / 2.0 + log_ndtr(move + self.shift / 2.0 - r)
        if self.law == "two_signed":
            return LOG_TWO + square + log_ndtr(move - r)
        return square + _log_add(-(r - move) * (r - move) / 2.0, log(move * ROOT_TWO_PI) + log_ndtr(move - r))

    def _binned_moment(self, probability: float, power: float) -> Bounds:
        """log (1 + t p (E_Q[e^L] − 1) + E_Q[f(e^L)]), f = r^t − 1 − t p (e^L − 1) of one sign, see `binned_law`.

        In the last bin, where e^L = y >= 1, f <= p y^t for t > 1 and abs(f) <= abs(t) p y else; for y <= 1, as all
        losses of the reversed pair are, abs(f) is at most what it is at y = 0.
        """
        if power == 0.0 or (power == 1.0 and not self.reversed):
            return NONE
        sign, law = float(np.sign(power * (power - 1.0))), binned_law(self)
        beyond = abs(power) * probability * float(law.p.upper[-1])
        if self.reversed:
            at_zero = log_excess(np.array([-np.inf]), probability, power)[0]
            beyond = float(exp(at_zero + law.log_q[-1]).upper)
        elif power > 1:
            r = max(float(((Bounds.exact(law.low[-1]) - self._base) / self.shift).lower), 0.0)
            tail = (power - 1.0) * self._base + self._log_moment_beyond(power - 1.0, r)
            beyond = float((probability * exp(tail)).upper)
        bent = convex_sum(law, lambda loss: log_excess(loss, probability, power), beyond)
        seen = 1.0 - self._rest
        if self.reversed:
            return log(1.0 + sign * bent + power * probability * (seen - 1.0))
        nothing = self._rest * exp(power * log1p(Bounds.exact(-probability)))
        return log(seen + sign * bent + power * probability * self._rest + nothing)


def _log_add(a: Bounds, b: Bounds) -> Bounds:
    """Enclose log(e^a + e^b)."""
    small, large = (a, b) if a.upper <= b.upper else (b, a)
    return large + log1p(exp(small - large))


def _middle(x: Bounds) -> float:
    return float(0.5 * (x.lower + x.upper))
