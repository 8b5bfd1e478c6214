"""Calibration: the promise is kept, hardly any less noise would keep it, and impossible promises are refused."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accountant.calibrate as module
from accountant import (
    calibrate_delta,
    calibrate_noise_multiplier,
    calibrate_sample_rate,
    calibrate_steps,
    compute_delta,
    compute_epsilon,
)
from accountant.pld import PLD
from accountant.tightest import Tightest
from mechanisms import DPError, Gaussian, InvalidParameter

COARSE = PLD(relative_width=1e-4, most_points=2**14)
# σ(ε, δ) of the analytic Gaussian mechanism, Balle & Wang 2018
ANALYTIC = [
    (0.1, 1e-5, 30.749566131978),
    (0.5, 1e-5, 7.031826675582),
    (1.0, 1e-5, 3.730631634816),
    (1.0, 1e-6, 4.224678889327),
    (2.0, 1e-5, 1.993812445644),
    (4.0, 1e-5, 1.081161849520),
    (8.0, 1e-5, 0.600229072199),
    (10.0, 1e-5, 0.499888619709),
]


@pytest.mark.parametrize(("epsilon", "delta", "noise"), ANALYTIC)
def test_the_noise_of_one_gaussian_is_that_of_the_analytic_mechanism(epsilon, delta, noise):
    assert calibrate_noise_multiplier(target_epsilon=epsilon, delta=delta) == pytest.approx(noise, rel=1e-5)


@settings(max_examples=4)
@given(st.floats(0.01, 30.0), st.sampled_from((0.5, 1e-2, 1e-5, 1e-12, 1e-100)), st.integers(1, 1000))
def test_the_promise_is_kept_and_a_little_less_noise_breaks_it(epsilon, delta, steps):
    def spent(noise):
        return compute_delta(noise_multiplier=noise, sample_rate=1.0, steps=steps, epsilon=epsilon)

    noise = calibrate_noise_multiplier(target_epsilon=epsilon, delta=delta, steps=steps)
    assert spent(noise) <= delta < spent(noise * (1 - 1e-4))


@pytest.mark.parametrize("rate", [0.01, 0.5])
@pytest.mark.parametrize("steps", [1, 50])
def test_the_promise_of_sampled_noise_is_kept_and_a_little_less_breaks_it(rate, steps):
    given_ = {"sample_rate": rate, "steps": steps, "accountant": COARSE}
    noise = calibrate_noise_multiplier(target_epsilon=1.0, delta=1e-5, **given_)
    assert compute_delta(noise_multiplier=noise, epsilon=1.0, **given_) <= 1e-5
    assert 1.0 - 1e-4 <= compute_epsilon(noise_multiplier=noise, delta=1e-5, **given_) <= 1.0
    assert compute_delta(noise_multiplier=noise * (1 - 1e-4), epsilon=1.0, **given_) > 1e-5


SETTINGS = [
    {"sample_rate": 256 / 60_000, "steps": 14_062, "target": 3.0, "delta": 1e-5},
    {"sample_rate": 0.01, "steps": 1_000, "target": 8.0, "delta": 1e-5},
    {"sample_rate": 1e-3, "steps": 10**7, "target": 0.1, "delta": 1e-12},
    {"sample_rate": 0.3, "steps": 400, "target": 20.0, "delta": 1e-30},
    {"sample_rate": 1.0, "steps": 50, "target": 0.5, "delta": 1e-6},
    {"sample_rate": 0.05, "steps": 200, "target": 2.0, "delta": 1e-6, "accountant": "rdp"},
    {"sample_rate": 0.05, "steps": 20, "target": 2.0, "delta": 1e-6, "accountant": COARSE},
]


@pytest.mark.thinned(2)
@pytest.mark.parametrize("asked", SETTINGS)
def test_whatever_is_calibrated_the_certified_epsilon_is_the_target_or_hardly_less(asked):
    target, delta = asked["target"], asked["delta"]
    others = {name: value for name, value in asked.items() if name not in ("target", "delta")}

    def epsilon(**found):
        return compute_epsilon(**(others | {"delta": delta} | found))

    noise = calibrate_noise_multiplier(target_epsilon=target, delta=delta, **others)
    assert target * (1 - 1e-4) <= epsilon(noise_multiplier=noise) <= target
    less = calibrate_delta(target_epsilon=target, noise_multiplier=noise, **others)
    assert less <= delta * (1 + 1e-4) and target * (1 - 1e-4) <= epsilon(noise_multiplier=noise, delta=less) <= target
    given_ = {"target_epsilon": target, "delta": delta, "noise_multiplier": 1.01 * noise}
    steps = calibrate_steps(**given_, **{name: value for name, value in others.items() if name != "steps"})
    spent = [epsilon(noise_multiplier=1.01 * noise, steps=count) for count in (steps, steps + 1 + steps // 10**5)]
    assert spent[0] <= target < spent[1] and steps >= others["steps"]
    rate = calibrate_sample_rate(**given_, **{name: value for name, value in others.items() if name != "sample_rate"})
    if rate < 1.0:
        assert target * (1 - 1e-4) <= epsilon(noise_multiplier=1.01 * noise, sample_rate=rate) <= target


def test_without_noise_the_largest_sample_rate_is_that_of_never_being_seen():
    rate = calibrate_sample_rate(target_epsilon=1.0, delta=1e-9, noise_multiplier=0.0, steps=1000)
    assert -math.expm1(1000 * math.log1p(-rate)) == pytest.approx(1e-9, rel=1e-5)


@pytest.mark.parametrize("most", [1, 2, 50, 51, 10**5])
def test_the_largest_number_of_gaussian_steps_is_found_exactly(most):
    noise = calibrate_noise_multiplier(target_epsilon=0.5, delta=1e-6, steps=most) * (1 + 0.2 / most)
    given_ = {"target_epsilon": 0.5, "delta": 1e-6, "noise_multiplier": noise, "sample_rate": 1.0}
    assert calibrate_steps(**given_) == most
    assert calibrate_steps(**(given_ | {"noise_multiplier": noise / 2})) == most // 4


@pytest.mark.parametrize("accountant", ["rdp", "basic"])
def test_every_accountant_can_be_calibrated_by(accountant):
    given_ = {"sample_rate": 0.1, "steps": 3, "accountant": accountant}
    noise = calibrate_noise_multiplier(target_epsilon=2.0, delta=1e-5, **given_)
    assert compute_delta(noise_multiplier=noise, epsilon=2.0, **given_) <= 1e-5
    assert compute_delta(noise_multiplier=noise * (1 - 1e-4), epsilon=2.0, **given_) > 1e-5


def test_gaussians_can_be_calibrated_by_the_exact_accountant():
    assert calibrate_noise_multiplier(target_epsilon=1.0, delta=1e-5, accountant="gdp") == pytest.approx(3.73063163)


def test_replacing_a_record_takes_twice_the_noise():
    one = calibrate_noise_multiplier(target_epsilon=1.0, delta=1e-5)
    two = calibrate_noise_multiplier(target_epsilon=1.0, delta=1e-5, adjacency="replace_one")
    assert two == pytest.approx(2 * one, rel=1e-5)


@pytest.mark.parametrize(
    ("delta", "rate", "steps"),
    [(1.0, 1.0, 1), (0.3, 0.2, 1), (1e-5, 0.0, 5), pytest.param(0.5, 1e-3, 10, marks=pytest.mark.slow)],
)
def test_no_noise_is_needed_where_any_will_do(delta, rate, steps):
    found = calibrate_noise_multiplier(target_epsilon=1.0, delta=delta, sample_rate=rate, steps=steps)
    assert found == 0.0


def test_a_promise_of_no_epsilon_is_a_bound_of_the_total_variation_distance():
    noise = calibrate_noise_multiplier(target_epsilon=0.0, delta=0.1)
    assert 2 * 0.5 * math.erf(1 / (2 * noise) / math.sqrt(2)) == pytest.approx(0.1, rel=1e-5)


def test_a_small_total_variation_distance_can_be_promised():
    assert calibrate_noise_multiplier(target_epsilon=0.0, delta=1e-5) == pytest.approx(39_894.228, rel=1e-5)


INVALID = [
    ({"delta": 0.0}, r"delta must be above 0, got 0\.0\.\nGaussian noise of any size leaves a positive delta"),
    ({"delta": -1e-5}, r"delta must lie in \[0, 1\]"),
    ({"delta": math.nan}, "delta must be a number"),
    ({"target_epsilon": -1.0}, "target_epsilon must be at least 0"),
    ({"target_epsilon": math.inf}, "target_epsilon must be finite"),
    ({"sample_rate": 256}, r"sample_rate must lie in \[0, 1\], got 256\.\nIf it is an expected batch size"),
    ({"steps": 1.5}, "steps must be a whole number"),
    ({"adjacency": "both"}, "Adjacency: name must be one of"),
    ({"accountant": "best"}, "accountant: name must be one of .*'tightest'.*, got 'best'"),
]


@pytest.mark.parametrize(("change", "message"), INVALID)
def test_an_impossible_promise_is_refused_with_the_rule(change, message):
    with pytest.raises(InvalidParameter, match=message):
        calibrate_noise_multiplier(**({"target_epsilon": 1.0, "delta": 1e-5} | change))


@settings(max_examples=4)
@given(st.floats(0.0, 50.0), st.floats(1e-20, 1.0), st.floats(1e-3, 1.0), st.integers(1, 100))
def test_any_valid_promise_is_calibrated_or_refused_on_purpose(epsilon, delta, rate, steps):
    try:
        noise = calibrate_noise_multiplier(
            target_epsilon=epsilon, delta=delta, sample_rate=rate, steps=steps, accountant="basic"
        )
    except DPError:
        return
    assert 0.0 <= noise < math.inf
    assert Gaussian(noise_multiplier=noise).noise_multiplier == noise


@pytest.mark.parametrize(("epsilon", "rate", "steps"), [(50.0, 0.5, 4), (200.0, 0.5, 4), (30.0, 0.9, 3)])
def test_few_questions_find_the_noise_where_every_step_stands_out(epsilon, rate, steps, monkeypatch):
    asked, excess = [], module._Promise.excess

    def counted(promise, process):
        asked.append(process)
        return excess(promise, process)

    monkeypatch.setattr(module._Promise, "excess", counted)
    given = {"delta": 1e-5, "sample_rate": rate, "steps": steps, "accountant": COARSE}
    noise = calibrate_noise_multiplier(target_epsilon=epsilon, **given)
    assert len(asked) <= 6
    less = {"noise_multiplier": noise * (1 - 1e-3), **given}
    assert compute_epsilon(noise_multiplier=noise, **given) <= epsilon < compute_epsilon(**less)


@pytest.mark.slow
def test_noise_for_records_that_hardly_ever_take_part_is_found_in_few_long_answers(monkeypatch):
    asked, profile = [], Tightest.profile

    def counted(self, process, *, adjacency):
        asked.append(process)
        return profile(self, process, adjacency=adjacency)

    monkeypatch.setattr(Tightest, "profile", counted)
    rare = {"sample_rate": 1e-9, "steps": 10**6}
    noise = calibrate_noise_multiplier(target_epsilon=1e-3, delta=1e-10, **rare)
    assert len(set(asked)) <= 6  # 13 without a rough search before
    assert 0.999e-3 <= compute_epsilon(noise_multiplier=noise, delta=1e-10, **rare) <= 1e-3
