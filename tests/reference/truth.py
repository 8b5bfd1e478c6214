"""The truth in many digits: hockey-stick divergences and moments straight from their definitions, by mpmath.

Nothing here is shared with the library: laws are given by densities or tables, tails by erfc, sums by quadrature.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mpmath as mp

Number = Any


def normal_cdf(x: Number) -> Number:
    """Φ(x), with relative accuracy in the lower tail."""
    return mp.erfc(-x / mp.sqrt(2)) / 2


def log_normal_cdf(x: Number) -> Number:
    """log Φ(x), with relative accuracy in both tails."""
    return mp.log(normal_cdf(x)) if x < 5 else mp.log1p(-normal_cdf(-x))


def normal_density(x: Number) -> Number:
    """φ(x)."""
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


@dataclass(frozen=True)
class Normal:
    """N(μ, 1) against N(0, 1)."""

    mu: Number

    def above(self, x: Number) -> tuple[Number, Number]:
        """P(L > x) and Q(L > x)."""
        z = x / self.mu + self.mu / 2
        return normal_cdf(self.mu - z), normal_cdf(-z)


@dataclass(frozen=True)
class Laplacian:
    """Lap(0, 1) against Lap(s, 1)."""

    shift: Number

    def above(self, x: Number) -> tuple[Number, Number]:
        """P(L > x) and Q(L > x): what lies left of z = (s − x)/2, as the loss |z − s| − |z| falls from s to −s."""
        if abs(x) > self.shift or x == self.shift:
            return (mp.mpf(0), mp.mpf(0)) if x > 0 else (mp.mpf(1), mp.mpf(1))
        z = (self.shift - x) / 2
        return 1 - mp.exp(-z) / 2, mp.exp(z - self.shift) / 2


@dataclass(frozen=True)
class Table:
    """Two tables of probabilities over the same outcomes."""

    p: Sequence[Number]
    q: Sequence[Number]

    def above(self, x: Number) -> tuple[Number, Number]:
        """P(L > x) and Q(L > x)."""
        seen = [(a, b) for a, b in zip(self.p, self.q, strict=True) if a > 0 and (b == 0 or mp.log(a) - mp.log(b) > x)]
        return mp.fsum(a for a, _ in seen), mp.fsum(b for _, b in seen)


@dataclass(frozen=True)
class SampledRemove:
    """(1 − q) Q + q P against Q, of a base (P, Q): its loss exceeds x where the base's exceeds log(1 + (e^x − 1)/q)."""

    base: Any
    probability: Number

    def above(self, x: Number) -> tuple[Number, Number]:
        """P(L > x) and Q(L > x)."""
        share = 1 + mp.expm1(x) / self.probability
        if share <= 0:
            p, q = (mp.mpf(1), mp.mpf(1)) if share < 0 else self.base.above(-mp.inf)
        else:
            p, q = self.base.above(mp.log(share))
        return (1 - self.probability) * q + self.probability * p, q


@dataclass(frozen=True)
class SampledAdd:
    """P against (1 − q) P + q Q, of a base (P, Q): the loss −log(1 − q + q e^{−L}) never exceeds −log(1 − q)."""

    base: Any
    probability: Number

    def above(self, x: Number) -> tuple[Number, Number]:
        """P(L > x) and Q(L > x)."""
        share = 1 + mp.expm1(-x) / self.probability
        p, q = self.base.above(-mp.log(share)) if share > 0 else (mp.mpf(0), mp.mpf(0))
        return p, (1 - self.probability) * p + self.probability * q


def sampled_gaussian(sigma: float, probability: float, direction: str) -> Any:
    """One step of the Gaussian mechanism on a Poisson sample, in a direction."""
    base = Normal(1 / mp.mpf(sigma))
    if probability == 1:
        return base
    kind = SampledRemove if direction == "remove" else SampledAdd
    return kind(base, mp.mpf(probability))


def sampled_laplace(scale: float, probability: float, direction: str) -> Any:
    """One step of the Laplace mechanism on a Poisson sample, in a direction."""
    base = Laplacian(1 / mp.mpf(scale))
    if probability == 1:
        return base
    kind = SampledRemove if direction == "remove" else SampledAdd
    return kind(base, mp.mpf(probability))


def delta(law: Any, epsilon: Number) -> Number:
    """P(L > ε) − e^ε Q(L > ε), for any real ε."""
    p, q = law.above(epsilon)
    return p - mp.exp(epsilon) * q


def delta_by_integration(p: Any, q: Any, epsilon: Number, points: Sequence[Number]) -> Number:
    """∫ (p − e^ε q)₊ of two densities on the line, split at `points`."""
    return mp.quad(lambda z: max(p(z) - mp.exp(epsilon) * q(z), 0), points)


def gaussian_densities(sigma: float, probability: float, direction: str) -> tuple[Any, Any]:
    """The densities of one Gaussian step on a Poisson sample, in a direction."""
    mu, share = 1 / mp.mpf(sigma), mp.mpf(probability)

    def without(z: Number) -> Number:
        return normal_density(z)

    def mixed(z: Number) -> Number:
        return (1 - share) * normal_density(z) + share * normal_density(z - mu)

    return (mixed, without) if direction == "remove" else (without, mixed)


def composed_delta(parts: Sequence[tuple[float, float]], direction: str, epsilon: Number) -> Number:
    """δ(ε) of several sampled Gaussian steps (σ, q): E_P[δ_rest(ε − L_first)] by nested quadrature.

    Split where the rest's loss reaches its end, at which δ_rest is smooth but not analytic: a tanh-sinh rule minds no
    such ends.
    """
    (sigma, probability), rest = parts[0], parts[1:]
    if not rest:
        return delta(sampled_gaussian(sigma, probability, direction), epsilon)
    p, _q = gaussian_densities(sigma, probability, direction)
    mu = 1 / mp.mpf(sigma)
    sign = 1 if direction == "remove" else -1  # of the slope of the loss
    end = sign * mp.fsum(mp.log1p(-mp.mpf(share)) if share < 1 else -mp.inf for _, share in rest)

    def weighted(z: Number) -> Number:
        return p(z) * composed_delta(rest, direction, epsilon - sign * _log_mixture(z, mu, mp.mpf(probability)))

    low, high = -16 - (mu if sign < 0 else 0), mu + 16
    points = mp.linspace(low, high, 9)
    share = 1 + mp.expm1(sign * (epsilon - end)) / mp.mpf(probability) if mp.isfinite(end) else mp.mpf(0)
    if share > 0 and low < (split := mp.log(share) / mu + mu / 2) < high:
        points.append(split)
    points.sort()
    size = max(weighted((3 * a + b) / 4) + weighted((a + 3 * b) / 4) for a, b in itertools.pairwise(points))
    if size == 0:
        return size
    return size * mp.quad(lambda z: weighted(z) / size, points, maxdegree=5)  # which stops at an absolute error


def _log_mixture(z: Number, mu: Number, share: Number) -> Number:
    return mp.log1p(share * mp.expm1(mu * z - mu * mu / 2)) if share < 1 else mu * z - mu * mu / 2


def log_sampled_moment(mu: Number, probability: Number, power: Number) -> Number:
    """log ∫ φ(z) (1 − q + q e^{μz − μ²/2})^t dz, by a trapezoidal rule far finer than double precision needs."""
    mu, q, t = mp.mpf(mu), mp.mpf(probability), mp.mpf(power)
    half_width = min(mp.mpf("0.95") * mp.pi / mu / (1 if t >= 0 else 2), mp.mpf(12))
    growth = half_width**2 / 2 - (0 if t >= 0 else -t * mp.log(mp.cos(mu * half_width / 2)))
    step = 2 * mp.pi * half_width / (growth + 82)
    excess = min(-t * mp.log(q), t * (t - 1) * mu**2 / 2) if t >= 1 else -abs(t) * mp.log1p(-q)
    reach = 16 + mp.sqrt(2 * excess)
    low, count = -reach, int((max(t, 1) * mu + 2 * reach) / step) + 2
    total = mp.fsum(_mixture_power(low + k * step, mu, q, t) for k in range(count))
    return mp.log(step * total / mp.sqrt(2 * mp.pi))


def _mixture_power(z: Number, mu: Number, q: Number, t: Number) -> Number:
    return mp.exp(t * _log_mixture(z, mu, q) - z * z / 2)


def sampled_excess(mu: float, probability: float, power: Number) -> Number:
    """∫ φ(z) (r^s − 1 − s (r − 1)) dz = E[r^s] − 1, r = 1 − q + q e^{μz − μ²/2}, at complex s.

    Two interleaved trapezoidal rules, each far finer than double precision needs, must agree to 25 digits of the
    largest term: that is the only error estimate, and it needs no bound. Digits are added for what cancels in terms.
    """
    with mp.workdps(45 - 2 * int(mp.floor(mp.log10(probability)))):
        return +_interleaved(mp.mpf(mu), mp.mpf(probability), mp.mpc(power))


def _interleaved(mu: Number, q: Number, s: Number) -> Number:
    turn = min(mp.mpf("0.9") * mp.pi, 12 * mu)
    low = -18 - max(0, 2 - s.real) * mu * min(1, q / (1 - q))
    high = 18 + (2 + max(s.real - 2, 0)) * mu
    step = 2 * mp.pi * (turn / mu) / ((turn / mu) ** 2 / 2 + abs(s.imag) * turn + 3 * abs(s.real) + 70)
    sums, largest = [], mp.mpf(0)
    for offset in (mp.mpf(0), step / 2):
        terms = [_second_order(low + offset + k * step, mu, q, s) for k in range(int((high - low) / step) + 1)]
        largest = max(largest, *(abs(term) for term in terms))
        sums.append(step * mp.fsum(terms) / mp.sqrt(2 * mp.pi))
    assert abs(sums[0] - sums[1]) <= mp.mpf("1e-25") * largest
    return (sums[0] + sums[1]) / 2


def _second_order(z: Number, mu: Number, q: Number, s: Number) -> Number:
    w = q * mp.expm1(mu * z - mu * mu / 2)
    return mp.exp(-z * z / 2) * (mp.exp(s * mp.log1p(w)) - 1 - s * w)


def line_delta(
    parts: Sequence[tuple[float, float, int]], direction: str, epsilon: float, theta: float, spacing: float
) -> Number:
    """δ(ε) of n sampled Gaussian steps (σ, q, n) each, 1/σ a float, by the trapezoidal rule on the line Re t = 1 + θ.

    Too large by its aliases, Σ_k e^{2πkθ/h} δ(ε + 2πk/h) over k ≠ 0; θ and h are chosen so that they don't show.
    """
    theta, spacing, total = mp.mpf(theta), mp.mpf(spacing), mp.mpf(0)
    for k in range(10_000):
        t = mp.mpc(1 + theta, k * spacing)
        s = t if direction == "remove" else 1 - t
        exponent = mp.mpf(epsilon) * (1 - t)
        for sigma, q, n in parts:
            mu = 1 / mp.mpf(sigma)
            exponent += n * (t * (t - 1) * mu**2 / 2 if q == 1 else mp.log1p(sampled_excess(1 / sigma, q, s)))
        term = mp.exp(exponent) / (t * (t - 1)) * spacing / mp.pi
        total += term.real / (1 if k else 2)
        if k > 8 and abs(term) < mp.mpf("1e-22") * total:
            return total
    raise AssertionError("the line does not end")
