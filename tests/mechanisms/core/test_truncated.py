"""Poisson samples cut to a largest size: every neighbour of a small mechanism, the published bound, limits."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from accountant import delta_bounds, epsilon_bounds
from accountant.pld import PLD
from mechanisms import Adjacency, Allocated, BallsInBins, Gaussian, Poisson, Repeat, Sampled, TruncatedPoisson
from mechanisms.core.bounds import Bounds
from mechanisms.core.truncated import cut_chance
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

G = Gaussian(noise_multiplier=1.0)


def sampled(chance, largest, records=None):
    return Sampled(G, TruncatedPoisson(probability=chance, largest_batch=largest, records=records))


@pytest.mark.parametrize(
    ("chance", "largest", "records"),
    [(0.25, 3, 6), (0.01, 20, 500), (0.125, 1, 2), (0.5, 9, 10), (0.5, 2, 4), (0.75, 3, 300), (1.0, 3, 5)],
)
def test_the_chance_of_a_cut_and_of_staying_are_binomial_sums(chance, largest, records):
    q, others = Fraction(chance), records - 1
    terms = [(k, math.comb(others, k) * q**k * (1 - q) ** (others - k)) for k in range(largest, others + 1)]
    exact = sum(term for _, term in terms), sum(term * Fraction(largest, k + 1) for k, term in terms)
    for found, value in zip(cut_chance(chance, largest, records), exact, strict=True):
        assert (
            Fraction(found.lower) <= value <= Fraction(found.upper) <= Fraction(found.lower) * (1 + Fraction(1, 10**14))
        )


def test_the_chance_of_a_cut_is_one_where_samples_may_be_of_any_size():
    assert cut_chance(0.5, 3, None) == (Bounds.exact(1.0), Bounds.exact(1.0))
    cut, stays = cut_chance(0.5, 3, 10**10)
    assert cut == Bounds.exact(1.0) and stays.contains(3e-10) and stays.upper == 1.0
    assert 0 < cut_chance(1e-3, 1200, 10**6)[0].upper < 1e-8


def laws(dataset, chance, largest):
    """(probability, sum of the batch) over all samples and all their cuts."""
    found = {}
    for kept in itertools.product((0, 1), repeat=len(dataset)):
        weight = math.prod(chance if one else 1 - chance for one in kept)
        batch = [record for record, one in zip(dataset, kept, strict=True) if one]
        cuts = list(itertools.combinations(batch, min(len(batch), largest)))
        for cut in cuts:
            found[sum(cut)] = found.get(sum(cut), 0.0) + weight / len(cuts)
    return found


def shown(dataset, chance, largest, z):
    return sum(w * np.exp(-0.5 * (z - total) ** 2) for total, w in laws(dataset, chance, largest).items()) * (
        (z[1] - z[0]) / math.sqrt(2 * math.pi)
    )


@pytest.mark.parametrize("adjacency", [ADD_REMOVE, REPLACE_ONE, ZERO_OUT])
@pytest.mark.parametrize("records", [None, 5])
def test_no_neighbours_of_a_gaussian_step_show_more_than_the_pair(adjacency, records):
    chance, largest, z = 0.25, 2, np.linspace(-12, 12, 4801)
    pairs = sampled(chance, largest, records).pairs(adjacency)
    ratios = np.exp(np.linspace(0.0, 1.5, 7))
    bounds = {d: pairs[d].delta(Bounds.exact(np.log(ratios))).upper for d in adjacency.directions}
    lower = pairs["witness"].delta(Bounds.exact(np.log(ratios))).lower
    worst = np.zeros(len(ratios))
    for others in itertools.product((-1, 0, 1), repeat=4):
        one = shown((*others, 1), chance, largest, z)
        rest = {ADD_REMOVE: others, REPLACE_ONE: (*others, -1), ZERO_OUT: (*others, 0)}[adjacency]
        other = shown(rest, chance, largest, z)
        for direction, p, q in ((adjacency.directions[0], one, other), (adjacency.directions[-1], other, one)):
            truth = np.array([np.maximum(p - ratio * q, 0.0).sum() for ratio in ratios])
            assert (truth <= bounds[direction] + 1e-9).all()
            worst = np.maximum(worst, truth)
    if records is not None:
        assert (lower <= worst + 1e-6).all()  # sums err by about h²/8 where p crosses a multiple of q


@pytest.mark.slow
def test_the_bound_is_sharper_than_adding_the_chance_of_a_cut_to_delta():
    """Chua et al., NeurIPS 2024, add T (1 + e^ε) P(c >= B) to the δ of Poisson samples."""
    run, plain = Repeat(sampled(0.01, 130, 10_000), 50), Repeat(Sampled(G, Poisson(probability=0.01)), 50)
    epsilon = 1.0
    found = delta_bounds(run, epsilon=epsilon, adjacency="add_remove", accountant="pld")
    poisson = delta_bounds(plain, epsilon=epsilon, adjacency="add_remove")
    published = poisson.upper + 50 * (1 + math.exp(epsilon)) * cut_chance(0.01, 130, 10_000)[0].upper
    assert poisson.lower * 0.9 < found.lower <= found.upper < published
    assert found.upper > poisson.lower


@pytest.mark.parametrize("adjacency", Adjacency)
def test_a_batch_that_is_never_cut_is_a_poisson_sample(adjacency):
    assert sampled(0.25, 10, 10).pairs(adjacency) == Sampled(G, Poisson(probability=0.25)).pairs(adjacency)


def test_without_a_number_of_records_every_batch_may_be_cut():
    known, unknown = (
        epsilon_bounds(Repeat(sampled(0.01, 200, n), 5), delta=1e-5, accountant=PLD(relative_width=1e-3))
        for n in (10_000, None)
    )
    assert 0 < known.lower <= known.upper < unknown.upper
    assert unknown.lower > 0


def test_no_record_is_taken_with_probability_zero():
    assert epsilon_bounds(sampled(0.0, 3, 5), delta=1e-5).upper == 0.0


def test_samples_that_take_everybody_have_the_witness_of_the_step_itself():
    everybody = Sampled(Gaussian(noise_multiplier=1.0), TruncatedPoisson(probability=1.0, largest_batch=5))
    alone = Gaussian(noise_multiplier=1.0).pairs(ADD_REMOVE)["remove"]
    assert everybody.pairs(ADD_REMOVE)["witness"] == alone
    assert epsilon_bounds(Allocated(Repeat(everybody, 3), BallsInBins()), delta=1e-5).lower > 0
