import time

import numpy as np
import pytest

from audit.estimators.maximal import Maximal, lower_bound_from_scores, rejects
from audit.scores import IndependentRuns, LabelledScores, Scores, Threshold
from mechanisms import InvalidParameter
from tests.audit.estimators.laws import LAWS, constant_ratio


def bound(inside, outside, delta=0.0, confidence=0.95):
    return lower_bound_from_scores(included=inside, excluded=outside, delta=delta, confidence=confidence)


def false_claims(law, n_in, n_out, epsilon, delta, draws, seed=0):
    rng = np.random.default_rng(seed)
    worlds = zip(*(law(rng, n_in, n_out, epsilon, delta) for _ in range(draws)), strict=True)
    included, excluded = map(np.array, worlds)
    return np.mean(rejects(included=included, excluded=excluded, epsilon=epsilon, delta=delta, confidence=0.95))


@pytest.mark.parametrize("law", LAWS)
def test_false_claims_stay_below_the_level_under_every_law(law):
    assert false_claims(law, 25, 25, 1.0, 0.02, draws=400) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


def test_false_claims_come_close_to_the_level_under_the_least_favourable_law():
    assert abs(false_claims(constant_ratio, 100, 80, 1.0, 0.0, draws=2000) - 0.0475) <= 0.0145


@pytest.mark.slow
@pytest.mark.parametrize("delta", [0.0, 1e-5])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("runs", [50, 200, 1000])
def test_ten_thousand_draws_of_every_law_keep_the_level(runs, epsilon, delta):
    found = {law.__name__: false_claims(law, runs, runs, epsilon, delta, draws=10_000) for law in LAWS}
    print(runs, epsilon, delta, found)
    # A Laplace pair is (ε, 0)-private, and so is a Gaussian one at δ = 0, whose gap is none.
    assert max(found.values()) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 10_000)


def test_the_bound_inverts_the_test():
    rng = np.random.default_rng(2)
    inside, outside = constant_ratio(rng, 15, 20, 2.7, 1e-3)
    found = bound(inside, outside, 1e-3)
    asked = {"included": inside, "excluded": outside, "delta": 1e-3, "confidence": 0.95}
    assert not rejects(epsilon=found + 1e-4, **asked)
    assert found > 0.1 and rejects(epsilon=found - 1e-4, **asked)


def test_only_the_order_of_scores_counts():
    rng = np.random.default_rng(3)
    inside, outside = rng.normal(1.5, 1, 80), rng.normal(0, 1, 90)
    assert bound(inside, outside) == bound(np.exp(inside), np.exp(outside)) > 0
    assert bound(inside[::-1], outside) == bound(inside, outside)


def test_swapping_worlds_and_signs_changes_nothing():
    rng = np.random.default_rng(4)
    inside, outside = rng.normal(1.5, 1, 80), rng.normal(0, 1, 90)
    assert bound(inside, outside, 1e-6) == pytest.approx(bound(-outside, -inside, 1e-6), abs=1e-9)


def test_without_an_error_all_runs_must_have_been_told_apart():
    """Sorted with probability p^30 + …: all answers right, or a wrong one with a favourable order inside its group."""
    found = bound(np.ones(10), np.zeros(20))
    assert found <= np.log(1 / (1 - 0.05 ** (1 / 30)) - 1)
    assert found >= 1.5


def test_ties_only_lower_the_bound():
    rng = np.random.default_rng(5)
    inside, outside = rng.normal(1.5, 1, 80), rng.normal(0, 1, 90)
    assert bound(np.round(inside), np.round(outside)) <= bound(inside, outside)
    assert bound(np.zeros(50), np.zeros(50)) == 0.0


@pytest.mark.slow  # a time
def test_a_bound_takes_less_than_a_second_and_a_test_of_many_a_millisecond():
    rng = np.random.default_rng(6)
    inside, outside = constant_ratio(rng, 1000, 1000, 2.0, 0.0)
    started = time.process_time()
    assert 1.6 < bound(inside, outside) < 2.2
    assert time.process_time() - started < 1.0
    sets = rng.random((2, 100, 60))
    asked = {"included": sets[0], "excluded": sets[1], "epsilon": 1.0, "delta": 0.0, "confidence": 0.95}
    rejects(**asked)
    started = time.process_time()
    rejects(**asked)
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(
    ("inside", "outside", "message"),
    [
        ([], [1.0], "Nothing can be compared"),
        ([1.0], [], "Nothing can be compared"),
        ([np.nan], [1.0], "scores must be finite"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(inside, outside, message):
    with pytest.raises(InvalidParameter, match=f"(?s)maximal: .*{message}"):
        bound(inside, outside)


def test_nothing_exceeds_the_ceiling():
    scores = Scores(values=np.arange(40.0), design=IndependentRuns(runs=40), guessing_rule=Threshold(value=0.0))
    data = LabelledScores(scores=scores, membership=np.arange(40) >= 25)
    top = Maximal().ceiling(data, delta=1e-3, confidence=0.95)
    assert Maximal().epsilon(data, process=None, delta=1e-3, confidence=0.95) == top > 1
    other = LabelledScores(scores=scores, membership=(np.arange(40) >= 25) ^ (np.arange(40) == 39))
    assert Maximal().epsilon(other, process=None, delta=1e-3, confidence=0.95) < top
