import numpy as np
import pytest
from scipy import stats

from audit.attacks.lira import likelihood_ratios
from audit.core.references import References, balanced_membership
from audit.roc import area_under_curve
from mechanisms import InvalidParameter

RNG = np.random.default_rng(0)
MODELS, CANARIES = 12, 7
INCLUDED = balanced_membership(models=MODELS, canaries=CANARIES, rng=RNG)
REFERENCES = References(confidences=RNG.normal(2 * INCLUDED, 1.5), included=INCLUDED)


def by_hand(observed, canary, mode, variance):
    """The score from the definition, one canary at a time."""
    laws = []
    for chosen in (INCLUDED, ~INCLUDED):
        each = [REFERENCES.confidences[chosen[:, i], i] for i in range(CANARIES)]
        pooled = np.sqrt(sum(np.sum((x - x.mean()) ** 2) for x in each) / sum(len(x) - 1 for x in each))
        spread = pooled if variance == "pooled" else each[canary].std(ddof=1)
        laws.append(stats.norm(each[canary].mean(), spread))
    if mode == "online":
        return laws[0].logpdf(observed) - laws[1].logpdf(observed)
    return stats.norm.isf(laws[1].sf(observed))


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize("variance", ["per_canary", "pooled"])
def test_scores_are_the_log_ratio_of_fitted_normal_densities(mode, variance, rng):
    observed = rng.normal(1, 1.5, (2, CANARIES))
    found = likelihood_ratios(observed, REFERENCES, mode=mode, variance=variance)
    for target in range(2):
        for canary in range(CANARIES):
            expected = by_hand(observed[target, canary], canary, mode, variance)
            assert found[target, canary] == pytest.approx(expected, rel=1e-9)


def simulated(rng, models, *, spread_in=1.0, canaries=4000, shift=2.0):
    """Canaries of different difficulty: normal laws with known ratio, references and one target."""
    centre = rng.normal(0, 3, canaries)
    included = balanced_membership(models=models, canaries=canaries, rng=rng)
    target = rng.random(canaries) < 0.5

    def drawn(coins):
        return centre + shift * coins + rng.normal(size=coins.shape) * np.where(coins, spread_in, 1.0)

    return References(confidences=drawn(included), included=included), drawn(target), target


@pytest.mark.parametrize(("mode", "variance"), [("online", "pooled"), ("online", "per_canary"), ("offline", "pooled")])
def test_with_many_references_the_area_is_the_best_there_is(mode, variance, rng):
    references, observed, members = simulated(rng, 256, canaries=3000)
    scores = likelihood_ratios(observed, references, mode=mode, variance=variance)
    best = stats.norm.cdf(2.0 / np.sqrt(2))  # of N(2, 1) against N(0, 1), each canary's centre known
    found = area_under_curve(scores[members], scores[~members], confidence=0.95)
    assert found.value == pytest.approx(best, abs=0.015)
    raw = area_under_curve(observed[members], observed[~members], confidence=0.95)
    assert raw.upper < found.lower  # without references centres hide the shift


def test_only_the_online_score_sees_a_membership_that_narrows_the_spread(rng):
    references, observed, members = simulated(rng, 128, spread_in=0.2, shift=0.0, canaries=2000)
    areas = {}
    for mode in ("online", "offline"):
        scores = likelihood_ratios(observed, references, mode=mode)
        areas[mode] = area_under_curve(scores[members], scores[~members], confidence=0.95).value
    assert areas["online"] > 0.8 and abs(areas["offline"] - 0.5) < 0.04


def test_with_few_references_pooled_variances_are_better_than_own(rng):
    references, observed, members = simulated(rng, 8, canaries=3000)
    areas = [
        area_under_curve(scores[members], scores[~members], confidence=0.95).value
        for scores in (likelihood_ratios(observed, references, variance=kind) for kind in ("pooled", "per_canary"))
    ]
    assert areas[0] > areas[1] + 0.02


def test_scores_do_not_saturate_where_the_tail_rounds_to_one():
    found = likelihood_ratios(np.array([[40.0] * CANARIES, [41.0] * CANARIES]), REFERENCES, mode="offline")
    assert np.all(found[1] > found[0]) and stats.norm.cdf(found[0]).max() == 1.0


@pytest.mark.parametrize(
    ("included", "options", "text"),
    [
        ([[True], [False], [False]], {"variance": "per_canary"}, "two models or more with each canary"),
        ([[False], [False], [False]], {}, "in one model at least for an online attack"),
        ([[True], [False], [False]], {"mode": "inline"}, "mode must be one of"),
        ([[True], [False], [False]], {"variance": "global"}, "variance must be one of"),
    ],
)
def test_too_few_references_are_refused(included, options, text):
    references = References(confidences=[[1.0], [2.0], [4.0]], included=included)
    with pytest.raises(InvalidParameter, match=text):
        likelihood_ratios([1.0], references, **options)


def test_confidences_of_other_canaries_are_refused():
    with pytest.raises(InvalidParameter, match="must be the 7 that"):
        likelihood_ratios(np.zeros(6), REFERENCES)


@pytest.mark.parametrize("options", [{"variance": "per_canary"}, {}, {"mode": "offline"}])
def test_references_that_all_say_one_thing_are_refused_though_its_mean_rounds(options):
    references = References(confidences=[[0.1]] * 3 + [[0.7]] * 3, included=[[True]] * 3 + [[False]] * 3)
    assert np.all(references.squares(references.included_means, references.included) > 0)  # 0.1 + 0.1 + 0.1 rounds
    with pytest.raises(InvalidParameter, match="that differ"):
        likelihood_ratios([0.5], references, **options)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_confidences_that_are_not_finite_have_no_score(number):
    with pytest.raises(InvalidParameter, match="lira: confidences must be finite"):
        likelihood_ratios(np.full(CANARIES, number), REFERENCES)
