"""Draws with replacement: weights, every neighbour of a small mechanism, the law that fails, groups."""

import itertools
import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest

from accountant import delta_bounds, epsilon_bounds
from accountant.pld import PLD
from mechanisms import (
    ApproximateDP,
    FixedSize,
    Gaussian,
    Laplace,
    PureDP,
    Repeat,
    Sampled,
    UnsupportedProcess,
    WithReplacement,
)
from mechanisms.core.bounds import Bounds
from mechanisms.core.copies import binomial_weights
from mechanisms.core.renyi import PairDivergence
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

G = Gaussian(noise_multiplier=1.0)
EPSILON, RECORDS, DRAWS = 0.7, 4, 3
RATIOS = np.exp(np.linspace(0.0, 2.2, 12))


def held(bounds, exact):
    return Fraction(bounds.lower) <= exact <= Fraction(bounds.upper)


@pytest.mark.parametrize(("trials", "records"), [(1, 2), (10, 10), (3, 1000), (500, 1000)])
def test_weights_are_binomial_and_what_they_leave_is_bounded(trials, records):
    weights, beyond = binomial_weights("test", trials, Fraction(1, records))
    exact = [Fraction(math.comb(trials, k) * (records - 1) ** (trials - k), records**trials) for k in range(trials + 1)]
    assert all(held(weight, truth) for weight, truth in zip(weights, exact, strict=False))
    assert sum(exact[len(weights) :]) <= Fraction(beyond.upper) < Fraction(1, 10**31) and beyond.lower == 0.0


def flipped_parity(ones):
    yes = 1 / (1 + math.exp(EPSILON))
    return np.array([yes, 1 - yes]) if ones % 2 else np.array([1 - yes, yes])


def noisy_count(ones):
    weights = np.exp(-0.5 * EPSILON * np.abs(np.arange(-1, DRAWS + 2) - ones))
    return weights / weights.sum()


def shown(mechanism, dataset):
    draws = list(itertools.product(dataset, repeat=DRAWS))
    return sum(mechanism(sum(batch)) for batch in draws) / len(draws)


@pytest.mark.parametrize("adjacency", [ADD_REMOVE, REPLACE_ONE])
@pytest.mark.parametrize("mechanism", [noisy_count, flipped_parity])
def test_no_neighbours_of_a_small_mechanism_show_more_than_the_pair(mechanism, adjacency):
    base = PureDP(epsilon=EPSILON, adjacency=REPLACE_ONE)
    pairs = Sampled(base, WithReplacement(batch_size=DRAWS, records=RECORDS)).pairs(adjacency)
    bounds = [pairs[d].delta(Bounds.exact(np.log(RATIOS))).upper for d in adjacency.directions]
    for rest in itertools.product((0, 1), repeat=RECORDS - 1):
        for record in (0, 1):
            other = rest if adjacency is ADD_REMOVE else (*rest, 1 - record)
            p, q = shown(mechanism, (*rest, record)), shown(mechanism, other)
            for bound, (a, b) in zip((bounds[0], bounds[-1]), ((p, q), (q, p)), strict=True):
                assert all(np.maximum(a - r * b, 0.0).sum() <= limit for r, limit in zip(RATIOS, bound, strict=True))


def test_sampling_with_replacement_may_hurt():
    """Ten draws of ten records, all others without a contribution: .0527 against .0015 at ε = 3."""
    sampled = Sampled(G, WithReplacement(batch_size=10, records=10))
    found = delta_bounds(sampled, epsilon=3.0, adjacency="zero_out")
    assert found.lower == pytest.approx(0.0527, abs=5e-5)
    assert delta_bounds(G, epsilon=3.0, adjacency="zero_out").upper == pytest.approx(0.0015, abs=5e-5)
    law = [math.comb(10, k) * 0.1**k * 0.9 ** (10 - k) for k in range(11)]
    z = np.linspace(-10, 25, 350_001)
    p = sum(weight * np.exp(-0.5 * (z - k) ** 2) for k, weight in enumerate(law)) / math.sqrt(2 * math.pi)
    q = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    assert found.lower == pytest.approx(np.maximum(p - math.exp(3) * q, 0).sum() * (z[1] - z[0]), rel=1e-6)


@pytest.mark.slow
def test_under_add_remove_gaussian_draws_are_bracketed_closely():
    run = Repeat(Sampled(G, WithReplacement(batch_size=5, records=100)), 10)
    found = epsilon_bounds(run, delta=1e-5, adjacency="add_remove", accountant="pld")
    assert found.lower > 0 and found.width <= 1e-4 * found.upper


def test_one_draw_with_replacement_is_one_without():
    drawn, fixed = (
        Sampled(G, kind(batch_size=1, records=8)).pairs(ADD_REMOVE)["remove"] for kind in (WithReplacement, FixedSize)
    )
    for epsilon in (0.0, 0.2, 1.0):
        assert drawn.delta(Bounds.exact(epsilon)).overlaps(fixed.delta(Bounds.exact(epsilon)))


@pytest.mark.parametrize("adjacency", [REPLACE_ONE, ZERO_OUT])
def test_witnesses_show_no_more_than_the_merged_pair(adjacency):
    pairs = Sampled(G, WithReplacement(batch_size=3, records=7)).pairs(adjacency)
    for epsilon in (0.0, 0.4, 1.5, 4.0):
        upper = pairs[adjacency.directions[0]].delta(Bounds.exact(epsilon)).upper
        assert pairs["witness"].delta(Bounds.exact(epsilon)).lower <= upper
        assert pairs["witness_reversed"].delta(Bounds.exact(epsilon)).lower <= upper


def test_draws_of_the_only_record_are_all_copies_of_it():
    alone = Sampled(G, WithReplacement(batch_size=3, records=1)).pairs(REPLACE_ONE)["replace"]
    assert alone.shift.contains(6.0) and alone.attained


def test_draws_of_other_mechanisms_have_an_upper_end_alone():
    found = epsilon_bounds(
        Repeat(Sampled(Laplace(noise_multiplier=1.0), WithReplacement(batch_size=1, records=10)), 2),
        delta=1e-5,
        adjacency="replace_one",
        accountant=PLD(relative_width=1e-3),
    )
    assert found.lower == 0.0 and 0 < found.upper < 4.0


# Groups


@pytest.mark.parametrize("adjacency", [ADD_REMOVE, REPLACE_ONE])
def test_masses_of_what_is_left_out_are_no_less_than_nothing(adjacency):
    step = Sampled(Laplace(noise_multiplier=1.0), WithReplacement(batch_size=100, records=1000))
    for pair in step.pairs(adjacency).values():
        assert 0.0 <= pair.infinite_mass.lower <= pair.infinite_mass.upper < 1e-30
        assert 0.0 <= pair.missing_mass.lower <= pair.missing_mass.upper < 1e-30
        assert (PairDivergence(pair=pair).divergence(2.0) == math.inf) == (pair.infinite_mass.upper > 0.0)


def test_groups_of_a_guarantee_are_those_of_group_privacy():
    pair = ApproximateDP(epsilon=0.5, delta=1e-6, adjacency=ADD_REMOVE).pairs(ADD_REMOVE)["remove"]
    group = pair.group(3)
    assert 1.5 <= group.supremum.upper <= 1.5 + 1e-14 and not group.attained and pair.group(1) is pair
    assert group.infinite_mass.upper == pytest.approx(1e-6 * (1 + math.exp(0.5) + math.exp(1.0)), rel=1e-12)
    free = ApproximateDP(epsilon=0.0, delta=0.25, adjacency=ADD_REMOVE).pairs(ADD_REMOVE)["remove"]
    assert free.group(3).infinite_mass.upper == pytest.approx(0.75) and free.group(9).infinite_mass.upper == 1.0


@pytest.mark.parametrize("mechanism", [G, Laplace(noise_multiplier=1.0)])
def test_groups_move_a_query_as_far_as_their_records_together(mechanism):
    pair = mechanism.pairs(ADD_REMOVE)["remove"].group(4)
    assert pair.shift.contains(4.0) and pair.attained


def test_a_pair_without_one_for_groups_is_refused_by_name():
    inner = Sampled(G, FixedSize(batch_size=1, records=2))
    with pytest.raises(UnsupportedProcess, match="Merged: no pair for groups of records is known"):
        Sampled(inner, WithReplacement(batch_size=2, records=5)).pairs(REPLACE_ONE)


def delta_of_draws(z, shift, draws, chance):
    """(ε, δ(ε)) of Σ b_k N(kν, 1) against N(0, 1) at the ε that is the loss at z."""
    weights = [mp.binomial(draws, k) * chance**k * (1 - chance) ** (draws - k) for k in range(draws + 1)]
    ratio = mp.fsum(w * mp.exp(k * shift * z - (k * shift) ** 2 / 2) for k, w in enumerate(weights))
    beyond = mp.fsum(w * mp.ncdf(k * shift - z) for k, w in enumerate(weights))
    return mp.log(ratio), beyond - ratio * mp.ncdf(-z)


def test_one_step_of_little_noise_has_a_finite_epsilon():
    step = Sampled(Gaussian(noise_multiplier=0.5), WithReplacement(batch_size=100, records=1000))
    found = epsilon_bounds(step, delta=1e-5, adjacency=ADD_REMOVE)
    with mp.workdps(60):
        z = mp.findroot(lambda x: mp.log(delta_of_draws(x, 4, 100, mp.mpf(1) / 1000)[1] / mp.mpf(1e-5)), (13.6, 13.7))
        truth = delta_of_draws(z, 4, 100, mp.mpf(1) / 1000)[0]
        assert mp.mpf(found.lower) <= truth <= mp.mpf(found.upper) < truth + mp.mpf("1e-11")
