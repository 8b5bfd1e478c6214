"""What a profile means to an attacker: closed forms, attacks that are simulated exactly, and every mistake."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from accountant import epsilon_bounds, risk
from accountant.basic import Basic
from accountant.closed_form import ClosedForm
from accountant.gdp import GDP
from accountant.tightest import Tightest
from mechanisms import ApproximateDP, Bounds, Compose, Gaussian, InvalidParameter, Laplace, PureDP, RandomizedResponse
from tests.contracts.coarse import COARSE
from tests.strategies import ADD_REMOVE, REPLACE_ONE, processes, tables

MU = 1.0
GAUSSIAN = GDP().profile(Gaussian(noise_multiplier=1 / MU), adjacency=ADD_REMOVE)
ADVANTAGE = 0.382924922548026  # 2 Φ(1/2) − 1


def test_the_advantage_of_a_gaussian_is_the_published_one():
    found = risk.advantage(GAUSSIAN)
    assert found.contains(ADVANTAGE) and found.width < 1e-12


def test_the_power_of_a_gaussian_is_the_published_one():
    found = risk.true_positive_rate(GAUSSIAN, false_positive_rate=[0.01, 0.05, 0.1])
    published = 1 - np.array([0.907637751926, 0.740488977159, 0.610856308355])
    assert np.max(np.abs(found.lower - published)) < 6e-13 and np.max(found.width) < 1e-12


def test_two_pure_guarantees_have_the_published_power():
    """.8286 at a false positive rate of .1, by the software of Gomez et al. (2025)."""
    process = Compose(tuple(PureDP(epsilon=one, adjacency="add_remove") for one in (1.0, 2.0)))
    found = risk.true_positive_rate(Tightest().profile(process, adjacency=ADD_REMOVE), false_positive_rate=0.1)
    assert found.upper >= 0.82855 and found.lower <= 0.82865 and found.width < 1e-6


@pytest.mark.parametrize("prior", [1e-300, 1e-9, 0.01, 0.3, 0.5, 0.8, 1 - 2**-53])
def test_the_bayes_error_of_a_gaussian_is_that_of_its_best_threshold(prior):
    """The member is N(1, 1), the other N(0, 1): call a member above z = 1/2 + log((1 − π)/π)."""
    z = 0.5 + math.log1p(-prior) - math.log(prior)
    truth = prior * special.ndtr(z - MU) + (1 - prior) * special.ndtr(-z)
    found = risk.bayes_error(GAUSSIAN, prior=prior)
    assert found.lower <= truth * (1 + 1e-9) and truth * (1 - 1e-9) <= found.upper
    assert found.width <= 1e-9 * truth and found.upper <= min(prior, 1 - prior) * (1 + 1e-15)


@settings(max_examples=50)
@given(tables(), st.floats(0.0, 1.0))
def test_the_bayes_error_is_that_of_the_best_guess_at_every_outcome(table, prior):
    """Over the outcomes of a finite mechanism, for the worse of the two orders."""
    p, q = np.array(table.p), np.array(table.q)
    truth = min(np.sum(np.minimum(prior * a, (1 - prior) * b)) for a, b in ((p, q), (q, p)))
    found = risk.bayes_error(ClosedForm().profile(table, adjacency=ADD_REMOVE), prior=prior)
    assert found.lower <= truth + 1e-15 and truth - 1e-15 <= found.upper and found.width <= 1e-12


@settings(max_examples=50)
@given(tables(), st.integers(1, 63))
def test_no_test_of_a_finite_mechanism_beats_the_power_or_the_precision(table, called):
    """All sets of outcomes, whose exact rates are sums; half of all are members."""
    p, q = np.array(table.p), np.array(table.q)
    chosen = np.array([called >> i & 1 for i in range(len(p))], dtype=float)
    rate, power = float(chosen @ q), float(chosen @ p)
    profile = ClosedForm().profile(table, adjacency=ADD_REMOVE)
    assert power <= risk.true_positive_rate(profile, false_positive_rate=rate).upper + 1e-15
    if rate > 0:
        best = risk.precision(profile, false_positive_rate=rate, prior=0.5)
        assert power / (power + rate) <= best.upper + 1e-15


@settings(max_examples=50)
@given(tables(), st.lists(st.integers(0, 1), min_size=4, max_size=4))
def test_no_guess_of_a_record_beats_the_bound_on_reconstruction(table, guesses):
    """Two records of which one is sampled and run as p or as q against the dataset without it, q or p."""
    p, q = np.array(table.p), np.array(table.q)
    guess = np.resize(guesses, len(p))
    for of_first, of_second in ((p, q), (q, p)):
        success = 0.5 * np.sum(of_first[guess == 0]) + 0.5 * np.sum(of_second[guess == 1])
        found = risk.reconstruction(ClosedForm().profile(table, adjacency=ADD_REMOVE), prior_success=0.5)
        assert success <= found.upper + 1e-15 and found.lower == 0.5


def test_precision_follows_from_the_two_rates():
    found = risk.precision(GAUSSIAN, false_positive_rate=0.05, prior=0.2)
    power = 1 - 0.740488977159
    assert abs(found.lower - 0.2 * power / (0.2 * power + 0.8 * 0.05)) < 2e-12 and found.width < 1e-12


def test_precision_never_exceeds_the_largest_posterior():
    laplace = ClosedForm().profile(Laplace(noise_multiplier=1.0), adjacency=ADD_REMOVE)
    levels = np.geomspace(1e-6, 1.0, 7)
    found = risk.precision(laplace, false_positive_rate=levels, prior=0.3)
    limit = risk.posterior(laplace, prior=0.3)
    assert np.all(found.lower <= limit.upper) and limit.contains(0.3 / (0.3 + 0.7 * math.exp(-1.0)))
    assert np.all(np.diff(found.upper) <= 1e-6) and found[-1].contains(0.3)


def test_the_posterior_is_certain_where_losses_are_unbounded_and_never_below_the_prior():
    assert risk.posterior(GAUSSIAN, prior=0.3).upper == 1.0
    ends = risk.posterior(GAUSSIAN, prior=[0.0, 1.0])
    assert np.array_equal(ends.lower, [0.0, 1.0]) and np.array_equal(ends.upper, [0.0, 1.0])
    upper_only = Basic().profile(Laplace(noise_multiplier=2.0), adjacency=ADD_REMOVE)
    found = risk.posterior(upper_only, prior=0.5)
    assert found.lower == 0.5 and found.upper == pytest.approx(1 / (1 + math.exp(-0.5)))


def test_reconstruction_lies_between_the_blind_guess_and_the_power():
    blind = np.array([0.0, 1e-4, 0.01, 0.5, 1.0])
    found = risk.reconstruction(GAUSSIAN, prior_success=blind)
    assert np.array_equal(found.lower, blind)
    assert np.allclose(found.upper[1:4], special.ndtr(special.ndtri(blind[1:4]) + MU), atol=1e-6, rtol=0)
    assert found.upper[0] < 1e-9 and found.upper[-1] == 1.0


def test_attributes_of_two_values_are_neighbours_under_replace_one():
    profile = Tightest().profile(RandomizedResponse(epsilon=1.0), adjacency=REPLACE_ONE)
    found = risk.attribute_inference(profile, prior=2)
    assert found.contains(math.e / (1 + math.e)) and found.width < 1e-12
    skewed = risk.attribute_inference(profile, prior=[0.9, 0.1])
    assert skewed.contains(0.9) and skewed.width < 1e-12
    assert risk.attribute_inference(profile, prior=[0.5, 0.0, 0.5]).overlaps(found)


def test_an_attribute_of_many_values_is_a_record_to_reconstruct():
    """k-ary randomised response keeps the truth with e^ε / (e^ε + k − 1), which no bound may exclude."""
    for values in (3, 10, 1000):
        kept = math.exp(2.0) / (math.exp(2.0) + values - 1)
        profile = Tightest().profile(RandomizedResponse(epsilon=2.0, categories=values), adjacency=REPLACE_ONE)
        found = risk.attribute_inference(profile, prior=values)
        assert kept <= found.upper and found.lower == pytest.approx(1 / values) and found.lower <= 1 / values
        assert found.upper == risk.reconstruction(profile, prior_success=float(np.nextafter(1 / values, 1))).upper


def test_a_guarantee_stands_for_every_process_that_keeps_it():
    claim = epsilon_bounds(Gaussian(noise_multiplier=1.0), delta=1e-5)
    found = risk.true_positive_rate(claim, false_positive_rate=0.01)
    assert found.upper >= risk.true_positive_rate(GAUSSIAN, false_positive_rate=0.01).lower
    assert found.upper == pytest.approx(1e-5 + math.exp(claim.upper) * 0.01, abs=1e-6) and found.lower <= 0.01
    assert risk.advantage(claim).upper == pytest.approx(1e-5 + (1 - 1e-5) * math.tanh(claim.upper / 2), abs=1e-9)
    assert risk.advantage(claim).lower == 0.0
    nothing = epsilon_bounds(ApproximateDP(epsilon=1.0, delta=0.5, adjacency="add_remove"), delta=1e-5)
    assert risk.advantage(nothing).upper == 1.0 and risk.posterior(nothing, prior=0.2).upper == 1.0


@settings(max_examples=max(3, settings.default.max_examples // 4))
@given(processes(ADD_REMOVE, most=2))
def test_less_noise_is_more_risk_and_the_measures_agree(process):
    """δ(0) is at least what any α shows, and the Bayes error at 1/2 is (1 − δ(0)) / 2."""
    profile = COARSE.profile(process, adjacency=ADD_REMOVE)
    gain, levels = risk.advantage(profile), np.array([0.01, 0.2, 0.5])
    assert np.all(risk.true_positive_rate(profile, false_positive_rate=levels).lower - levels <= gain.upper + 1e-12)
    assert ((1.0 - gain) / 2.0).overlaps(risk.bayes_error(profile))
    twice = risk.advantage(COARSE.profile(Compose((process, process)), adjacency=ADD_REMOVE))
    assert twice.upper >= gain.lower


MISTAKES = [
    (lambda: risk.true_positive_rate(GAUSSIAN, false_positive_rate=1.5), "false_positive_rate must lie in"),
    (lambda: risk.true_positive_rate(GAUSSIAN, false_positive_rate=[0.1, math.nan]), "must be a number, got nan"),
    (lambda: risk.precision(GAUSSIAN, false_positive_rate=0.0, prior=0.5), "must be above 0"),
    (lambda: risk.precision(GAUSSIAN, false_positive_rate=0.1, prior=-0.5), "prior must lie in"),
    (lambda: risk.bayes_error(GAUSSIAN, prior=2), "prior must lie in"),
    (lambda: risk.posterior(GAUSSIAN, prior="half"), "prior must be a real number"),
    (lambda: risk.reconstruction(GAUSSIAN, prior_success=-1e-9), "prior_success must lie in"),
    (lambda: risk.attribute_inference(GAUSSIAN, prior=0), "prior must be at least 1"),
    (lambda: risk.attribute_inference(GAUSSIAN, prior=2.5), "prior must be a whole number"),
    (lambda: risk.attribute_inference(GAUSSIAN, prior=[0.5, 0.4]), "sum to 1, got 0.9"),
    (lambda: risk.attribute_inference(GAUSSIAN, prior=[]), "sum to 1, got 0.0"),
    (lambda: risk.advantage(0.5), "expected a Profile or bounds of epsilon or delta, got float"),
    (lambda: risk.advantage(Bounds.exact(0.5)), "got Bounds"),
]


@pytest.mark.parametrize(("ask", "message"), MISTAKES)
def test_mistakes_are_named(ask, message):
    with pytest.raises(InvalidParameter, match=message):
        ask()
