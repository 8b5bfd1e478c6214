"""What the library's doors let in: real numbers in any guise, nothing else, with a message that helps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import InvalidParameter
from mechanisms.core import validate
from tests.strategies import NO_REALS, ODD_REALS, VALID_REALS


@pytest.mark.parametrize("value", VALID_REALS, ids=repr)
def test_a_real_number_is_taken_in_any_guise(value):
    assert validate.real("Owner", "name", value) == 0.25


@pytest.mark.parametrize("value", NO_REALS, ids=lambda value: type(value).__name__)
def test_what_is_no_real_number_is_refused_by_name(value):
    with pytest.raises(InvalidParameter, match="Owner: name must be a"):
        validate.real("Owner", "name", value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", [np.complex128(0.25 + 1j), np.True_], ids=repr)
def test_numpy_scalars_that_are_no_real_numbers_are_refused(value):
    with pytest.raises(InvalidParameter):
        validate.real("Owner", "name", value)


@given(st.floats(allow_nan=False))
def test_a_float_comes_back_bit_for_bit_but_for_the_sign_of_zero(value):
    found = validate.real("Owner", "name", value)
    assert found == value and math.copysign(1, found) == (math.copysign(1, value) if value else 1)


@pytest.mark.parametrize("check", [validate.real, validate.finite, validate.non_negative, validate.positive])
def test_every_check_answers_or_raises_invalid_parameter(check):
    for value in ODD_REALS:
        try:
            found = check("Owner", "name", value)
        except InvalidParameter as error:
            assert str(error).startswith("Owner: name must ")
        else:
            assert type(found) is float and not math.isnan(found), value


def test_a_count_is_a_whole_number_or_refused():
    for value in (*ODD_REALS, 1.5, 2.0, np.float64(3), "3", 2**200):
        try:
            found = validate.count("Owner", "name", value, least=1)
        except InvalidParameter as error:
            assert str(error).startswith("Owner: name must ")
        else:
            assert type(found) is int and found >= 1 and found == value


def test_counts_beyond_floats_are_exact():
    assert validate.count("Owner", "name", 2**63 + 1) == 2**63 + 1


@pytest.mark.parametrize("value", [(1, 2), [1, 2], range(1, 3), np.array([1, 2]), iter((1, 2))])
def test_a_sequence_comes_back_as_its_items(value):
    assert validate.sequence("Owner", "name", value) == (1, 2)


@pytest.mark.parametrize("value", [False, np.False_])
def test_a_truth_of_numpy_comes_back_as_pythons(value):
    assert validate.truth("Owner", "name", value) is False


MESSAGES = [
    (lambda: validate.real("A", "b", "x"), r"A: b must be a real number, got 'x'\."),
    (lambda: validate.finite("A", "b", math.inf), r"A: b must be finite, got inf\."),
    (lambda: validate.non_negative("A", "b", -1), r"A: b must be at least 0, got -1\.0\."),
    (lambda: validate.positive("A", "b", 0, "Hint."), r"A: b must be above 0, got 0\.0\.\nHint\."),
    (lambda: validate.probability("A", "b", 256), r"A: b must lie in \[0, 1\], got 256\."),
    (lambda: validate.count("A", "b", 2.5), r"A: b must be a whole number, got 2\.5\."),
    (lambda: validate.count("A", "b", -1), r"A: b must be at least 0, got -1\."),
    (lambda: validate.sequence("A", "b", "xy"), r"A: b must be a sequence, got 'xy'\."),
    (lambda: validate.sequence("A", "b", 3, "Hint."), r"A: b must be a sequence, got 3\.\nHint\."),
    (lambda: validate.sequence("A", "b", {3}), r"A: b must be a sequence, got \{3\}\."),
    (lambda: validate.truth("A", "b", 1), r"A: b must be True or False, got 1\."),
    (lambda: validate.choice("A", "b", "z", ("x", "y")), r"A: b must be one of 'x', 'y', got 'z'\."),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES)
def test_messages_name_the_owner_the_rule_and_the_value(call, message):
    with pytest.raises(InvalidParameter, match=f"^{message}$"):
        call()
