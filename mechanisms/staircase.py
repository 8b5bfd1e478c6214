"""The staircase mechanism: of all noise that is ε-private for a single number, the least in expected size.

[GV16] Q. Geng, P. Viswanath. The Optimal Noise-Adding Mechanism in Differential Privacy. IEEE Transactions on
Information Theory 62 (2016). arXiv:1212.1186.
[Mir12], [CSVW22] see `mechanisms.core.exact_noise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, exp, expm1
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.exact_noise import grid, number, rounded
from mechanisms.core.exact_reals import Enclosure, floor_of, logistic, minus_log
from mechanisms.core.exact_uniforms import LazyUniform, uniform_integer
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source

MOST_EPSILON = 350.0  # e^−700, of both neighbours apart, is still a normal float


@dataclass(frozen=True, slots=True, kw_only=True)
class Staircase(Mechanism):
    """Add sensitivity · X to a single number, where X has a density of steps that fall by e^−ε          [GV16].

        f(x) = a e^{−ε level(x)},   level(x) = ⌊|x|⌋ + [|x| − ⌊|x|⌋ >= γ],   a = (1 − e^−ε) / (2 (γ + e^−ε (1 − γ)))

    The sensitivity is the most by which one record moves the number; under replace-one neighbours it moves by at most
    twice that. For a symmetric density f that falls with |x|, log f(x)/f(x − s) is above 0 only where x < s/2, and
    there it never falls as s grows: so the largest movement is the worst one for every ε.

    Args:
        epsilon: ε in (0, 350] of one release, under add/remove and zero-out; replace-one costs 2ε.
        fraction: γ in [0, 1], the share of a step that comes before the fall; by default 1/(1 + e^{ε/2}), for which
            E|X| = e^{ε/2}/(e^ε − 1) is the least there is [GV16].

    Raises:
        InvalidParameter: if ε lies outside (0, 350] or the fraction outside [0, 1].

    >>> Staircase(epsilon=2.0).fraction == 1 / (1 + math.e)
    True
    """

    epsilon: float
    fraction: float = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        epsilon = validate.positive("Staircase", "epsilon", self.epsilon)
        if epsilon > MOST_EPSILON:
            raise InvalidParameter(f"Staircase: epsilon must be at most 350, got {epsilon}.")
        fraction = 1.0 / (1.0 + math.exp(epsilon / 2.0)) if self.fraction is None else self.fraction
        object.__setattr__(self, "epsilon", epsilon)
        object.__setattr__(self, "fraction", validate.probability("Staircase", "fraction", fraction))

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return X against X + 1, or against X + 2 under replace-one; m = min(γ, 1 − γ), q = e^−ε.

        | loss | P's mass, X + 1 | P's mass, X + 2 |
        |---|---|---|
        | 2ε | | 1/2 + a m |
        | ε | 1/2 + a m | a |1 − 2γ|, times q where γ < 1/2 |
        | 0 | a |1 − 2γ|, times q where γ < 1/2 | 2 a q m |

        and −l has e^−l times the mass of l.
        """
        q, share = exp(Bounds.exact(-self.epsilon)), Bounds.exact(self.fraction)
        a = -expm1(Bounds.exact(-self.epsilon)) / (2.0 * (share + q * (1.0 - share)))
        least = share if self.fraction <= 0.5 else 1.0 - share
        flat = a * (1.0 - 2.0 * least).clip(0.0, 1.0) * (q if self.fraction < 0.5 else Bounds.exact(1.0))
        masses = [0.5 + a * least, flat]
        if adjacency is Adjacency.REPLACE_ONE:
            masses.append(2.0 * a * q * least)
        atoms: dict[float, Bounds] = {}
        for falls, mass in zip(range(len(masses) - 1, -1, -1), masses, strict=True):
            loss = falls * self.epsilon
            atoms |= {loss: mass.clip(0.0, 1.0), -loss: (mass * exp(Bounds.exact(-loss))).clip(0.0, 1.0)}
        losses = tuple(sorted(loss + 0.0 for loss in atoms if atoms[loss].upper > 0))
        none = Bounds.exact(0.0)
        pair = DiscretePair(
            losses=losses,
            masses=tuple(atoms[loss] for loss in losses),
            infinite_mass=none,
            missing_mass=none,
            attained=True,
        )
        return dict.fromkeys(adjacency.directions, pair)

    def release(self, value: Any, *, sensitivity: float, randomness: Source, granularity: float | None = None) -> float:
        """Return `value` plus noise, rounded to a multiple of the granularity.

        Guarantees: the result is a fixed function, a rounding, of value + noise for an ideal real-valued noise, so that
        the pair prices it as it is, floating-point attacks included [Mir12]: |X| = G + V with G = ⌊E/ε⌋ of an
        exponential E, and V uniform before the fall or behind it, all of as many digits as it takes. How long that
        takes is no part of the guarantee. That one record moves the float `value` by at most the sensitivity is for the
        caller to see to [CSVW22]. Clamping the result to a public range is post-processing.

        Args:
            value: a finite number, taken exactly; the caller has bounded every record's contribution to it.
            sensitivity: > 0.
            randomness: a `SystemSource` for real releases.
            granularity: a power of two, public; by default fraction · sensitivity / 2^40 rounded down to one.

        Raises:
            InvalidParameter: if the value is no single finite number, the sensitivity not above 0, or the granularity
                no power of two.

        >>> from mechanisms import KeyedSource
        >>> round(Staircase(epsilon=1.0).release(10.0, sensitivity=1.0, randomness=KeyedSource(0)), 3)
        9.775
        """
        scale = Fraction(validate.positive("Staircase", "sensitivity", sensitivity))
        fine = grid("Staircase", scale * (Fraction(self.fraction) or 1), granularity)
        exact = number("Staircase", value)
        steps, position = self._steps(randomness), self._position(randomness)
        sign = 1 - 2 * uniform_integer(randomness, "staircase", 2)

        def noise(precision: int) -> tuple[Fraction, Fraction]:
            low, high = sorted(sign * scale * (steps + end) for end in position(precision))
            return low, high

        return rounded(exact, fine, noise)

    def _steps(self, randomness: Source) -> int:
        """Return G with P(G >= k) = e^{−kε}."""
        u, rate = LazyUniform(randomness, "staircase"), Fraction(self.epsilon)

        def enclose(precision: int) -> tuple[Fraction, Fraction]:
            low, high = minus_log(u, precision)
            return Fraction(low, 1 << precision) / rate, Fraction(high, 1 << precision) / rate

        return floor_of(enclose)

    def _position(self, randomness: Source) -> Enclosure:
        """Return ever narrower enclosures of V, of density in proportion to 1 on [0, γ) and to e^−ε on [γ, 1)."""
        v, fall = LazyUniform(randomness, "staircase"), Fraction(self.fraction)
        start, width = (Fraction(0), fall) if self._before_the_fall(randomness) else (fall, 1 - fall)

        def enclose(precision: int) -> tuple[Fraction, Fraction]:
            low, high = v.to(precision).ends()
            return start + width * low, start + width * high

        return enclose

    def _before_the_fall(self, randomness: Source) -> bool:
        """Return a coin of chance γ/(γ + e^−ε (1 − γ)); behind it the odds are e^−ε (1 − γ)/γ."""
        if self.fraction in (0.0, 1.0):
            return self.fraction == 1.0
        behind = partial(logistic, Fraction(self.epsilon), 1 / Fraction(self.fraction) - 1)
        return not LazyUniform(randomness, "staircase").is_below(behind)
