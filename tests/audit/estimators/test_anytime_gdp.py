import itertools

import numpy as np
import pytest
from scipy import special

from audit.core.e_processes import epsilon_of, mu_of
from audit.core.gdp_ladder import (
    EIGHT,
    LADDER,
    MOST_STAKED,
    RATIOS,
    Opening,
    log_shares_against,
    log_wealth,
    payoffs_against,
)
from audit.core.payoffs import CELLS, against_gaussian, gaussian_delta
from audit.estimators.anytime_gdp import OPENING, AnytimeGDP, GDPConfidenceSequence, lower_bound_from_scores, rejects
from audit.scores import LabelledScores, Scores, Stream, Threshold
from mechanisms import Gaussian, InvalidParameter
from tests.audit.detection_times import gdp_times

LEVEL = {"delta": 1e-5, "confidence": 0.95}
OPENED = Opening(guesses=OPENING, required=np.log(20))
PROCESS = Gaussian(noise_multiplier=1.0)


def emitted(positions, mu, ratio):
    """What the computation nearest to noise `ratio` times too small emits where it sees N(±mu/2, 1): a cell's middle.

    Its intervals end where the lines of two payoffs cross, so that each x gets the cell that pays the most.
    """
    payoffs = payoffs_against(mu)[list(RATIOS).index(ratio)]
    gains, losses = np.diff(np.exp(payoffs.included)), -np.diff(np.exp(payoffs.excluded))
    kept = gains > 0
    crossings = np.log(losses[kept] / gains[kept]) / mu
    cells = np.concatenate([[0], np.arange(1, CELLS)[kept]])[np.searchsorted(crossings, positions)]
    return (cells - (CELLS - 1) / 2) / ((CELLS - 2) / 2) * payoffs.limit


LAWS = {  # of scores − 1/2 where the computation sees x ~ N(±mu/2, 1): whatever it makes of x is mu-GDP
    "expected": lambda x, mu, rng: x / mu,
    "nearest to half the noise": lambda x, mu, rng: emitted(x, mu, 0.45),
    "nearest to a little less noise": lambda x, mu, rng: emitted(x, mu, 0.9),
    "randomised response": lambda x, mu, rng: np.sign(x) * 100.0,
    "reveals what is far out": lambda x, mu, rng: np.where(np.abs(x) > 1 + mu / 2, np.sign(x), 0.0),
    "ties": lambda x, mu, rng: np.round(x),
    "all equal": lambda x, mu, rng: np.zeros_like(x),
    "loud": lambda x, mu, rng: x**3 * 1e3,
    "the wrong way round": lambda x, mu, rng: -x / mu,
    "drifting": lambda x, mu, rng: x / mu * np.linspace(0.1, 10, x.shape[-1]),
    "mostly noise": lambda x, mu, rng: np.where(rng.random(x.shape) < 0.3, x / mu, rng.normal(size=x.shape)),
}


def false_claims(law, epsilon, looks, streams, seed=11, opening=OPENING):
    """The share of streams in which the true claim is refuted."""
    rng, mu = np.random.default_rng(seed), mu_of(epsilon, LEVEL["delta"])
    coins = rng.random((streams, looks)) < 0.5
    seen = np.where(coins, mu / 2, -mu / 2) + rng.normal(size=coins.shape)
    values = LAWS[law](seen, mu, rng) + 0.5
    return rejects(values=values, membership=coins, epsilon=epsilon, opening=opening, **LEVEL).mean()


@pytest.mark.thinned(13)
@pytest.mark.parametrize("looks", [50, 200, 1000, 5000])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0, 8.0])
@pytest.mark.parametrize("law", LAWS)
def test_false_claims_stay_below_the_level_whatever_a_gdp_computation_emits(law, epsilon, looks):
    streams = 200 if looks <= 1000 else 60
    assert false_claims(law, epsilon, looks, streams) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / streams)


@pytest.mark.slow
@pytest.mark.parametrize("opening", [None, OPENING])
@pytest.mark.parametrize("epsilon", [1.0, 4.0, 8.0])
@pytest.mark.parametrize("law", ["expected", "nearest to half the noise", "randomised response"])
def test_false_claims_of_many_streams(law, epsilon, opening):
    rate = np.mean([false_claims(law, epsilon, 500, 1000, seed, opening) for seed in range(10)])
    print(f"{law}, epsilon {epsilon}, opening {opening}: {rate:.4f} of 10,000 streams of 500 looks")
    assert rate <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 10_000)


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
@pytest.mark.parametrize("law", ["expected", "nearest to a little less noise"])
def test_a_hundred_thousand_looks_at_a_true_claim_raise_few_alarms(law, epsilon):
    rate = np.mean([false_claims(law, epsilon, 100_000, 10, seed) for seed in range(40)])
    print(f"{law}, epsilon {epsilon}: {rate:.4f} of 400 streams of 100,000 looks")
    assert rate <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("mu", [0.2, 1.666, 6.0])
def test_each_look_shrinks_wealth_on_average_even_for_the_nearest_computation(mu):
    """By quadrature over what the computation sees, for the wealth of all ratios together."""
    seen = np.linspace(-20, 20, 40_001)
    masses = [np.exp(-0.5 * (seen - sign * mu / 2) ** 2) / np.sqrt(2 * np.pi) * 1e-3 for sign in (1, -1)]
    for ratio, opening in itertools.product(RATIOS[5:], (None, OPENED)):
        positions = emitted(seen, mu, ratio)[:, None]
        coins = [np.full(positions.shape, coin) for coin in (True, False)]
        pays = [np.exp(log_wealth(positions, coin, mu=mu, opening=opening))[:, 0] for coin in coins]
        assert 0.5 * masses[0] @ pays[0] + 0.5 * masses[1] @ pays[1] <= 1 + 1e-9


def test_a_bound_is_rarely_above_the_truth_and_comes_near_it():
    rng, mu = np.random.default_rng(2), mu_of(4.0, 1e-5)
    bounds = []
    for _ in range(5):
        coins = rng.random(800) < 0.5
        bounds.append(lower_bound_from_scores(values=coins + rng.normal(size=800) / mu, membership=coins, **LEVEL))
    assert np.sum(np.array(bounds) > 4.0) <= 3 and np.median(bounds) > 2.5


def test_the_bound_is_the_last_rung_refuted_with_all_below():
    rng = np.random.default_rng(4)
    coins = rng.random(300) < 0.5
    values = coins + 0.4 * rng.normal(size=300)
    found = lower_bound_from_scores(values=values, membership=coins, **LEVEL)
    reached = next(place for place, rung in enumerate(LADDER) if epsilon_of(float(rung), 1e-5) == found)
    places = (0, 10, 100, reached - 1, reached, reached + 1)
    best = [log_wealth(values - 0.5, coins, mu=float(LADDER[place]), opening=OPENED).max() for place in places]
    assert reached > 101 and [value >= np.log(20) for value in best] == [True] * 5 + [False]
    assert rejects(values=values, membership=coins, epsilon=found, **LEVEL)


def test_a_claim_is_not_refuted_where_a_smaller_one_stands():
    """Wealth need not fall along the ladder: 39 right of 40 weak scores refute a rung, but not the first."""
    coins = np.arange(40) % 2 == 0
    stream = {"values": np.where(coins & (np.arange(40) > 0), 0.51, 0.49), "membership": coins}
    best = [
        log_wealth(stream["values"] - 0.5, coins, mu=float(rung), opening=OPENED).max() >= np.log(20)
        for rung in LADDER[::20]
    ]
    assert not best[0] and any(best)
    assert lower_bound_from_scores(**stream, **LEVEL) == 0.0
    middle = float(LADDER[20 * int(np.argmax(best))])
    assert not rejects(**stream, epsilon=epsilon_of(middle, 1e-5), **LEVEL)


@pytest.mark.parametrize("opening", [None, OPENING])
@pytest.mark.parametrize(("claim", "bar"), [(4.0, 40), (1.0, 420)])
def test_half_the_noise_is_found_out_within_the_bars(claim, bar, opening):
    assert np.median(gdp_times(claim, 0.5, 1500 if claim > 1 else 300, np.random.default_rng(8), opening)) <= bar


def test_half_the_noise_of_eight_is_found_out_in_few_looks_without_an_opening():
    assert np.median(gdp_times(8.0, 0.5, 1500, np.random.default_rng(8), None)) <= 23


@pytest.mark.parametrize("distance", [1e-6, 0.4, 1e6])
def test_fourteen_right_guesses_refute_eight_and_half_the_noise_gives_them_more_often_than_not(distance):
    """So that the median is 14 at most; 13 are too few."""
    coins = np.random.default_rng(3).random(OPENING) < 0.5
    values = 0.5 + distance * np.where(coins, 1.0, -1.0)
    assert lower_bound_from_scores(values=values, membership=coins, **LEVEL) >= 8.0
    assert rejects(values=values, membership=coins, epsilon=8.0, **LEVEL)
    watched = GDPConfidenceSequence(**LEVEL)
    bounds = [watched.update(score, bool(coin)) for score, coin in zip(values, coins, strict=True)]
    assert bounds[-2] < 8.0 <= bounds[-1]
    assert special.ndtr(mu_of(8.0, 1e-5)) ** OPENING > 0.503


def test_half_the_noise_is_found_out_within_fourteen_looks_as_often_as_its_guesses_are_right():
    found = gdp_times(8.0, 0.5, 3000, np.random.default_rng(9))
    assert (
        0.503 - 0.028 < np.mean(found <= OPENING) < 0.55
    )  # three standard errors; and the most that any valid test does


def test_a_right_guess_pays_what_its_bound_allows_and_one_wrong_guess_loses_the_stake():
    for mu in (0.02, 0.9, EIGHT, 8.0):
        sure = payoffs_against(mu)[0]
        assert sure.included[-1] == pytest.approx(-special.log_ndtr(mu / 2), abs=1e-6)
        assert sure.included[0] == sure.excluded[-1] < -11


def test_no_valid_test_of_gdp_finds_half_the_noise_sooner_than_stated():
    """A law that obeys ε = 8 is so near N(±μ, 1) that 12 looks cannot find it out in half of the cases."""
    mu = np.array([mu_of(8.0, 1e-5)])
    payoffs = against_gaussian(mu, 2 * mu)
    edges = np.concatenate([[-np.inf], payoffs.limit * 2 * mu * np.linspace(-1, 1, CELLS - 1), [np.inf]])
    feared = np.diff(special.ndtr(edges - mu))  # in-scores about μ; out-scores mirror them, coin and all
    logs = payoffs.included[0]
    nearest = feared * np.exp(-logs)
    assert nearest.sum() == pytest.approx(1.0, abs=1e-5)
    for slope in np.exp(np.linspace(-3, 3, 61)):  # (1) of payoffs.py: the nearest laws are GDP themselves
        excess = np.max(np.cumsum(nearest[::-1]) - slope * np.cumsum(nearest))
        assert excess <= gaussian_delta(np.log(slope), mu[0]) + 1e-5
    assert np.log(20) / (feared @ logs) == pytest.approx(24.57, abs=0.02)
    rng = np.random.default_rng(0)
    ratios = np.exp(rng.choice(logs, size=(200_000, 12), p=feared / feared.sum()).sum(axis=1))
    weights = np.linspace(1, 12, 45)  # of the error: power <= w α + E (1 − w / ratio)⁺ for every w >= 0
    power = min(0.05 * weight + np.mean(np.maximum(1 - weight / ratios, 0)) for weight in weights)
    assert 0.45 < power < 0.48
    ratios = ratios * np.exp(rng.choice(logs, size=(200_000, 2), p=feared / feared.sum()).sum(axis=1))
    power = min(0.04 * weight + np.mean(np.maximum(1 - weight / ratios, 0)) for weight in weights)
    assert 0.48 < power < 0.5


def test_the_ladder_is_cleared_by_scores_without_noise():
    coins = np.arange(200) % 2 == 0
    assert lower_bound_from_scores(values=coins.astype(float), membership=coins, **LEVEL) > 20


@pytest.mark.parametrize("opening", [None, OPENED, Opening(guesses=1, required=np.log(1e6))])
def test_shares_are_those_of_one_fortune(opening):
    shares = np.exp(log_shares_against(LADDER, opening))
    assert np.allclose(shares.sum(axis=1), 1.0, rtol=0, atol=1e-14) and np.all(shares >= 0) and np.all(RATIOS < 1)
    assert shares.shape == (len(LADDER), len(RATIOS)) and shares[:, 0].max() <= MOST_STAKED * (1 + 1e-12)
    assert np.all((shares[:, 0] > 0) == (opening is not None)) and np.all(shares[:, 1:] > 0)


def test_the_opening_peaks_where_its_guesses_just_refute_and_fades_on_either_side():
    """Beyond, they cannot refute: the median against twice that μ is what it is without an opening."""
    staked = np.exp(log_shares_against(LADDER, OPENED))[:, 0]
    peak = int(np.argmax(staked))
    assert np.all(np.diff(staked[: peak + 1]) > 0) and np.all(np.diff(staked[peak:]) < 0)
    assert 0.84 < staked[peak] <= MOST_STAKED and abs(LADDER[peak] / EIGHT - 1) < 0.03 and staked[-1] < 0.06
    medians = [np.median(gdp_times(16.0, 0.7, 400, np.random.default_rng(2), opening)) for opening in (None, OPENING)]
    assert medians[1] <= 1.15 * medians[0]


@pytest.mark.parametrize(("opening", "confidence"), [(5, 0.5), (30, 0.95), (60, 0.999)])
def test_an_opening_refutes_at_any_level_what_most_of_the_wealth_is_enough_for(opening, confidence):
    coins = np.random.default_rng(3).random(opening) < 0.5
    given = {"values": coins.astype(float), "membership": coins, "delta": 1e-5, "confidence": confidence}
    rung = 2 * special.ndtri((MOST_STAKED * (1 - confidence)) ** (1 / opening)) / 1.0201  # and one below
    assert lower_bound_from_scores(**given, opening=opening) >= epsilon_of(rung, 1e-5)


def test_an_opening_given_by_numpy_is_kept_as_a_whole_number():
    assert repr(AnytimeGDP(opening=np.float64(14))) == "AnytimeGDP(centre=0.5, gap=1.0, opening=14)"


def test_a_rung_of_the_ladder_is_that_of_eight():
    assert EIGHT in LADDER and mu_of(8.0, 1e-5) < EIGHT < mu_of(8.0001, 1e-5)


def test_scale_and_centre_only_matter_for_power():
    rng = np.random.default_rng(6)
    coins = rng.random(100) < 0.5
    values = coins + 0.3 * rng.normal(size=100)
    plain = lower_bound_from_scores(values=values, membership=coins, **LEVEL)
    moved = lower_bound_from_scores(values=8 * values - 4, membership=coins, centre=0.0, gap=8.0, **LEVEL)
    assert moved == plain > 0
    assert lower_bound_from_scores(values=8 * values, membership=coins, centre=0.0, gap=0.01, **LEVEL) <= plain


def test_nothing_exceeds_the_ceiling():
    rng = np.random.default_rng(7)
    coins = rng.random(60) < 0.5
    scores = Scores(
        values=coins + 0.2 * rng.normal(size=60), design=Stream(looks=60), guessing_rule=Threshold(value=0.5)
    )
    data = LabelledScores(scores=scores, membership=coins)
    assert 0 < AnytimeGDP().epsilon(data, process=PROCESS, **LEVEL) <= AnytimeGDP().ceiling(data, **LEVEL) < 40


def test_a_claim_beyond_the_ladder_is_never_refuted():
    coins = np.arange(100) % 2 == 0
    assert not rejects(values=1e6 * (coins - 0.5), membership=coins, epsilon=500.0, **LEVEL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": []}, r"values must hold one score or more, got shape \(0,\)"),
        ({"values": [1.0, np.nan]}, "values must be finite, got some that are not"),
        ({"membership": [1, 0]}, r"membership must be bool of shape \(2,\), got int64"),
        ({"membership": [True]}, r"membership must be bool of shape \(2,\), got bool of shape \(1,\)"),
        ({"delta": 0.0}, "delta must be above 0, got 0: normal noise has no finite"),
        ({"delta": 1.0}, "delta must be below 1"),
        ({"confidence": 1.5}, "confidence must lie strictly between 0 and 1"),
        ({"gap": 0.0}, "gap must be above 0"),
        ({"centre": np.inf}, "centre must be finite"),
        ({"opening": 0}, "opening must be at least 1, got 0"),
        ({"opening": 2.5}, "opening must be"),
        ({"opening": 10**5000}, "opening must be at most 1,000,000, got more"),
    ],
)
def test_input_that_makes_no_sense_is_refused(change, message):
    given = {"values": [1.0, 0.0], "membership": [True, False], **LEVEL}
    with pytest.raises(InvalidParameter, match=message):
        lower_bound_from_scores(**given | change)


def test_impossible_units_are_refused_by_name():
    with pytest.raises(InvalidParameter, match=r"AnytimeGDP: gap must be above 0, got -1\.0"):
        AnytimeGDP(gap=-1.0)
    with pytest.raises(InvalidParameter, match="GDPConfidenceSequence: centre must be a number, got nan"):
        GDPConfidenceSequence(centre=np.nan, **LEVEL)
    with pytest.raises(InvalidParameter, match="AnytimeGDP: opening must be at least 1, got -3"):
        AnytimeGDP(opening=-3)


def test_a_world_that_never_occurs_shows_only_what_the_coins_allow():
    values = np.full(400, 3.0)
    assert (
        lower_bound_from_scores(values=values, membership=np.ones(400, dtype=bool), **LEVEL) > 0
    )  # 400 fair coins agree
    assert lower_bound_from_scores(values=values, membership=np.zeros(400, dtype=bool), **LEVEL) == 0.0


def test_the_best_guess_is_what_bounds_the_payoffs():
    assert np.exp(payoffs_against(1.666)[5].included.max()) == pytest.approx(1 / special.ndtr(0.833), rel=1e-3)
