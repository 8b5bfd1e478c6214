import time

import mpmath
import numpy as np
import pytest
from scipy import stats

from audit.estimators.one_run import ceiling, lower_bound_from_guesses, rejects
from mechanisms import InvalidParameter

# Values of Steinke, Nasr and Jagielski's Appendix D code, cross-checked with jax-privacy.
PUBLISHED = [
    (1000, 100, 100, 0.0, 3.492965431152307),
    (1000, 100, 100, 1e-5, 3.46538),
    (1000, 1000, 600, 1e-5, 0.2972269537180877),
    (1000, 1000, 950, 1e-5, 2.7008155496551014),
    (5000, 250, 220, 1e-5, 1.6545168715151939),
    (100_000, 1500, 1275, 1e-5, 1.5757966390560743),
    (10, 10, 10, 0.0, 1.0518732332317096),
]


def bound(canaries, guesses, correct, delta=1e-5, confidence=0.95):
    return lower_bound_from_guesses(
        canaries=canaries, guesses=guesses, correct=correct, delta=delta, confidence=confidence
    )


@pytest.mark.parametrize(("canaries", "guesses", "correct", "delta", "expected"), PUBLISHED)
def test_published_values_are_reproduced(canaries, guesses, correct, delta, expected):
    tolerance = 1e-6 if len(str(expected)) > 8 else 5e-6
    assert bound(canaries, guesses, correct, delta) == pytest.approx(expected, abs=tolerance)


def exact_p_value(canaries, guesses, correct, epsilon, delta):
    with mpmath.workdps(50):
        right = 1 / (1 + mpmath.exp(-mpmath.mpf(epsilon)))
        masses = [mpmath.binomial(guesses, j) * right**j * (1 - right) ** (guesses - j) for j in range(guesses + 1)]
        below = [mpmath.fsum(masses[correct - i : correct]) / i for i in range(1, correct + 1)]
        return mpmath.fsum(masses[correct:]) + 2 * canaries * mpmath.mpf(delta) * max(below)


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta"),
    [(1000, 100, 100, 1e-5), (300, 300, 200, 1e-3), (5000, 200, 199, 1e-10), (40, 40, 21, 0.0), (400, 80, 70, 0.01)],
)
def test_the_bound_lies_just_below_the_exact_solution(canaries, guesses, correct, delta):
    found = bound(canaries, guesses, correct, delta)
    assert exact_p_value(canaries, guesses, correct, found, delta) <= 0.05 or found == 0
    assert exact_p_value(canaries, guesses, correct, found + 1e-7, delta) > 0.05


@pytest.mark.parametrize("correct", [0, 20, 31, 37, 40])
def test_the_bound_inverts_the_test(correct):
    found = bound(60, 40, correct)
    points = np.array([0.0, 0.5, 0.999, 0.9999999]) * found
    decisions = rejects(canaries=60, guesses=40, correct=correct, epsilon=points, delta=1e-5, confidence=0.95)
    assert decisions.all() or found == 0
    above = np.linspace(found + 1e-7, found + 5, 50)
    assert not rejects(canaries=60, guesses=40, correct=correct, epsilon=above, delta=1e-5, confidence=0.95).any()


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("canaries", [1, 10, 50, 500])
def test_false_claims_stay_below_the_level_for_randomised_response(epsilon, canaries):
    """Exact: under ε-randomised response the right guesses are Bin(m, e^ε / (1 + e^ε))."""
    counts = np.arange(canaries + 1)
    refuted = rejects(canaries=canaries, guesses=canaries, correct=counts, epsilon=epsilon, delta=0.0, confidence=0.95)
    law = stats.binom.pmf(counts, canaries, 1 / (1 + np.exp(-epsilon)))
    assert law[refuted].sum() <= 0.05


@pytest.mark.parametrize("revealed", [1, 3, 10, 40])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 2.0])
def test_false_claims_stay_below_the_level_when_delta_is_spent_on_revealing_many_at_once(epsilon, revealed):
    """Exact: with probability m δ / revealed, that many canaries, drawn at random, are told; the rest is randomised."""
    canaries, delta = 40, 5e-3
    counts = np.arange(canaries + 1)
    right = 1 / (1 + np.exp(-epsilon))
    chance = min(1.0, canaries * delta / revealed)
    law = (1 - chance) * stats.binom.pmf(counts, canaries, right)
    law += chance * stats.binom.pmf(counts - revealed, canaries - revealed, right)
    refuted = rejects(
        canaries=canaries, guesses=canaries, correct=counts, epsilon=epsilon, delta=delta, confidence=0.95
    )
    assert law[refuted].sum() <= 0.05


def test_a_large_delta_makes_the_p_value_fall_but_leaves_one_crossing():
    """With 2 m δ > 1 the p-value is not monotone; the set refuted is an interval all the same."""
    points = np.linspace(0, 12, 400)
    for correct in (300, 380, 400):
        refuted = rejects(canaries=400, guesses=400, correct=correct, epsilon=points, delta=0.02, confidence=0.95)
        assert np.all(np.diff(refuted.astype(int)) <= 0)


def test_the_bound_rises_with_right_guesses_and_falls_with_delta_and_confidence():
    rising = [bound(500, 100, correct) for correct in range(0, 101, 5)]
    assert rising == sorted(rising) and rising[0] == 0.0
    assert bound(500, 100, 90, delta=1e-3) < bound(500, 100, 90, delta=1e-5) < bound(500, 100, 90, delta=0.0)
    assert bound(500, 100, 90, confidence=0.99) < bound(500, 100, 90, confidence=0.95)


def test_nothing_exceeds_the_ceiling():
    top = ceiling(canaries=5000, guesses=500, delta=1e-5, confidence=0.96)
    assert bound(5000, 500, 500, confidence=0.96) == top
    assert bound(5000, 500, 499, confidence=0.96) < top


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "message"),
    [
        (0, 0, 0, "canaries must be at least 1, got 0"),
        (10, 11, 5, "guesses must be at most the 10 canaries, got 11"),
        (10, 5, 6, "correct must be at most the 5 guesses, got 6"),
        (10, 5, -1, "correct must be at least 0, got -1"),
        (10, 5.5, 1, "guesses must be a whole number, got 5.5"),
        (np.nan, 5, 1, "canaries must be finite|canaries must be a number"),
        ("10", 5, 1, "canaries must be a whole number, got '10'"),
    ],
)
def test_impossible_counts_are_refused(canaries, guesses, correct, message):
    with pytest.raises(InvalidParameter, match=message):
        bound(canaries, guesses, correct)


def test_no_guess_shows_nothing():
    assert bound(10, 0, 0) == 0.0


def test_a_level_above_one_half_is_answered_at_one_half():
    assert bound(100, 100, 60, confidence=0.2) == bound(100, 100, 60, confidence=0.5)


@pytest.mark.slow  # a time
def test_a_bound_takes_milliseconds():
    bound(5000, 500, 450)
    fastest = min(_seconds(lambda: bound(5000, 500, 450)) for _ in range(20))
    assert fastest < 0.010


def _seconds(action):
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
