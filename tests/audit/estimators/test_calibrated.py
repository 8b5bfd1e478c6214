import time

import numpy as np
import pytest
from scipy import stats

from audit.core.region_sizes import size_bound
from audit.estimators import calibrated, clopper_pearson
from audit.estimators.calibrated import MOST_RUNS, Calibrated, lower_bound_from_counts, ordering, rejects
from audit.scores import GuessingRule, IndependentRuns, LabelledScores, Scores
from mechanisms import InvalidParameter

NAMES = ("true_positives", "false_negatives", "false_positives", "true_negatives")


def bound(counts, delta=0.0, confidence=0.95, function=lower_bound_from_counts):
    return function(**dict(zip(NAMES, counts, strict=True)), delta=delta, confidence=confidence)


def refuted_counts(included, excluded, epsilon, delta, confidence=0.95):
    """Whether ε is refuted, by false negatives and false positives."""
    return rejects(
        false_negatives=np.arange(included + 1)[:, None],
        included=included,
        false_positives=np.arange(excluded + 1)[None, :],
        excluded=excluded,
        epsilon=epsilon,
        delta=delta,
        confidence=confidence,
    )


def false_claims(refuted, epsilon, delta, points=200):
    """Exact probabilities of being refuted along the boundary of the privacy region."""
    included, excluded = np.array(refuted.shape) - 1
    least = (1 - delta) / (1 + np.exp(epsilon)) * np.linspace(0, 1, points) ** 2
    other = 1 - delta - np.exp(epsilon) * least
    missed, alarms = np.concatenate([other, least])[:, None], np.concatenate([least, other])[:, None]
    law_in = stats.binom.pmf(np.arange(included + 1), included, missed)
    law_out = stats.binom.pmf(np.arange(excluded + 1), excluded, alarms)
    return np.einsum("pi,ij,pj->p", law_in, refuted.astype(float), law_out, optimize=True)


LARGE = [pytest.param(runs, runs, marks=pytest.mark.slow) for runs in (500, 1000)]


@pytest.mark.thinned(2)
@pytest.mark.parametrize("delta", [0.0, 1e-5, 0.05])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0])
@pytest.mark.parametrize(("included", "excluded"), [(25, 25), (100, 100), (60, 200), *LARGE])
def test_false_claims_come_close_to_the_level_and_never_exceed_it(included, excluded, epsilon, delta):
    sizes = false_claims(refuted_counts(included, excluded, epsilon, delta), epsilon, delta)
    assert sizes.max() <= 0.05
    if min(included, excluded) * np.exp(-epsilon) > 20:
        assert sizes.max() >= 0.035


def test_the_size_is_bounded_between_points_too():
    """At rates drawn at random from a piece, against the bound at its least rates, by the sums of scipy."""
    rng = np.random.default_rng(0)
    region = ordering(80, 120, 0.0, 0.95).region(1.3)
    for _ in range(50):
        missed, alarms = rng.uniform(0.02, 0.5, 2)
        exact = np.sum(stats.binom.pmf(80 - np.arange(81), 80, missed) * stats.binom.cdf(region - 1, 120, alarms))
        at_point = size_bound(region, 120, np.array([missed]), np.array([alarms]))[0]
        below = size_bound(region, 120, np.array([missed * 0.99]), np.array([alarms * 0.99]))[0]
        assert at_point == pytest.approx(exact, rel=1e-9)
        assert exact <= at_point <= below


@pytest.mark.thinned(3)
@pytest.mark.parametrize("delta", [0.0, 1e-5, 0.05])
@pytest.mark.parametrize("counts", [(88, 12, 12, 88), (100, 100, 2, 98), (50, 0, 0, 50), (30, 70, 0, 60), (9, 1, 2, 8)])
def test_the_bound_is_the_exact_solution_but_for_a_ten_thousandth(counts, delta):
    """The p-value on a fine grid of the boundary crosses the level just above the bound."""
    included, excluded = counts[0] + counts[1], counts[2] + counts[3]
    order = ordering(included, excluded, delta, 0.95)
    found = bound(counts, delta)
    suggested = order.suggested(np.arange(included + 1)[:, None], np.arange(excluded + 1)[None, :])
    as_much = suggested >= suggested[counts[1], counts[2]] - 1e-9
    assert found == 0 or false_claims(as_much, found, delta, points=1000).max() <= 0.05
    assert false_claims(as_much, found + 2e-4, delta, points=1000).max() > 0.05


def test_the_bound_inverts_the_test():
    epsilon = 1.0
    refuted = refuted_counts(60, 60, epsilon, 1e-3)
    rng = np.random.default_rng(1)
    for missed, alarms in rng.integers(0, 40, size=(25, 2)):
        found = bound((60 - missed, missed, alarms, 60 - alarms), 1e-3)
        assert refuted[missed, alarms] == (found >= epsilon)


@pytest.mark.parametrize(
    "counts", [(880, 120, 120, 880), (100, 900, 5, 995), (900, 100, 500, 500), (600, 400, 30, 970)]
)
def test_more_is_shown_than_by_the_rectangle(counts):
    assert bound(counts) > 1.005 * bound(counts, function=clopper_pearson.lower_bound_from_counts)


def test_swapping_the_two_worlds_changes_nothing():
    assert bound((80, 20, 3, 197)) == pytest.approx(bound((197, 3, 20, 80)), abs=1e-6)


def test_without_errors_the_corner_of_the_region_decides():
    """All of 30 guesses are right with probability (1 − FNR)^10 (1 − FPR)^20, largest at the corner."""
    rate = 1 - 0.05 ** (1 / 30)
    assert bound((10, 0, 0, 20)) == pytest.approx(np.log(1 / rate - 1), abs=5e-5)


@pytest.mark.parametrize("counts", [(500, 500, 500, 500), (0, 5, 5, 0), (1, 0, 0, 1), (10, 90, 12, 88)])
def test_counts_that_say_nothing_give_zero(counts):
    assert bound(counts) == bound(counts, 0.5) == 0.0


def test_the_bound_falls_with_delta_and_confidence():
    counts = (88, 12, 12, 88)
    assert bound(counts, 0.1) < bound(counts, 1e-3) < bound(counts, 0.0)
    assert bound(counts, confidence=1 - 1e-6) < bound(counts, confidence=0.99) < bound(counts, confidence=0.2)


@pytest.mark.slow  # a time
def test_a_bound_takes_less_than_half_a_second_and_a_test_of_many_counts_a_millisecond():
    bound((881, 119, 119, 881), 1e-5)
    started = time.process_time()
    bound((880, 120, 120, 880), 1e-5)
    assert time.process_time() - started < 0.5
    asked = {"included": 100, "excluded": 100, "epsilon": 1.0, "delta": 1e-5, "confidence": 0.95}
    counts = np.random.default_rng(0).integers(0, 60, (2, 1000))
    rejects(false_negatives=counts[0], false_positives=counts[1], **asked)
    started = time.process_time()
    for _ in range(20):
        rejects(false_negatives=counts[0], false_positives=counts[1], **asked)
    assert (time.process_time() - started) / 20 < 1e-3


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((0, 0, 1, 1), "got none of one kind"),
        ((1, 1, 0, 0), "got none of one kind"),
        ((-1, 2, 1, 1), "count must be at least 0, got -1"),
        ((1.5, 1, 1, 1), "count must be a whole number, got 1.5"),
        ((np.nan, 1, 1, 1), "count must be"),
    ],
)
def test_impossible_counts_are_refused(counts, message):
    with pytest.raises(InvalidParameter, match=f"calibrated: .*{message}"):
        bound(counts)


def test_a_run_without_a_guess_counts_as_called_out():
    class SureOrSilent(GuessingRule):
        def guess(self, values):
            return np.where(values >= 30.0, 1, 0).astype(np.int8)

    scores = Scores(values=np.arange(40.0), design=IndependentRuns(runs=40), guessing_rule=SureOrSilent())
    data = LabelledScores(scores=scores, membership=np.arange(40) >= 20)
    found = Calibrated().epsilon(data, process=None, delta=0.0, confidence=0.95)
    assert found == bound((10, 10, 0, 20))
    assert Calibrated().ceiling(data, delta=0.0, confidence=0.95) == bound((20, 0, 0, 20))


def test_many_runs_are_judged_without_a_critical_value_as_few_are_with_one(monkeypatch):
    rng, asked = np.random.default_rng(0), {"included": 60, "excluded": 80, "delta": 1e-3, "confidence": 0.95}
    missed, alarms = rng.integers(0, 30, 50), rng.integers(0, 40, 50)
    for epsilon in (0.7, 1.5, 2.5):
        with_one = rejects(false_negatives=missed, false_positives=alarms, epsilon=epsilon, **asked)
        with monkeypatch.context() as changed:
            changed.setattr(calibrated, "KEPT", 10)
            without = rejects(false_negatives=missed, false_positives=alarms, epsilon=epsilon, **asked)
        assert np.array_equal(with_one, without) and 0 < np.count_nonzero(without) < 50


def test_many_runs_are_refuted_up_to_their_bound(monkeypatch):
    monkeypatch.setattr(calibrated, "KEPT", 100)
    runs = 300
    counts = {"false_negatives": runs // 5, "false_positives": runs // 4}
    right = {"true_positives": runs - runs // 5, "true_negatives": runs - runs // 4}
    level = {"delta": 1e-5, "confidence": 0.95}
    bound = lower_bound_from_counts(**counts, **right, **level)
    asked = counts | level | {"included": runs, "excluded": runs}
    assert rejects(epsilon=bound, **asked) and not rejects(epsilon=bound + 2.0**-16, **asked)


def test_more_runs_than_are_answered_in_seconds_are_refused():
    many = {"true_positives": MOST_RUNS, "false_negatives": 1, "false_positives": 5, "true_negatives": 5}
    with pytest.raises(InvalidParameter, match=r"calibrated: count must be at most 300,000"):
        lower_bound_from_counts(**many, delta=0.0, confidence=0.95)
