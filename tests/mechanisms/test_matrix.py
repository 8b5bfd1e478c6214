"""The matrix mechanism: pairs, releases against the inverse, sampled rounds, published values."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from accountant import compute_epsilon, epsilon_bounds
from mechanisms import (
    Compose,
    Gaussian,
    InvalidParameter,
    KeyedSource,
    NumericalFailure,
    Poisson,
    Repeat,
    Sampled,
    UnsupportedProcess,
    from_json,
    to_json,
)
from mechanisms.matrix import MatrixMechanism, square_root
from mechanisms.tree import Tree
from tests.reference.streams import falling, matrix, mechanism, numbers, settings_of
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

# Pairs


def test_all_mechanisms_meet_in_one_step():
    one, other, plain = mechanism((1.0,), steps=1), Tree(noise_multiplier=1.0, steps=1), Gaussian(noise_multiplier=1.0)
    shifts = [found.pairs(ZERO_OUT)["remove"].shift for found in (one, other, plain)]
    assert all(shift.contains(1.0) and shift.width < 3e-15 for shift in shifts)


@given(st.floats(1e-3, 1e3), settings_of(numbers))
def test_the_pair_moves_by_sensitivity_over_noise_and_twice_that_when_replaced(noise, found):
    found = MatrixMechanism(
        noise_multiplier=noise, coefficients=falling(found).coefficients, steps=found.steps, separation=found.separation
    )
    once, twice = found.pairs(ZERO_OUT)["remove"].shift, found.pairs(REPLACE_ONE)["replace"].shift
    assert once.overlaps(found.sensitivity / noise) and twice.overlaps(2.0 * once)


def test_a_record_more_or_less_is_refused_with_what_to_use():
    with pytest.raises(UnsupportedProcess, match=r"MatrixMechanism: .* got add_remove[^$]*Use adjacency='zero_out'"):
        mechanism().pairs(ADD_REMOVE)


@pytest.mark.parametrize(("noise", "attained"), [(0.0, True), (5e-324, False)])
def test_without_noise_nothing_is_protected(noise, attained):
    pair = mechanism(noise=noise).pairs(ZERO_OUT)["add"]
    assert pair.infinite_mass.lower == 1.0 and pair.attained == attained


def test_a_bound_that_is_not_met_leaves_a_lower_end_from_named_neighbours():
    found = mechanism((1.0, -0.9), steps=20, participations=10, separation=1, noise=4.0)
    bounds = epsilon_bounds(found, delta=1e-5, adjacency="zero_out")
    shown = epsilon_bounds(
        Gaussian(noise_multiplier=4.0 / found.pairs(ZERO_OUT)["witness"].shift.upper / 4.0), delta=1e-5
    )
    assert 0 < bounds.lower < bounds.upper and bounds.lower == pytest.approx(shown.lower, rel=1e-6)


# Noise


@pytest.mark.parametrize("coefficients", [(1.0,), (2.0, 1.0, 0.5), square_root(20)])
def test_streamed_sums_are_those_of_the_whole_under_the_same_noise(coefficients):
    values, found = np.random.default_rng(0).normal(size=(20, 2, 2)), mechanism(coefficients, steps=20, noise=3.0)
    sums = found.stream((2, 2), sensitivity=2.0, randomness=KeyedSource(7))
    shown = np.array([sums.add(value) for value in values])
    noise = found.noise(4, sensitivity=2.0)
    white = np.array([noise.white(step, KeyedSource(7)) for step in range(20)])
    whole = np.cumsum(values.reshape(20, 4) + np.linalg.solve(matrix(found), white), axis=0)
    assert shown.reshape(20, 4) == pytest.approx(whole)


def test_released_sums_are_white_again_behind_the_matrix():
    found, values = mechanism(square_root(9), steps=9, noise=3.0), np.random.default_rng(0).normal(size=(9, 2000))
    sums = found.release(values, sensitivity=2.0, randomness=KeyedSource(8))
    white = matrix(found) @ (np.diff(sums, axis=0, prepend=0.0) - values)
    assert stats.kstest(white.ravel() / 6.0, "norm").pvalue > 1e-4
    assert np.abs(np.corrcoef(white) - np.eye(9)).max() < 0.12


def test_noise_that_grows_beyond_floats_is_no_answer():
    found = mechanism((1.0, 1e6), steps=60)
    with pytest.raises(NumericalFailure, match="MatrixMechanism: noise beyond floats"):
        found.release(np.zeros(60), sensitivity=1.0, randomness=KeyedSource(0))
    with pytest.raises(NumericalFailure, match="Use coefficients that fall"):
        found.squared_errors()
    assert epsilon_bounds(found, delta=1e-5, adjacency="zero_out").lower > 0


# Sampling


@pytest.mark.parametrize(("bands", "epsilon"), [(16, 4.591426434038824), (1, 1.0152153557585233)])
def test_sampled_bands_cost_what_was_published(bands, epsilon):
    """n = 128, q = .01, σ = 1, δ = 1e-6, columns of norm 1: 8 rounds of probability .16."""
    found = mechanism((1.0, *(0.0,) * (bands - 1)), steps=128).amplified(probability=0.01)
    assert found == Repeat(Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.01 * bands)), 128 // bands)
    assert compute_epsilon(found, delta=1e-6, accountant="contour") == pytest.approx(epsilon, abs=2e-6)
    normed = np.array(square_root(bands)) / np.linalg.norm(square_root(bands))
    other = mechanism(normed, steps=128).amplified(probability=0.01)
    assert other.times == found.times and other.part.sampling == found.part.sampling
    assert other.part.part.noise_multiplier == pytest.approx(1.0, abs=1e-15)


@given(settings_of(numbers), st.floats(1e-3, 1e3))
@example(mechanism((1.0, 0.5, 0.25), steps=8), 1.0)
def test_rounds_are_those_of_the_first_group(found, noise):
    """Every step of the group is a round, whose noise multiplier is the largest float <= σ/|column|."""
    found = MatrixMechanism(noise_multiplier=noise, coefficients=found.coefficients, steps=found.steps)
    process, bands = found.amplified(probability=0.01), len(found.coefficients)
    rounds = [(process, 1)] if isinstance(process, Repeat) else [(part, 1) for part in process.parts]
    listed = []
    for part, _ in rounds:
        listed += [part.part] * part.times if isinstance(part, Repeat) else [part]
    columns = [matrix(found)[:, place] for place in range(0, found.steps, bands)]
    for step, column in zip(listed, columns, strict=True):
        assert step.sampling.probability == 0.01 * bands
        ratio, square = Fraction(step.part.noise_multiplier), sum(Fraction(c) ** 2 for c in column)
        above = Fraction(float(np.nextafter(step.part.noise_multiplier, np.inf)))
        assert ratio**2 * square <= Fraction(noise) ** 2 < above**2 * square


@pytest.mark.parametrize("noise", [0.0, 5e-324, 1e308])
def test_rounds_of_extreme_noise_are_described(noise):
    found = mechanism((1e-100,), steps=2, noise=noise).amplified(probability=1.0)
    assert math.isfinite(found.part.part.noise_multiplier)


@pytest.mark.parametrize("probability", [-0.1, 0.51, 1.1, math.nan, "0.1"])
def test_a_probability_above_that_of_a_whole_group_is_refused(probability):
    with pytest.raises(InvalidParameter, match="MatrixMechanism: probability must"):
        mechanism().amplified(probability=probability)


# Fields


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": -3}, "steps must be at least 1"),
        ({"steps": 10**6 + 1}, "steps must be at most 1000000"),
        ({"steps": 1}, "coefficients must number from 1 to steps, got 2 for 1 steps"),
        ({"separation": 9}, "separation must be at most steps, got 9 and 8"),
        ({"participations": 0}, "participations must be at least 1"),
        ({"noise_multiplier": -1.0}, "noise_multiplier must be at least 0"),
        ({"coefficients": ()}, "coefficients must number from 1 to steps, got 0"),
        ({"coefficients": (0.0, 1.0)}, "coefficients must start with one of size at least 1e-100, got 0.0"),
        ({"coefficients": (-0.0,)}, "coefficients must start with"),
        ({"coefficients": (5e-324,)}, "coefficients must start with"),
        ({"coefficients": (1.0, 1e101)}, "coefficients must be at most 1e\\+100"),
        ({"coefficients": (1.0, math.nan)}, "coefficients must be a number"),
        ({"coefficients": (1.0, math.inf)}, "coefficients must be finite"),
        ({"coefficients": (1.0, "2")}, "coefficients must be a real number"),
        ({"coefficients": (True,)}, "coefficients must be a real number"),
        ({"coefficients": "12"}, "coefficients must be a sequence"),
        ({"coefficients": 1.0}, "coefficients must be a sequence"),
        ({"coefficients": np.array(1.0)}, "coefficients must be a sequence"),
        ({"coefficients": {1.0, 0.5}}, "coefficients must be a sequence"),
        ({"coefficients": {1.0: 0.5}}, "coefficients must be a sequence"),
        ({"coefficients": None}, "coefficients must be a sequence"),
        ({"coefficients": [1.0, [2.0]]}, "coefficients must be a real number"),
        ({"coefficients": np.eye(2)}, "coefficients must be a"),
    ],
)
def test_what_is_no_mechanism_is_refused(fields, text):
    with pytest.raises(InvalidParameter, match=f"MatrixMechanism: {text}"):
        MatrixMechanism(**({"noise_multiplier": 1.0, "coefficients": (1.0, 0.5), "steps": 8} | fields))


def test_the_golden_file_of_streams_loads_for_ever():
    tree = Tree(noise_multiplier=7.0, steps=2000, participations=6, separation=313)
    banded = mechanism((1.0, 0.5, 0.375), steps=10, noise=0.1, participations=2, separation=3)
    golden = Path(__file__).resolve().parents[1] / "reference" / "process_v1_streams.json"
    assert from_json(golden.read_text()) == Compose((tree, banded))


def test_mechanisms_come_back_from_json_and_arrays_are_tuples():
    found = mechanism(np.array([1.0, 0.1]), steps=np.int64(9), participations=2, separation=3)
    assert found.coefficients == (1.0, 0.1) and found == eval(repr(found)) and hash(found) == hash(eval(repr(found)))
    process = Compose((found, Sampled(found, Poisson(probability=0.5)), found.amplified(probability=0.1)))
    assert from_json(to_json(process)) == process
