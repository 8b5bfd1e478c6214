"""Choices by weight: two ways to decide that must agree, ties that only more bits can break, and the law."""

from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechanisms import KeyedSource
from mechanisms.core.bounds import Bounds
from mechanisms.core.weighted_choice import _by_digits, _by_floats, _power, weighted_choice


class Scripted(KeyedSource):
    """A source whose words are given."""

    def __init__(self, *words):
        super().__init__(0)
        self.given = list(words)

    def words(self, stream, counter, n):
        found, self.given = self.given[:n], self.given[n:]
        assert len(found) == n
        return np.array(found, dtype=np.uint32)


exponents = st.lists(st.fractions(0, 40, max_denominator=64), min_size=1, max_size=30)


def weights(counts, powers):
    with mp.workdps(80):
        found = [mp.mpf(n) * mp.exp(-mp.mpf(x.numerator) / x.denominator) for n, x in zip(counts, powers, strict=True)]
        return [one / mp.fsum(found) for one in found]


@given(exponents, st.integers(0, 2**64 - 1), st.randoms(use_true_random=False))
def test_floats_and_digits_decide_alike_and_rightly(powers, drawn, random):
    counts = np.array([random.choice((1, 3, 2**24, 2**52)) for _ in powers])
    by_floats = _by_floats(drawn, counts, Bounds.exact(np.array([float(x) for x in powers])))
    by_digits = _by_digits(drawn, 64, 40, counts, powers.__getitem__)
    with mp.workdps(80):
        sums = [mp.fsum(weights(counts.tolist(), powers)[: k + 1]) for k in range(len(powers))]
        ends = [sum(one <= mp.mpf(end) / 2**64 for one in sums[:-1]) for end in (drawn, drawn + 1)]
        close = any(abs(one * 2**64 - drawn) < 1e-6 for one in sums)
    assert close or ends[0] != ends[1] or by_digits is not None
    assert by_digits is None or ends[0] <= by_digits <= ends[1]
    if by_floats is not None:
        assert by_floats == by_digits == ends[0]


def test_floats_nearly_always_decide():
    counts, powers = np.full(1000, 5), Bounds.exact(np.linspace(0.0, 20.0, 1000))
    rng = np.random.default_rng(0)
    asked = [int(k) for k in rng.integers(0, 2**63, 300, dtype=np.uint64) * 2]
    assert sum(_by_floats(k, counts, powers) is None for k in asked) <= 1


@pytest.mark.parametrize(("last", "index"), [(1, 1), (0, 1)])
def test_a_tie_is_broken_by_more_bits_and_the_sums_up_to_it_are_below(last, index):
    source = Scripted(2**31, 0, 0, last)
    found = weighted_choice(
        source,
        "s",
        counts=np.array([3, 3]),
        exponents=Bounds.exact(np.array([0.5, 0.5])),
        exact=lambda i: Fraction(1, 2),
    )
    assert found == index and not source.given


def test_just_below_a_tie_the_first_is_chosen():
    source = Scripted(2**31 - 1, 2**32 - 1, 2**32 - 1, 0)
    found = weighted_choice(
        source,
        "s",
        counts=np.array([1, 1]),
        exponents=Bounds.exact(np.array([0.0, 0.0])),
        exact=lambda i: Fraction(0),
    )
    assert found == 0


@pytest.mark.parametrize("scale", [1e-300, 1e20, 1e300])
def test_exponents_of_any_size_end_in_a_choice(scale):
    powers = [Fraction(scale) * k for k in (2, 1, 1, 3)]
    found = {
        weighted_choice(
            KeyedSource(seed),
            "s",
            counts=np.array([1, 1, 1, 1]),
            exponents=Bounds.exact(np.array([float(x) for x in powers])),
            exact=powers.__getitem__,
        )
        for seed in range(40)
    }
    assert found == ({0, 1, 2, 3} if scale < 1 else {1, 2})


def test_enclosures_that_know_nothing_are_decided_by_digits():
    blind = Bounds(lower=np.zeros(3), upper=np.full(3, 1e9))
    found = [
        weighted_choice(
            KeyedSource(seed), "s", counts=np.array([1, 1, 2]), exponents=blind, exact=lambda i: Fraction(i == 0) * 50
        )
        for seed in range(300)
    ]
    assert found.count(0) == 0 and 60 < found.count(1) < 140


@given(st.fractions(0, 200, max_denominator=10**12))
def test_powers_enclose_the_exponential(exponent):
    low, high = _power(exponent, 30)
    with mp.workdps(80):
        truth = mp.exp(-mp.mpf(exponent.numerator) / exponent.denominator) * mp.mpf(10) ** 30
        assert low <= truth <= high and high - low <= 3


def test_choices_follow_the_weights():
    counts, powers = (
        np.array([1, 10, 400, 2, 7]),
        [Fraction(0), Fraction(3, 2), Fraction(6), Fraction(1, 3), Fraction(2)],
    )
    floats, source = Bounds.exact(np.array([float(x) for x in powers])), KeyedSource(3)
    floats = Bounds(lower=floats.lower * (1 - 1e-15), upper=floats.upper * (1 + 1e-15))
    found = [
        weighted_choice(source, "s", counts=counts, exponents=floats, exact=powers.__getitem__) for _ in range(1500)
    ]
    expected = np.array([float(one) for one in weights(counts.tolist(), powers)]) * 1500
    assert stats.chisquare(np.bincount(found, minlength=5), expected).pvalue > 1e-3
