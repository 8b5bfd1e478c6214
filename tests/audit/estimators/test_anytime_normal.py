import mpmath
import numpy as np
import pytest

from audit.core.e_processes import mu_of
from audit.estimators.anytime_normal import (
    EXCESSES,
    SHARES,
    AnytimeNormal,
    log_wealth,
    lower_bound_from_scores,
    rejects,
)
from audit.scores import LabelledScores, Scores, Stream, Threshold
from mechanisms import Gaussian, InvalidParameter
from tests.audit.detection_times import normal_times

LEVEL = {"delta": 1e-5, "confidence": 0.95}
UNITS = {"centre": 0.0, "deviation": 1.0}


def stream(mu, looks, seed, streams=1, always_in=False):
    rng = np.random.default_rng(seed)
    coins = np.ones((streams, looks), bool) if always_in else rng.random((streams, looks)) < 0.5
    return mu * coins + rng.normal(size=coins.shape), coins


def test_wealth_is_the_average_of_likelihood_ratios():
    """By 40-digit arithmetic, ratio by ratio and look by look."""
    scores, mu = [1.5, -0.3, 4.0, 2.2], 0.7
    with mpmath.workdps(40):
        total = mpmath.mpf(0)
        for excess, share in zip(EXCESSES, SHARES, strict=True):
            ratio = mpmath.mpf(float(share))
            for score in scores:
                ratio *= mpmath.exp(-((score - mu - excess) ** 2) / 2 + mpmath.mpf(score - mu) ** 2 / 2)
            total += ratio
    assert log_wealth(np.array(sum(scores)), np.array(4.0), mu) == pytest.approx(float(mpmath.log(total)), abs=1e-10)
    assert SHARES.sum() == pytest.approx(1.0, abs=1e-15)


@pytest.mark.thinned(9)
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0, 8.0])
@pytest.mark.parametrize("looks", [50, 200, 1000, 5000])
@pytest.mark.parametrize("part", [0.5, 1.0])
@pytest.mark.parametrize("always_in", [False, True])
def test_false_claims_stay_below_the_level_inside_the_model(epsilon, looks, part, always_in):
    streams = 300 if looks <= 1000 else 80
    scores, coins = stream(part * mu_of(epsilon, 1e-5), looks, 3, streams, always_in)
    rate = rejects(values=scores, membership=coins, epsilon=epsilon, **UNITS, **LEVEL).mean()
    assert rate <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / streams)


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_a_hundred_thousand_looks_at_a_true_claim_raise_few_alarms(epsilon):
    alarms = [
        rejects(values=scores, membership=coins, epsilon=epsilon, **UNITS, **LEVEL).mean()
        for scores, coins in (stream(mu_of(epsilon, 1e-5), 100_000, seed, 10) for seed in range(40))
    ]
    print(f"epsilon {epsilon}: {np.mean(alarms):.4f} of 400 streams of 100,000 looks")
    assert np.mean(alarms) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


def test_outside_the_model_it_fails_as_it_says():
    """Noise twice what it is said to be makes nearly every true claim refuted."""
    scores, coins = stream(mu_of(1.0, 1e-5), 500, 5, 100)
    spread = np.where(coins, mu_of(1.0, 1e-5), 0) + 2 * (scores - np.where(coins, mu_of(1.0, 1e-5), 0))
    assert rejects(values=spread, membership=coins, epsilon=1.0, **UNITS, **LEVEL).mean() > 0.2


@pytest.mark.parametrize("mu", [0.0, 0.5, 2.0, 5.0])
def test_the_bound_inverts_the_test(mu):
    scores, coins = stream(mu, 300, 9)
    found = lower_bound_from_scores(values=scores[0], membership=coins[0], **UNITS, **LEVEL)
    for point, refuted in ((0.999 * found - 1e-9, True), (1.001 * found + 1e-6, False), (found + 1, False)):
        decision = rejects(values=scores, membership=coins, epsilon=max(point, 0.0), **UNITS, **LEVEL)
        assert decision[0] == refuted or found == 0


@pytest.mark.parametrize(("claim", "bar"), [(8.0, 4), (4.0, 10), (1.0, 107)])
def test_half_the_noise_is_found_out_within_the_bars_where_the_canary_is_always_in(claim, bar):
    assert np.median(normal_times(claim, 0.5, 1500, np.random.default_rng(8))) <= bar


def test_units_cancel():
    scores, coins = stream(1.0, 200, 2)
    plain = lower_bound_from_scores(values=scores[0], membership=coins[0], **UNITS, **LEVEL)
    moved = lower_bound_from_scores(values=4 * scores[0] + 8, membership=coins[0], centre=8.0, deviation=4.0, **LEVEL)
    assert moved == pytest.approx(plain, rel=1e-9) and plain > 0


def test_out_scores_alone_show_nothing():
    scores = Scores(values=np.full(9, 50.0), design=Stream(looks=9), guessing_rule=Threshold(value=0.0))
    data = LabelledScores(scores=scores, membership=np.zeros(9, dtype=bool))
    process = Gaussian(noise_multiplier=1.0)
    assert AnytimeNormal().epsilon(data, process=process, **LEVEL) == 0.0
    assert not AnytimeNormal().rejects(data, [0.0, 1.0], process=process, **LEVEL).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": []}, r"values must hold one score or more, got shape \(0,\)"),
        ({"values": [np.inf, 0.0]}, "values must be finite, got some that are not"),
        ({"membership": [1, 0]}, r"membership must be bool of shape \(2,\)"),
        ({"delta": 0.0}, "delta must be above 0, got 0"),
        ({"confidence": np.nan}, "confidence must be a number"),
        ({"deviation": 0.0}, "deviation must be above 0"),
        ({"centre": np.nan}, "centre must be a number"),
    ],
)
def test_input_that_makes_no_sense_is_refused(change, message):
    given = {"values": [1.0, 0.0], "membership": [True, False], **UNITS, **LEVEL}
    with pytest.raises(InvalidParameter, match=message):
        lower_bound_from_scores(**given | change)


def test_what_lies_beyond_all_mu_is_never_refuted():
    assert not rejects(values=[1e9], membership=[True], epsilon=1e5, **UNITS, **LEVEL)
