"""Opposite records in a Poisson sample under replace-one: what they show of noise M_k around the places k = −1, 0, 1.

With all others contributing nothing, x and its opposite x' = −x show

    (1 − q) M_0 + q M_1    against    (1 − q) M_0 + q M_{−1}.

The masses of both on cells of outcomes, a few hundred of them, are a pair that seeing less of the same leaves: it is
attained, and gives lower ends.
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp

from mechanisms.core.bounds import Bounds, down, up
from mechanisms.core.discrete_pair import DiscretePair

DIGITS = 60
CELLS = 256
LEAST, MOST = 0.04, 1e9  # of the noise multipliers for which masses are right to 20 of these digits
NONE = Bounds(lower=0.0, upper=0.0)
Masses = list[mp.mpf]


def opposed_laplace(noise_multiplier: float, probability: float) -> DiscretePair | None:
    """Return the pair of Laplace noise moved by 1/noise_multiplier of its scale, on equal cells between both places."""
    if not LEAST <= noise_multiplier <= MOST or not 0.0 < probability < 1.0:
        return None

    def masses() -> list[Masses]:
        s = 1 / mp.mpf(noise_multiplier)
        edges = [s * (2 * mp.mpf(k) / CELLS - 1) for k in range(CELLS + 1)]
        return [_differences([_laplace_cdf(edge - k * s) for edge in edges]) for k in (-1, 0, 1)]

    return _pair(masses, probability)


def opposed_discrete(noise_multiplier: float, sensitivity: int, probability: float) -> DiscretePair | None:
    """Return the pair of discrete Laplace noise moved by `sensitivity`, every outcome between both places a cell."""
    if not LEAST <= noise_multiplier <= MOST or not 0.0 < probability < 1.0 or sensitivity > CELLS:
        return None

    def masses() -> list[Masses]:
        rate = 1 / (mp.mpf(noise_multiplier) * sensitivity)
        ratio = mp.exp(-rate)

        def below(z: int) -> mp.mpf:
            return ratio**-z / (1 + ratio) if z <= 0 else 1 - ratio ** (z + 1) / (1 + ratio)

        places = range(-sensitivity, sensitivity)
        return [_differences([below(z - k * sensitivity) for z in places]) for k in (-1, 0, 1)]

    return _pair(masses, probability)


def _pair(masses: Callable[[], list[Masses]], probability: float) -> DiscretePair:
    """Return the pair of the masses around −1, 0 and 1; the loss rises from cell to cell."""
    with mp.workdps(DIGITS):
        q = mp.mpf(probability)
        behind, middle, ahead = masses()
        p, other = ([(1 - q) * m + q * one for m, one in zip(middle, side, strict=True)] for side in (ahead, behind))
        losses = [float(mp.log(a / b)) for a, b in zip(p, other, strict=True)]
        found = [Bounds(lower=max(0.0, float(down(float(a)))), upper=min(1.0, float(up(float(a))))) for a in p]
    return DiscretePair(losses=tuple(losses), masses=tuple(found), infinite_mass=NONE, missing_mass=NONE, attained=True)


def _differences(values: Masses) -> Masses:
    """Return the masses of the cells that edges of these distribution functions cut the line into."""
    return [b - a for a, b in zip([mp.mpf(0), *values], [*values, mp.mpf(1)], strict=True)]


def _laplace_cdf(z: mp.mpf) -> mp.mpf:
    return mp.exp(z) / 2 if z < 0 else 1 - mp.exp(-z) / 2
