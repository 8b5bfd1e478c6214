"""Whatever goes in: a valid answer, or an error raised on purpose; never NaN, a negative number, a warning or a bug."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant import available, compute_delta, compute_epsilon, delta_bounds, dp_sgd, epsilon_bounds
from accountant.core.ask import named
from accountant.pld import PLD
from accountant.prv import PRV
from mechanisms import (
    Adjacency,
    Compose,
    DPError,
    Gaussian,
    InvalidParameter,
    Laplace,
    Poisson,
    RandomizedResponse,
    Repeat,
    Sampled,
    UnsupportedProcess,
)
from tests.contracts.coarse import ROUTES
from tests.strategies import ODD_REALS, seldom

GAUSSIAN = Gaussian(noise_multiplier=1.0)
LAPLACE = Laplace(noise_multiplier=1.0)
SAMPLED = Sampled(GAUSSIAN, Poisson(probability=0.1))
COARSE = PLD(relative_width=1e-3, most_points=2**12)
SETTINGS = {"pld": COARSE, "prv": PRV(eps_error=0.1, most_points=2**18)}  # the others as they are by default
every_accountant = pytest.mark.parametrize("accountant", [SETTINGS.get(name, name) for name in ROUTES], ids=ROUTES)


def assert_proper(claim):
    assert not math.isnan(claim.lower) and not math.isnan(claim.upper)
    assert 0 <= claim.lower <= claim.upper
    assert claim.quantity == "epsilon" or claim.upper <= 1


def proper_or_refused(ask, *process, **asked):
    try:
        claim = ask(*process, **asked)
    except DPError as error:
        assert str(error)
        return None
    assert_proper(claim)
    return claim


@pytest.mark.parametrize("value", ODD_REALS, ids=repr)
def test_any_delta_is_answered_or_refused(value):
    proper_or_refused(epsilon_bounds, GAUSSIAN, delta=value)


@pytest.mark.parametrize("value", ODD_REALS, ids=repr)
def test_any_noise_multiplier_is_answered_or_refused(value):
    proper_or_refused(epsilon_bounds, noise_multiplier=value, sample_rate=1.0, steps=2, delta=1e-5)


@pytest.mark.parametrize("value", ODD_REALS, ids=repr)
def test_any_sample_rate_is_answered_or_refused(value):
    asked = {"noise_multiplier": 1.0, "sample_rate": value, "steps": 2, "delta": 1e-5}
    proper_or_refused(epsilon_bounds, **asked, accountant=COARSE)


@pytest.mark.parametrize("value", ODD_REALS, ids=repr)
def test_any_number_of_steps_is_answered_or_refused(value):
    proper_or_refused(epsilon_bounds, noise_multiplier=1.0, sample_rate=1.0, steps=value, delta=1e-5)


@pytest.mark.parametrize("value", ODD_REALS, ids=repr)
def test_any_epsilon_is_answered_or_refused(value):
    proper_or_refused(delta_bounds, GAUSSIAN, epsilon=value)
    proper_or_refused(delta_bounds, SAMPLED, epsilon=value, accountant=COARSE)


@seldom
@every_accountant
@given(st.floats(0.0, 1.0, allow_subnormal=True))
def test_any_float_delta_has_a_proper_epsilon(accountant, delta):
    for process in (GAUSSIAN, SAMPLED):
        proper_or_refused(epsilon_bounds, process, delta=delta, accountant=accountant)


@every_accountant
@given(st.floats(0.0, 1e308, allow_subnormal=True))
def test_any_float_epsilon_has_a_proper_delta(accountant, epsilon):
    for process in (GAUSSIAN, SAMPLED):
        proper_or_refused(delta_bounds, process, epsilon=epsilon, accountant=accountant)


EXTREMES = {
    "subnormal-noise": Gaussian(noise_multiplier=5e-324),
    "subnormal-noise-sampled": Sampled(Gaussian(noise_multiplier=5e-324), Poisson(probability=0.1)),
    "tiny-noise": Gaussian(noise_multiplier=1e-200),
    "tiny-noise-sampled": Sampled(Gaussian(noise_multiplier=1e-200), Poisson(probability=0.1)),
    "small-noise-sampled": Sampled(Gaussian(noise_multiplier=0.02), Poisson(probability=0.001)),
    "huge-noise": Gaussian(noise_multiplier=1e200),
    "huge-noise-sampled": Repeat(Sampled(Gaussian(noise_multiplier=1e100), Poisson(probability=0.1)), 2),
    "huge-and-small-noise": Compose((Gaussian(noise_multiplier=1e200), Gaussian(noise_multiplier=1e-3))),
    "rare-sampling": Repeat(Sampled(GAUSSIAN, Poisson(probability=1e-10)), 2),
    "rarer-sampling": Repeat(Sampled(GAUSSIAN, Poisson(probability=1e-200)), 2),
    "nearly-certain-sampling": Repeat(Sampled(GAUSSIAN, Poisson(probability=1 - 2**-53)), 2),
    "single-rare-step": Sampled(GAUSSIAN, Poisson(probability=1e-3)),
    "no-noise": Repeat(Gaussian(noise_multiplier=0.0), 3),
    "no-noise-sampled": Repeat(Sampled(Gaussian(noise_multiplier=0.0), Poisson(probability=0.1)), 3),
    "steps-beyond-a-machine-word": Repeat(GAUSSIAN, 2**63),
    "sampled-steps-beyond-a-machine-word": Repeat(SAMPLED, 2**63),
    "steps-beyond-floats": Repeat(GAUSSIAN, 10**400),
    "sampled-steps-beyond-floats": Repeat(SAMPLED, 10**400),
}
RESPONSES = {
    "answers-at-random": Repeat(RandomizedResponse(epsilon=0.0), 3),
    "answers-nearly-at-random": Repeat(RandomizedResponse(epsilon=1e-8), 3),
    "answers-within-a-subnormal-of-random": RandomizedResponse(epsilon=5e-324),
    "answers-nearly-always-true": Repeat(RandomizedResponse(epsilon=60.0), 2),
    "answers-true-but-for-a-subnormal": Repeat(RandomizedResponse(epsilon=700.0, categories=3), 2),
    "many-categories": Repeat(RandomizedResponse(epsilon=1.0, categories=10**30), 2),
    "answers-beyond-a-machine-word": Repeat(RandomizedResponse(epsilon=1.0), 2**63),
}


def answers_or_refusals(accountant, process, adjacency):
    try:
        profile = named(accountant).profile(process, adjacency=adjacency)
    except DPError as error:
        assert str(error)
        return
    for delta in (0.0, 1e-300, 1e-5, 0.5):
        proper_or_refused(profile.epsilon, delta)
    for epsilon in (0.0, 1.0, 1e4):
        proper_or_refused(profile.delta, epsilon)


@pytest.mark.thinned(5)  # of 13 accountants on 18 processes: each of both is met
@every_accountant
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_processes_are_answered_or_refused(accountant, name):
    answers_or_refusals(accountant, EXTREMES[name], Adjacency.ADD_REMOVE)


@every_accountant
@pytest.mark.parametrize("name", RESPONSES)
def test_extreme_answers_are_answered_or_refused(accountant, name):
    answers_or_refusals(accountant, RESPONSES[name], Adjacency.REPLACE_ONE)


MOST_ORDINARY = [
    (0.028, 0.01, 1),
    (1.4, 0.0033, 1),
    (0.73, 3e-5, 1),
    (1.0, 1e-10, 2),
]


@pytest.mark.parametrize(("noise", "rate", "steps"), MOST_ORDINARY)
def test_the_default_accountant_answers_dp_sgd_with_little_noise_or_rare_sampling(noise, rate, steps):
    claim = epsilon_bounds(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=1e-5)
    assert_proper(claim)
    assert claim.upper < math.inf


def test_a_bracket_of_hardly_any_noise_is_finite():
    claim = epsilon_bounds(noise_multiplier=0.001, sample_rate=0.01, steps=1, delta=1e-5, accountant="pld")
    assert_proper(claim)
    assert 0 < claim.lower <= claim.upper < math.inf


# What must never be certified


def test_no_noise_is_no_privacy_and_says_so():
    assert compute_epsilon(noise_multiplier=0.0, sample_rate=0.1, steps=3, delta=1e-5) == math.inf
    assert compute_epsilon(noise_multiplier=0.0, sample_rate=0.1, steps=0, delta=1e-5) == 0.0
    assert compute_epsilon(noise_multiplier=0.0, sample_rate=0.0, steps=3, delta=1e-5) == 0.0
    assert compute_epsilon(noise_multiplier=0.0, sample_rate=0.1, steps=3, delta=0.3) == 0.0


def test_gaussian_noise_never_gives_delta_zero():
    for accountant in available():
        try:
            assert compute_epsilon(SAMPLED, delta=0.0, accountant=accountant) == math.inf
        except UnsupportedProcess:
            assert accountant in ("gdp", "pure", "zcdp")  # for unsampled noise, and for losses with a bound


@pytest.mark.parametrize(
    "name", [name for name in available() if name not in ("gdp", "contour", "pure", "jumps", "zcdp")]
)
def test_a_record_that_may_be_shown_is_never_free_however_large_epsilon(name):
    shown = Sampled(Gaussian(noise_multiplier=0.0), Poisson(probability=0.1))
    for epsilon in (700.0, 1e10, 1e308):
        assert delta_bounds(shown, epsilon=epsilon, accountant=name).upper >= 0.1


@pytest.mark.parametrize("name", available())
@pytest.mark.parametrize(("epsilon", "rule"), [(-1.0, "at least 0"), (math.inf, "finite"), (math.nan, "a number")])
def test_an_epsilon_that_is_none_is_refused_by_every_accountant(name, epsilon, rule):
    with pytest.raises(InvalidParameter, match=f"epsilon must be {rule}"):
        known = {"closed_form": LAPLACE, "pure": LAPLACE, "jumps": SAMPLED}
        delta_bounds(known.get(name, GAUSSIAN), epsilon=epsilon, accountant=name)


def test_a_sample_of_a_sample_too_rare_for_floats_is_not_free_at_delta_zero():
    tiny = Poisson(probability=1e-200)
    assert compute_epsilon(Sampled(Sampled(GAUSSIAN, tiny), tiny), delta=0.0) == math.inf


# Which messages


MESSAGES = [
    (
        {"delta": 1e-5},
        r"accountant: give a process, or all keywords of DP-SGD; missing: noise_multiplier, sample_rate, steps",
    ),
    ({"delta": 1e-5, "noise_multiplier": 1.0, "steps": 2}, "missing: sample_rate"),
    ({"process": SAMPLED, "steps": 2, "delta": 1e-5}, "give either a process or the keywords of DP-SGD, not both"),
    ({"process": "gaussian", "delta": 1e-5}, "process must be a Process such as Gaussian"),
    ({"process": GAUSSIAN, "delta": 1.5}, r"delta must lie in \[0, 1\], got 1\.5"),
    ({"process": GAUSSIAN, "delta": 1e-5, "adjacency": "swap"}, "Adjacency: name must be one of"),
    ({"process": GAUSSIAN, "delta": 1e-5, "accountant": "PLD"}, "accountant: name must be one of 'advanced', 'basic'"),
    ({"noise_multiplier": 1.0, "sample_rate": 256, "steps": 2, "delta": 1e-5}, "divide it by the number of records"),
]


@pytest.mark.parametrize(("keywords", "message"), MESSAGES)
def test_a_wrong_question_is_refused_with_the_rule(keywords, message):
    with pytest.raises(InvalidParameter, match=message):
        compute_epsilon(**keywords)


def test_a_misspelt_keyword_is_refused():
    with pytest.raises(TypeError, match="noise_multipler"):
        compute_epsilon(noise_multipler=1.0, sample_rate=0.1, steps=1, delta=1e-5)


def test_numbers_in_any_guise_give_the_same_answer():
    plain = compute_delta(noise_multiplier=2.0, sample_rate=1.0, steps=4, epsilon=1.0)
    other = compute_delta(
        noise_multiplier=np.float32(2), sample_rate=np.array(1), steps=np.int64(4), epsilon=np.float64(1)
    )
    assert plain == other == compute_delta(dp_sgd(noise_multiplier=2, sample_rate=1, steps=4.0), epsilon=1)
