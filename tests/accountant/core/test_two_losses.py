"""The law of a sum of two-valued losses, against all 2^k outcomes in 60 digits."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from accountant.core import two_losses
from accountant.core.binomial import excess
from accountant.core.two_losses import sum_of

EPSILONS = np.array([-3.0, -0.2, 0.0, 0.07, 0.4, 1.0, 2.5, 9.0])


def outcomes(kinds):
    """(loss, probability) of every sequence of outcomes, equal sums not counted together."""
    laws = []
    for u, v, times in kinds:
        up, down = mp.mpf(u), mp.mpf(v)
        chance = mp.expm1(-down) / mp.expm1(-up - down)
        laws.extend([((up, chance), (-down, 1 - chance))] * times)
    for chosen in itertools.product(*laws):
        yield mp.fsum(loss for loss, _ in chosen), mp.fprod(chance for _, chance in chosen)


def brute_force(kinds, epsilons):
    table = list(outcomes(kinds))
    return [mp.fsum(p * -mp.expm1(mp.mpf(e) - x) for x, p in table if x > mp.mpf(e)) for e in map(float, epsilons)]


def enclosure(kinds, epsilons):
    above, below = (sum_of(kinds, above=side) for side in (True, False))
    return below.lower(epsilons), above.upper(epsilons)


def assert_encloses(kinds, *, width):
    with mp.workdps(60):
        truth = brute_force(kinds, EPSILONS)
        lower, upper = enclosure(kinds, EPSILONS)
        for low, value, high in zip(lower, truth, upper, strict=True):
            assert mp.mpf(low) <= value <= mp.mpf(high)
            assert mp.mpf(high) - mp.mpf(low) <= width * value + mp.mpf("1e-14")  # the losses are rounded


losses = st.sampled_from((1e-12, 1e-5, 0.03, 0.1, 0.5, 1.0, 4.0, 60.0))
kinds = st.lists(st.tuples(losses, losses, st.integers(1, 3)), min_size=1, max_size=3).map(tuple)


@given(kinds)
def test_the_sum_over_all_outcomes_is_enclosed(kinds):
    assert_encloses(kinds, width=1e-9)


@pytest.mark.parametrize(
    "kinds",
    [((700.0, 0.1, 2), (1e-6, 1e-3, 3)), ((1e5, 1e5, 2), (0.3, 0.2, 1)), ((5e-324, 1.0, 2), (0.5, 0.5, 2)), ()],
)
def test_losses_whose_exponentials_leave_the_floats_are_enclosed_too(kinds):
    assert_encloses(kinds, width=1e-9)


def test_what_is_moved_to_a_grid_still_encloses_the_sum_over_all_outcomes(monkeypatch):
    monkeypatch.setattr(two_losses, "GRIDS", (64, 64))
    kinds = tuple((0.02 * k, 0.015 * k, 1) for k in range(1, 12))
    sum_of.cache_clear()
    try:
        low, high = enclosure(kinds, EPSILONS)
    finally:
        sum_of.cache_clear()
    with mp.workdps(60):
        truth = np.array([float(value) for value in brute_force(kinds, EPSILONS)])
    assert np.all(low <= truth) and np.all(truth <= high)
    assert np.any(high - low > 1e-9 * high)  # the grid was used
    assert np.all(high - low <= 2e-2 * high + 1e-12)


def test_a_product_of_two_large_laws_is_made_coarser_on_either_side():
    kinds = ((0.02, 0.02, 20_000), (0.0133, 0.0133, 20_000))
    low, high = enclosure(kinds, np.array([0.0, 5.0, 15.0]))
    with mp.workdps(30):  # the normal law is within 1e-3 of a sum of 40,000
        mean, spread = 0.5 * (8.0 + 20_000 * 0.0133**2), math.sqrt(8.0 + 20_000 * 0.0133**2)
        for at, less, more in zip((0.0, 5.0, 15.0), low, high, strict=True):
            about = float(mp.ncdf((mean - at) / spread) - mp.exp(at) * mp.ncdf((mean - at) / spread - spread))
            assert less <= about * 1.01 and about * 0.99 <= more
    assert np.all(high - low <= 2e-2 * high)


@pytest.mark.parametrize("loss", [0.003, 0.5, 3.0])
@pytest.mark.parametrize("times", [1, 60, 10_000, 10**6])
def test_equal_answers_are_enclosed_around_the_binomial_sum(loss, times):
    epsilons = loss * times * np.array([0.0, 0.01, 0.3, 0.9]) * math.tanh(loss / 2)
    low, high = enclosure(((loss, loss, times),), epsilons)
    for less, more, epsilon in zip(low, high, epsilons, strict=True):
        truth = excess(times, loss, float(epsilon))
        assert less <= truth.upper and truth.lower <= more
        assert more - less <= 1e-8 * more


def test_what_has_too_many_atoms_or_leaves_the_floats_has_no_law():
    assert sum_of(((0.1, 0.1, 2**40),), above=True) is None
    assert sum_of(((1e300, 1e300, 1),), above=True) is None


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("loss", [1e10, 1e3])
def test_atoms_that_floats_cannot_tell_apart_are_moved_to_no_grid(loss, above):
    """A hundred thousand atoms at one float: 30 million losses of 1e-300 beside a large one."""
    law = sum_of(((1e-300, 1e-300, 30_000_000), (loss, loss, 1)), above=above)
    points = np.array([0.0, 0.5 * loss, 2.0 * loss])
    found = law.upper(points) if above else law.lower(points)
    assert found == pytest.approx([1.0, 1.0, 0.0], abs=1e-9)


@pytest.mark.parametrize(
    "kinds", [((1e100, 1e100, 2), (1.0, 1.0, 3)), ((4e18, 3.0, 2), (1e18, 7.0, 3), (900.0, 0.5, 2))]
)
def test_atoms_as_far_apart_as_floats_go_have_bounds(kinds):
    points = np.array([0.0, 1.0, 1e3, 1e18, 3.9e18, 9e18, 2e100])
    with mp.workdps(150):
        truth = brute_force(kinds, points)
        lower, upper = enclosure(kinds, points)
        assert all(mp.mpf(low) <= value <= mp.mpf(high) for low, value, high in zip(lower, truth, upper, strict=True))


@pytest.mark.parametrize("answers", [601, 606])  # δ = 1.5e-315 and 3.7e-324
def test_lower_ends_do_not_rise_above_what_floats_cannot_hold(answers):
    epsilon = 0.1 * (2 * answers + 48) + 0.37 * 0.1
    law = sum_of(((0.1, 0.1, 1300),), above=False)
    with mp.workdps(60):
        loss = mp.mpf(0.1)
        terms = [
            mp.binomial(1300, k)
            * mp.exp(k * loss)
            / (1 + mp.exp(loss)) ** 1300
            * -mp.expm1(epsilon - loss * (2 * k - 1300))
            for k in range(1301)
            if loss * (2 * k - 1300) > epsilon
        ]
        assert mp.mpf(float(law.lower(np.array([epsilon]))[0])) <= mp.fsum(terms)


def test_merged_atoms_of_cells_wider_than_exponentials_hold_have_finite_losses(monkeypatch):
    monkeypatch.setattr(two_losses, "GRIDS", (6, 6))
    kinds = ((2000.0, 3.0, 4), (1700.0, 2.0, 3), (0.5, 0.25, 3))
    law = sum_of(kinds, above=False, work=100)
    points = np.append(EPSILONS, [3000.0, 8e3, 13e3, 14e3])
    with mp.workdps(100):
        truth = brute_force(kinds, points)
        assert np.all(np.isfinite(law.losses))
        assert all(mp.mpf(float(low)) <= value for low, value in zip(law.lower(points), truth, strict=True))
