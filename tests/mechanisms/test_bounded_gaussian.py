"""The bounded Gaussian mechanism: its pairs against all pairs of values, its least ε and its Rényi divergences.

What is released is tested in `tests.mechanisms.core.test_conditioned`.
"""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from accountant import epsilon_bounds
from mechanisms import BoundedGaussian, Gaussian, Repeat, from_json, to_json
from mechanisms.core.bounds import Bounds
from mechanisms.gaussian import GaussianPair
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

multipliers, widths = st.floats(0.1, 20.0), st.floats(0.05, 12.0)


def made(multiplier, width):
    return BoundedGaussian(noise_multiplier=multiplier, lower=0.0, upper=width, sensitivity=1.0)


def mass(a, b):
    """P(a < noise < b), from the side of the smaller tail."""
    a, b = np.broadcast_arrays(a, b)
    low, high = np.where(a + b < 0, a, -b), np.where(a + b < 0, b, -a)
    return special.ndtr(high) - special.ndtr(low)


def above(k, x, width):
    """P_x(result > k)."""
    return mass(k - x, width - x) / mass(-x, width - x)


def all_values(movement, width):
    x = np.linspace(0.0, 1.0, 21)[:, None, None] * width
    t = np.linspace(0.0, 1.0, 9)[None, 1:, None] * min(movement, width)
    y = np.minimum(x + t, width)
    k = np.linspace(0.0, 1.0, 201)[None, None, :] * width
    return np.broadcast_to(x, y.shape), y, k


@given(
    multipliers, widths, st.sampled_from([(ADD_REMOVE, "remove", 1), (REPLACE_ONE, "replace", 2), (ZERO_OUT, "add", 1)])
)
def test_the_pair_dominates_all_thresholds_of_all_pairs_of_values(multiplier, width, case):
    adjacency, direction, moved = case
    pair = made(multiplier, width).pairs(adjacency)[direction]
    x, y, k = all_values(moved / multiplier, width / multiplier)
    p, q = above(k, x, width / multiplier), above(k, y, width / multiplier)
    for at in (0.0, 0.05, 0.3, 1.0, 2.5):
        most = max(np.max(q - math.exp(at) * p), np.max((1 - p) - math.exp(at) * (1 - q)))
        assert most <= pair.delta(Bounds.exact(at)).upper + 1e-11


@given(st.floats(0.05, 12.0), st.floats(0.0, 1.0))
def test_the_map_from_normal_noise_to_the_result_never_stretches(width, share):
    """T' = I(p)/f(p) <= 1: what the domination by the normal pair rests on."""
    x, p = share * width, np.linspace(0.001, 0.999, 999)
    low, whole = special.ndtr(-x), mass(-x, width - x)

    def profile(q):
        return np.exp(-(special.ndtri(q) ** 2) / 2)

    assert np.all(profile(p) <= profile(low + whole * p) / whole * (1 + 1e-9))


def test_the_normal_pair_is_that_of_as_much_noise():
    pair = made(0.5, 10.0).pairs(ADD_REMOVE)["remove"]
    known = Gaussian(noise_multiplier=0.5).pairs(ADD_REMOVE)["remove"]
    assert isinstance(pair, GaussianPair) and not pair.attained
    assert known.shift.contains(2.0) and pair.shift.contains(2.0)


def test_where_the_interval_is_wide_lower_ends_come_near_the_upper_ones():
    found = epsilon_bounds(Repeat(made(2.0, 40.0), 10), delta=1e-5)
    assert 0.97 * found.upper < found.lower <= found.upper


@given(multipliers, widths)
def test_no_loss_is_above_the_largest_one_which_the_far_end_shows(multiplier, width):
    noise, scaled = made(multiplier, width), mp.mpf(width) / mp.mpf(multiplier)
    with mp.workdps(60):
        movement = min(1 / mp.mpf(multiplier), scaled)

        def log_density(x):
            return -(x**2) / 2 - mp.log(mp.ncdf(scaled - x) - mp.ncdf(-x))

        shown = log_density(scaled - movement) - log_density(scaled)
        others = [
            log_density(scaled * share) - log_density(scaled * share + part * movement)
            for share in (0.0, 0.3, 0.7)
            for part in (0.2, 1.0)
            if scaled * share + part * movement <= scaled
        ]
        assert max([*others, mp.mpf(0)]) <= shown * (1 + mp.mpf("1e-30"))
    found = noise.largest_loss(ADD_REMOVE)
    assert found.lower <= float(shown) * (1 + 1e-15) and float(shown) * (1 - 1e-15) <= found.upper


@pytest.mark.parametrize("width", [0.1, 1.0, 1.5])
def test_in_a_narrow_interval_the_guarantee_is_pure_and_shown(width):
    noise = made(1.0, width)
    pairs, largest = noise.pairs(ADD_REMOVE), noise.largest_loss(ADD_REMOVE)
    assert pairs["remove"].supremum.contains(0.5 * (largest.lower + largest.upper))
    assert largest.lower * 0.995 < pairs["witness_reversed"].supremum.lower <= largest.upper


def test_what_is_tiny_has_a_largest_loss_to_all_digits():
    """s W/2 to first order: a difference of numbers that agree in hundreds of digits."""
    assert float(made(1e100, 1.0).largest_loss(ADD_REMOVE).upper) == pytest.approx(0.5e-200, rel=1e-12)


@pytest.mark.parametrize(("multiplier", "width"), [(2.0, 10.0), (0.7, 1.3), (5.0, 2.0)])
@pytest.mark.parametrize("order", [1.5, 4.0, 30.0])
def test_renyi_divergences_of_values_are_below_the_bound(multiplier, width, order):
    noise, scaled = made(multiplier, width), width / multiplier
    bound = noise.renyi(ADD_REMOVE).divergence(order)
    z = (np.arange(20000) + 0.5) / 20000 * scaled
    for share in (0.0, 0.3, 0.5):
        x = share * scaled
        y = min(x + 1.0 / multiplier, scaled)
        p, q = (np.exp(-((z - v) ** 2) / 2) / np.sum(np.exp(-((z - v) ** 2) / 2)) for v in (x, y))
        for one, other in ((p, q), (q, p)):
            assert math.log(np.sum(one**order * other ** (1 - order))) / (order - 1) <= bound * (1 + 1e-6)


def test_it_comes_back_from_json():
    noise = BoundedGaussian(noise_multiplier=0.3, lower=-1.5, upper=2.25, sensitivity=0.1)
    assert from_json(to_json(noise)) == noise and eval(repr(noise)) == noise
