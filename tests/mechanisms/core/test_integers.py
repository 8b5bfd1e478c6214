"""Integers in, integers out: exact sums of every width, nothing else let in, nothing of the data in an error."""

import numpy as np
import pytest

from mechanisms.core.errors import InvalidParameter
from mechanisms.core.integers import check_sensitivity, noisy_integers


def plus(number):
    def noise(n):
        found = np.empty(n, dtype=object if abs(number) >= 2**63 else np.int64)
        found[:] = number
        return found

    return noise


@pytest.mark.parametrize("value", [5, np.int8(5), np.uint64(5), np.array(5)])
def test_a_number_comes_back_as_an_int(value):
    found = noisy_integers("Noise", value, plus(-7))
    assert type(found) is int and found == -2


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.uint64, object])
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 3), (1, 1, 1)])
def test_an_array_comes_back_in_its_shape_as_int64(kind, shape):
    found = noisy_integers("Noise", np.ones(shape, dtype=kind), plus(127))
    assert found.shape == shape and found.dtype == np.int64 and (found == 128).all()


@pytest.mark.parametrize("value", [[2**63 - 1, 0], np.array([2**63 - 1, 0], dtype=np.uint64), np.array([2**63 - 1, 0])])
def test_sums_beyond_64_bits_are_python_integers(value):
    found = noisy_integers("Noise", value, plus(1))
    assert found.dtype == object and found.tolist() == [2**63, 1]


@pytest.mark.parametrize("number", [10**40, -(10**40)])
def test_wide_numbers_and_wide_noise_add_up_exactly(number):
    assert noisy_integers("Noise", number, plus(-number)) == 0
    assert noisy_integers("Noise", [number, 3], plus(-number)).tolist() == [0, 3 - number]


def test_the_type_tells_nothing_but_the_released_numbers():
    wide = noisy_integers("Noise", [2**63], plus(-(2**63)))
    assert wide.dtype == noisy_integers("Noise", [0], plus(0)).dtype == np.int64


NO_INTEGERS = [1.0, 12345.5, "12345", True, None, [True], [1.0], [], [[1], [1, 2]], np.nan, 1j, {1: 2}]
NO_ARRAYS_OF_INTEGERS = [np.array([12345, 1.5], object), np.array(["12345"]), np.array([True], object)]


@pytest.mark.parametrize("value", [*NO_INTEGERS, *NO_ARRAYS_OF_INTEGERS, np.datetime64("2020-01-01")])
def test_anything_but_integers_is_refused_without_being_shown(value):
    with pytest.raises(InvalidParameter, match="Noise: value must be an integer or an array of integers") as refusal:
        noisy_integers("Noise", value, plus(0))
    assert "12345" not in str(refusal.value)


def test_another_number_of_integers_is_refused():
    with pytest.raises(InvalidParameter, match="as many integers as there are dimensions, 2"):
        noisy_integers("Noise", [1, 2, 3], plus(0), 2)


@pytest.mark.parametrize("given", [3, 3.0, np.int64(3), np.float64(3.0)])
def test_the_declared_sensitivity_passes(given):
    check_sensitivity("Noise", 3, given)


@pytest.mark.parametrize("given", [2, 4.0, 1])
def test_another_sensitivity_is_refused(given):
    with pytest.raises(InvalidParameter, match="Noise: sensitivity must be the declared one, 3, got"):
        check_sensitivity("Noise", 3, given)


@pytest.mark.parametrize("given", [0, -1, 3.5, np.nan, np.inf, "3", True, None])
def test_what_is_no_sensitivity_is_refused(given):
    with pytest.raises(InvalidParameter, match="Noise: sensitivity must be"):
        check_sensitivity("Noise", 3, given)
