"""The bounded Laplace mechanism: its pairs against all pairs of values, its least ε, budgets and Rényi divergences.

What is released is tested in `tests.mechanisms.core.test_conditioned`.
"""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant import epsilon_bounds
from mechanisms import Adjacency, BoundedLaplace, InvalidParameter, Repeat, from_json, to_json
from mechanisms.core.bounds import Bounds
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

multipliers, widths = st.floats(0.05, 20.0), st.floats(0.05, 60.0) | st.sampled_from((1.0, 2.0))


def made(multiplier, width):
    return BoundedLaplace(noise_multiplier=multiplier, lower=0.0, upper=width, sensitivity=1.0)


def below(z, x, width):
    """P(result <= z) for values x, in units of the scale: from both sides' integrals."""
    z, x = np.clip(z, 0.0, width), np.asarray(x)
    left = np.exp(np.minimum(z, x) - x) - np.exp(-x)
    right = -np.expm1(np.minimum(x - z, 0.0))
    return (left + right) / -(np.expm1(-x) + np.expm1(x - width))


def hockey_stick(x, y, width, at):
    """sup_z P_x(result <= z) − e^at P_y(result <= z) for x <= y, whose loss falls with z, and P_y against P_x."""
    log_mass = np.log(-(np.expm1(-x) + np.expm1(x - width))), np.log(-(np.expm1(-y) + np.expm1(y - width)))
    found = []
    for at_most, added in ((True, log_mass[1] - log_mass[0]), (False, log_mass[0] - log_mass[1])):
        crossing = (x + y + (added - at if at_most else at - added)) / 2
        z = np.clip(crossing, x, y)
        shown = below(z, x, width) - math.exp(at) * below(z, y, width)
        other = (1 - below(z, y, width)) - math.exp(at) * (1 - below(z, x, width))
        found.append(shown if at_most else other)
    return np.maximum(np.maximum(*found), max(0.0, -math.expm1(at)))


def all_values(movement, width):
    x = np.linspace(0.0, 1.0, 41)[:, None] * width
    t = np.linspace(0.0, 1.0, 17)[None, 1:] * min(movement, width)
    y = np.minimum(x + t, width)
    return np.broadcast_to(x, y.shape), y


@given(
    multipliers, widths, st.sampled_from([(ADD_REMOVE, "remove", 1), (REPLACE_ONE, "replace", 2), (ZERO_OUT, "add", 1)])
)
def test_the_pair_dominates_all_pairs_of_values_in_both_orders(multiplier, width, case):
    adjacency, direction, moved = case
    noise, scaled = made(multiplier, width), width / multiplier
    pair = noise.pairs(adjacency)[direction]
    x, y = all_values(moved / multiplier, scaled)
    largest = float(noise.largest_loss(adjacency).upper)
    for share in (0.0, 0.1, 0.4, 0.8, 0.95):
        shown = np.max(hockey_stick(x, y, scaled, share * largest))
        assert shown <= pair.delta(Bounds.exact(share * largest)).upper + 1e-12


@given(multipliers, widths)
def test_no_loss_is_above_the_largest_one_which_the_end_of_the_interval_shows(multiplier, width):
    noise, scaled = made(multiplier, width), mp.mpf(width) / mp.mpf(multiplier)
    movement = min(1 / mp.mpf(multiplier), scaled)

    def density(x):
        return mp.exp(-x) / (2 - mp.exp(-x) - mp.exp(x - scaled))

    with mp.workdps(40):
        shown = mp.log(density(mp.mpf(0)) / density(movement))
    found = noise.largest_loss(ADD_REMOVE)
    assert found.lower <= float(shown) * (1 + 1e-15) and float(shown) * (1 - 1e-15) <= found.upper
    x, y = all_values(float(movement), float(scaled))
    mass_x, mass_y = (2 - np.exp(-v) - np.exp(v - float(scaled)) for v in (x, y))
    assert np.max(y - x + np.abs(np.log(mass_y / mass_x))) <= found.upper * (1 + 1e-9) + 1e-12


@given(multipliers, widths)
def test_witnesses_show_what_named_values_show(multiplier, width):
    noise, scaled = made(multiplier, width), width / multiplier
    movement = min(1.0 / multiplier, scaled, 300.0)
    pairs = noise.pairs(ADD_REMOVE)
    middle = np.array((scaled - movement) / 2), np.array((scaled + movement) / 2)
    end = np.array(0.0), np.array(movement)
    for share in (0.0, 0.2, 0.6, 0.9):
        at = share * movement
        found = pairs["witness"].delta(Bounds.exact(at))
        assert found.lower - 1e-12 <= hockey_stick(*middle, scaled, at) <= found.upper + 1e-12
        truth = float(hockey_stick(*end, scaled, at))
        found = pairs["witness_reversed"].delta(Bounds.exact(at))
        assert truth * 0.99 - 2e-4 <= found.upper <= truth + 1e-12


def test_lower_ends_come_near_the_least_epsilon():
    found = epsilon_bounds(made(2.0, 10.0), delta=1e-14, accountant="pure")
    assert found.upper == pytest.approx(0.8305531815816055, abs=1e-13)
    assert found.lower > found.upper - 2e-4


@pytest.mark.parametrize("width", [0.3, 1.0])
def test_an_interval_that_a_record_spans_is_one_bit_of_its_width(width):
    """The normalising constants of both ends are equal, and nothing lies between two values but the interval."""
    noise = made(0.5, width)
    assert noise.largest_loss(ADD_REMOVE).contains(2.0 * width)
    assert noise.pairs(ADD_REMOVE)["remove"].losses == (-2.0 * width, 2.0 * width)


def test_a_wide_interval_costs_what_its_end_adds():
    assert made(2.0, 1e6).largest_loss(ADD_REMOVE).contains(0.5 + math.log(2 - math.exp(-0.5)))


@pytest.mark.parametrize(
    ("epsilon", "lower", "upper", "sensitivity", "scale"),
    [
        (1.0, 0.0, 10.0, 1.0, 1.6115601044179806),
        (0.3, -4.0, 5.0, 2.0, 11.489795409587817),
        (2.5, 0.0, 1.0, 1.0, 0.4),
        (0.05, 0.0, 3.0, 1.0, 33.19925099425089),
    ],
)
def test_budgets_ask_for_the_scale_of_diffprivlib(epsilon, lower, upper, sensitivity, scale):
    """That of LaplaceBoundedDomain in diffprivlib 0.6.6, which solves the fixed point of the paper."""
    noise = BoundedLaplace.for_budget(epsilon=epsilon, lower=lower, upper=upper, sensitivity=sensitivity)
    assert noise.noise_multiplier * sensitivity == pytest.approx(scale, rel=1e-12)
    assert noise.largest_loss(ADD_REMOVE).upper <= epsilon


@given(st.floats(1e-3, 30.0), widths)
def test_a_budget_is_kept_and_used_up(epsilon, width):
    noise = BoundedLaplace.for_budget(epsilon=epsilon, lower=0.0, upper=width, sensitivity=1.0)
    found = noise.largest_loss(ADD_REMOVE)
    assert epsilon * (1 - 1e-9) <= found.upper <= epsilon


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf, "1", 1e-308, 1e308])
def test_what_is_no_budget_is_refused(epsilon):
    with pytest.raises(InvalidParameter, match="BoundedLaplace: epsilon must"):
        BoundedLaplace.for_budget(epsilon=epsilon, lower=0.0, upper=1.0, sensitivity=1.0)


@pytest.mark.parametrize(("multiplier", "width"), [(2.0, 10.0), (0.7, 1.3), (3.0, 2.0)])
@pytest.mark.parametrize("order", [1.5, 4.0, 30.0])
def test_renyi_divergences_of_values_are_below_the_bound(multiplier, width, order):
    noise, scaled = made(multiplier, width), width / multiplier
    bound = noise.renyi(ADD_REMOVE).divergence(order)
    z = (np.arange(20000) + 0.5) / 20000 * scaled
    for share in (0.0, 0.3, 0.5):
        x = share * scaled
        y = min(x + 1.0 / multiplier, scaled)
        p, q = (np.exp(-np.abs(z - v)) / np.sum(np.exp(-np.abs(z - v))) for v in (x, y))
        for one, other in ((p, q), (q, p)):
            assert math.log(np.sum(one**order * other ** (1 - order))) / (order - 1) <= bound * (1 + 1e-6)


def test_many_releases_cost_what_their_range_says():
    """The Rényi curve of the range is that of as much Laplace noise, to first order."""
    found = epsilon_bounds(Repeat(made(30.0, 300.0), 200), delta=1e-6, accountant="rdp")
    pure = 200 * made(30.0, 300.0).largest_loss(ADD_REMOVE).upper
    assert found.upper < 0.25 * pure


def test_it_comes_back_from_json():
    noise = BoundedLaplace(noise_multiplier=0.3, lower=-1.5, upper=2.25, sensitivity=0.1)
    assert from_json(to_json(noise)) == noise and eval(repr(noise)) == noise
    assert noise.pairs(Adjacency.ADD_REMOVE) == from_json(to_json(noise)).pairs(Adjacency.ADD_REMOVE)
