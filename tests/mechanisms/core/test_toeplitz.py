"""Toeplitz matrices: sensitivity against all patterns and signs, errors against inverses, the descent."""

import itertools
import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import (
    InvalidParameter,
)
from mechanisms.core import toeplitz
from mechanisms.matrix import optimised, square_root
from mechanisms.tree import Tree
from tests.reference.streams import falling, fitting, matrix, mechanism, numbers, settings_of
from tests.strategies import ZERO_OUT

# Sensitivity


@given(settings_of(numbers))
def test_sensitivity_is_at_least_what_any_record_of_one_coordinate_moves(found):
    """Every pattern with every choice of signs."""
    c = matrix(found)
    moved = max(
        np.linalg.norm(c[:, list(places)] @ np.array(signs))
        for places in fitting(found)
        for signs in itertools.product((-1.0, 1.0), repeat=len(places))
    )
    assert moved <= found.sensitivity.upper * (1 + 1e-15)
    pairs = found.pairs(ZERO_OUT)
    if pairs["remove"].attained:
        assert moved == pytest.approx(found.sensitivity.upper, rel=1e-12) and found.sensitivity.width < 1e-12
    else:
        assert pairs["witness"].attained and pairs["witness"].shift.lower <= moved * (1 + 1e-12)


def test_steps_farther_apart_than_they_need_be_are_bounded_too():
    """Columns 0 and 3 meet in a row, columns 0 and 2 do not."""
    found = mechanism((1.0, 0.0, 0.0, 1.0), steps=8, participations=2, separation=2)
    assert np.linalg.norm(matrix(found)[:, [0, 3]].sum(axis=1)) == math.sqrt(6.0)
    assert not found.pairs(ZERO_OUT)["remove"].attained and found.sensitivity.upper >= math.sqrt(6.0)
    assert found.pairs(ZERO_OUT)["witness"].shift.contains(2.0)


@given(settings_of(numbers))
def test_sensitivity_is_exact_for_falling_coefficients(found):
    found = falling(found)
    moved = max(np.linalg.norm(matrix(found)[:, list(places)].sum(axis=1)) for places in fitting(found))
    assert found.pairs(ZERO_OUT)["remove"].attained
    assert found.sensitivity.upper == pytest.approx(moved, rel=1e-13)


@given(settings_of(numbers), st.integers(0, 100))
def test_sensitivity_is_at_least_what_records_of_several_coordinates_move(found, seed):
    rng, c = np.random.default_rng(seed), matrix(found)
    for places in fitting(found):
        given_ = rng.normal(size=(len(places), 3))
        given_ /= np.linalg.norm(given_, axis=1, keepdims=True)
        assert np.linalg.norm(c[:, list(places)] @ given_) <= found.sensitivity.upper * (1 + 1e-14)


@pytest.mark.parametrize("coefficients", [(1.0, -0.5, 0.25), (2.0, 3.0, -1.0), (-1.0, 1.0, 1.0)])
def test_bands_within_the_separation_are_exact_whatever_their_signs(coefficients):
    found = mechanism(coefficients, steps=11, participations=4, separation=3)
    columns = [math.fsum(c * c for c in coefficients[: 11 - place]) for place in (0, 3, 6, 9)]
    assert found.sensitivity.upper == pytest.approx(math.sqrt(sum(columns)), rel=1e-14)
    assert found.pairs(ZERO_OUT)["remove"].attained


@pytest.mark.parametrize(
    ("bands", "steps", "participations", "separation"), [(7, 40, 5, 3), (64, 64, 3, 20), (300, 1000, 40, 25)]
)
def test_sensitivity_encloses_the_exact_sum_narrowly(bands, steps, participations, separation):
    found = mechanism(square_root(bands), steps, participations=participations, separation=separation)
    total = [Fraction(0)] * steps
    for place in range(0, participations * separation, separation):
        for m, c in enumerate(found.coefficients[: max(steps - place, 0)]):
            total[place + m] += Fraction(c)
    with mp.workdps(40):
        square = sum(value**2 for value in total)
        truth = mp.sqrt(mp.mpf(square.numerator) / square.denominator)
        assert mp.mpf(found.sensitivity.lower) <= truth <= mp.mpf(found.sensitivity.upper)
    assert found.sensitivity.width < 1e-13 * found.sensitivity.upper


def test_more_participations_than_fit_are_as_many_as_fit():
    few, many = (mechanism(steps=10, participations=k, separation=4).sensitivity for k in (3, 10**12))
    assert few == many


@pytest.mark.parametrize("size", [1e-100, 1e100])
def test_extreme_coefficients_keep_their_digits(size):
    found = mechanism((size, size / 2), steps=5, participations=2, separation=1)
    assert found.sensitivity.lower == pytest.approx(size * math.sqrt(1 + 1.5**2 + 0.25), rel=1e-12)
    assert found.sensitivity.upper == pytest.approx(size * math.sqrt(1 + 1.5**2 + 0.25), rel=1e-12)


# Errors


@given(settings_of(numbers.filter(lambda c: abs(c) <= 1)))
def test_errors_are_the_rows_of_b(found):
    b = np.tril(np.ones((found.steps,) * 2)) @ np.linalg.inv(matrix(found))
    assert found.squared_errors() == pytest.approx((b**2).sum(axis=1))


@pytest.mark.parametrize("bands", [1, 2, 3, 10, 1000])
def test_square_roots_have_the_constants_of_landau(bands):
    """1 + log(n + 1)/π <= G_n < 1.0663 + log(n + 1)/π; G_1 = 5/4, G_2 = 89/64."""
    landau = math.fsum(c * c for c in square_root(bands))
    assert 1.0 <= landau - math.log(bands) / math.pi < 1.0663
    assert landau == {1: 1.0, 2: 1.25, 3: 89 / 64}.get(bands, landau)
    found = mechanism(square_root(bands), steps=bands)
    assert found.squared_errors()[-1] == pytest.approx(landau)
    with mp.workdps(30):
        exact = mp.binomial(2 * bands - 2, bands - 1) / mp.mpf(4) ** (bands - 1)
        assert found.coefficients[-1] == pytest.approx(float(exact), rel=1e-13)


@pytest.mark.parametrize("steps", [1, 2, 16, 64])
def test_no_mechanism_beats_the_trace_bound(steps):
    """(max error) sens² >= (mean error) sens² >= (|A|_*/T)², A's singular values 1/2 sin((2j − 1)π/(4T + 2))."""
    angles = (2 * np.arange(1, steps + 1) - 1) * np.pi / (4 * steps + 2)
    least = (1 / (2 * np.sin(angles))).sum() / steps
    assert least == pytest.approx(np.linalg.svd(np.tril(np.ones((steps, steps))), compute_uv=False).sum() / steps)
    costs = {}
    for name, coefficients in {
        "identity": (1.0,),
        "root": square_root(steps),
        "found": optimised(steps=steps, bands=steps),
    }.items():
        found = mechanism(coefficients, steps=steps)
        costs[name] = math.sqrt(found.squared_errors().mean()) * found.sensitivity.upper
    tree = Tree(noise_multiplier=1.0, steps=steps)
    costs["tree"] = math.sqrt(tree.squared_errors().mean() * tree.squared_sensitivity[0])
    assert least <= costs["found"] * (1 + 1e-9) and costs["found"] <= costs["root"] * (1 + 1e-9)
    assert steps < 16 or costs["root"] < min(costs["tree"], costs["identity"])


def test_errors_at_a_thousand_steps_are_those_of_the_literature():
    """The square root's is Landau's constant G_1023 = 3.2726; a tree has 11 levels of which half count at most."""
    root = mechanism(square_root(1024), steps=1024)
    assert math.sqrt(root.squared_errors()[-1]) * root.sensitivity.upper == pytest.approx(3.27255, abs=1e-5)
    tree = Tree(noise_multiplier=1.0, steps=1024)
    worst = sum(1 / (2 - 2.0**-level) for level in range(10))
    assert tree.squared_errors().max() * 11 == pytest.approx(11 * worst)


@pytest.mark.parametrize(("steps", "bands"), [(1, 1), (5, 1), (40, 4), (64, 64)])
def test_the_descent_ends_where_no_coefficient_can_be_bettered(steps, bands):
    best = np.array(optimised(steps=steps, bands=bands))
    cost, slope = toeplitz._log_cost(best[1:], steps)
    errors = mechanism(best, steps=steps).squared_errors()
    assert cost == pytest.approx(math.log(errors.sum() * (best**2).sum()))
    for k in range(1, bands):
        moved = [best + step * np.eye(bands)[k] for step in (1e-4, -1e-4)]
        assert all(toeplitz._log_cost(c[1:], steps)[0] > cost - 1e-8 for c in moved)
    assert np.abs(slope).max(initial=0.0) < 1e-3


@pytest.mark.parametrize(
    ("arguments", "text"), [((0, 1), "steps"), ((4, 0), "bands"), ((4, 5), "bands must be at most")]
)
def test_what_can_not_be_optimised_is_refused(arguments, text):
    with pytest.raises(InvalidParameter, match=f"optimised: {text}"):
        optimised(steps=arguments[0], bands=arguments[1])
