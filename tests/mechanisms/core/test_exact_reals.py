"""Lazy uniforms and integer enclosures: against mpmath at 200 digits, and against digits dealt by hand."""

from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import InvalidParameter, KeyedSource
from mechanisms.core.exact_reals import (
    artanh,
    circle,
    exp_minus,
    floor_of,
    log_of_two,
    logistic,
    minus_log,
    minus_log_of,
    quarter_sine,
)
from mechanisms.core.exact_uniforms import LazyUniform

precisions = st.sampled_from([64, 112, 176, 240, 400])


@pytest.fixture(autouse=True)
def two_hundred_digits():
    with mp.workdps(200):
        yield


@st.composite
def known_uniforms(draw):
    """Digits that were seen: anything from all zeros but the last to all ones."""
    bits = draw(st.integers(1, 200))
    kind = draw(st.sampled_from(["any", "low", "high", "half"]))
    most = (1 << bits) - 1
    known = {"low": 1, "high": most, "half": 1 << (bits - 1)}.get(kind) or draw(st.integers(1, most))
    return LazyUniform(KeyedSource(0), "digits", known, bits)


def encloses(found, value, precision, width):
    scaled = mp.mpf(value) * mp.mpf(2) ** precision
    return found[0] <= scaled <= found[1] and found[1] - found[0] <= width


@given(known_uniforms(), precisions)
def test_minus_log_encloses_the_logarithms_of_both_ends(u, precision):
    found = minus_log(u, precision)
    low, high = u.ends()
    widest = 2**12 + (2 << precision) // u.known
    for end in (low, high):
        assert encloses(found, -mp.log(mp.mpf(end.numerator) / end.denominator), precision, widest)
    assert found[0] >= 0


@given(known_uniforms(), precisions)
def test_quarter_sine_encloses_the_sines_of_both_ends(u, precision):
    found = quarter_sine(u, precision)
    for end in u.ends():
        value = mp.sin(mp.pi / 2 * end.numerator / end.denominator)
        assert encloses(found, value, precision, 2**12 + (4 << precision >> u.bits))
    assert found[0] >= 0 and found[1] <= 1 << precision


@given(st.integers(0, 2**80), st.integers(1, 2**80), precisions)
def test_artanh_encloses_the_inverse_tangent(top, bottom, precision):
    bottom += 3 * top
    assert encloses(artanh(top, bottom, precision), mp.atanh(mp.mpf(top) / bottom), precision, 2 * precision)


@given(st.integers(10, 500))
def test_constants_are_enclosed(precision):
    assert encloses(log_of_two(precision), mp.log(2), precision, 4 * precision)
    assert encloses(circle(precision), mp.pi, precision, 64 * precision)


@given(st.integers(1, 200), st.data(), precisions)
def test_minus_log_of_encloses_the_logarithm(bits, data, precision):
    n = data.draw(st.integers(1, 1 << bits))
    found = minus_log_of(n, bits, precision)
    assert encloses(found, -mp.log(mp.mpf(n) / 2**bits), precision, 8 * (bits + 2) * precision) and found[0] >= 0


@given(st.fractions(0, 200), st.integers(1, 400))
def test_the_exponential_is_enclosed_closely(x, bits):
    low, high = exp_minus(x, bits)
    assert encloses((low, high), mp.exp(-mp.mpf(x.numerator) / x.denominator), bits, 2)


@pytest.mark.parametrize("x", [Fraction(1, 3), Fraction(0.1), Fraction(7, 2**60), Fraction(44), Fraction(1999, 2)])
@pytest.mark.parametrize("bits", [64, 1000, 4000])
def test_the_exponential_is_enclosed_at_any_precision(x, bits):
    with mp.workdps(1500):
        assert encloses(exp_minus(x, bits), mp.exp(-mp.mpf(x.numerator) / x.denominator), bits, 2)


@pytest.mark.parametrize("x", [Fraction(5e-324), Fraction(1, 10**5000), Fraction(1e300), Fraction(10) ** 700])
def test_exponents_of_any_size_are_enclosed(x):
    for bits in (0, 1, 62):
        low, high = exp_minus(x, bits)
        assert (low, high) == (0, 1) if x > 1 else (1 << bits) - 2 <= low < 1 << bits <= high <= low + 2
    assert exp_minus(Fraction(0), 64) == (2**64, 2**64)


def test_an_exponent_below_zero_is_refused_and_not_shown():
    with pytest.raises(InvalidParameter, match=r"^exp_minus: x must be at least 0\.$"):
        exp_minus(Fraction(-1, 7), 64)


weights = st.sampled_from([Fraction(1), Fraction(6), Fraction(10**300), Fraction(2, 3), Fraction(5e-324)])


@given(st.floats(0.0, 1500.0), weights, st.sampled_from((0, 1, 64, 128, 200)))
def test_logistic_probabilities_are_enclosed_closely(exponent, weight, bits):
    with mp.workdps(1200):
        odds = mp.mpf(weight.numerator) / weight.denominator * mp.exp(-mp.mpf(exponent))
        assert encloses(logistic(Fraction(exponent), weight, bits), odds / (1 + odds), bits, 2)


@pytest.mark.parametrize("exponent", [Fraction(10**9 + 7, 3**40), Fraction(2, 10**80), Fraction(4001, 7)])
def test_logistic_probabilities_of_any_rational_exponent_are_enclosed(exponent):
    with mp.workdps(1200):
        odds = 5 * mp.exp(-mp.mpf(exponent.numerator) / exponent.denominator)
        for bits in (64, 128, 900):
            assert encloses(logistic(exponent, Fraction(5), bits), odds / (1 + odds), bits, 2)


@pytest.mark.parametrize("exponent", [5e-324, 1e-300, 1e-20])
def test_an_exponent_near_zero_leaves_its_mark_far_behind(exponent):
    low, high = logistic(Fraction(exponent), Fraction(1), 64)
    assert 2**63 - 1 <= low < 2**63 <= high
    assert logistic(Fraction(exponent), Fraction(1), 1200)[1] < 2**1199
    assert logistic(Fraction(0), Fraction(1), 64) == (2**63, 2**63)


@given(st.integers(-(10**30), 10**30), st.fractions(Fraction(1, 10**40), Fraction(10**40 - 1, 10**40)))
def test_the_whole_part_is_found_however_near_the_next_one_is(whole, rest):
    def enclose(precision):
        slack = Fraction(1, 1 << precision)
        return whole + rest - slack, whole + rest + slack

    assert floor_of(enclose) == whole


def test_a_uniform_that_begins_with_zeros_is_asked_for_more():
    u = LazyUniform(KeyedSource(1), "digits", 0, 63)
    low, high = minus_log(u, 112)
    assert u.known > 0 and 63 * np.log(2) < low / 2**112 <= high / 2**112
