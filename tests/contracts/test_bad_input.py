"""Every mechanism, constructed and released: bad input is refused in words, before anything is drawn or told.

A new mechanism is found by discovery and needs one line in `tests/contracts/examples.py`.
"""

import copy
import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest

import mechanisms
from mechanisms import DPError, InvalidParameter, KeyedSource, UnsupportedProcess, available, from_json, to_json
from tests.contracts.examples import EXAMPLES

FOUND = available()
KNOWN = {name: example for name, example in EXAMPLES.items() if name in FOUND}
RUNNING = {name: example for name, example in KNOWN.items() if example.value is not None}
SECRET, WORD = 8675309.125, "hunter2"

every = pytest.mark.parametrize("name", KNOWN)
every_running = pytest.mark.parametrize("name", RUNNING)

NEVER = {
    "an object": object(),
    "a function": math.sqrt,
    "a complex number": 1j,
    "NaN": math.nan,
    "numpy's NaN": np.float32("nan"),
    "bytes": b"1",
    "a mapping": {"a": 1},
    "numbers too many": np.zeros((2, 2)),
    "ragged": [[1.0], [2.0, 3.0]],
    "an exotic scalar": np.datetime64("2020-01-01"),
}
"""What no field takes."""
SELDOM = {
    "nothing": None,
    "a truth value": True,
    "text": "1.0",
    "no text": "",
    "less than nothing": -1.0,
    "zero": 0.0,
    "a fraction": 2.5,
    "infinity": math.inf,
    "the other infinity": -math.inf,
    "a huge integer": 10**400,
    "a subnormal": 5e-324,
    "a huge number": 1.7e308,
    "an empty sequence": (),
    "a sequence of text": ("a", "b"),
    "a sequence of nothing": (None,),
    "a sequence of numbers": (2.0, 1.0),
    "another mechanism": mechanisms.PureDP(epsilon=1.0, adjacency="replace_one"),
}
"""What some fields take."""


class Watched(KeyedSource):
    """A source that keeps what was asked of it: (stream, first word, number of words)."""

    def __init__(self, key=0):
        super().__init__(key)
        self.asked = []

    def words(self, stream, counter, n):
        self.asked.append((stream, counter, n))
        return super().words(stream, counter, n)

    @property
    def never_twice(self):
        drawn = [(stream, word) for stream, first, n in self.asked for word in range(first, first + n)]
        return len(set(drawn)) == len(drawn)

    @property
    def untouched(self):
        return not self.asked and not self._taken


def released(example, value, source, **changed):
    given = {} if example.sensitivity is None else {"sensitivity": example.sensitivity}
    return example.mechanism.release(value, randomness=source, **(given | changed))


def assert_equal(one, other):
    if isinstance(one, dict):
        assert list(one) == list(other)
        one, other = list(one.values()), list(other.values())
    assert type(one) is type(other)
    for a, b in zip(one, other, strict=True) if isinstance(one, (list, tuple)) else [(one, other)]:
        np.testing.assert_array_equal(a, b, strict=isinstance(a, np.ndarray))


def refused(error, name):
    """Assert that an error says whose it is, and nothing of the data, in its text or in what it was raised from."""
    text = str(error)
    assert len(text) > 20 and ": " in text
    while error is not None:
        assert str(int(SECRET)) not in str(error) and WORD not in str(error), f"{name} tells what it was given"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_every_mechanism_has_an_example():
    missing = sorted(set(FOUND) - set(EXAMPLES))
    assert not missing, f"add an example of {missing} to tests/contracts/examples.py"
    assert set(EXAMPLES) <= set(FOUND)
    for name, example in EXAMPLES.items():
        assert type(example.mechanism) is FOUND[name]


@every
def test_a_mechanism_is_its_json_and_its_repr(name):
    mechanism = KNOWN[name].mechanism
    names = {each: getattr(mechanisms, each) for each in mechanisms.__all__} | {"Fraction": Fraction}
    for twin in (from_json(to_json(mechanism)), eval(repr(mechanism), dict(names)), copy.deepcopy(mechanism)):
        assert twin == mechanism and hash(twin) == hash(mechanism) and repr(twin) == repr(mechanism)


@every
def test_no_field_takes_what_is_no_parameter(name):
    mechanism = KNOWN[name].mechanism
    for field in dataclasses.fields(mechanism):
        for kind, value in NEVER.items():
            with pytest.raises(InvalidParameter) as caught:
                dataclasses.replace(mechanism, **{field.name: value})
                pytest.fail(f"{field.name} took {kind}")
            assert ": " in str(caught.value) and "must" in str(caught.value), field.name


@every
def test_a_field_takes_a_value_or_refuses_it_in_words(name):
    mechanism = KNOWN[name].mechanism
    for field in dataclasses.fields(mechanism):
        for kind, value in SELDOM.items():
            try:
                found = dataclasses.replace(mechanism, **{field.name: value})
            except InvalidParameter as error:
                assert ": " in str(error) and "must" in str(error), (field.name, kind)
            else:
                assert from_json(to_json(found)) == found and hash(found) == hash(found), (field.name, kind)


@every
def test_what_does_not_run_says_what_to_use(name):
    if KNOWN[name].value is None:
        with pytest.raises(UnsupportedProcess, match="Use "):
            KNOWN[name].mechanism.release(1.0, sensitivity=1.0, randomness=KeyedSource(0))


@every_running
def test_a_release_can_be_had_again_leaves_its_input_and_draws_no_word_twice(name):
    example, source = RUNNING[name], Watched()
    value = copy.deepcopy(example.value)
    first, _ = released(example, value, source), released(example, value, source)
    assert_equal(first, released(example, value, KeyedSource(0)))
    assert value == example.value
    assert source.asked and source.never_twice


def test_mechanisms_that_share_a_source_share_no_word():
    source = Watched()
    for example in (*RUNNING.values(), *RUNNING.values()):
        released(example, example.value, source)
    assert source.never_twice


@every_running
def test_an_array_that_may_not_be_written_is_taken(name):
    example = RUNNING[name]
    columns = example.value if isinstance(example.value, dict) else {"value": example.value}
    arrays = {key: np.array(column) for key, column in columns.items()}
    for array in arrays.values():
        array.flags.writeable = False
    released(example, arrays if isinstance(example.value, dict) else arrays["value"], KeyedSource(0))


BAD_VALUES = {
    "an object": object(),
    "a complex number": SECRET * 1j,
    "bytes": WORD.encode(),
    "objects": [object(), SECRET],
    "ragged": [[SECRET], [SECRET, SECRET]],
    "complex numbers": np.array([SECRET * 1j, 1.0]),
    "dates": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "a masked array": np.ma.masked_array([SECRET, 1.0], mask=[True, False]),
    "masked whole numbers": np.ma.masked_array([1, 2, 0], mask=[True, False, False]),
    "a function": math.sqrt,
    "text": WORD,
    "a mapping": {WORD: SECRET},
    "a set": {SECRET, 1.0},
    "a structured array": np.array([(SECRET, WORD)], dtype=[("a", "f8"), ("b", "U9")]),
    "nested text": [[WORD, SECRET]],
}
"""What nothing takes."""
ODD_VALUES = {
    "three dimensions": np.full((2, 3, 2), SECRET),
    "a huge integer": [10**400, int(SECRET)],
    "nothing and a number": [None, SECRET],
    "NaN": [math.nan, SECRET],
    "infinity": [math.inf, SECRET],
    "a number": SECRET,
    "a 0-d array": np.array(SECRET),
    "numbers": [SECRET, -SECRET, 0.5],
    "no numbers": [],
    "texts": [WORD, "no"],
}
"""What something takes."""


def settled(name, value, kind):
    """Release it or assert that the refusal tells nothing; return whether it was released."""
    source = Watched()
    try:
        released(RUNNING[name], value, source)
    except DPError as error:
        refused(error, f"{name}, {kind}")
        assert source.untouched, f"{kind}: words were drawn before the value was refused"
        return False
    return True


@every_running
def test_what_is_no_value_is_refused_without_a_word_drawn_or_told(name):
    for kind, value in BAD_VALUES.items():
        assert not settled(name, value, kind), f"{kind} was released"


@every_running
def test_an_odd_value_is_released_or_refused_without_a_word_drawn_or_told(name):
    for kind, value in ODD_VALUES.items():
        settled(name, value, kind)


def test_a_bad_column_is_refused_before_the_others_are_released():
    for name, example in RUNNING.items():
        for column in example.value if isinstance(example.value, dict) else ():
            for kind, value in BAD_VALUES.items():
                assert not settled(name, example.value | {column: value}, kind), f"{column}: {kind} was released"


BAD_SENSITIVITIES = NEVER | {
    "text": "1.0",
    "less than nothing": -1.0,
    "zero": 0.0,
    "infinity": math.inf,
    "a truth value": True,
    "several": np.array([1.0, 1.0]),
}


@every_running
def test_what_is_no_sensitivity_is_refused_before_a_word_is_drawn(name):
    example = RUNNING[name]
    follows = example.sensitivity is None
    for kind, value in (BAD_SENSITIVITIES | ({"another one": 2.5} if follows else {})).items():
        source = Watched()
        with pytest.raises(InvalidParameter, match="sensitivity must"):
            released(example, example.value, source, sensitivity=value)
            pytest.fail(f"{kind} was taken")
        assert source.untouched
    if example.unit:
        assert_equal(*(released(example, example.value, KeyedSource(0), **given) for given in ({}, {"sensitivity": 1})))


@every_running
def test_nothing_is_released_without_a_source(name):
    for randomness in (None, 0, "seed", np.random.default_rng(0)):
        with pytest.raises((InvalidParameter, AttributeError)):
            released(RUNNING[name], RUNNING[name].value, randomness)
