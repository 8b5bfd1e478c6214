"""What guesses of candidates show, held against linear programs, closed forms and simulated worst cases."""

import dataclasses

import numpy as np
import pytest
from scipy import optimize, stats

from accountant import compute_epsilon
from accountant.gdp import GDP
from audit.candidates import CandidateGuesses, allowed, risk
from audit.core.candidate_family import family_bound
from audit.guessing import drawn
from mechanisms import Adjacency, ApproximateDP, Gaussian, InvalidParameter, KeyedSource


def guesses(correct, *, candidates=2, runs=100, adjacency="replace_one", weights=()):
    return CandidateGuesses(
        candidates=candidates, runs=runs, correct=correct, adjacency=adjacency, threat_model="", weights=weights
    )


def most_right(epsilon, delta, shares, *, replace_one):
    """The largest chance of a right guess over all laws of the guess that (ε, δ) allows: a linear program."""
    k = len(shares)
    rows = k if replace_one else k + 1  # the last law is that without a candidate
    pairs = [(a, b) for a in range(rows) for b in range(rows) if a != b and (replace_one or rows - 1 in (a, b))]
    laws, slack = rows * k, len(pairs) * k
    gain = np.zeros(laws + slack)
    for z in range(k):
        gain[z * k + z] = -shares[z]
    less, limits = [], []
    for number, (a, b) in enumerate(pairs):
        total = np.zeros(laws + slack)
        for guess in range(k):
            excess = np.zeros(laws + slack)
            excess[a * k + guess], excess[b * k + guess] = 1.0, -np.exp(epsilon)
            excess[laws + number * k + guess] = -1.0
            less.append(excess)
            limits.append(0.0)
            total[laws + number * k + guess] = 1.0
        less.append(total)
        limits.append(delta)
    sums = np.zeros((rows, laws + slack))
    for row in range(rows):
        sums[row, row * k : (row + 1) * k] = 1.0
    found = optimize.linprog(
        gain, A_ub=np.array(less), b_ub=limits, A_eq=sums, b_eq=np.ones(rows), bounds=(0, 1), method="highs"
    )
    return -found.fun


@pytest.mark.parametrize("weights", [(), (3, 1), (2, 1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
@pytest.mark.parametrize(("epsilon", "delta"), [(0.3, 0.0), (1.5, 0.0), (1.5, 0.05)])
def test_no_law_that_the_guarantee_allows_is_refuted(weights, adjacency, epsilon, delta, monkeypatch):
    """With the chance of a right guess known, the bound is at most ε, and ε itself where the inequalities are sharp."""
    k = max(2, len(weights))
    shares = np.array(weights or (1,) * k) / sum(weights or (1,) * k)
    best = most_right(epsilon, delta, shares, replace_one=adjacency == "replace_one")
    monkeypatch.setattr(CandidateGuesses, "success", lambda self, confidence: best)
    found = guesses(1, candidates=k, adjacency=adjacency, weights=weights).lower_bound(delta=delta, confidence=0.9)
    assert found.epsilon <= epsilon + 1e-7
    sharp = adjacency == "replace_one" and (len(set(weights)) < 2 or (k == 2 and best > max(shares) + delta))
    if sharp or (adjacency == "add_remove" and len(set(weights)) < 2):
        assert found.epsilon == pytest.approx(epsilon, abs=1e-6)


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("share", [0.5, 0.7])
def test_two_opposite_gradients_are_guessed_as_often_as_the_claim_allows_anyone(mu, share):
    """N(μ, 1) against N(−μ, 1): the best test between them has the success of the certified bound under replace_one."""
    cut = np.log((1 - share) / share) / (2 * mu)
    best = share * stats.norm.sf(cut - mu) + (1 - share) * stats.norm.cdf(cut + mu)
    profile = GDP().profile(Gaussian(noise_multiplier=1 / mu), adjacency=Adjacency.REPLACE_ONE)
    weights = () if share == 0.5 else (7, 3)
    assert allowed(guesses(0, weights=weights), profile) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("k", [2, 3, 30, 1000])
def test_the_best_guess_among_orthogonal_candidates_never_exceeds_what_is_allowed(k, mu):
    """The true score is the largest of k normal ones with probability ∫ φ(x − μ) Φ(x)^{k − 1} dx; by a fine sum."""
    at = np.linspace(-9, 9 + mu, 20_001)
    best = np.sum(stats.norm.pdf(at - mu) * stats.norm.cdf(at) ** (k - 1)) * (at[1] - at[0])
    for adjacency in (Adjacency.REPLACE_ONE, Adjacency.ADD_REMOVE):
        profile = GDP().profile(Gaussian(noise_multiplier=1 / mu), adjacency=adjacency)
        most = allowed(guesses(0, candidates=k, adjacency=adjacency), profile)
        assert best <= most
    assert most == pytest.approx(stats.norm.cdf(stats.norm.ppf(1 / k) + mu), rel=1e-6)


def test_randomised_response_is_refuted_no_more_often_than_announced():
    """With k answers it is guessed right with probability e^ε / (e^ε + k − 1), which (2) says is the most."""
    epsilon, k, runs = 1.0, 4, 200
    right = np.exp(epsilon) / (np.exp(epsilon) + k - 1)
    least = min(
        c
        for c in range(runs + 1)
        if guesses(c, candidates=k, runs=runs).lower_bound(delta=0.0, confidence=0.9).epsilon > epsilon
    )
    assert 0.05 < stats.binom.sf(least - 1, runs, right) <= 0.1


@pytest.mark.parametrize("weights", [(5, 3, 2), (1, 1, 1)])
def test_candidates_are_drawn_by_exactly_their_weights(weights):
    secrets = drawn(KeyedSource(0), 3, weights, 3_000)
    expected = 3_000 * np.array(weights) / sum(weights)
    assert stats.chisquare(np.bincount(secrets, minlength=3), expected).pvalue > 1e-4
    assert set(secrets.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("claimed", [0.7, 3.0])
def test_the_family_bound_is_the_epsilon_of_the_noise_that_allows_just_what_was_seen(claimed):
    """Of a Gaussian that is μ with Φ(Φ⁻¹(κ) + μ) = p, whatever the claimed noise is."""
    seen = guesses(60, candidates=10, adjacency="add_remove")
    found = family_bound(seen, Gaussian(noise_multiplier=claimed), delta=1e-5, confidence=0.95)
    mu = stats.norm.ppf(seen.success(confidence=0.95)) - stats.norm.ppf(0.1)
    sharp = compute_epsilon(Gaussian(noise_multiplier=1 / mu), delta=1e-5)
    assert 0.985 * sharp < found.epsilon <= sharp
    assert (found.guarantee, found.about) == ("frequentist", "the claimed family")


def test_the_family_bound_lies_above_the_claim_just_where_the_claim_allows_less_than_was_seen():
    claim = Gaussian(noise_multiplier=1.0)
    profile = GDP().profile(claim, adjacency=Adjacency.REPLACE_ONE)
    claimed = compute_epsilon(claim, delta=1e-5, adjacency="replace_one")
    for correct in (79, 85, 91, 97):
        seen = guesses(correct, weights=(1, 2))
        found = family_bound(seen, claim, delta=1e-5, confidence=0.95)
        refuted = risk(seen, profile, confidence=0.95).verdict == "description refuted"
        assert (found.epsilon > claimed) == refuted, correct


def test_without_a_family_or_success_there_is_no_bound_above_zero():
    assert family_bound(guesses(3), Gaussian(noise_multiplier=1.0), delta=1e-5, confidence=0.9).epsilon == 0.0
    claim = ApproximateDP(epsilon=1.0, delta=1e-6, adjacency="replace_one")
    assert family_bound(guesses(99), claim, delta=1e-5, confidence=0.9) is None


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        ({"weights": (1, 0)}, "weights must be at least 1"),
        ({"weights": (1, 2, 3)}, "weights must be one whole number for each of 2 candidates, got 3"),
        ({"weights": (0.5, 0.5)}, "weights must be a whole number"),
    ],
)
def test_weights_that_are_none_are_refused(spoil, text):
    with pytest.raises(InvalidParameter, match=f"CandidateGuesses: {text}"):
        dataclasses.replace(guesses(1), **spoil)


def test_equal_weights_are_the_same_as_none():
    assert guesses(1, weights=(4, 4)) == guesses(1)
