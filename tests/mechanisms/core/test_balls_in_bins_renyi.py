"""Rényi bounds of balls in bins: closed orders, and quadrature over two steps in both directions."""

import itertools
import math

import numpy as np
import pytest

from mechanisms import (
    Allocated,
    ApproximateDP,
    BallsInBins,
    Gaussian,
    Laplace,
    PureDP,
    Repeat,
    Shuffled,
    UnsupportedProcess,
)
from mechanisms.core.balls_in_bins_renyi import with_against_without, without_against_with
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT


def run(step, times):
    return Allocated(Repeat(step, times), BallsInBins())


def remove(sigma):
    return Gaussian(noise_multiplier=sigma).pairs(ZERO_OUT)["remove"]


def two(sigma, power):
    """log E_Q X^power for T = 2, by the trapezoid rule."""
    mu = 1.0 / sigma
    reach = 9.0 + mu * max(abs(power), 1.0)
    x = np.linspace(-reach, reach, 2001)
    log_weight = -0.5 * x * x - 0.5 * math.log(2 * math.pi) + math.log(x[1] - x[0])
    log_r = mu * x - 0.5 * mu * mu
    log_ratio = np.logaddexp.outer(log_r, log_r) - math.log(2.0)
    return float(np.logaddexp.reduce((np.add.outer(log_weight, log_weight) + power * log_ratio).ravel()))


@pytest.mark.thinned(9)
@pytest.mark.parametrize("sigma", [0.7, 1.0, 3.0])
@pytest.mark.parametrize("order", [1.5, 2.0, 2.5, 4.0, 7.3])
def test_two_steps_have_divergences_below_the_bounds(sigma, order):
    remove_truth = two(sigma, order) / (order - 1.0)
    add_truth = two(sigma, 1.0 - order) / (order - 1.0)
    found = with_against_without(remove(sigma), 2, order), without_against_with(remove(sigma), 2, order)
    assert remove_truth * (1 - 1e-9) <= found[0] and add_truth * (1 - 1e-9) <= found[1]
    if order == round(order):
        assert found[0] <= remove_truth * (1 + 1e-9)
    assert found[1] <= add_truth * 1.02


@pytest.mark.parametrize("times", [2, 30, 10**4])
def test_the_bound_is_the_larger_direction_and_at_most_one_step(times):
    step = Gaussian(noise_multiplier=0.8)
    bound = run(step, times).renyi(ADD_REMOVE)
    for order in (1.01, 1.7, 2.0, 5.0, 33.3, 191.5, 192.0, 5_000.0):
        both = with_against_without(remove(0.8), times, order), without_against_with(remove(0.8), times, order)
        assert bound.divergence(order) == max(both) <= order * 0.5 / 0.64 * (1 + 1e-9)


def test_bounds_of_laplace_steps_are_finite_and_shrink_with_the_number_of_steps():
    found = [run(Laplace(noise_multiplier=1.0), times).renyi(ZERO_OUT).divergence(3.0) for times in (2, 8, 64, 512)]
    assert all(0 < later < earlier for earlier, later in itertools.pairwise(found))
    assert found[-1] < 0.02


def test_answers_to_two_categories_have_the_moments_of_their_counts():
    epsilon, times = 1.0, 6
    step = PureDP(epsilon=epsilon, adjacency="zero_out")
    q = 1.0 / (1.0 + math.exp(epsilon))
    counts = [math.comb(times, j) * q**j * (1 - q) ** (times - j) for j in range(times + 1)]
    ratios = [(j * math.exp(epsilon) + (times - j) * math.exp(-epsilon)) / times for j in range(times + 1)]
    for order in (2.0, 3.5, 9.0):
        forward, back = (
            math.log(sum(c * r**power for c, r in zip(counts, ratios, strict=True))) / (order - 1.0)
            for power in (order, 1.0 - order)
        )
        found = run(step, times).renyi(ZERO_OUT).divergence(order)
        assert max(forward, back) * (1 - 1e-12) <= found <= max(forward, back) * 1.1


def test_what_has_no_such_bound_is_refused_with_what_to_use():
    step = Gaussian(noise_multiplier=1.0)
    with pytest.raises(UnsupportedProcess, match=r"under replace_one\. Use accountant='pld'"):
        run(step, 3).renyi(REPLACE_ONE)
    with pytest.raises(UnsupportedProcess, match="leaves the floats"):
        run(Gaussian(noise_multiplier=0.01), 3).renyi(ADD_REMOVE)
    with pytest.raises(UnsupportedProcess, match="Shuffled: no Rényi bound of its own"):
        Allocated(Repeat(step, 3), Shuffled()).renyi(ZERO_OUT)


def test_what_may_give_the_record_away_has_no_finite_divergence():
    step = ApproximateDP(epsilon=1.0, delta=1e-3, adjacency="zero_out")
    pair = step.pairs(ZERO_OUT)["remove"]
    assert with_against_without(pair, 4, 2.0) == without_against_with(pair, 4, 2.0) == math.inf


def test_no_bound_is_known_at_the_infinite_order():
    assert run(Gaussian(noise_multiplier=1.0), 2).renyi(ZERO_OUT).divergence(math.inf) == math.inf
