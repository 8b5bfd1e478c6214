import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsgd import DPSGD
from mechanisms import (
    BallsInBins,
    FixedSize,
    Gaussian,
    InvalidParameter,
    Poisson,
    Repeat,
    Sampled,
    Shuffled,
    TruncatedPoisson,
    UnsupportedProcess,
    WithReplacement,
)
from mechanisms.core.process import Allocated
from tests.dpsgd.schemes import EVERY_SCHEME, config_of, evaluated

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
    assert evaluated(repr(config)) == config


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


class _Uneven(Poisson):
    """A scheme that only says it is Poisson sampling."""


@pytest.mark.parametrize("sampling", [_Uneven(probability=0.5), 0.5, None, FixedSize, "Poisson"])
def test_other_sampling_is_refused_by_name(config, sampling):
    with pytest.raises(
        InvalidParameter, match="DPSGD: sampling must be one of Poisson, TruncatedPoisson, F"
    ) as refusal:
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
            r"sampling must have the fields \['batch_size', 'records', 'type'\], got \['probability', 'type'\]",
        ),
        (
            lambda d: d["config"]["sampling"].update(type="Sampled"),
            "sampling type must be one of Poisson, T.*'Sampled'",
        ),
        (lambda d: d["config"].update(sampling=["Poisson"]), r"sampling type must be one of .* got \['Poisson'\]"),
        (lambda d: d["config"]["sampling"].pop("type"), "sampling type must be one of .* got None"),
        (lambda d: d["config"].update(steps_per_epoch=4), "steps_per_epoch must be None for Poisson"),
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


@pytest.mark.parametrize("config", EVERY_SCHEME.values(), ids=EVERY_SCHEME)
def test_every_scheme_comes_back_from_json_and_from_its_repr(config):
    assert DPSGD.from_json(config.to_json()) == config
    assert evaluated(repr(config)) == config


def test_files_from_before_cut_samples_counted_records_load():
    config = config_of(TruncatedPoisson(probability=0.6, largest_batch=3))
    text = _changed(config, lambda d: d["config"]["sampling"].pop("records"))
    assert DPSGD.from_json(text) == config


GAUSSIAN = Gaussian(noise_multiplier=1.0)


@pytest.mark.parametrize("config", EVERY_SCHEME.values(), ids=EVERY_SCHEME)
def test_the_process_is_the_scheme_around_each_step_or_each_epoch(config):
    if config.steps_per_epoch is None:
        expected = Repeat(Sampled(GAUSSIAN, config.sampling), 12)
    else:
        expected = Repeat(Allocated(Repeat(GAUSSIAN, 3), config.sampling), 4)
    assert config.process() == expected


@pytest.mark.parametrize(("executed", "epochs"), [(0, 0), (1, 1), (3, 1), (4, 2), (11, 4), (12, 4)])
@pytest.mark.parametrize("sampling", [Shuffled(), BallsInBins()])
def test_an_epoch_that_has_begun_is_described_as_a_whole(sampling, executed, epochs):
    config = config_of(sampling, steps_per_epoch=3)
    assert config.process_after(executed) == Repeat(Allocated(Repeat(GAUSSIAN, 3), sampling), epochs)


@pytest.mark.parametrize(
    ("sampling", "changes", "text"),
    [
        (Shuffled(), {"steps_per_epoch": None}, r"steps_per_epoch must be given for Shuffled\(\)"),
        (BallsInBins(), {"steps_per_epoch": None}, r"steps_per_epoch must be given for BallsInBins\(\)"),
        (BallsInBins(), {"steps_per_epoch": 0}, "steps_per_epoch must be at least 1, got 0"),
        (BallsInBins(), {"steps_per_epoch": 1.5}, "steps_per_epoch must be a whole number, got 1.5"),
        (BallsInBins(), {"steps_per_epoch": 5}, "must be a multiple of steps_per_epoch, got 12 and 5(.|\n)*steps=10"),
        (BallsInBins(), {"steps_per_epoch": 24}, "must be a multiple of steps_per_epoch, got 12 and 24(.|\n)*steps=24"),
        (BallsInBins(), {"steps": 2**50, "steps_per_epoch": 2**50}, r"steps_per_epoch must be at most 2\^40"),
        (Poisson(probability=0.5), {"steps_per_epoch": 3}, "steps_per_epoch must be None for Poisson"),
        (
            FixedSize(batch_size=3, records=9),
            {"expected_batch_size": 4},
            "must be the batch_size of FixedSize.*got 4.0",
        ),
        (FixedSize(batch_size=0, records=9), {"expected_batch_size": 4}, "must be the batch_size of FixedSize"),
        (WithReplacement(batch_size=3, records=9), {"expected_batch_size": 2.5}, "must be the batch_size of WithRep"),
        (TruncatedPoisson(probability=1, largest_batch=3), {"expected_batch_size": 3.5}, "at most the largest_batch"),
        (Shuffled(), {"expected_batch_size": 2.5}, "must be a whole number for Shuffled"),
    ],
)
def test_what_does_not_fit_the_scheme_is_refused_by_name(sampling, changes, text):
    with pytest.raises(InvalidParameter, match=f"DPSGD: .*{text}"):
        config_of(sampling, **changes)


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


def _for_budget(sampling, adjacency, **changes):
    config = config_of(sampling, **changes)
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    del fields["noise_multiplier"]
    return DPSGD.for_budget(epsilon=2.0, delta=1e-5, adjacency=adjacency, **fields)


@pytest.mark.parametrize(
    ("sampling", "adjacency", "changes"),
    [
        (FixedSize(batch_size=1, records=1), "replace_one", {"steps": 1}),
        (BallsInBins(), "add_remove", {"steps": 1, "steps_per_epoch": 1}),
        (Shuffled(), "zero_out", {"steps": 3, "steps_per_epoch": 1}),
        (WithReplacement(batch_size=2, records=40), "zero_out", {"steps": 1}),
        (FixedSize(batch_size=1, records=4), "replace_one", {"steps": 1}),
        pytest.param(TruncatedPoisson(probability=0.1, largest_batch=4), "add_remove", {}, marks=pytest.mark.slow),
        pytest.param(BallsInBins(), "add_remove", {"steps": 8, "steps_per_epoch": 4}, marks=pytest.mark.slow),
        pytest.param(Shuffled(), "replace_one", {"steps": 4}, marks=pytest.mark.slow),
    ],
)
def test_a_budget_is_kept_and_nearly_used_up_by_every_scheme(sampling, adjacency, changes):
    from accountant import compute_epsilon

    config = _for_budget(sampling, adjacency, **changes)
    assert 1.997 <= compute_epsilon(config.process(), delta=1e-5, adjacency=adjacency) <= 2.0


@pytest.mark.parametrize(
    "sampling",
    [
        FixedSize(batch_size=1, records=4),
        WithReplacement(batch_size=2, records=40),
        TruncatedPoisson(probability=0.1, largest_batch=4, records=9),
    ],
)
def test_a_public_number_of_records_leaves_no_neighbours_that_differ_in_it(sampling):
    with pytest.raises(InvalidParameter, match="for_budget: adjacency must be 'replace_one' or 'zero_out' for"):
        _for_budget(sampling, "add_remove")


def test_no_noise_is_found_where_no_theorem_bounds_the_scheme():
    with pytest.raises(UnsupportedProcess, match="Use adjacency='zero_out' or 'replace_one'"):
        _for_budget(Shuffled(), "add_remove")


@pytest.mark.parametrize("name", ["epsilon", "delta"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, "1"])
@pytest.mark.parametrize("sampling", [BallsInBins(), Poisson(probability=0.1)])
def test_a_budget_that_is_none_is_refused(name, value, sampling):
    budget = {"epsilon": 1.0, "delta": 1e-5, name: value}
    config = config_of(sampling)
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    del fields["noise_multiplier"]
    with pytest.raises(InvalidParameter, match=f"for_budget: {name} must"):
        DPSGD.for_budget(**budget, **fields)


def test_a_budget_does_not_excuse_the_other_values(config):
    given = {name: getattr(config, name) for name in ("max_grad_norm", "sampling", "expected_batch_size", "steps")}
    with pytest.raises(InvalidParameter, match="DPSGD: learning_rate must be above 0"):
        DPSGD.for_budget(epsilon=1.0, delta=1e-5, learning_rate=0, **given)
