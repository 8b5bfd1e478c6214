"""Balls in bins: directions, witnesses, repetition, and what is known of it elsewhere."""

import itertools
import math

import numpy as np
import pytest

from accountant import delta_bounds, epsilon_bounds
from mechanisms import (
    Adjacency,
    Allocated,
    ApproximateDP,
    BallsInBins,
    Compose,
    Gaussian,
    Laplace,
    Poisson,
    PureDP,
    RandomizedResponse,
    Repeat,
    Sampled,
    TruncatedPoisson,
    UnsupportedProcess,
    from_json,
    to_json,
)
from mechanisms.core.bounds import Bounds
from tests.contracts.coarse import COARSE
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT


def run(step, times):
    return Allocated(Repeat(step, times), BallsInBins())


def gaussian(sigma, times):
    return run(Gaussian(noise_multiplier=sigma), times)


@pytest.mark.parametrize(
    ("sigma", "times", "epsilon"), [(0.5, 2, 1.0), pytest.param(0.5, 10, 1.0, marks=pytest.mark.slow)]
)
def test_balls_in_bins_can_be_worse_than_poisson_samples_of_the_same_rate(sigma, times, epsilon):
    poisson = Repeat(Sampled(Gaussian(noise_multiplier=sigma), Poisson(probability=1.0 / times)), times)
    assert delta_bounds(gaussian(sigma, times), epsilon=epsilon).lower > delta_bounds(poisson, epsilon=epsilon).upper


def test_balls_in_bins_can_be_better_than_poisson_samples_of_the_same_rate():
    poisson = Repeat(Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.1)), 10)
    assert delta_bounds(gaussian(1.0, 10), epsilon=0.5).upper < delta_bounds(poisson, epsilon=0.5).lower


@pytest.mark.thinned(3)
@pytest.mark.parametrize("adjacency", [ADD_REMOVE, ZERO_OUT])
@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-10])
def test_brackets_of_gaussian_steps_are_narrow(adjacency, delta):
    found = epsilon_bounds(gaussian(1.0, 100), delta=delta, adjacency=adjacency.value)
    assert 0 < found.lower <= found.upper <= found.lower * (1 + 6e-3)


@pytest.mark.slow
def test_spreading_never_costs_more_than_being_in_every_bin():
    for step in (Gaussian(noise_multiplier=1.0), Laplace(noise_multiplier=0.7)):
        alone = delta_bounds(step, epsilon=0.4).upper
        found = [delta_bounds(run(step, times), epsilon=0.4) for times in (2, 8, 64)]
        assert found[0].upper <= alone * (1 + 2e-3)
        assert found[1].upper < found[0].lower and found[2].upper < found[1].lower


def test_epochs_compose():
    one = gaussian(1.0, 10)
    thrice, other, once = (
        epsilon_bounds(run, delta=1e-5, accountant=COARSE)
        for run in (Repeat(one, 3), Compose((one, Repeat(one, 2))), one)
    )
    assert thrice == other
    assert once.upper < thrice.lower <= thrice.upper <= thrice.lower * (1 + 6e-3)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    "step", [Gaussian(noise_multiplier=0.8), PureDP(epsilon=3.0, adjacency="add_remove")], ids=repr
)
@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.5])
def test_bins_in_bins_are_as_many_bins_as_there_are_in_all(step, epsilon):
    nested, flat = delta_bounds(run(run(step, 3), 5), epsilon=epsilon), delta_bounds(run(step, 15), epsilon=epsilon)
    assert nested.overlaps(flat) and nested.width <= 0.02 * flat.upper
    directions = run(run(step, 3), 5).pairs(ADD_REMOVE)
    for order, witness in (("remove", "witness"), ("add", "witness_reversed")):
        low, high = (directions[name].delta(Bounds.exact(epsilon)) for name in (witness, order))
        assert low.lower <= high.upper and high.upper - low.lower <= 0.02 * flat.upper


def test_a_step_with_a_witness_shows_what_named_neighbours_do():
    cut = Sampled(Gaussian(noise_multiplier=0.8), TruncatedPoisson(probability=0.4, largest_batch=9))
    whole = Sampled(Gaussian(noise_multiplier=0.8), Poisson(probability=0.4))
    for epsilon in (0.1, 0.5):
        found, plain = (delta_bounds(run(step, 4), epsilon=epsilon) for step in (cut, whole))
        assert math.isclose(found.lower, plain.lower, rel_tol=1e-6) and found.upper >= plain.upper


def two_epochs(sigma, epsilon):
    """δ of two epochs of two Gaussian steps, remove: the sum of the losses by their law on a fine grid of masses."""
    mu = 1.0 / sigma
    x = np.linspace(-9.0, 9.0 + 2 * mu, 751)
    weight = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    r = np.exp(mu * x - 0.5 * mu * mu)
    ratio = 0.5 * np.add.outer(r, r).ravel()
    q = np.multiply.outer(weight, weight).ravel()
    bins = np.linspace(np.log(ratio).min(), np.log(ratio).max(), 2001)
    at = np.clip(np.searchsorted(bins, np.log(ratio)) - 1, 0, 1999)
    mass, mean = np.bincount(at, q, 2000), np.bincount(at, q * ratio, 2000)
    some = mass > 0
    value = mean[some] / mass[some]
    product = np.multiply.outer(value, value)
    return float(np.sum(np.multiply.outer(mass[some], mass[some]) * np.maximum(product - math.exp(epsilon), 0.0)))


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("sigma", "epsilon"), [(1.0, 0.5), (0.7, 1.5)])
def test_two_epochs_of_two_steps_are_what_quadrature_says(sigma, epsilon):
    truth = two_epochs(sigma, epsilon)
    found = delta_bounds(Repeat(gaussian(sigma, 2), 2), epsilon=epsilon)
    assert found.lower <= truth * (1 + 1e-4) and truth * (1 - 1e-4) <= found.upper
    assert found.width <= 5e-3 * truth


@pytest.mark.parametrize("adjacency", Adjacency)
def test_one_bin_is_the_step_itself_and_none_costs_nothing(adjacency):
    step = Gaussian(noise_multiplier=1.3)
    assert epsilon_bounds(run(step, 1), delta=1e-5, adjacency=adjacency.value) == epsilon_bounds(
        step, delta=1e-5, adjacency=adjacency.value
    )
    assert epsilon_bounds(run(step, 0), delta=0.0, adjacency=adjacency.value).upper == 0.0


def test_replacing_is_bounded_by_the_step_and_below_by_zeroing():
    step = Gaussian(noise_multiplier=1.0)
    found = delta_bounds(run(step, 10), epsilon=0.5, adjacency="replace_one")
    zeroed = delta_bounds(run(step, 10), epsilon=0.5, adjacency="zero_out")
    alone = delta_bounds(step, epsilon=0.5, adjacency="replace_one")
    assert math.isclose(found.upper, alone.upper, rel_tol=1e-12)
    assert found.lower > 0 and math.isclose(found.lower, zeroed.lower, rel_tol=1e-6)


def test_answers_of_everybody_have_an_upper_end_alone():
    found = delta_bounds(run(RandomizedResponse(epsilon=1.0), 5), epsilon=0.5, adjacency="replace_one")
    assert found.lower == 0.0 < found.upper


def test_what_gives_the_record_away_for_certain_does_so_in_any_bin():
    found = epsilon_bounds(run(Gaussian(noise_multiplier=0.0), 5), delta=0.5)
    assert found.lower == found.upper == math.inf


def test_a_guarantee_that_may_fail_fails_as_often():
    step = ApproximateDP(epsilon=1.0, delta=1e-3, adjacency="zero_out")
    found = delta_bounds(run(step, 10), epsilon=5.0, adjacency="zero_out")
    assert found.contains(1e-3) and found.width < 1e-10


def test_ratios_that_leave_the_floats_are_bounded_by_the_step():
    step = Gaussian(noise_multiplier=0.01)
    found = delta_bounds(run(step, 5), epsilon=3_000.0)
    assert found.lower == 0.0 and found.upper == delta_bounds(step, epsilon=3_000.0).upper


@pytest.mark.parametrize("sigma", [1e8, 1e200])
def test_ratios_that_are_1_to_all_digits_are_bounded_by_the_step(sigma):
    found = delta_bounds(gaussian(sigma, 5), epsilon=0.0)
    assert found.upper <= delta_bounds(Gaussian(noise_multiplier=sigma), epsilon=0.0).upper * (1 + 1e-12)


@pytest.mark.slow
def test_beyond_the_most_steps_fewer_of_them_are_the_bound():
    found = delta_bounds(gaussian(1.0, 10**12), epsilon=0.0)
    assert found.lower == 0.0 < found.upper < 1e-4


def test_a_step_without_a_pair_is_refused_by_name():
    with pytest.raises(UnsupportedProcess, match="RandomizedResponse: its neighbours are replace_one"):
        run(RandomizedResponse(epsilon=1.0), 3).pairs(ADD_REMOVE)
    with pytest.raises(UnsupportedProcess, match=r"(?s)PureDP.*Use"):
        run(PureDP(epsilon=1.0, adjacency="zero_out"), 3).pairs(REPLACE_ONE)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("epochs", [4, 1])
def test_what_was_priced_comes_back_from_json(epochs):
    process = Repeat(gaussian(0.8, 6), epochs)
    again = from_json(to_json(process))
    assert again == process
    assert COARSE.profile(again, adjacency=ADD_REMOVE).epsilon(1e-4) == COARSE.profile(
        process, adjacency=ADD_REMOVE
    ).epsilon(1e-4)


def adaptive(times, local):
    """Return the laws of T answers with the record in a random step, and without it.

    A step tells a bit: 1 with odds e^ε with the record, e^−ε without; ε is `local` or, after a 1, a third of that.
    """

    def chance(bit, epsilon):
        return 1.0 / (1.0 + math.exp(-epsilon if bit else epsilon))

    p, q = [], []
    for bits in itertools.product((0, 1), repeat=times):
        levels = [local if t == 0 or not bits[t - 1] else local / 3.0 for t in range(times)]
        without = [chance(bit, -level) for bit, level in zip(bits, levels, strict=True)]
        ratios = [chance(bit, level) / none for bit, level, none in zip(bits, levels, without, strict=True)]
        q.append(math.prod(without))
        p.append(q[-1] * sum(ratios) / times)
    return np.array(p), np.array(q)


@pytest.mark.parametrize("times", [2, 3, 6])
def test_steps_chosen_on_what_was_seen_are_dominated(times):
    pairs = run(PureDP(epsilon=1.5, adjacency="zero_out"), times).pairs(ZERO_OUT)
    p, q = adaptive(times, 1.5)
    for direction, (one, other) in (("remove", (p, q)), ("add", (q, p))):
        for epsilon in (0.0, 0.1, 0.4, 0.8):
            truth = float(np.sum(np.maximum(one - math.exp(epsilon) * other, 0.0)))
            assert truth <= pairs[direction].delta(Bounds.exact(epsilon)).upper


def test_converted_renyi_bounds_lie_above_the_certified_lower_end_and_not_far():
    process, delta = gaussian(1.0, 100), 1e-6
    bound = process.renyi(ADD_REMOVE)
    orders = np.geomspace(1.5, 60.0, 80)
    divergences = np.array([bound.divergence(float(order)) for order in orders])
    converted = divergences + np.log1p(-1.0 / orders) - np.log(delta * orders) / (orders - 1.0)  # [CKS20, Prop 12]
    certified = epsilon_bounds(process, delta=delta)
    assert certified.lower <= np.min(converted) <= 1.75 * certified.upper


def test_a_step_that_is_only_witnessed_is_so_in_bins_in_both_orders():
    """One record and none, in cut samples or in those that are not: nothing is cut of one record."""
    cut, plain = (
        run(Sampled(Gaussian(noise_multiplier=0.5), scheme), 3).pairs(ADD_REMOVE)
        for scheme in (TruncatedPoisson(probability=0.5, largest_batch=2), Poisson(probability=0.5))
    )
    for order in ("witness", "witness_reversed"):
        assert cut[order] == plain[order] and cut[order].attained
    assert not run(Gaussian(noise_multiplier=0.5), 3).pairs(REPLACE_ONE)["replace"].attained
