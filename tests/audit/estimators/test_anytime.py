import dataclasses

import numpy as np
import pytest

from audit.estimators.anytime import LARGEST, STAKES, Anytime, log_wealth, lower_bound_from_outcomes, rejects
from audit.estimators.anytime_gdp import AnytimeGDP
from audit.estimators.anytime_normal import AnytimeNormal
from audit.scores import GuessExtremes, LabelledScores, Scores, Stream, Threshold
from mechanisms import Gaussian, InvalidParameter

LEVEL = {"delta": 1e-5, "confidence": 0.95}


def wealth(right, wrong, passed, epsilon, delta):
    right, wrong, passed = (np.asarray(count, dtype=float) for count in (right, wrong, passed))
    return np.exp(log_wealth(right, wrong, right + wrong + passed, epsilon, delta))


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 4.0, 12.0])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 0.01, 0.3])
@pytest.mark.parametrize("before", [(0, 0, 0), (5, 1, 2), (40, 0, 300), (60, 30, 0)])
def test_wealth_shrinks_on_average_at_every_corner_of_what_is_allowed(epsilon, delta, before):
    p = (np.exp(epsilon) + delta) / (1 + np.exp(epsilon))
    held = wealth(*before, epsilon, delta)
    for right, wrong in [(0, 0), (delta, 0), (p, 1 - p), (0, 1)]:
        mean = right * wealth(before[0] + 1, before[1], before[2], epsilon, delta)
        mean += wrong * wealth(before[0], before[1] + 1, before[2], epsilon, delta)
        mean += (1 - right - wrong) * wealth(before[0], before[1], before[2] + 1, epsilon, delta)
        assert mean <= held * (1 + 1e-12)


def chance_of_a_false_claim(looks, epsilon, delta, right, wrong):
    """Exact: the law of the counts of right and wrong guesses on the way, what is refuted being taken out for good."""
    counts = np.arange(looks + 1.0)
    rights, wrongs = (counts[:, None], counts[None, :]) if wrong + right < 1 else (counts[:, None], np.zeros((1, 1)))
    law = np.zeros(np.broadcast_shapes(rights.shape, wrongs.shape))
    law[0, 0], claimed = 1.0, 0.0
    for look in range(1, looks + 1):
        moved = (1 - right - wrong) * law if wrong + right < 1 else wrong * law
        moved[1:] += right * law[:-1]
        if wrong + right < 1:
            moved[:, 1:] += wrong * law[:, :-1]
        counted = wrongs if wrong + right < 1 else look - rights
        possible = (rights + counted <= look) & (counted >= 0)
        refuted = (
            log_wealth(rights, np.maximum(counted, 0), np.float64(look), epsilon, delta) >= np.log(20)
        ) & possible
        claimed += moved[refuted].sum()
        law = np.where(refuted, 0.0, moved)
    return claimed


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("delta", [0.0, 0.02])
def test_false_claims_at_any_look_stay_below_the_level_where_all_is_guessed(epsilon, delta):
    """Exact: randomised response at (ε, δ), with every score guessed."""
    p = (np.exp(epsilon) + delta) / (1 + np.exp(epsilon))
    assert chance_of_a_false_claim(300, epsilon, delta, p, 1 - p) <= 0.05


@pytest.mark.parametrize("delta", [0.02, 0.1])
def test_false_claims_stay_below_the_level_where_only_what_delta_reveals_is_guessed(delta):
    """Exact: with probability δ the truth is told, and the guesser passes on all else, so that no guess is wrong."""
    counts, law, claimed = np.arange(401.0), np.zeros(401), 0.0
    law[0] = 1.0
    for look in range(1, 401):
        law = (1 - delta) * law + delta * np.concatenate([[0.0], law[:-1]])
        refuted = log_wealth(counts, np.zeros(401), np.float64(look), 0.0, delta) >= np.log(20)
        claimed, law = claimed + law[refuted].sum(), np.where(refuted, 0.0, law)
    assert claimed <= 0.05


def test_a_guess_that_is_half_the_time_passed_on_keeps_the_level():
    assert chance_of_a_false_claim(60, 0.5, 0.05, 0.37, 0.16) <= 0.05


@pytest.mark.thinned(7)
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("looks", [50, 200, 1000, 5000])
@pytest.mark.parametrize("law", ["fair", "exact", "reveals", "nothing", "after errors", "last"])
def test_false_claims_of_simulated_streams(epsilon, looks, law):
    rng, streams = np.random.default_rng(17), 200 if looks <= 1000 else 60
    p = 1 / (1 + np.exp(-epsilon))
    shape = (streams, looks)
    right = rng.random(shape) < p
    outcomes = {
        "fair": lambda: np.where(rng.random(shape) < 0.5, 1, -1),
        "exact": lambda: np.where(right, 1, -1),
        "reveals": lambda: np.where(rng.random(shape) < 1e-5, 1, np.where(right, 1, -1)),
        "nothing": lambda: np.zeros(shape, dtype=int),
        "after errors": lambda: np.where(np.roll(right, 1, axis=1), 0, np.where(right, 1, -1)),
        "last": lambda: np.where(np.arange(looks) >= looks // 2, np.where(right, 1, -1), 0),
    }[law]()
    rate = rejects(outcomes=outcomes, epsilon=epsilon, **LEVEL).mean()
    assert rate <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / streams)


@pytest.mark.parametrize("right", [6, 20, 300])
@pytest.mark.parametrize("wrong", [0, 3])
def test_the_bound_inverts_the_test(right, wrong):
    outcomes = np.concatenate([-np.ones(wrong), np.ones(right)])
    found = lower_bound_from_outcomes(outcomes, **LEVEL)
    for point in np.array([0.0, 0.5, 0.999, 1.0]) * found:
        assert rejects(outcomes=outcomes, epsilon=point, **LEVEL) or found == 0
    for point in np.linspace(found + 1e-9, found + 5, 20):
        assert not rejects(outcomes=outcomes, epsilon=point, **LEVEL)


def test_a_claim_once_refuted_stays_refuted():
    good = np.ones(60)
    assert lower_bound_from_outcomes(np.concatenate([good, -np.ones(200)]), **LEVEL) == lower_bound_from_outcomes(
        good, **LEVEL
    )


def test_bounds_rise_with_right_guesses_and_fall_with_delta_and_confidence():
    bounds = [lower_bound_from_outcomes(np.ones(n), **LEVEL) for n in (1, 5, 10, 100, 10_000)]
    assert bounds == sorted(bounds) and bounds[0] == 0.0 and bounds[-1] > 7
    ones = np.ones(200)
    assert lower_bound_from_outcomes(ones, delta=0.01, confidence=0.95) < lower_bound_from_outcomes(ones, **LEVEL)
    assert lower_bound_from_outcomes(ones, delta=1e-5, confidence=0.99) < lower_bound_from_outcomes(ones, **LEVEL)


def test_the_bound_comes_near_epsilon_when_guesses_are_as_good_as_it_allows():
    outcomes = np.where(np.random.default_rng(3).random(20_000) < 1 / (1 + np.exp(-2.0)), 1, -1)
    assert 1.85 < lower_bound_from_outcomes(outcomes, **LEVEL) < 2.0


def test_stakes_leave_some_wealth_whatever_happens():
    assert np.all((STAKES > 0) & (STAKES <= 1)) and np.any(STAKES < 0.01) and STAKES.max() == 1


def test_nothing_refutes_what_lies_beyond_the_largest_epsilon():
    assert not rejects(outcomes=np.ones(50), epsilon=LARGEST + 1, **LEVEL)
    assert not rejects(outcomes=np.ones((3, 50)), epsilon=1e308, **LEVEL).any()


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ([], r"outcomes must have shape \(n,\), n at least 1, got \(0,\)"),
        (1, r"outcomes must have shape \(n,\), n at least 1, got \(\)"),
        ([[1, 1]], r"outcomes must have shape \(n,\), n at least 1, got \(1, 2\)"),
        ([1, 2], r"outcomes must be 1 \(right\), -1 \(wrong\) or 0"),
        ([1, np.nan], r"outcomes must be 1 \(right\)"),
    ],
)
def test_outcomes_that_make_no_sense_are_refused(outcomes, message):
    with pytest.raises(InvalidParameter, match=message):
        lower_bound_from_outcomes(outcomes, **LEVEL)


def test_guesses_that_rank_scores_among_later_ones_are_refused():
    scores = Scores(values=np.arange(4.0), design=Stream(looks=4), guessing_rule=GuessExtremes(included=1, excluded=1))
    data = LabelledScores(scores=scores, membership=[False, False, True, True])
    with pytest.raises(InvalidParameter, match="guessing rule must judge each score by itself, got GuessExtremes"):
        Anytime().epsilon(data, process=None, **LEVEL)


def test_the_ceiling_is_the_bound_of_right_guesses_alone():
    scores = Scores(values=np.arange(100.0), design=Stream(looks=100), guessing_rule=Threshold(value=50.0))
    data = LabelledScores(scores=scores, membership=np.arange(100) >= 50)
    best = Anytime().ceiling(data, **LEVEL)
    assert best == Anytime().epsilon(data, process=None, **LEVEL) == lower_bound_from_outcomes(np.ones(100), **LEVEL)


@pytest.mark.parametrize("estimator", [Anytime(), AnytimeGDP(), AnytimeNormal()], ids=lambda one: one.name)
def test_looks_that_share_noise_are_refused(estimator):
    process, asked = Gaussian(noise_multiplier=1.0), {"delta": 1e-5, "confidence": 0.95}
    design, coins = Stream(looks=4), np.array([True, False, True, False])
    scores = Scores(values=coins - 0.5, design=design, guessing_rule=Threshold(value=0.0))
    assert estimator.epsilon(LabelledScores(scores=scores, membership=coins), process=process, **asked) >= 0
    shared = LabelledScores(scores=dataclasses.replace(scores, measuring=coins), membership=coins)
    with pytest.raises(InvalidParameter, match=f"{estimator.name}: scores must share no noise"):
        estimator.epsilon(shared, process=process, **asked)
