"""The unit in a configuration: said once, checked, stored and priced."""

import dataclasses
import json

import numpy as np
import pytest

from dpsgd import DPSGD
from mechanisms import InvalidParameter
from mechanisms.core.per_user import PerUser
from tests.dpsgd.schemes import EVERY_SCHEME, evaluated


def _per_user(config, **changes):
    return dataclasses.replace(config, **{"unit": "user", "examples_per_user": 8, **changes})


@pytest.mark.parametrize("name", EVERY_SCHEME)
def test_the_process_says_whose_it_is_and_costs_the_same(name):
    config = EVERY_SCHEME[name]
    assert _per_user(config).process() == PerUser(config.process())
    assert _per_user(config).process_after(3) == PerUser(config.process_after(3))


def test_what_a_user_brings_does_not_change_the_process(config):
    assert _per_user(config, examples_per_user=1).process() == _per_user(config, examples_per_user=10**6).process()


def test_json_gives_the_same_configuration_back_and_old_files_are_about_records(config):
    chosen = _per_user(config, examples_per_user=np.int64(8))
    assert DPSGD.from_json(chosen.to_json()) == chosen
    assert evaluated(repr(chosen)) == chosen
    old = json.loads(config.to_json())
    del old["config"]["unit"], old["config"]["examples_per_user"]
    assert DPSGD.from_json(json.dumps(old)) == config
    assert config.unit == "record"


def test_a_budget_is_for_the_unit(config):
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    del fields["noise_multiplier"], fields["unit"], fields["examples_per_user"]
    records = DPSGD.for_budget(epsilon=2.0, delta=1e-5, **fields)
    users = DPSGD.for_budget(epsilon=2.0, delta=1e-5, unit="user", examples_per_user=8, **fields)
    assert users == _per_user(records)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"unit": "patient"}, "unit must be one of 'record', 'user', got 'patient'"),
        ({"unit": None}, "unit must be one of 'record', 'user', got None"),
        ({"unit": "user"}, r"examples_per_user must be given where the unit is 'user', got None(.|\n)*not privacy"),
        (
            {"examples_per_user": 3},
            r"examples_per_user must be None where the unit is 'record', got 3(.|\n)*unit='user'",
        ),
        ({"unit": "user", "examples_per_user": 0}, "examples_per_user must be at least 1, got 0"),
        ({"unit": "user", "examples_per_user": 1.5}, r"examples_per_user must be a whole number, got 1\.5"),
    ],
)
def test_a_unit_that_is_none_is_refused(config, changes, text):
    with pytest.raises(InvalidParameter, match=f"DPSGD: {text}"):
        dataclasses.replace(config, **changes)
