import numpy as np
import pytest

from audit.core import gdp_ladder
from audit.core.e_processes import mu_of
from audit.estimators import anytime, clopper_pearson
from audit.multiplicity import combined, joint_confidence, refutes, shared_confidences
from mechanisms import InvalidParameter


def test_an_average_of_e_values_is_an_e_value_whatever_they_have_to_do_with_each_other():
    """Exact: e-values 1/p·1[event] on events of probability p that overlap in every way have mean 1 on average too."""
    chances = np.array([0.5, 0.2, 0.1, 0.01])
    uniform = (np.arange(1000) + 0.5) / 1000
    nested = (uniform < chances[:, None]) / chances[:, None]
    apart = ((uniform + 0.37 * np.arange(4)[:, None]) % 1 < chances[:, None]) / chances[:, None]
    for e_values in (nested, apart):
        for weights in (None, [0.4, 0.3, 0.2, 0.1], [1, 0, 0, 0], [0.1, 0.1, 0.1, 0.1]):
            assert combined(e_values, weights).mean() <= 1 + 1e-12


def test_an_infinite_e_value_refutes_unless_it_weighs_nothing():
    assert combined([np.inf, 0.0]) == np.inf
    assert combined([np.inf, 3.0], [0.0, 1.0]) == 3.0


def test_shares_of_the_error_add_up_to_it():
    for weights in (None, [0.8, 0.1, 0.1], [0.2, 0.2, 0.2]):
        levels = shared_confidences(3, confidence=0.9, weights=weights)
        assert joint_confidence(levels) >= 0.9 - 1e-12
    assert joint_confidence([0.5, 0.4]) == 0.0


def test_the_level_of_an_e_value_is_its_inverse():
    assert refutes([20.0, 19.999, np.inf, 0.0], confidence=0.95).tolist() == [True, False, True, False]


REPORTS, LOOKS = 400, 150


def reports(epsilon, seed):
    """Reports on (ε, 0)-randomised response: two error rates at three thresholds, guesses as they come, GDP wealth."""
    rng = np.random.default_rng(seed)
    coins = np.concatenate([np.ones(LOOKS // 2, bool), np.zeros(LOOKS // 2, bool)])
    coins = np.stack([rng.permutation(coins) for _ in range(REPORTS)])
    told = np.where(rng.random(coins.shape) < 1 / (1 + np.exp(-epsilon)), coins, ~coins)
    scores = np.where(told, 1.0, 0.0) + 1e-3 * rng.normal(size=coins.shape)
    return scores, coins


def claims(scores, coins, epsilon, level):
    """What each estimator would refute at its own level, shape (estimators, reports): the truth, so all are false."""
    refuted = [
        clopper_pearson.rejects(
            false_negatives=np.sum(coins & (scores < threshold), axis=1),
            included=LOOKS // 2,
            false_positives=np.sum(~coins & (scores >= threshold), axis=1),
            excluded=LOOKS // 2,
            epsilon=epsilon,
            delta=0.0,
            confidence=level,
        )
        for threshold in (-0.001, 0.5, 1.0)
    ]
    outcomes = np.where((scores >= 0.5) == coins, 1, -1)
    refuted.append(anytime.rejects(outcomes=outcomes, epsilon=epsilon, delta=0.0, confidence=level))
    return np.array(refuted)


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_whole_reports_make_few_false_claims_when_their_estimators_share_the_error(epsilon, confidence):
    scores, coins = reports(epsilon, 21)
    level = shared_confidences(4, confidence=confidence)[0]
    rate = claims(scores, coins, epsilon, level).any(axis=0).mean()
    error = 1 - confidence
    assert rate <= error + 4 * np.sqrt(error * (1 - error) / REPORTS)


def test_whole_reports_that_do_not_share_it_are_caught():
    """Where ten attacks that know nothing each spend the whole error on fair coins, more than 5 % of reports lie."""
    rng = np.random.default_rng(4)
    outcomes = np.where(rng.random((10 * REPORTS, 50)) < 0.5, 1, -1)
    alone = {"outcomes": outcomes, "epsilon": 0.0, "delta": 0.0}
    greedy = anytime.rejects(**alone, confidence=0.95).reshape(10, REPORTS).any(axis=0)
    shared = anytime.rejects(**alone, confidence=shared_confidences(10, confidence=0.95)[0]).reshape(10, REPORTS)
    assert greedy.mean() > 0.05 + 4 * np.sqrt(0.05 * 0.95 / REPORTS)
    assert shared.any(axis=0).mean() <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / REPORTS)


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_whole_reports_of_averaged_e_processes_keep_the_level_at_every_look(epsilon):
    """Four attacks on the same releases, whose wealths the report averages at every look."""
    rng, mu = np.random.default_rng(5), mu_of(epsilon, 1e-5)
    coins = rng.random((REPORTS, LOOKS)) < 0.5
    seen = np.where(coins, 0.5, -0.5) + rng.normal(size=coins.shape) / mu
    attacks = [seen, seen + 0.2 * rng.normal(size=seen.shape), seen + rng.normal(size=seen.shape), np.sign(seen)]
    wealths = np.exp([gdp_ladder.log_wealth(attack, coins, mu=mu) for attack in attacks])
    alarms = refutes(combined(wealths), confidence=0.95).any(axis=1)
    assert alarms.mean() <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / REPORTS)


@pytest.mark.parametrize(
    ("e_values", "weights", "message"),
    [
        ([], None, "e_values must hold one or more"),
        (3.0, None, "e_values must hold one or more"),
        ([1.0, -0.1], None, "e_values must be at least 0 and no NaN"),
        ([1.0, np.nan], None, "e_values must be at least 0 and no NaN"),
        ([1.0, 1.0], [1.0], "weights must be 2 finite numbers"),
        ([1.0, 1.0], [1.5, -0.5], "weights must be 2 finite numbers of at least 0"),
        ([1.0, 1.0], [0.6, 0.6], r"weights must add up to at most 1, got 1\.2"),
        ([1.0, 1.0], [np.nan, 0.6], "weights must be 2 finite numbers"),
    ],
)
def test_averages_that_make_no_sense_are_refused(e_values, weights, message):
    with pytest.raises(InvalidParameter, match=message):
        combined(e_values, weights)


def test_shares_that_make_no_sense_are_refused():
    with pytest.raises(InvalidParameter, match="answers must be at least 1, got 0"):
        shared_confidences(0, confidence=0.95)
    with pytest.raises(InvalidParameter, match="weights must leave each answer an error above 0"):
        shared_confidences(2, confidence=0.95, weights=[1.0, 0.0])
    with pytest.raises(InvalidParameter, match="confidence must lie strictly between 0 and 1"):
        shared_confidences(2, confidence=1.0)
    with pytest.raises(InvalidParameter, match="confidences must hold one or more, got none"):
        joint_confidence([])
    with pytest.raises(InvalidParameter, match="confidence must lie strictly between 0 and 1"):
        refutes(1.0, confidence=0.0)


@pytest.mark.parametrize("given", [["a"], [1j], [[1.0], [1.0, 2.0]], [None]], ids=["text", "complex", "ragged", "none"])
def test_what_is_no_number_is_refused_by_name(given):
    for question in (combined, lambda values: refutes(values, confidence=0.95)):
        with pytest.raises(InvalidParameter, match="multiplicity: e_values must be"):
            question(given)
    with pytest.raises(InvalidParameter, match="multiplicity: weights must be"):
        combined([1.0], weights=given)


@pytest.mark.parametrize("value", [np.nan, -1.0, [21.0, np.nan]])
def test_no_e_value_refutes_nothing_silently(value):
    with pytest.raises(InvalidParameter, match="e_values must be at least 0 and no NaN"):
        refutes(value, confidence=0.95)
