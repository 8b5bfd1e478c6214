"""Moments of discrete Gaussians against sums of their terms at 80 digits, on both routes."""

import mpmath as mp
import numpy as np
import pytest

from mechanisms.core.bounds import Bounds
from mechanisms.core.lattice_moments import log_lattice_moments, tilted
from mechanisms.core.lattice_normal import LatticeNormal

POWERS = np.array([-12.3, -2.0, -0.5, 0.0, 0.3, 1.0, 1.0001, 1.5, 2.0, 2.25, 7.7])


def law(sigma):
    return LatticeNormal(sigma=Bounds.exact(sigma))


def terms(sigma, shift, q, power):
    """The masses under Q and the terms of the moment at k around 0 and around power · shift."""
    share, reach = 1 / (2 * mp.mpf(sigma) ** 2), int(30 * sigma) + 30
    for k in range(int(min(0, power * shift)) - reach, int(max(0, power * shift)) + reach + 1):
        mass, loss = mp.exp(-share * k * k), share * (2 * k * shift - shift * shift)
        yield k, mass, mass * (1 - q + q * mp.exp(loss)) ** mp.mpf(power)


@pytest.mark.thinned(5)
@pytest.mark.parametrize(("sigma", "shift"), [(0.1, 1), (0.5, 1), (1.3, 3), (2.0, 1), (3.0, 2), (7.7, 60)])
@pytest.mark.parametrize("q", [1.0, 0.3, 1e-4, 1 - 2.0**-30])
def test_moments_enclose_the_sums(sigma, shift, q):
    found = log_lattice_moments(law(sigma), shift, q, POWERS)
    with mp.workdps(80):
        for i, power in enumerate(POWERS):
            _, masses, parts = zip(*terms(sigma, shift, mp.mpf(q), float(power)), strict=True)
            truth = mp.log(mp.fsum(parts) / mp.fsum(masses)) if power not in (0.0, 1.0) else mp.mpf(0)
            slack = mp.mpf("1e-40") * (1 + abs(truth))
            assert mp.mpf(found.lower[i]) - slack <= truth <= mp.mpf(found.upper[i]) + slack
            assert found.width[i] <= 3e-8 * (abs(float(truth)) + 1e-3)


@pytest.mark.parametrize("sigma", [0.2, 0.8, 3.0])
def test_no_renyi_divergence_is_above_the_normal_one(sigma):
    orders = np.array([1.01, 1.5, 2.0, 3.3, 40.0])
    found = log_lattice_moments(law(sigma), 1, 1.0, orders) / (orders - 1.0)
    assert np.all(found.lower <= orders / (2 * sigma**2) * (1 + 1e-12))
    assert np.all(found.upper <= orders / (2 * sigma**2) * (1 + 1e-12))


@pytest.mark.parametrize("sigma", [0.3, 1.9, 2.0, 50.0])
@pytest.mark.parametrize("power", [-1e6, -3.3, 0.5, 1.0, 100.25, 1e200])
def test_moments_at_extremes_are_bounds_in_order(sigma, power):
    for q in (1.0, 1e-3, 1e-300):
        found = log_lattice_moments(law(sigma), 7, q, np.array([power]))
        assert found.lower[0] <= found.upper[0] and (found.upper[0] >= 0 or 0 < power < 1)


@pytest.mark.parametrize("sigma", [0.4, 1.7, 6.0])
def test_tilted_laws_have_the_mean_and_variance_of_the_terms(sigma):
    powers = np.array([-1.5, 0.0, 0.37, 2.5])
    mean, variance = tilted(law(sigma), 2, powers)
    for i, power in enumerate(powers):
        k, _, parts = (np.array(one, dtype=float) for one in zip(*terms(sigma, 2, 1, power), strict=True))
        weights = parts / np.sum(parts)
        assert abs(np.sum(weights * k) - mean[i]) < 1e-8
        assert abs(np.sum(weights * (k - mean[i]) ** 2) - variance[i]) < 1e-8 * sigma**2 + 1e-12
