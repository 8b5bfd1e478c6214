"""Sampling schemes: valid parameters, and what Poisson sampling does to a pair."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import DiscretePair, FixedSize, Gaussian, InvalidParameter, Poisson, TruncatedPoisson, WithReplacement
from mechanisms.core.bounds import Bounds
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.poisson_pairs import PoissonAdd, PoissonRemove, unsampled
from mechanisms.gaussian import GaussianPair
from tests.strategies import ADD_REMOVE, gaussians, probabilities

BASE = GaussianPair(shift=Bounds.exact(1.0), attained=True)
losses = st.floats(-20.0, 20.0)


def amplified(pair, *chances, reverse=False):
    for chance in chances:
        pair = Poisson(probability=chance).amplify(pair, reverse=reverse)
    return pair


def test_a_batch_size_given_as_a_probability_is_explained():
    with pytest.raises(InvalidParameter) as caught:
        Poisson(probability=256)
    assert str(caught.value) == (
        "Poisson: probability must lie in [0, 1], got 256.\n"
        "If it is an expected batch size, divide it by the number of records: "
        "Poisson(probability=batch_size / records).\n"
        "If batches have a fixed size, use FixedSize(batch_size=..., records=...): it has a different privacy analysis."
    )


INVALID = [
    (lambda: Poisson(probability=-0.1), r"probability must lie in \[0, 1\], got -0\.1"),
    (lambda: Poisson(probability=math.nan), "probability must be a number, got nan"),
    (lambda: Poisson(probability="0.1"), "probability must be a real number"),
    (lambda: TruncatedPoisson(probability=0.5, largest_batch=0), "largest_batch must be at least 1"),
    (lambda: FixedSize(batch_size=3, records=2), r"batch_size must be at most records"),
    (lambda: FixedSize(batch_size=0, records=0), "records must be at least 1"),
    (lambda: FixedSize(batch_size=0.5, records=2), "batch_size must be a whole number"),
    (lambda: WithReplacement(batch_size=-1, records=2), "batch_size must be at least 0"),
]


@pytest.mark.parametrize(("build", "message"), INVALID)
def test_impossible_schemes_are_refused(build, message):
    with pytest.raises(InvalidParameter, match=message):
        build()


def test_enormous_batches_are_refused_like_large_ones():
    with pytest.raises(InvalidParameter):
        FixedSize(batch_size=10**400, records=1)


def test_a_batch_may_be_larger_than_the_records_when_drawn_with_replacement():
    assert WithReplacement(batch_size=3, records=2).batch_size == 3


@pytest.mark.parametrize("reverse", [False, True])
def test_sampling_with_probability_one_changes_nothing(reverse):
    assert amplified(BASE, 1.0, reverse=reverse) is BASE


@given(gaussians, probabilities)
def test_the_add_direction_is_the_reversed_remove_direction(mechanism, chance):
    pairs = mechanism.pairs(ADD_REMOVE)
    assert amplified(pairs["remove"], chance).reverse() == amplified(pairs["add"], chance, reverse=True)


@pytest.mark.parametrize("reverse", [False, True])
@given(probabilities, probabilities)
def test_a_sample_of_a_sample_has_at_least_the_product_of_the_probabilities(reverse, one, other):
    pair = amplified(BASE, one, other, reverse=reverse)
    exact = mp.mpf(one) * mp.mpf(other)
    assert pair.base is BASE
    assert pair.probability >= exact and pair.probability <= float(exact) * (1 + 4e-16)
    assert pair.attained == (pair.probability == exact)


def test_a_sample_of_a_sample_never_has_probability_zero():
    assert amplified(BASE, 1e-200, 1e-200).probability > 0


@pytest.mark.parametrize("attained", [False, True])
def test_a_sampled_pair_is_attained_where_its_base_is(attained):
    pair = amplified(GaussianPair(shift=Bounds.exact(1.0), attained=attained), 0.1)
    assert pair.attained is attained


@pytest.mark.parametrize("kind", [PoissonRemove, PoissonAdd])
def test_sampling_takes_its_share_of_infinite_losses(kind):
    tell_all = DiscretePair.from_probabilities((0.25, 0.75), (0.0, 1.0), attained=True)
    pair = kind(base=tell_all, probability=0.5, attained=True)
    assert pair.infinite_mass.contains(0.125 if kind is PoissonRemove else 0.0)
    assert pair.missing_mass.contains(0.0)


@given(probabilities, st.floats(0.01, 5.0))
def test_suprema_of_sampled_bounded_losses_are_mapped(chance, bound):
    p = 1 / (1 + math.exp(-bound))
    response = DiscretePair.from_probabilities((p, 1 - p), (1 - p, p), attained=True)
    loss = response.losses[-1]
    remove = PoissonRemove(base=response, probability=chance, attained=True)
    add = PoissonAdd(base=response, probability=chance, attained=True)
    with mp.workdps(40):
        assert remove.supremum.contains(float(mp.log1p(mp.mpf(chance) * mp.expm1(loss))))
        assert add.supremum.contains(float(-mp.log1p(mp.mpf(chance) * mp.expm1(-mp.mpf(loss)))))


def test_suprema_of_sampled_gaussians_are_infinite_or_that_of_never_being_sampled():
    assert amplified(BASE, 0.25).supremum.lower == math.inf
    assert amplified(BASE, 0.25, reverse=True).supremum.contains(-math.log1p(-0.25))


def edge_errors_in_units(chance, edges):
    """By how much the loss of each inner edge misses the edge asked for, in units of what is declared."""
    inner, _, declared = unsampled(edges, chance)
    found = []
    for edge, loss, error in zip(edges, inner, declared, strict=True):
        if math.isfinite(loss):
            back = mp.log1p(mp.mpf(chance) * mp.expm1(mp.mpf(float(loss))))
            found.append(float(abs(back - mp.mpf(float(edge))) / error))
        else:
            assert edge <= math.log1p(-chance) * (1 - 1e-12)
    return max(found)


@pytest.mark.parametrize("chance", [1e-300, 1e-12, 1e-5, 0.01, 0.5, 0.9])
def test_inner_edges_map_back_to_their_edges_within_the_error_declared(chance):
    rng, floor = np.random.default_rng(0), math.log1p(-chance)
    close = floor * (1 - np.geomspace(1e-14, 1, 60))
    edges = np.concatenate([close, rng.uniform(floor, 30, 200), [1.0, np.nextafter(1.0, 2), 700.0, 1e5]])
    with mp.workdps(400):
        assert edge_errors_in_units(chance, np.sort(edges)) <= 1


def test_inner_edges_map_back_to_their_edges_for_probabilities_near_one():
    chance = 1 - 1e-6
    with mp.workdps(60):
        assert edge_errors_in_units(chance, math.log1p(-chance) * (1 - np.geomspace(1e-9, 0.5, 60))) <= 1


def test_the_declared_edge_error_is_a_few_ulps():
    assert unsampled(np.array([1.0]), 0.01)[2][0] < 200 * UNIT_ROUNDOFF


def test_the_declared_error_of_small_edges_is_as_small_as_they_are():
    edges = np.array([-1e-9, -1e-12, 0.0, 1e-12, 1e-6])
    assert np.all(unsampled(edges, 1e-9)[2] < 400 * UNIT_ROUNDOFF * (1e-9 + np.abs(edges)))


def test_sampling_of_no_noise_shows_the_record_whenever_it_is_sampled():
    pairs = Gaussian(noise_multiplier=0.0).pairs(ADD_REMOVE)
    remove = amplified(pairs["remove"], 0.25)
    add = amplified(pairs["add"], 0.25, reverse=True)
    assert remove.delta(Bounds.exact(3.0)).contains(0.25)
    assert add.delta(Bounds.exact(0.0)).contains(0.25)
    assert add.delta(Bounds.exact(0.1)).contains(1 - 0.75 * math.exp(0.1))
    assert add.delta(Bounds.exact(0.3)).upper == 0.0
