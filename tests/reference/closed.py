"""δ(ε) of what has a closed form, each in a second way that shares no step with the first where there is one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import mpmath as mp

from tests.reference import truth
from tests.reference.steps import LaplaceStep, ResponseStep, SampledStep, Steps

Number = Any
Curve = Callable[[Number], Number]


def gaussians(steps: Steps) -> Curve:
    """Gaussian steps are one of μ² = Σ n μ_i²."""
    mu = mp.sqrt(mp.fsum(times * step.mu**2 for step, times in steps))
    return lambda epsilon: truth.delta(truth.Normal(mu), epsilon)


def single(step: SampledStep | LaplaceStep, direction: str) -> Curve:
    """One step on a Poisson sample, or one Laplace step: from where its loss exceeds ε."""
    base = step if isinstance(step, LaplaceStep) else truth.Normal(step.mu)
    if step.q == 1:
        return lambda epsilon: truth.delta(base, epsilon)
    law = (truth.SampledRemove if direction == "remove" else truth.SampledAdd)(base, mp.mpf(step.q))
    return lambda epsilon: truth.delta(law, epsilon)


def single_by_integration(step: SampledStep | LaplaceStep, direction: str) -> Curve:
    """∫ (p − e^ε q)₊ over the side of the kink where it is positive."""
    share, shift = mp.mpf(step.q), step.mu if isinstance(step, SampledStep) else step.span

    def without(z: Number) -> Number:
        return truth.normal_density(z) if isinstance(step, SampledStep) else mp.exp(-abs(z)) / 2

    def mixed(z: Number) -> Number:
        return (1 - share) * without(z) + share * without(z - shift)

    def curve(epsilon: Number) -> Number:
        p, q, sign = (mixed, without, 1) if direction == "remove" else (without, mixed, -1)
        level = 1 + mp.expm1(sign * epsilon) / share
        if level <= 0:
            return mp.mpf(0)
        loss = mp.log(level)  # of the step itself
        kink = loss / shift + shift / 2 if isinstance(step, SampledStep) else (loss + shift) / 2
        if isinstance(step, LaplaceStep) and not 0 <= kink <= shift:
            kink = mp.mpf(0) if kink < 0 else mp.inf
        if kink == mp.inf and sign > 0:
            return mp.mpf(0)
        far = [kink + sign * reach for reach in (0, 1, 3, 8, 20, 60, 200)]
        points = sorted({*far, *(x for x in (mp.mpf(0), shift) if min(far) < x < max(far))})
        size = p(kink)  # of the integrand, as the rule stops at an absolute error
        return size * mp.quad(lambda z: (p(z) - mp.exp(epsilon) * q(z)) / size, points, maxdegree=8)

    return curve


def laplace(step: LaplaceStep, times: int, extra: int = 0) -> Curve:
    """The contour integral of n equal Laplace steps, by residues.

    With M(t) = ((t − 1) e^{−tΔ} + t e^{(t−1)Δ}) / (2t − 1), M^n is a sum over k of
    C(n, k) (t − 1)^{n−k} t^k / (2t − 1)^n times an exponential in t (2k − n)Δ; only terms with a = (2k − n)Δ − ε > 0
    count, by their poles at ½ and, for k = n, at 1. They alternate: digits are added so that it does no harm, and
    `extra` more to see that they were enough.
    """
    n = times

    def curve(epsilon: Number) -> Number:
        with mp.workdps(mp.mp.dps + 40 + n // 2 + extra):
            d, total = step.span, mp.mpf(0)
            for k in range(n, -1, -1):
                a = (2 * k - n) * d - epsilon
                if a <= 0:
                    break
                scale = mp.binomial(n, k) * mp.exp(epsilon - k * d + a / 2) * mp.ldexp(1, -n)
                total += scale * _residue(n, k, a) + (1 if k == n else 0)
        return +total

    return curve


def _residue(n: int, k: int, a: Number) -> Number:
    """The coefficient of u^{n−1} in e^{au} (u − ½)^{n−k−1} (u + ½)^{k−1}, by the series' recurrence."""
    left, right = n - k - 1, k - 1
    half, powers = mp.mpf(1) / 2, [mp.mpf(1)]
    for j in range(1, n):
        powers.append(powers[-1] * a / j)
    before, now, total = mp.mpf(0), (-half) ** left * half**right, mp.mpf(0)
    for j in range(n):
        total += now * powers[n - 1 - j]
        before, now = now, 4 * ((j - 1 - left - right) * before - (left - right) * now / 2) / (j + 1)
    return total


def responses(step: ResponseStep, times: int) -> Curve:
    """n equal randomised responses: P(S = s), S the answers' net number, from the largest s by the power's recurrence.

    f = (a + b x + c x²)^n has g f′ = n g′ f: a j f_j = (n − j + 1) b f_{j−1} + (2n − j + 2) c f_{j−2}, all terms >= 0.
    """
    (own, other, same) = (mass for mass, _ in step.masses("replace"))
    single_loss = mp.mpf(step.epsilon)
    masses, known = [own**times], {}

    def mass(j: int) -> Number:
        while len(masses) <= j:
            i = len(masses)
            older = masses[i - 2] if i > 1 else 0
            masses.append(((times - i + 1) * same * masses[i - 1] + (2 * times - i + 2) * other * older) / (own * i))
        return masses[j]

    def curve(epsilon: Number) -> Number:
        last = min(int(mp.ceil(times - epsilon / single_loss)), 2 * times + 1)
        if last not in known:
            share = mp.exp(-single_loss)
            held = [mass(j) for j in range(max(last, 0))]
            lost = mp.fsum(value * share ** (times - j) for j, value in enumerate(held))
            known[last] = mp.fsum(held), lost
        return known[last][0] - mp.exp(epsilon) * known[last][1]

    return curve


def responses_by_tails(step: ResponseStep, times: int) -> Curve:
    """The same by binomials: how many answers are neither category, then how many of the rest are the record's own."""
    single_loss, least = mp.mpf(step.epsilon), mp.mpf(10) ** (-mp.mp.dps - 5)
    own, chance = (
        mp.exp(single_loss) / (1 + mp.exp(single_loss)),
        (step.categories - 2) / (mp.exp(single_loss) + step.categories - 1),
    )

    def mass(n: int, k: int, p: Number) -> Number:
        logs = mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)
        return mp.exp(logs + k * mp.log(p) + (n - k) * mp.log1p(-p))

    def tail(n: int, first: int, p: Number) -> Number:
        odds = p / (1 - p)
        term = total = mass(n, first, p)
        for k in range(first, n):
            if term <= least * total and (n - k) * odds <= k + 1:
                break
            term *= (n - k) * odds / (k + 1)
            total += term
        return total

    def curve(epsilon: Number) -> Number:
        total = mp.mpf(0)
        for others in range(times if chance else 0, -1, -1):
            n = times - others
            first = max(int(mp.floor((epsilon / single_loss + n) / 2)) + 1, 0)
            if first <= n:
                weight = mass(times, others, chance) if chance else 1
                total += weight * (tail(n, first, own) - mp.exp(epsilon) * tail(n, first, 1 - own))
        return total

    return curve


def tables(steps: Steps, direction: str) -> Curve:
    """Steps of finitely many outcomes: their losses and masses multiplied out, one term a multiset of outcomes."""
    laws, finite = [(mp.mpf(0), mp.mpf(1))], mp.mpf(1)
    for step, times in steps:
        law = list(_power([(mp.log(a / b), a) for a, b in step.masses(direction) if a and b], times))
        laws = [(x + y, a * b) for x, a in laws for y, b in law]
        finite *= (1 - step.infinite(direction)) ** times
    return lambda epsilon: 1 - finite + mp.fsum(-a * mp.expm1(epsilon - x) for x, a in laws if x > epsilon)


def _power(law: Sequence[tuple[Number, Number]], times: int) -> Any:
    """(loss, mass) of `times` independent draws, one a multiset: bars among stars."""
    size = len(law)
    for bars in itertools.combinations(range(times + size - 1), size - 1):
        counts = [b - a - 1 for a, b in itertools.pairwise((-1, *bars, times + size - 1))]
        ways, left = 1, times
        for count in counts:
            ways, left = ways * int(mp.binomial(left, count)), left - count
        mass = ways * mp.fprod(a**count for (_, a), count in zip(law, counts, strict=True))
        yield mp.fdot((x, count) for (x, _), count in zip(law, counts, strict=True)), mass


def tables_by_convolution(steps: Steps, direction: str) -> Curve:
    """The same as P(L > ε) − e^ε Q(L > ε), one step convolved after the other."""
    laws = {mp.mpf(0): (mp.mpf(1), mp.mpf(1))}
    for step, times in steps:
        law = [(mp.log(a / b) if b else mp.inf, a, b) for a, b in step.masses(direction) if a]
        for _ in range(times):
            longer: dict[Number, tuple[Number, Number]] = {}
            for x, (p, q) in laws.items():
                for y, a, b in law:
                    key = mp.mpf(mp.nstr(x + y, 40))  # equal losses by different roads
                    old = longer.get(key, (0, 0))
                    longer[key] = old[0] + p * a, old[1] + q * b
            laws = longer

    def curve(epsilon: Number) -> Number:
        seen = [law for x, law in laws.items() if x > epsilon]
        return mp.fsum(p for p, _ in seen) - mp.exp(epsilon) * mp.fsum(q for _, q in seen)

    return curve


def nested(steps: Steps, direction: str) -> Curve:
    """Two or three Gaussian steps, sampled or not, by nested quadrature in the order given."""
    listed = [step for step, times in steps for _ in range(times)]
    parts = [(step.sigmas[0], step.q) if isinstance(step, SampledStep) else (step.sigma, 1.0) for step in listed]
    return lambda epsilon: truth.composed_delta(parts, direction, epsilon)
