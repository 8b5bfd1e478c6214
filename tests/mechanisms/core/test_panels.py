"""Errors of Gauss–Legendre panels, against the integrand itself on their ellipses."""

import math

import numpy as np
import pytest

from mechanisms.core.mixture_grid import log_shrink
from mechanisms.core.panels import AXES, QUADRATURE, Panels, log_ratio


def drawn(seed, count):
    """Random (q, centre, half width, Re s, |Im s|), of panels as narrow as their steepness asks for."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        q = float(rng.choice([1.0, 1 - 1e-12, 0.9, 0.3, 1e-3, 1e-9]))
        s, y = float(rng.choice([-1, 1]) * 10 ** rng.uniform(-2, 5)), float(10 ** rng.uniform(-9, 4))
        centre = float(rng.uniform(-6, 12))
        slope = q * math.exp(centre + 1) / (1 - q + q * math.exp(centre + 1))
        yield q, centre, min(0.5, 4 / (1 + (abs(s) + y) * slope)), s, y


def on_ellipse(centre, half):
    turns = np.exp(2j * np.pi * np.arange(512) / 512)
    return centre + half * (AXES[0] * turns.real + 1j * AXES[1] * turns.imag)


@pytest.mark.parametrize("seed", range(3))
def test_what_rules_miss_is_bounded_by_the_integrand_on_the_ellipse(seed):
    for q, centre, half, s, y in drawn(seed, 200):
        panel = Panels(half=np.array([half]), centres=np.array([centre]))
        w = q * np.expm1(on_ellipse(centre, half))
        for power in (complex(s, y), complex(s, -y)):
            with np.errstate(over="ignore", invalid="ignore"):
                size = np.abs(np.exp(power * np.log1p(w)) - 1 - power * w)
            rounding = 1e-13 * (1 + abs(power) * np.abs(w))
            largest = float(np.nanmax(np.where(np.isfinite(size), size - rounding, 0.0)))
            if largest < 1e290:
                assert panel.missed(np.zeros(1), q, s, y) >= QUADRATURE * half * largest * (1 - 1e-6)


def test_mixtures_with_one_have_no_less_than_the_modulus_that_is_counted():
    """|1 + τ (r − 1)| may be below both 1 and |r|, as a chord of a circle is nearer to its centre than its ends."""
    below = 0
    for q, centre, half, _, _ in drawn(7, 300):
        l, bottom = on_ellipse(centre, half), np.array([centre - AXES[0] * half])  # noqa: E741
        ratio = np.array([np.exp(centre + AXES[0] * half) * q / max(1 - q, 1e-300)])
        least = np.minimum(log_ratio(bottom, q), 0.0) + log_shrink(ratio, np.array([AXES[1] * half]))
        r = 1 + q * np.expm1(l)
        for share in (0.0, 0.2, 0.5, 0.8, 1.0):
            log_size = np.log(np.abs(1 + share * (r - 1)))
            assert np.all(log_size >= least - 1e-13)
            below += int(np.any(log_size < np.minimum(np.log(np.abs(r)), 0.0) - 1e-6))
    assert below > 10
