"""Bounds against exact arithmetic: rationals for + − × ÷ √, 50-digit mpmath for the elementary functions."""

import math
import operator
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import special

from mechanisms.core import bounds
from mechanisms.core.bounds import ULPS, Bounds, intersection, largest, log_sub_exp, smallest, sqrt
from mechanisms.core.errors import InvalidParameter
from tests.reference.truth import log_normal_cdf, normal_cdf

finite = st.floats(allow_nan=False, allow_infinity=False)
any_float = st.floats(allow_nan=False)
TRUTH = {
    "exp": mp.exp,
    "expm1": mp.expm1,
    "log": mp.log,
    "log1p": mp.log1p,
    "ndtr": normal_cdf,
    "log_ndtr": log_normal_cdf,
}
FLUSHED = 37.67  # beyond it the lower tail of Φ is subnormal


@pytest.fixture(autouse=True)
def fifty_digits():
    with mp.workdps(50):
        yield


@st.composite
def enclosures(draw, ends=any_float):
    low, high = sorted((draw(ends), draw(ends)))
    return Bounds(lower=low, upper=high)


@st.composite
def enclosures_with_a_point(draw):
    """Bounds with finite ends and a number between them, exactly known."""
    low, point, high = sorted(draw(finite) for _ in range(3))
    return Bounds(lower=low, upper=high), Fraction(point)


def encloses(found, value):
    """Tell whether `found` contains the rational or mpmath `value`, compared without rounding it."""
    if not isinstance(value, Fraction):
        return mp.mpf(found.lower) <= value <= mp.mpf(found.upper)
    lower = found.lower == -math.inf or Fraction(found.lower) <= value
    return lower and (found.upper == math.inf or value <= Fraction(found.upper))


def assert_same(found, array):
    """Bounds of a float and of an array of it."""
    assert (found.lower, found.upper) == (array.lower[0], array.upper[0])


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv"])
@given(enclosures_with_a_point(), enclosures_with_a_point())
def test_arithmetic_encloses_the_exact_result(name, left, right):
    (a, x), (b, y) = left, right
    assume(name != "truediv" or y)
    assert encloses(getattr(operator, name)(a, b), getattr(operator, name)(x, y))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv"])
@given(finite, enclosures_with_a_point())
def test_a_plain_number_on_either_side_counts_as_exact(name, number, other):
    bound, y = other
    function = getattr(operator, name)
    if y or name != "truediv":
        assert encloses(function(number, bound), function(Fraction(number), y))
    if number or name != "truediv":
        assert encloses(function(bound, number), function(y, Fraction(number)))


@given(st.lists(st.floats(0.0, 1.7e308), min_size=3, max_size=3).map(sorted))
def test_the_root_encloses_the_exact_root(ends):
    found, x = sqrt(Bounds(lower=ends[0], upper=ends[2])), Fraction(ends[1])
    assert Fraction(found.lower) ** 2 <= x <= Fraction(found.upper) ** 2


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv"])
@given(enclosures(), enclosures())
def test_arithmetic_with_infinite_ends_keeps_its_ends_in_order(name, a, b):
    found = getattr(operator, name)(a, b)
    assert found.lower <= found.upper
    assert not math.isnan(found.lower) and not math.isnan(found.upper)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv"])
@given(enclosures(), enclosures())
def test_plain_floats_take_a_shorter_way_to_the_ends_that_arrays_have(name, a, b):
    function = getattr(operator, name)
    arrays = (Bounds(lower=np.array([x.lower]), upper=np.array([x.upper])) for x in (a, b))
    assert_same(function(a, b), function(*arrays))


@given(finite, finite)
def test_arithmetic_of_exact_numbers_is_no_wider_than_two_ulps(x, y):
    for function in (operator.add, operator.sub, operator.mul):
        found = function(Bounds.exact(x), Bounds.exact(y))
        nearest = function(x, y)
        if math.isfinite(nearest):
            assert math.nextafter(nearest, -math.inf) <= found.lower <= found.upper <= math.nextafter(nearest, math.inf)


@pytest.mark.parametrize("count", [100, bounds.MANY, 3 * bounds.MANY])
def test_the_floats_next_to_any_number_of_floats_are_those_next_to_each(count):
    """Many are found by their bits: from the smallest to the largest, of both signs, both zeros, ∞ and NaN."""
    rng = np.random.default_rng(count)
    most, tiny = np.finfo(float).max, np.finfo(float).tiny
    edges = np.array([0.0, math.inf, 5e-324, tiny, math.nextafter(tiny, 0.0), 1.0, 2.0, most])
    drawn = rng.integers(-(2**63), 2**63 - 1, count, dtype=np.int64).view(np.float64)
    floats = np.concatenate([edges, -edges, [math.nan], drawn])
    for shape in (floats, floats[::-1], floats[: len(floats) // 2 * 2].reshape(-1, 2).T):
        with np.errstate(over="ignore", invalid="ignore"):  # numpy warns where the next float is ∞, or none is known
            for found, end in ((bounds.up(shape), math.inf), (bounds.down(shape), -math.inf)):
                assert np.array_equal(found, np.vectorize(math.nextafter)(shape, end), equal_nan=True)
            whole, ulps = np.abs(shape) < most, bounds._ulps(shape)
            assert np.array_equal(ulps[whole], np.vectorize(math.ulp)(shape[whole]))
            assert not np.any(np.isfinite(ulps[~np.isfinite(shape)]))


def test_a_sum_that_overflows_has_a_finite_lower_end():
    found = Bounds.exact(1.7e308) + 1.7e308
    assert (found.lower, found.upper) == (np.finfo(float).max, math.inf)


def test_a_product_with_an_exact_zero_is_an_exact_zero():
    assert (Bounds.exact(0.0) * Bounds(lower=-math.inf, upper=math.inf)).upper == 0.0


def test_the_difference_of_infinities_knows_nothing():
    found = Bounds.exact(math.inf) - math.inf
    assert (found.lower, found.upper) == (-math.inf, math.inf)


def test_a_quotient_through_zero_knows_nothing():
    found = Bounds.exact(1.0) / Bounds(lower=-1.0, upper=1.0)
    assert (found.lower, found.upper) == (-math.inf, math.inf)


@given(enclosures(), any_float, any_float, st.floats(0.0, 0.999))
def test_plain_floats_are_negated_clipped_and_inflated_as_arrays_are(a, one, other, relative):
    least, most = sorted((one, other))
    array = Bounds(lower=np.array([a.lower]), upper=np.array([a.upper]))
    assert_same(a.clip(least, most), array.clip(least, most))
    assert_same(-a, -array)
    with np.errstate(over="ignore"):
        assert_same(a.clip(0.0, math.inf).inflate(relative), array.clip(0.0, math.inf).inflate(relative))


@pytest.mark.parametrize("name", [*TRUTH, "log_sub_exp"])
@given(enclosures(), enclosures(st.floats(-800.0, 800.0)))
def test_plain_floats_have_the_functions_that_arrays_have(name, wide, near):
    asked = (near, near - 1.0) if name == "log_sub_exp" else (wide,)
    function = getattr(bounds, name)
    with np.errstate(all="ignore"):
        arrays = (Bounds(lower=np.array([x.lower]), upper=np.array([x.upper])) for x in asked)
        assert_same(function(*asked), function(*arrays))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv"])
@given(enclosures(), any_float)
def test_ends_that_are_one_object_are_the_ends_of_two(name, other, number):
    point, function = np.array([number, 0.0]), getattr(operator, name)
    array = Bounds(lower=np.array([other.lower, 1.0]), upper=np.array([other.upper, 2.0]))
    exact, apart = Bounds(lower=point, upper=point), Bounds(lower=point, upper=point.copy())
    for found, expected in (
        (function(array, exact), function(array, apart)),
        (function(exact, array), function(apart, array)),
    ):
        np.testing.assert_array_equal(found.lower, expected.lower)
        np.testing.assert_array_equal(found.upper, expected.upper)


@given(enclosures(st.floats(0.0, 1e300)), st.floats(0.0, 0.999), st.floats(-1.0, 1.0))
def test_inflating_encloses_every_relative_change(bound, relative, share):
    found = bound.inflate(relative)
    for end in (bound.lower, bound.upper):
        assert encloses(found, Fraction(end) * (1 + Fraction(share) * Fraction(relative)))


@given(st.lists(enclosures_with_a_point(), min_size=1, max_size=4))
def test_the_largest_and_smallest_enclose_those_of_the_points(pairs):
    parts, points = [bound for bound, _ in pairs], [point for _, point in pairs]
    assert encloses(largest(parts), max(points))
    assert encloses(smallest(parts), min(points))


@given(enclosures(), enclosures())
def test_an_intersection_is_refused_exactly_when_nothing_is_shared(a, b):
    if a.overlaps(b):
        assert intersection([a, b]).lower == max(a.lower, b.lower)
    else:
        with pytest.raises(InvalidParameter, match="lower must not exceed upper"):
            intersection([a, b])


@pytest.mark.parametrize("ends", [(math.nan, 1.0), (0.0, math.nan), (math.nan, math.nan), (1.0, 0.0)])
def test_ends_that_are_no_numbers_or_out_of_order_are_refused(ends):
    with pytest.raises(InvalidParameter, match="lower must not exceed upper"):
        Bounds(lower=ends[0], upper=ends[1])


def test_nan_in_an_array_is_refused():
    with pytest.raises(InvalidParameter, match="lower must not exceed upper"):
        Bounds.exact(np.array([0.0, math.nan]))


def test_an_array_times_bounds_is_bounds():
    found = np.array([1.0, 2.0]) * Bounds.exact(3.0)
    assert isinstance(found, Bounds)
    assert found.contains([3.0, 6.0]).all()


def test_the_width_of_a_point_is_zero_and_of_everything_infinite():
    assert Bounds.exact(0.1).width == 0.0
    assert Bounds.exact(math.inf).width == 0.0
    assert Bounds(lower=-math.inf, upper=math.inf).width == math.inf


# Elementary functions


def points(name):
    """Points over the whole range of a function: random ones at fixed seeds, and awkward ones."""
    rng = np.random.default_rng(0)
    tiny = np.geomspace(1e-300, 1.0, 60)
    near_zero = np.concatenate([rng.uniform(-1, 1, 150), tiny, -tiny, [0.0, 5e-324, -5e-324, 1e-310, -1e-310]])
    if name == "exp":
        return np.concatenate([near_zero, rng.uniform(-745, 709.7, 800), [-745.1, -744.4, -708.4, 709.78]])
    if name == "expm1":
        return np.concatenate([near_zero, rng.uniform(-50, 709.7, 800), [-745.1, -37.5, -36.7, 709.78]])
    if name == "log":
        near_one = np.concatenate([1 + np.geomspace(2.3e-16, 0.5, 100), 1 - np.geomspace(1.2e-16, 1 - 1e-9, 100)])
        return np.concatenate([np.exp(rng.uniform(-744, 709, 800)), near_one, [5e-324, 1e-310, 1.7e308, 1.0]])
    if name == "log1p":
        far = np.concatenate([np.exp(rng.uniform(-744, 709, 400)), -np.exp(rng.uniform(-744, 0, 200))])
        return np.concatenate([near_zero, far, -1 + np.geomspace(2.3e-16, 0.5, 100), [1.7e308]])
    inner = np.concatenate([near_zero, rng.uniform(-FLUSHED, FLUSHED, 1200), rng.uniform(-3, 3, 300), [8.3, -8.3]])
    return np.concatenate([inner, -np.geomspace(1, 1e150, 200), [-1e154]]) if name == "log_ndtr" else inner


def plain(name, x):
    """The float that the library widens."""
    function = getattr(special if "ndtr" in name else np, name)
    with np.errstate(under="ignore"):
        return function(x)


@pytest.mark.parametrize("name", TRUTH)
def test_floats_of_elementary_functions_err_by_at_most_half_of_what_is_allowed(name):
    x = points(name)[:: 4 if name == "log_ndtr" else 1]  # whose truth takes long
    x = x[x > {"log": 0.0, "log1p": -1.0}.get(name, -math.inf)]
    values, allowed = plain(name, x), np.broadcast_to(ULPS[name](x), x.shape)
    for point, value, ulps in zip(x, values, allowed, strict=True):
        error = abs(mp.mpf(float(value)) - TRUTH[name](mp.mpf(float(point))))
        assert error <= ulps / 2 * mp.mpf(float(np.spacing(abs(value)))), point


@pytest.mark.parametrize("name", TRUTH)
def test_enclosures_of_elementary_functions_hold_the_50_digit_value(name):
    x = points(name)[::3]
    found = getattr(bounds, name)(Bounds.exact(x))
    for point, lower, upper in zip(x, found.lower, found.upper, strict=True):
        assert encloses(Bounds(lower=lower, upper=upper), TRUTH[name](mp.mpf(float(point)))), point


@pytest.mark.parametrize(("name", "sign"), [("ndtr", -1.0), ("log_ndtr", 1.0)])
def test_enclosures_of_the_normal_tail_hold_subnormal_values(name, sign):
    for x in sign * np.linspace(FLUSHED, 38.6, 40):
        assert encloses(getattr(bounds, name)(Bounds.exact(x)), TRUTH[name](mp.mpf(float(x)))), x


@pytest.mark.parametrize("name", TRUTH)
@given(st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3).map(sorted))
def test_elementary_functions_of_intervals_enclose_those_of_their_points(name, ends):
    least, scale = {"log": (0.0, 1e300), "log1p": (-1.0, 1e300)}.get(name, (-math.inf, FLUSHED))
    low, inside, high = (max(least, scale * end) for end in ends)
    value = -mp.inf if inside == least else TRUTH[name](mp.mpf(inside))
    assert encloses(getattr(bounds, name)(Bounds(lower=low, upper=high)), value)


LIMITS = [
    ("exp", -math.inf, 0.0),
    ("exp", math.inf, math.inf),
    ("expm1", -math.inf, -1.0),
    ("log", 0.0, -math.inf),
    ("log", math.inf, math.inf),
    ("log1p", -1.0, -math.inf),
    ("ndtr", -math.inf, 0.0),
    ("ndtr", math.inf, 1.0),
    ("log_ndtr", -math.inf, -math.inf),
    ("log_ndtr", math.inf, 0.0),
]


@pytest.mark.parametrize(("name", "x", "limit"), LIMITS)
def test_elementary_functions_enclose_their_limits(name, x, limit):
    assert getattr(bounds, name)(Bounds.exact(x)).contains(limit)


def test_values_beyond_the_largest_float_have_finite_lower_ends():
    found = bounds.exp(Bounds.exact(710.0))
    assert (found.lower, found.upper) == (np.finfo(float).max, math.inf)


def test_elementary_functions_never_leave_their_ranges():
    x = np.concatenate([points("ndtr"), [-745.2, 745.2, -1e308, 1e308]])
    assert (bounds.exp(Bounds.exact(x)).lower >= 0).all()
    assert (bounds.expm1(Bounds.exact(x)).lower >= -1).all()
    assert (bounds.ndtr(Bounds.exact(x)).lower >= 0).all() and (bounds.ndtr(Bounds.exact(x)).upper <= 1).all()
    assert (bounds.log_ndtr(Bounds.exact(x)).upper <= 0).all()


@given(st.floats(-1e4, 1e4), st.floats(0.0, 800.0) | st.floats(1e-15, 1e-3))
def test_the_log_of_a_difference_encloses_the_50_digit_value(a, gap):
    b = a - gap
    found = log_sub_exp(Bounds.exact(a), Bounds.exact(b))
    with mp.workdps(400):
        truth = -mp.inf if a == b else mp.mpf(a) + mp.log(-mp.expm1(mp.mpf(b) - mp.mpf(a)))
        assert encloses(found, truth)


def test_the_log_of_a_difference_is_no_wider_than_the_condition_of_the_problem():
    found = log_sub_exp(Bounds.exact(-3.0), Bounds.exact(-3.5))
    assert found.width < 1e-14


@given(enclosures(st.floats(-100.0, 100.0)), enclosures(st.floats(-100.0, 100.0)))
def test_the_log_of_a_difference_of_intervals_is_minus_infinity_where_it_may_be_nothing(a, b):
    found = log_sub_exp(a, b)
    assert (found.lower == -math.inf) == (a.lower <= b.upper)
    assert (found.upper == -math.inf) == (a.upper <= b.lower)


@pytest.mark.parametrize("gap", [5e-324, 2e-323])
def test_the_log_of_a_difference_minds_no_subnormal_gap(gap):
    assert log_sub_exp(Bounds.exact(0.0), Bounds.exact(-gap)).contains(float(mp.log(mp.mpf(gap))))
