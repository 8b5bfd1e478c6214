"""Lazy uniforms and integer enclosures: against mpmath at 200 digits, and against digits dealt by hand."""

from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import KeyedSource
from mechanisms.core.exact_reals import LazyUniform, artanh, circle, floor_of, log_of_two, minus_log, quarter_sine

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


def test_more_digits_never_change_those_that_are_known():
    u = LazyUniform(KeyedSource(0), "digits", 5, 3)
    seen = [(u.known, u.bits)]
    for bits in (3, 4, 67, 68, 300):
        u.to(bits)
        seen.append((u.known, u.bits))
        assert u.bits >= bits
    assert seen[1] == seen[0] and seen[-1][1] > 300
    assert all(seen[-1][0] >> (seen[-1][1] - bits) == known for known, bits in seen)


def test_digits_are_the_words_of_the_stream_in_order():
    words = KeyedSource(0).words("digits", 0, 4)
    u = LazyUniform(KeyedSource(0), "digits").to(128)
    assert u.known == sum(int(word) << (96 - 32 * k) for k, word in enumerate(words))


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
