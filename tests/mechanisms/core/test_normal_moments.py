"""Moments of sampled normals against 50-digit quadrature, above all where alternating series lose all digits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from mechanisms.core.bounds import Bounds
from mechanisms.core.normal_moments import log_moments

CASES = [
    # (μ, q, powers, relative width)
    (1 / 12, 0.4, (58.5, 58.9, 59.5), 1e-12),  # negative moments in a peer, once
    (1.0, 0.1, (1.001, 1.01, 1.1, 1.2), 1e-9),  # no convergence in a peer
    (1.0, 1e-6, (1.5, 2.0, 5.5, 12.0, -0.5, -5.0, -40.0), 1e-7),
    (1.0, 0.01, (1.5, 2.0, 10.5, 0.5, 0.01, -1.0, -9.5), 1e-10),
    (2.0, 0.9, (1.3, 7.5, -0.3, -6.0), 1e-11),
    (0.25, 0.01, (20.0, 63.5, -19.0), 1e-11),
    (10.0, 0.01, (1.25, -0.25, -3.5), 1e-10),
    (0.05, 0.999, (3.0, 40.0, -40.0), 1e-11),
    (5.0, 0.5, (-30.0, 0.3), 1e-11),
]


def exact(mu, q, t):
    """log(1 + ∫ φ (r^t − 1 − t (r − 1))), by mpmath."""
    with mp.workdps(50):
        mu, q, t = mp.mpf(mu), mp.mpf(q), mp.mpf(t)

        def term(z):
            w = q * mp.expm1(mu * z - mu * mu / 2)
            return mp.npdf(z) * (mp.exp(t * mp.log1p(w)) - 1 - t * w)

        reach = 16 + (mp.sqrt(2 * t * mp.log1p(-q)) if t < 0 else 0)
        high = max(t, 1) * mu + reach
        return mp.log1p(mp.quad(term, mp.linspace(-reach, high, int(high + reach) // 2 + 2), method="gauss-legendre"))


@pytest.mark.thinned(5)
@pytest.mark.parametrize(("mu", "q", "powers", "width"), CASES)
def test_moments_lie_in_their_enclosures_together_and_alone(mu, q, powers, width):
    together = log_moments(Bounds.exact(mu), q, np.array(powers))
    for i, power in enumerate(powers):
        truth = exact(mu, q, power)
        alone = log_moments(Bounds.exact(mu), q, np.array([power]))
        for lower, upper in ((together.lower[i], together.upper[i]), (alone.lower[0], alone.upper[0])):
            assert lower <= truth <= upper
            assert upper - lower <= width * abs(truth)


@given(st.floats(0.02, 12.0), st.floats(1e-8, 0.99), st.integers(2, 64))
def test_whole_moments_are_the_binomial_sum(mu, q, power):
    found = log_moments(Bounds.exact(mu), q, np.array([float(power)]))[0]
    with mp.workdps(60):
        chance, square = mp.mpf(q), mp.mpf(mu) ** 2
        terms = (
            mp.binomial(power, k) * (1 - chance) ** (power - k) * chance**k * mp.exp(k * (k - 1) * square / 2)
            for k in range(power + 1)
        )
        truth = mp.log(mp.fsum(terms))
    assert found.lower <= truth <= found.upper
    assert found.upper - found.lower <= 1e-10 * truth + 1e-16


def test_every_mu_of_an_enclosure_is_counted():
    wide = Bounds(lower=1.0 - 1e-9, upper=1.0 + 1e-9)
    for power in (2.0, 7.5, -3.0):
        found = log_moments(wide, 0.1, np.array([power]))[0]
        assert all(found.lower <= exact(mu, 0.1, power) <= found.upper for mu in (wide.lower, wide.upper))


def test_a_mu_that_is_hardly_known_still_has_a_valid_bound():
    found = log_moments(Bounds(lower=0.5, upper=1.5), 0.1, np.array([3.0, -2.0]))
    for i, power in enumerate((3.0, -2.0)):
        assert found.lower[i] <= exact(0.5, 0.1, power) < exact(1.5, 0.1, power) <= found.upper[i]


@pytest.mark.parametrize("mu", [1e-200, 1e-9, 50.0, 1e9, 1e200])
@pytest.mark.parametrize("q", [1e-200, 1e-9, 0.5, 1 - 2**-53])
def test_extreme_parameters_give_ordered_bounds_of_the_right_sign(mu, q):
    powers = np.array([-1e4, -3.0, 0.0, 0.5, 1.0, 1.0009765625, 2.0, 16385.0, 1e12])
    found = log_moments(Bounds.exact(mu), q, powers)
    inside = (powers > 0) & (powers < 1)
    assert np.all(np.where(inside, found.upper <= 0, found.lower >= 0))
