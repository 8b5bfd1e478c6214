import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsgd import DPSGD
from mechanisms import FixedSize, Gaussian, InvalidParameter, Poisson, Repeat, Sampled

positive = st.floats(min_value=1e-300, max_value=1e300)
configs = st.builds(
    DPSGD,
    noise_multiplier=st.floats(min_value=0, max_value=1e300),
    max_grad_norm=positive,
    sampling=st.builds(Poisson, probability=st.floats(min_value=0, max_value=1)),
    expected_batch_size=positive,
    steps=st.integers(1, 10**9),
    learning_rate=positive,
)


def test_the_process_is_the_sampled_gaussian_repeated(config):
    step = Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.5))
    assert config.process() == Repeat(step, 20)
    assert config.process_after(3) == Repeat(step, 3)
    assert config.process_after(0) == Repeat(step, 0)


def test_a_run_has_no_more_steps_than_it_has(config):
    with pytest.raises(InvalidParameter, match="DPSGD: executed must be at most steps = 20, got 21"):
        config.process_after(21)


@settings(deadline=None)
@given(configs)
def test_json_gives_the_same_configuration_back(config):
    assert DPSGD.from_json(config.to_json()) == config


@settings(deadline=None)
@given(configs)
def test_the_repr_is_valid_code(config):
    assert eval(repr(config), {"DPSGD": DPSGD, "Poisson": Poisson}) == config


@pytest.mark.parametrize("name", ["noise_multiplier", "max_grad_norm", "expected_batch_size", "steps", "learning_rate"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "1", None, True, [1.0, 2.0]])
def test_a_value_that_breaks_its_rule_is_named(config, name, value):
    with pytest.raises(InvalidParameter, match=f"DPSGD: {name} must"):
        dataclasses.replace(config, **{name: value})


@pytest.mark.parametrize("name", ["max_grad_norm", "expected_batch_size", "steps", "learning_rate"])
def test_zero_is_allowed_for_the_noise_alone(config, name):
    dataclasses.replace(config, noise_multiplier=0)
    with pytest.raises(InvalidParameter, match=f"DPSGD: {name} must"):
        dataclasses.replace(config, **{name: 0})


def test_the_error_for_the_batch_size_says_where_it_must_come_from(config):
    with pytest.raises(InvalidParameter, match=r"only divisor(.|\n)*Never compute it from the dataset"):
        dataclasses.replace(config, expected_batch_size=0)


def test_half_a_step_is_refused(config):
    with pytest.raises(InvalidParameter, match=r"DPSGD: steps must be a whole number, got 2\.5"):
        dataclasses.replace(config, steps=2.5)


@pytest.mark.parametrize("sampling", [FixedSize(batch_size=2, records=8), 0.5, None])
def test_other_sampling_is_refused_by_name(config, sampling):
    with pytest.raises(InvalidParameter, match="DPSGD: sampling must be Poisson") as refusal:
        dataclasses.replace(config, sampling=sampling)
    assert repr(sampling) in str(refusal.value)
    assert "Use Poisson(probability=expected_batch_size / records)" in str(refusal.value)


def _changed(config, change):
    document = json.loads(config.to_json())
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda d: d.update(schema="dp-calipers/config/2"),
            "schema must be 'dp-calipers/config/1', got 'dp-calipers/c",
        ),
        (lambda d: d["config"].update(momentum=0.9), "config must have the fields .* got .*'momentum'"),
        (lambda d: d["config"].pop("steps"), "config must have the fields"),
        (lambda d: d.update(config=[1]), "config must be a JSON object"),
        (
            lambda d: d["config"]["sampling"].update(type="FixedSize"),
            "sampling type must be 'Poisson', got 'FixedSize'",
        ),
        (lambda d: d["config"]["sampling"].pop("probability"), "sampling must have the fields"),
        (lambda d: d["config"].update(learning_rate=-1), "learning_rate must be above 0"),
    ],
)
def test_json_of_something_else_is_refused_by_name(config, change, text):
    with pytest.raises(InvalidParameter, match=text):
        DPSGD.from_json(_changed(config, change))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3"])
def test_text_that_is_no_configuration_is_refused(text):
    with pytest.raises(InvalidParameter, match="DPSGD: "):
        DPSGD.from_json(text)


def test_a_committed_file_of_the_first_schema_loads_for_ever():
    text = (
        '{"schema": "dp-calipers/config/1", "library": "0.1.0", "config": {"noise_multiplier": 1.1, '
        '"max_grad_norm": 0.1, "sampling": {"type": "Poisson", "probability": 0.01}, "expected_batch_size": 600.0, '
        '"steps": 1000, "learning_rate": 0.5}}'
    )
    assert DPSGD.from_json(text).process() == Repeat(
        Sampled(Gaussian(noise_multiplier=1.1), Poisson(probability=0.01)), 1000
    )


def test_a_budget_is_kept_and_nearly_used_up():
    from accountant import compute_epsilon

    config = DPSGD.for_budget(
        epsilon=2.0,
        delta=1e-5,
        max_grad_norm=1.0,
        sampling=Poisson(probability=0.05),
        expected_batch_size=50,
        steps=100,
        learning_rate=0.5,
    )
    assert 1.9 <= compute_epsilon(config.process(), delta=1e-5) <= 2.0


def test_a_budget_does_not_excuse_the_other_values(config):
    given = {name: getattr(config, name) for name in ("max_grad_norm", "sampling", "expected_batch_size", "steps")}
    with pytest.raises(InvalidParameter, match="DPSGD: learning_rate must be above 0"):
        DPSGD.for_budget(epsilon=1.0, delta=1e-5, learning_rate=0, **given)
