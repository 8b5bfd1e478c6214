"""Rows in whole steps: what a record moves before the noise, in exact arithmetic, against what is claimed."""

import itertools
import math
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import Gaussian, InvalidParameter, KeyedSource
from mechanisms.core import streams
from mechanisms.core.whole_rows import mixed, node_sums, step_for, whole, whole_coefficients
from mechanisms.matrix import MatrixMechanism, square_root
from mechanisms.tree import Tree
from tests.reference.streams import mechanism, node_matrix

SIGMA = 3.0


def before_noise(found, value, sensitivity):
    """Return what noise is added to, row by row, and the variance of the noise, all exactly."""
    asked = []

    class Recorded(Gaussian):
        def release(self, value, *, sensitivity, randomness):
            asked.append(([[Fraction(x) for x in row] for row in value.tolist()], sensitivity, self.noise_multiplier))
            return value.astype(np.float64)

    with mock.patch.object(streams, "Gaussian", Recorded):
        found.release(value, sensitivity=sensitivity, randomness=KeyedSource(0))
    rows, bound, multiplier = asked[0]
    return rows, (Fraction(bound) * Fraction(multiplier)) ** 2


def moves_over_noise(found, value, other, sensitivity):
    """Return the squared distance of what noise is added to over the variance of the noise."""
    (rows, variance), (others, same) = (before_noise(found, data, sensitivity) for data in (value, other))
    assert variance == same
    pairs = zip(rows, others, strict=True)
    return sum((a - b) ** 2 for row, moved in pairs for a, b in zip(row, moved, strict=True)) / variance


def neighbours(rng, sensitivity, shape, places):
    """Return adversarial rows, and such at most `sensitivity` away in the rows at `places`, in exact arithmetic."""
    size = np.exp2(rng.uniform(-70, rng.choice([2.0, 30.0, 70.0]), shape))
    value = rng.choice([-1.0, 1.0], shape) * size * sensitivity
    half = (np.rint(value / sensitivity * 2**10) + 0.5) * 2.0 ** step_for(sensitivity, shape[1]).exponent
    value = np.where(rng.random(shape) < rng.choice([0.0, 0.5, 1.0]), half, value)
    other = value.copy()
    for place in places:
        direction = rng.normal(size=shape[1])
        length = rng.choice([1e-12, 1.0]) * sensitivity
        row = value[place] + length * direction / np.linalg.norm(direction)
        moves = [Fraction(a) - Fraction(b) for a, b in zip(row.tolist(), value[place].tolist(), strict=True)]
        if sum(move**2 for move in moves) <= Fraction(sensitivity) ** 2:
            other[place] = row
    return value, other


def drawn(rng, *, most_steps):
    steps = int(rng.integers(1, most_steps))
    separation = int(rng.integers(1, steps + 1))
    places = np.arange(int(rng.integers(separation)), steps, separation)[: int(rng.integers(1, 4))]
    sensitivity = float(rng.choice([1.0, 0.7, 3e-100, 5e120, np.exp2(rng.uniform(-9, 9))]))
    return steps, separation, places, sensitivity, (steps, int(rng.integers(1, 4)))


@pytest.mark.parametrize("found", [Tree(noise_multiplier=1.0, steps=2), mechanism((1.0, 1.0), steps=2)])
def test_a_large_row_beside_it_does_not_move_a_record_farther(found):
    assert moves_over_noise(found, [[1.5], [2.0**53]], [[0.5], [2.0**53]], 1.0) <= 2
    apart = moves_over_noise(found, [[1.5], [2.0**32]], [[0.5], [2.0**32]], 1.0)
    assert 2 * (1 - Fraction(1, 2**20)) < apart <= 2


def test_nodes_of_any_floats_move_as_far_as_is_claimed_at_most():
    for seed in range(150):
        rng = np.random.default_rng(seed)
        steps, separation, places, sensitivity, shape = drawn(rng, most_steps=12)
        tree = Tree(noise_multiplier=SIGMA, steps=steps, participations=3, separation=separation)
        value, other = neighbours(rng, sensitivity, shape, places)
        claimed = Fraction(int((node_matrix(steps)[:, places].sum(axis=1) ** 2).sum()))
        assert moves_over_noise(tree, value, other, sensitivity) <= claimed / Fraction(SIGMA) ** 2
        assert claimed <= tree.squared_sensitivity[0]


def squared(coefficients, steps, places):
    """Return |C 1|², 1 on the places, exactly."""
    total = [Fraction(0)] * steps
    for place in places:
        for m, c in enumerate(coefficients[: steps - place]):
            total[place + m] += Fraction(c)
    return sum(x**2 for x in total)


def test_products_of_any_floats_move_as_far_as_is_claimed_at_most():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        steps, separation, places, sensitivity, shape = drawn(rng, most_steps=9)
        bands = int(rng.integers(1, steps + 1))
        drawn_from = (rng.uniform(-1, 1, bands), np.sort(rng.uniform(0, 1, bands))[::-1], np.array(square_root(bands)))
        coefficients = drawn_from[int(rng.integers(3))] * rng.choice([1.0, 1e-90, 1e90])
        coefficients = tuple(float(c) for c in coefficients)
        found = mechanism(coefficients, steps=steps, noise=SIGMA, participations=len(places), separation=separation)
        value, other = neighbours(rng, sensitivity, shape, places)
        apart = moves_over_noise(found, value, other, sensitivity) * Fraction(SIGMA) ** 2
        tidy = all(a >= b for a, b in zip(coefficients, (*coefficients[1:], 0.0), strict=True))
        falling = tuple(max(map(abs, coefficients[m:])) for m in range(bands))
        met = len(places) == 1 or bands <= separation or tidy
        claimed = coefficients if met else falling
        assert apart <= squared(claimed, steps, range(0, separation * len(places), separation))


def test_each_column_moves_as_far_as_sampled_rounds_are_told():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        bands, full = int(rng.integers(1, 6)), int(rng.integers(1, 4))
        rest = int(rng.integers(bands))
        coefficients = (float(rng.uniform(1e-4, 1e-2)), *map(float, rng.uniform(0.01, 1, bands - 1)))
        found = mechanism(coefficients, steps=bands * full + rest, noise=SIGMA)
        rows, sensitivity, place = (rest or bands), 0.7, found.steps - (rest or bands)
        value, other = neighbours(rng, sensitivity, (found.steps, 2), [place])
        apart = moves_over_noise(found, value, other, sensitivity)
        assert apart <= squared(coefficients[:rows], rows, [0]) / Fraction(SIGMA) ** 2


def test_roundings_that_all_agree_are_covered_and_no_less_would_do():
    """Rows that cross a half step, and four products that all round upwards, from many starting points."""
    coefficients, sensitivity = (0.55, 0.53, 0.52, 0.51), 1.0 + 2.0**-40
    found = mechanism(coefficients, steps=4, noise=SIGMA)
    step, wholes = step_for(sensitivity, 1), whole_coefficients(coefficients)
    value = np.zeros((4, 20_000))
    value[0] = np.ldexp(np.random.default_rng(0).integers(0, 2**28, 20_000) + 0.5 - 2.0**-20, step.exponent)
    other = value.copy()
    other[0] += sensitivity
    assert all(Fraction(b) - Fraction(a) <= Fraction(sensitivity) for a, b in zip(value[0], other[0], strict=True))
    apart = mixed(other, step, wholes) - mixed(value, step, wholes)
    most = Fraction(int((apart.astype(object) ** 2).sum(axis=0).max()))
    bound = before_noise(found, np.zeros((4, 1)), sensitivity)[1] / Fraction(SIGMA) ** 2
    rows_alone = sum(Fraction(c) ** 2 for c in wholes.scaled) * Fraction(step.bound.upper) ** 2
    assert rows_alone < most <= squared(coefficients, 4, [0]) * bound


@pytest.mark.parametrize("above", [-(2.0**-33), 2.0**-33])
def test_the_rounding_of_coefficients_is_counted(above):
    half_up = 0.5 + 2.0**-31 + above  # of 30 digits
    found = mechanism((half_up,), steps=1, noise=SIGMA)
    rounded = Fraction(whole_coefficients((half_up,)).scaled[0])
    assert (rounded > Fraction(half_up)) == (above > 0)
    needed = max(rounded * (2**24 + 1) + 1, Fraction(half_up) * (2**24 + 1)) / Fraction(half_up)
    bound = before_noise(found, np.zeros((1, 1)), 1.0)[1] / Fraction(SIGMA) ** 2
    assert needed**2 <= bound <= needed**2 * (1 + Fraction(1, 2**44))


@given(st.floats(5e-324, 1.7e308), st.integers(0, 10**12))
def test_a_step_is_as_fine_as_is_told_and_the_bound_covers_rounding(sensitivity, coordinates):
    step = step_for(sensitivity, coordinates)
    in_steps = Fraction(sensitivity) / Fraction(2) ** step.exponent
    assert 4**24 * max(coordinates, 1) <= in_steps**2 <= 4**26 * max(coordinates, 1)
    assert in_steps + math.isqrt(coordinates) <= Fraction(step.bound.upper)
    assert (Fraction(step.bound.upper) - in_steps) ** 2 >= coordinates
    assert Fraction(step.bound.upper) <= in_steps * (1 + Fraction(1, 2**24) + Fraction(1, 2**50))


@pytest.mark.parametrize("bands", [1, 2, 3, 31, 32, 700])
@pytest.mark.parametrize("kind", ["largest", "falling", "signed"])
def test_products_are_exact_in_whole_numbers_also_where_rows_are_clipped(bands, kind):
    rng = np.random.default_rng(bands)
    least = 1 - 2.0**-53  # the largest sums: all but a power of two
    falling, signed = square_root(bands), rng.uniform(-1, 1, bands)
    coefficients = whole_coefficients(
        tuple(map(float, {"largest": [least] * bands, "falling": falling, "signed": signed}[kind]))
    )
    step = step_for(1.0, 1)
    extreme = np.where(signed[::-1] < 0, -1e300, 1e300)
    for value in (np.full(bands, -1e300), extreme, rng.normal(size=bands) * 2.0 ** rng.uniform(-30, 40, bands)):
        sizes = sum(abs(int(c)) for c in coefficients.values)
        most = 61 + coefficients.digits - sizes.bit_length()
        rows = [int(x) for x in whole(value, step, digits=most)]
        assert max(map(abs, rows)) <= 2**most
        exact = [
            (sum(int(coefficients.values[m]) * rows[t - m] for m in range(t + 1)) * 2 + 2**coefficients.digits)
            >> (coefficients.digits + 1)
            for t in ({0, bands // 2, bands - 1})
        ]
        found = mixed(value[:, None], step, coefficients)[:, 0]
        assert [int(found[t]) for t in ({0, bands // 2, bands - 1})] == exact


@pytest.mark.parametrize("bands", [1, 5, 10**6])
def test_both_sums_of_products_stay_within_int64(bands):
    coefficients = whole_coefficients((1 - 2.0**-53,) * bands)
    size, digits = int(np.abs(coefficients.values).sum()), coefficients.digits
    most = 61 + digits - size.bit_length()
    assert size * 2 ** (most - digits) <= 2**61 and size * 2**digits + 2**digits <= 2**62
    assert digits <= most <= 61


def test_nodes_are_clipped_as_whole_numbers_are():
    rng = np.random.default_rng(0)
    rows = rng.choice([-(2**61), 2**61, 2**61 - 1, 7], size=(13, 5))
    levels = node_sums(rows)
    for below, level in itertools.pairwise(levels):
        for i, row in enumerate(level.tolist()):
            sums = [int(a) + int(b) for a, b in zip(below[2 * i], below[2 * i + 1], strict=True)]
            assert row == [min(max(x, -(2**61)), 2**61) for x in sums]


@pytest.mark.parametrize("value", [1e308, -1e308])
def test_values_beyond_the_clip_are_all_alike(value):
    for found in (Tree(noise_multiplier=0.0, steps=5), mechanism(square_root(5), steps=5, noise=0.0)):
        shown = found.release([value] * 5, sensitivity=1.0, randomness=KeyedSource(0))
        other = found.release([value / 1e200] * 5, sensitivity=1.0, randomness=KeyedSource(0))
        assert (shown == other).all() and np.isfinite(shown).all() and (np.sign(shown) == np.sign(value)).all()


@pytest.mark.parametrize("coordinates", [1, 3, 100])
def test_values_up_to_the_limit_told_are_not_clipped(coordinates):
    limit = 2.0**35 / math.sqrt(coordinates)
    tree = Tree(noise_multiplier=0.0, steps=1)
    assert tree.release(np.full((1, coordinates), limit), sensitivity=1.0, randomness=KeyedSource(0)) == pytest.approx(
        limit
    )
    banded = mechanism(square_root(7), steps=7, noise=0.0)
    limit = 2.0**33 / math.sqrt(coordinates) / sum(square_root(7))
    value = np.full((7, coordinates), limit)
    assert banded.release(value, sensitivity=1.0, randomness=KeyedSource(0)) == pytest.approx(np.cumsum(value, axis=0))


@pytest.mark.parametrize(
    "build",
    [lambda t: Tree(noise_multiplier=0.0, steps=t), lambda t: mechanism(square_root(min(t, 9)), steps=t, noise=0.0)],
)
@pytest.mark.parametrize("steps", [1, 2, 17, 64])
def test_the_whole_and_the_stream_agree_to_a_step_a_row(build, steps):
    value = np.random.default_rng(steps).normal(size=(steps, 3)) * 1e3
    found, sensitivity = build(steps), 0.3
    sums = found.stream((3,), sensitivity=sensitivity, randomness=KeyedSource(0))
    streamed = np.array([sums.add(row) for row in value])
    released = found.release(value, sensitivity=sensitivity, randomness=KeyedSource(0))
    assert np.abs(released - streamed).max() <= steps * 2.0 ** step_for(sensitivity, 3).exponent


@pytest.mark.parametrize(("bands", "most"), [(1, 2.0**-22), (32, 1e-6), (200, 1e-5)])
def test_noise_is_hardly_larger_than_described(bands, most):
    found = mechanism(square_root(bands), steps=bands, noise=SIGMA)
    variance = before_noise(found, np.zeros((bands, 4)), 0.7)[1]
    larger = (
        math.sqrt(variance) * 2.0 ** (step_for(0.7, 4).exponent + 1) / (0.7 * SIGMA)
    )  # steps of twice the size, as c_0 is 1
    assert 1.0 <= larger <= 1 + most


def test_a_first_coefficient_that_is_rounded_to_nothing_is_refused():
    found = MatrixMechanism(noise_multiplier=1.0, coefficients=(1e-12, 1.0), steps=2)
    with pytest.raises(InvalidParameter, match="coefficients must start with one that is not rounded to 0"):
        found.release([0.0, 0.0], sensitivity=1.0, randomness=KeyedSource(0))


def test_noise_that_leaves_the_floats_in_steps_is_refused():
    for found in (Tree(noise_multiplier=1e300, steps=2), mechanism(steps=2, noise=1e300)):
        with pytest.raises(InvalidParameter, match=r"noise_multiplier must be at most .* to release, got 1e\+300"):
            found.release([0.0, 0.0], sensitivity=1e-100, randomness=KeyedSource(0))
