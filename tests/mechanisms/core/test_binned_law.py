"""Moments by bins: the functions of large losses that they sum, to 60 digits."""

import math

import mpmath as mp
import numpy as np
import pytest

from accountant import epsilon_bounds
from mechanisms import Adjacency, Gaussian, Repeat, Sampled, WithReplacement
from mechanisms.core.binned_law import BinnedLaw, convex_sum, cumulants, log_excess
from mechanisms.core.bounds import Bounds
from mechanisms.truncated_laplace import TruncatedLaplace


@pytest.mark.parametrize("probability", [1.0, 0.3, 1e-12, 1e-200])
@pytest.mark.parametrize("power", [1.0 + 1e-9, 1.0001, 1.5, 2.0, 32.0, 5000.0])
def test_the_excess_of_a_power_over_its_tangent_is_enclosed_at_losses_that_leave_the_floats(probability, power):
    losses = np.array([500.0, 599.0, 601.0, 650.0, 709.0, 710.0, 1e3, 1234.5, 4e3, 1e5]) - math.log(probability)
    found = log_excess(losses, probability, power)
    with mp.workdps(60):
        p, t = mp.mpf(probability), mp.mpf(power)
        for loss, lower, upper in zip(losses, found.lower, found.upper, strict=True):
            grown = mp.expm1(mp.mpf(float(loss)))
            truth = mp.log((1 + p * grown) ** t - 1 - t * p * grown)
            assert lower <= truth <= upper
            assert upper - lower <= 1e-6 * abs(truth)


@pytest.mark.slow
def test_many_copies_of_little_noise_have_finite_moments():
    """Ten draws may all be of one record, of losses up to thousands."""
    drawn = Sampled(Gaussian(noise_multiplier=1.0), WithReplacement(batch_size=10, records=1000))
    found = epsilon_bounds(Repeat(drawn, 10), delta=1e-5, accountant="rdp")
    assert found.upper >= epsilon_bounds(Repeat(drawn, 10), delta=1e-5).lower and found.upper < 40.0


def test_sums_that_leave_the_floats_are_infinite_without_a_warning():
    """Both ends of a bin, of which the masses leave open where in it they lie, give nearly the largest float."""
    p = Bounds(lower=np.exp(np.array([1.1])), upper=np.exp(np.array([1.9])))
    law = BinnedLaw(low=np.array([1.0]), high=np.array([2.0]), p=p, log_q=Bounds.exact(np.zeros(1)))
    found = convex_sum(law, lambda loss: Bounds.exact(np.full_like(loss, 709.7)), 0.0)
    assert found.lower <= 1.66e308 and math.isinf(found.upper)


def test_bins_that_hold_no_known_mass_do_not_count_among_cumulants():
    pair = TruncatedLaplace(noise_multiplier=0.03, bound=1.0000001).pairs(Adjacency.REPLACE_ONE)["replace"]
    assert all(np.all(np.isfinite(found)) for found in cumulants(pair, np.array([-2.0, 0.5, 50.0])))
