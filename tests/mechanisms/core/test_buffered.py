"""Noise from few buffers: its matrix against powers in fractions, its price against all patterns, its search."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, optimize

from mechanisms import InvalidParameter, KeyedSource, MatrixMechanism
from mechanisms.core.buffered import BufferedNoise, _log_cost, _reciprocal, coefficients, found
from mechanisms.core.toeplitz import reciprocal
from mechanisms.matrix import optimised, square_root
from tests.reference.streams import patterns
from tests.strategies import ZERO_OUT

unit = st.floats(0.0, 1.0)
terms = st.lists(st.tuples(st.floats(0.01, 100.0), unit), min_size=1, max_size=4).map(
    lambda pairs: tuple(zip(*pairs, strict=True))
)


def _exact(weights, decays, steps):
    """Return c_0, …, c_{steps−1} as fractions, of the floats that were given."""
    some = [(Fraction(p), Fraction(decay)) for p, decay in zip(weights, decays, strict=True)]
    return [sum(p * decay**m for p, decay in some) for m in range(steps)]


@given(terms, st.integers(1, 20))
def test_coefficients_fall_and_are_rounded_up_by_little(given_, steps):
    for priced, exact in zip(coefficients(*given_, steps), _exact(*given_, steps), strict=True):
        assert exact <= Fraction(priced) <= exact * (1 + Fraction(steps + 9, 2**50)) + Fraction(1e-300)
    assert list(coefficients(*given_, steps)) == sorted(coefficients(*given_, steps), reverse=True)


@pytest.mark.parametrize("decay", [0.999, 1.0, 0.3, 1e-200])
def test_long_powers_are_rounded_up_by_little(decay):
    priced = coefficients((1.0,), (decay,), 5000)
    for m in (0, 1, 17, 600, 4999):
        exact = Fraction(decay) ** m
        assert exact <= Fraction(priced[m]) <= exact * (1 + Fraction(5009, 2**50)) + Fraction(1e-300)


@given(terms, st.integers(1, 8), st.integers(1, 4), st.integers(1, 8))
def test_no_pattern_moves_more_than_is_priced_and_the_worst_one_as_much(given_, steps, participations, separation):
    """By the columns of C itself, all patterns and records of several coordinates that point the same way."""
    apart = min(separation, steps)
    mechanism = MatrixMechanism(
        noise_multiplier=1.0,
        coefficients=coefficients(*given_, steps),
        steps=steps,
        participations=participations,
        separation=apart,
    )
    matrix = linalg.toeplitz([float(c) for c in _exact(*given_, steps)], np.zeros(steps))
    moved = max(
        np.linalg.norm(matrix[:, places].sum(axis=1)) for places in map(list, patterns(steps, participations, apart))
    )
    assert moved == pytest.approx(mechanism.sensitivity.upper, rel=1e-12)
    assert mechanism.pairs(ZERO_OUT)["remove"].attained


@given(terms, st.integers(1, 12), st.integers(1, 3))
def test_rows_times_the_matrix_are_white(given_, steps, size):
    noise, source = (
        BufferedNoise(weights=given_[0], decays=given_[1], size=size, scale=2.0, stream="noise"),
        KeyedSource(1),
    )
    rows, carried = [], ()
    for step in range(steps):
        assert len(carried) == noise.carried_rows(step)
        row, carried = noise.advance(step, carried, source)
        rows.append(row)
    matrix = linalg.toeplitz([float(c) for c in _exact(*given_, steps)], np.zeros(steps))
    white = np.array([noise.white(step, source) for step in range(steps)])
    assert matrix @ np.array(rows) == pytest.approx(white, rel=1e-9, abs=1e-9)


def test_a_run_goes_on_at_any_step_from_what_is_carried_or_made_again():
    noise = BufferedNoise(weights=(0.6, 0.4), decays=(0.9, 0.1), size=3, scale=1.0, stream="noise")
    source, carried = KeyedSource(1), ()
    for step in range(7):
        again = noise.carried_at(step, KeyedSource(1))
        assert np.array_equal(noise.advance(step, again, KeyedSource(1))[0], noise.advance(step, carried, source)[0])
        carried = noise.advance(step, carried, source)[1]
    with pytest.raises(
        InvalidParameter, match="BufferedNoise: carried must be the 2 rows of 3 that step 5 goes on from"
    ):
        noise.advance(5, carried[:1], source)
    with pytest.raises(InvalidParameter, match="BufferedNoise: carried must be the 0 rows"):
        noise.advance(0, carried, source)


@pytest.mark.parametrize("steps", [1, 2, 7, 300])
def test_inverses_of_series_are_those_taken_step_by_step(steps):
    for c in (np.array(square_root(steps)), 0.3 ** np.arange(steps) + 0.5):
        assert _reciprocal(c) == pytest.approx(reciprocal(c, steps), abs=1e-13)


@pytest.mark.parametrize("separation", [1, 3, 12])
def test_the_slope_of_the_search_is_that_of_its_cost(separation):
    taken, at = np.zeros(12), np.array([0.3, -0.7, 2.0, -1.5])
    taken[::separation] = 1.0
    assert optimize.check_grad(lambda x: _log_cost(x, taken)[0], lambda x: _log_cost(x, taken)[1], at) < 1e-5


def _cost(given_, *, steps, separation):
    mechanism = MatrixMechanism(
        noise_multiplier=1.0,
        coefficients=given_,
        steps=steps,
        participations=-(-steps // separation),
        separation=separation,
    )
    return mechanism.squared_errors().mean() ** 0.5 * mechanism.sensitivity.upper


@pytest.mark.parametrize(("separation", "worst"), [(256, 1.001), (64, 1.05)])
def test_four_buffers_are_nearly_as_good_as_all_bands(separation, worst):
    """Against the best of as many bands as an epoch has steps: 1.0003 of its error over one epoch, 1.041 over four."""
    terms_ = found(steps=256, buffers=4, separation=separation)
    assert sum(terms_[0]) == pytest.approx(1.0)
    cost = _cost(coefficients(*terms_, 256), steps=256, separation=separation)
    best = _cost(optimised(steps=256, bands=separation), steps=256, separation=separation)
    assert best <= cost <= worst * best
    assert cost < _cost(square_root(256), steps=256, separation=separation)


@pytest.mark.parametrize(("steps", "buffers"), [(1, 1), (1, 3), (2, 4), (9, 1)])
def test_short_runs_have_buffers_too(steps, buffers):
    weights, decays = found(steps=steps, buffers=buffers, separation=1)
    assert len(weights) == len(decays) == buffers and min(weights) > 0 and 0 <= min(decays) <= max(decays) <= 1
