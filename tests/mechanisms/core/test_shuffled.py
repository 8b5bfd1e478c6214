"""Shuffled batches: the published lower ends, and what is certified above them."""

import math

import numpy as np
import pytest

from accountant import compute_epsilon, delta_bounds, epsilon_bounds
from mechanisms import (
    Allocated,
    Gaussian,
    Laplace,
    PureDP,
    RandomizedResponse,
    Repeat,
    Shuffled,
    UnsupportedProcess,
    from_json,
    to_json,
)
from mechanisms.core.bounds import Bounds
from mechanisms.core.shuffled import largest_coordinate
from tests.strategies import ADD_REMOVE, ZERO_OUT


def run(step, times):
    return Allocated(Repeat(step, times), Shuffled())


def gaussian(sigma, times):
    return run(Gaussian(noise_multiplier=sigma), times)


# (T, σ): lower end at δ = 1e-6 by the largest coordinate, shared/reference papers.md §5 [Chua et al. 2024]
PUBLISHED = {
    (10**3, 0.3): 20.781221051637434,
    (10**3, 0.5): 10.99691454579357,
    (10**3, 0.7): 7.3090054249411835,
    (10**3, 1.0): 3.72389,
    (10**4, 0.4): 14.45076,
    (10**4, 0.5): 10.99479,
    (10**4, 0.6): 8.77209,
    (10**4, 0.7): 6.87960956304822,
    (10**4, 0.8): 4.940064948849502,
    (10**4, 1.0): 1.8956923572795357,
    (10**5, 0.5): 10.973831660505422,
    (10**5, 0.8): 2.9539880835245063,
    (10**5, 1.0): 0.46344409975357403,
}


@pytest.mark.parametrize(("times", "sigma"), PUBLISHED)
def test_published_lower_ends_are_reproduced(times, sigma):
    published, witness = PUBLISHED[times, sigma], gaussian(sigma, times).pairs(ZERO_OUT)["witness"]
    below, above = (witness.delta(Bounds.exact(published + step)) for step in (-1e-3, 1e-3))
    assert witness.attained and below.lower > 1e-6 > above.upper


def test_the_upper_end_of_gaussian_steps_is_unamplified():
    """Chua et al.: 10.99479 below, 10.99715 without shuffling."""
    found = epsilon_bounds(gaussian(0.5, 10**4), delta=1e-6, adjacency="zero_out")
    alone = compute_epsilon(Gaussian(noise_multiplier=0.5), delta=1e-6, adjacency="zero_out")
    assert abs(found.lower - 10.99479) < 1e-3 and math.isclose(found.upper, alone, rel_tol=1e-9)


def test_shuffling_is_far_worse_than_poisson_sampling():
    poisson = compute_epsilon(noise_multiplier=0.5, sample_rate=1e-4, steps=10**4, delta=1e-6)
    assert abs(poisson - 1.95322) < 5e-4
    assert epsilon_bounds(gaussian(0.5, 10**4), delta=1e-6, adjacency="zero_out").lower > 10.99


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.5])
def test_the_largest_of_two_coordinates_shows_no_more_than_both(shift, epsilon):
    x = np.linspace(-8.0, 8.0 + 2 * shift, 1601)
    step = x[1] - x[0]

    def density(mean):
        moved, still = (np.exp(-0.5 * (x - m) ** 2) / math.sqrt(2 * math.pi) for m in (mean, 0.0))
        return 0.5 * (np.multiply.outer(moved, still) + np.multiply.outer(still, moved)) * step * step

    p, q = density(2 * shift), density(shift)
    for reverse, (one, other) in ((False, (p, q)), (True, (q, p))):
        truth = float(np.sum(np.maximum(one - math.exp(epsilon) * other, 0.0)))
        seen = largest_coordinate(Bounds.exact(shift), 2, reverse=reverse).delta(Bounds.exact(epsilon))
        assert seen.lower <= truth * (1 + 1e-4) + 1e-7


@pytest.mark.parametrize("times", [2, 50, 10**4])
@pytest.mark.parametrize("cut", [1.0, 3.0, 4.5, 7.0])
def test_the_largest_coordinate_shows_at_least_any_one_cut(times, cut):
    """P(w >= c) − e^ε Q(w >= c), the published event, but for the grid of the cuts."""
    shift = 2.0

    def above(mean):
        below = [0.5 * math.erfc(-(cut - m) / math.sqrt(2)) for m in (mean, 0.0)]
        return -math.expm1(math.log(below[0]) + (times - 1) * math.log(below[1]))

    pair = largest_coordinate(Bounds.exact(shift), times, reverse=False)
    for epsilon in (0.0, 0.5, 2.0):
        event = above(2 * shift) - math.exp(epsilon) * above(shift)
        assert pair.delta(Bounds.exact(epsilon)).lower >= event - 1e-4


@pytest.mark.parametrize("step", [Gaussian(noise_multiplier=1.0), Laplace(noise_multiplier=1.0)], ids=repr)
def test_one_record_more_is_refused_with_what_to_use(step):
    with pytest.raises(UnsupportedProcess, match=r"moves the cuts.*Use adjacency='zero_out' or 'replace_one'"):
        run(step, 3).pairs(ADD_REMOVE)


def test_shuffled_answers_are_bracketed_as_the_clones_say():
    """Upper: .118148, as p = 2/(e^ε₀ + 1) is proved for these answers (shared/reference papers.md §5)."""
    found = epsilon_bounds(run(RandomizedResponse(epsilon=4.0), 10**5), delta=1e-6, adjacency="replace_one")
    assert 0.08 < found.lower <= 0.118148 + 1e-6 and abs(found.upper - 0.118148) < 1e-4


def test_shuffled_guarantees_are_bounded_as_the_clones_say():
    """Upper: .169770, of p = e^{−ε₀} (shared/reference papers.md §5); lower: that of answers, members of the class."""
    step = PureDP(epsilon=4.0, adjacency="replace_one")
    found = epsilon_bounds(run(step, 10**5), delta=1e-6, adjacency="replace_one")
    assert 0.08 < found.lower < found.upper and abs(found.upper - 0.169770) < 1e-4


@pytest.mark.thinned(5)
@pytest.mark.parametrize("adjacency", ["zero_out", "replace_one"])
@pytest.mark.parametrize("times", [2, 30, 3_000])
def test_shuffled_laplace_steps_cost_at_most_one_of_them(adjacency, times):
    step = Laplace(noise_multiplier=1.0)
    found = delta_bounds(run(step, times), epsilon=0.1, adjacency=adjacency)
    alone = delta_bounds(step, epsilon=0.1, adjacency=adjacency)
    assert 0 < found.lower <= found.upper <= alone.upper


def answers(local, times, own):
    """Return the law of how many of T answers are 1, where one record is `own` and all others are 0."""
    rest = 1.0 / (1.0 + math.exp(local))
    law = np.array([math.comb(times - 1, k) * rest**k * (1 - rest) ** (times - 1 - k) for k in range(times)])
    chance = 1.0 - rest if own else rest
    return np.append(law * (1.0 - chance), 0.0) + np.append(0.0, law * chance)


@pytest.mark.parametrize(("local", "times"), [(1.0, 5), (0.5, 40), (3.0, 200)])
def test_the_count_of_shuffled_answers_lies_between_the_ends(local, times):
    p, q = answers(local, times, True), answers(local, times, False)
    for epsilon in (0.0, 0.05, 0.5):
        truth = max(np.sum(np.maximum(a - math.exp(epsilon) * b, 0.0)) for a, b in ((p, q), (q, p)))
        found = delta_bounds(run(RandomizedResponse(epsilon=local), times), epsilon=epsilon, adjacency="replace_one")
        assert found.lower <= truth * (1 + 1e-9) + 1e-30 <= found.upper * (1 + 1e-9) + 1e-30
        assert found.lower >= 0.97 * truth - 1e-6


@pytest.mark.slow
def test_shuffled_epochs_compose():
    one = gaussian(1.0, 100)
    once, thrice = (
        epsilon_bounds(Repeat(one, epochs), delta=1e-6, adjacency="zero_out", accountant="pld") for epochs in (1, 3)
    )
    assert once.lower < thrice.lower <= thrice.upper
    alone = compute_epsilon(Repeat(Gaussian(noise_multiplier=1.0), 3), delta=1e-6, adjacency="zero_out")
    assert math.isclose(thrice.upper, alone, rel_tol=1e-6)


@pytest.mark.parametrize("adjacency", ["zero_out", "replace_one"])
def test_no_noise_gives_everything_away_in_any_order(adjacency):
    found = epsilon_bounds(gaussian(0.0, 4), delta=0.1, adjacency=adjacency)
    assert found.lower == found.upper == math.inf


@pytest.mark.parametrize("local", [1e-9, 50.0, 400.0, 600.0, 1e5])
@pytest.mark.parametrize("adjacency", ["zero_out", "replace_one"])
def test_extreme_guarantees_cost_at_most_one_of_them(local, adjacency):
    step = PureDP(epsilon=local, adjacency=adjacency)
    found = epsilon_bounds(run(step, 100), delta=1e-6, adjacency=adjacency)
    assert 0.0 <= found.lower <= found.upper <= epsilon_bounds(step, delta=1e-6, adjacency=adjacency).upper + 1e-8


@pytest.mark.parametrize("sigma", [1e-200, 1e-5, 1e200])
def test_extreme_noise_has_certified_ends(sigma):
    found = epsilon_bounds(gaussian(sigma, 1000), delta=1e-6, adjacency="zero_out")
    assert 0.0 <= found.lower <= found.upper


def test_the_witness_holds_where_ratios_leave_the_floats():
    found = epsilon_bounds(gaussian(0.01, 100), delta=1e-6, adjacency="zero_out")
    assert 500.0 < found.lower <= found.upper


def test_what_was_priced_comes_back_from_json():
    process = Repeat(run(Laplace(noise_multiplier=2.0), 7), 2)
    assert from_json(to_json(process)) == process
