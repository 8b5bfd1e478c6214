"""Noise given that it lies in an interval: releases by enumeration of their word, and what is common to both kinds."""

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechanisms import BoundedGaussian, BoundedLaplace, InvalidParameter, KeyedSource
from mechanisms.core.bounds import Bounds
from mechanisms.core.conditioned import within
from tests.mechanisms.core.enumerated import LATER, assert_close, pieces, shares
from tests.mechanisms.core.scripted import Scripted
from tests.strategies import ADD_REMOVE, REPLACE_ONE

LEAST_P_VALUE = 1e-4  # keys are fixed: a test that passes once passes always
KINDS = {"laplace": BoundedLaplace, "gaussian": BoundedGaussian}
both = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def sixty_digits():
    with mp.workdps(60):
        yield


def made(kind, *, multiplier=0.75, lower=-1.0, upper=4.0, sensitivity=2.0):
    return KINDS[kind](noise_multiplier=multiplier, lower=lower, upper=upper, sensitivity=sensitivity)


def below(kind, x):
    """Return P(noise <= x) of scale 1."""
    if kind == "gaussian":
        return mp.ncdf(x)
    return mp.exp(x) / 2 if x < 0 else 1 - mp.exp(-x) / 2


# The pair


@given(st.floats(1e-6, 40.0), st.floats(0.5, 1.0))
def test_the_pair_within_limits_is_the_best_of_two_losses_at_every_epsilon(reach, share):
    largest = share * mp.mpf(reach)
    pair = within(mp.mpf(reach), largest)
    assert pair.reverse().delta(Bounds.exact(0.1)).overlaps(pair.delta(Bounds.exact(0.1)))
    for place in (0.0, 0.4, 0.8, 0.99, 1.2):
        at = mp.mpf(place) * largest
        ends = [mp.mpf(reach) - largest, largest]
        middle = min(max((at + reach) / 2, ends[0]), ends[1])
        best = max(two_losses(t, mp.mpf(reach), at) for t in (*ends, middle))
        found = pair.delta(Bounds.exact(float(at)))
        truth = max(best, mp.mpf(0))
        assert abs(mp.mpf(float(found.upper)) - truth) < mp.mpf("1e-13"), place
        for t in mp.linspace(ends[0], ends[1], 9):
            assert two_losses(t, mp.mpf(reach), at) <= truth + mp.mpf("1e-40")


def two_losses(t, reach, at):
    """δ of the losses t and t − reach."""
    likelier = mp.expm1(t - reach) / mp.expm1(-reach)
    parts = ((likelier, t), (1 - likelier, t - reach))
    return mp.fsum(mass * max(1 - mp.exp(at - loss), 0) for mass, loss in parts if mass)


@both
def test_both_directions_have_one_pair_which_nobody_attains(kind):
    pairs = made(kind).pairs(ADD_REMOVE)
    assert pairs["remove"] == pairs["add"] and not pairs["remove"].attained
    assert pairs["witness"].attained and pairs["witness_reversed"].attained


@both
@pytest.mark.parametrize("multiplier", [5e-324, 1e-300, 1e-9, 1e9, 1e300])
@pytest.mark.parametrize(("lower", "upper"), [(0.0, 5e-324), (-1e308, 1e308), (1.0, 1.0 + 2.0**-52)])
def test_extreme_parameters_have_pairs_and_releases_within_the_interval(kind, multiplier, lower, upper):
    noise = made(kind, multiplier=multiplier, lower=lower, upper=upper, sensitivity=1.0)
    largest = noise.largest_loss(REPLACE_ONE)
    assert 0 <= largest.lower <= largest.upper
    for pair in noise.pairs(REPLACE_ONE).values():
        found = pair.delta(Bounds.exact(0.0))
        assert 0 <= found.lower <= found.upper <= 1
    assert lower <= noise.release(0.0, sensitivity=1.0, randomness=KeyedSource(0)) <= upper


# Releases


@pytest.mark.thinned(5)
@both
@pytest.mark.parametrize("value", [-1.0, 0.3, 4.0])
def test_releases_have_their_law_by_enumeration_of_the_word(kind, value):
    """On a grid of halves: which share of all words of 64 digits leads to which result."""
    noise, scale = made(kind), mp.mpf("1.5")

    def outcome(word):
        source = Scripted([word, *LATER])
        released = noise.release(value, sensitivity=2.0, randomness=source, granularity=0.5)
        assert len(source.rest) >= len(LATER) - 2
        return released

    def cdf(z):
        ends = [below(kind, (mp.mpf(end) - mp.mpf(value)) / scale) for end in (-1, min(max(z, -1), 4), 4)]
        return (ends[1] - ends[0]) / (ends[2] - ends[0])

    law = {k / 2: cdf(mp.mpf(2 * k + 1) / 4) - cdf(mp.mpf(2 * k - 1) / 4) for k in range(-2, 9)}
    assert_close(shares(pieces(outcome, strata=16)), law)


@both
def test_fine_releases_have_their_law(kind):
    noise, source = made(kind, multiplier=1.5), KeyedSource(3)
    found = np.array([noise.release(0.5, sensitivity=2.0, randomness=source) for _ in range(500)])
    law = stats.laplace(0.5, 3.0) if kind == "laplace" else stats.norm(0.5, 3.0)
    ends = law.cdf([-1.0, 4.0])
    assert stats.kstest(found, lambda z: (law.cdf(z) - ends[0]) / (ends[1] - ends[0])).pvalue > LEAST_P_VALUE
    assert found.min() >= -1.0 and found.max() <= 4.0


@both
def test_a_value_beyond_the_interval_counts_as_its_end(kind):
    for value, end in ((-1e300, -1.0), (4.0 + 2.0**-40, 4.0)):
        one, other = (made(kind).release(x, sensitivity=2.0, randomness=KeyedSource(5)) for x in (value, end))
        assert one == other


class Counted(KeyedSource):
    def __init__(self, key):
        super().__init__(key)
        self.asked = 0

    def words(self, stream, counter, n):
        self.asked += n
        return super().words(stream, counter, n)


@both
def test_how_many_words_are_drawn_does_not_depend_on_the_value(kind):
    """Rejection draws more of them for a value at an end, from where half of the noise leaves the interval."""
    counts = []
    for value in (-1.0, 1.5, 4.0):
        source = Counted(11)
        for _ in range(100):
            made(kind).release(value, sensitivity=2.0, randomness=source)
        counts.append(source.asked)
    assert counts == [200, 200, 200]


@both
def test_ends_are_released_where_the_grid_is_coarse(kind):
    noise, source = made(kind, lower=-3.0, upper=3.0), KeyedSource(0)
    found = {noise.release(1.0, sensitivity=2.0, randomness=source, granularity=4.0) for _ in range(100)}
    assert found == {-3.0, 0.0, 3.0}


# Bad input


@both
@pytest.mark.parametrize(("lower", "upper"), [(1.0, 1.0), (2.0, 1.0)])
def test_an_empty_interval_is_refused(kind, lower, upper):
    with pytest.raises(InvalidParameter, match=r"lower must lie below upper, got .* Did you swap them\?"):
        made(kind, lower=lower, upper=upper)


@both
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "1", None, True])
def test_what_is_no_end_is_refused(kind, bad):
    for name in ("lower", "upper"):
        with pytest.raises(InvalidParameter, match=f"{name} must be"):
            made(kind, **{name: bad})


@both
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, "1", None, True])
def test_what_is_no_noise_or_sensitivity_is_refused(kind, bad):
    for name, said in (("multiplier", "noise_multiplier"), ("sensitivity", "sensitivity")):
        with pytest.raises(InvalidParameter, match=f"{said} must be"):
            made(kind, **{name: bad})
    with pytest.raises(InvalidParameter, match="sensitivity must be"):
        made(kind).release(0.0, sensitivity=bad, randomness=KeyedSource(0))


@both
def test_another_sensitivity_than_the_declared_one_is_refused(kind):
    with pytest.raises(InvalidParameter, match=r"must be the declared one, 2.0, got 1.0.\nWhat it guarantees"):
        made(kind).release(0.0, sensitivity=1.0, randomness=KeyedSource(0))


@both
@pytest.mark.parametrize("value", [[1.0], math.nan, math.inf, "1", None, True])
def test_what_is_no_single_number_is_refused(kind, value):
    with pytest.raises(InvalidParameter, match="value must"):
        made(kind).release(value, sensitivity=2.0, randomness=KeyedSource(0))


@both
def test_a_granularity_that_is_no_power_of_two_is_refused(kind):
    with pytest.raises(InvalidParameter, match="granularity must be a power of two"):
        made(kind).release(0.0, sensitivity=2.0, randomness=KeyedSource(0), granularity=0.3)


def test_fractions_are_kept_exactly():
    """Of 2^60 the neighbours that floats can't tell from it after a subtraction in floats."""
    noise = BoundedLaplace(noise_multiplier=1e-6, lower=0.0, upper=2.0**61, sensitivity=1.0)
    found = noise.release(2**60 + 1, sensitivity=1.0, randomness=KeyedSource(0), granularity=0.5)
    assert Fraction(found) == 2**60  # the float next to it
