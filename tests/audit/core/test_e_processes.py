import time

import numpy as np
import pytest

from accountant import delta_bounds
from audit.core import e_processes
from audit.core.e_processes import SAFETY, SMALLEST_MU, epsilon_of, log_required, mu_of
from audit.estimators import anytime, anytime_gdp, anytime_normal
from audit.scores import Threshold
from mechanisms import Gaussian, InvalidParameter

LEVEL = {"delta": 1e-5, "confidence": 0.95}
SEQUENCES = {
    "anytime": lambda **level: anytime.GuessConfidenceSequence(rule=Threshold(value=0.5), **level),
    "anytime_gdp": lambda **level: anytime_gdp.GDPConfidenceSequence(**level),
    "anytime_normal": lambda **level: anytime_normal.NormalConfidenceSequence(centre=0.0, deviation=0.5, **level),
}
BATCHES = {
    "anytime": lambda v, b: anytime.lower_bound_from_outcomes(np.where((v >= 0.5) == b, 1, -1), **LEVEL),
    "anytime_gdp": lambda v, b: anytime_gdp.lower_bound_from_scores(values=v, membership=b, **LEVEL),
    "anytime_normal": lambda v, b: anytime_normal.lower_bound_from_scores(
        values=v, membership=b, centre=0.0, deviation=0.5, **LEVEL
    ),
}


def stream(noise, looks, seed=5):
    rng = np.random.default_rng(seed)
    coins = rng.random(looks) < 0.5
    return coins + noise * rng.normal(size=looks), coins


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("noise", [0.2, 0.5, 3.0])
def test_bounds_only_rise_and_the_last_is_that_of_all_looks_at_once(name, noise):
    values, coins = stream(noise, 90)
    watched = SEQUENCES[name](**LEVEL)
    bounds = [watched.update(score, coin) for score, coin in zip(values, coins, strict=True)]
    assert bounds == sorted(bounds) and watched.looks == 90 and watched.epsilon == bounds[-1]
    assert bounds[-1] == pytest.approx(BATCHES[name](values, coins), abs=1e-9)
    assert bounds[60] == pytest.approx(BATCHES[name](values[:61], coins[:61]), abs=1e-9)
    assert noise != 0.2 or bounds[-1] > 0


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize(
    ("score", "coin", "message"),
    [
        (np.nan, True, "score must be a finite number, got something else"),
        (-np.inf, True, "score must be a finite number, got something else"),
        ("1", True, "score must be a finite number, got something else"),
        (1.0, 1, "coin must be a bool, got int"),
        (1.0, None, "coin must be a bool, got NoneType"),
    ],
)
def test_a_look_that_makes_no_sense_is_refused_and_not_counted(name, score, coin, message):
    watched = SEQUENCES[name](**LEVEL)
    with pytest.raises(InvalidParameter, match=message):
        watched.update(score, coin)
    assert watched.looks == 0 and watched.epsilon == 0.0


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf, "0.71", np.full(3, 0.71), None])
def test_a_refusal_of_a_score_tells_nothing_of_it(name, score):
    refusals = []
    for given in (score, np.inf):
        with pytest.raises(InvalidParameter) as refusal:
            SEQUENCES[name](**LEVEL).update(given, True)
        refusals.append(str(refusal.value))
        assert refusal.value.__context__ is None
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize("name", SEQUENCES)
def test_impossible_levels_are_refused(name):
    with pytest.raises(InvalidParameter, match=r"confidence must lie strictly between 0 and 1, got 1\.0"):
        SEQUENCES[name](delta=1e-5, confidence=1.0)
    with pytest.raises(InvalidParameter, match=r"delta must be below 1, got 1\.0"):
        SEQUENCES[name](delta=1.0, confidence=0.95)
    if name != "anytime":
        with pytest.raises(InvalidParameter, match="delta must be above 0, got 0"):
            SEQUENCES[name](delta=0.0, confidence=0.95)


@pytest.mark.slow  # a time
@pytest.mark.parametrize("name", SEQUENCES)
def test_a_look_takes_less_than_a_millisecond(name):
    values, coins = stream(0.5, 400)
    watched = SEQUENCES[name](**LEVEL)
    watched.update(0.5, True)  # makes the tables, once a process
    started = time.process_time()
    for score, coin in zip(values, coins, strict=True):
        watched.update(score, coin)
    assert (time.process_time() - started) / 400 < 1e-3


@pytest.mark.parametrize("delta", [1e-12, 1e-5, 0.1])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 8.0, 60.0])
def test_mu_and_epsilon_turn_into_each_other_on_the_safe_side(epsilon, delta):
    mu = mu_of(epsilon, delta)
    wider = Gaussian(noise_multiplier=1 / mu)
    assert delta_bounds(wider, epsilon=epsilon).upper >= delta
    assert epsilon_of(mu, delta) <= epsilon * (1 + 1e-7) + 1e-7
    assert epsilon_of(mu, delta) == pytest.approx(epsilon, rel=1e-6, abs=1e-6)
    tighter = Gaussian(noise_multiplier=(1 + 3 * SAFETY) / mu)
    assert delta_bounds(tighter, epsilon=epsilon).lower <= delta or mu < 2 * SMALLEST_MU


@pytest.mark.parametrize("required", [-0.5, 0.0, 0.3, 1.0, 1.1])
def test_a_sum_reaches_what_it_reaches(required):
    rng = np.random.default_rng(9)
    for spread in (0.01, 1.0):
        logs = rng.normal(-1.0, spread, (50, 4, 3))
        every = np.logaddexp.reduce(logs, axis=1).max(axis=1) >= required
        assert [e_processes.reaches(one, required) for one in logs] == every.tolist()


def test_what_lies_beyond_all_mu_is_infinite_and_what_lies_below_shows_nothing():
    assert mu_of(1e6, 1e-5) == np.inf and epsilon_of(1e-12, 1e-5) == 0.0
    with pytest.raises(InvalidParameter, match=r"epsilon must be at least 0, got -1\.0"):
        mu_of(-1.0, 1e-5)
    with pytest.raises(InvalidParameter, match="epsilon must be a number, got nan"):
        mu_of(np.nan, 1e-5)


def test_the_wealth_required_is_one_over_the_error():
    assert np.exp(log_required(0.99)) == pytest.approx(100)


def refuted_at(name, values, coins, epsilon):
    """What the module-level test of each estimator says of one ε."""
    if name == "anytime":
        return anytime.rejects(outcomes=np.where((values >= 0.5) == coins, 1, -1), epsilon=epsilon, **LEVEL)
    if name == "anytime_gdp":
        return anytime_gdp.rejects(values=values, membership=coins, epsilon=epsilon, **LEVEL)
    return anytime_normal.rejects(values=values, membership=coins, epsilon=epsilon, centre=0.0, deviation=0.5, **LEVEL)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENCES)
def test_the_bound_agrees_with_the_test_on_a_thousand_streams(name):
    """On the GDP ladder the rung above, up to 2 % of μ away, may be refuted off the ladder and the bound stay."""
    disagreed = 0
    for seed in range(1000):
        values, coins = stream([0.2, 0.4, 0.8, 2.0][seed % 4], 60, seed)
        found = BATCHES[name](values, coins)
        below = found == 0 or refuted_at(name, values, coins, found * (1 - 1e-7))
        above = name != "anytime_gdp" and refuted_at(name, values, coins, found * (1 + 1e-6) + 1e-6)
        disagreed += not below or above
    assert disagreed == 0
