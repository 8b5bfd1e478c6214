"""Sums: exact where float64 is not, moved by a record no further than their pairs say."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from accountant import delta_bounds, epsilon_bounds
from mechanisms import Adjacency, FixedSize, Gaussian, InvalidParameter, KeyedSource, Laplace, Poisson, Repeat, Sampled
from mechanisms.core.query import LARGEST_TOTAL, saturated, total
from mechanisms.sum import Sum
from tests.strategies import REPLACE_ONE

SILENT = Gaussian(noise_multiplier=0.0)
floats = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
bounds = st.floats(-1e270, 1e270).filter(lambda x: x == 0 or abs(x) >= 1e-270)


def plain(query, values):
    """The sum without noise, as a fraction."""
    return Fraction(query.release(np.array(values, dtype=float), randomness=KeyedSource(0)))


@st.composite
def queries(draw):
    lower, upper = sorted((draw(bounds), draw(bounds)))
    if lower == upper == 0:
        upper = 1.0
    return Sum(lower=lower, upper=upper, noise=SILENT, nan=draw(st.none() | st.floats(-10.0, 10.0)))


# What one record moves


@given(queries(), st.lists(floats, max_size=8), floats, floats)
def test_neighbours_differ_by_at_most_the_derived_movement_exactly(query, others, one, other):
    with_one, with_other, without = (plain(query, [*others, *more]) for more in ([one], [other], []))
    size = Fraction(query.sensitivity)
    assert abs(with_one - without) <= size
    farthest = query.contributions.movement(REPLACE_ONE)
    assert abs(with_one - with_other) <= size * Fraction(farthest.upper)
    steps = size / Fraction(query.contributions.sensitivity)
    assert ((with_one - without) / steps).denominator == 1


@given(queries())
def test_the_records_at_the_bounds_attain_the_movement(query):
    low, high = plain(query, [query.lower]), plain(query, [query.upper])
    assert max(abs(low), abs(high)) == Fraction(query.sensitivity)
    span = max(high, 0) - min(low, 0)
    movement = query.contributions.movement(REPLACE_ONE)
    assert Fraction(movement.lower) <= span / Fraction(query.sensitivity) <= Fraction(movement.upper)


def test_numpy_moves_by_more_than_the_largest_record_and_this_sum_does_not():
    """2^53 swallows halves: each of the others is then rounded up."""
    others, record = np.full(1000, 1.5), 2.0**53
    both = np.concatenate([[record], others])
    moved_by_numpy = Fraction(float(np.sum(both))) - Fraction(float(np.sum(others)))
    moved_in_order = Fraction(float(np.cumsum(both)[-1])) - Fraction(float(np.cumsum(others)[-1]))
    assert moved_by_numpy > record and moved_in_order == record + 500
    query = Sum(lower=0.0, upper=record, noise=SILENT)
    assert plain(query, both) - plain(query, others) == record


def test_small_floats_and_integers_are_summed_as_what_they_hold():
    many = np.ones(3048, dtype=np.float16)
    assert float(np.cumsum(many, dtype=np.float16)[-1]) == 2048.0  # stuck: a thousand records add nothing
    query = Sum(lower=0.0, upper=1.0, noise=SILENT)
    assert query.release(many, randomness=KeyedSource(0)) == 3048.0
    bytes_ = np.full(1000, 127, dtype=np.int8)
    assert Sum(lower=0, upper=127, noise=SILENT).release(bytes_, randomness=KeyedSource(0)) == 127_000


def test_integers_that_overflow_in_numpy_are_clipped_first():
    large = np.full(4, 2**62)
    assert np.sum(large) == 0
    query = Sum(lower=-(2.0**62), upper=2.0**62, noise=SILENT)
    assert query.release(large, randomness=KeyedSource(0)) == 2.0**64
    unsigned = np.array([2**64 - 1, 5], dtype=np.uint64)
    assert Sum(lower=0, upper=8, noise=SILENT).release(unsigned, randomness=KeyedSource(0)) == 13.0


def test_the_order_of_the_records_makes_no_difference():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(1000) * 10.0 ** rng.integers(-20, 20, 1000)
    query = Sum(lower=-1e6, upper=1e12, noise=SILENT)
    sums = {plain(query, rng.permutation(values)) for _ in range(20)}
    assert len(sums) == 1 and len({float(np.sum(rng.permutation(values))) for _ in range(20)}) > 1


def test_a_total_saturates_and_neighbours_stay_as_close():
    for start in (LARGEST_TOTAL - 3, LARGEST_TOTAL, LARGEST_TOTAL + 7, -LARGEST_TOTAL - 2):
        ends = saturated(np.array([start, start + 5]))
        assert 0 <= Fraction(ends[1]) - Fraction(ends[0]) <= 5 and np.all(np.abs(ends) <= LARGEST_TOTAL)
    assert total(np.full(3, 2**61)) == LARGEST_TOTAL  # far from where int64 would wrap


@given(st.lists(st.integers(-1000, 1000), max_size=20))
def test_whole_numbers_are_summed_without_rounding(values):
    clipped = sum(min(max(value, -10), 100) for value in values)
    assert Sum(lower=-10, upper=100, noise=SILENT).release(values, randomness=KeyedSource(0)) == clipped


@given(st.floats(-2.0, 12.0))
def test_a_record_is_rounded_to_the_nearest_step(value):
    query = Sum(lower=-1.0, upper=10.0, noise=SILENT)
    assert abs(plain(query, [value]) - Fraction(min(max(value, -1.0), 10.0))) <= Fraction(1, 2**21)


# NaN and infinities


@pytest.mark.parametrize(("nan", "expected"), [(None, 5.0), (3.0, 8.0), (99.0, 15.0), (-99.0, 7.0)])
def test_nan_is_what_was_declared_for_it(nan, expected):
    query = Sum(lower=2, upper=10, noise=SILENT, nan=nan)
    assert query.release([5.0, float("nan")], randomness=KeyedSource(0)) == expected


def test_infinities_count_as_the_bounds():
    query = Sum(lower=-3, upper=10, noise=SILENT)
    assert query.release([np.inf, -np.inf, np.inf], randomness=KeyedSource(0)) == 17.0


def test_rejecting_nan_draws_no_noise():
    source = KeyedSource(0)
    with pytest.raises(InvalidParameter, match=r"Sum: value must hold no NaN\. Declare what stands for it"):
        Sum(lower=0, upper=1, noise=Gaussian(noise_multiplier=1.0), nan="reject").release([np.nan], randomness=source)
    assert source.reserve("gaussian", 1) == 0


# Prices


@pytest.mark.parametrize(("lower", "upper", "movement"), [(0, 10, 1.0), (-2, 8, 1.25), (-5, 5, 2.0), (5, 10, 1.0)])
def test_epsilon_is_that_of_a_gaussian_of_the_derived_movement(lower, upper, movement):
    query = Repeat(Sum(lower=lower, upper=upper, noise=Gaussian(noise_multiplier=3.0)), 4)
    found = epsilon_bounds(query, delta=1e-6, adjacency="replace_one")
    same = epsilon_bounds(Repeat(Gaussian(noise_multiplier=3.0 / movement), 4), delta=1e-6, adjacency="add_remove")
    assert found.overlaps(same) and found.width <= 1e-9 * found.upper
    assert epsilon_bounds(query, delta=1e-6, adjacency="add_remove").overlaps(
        epsilon_bounds(Repeat(Gaussian(noise_multiplier=3.0), 4), delta=1e-6, adjacency="add_remove")
    )


@pytest.mark.parametrize("noise", [Gaussian(noise_multiplier=1.5), Laplace(noise_multiplier=1.5)])
@pytest.mark.parametrize("scheme", [Poisson(probability=0.2), FixedSize(batch_size=2, records=8)])
@pytest.mark.parametrize("adjacency", Adjacency)
def test_on_samples_it_costs_no_more_than_the_plain_noise(noise, scheme, adjacency):
    one_sided, symmetric = (Sum(lower=low, upper=3, noise=noise) for low in (0, -3))
    found, most = (
        epsilon_bounds(Sampled(one, scheme), delta=1e-3, adjacency=adjacency) for one in (one_sided, symmetric)
    )
    plain_ = epsilon_bounds(Sampled(noise, scheme), delta=1e-3, adjacency=adjacency)
    assert most == plain_ and 0 < found.upper <= plain_.upper * (1 + 1e-9) and found.lower <= found.upper


def means_of_samples(scheme, values):
    """Every sum that a sample of these contributions may have, with its probability."""
    if isinstance(scheme, FixedSize):
        batches = list(itertools.combinations(values, scheme.batch_size))
        return [(sum(batch), 1 / len(batches)) for batch in batches]
    q = scheme.probability
    found = []
    for taken in itertools.product((False, True), repeat=len(values)):
        chance = math.prod(q if one else 1 - q for one in taken)
        found.append((sum(v for v, one in zip(values, taken, strict=True) if one), chance))
    return found


def most_seen(scheme, contributions, adjacency, epsilon, density):
    """The largest δ(ε) of neighbours of few records, by the midpoint rule."""
    z = np.linspace(-12.0, 14.0, 2601)

    def law(values):
        return sum(chance * density(z - mean) for mean, chance in means_of_samples(scheme, values))

    records = 3 if isinstance(scheme, FixedSize) else 2
    best = 0.0
    for others in itertools.product(contributions, repeat=records - 1):
        laws = {one: law((*others, one)) for one in (*contributions, 0.0)}
        without = law(others) if len(others) >= getattr(scheme, "batch_size", 0) else None
        for one in contributions:
            rivals = {"replace_one": [laws[b] for b in contributions], "zero_out": [laws[0.0]], "add_remove": [without]}
            for rival in rivals[adjacency.value]:
                for p, q in ((laws[one], rival), (rival, laws[one])):
                    best = max(best, float(np.sum(np.maximum(p - math.exp(epsilon) * q, 0.0))) * 0.01)
    return best


@pytest.mark.thinned(4)
@pytest.mark.parametrize("adjacency", Adjacency)
@pytest.mark.parametrize("scheme", [Poisson(probability=0.4), FixedSize(batch_size=2, records=3)])
@pytest.mark.parametrize(("lower", "nan"), [(0.0, None), (-0.5, None), (0.75, None), (0.75, 1.0), (-1.0, None)])
@pytest.mark.parametrize("kind", [Gaussian, Laplace])
def test_no_neighbours_on_samples_show_more_than_the_pairs_and_some_show_the_lower_end(
    kind, lower, nan, scheme, adjacency
):
    query = Sum(lower=lower, upper=1.0, noise=kind(noise_multiplier=1.0), nan=nan)
    contributions = sorted({lower, 1.0, *((0.0,) if nan is None else ())})
    law = stats.norm.pdf if kind is Gaussian else stats.laplace.pdf
    for epsilon in (0.0, 0.4):
        seen = most_seen(scheme, contributions, adjacency, epsilon, law)
        claimed = delta_bounds(Sampled(query, scheme), epsilon=epsilon, adjacency=adjacency)
        assert claimed.lower - 1e-4 <= seen <= claimed.upper + 1e-4


@pytest.mark.parametrize(
    ("noise", "law"),
    [(Gaussian(noise_multiplier=2.0), stats.norm(0, 20.0)), (Laplace(noise_multiplier=2.0), stats.laplace(0, 20.0))],
)
def test_the_noise_is_scaled_by_the_sensitivity(noise, law):
    query, source = Sum(lower=-4, upper=10, noise=noise), KeyedSource(5)
    found = [query.release([3.0, 9.0], randomness=source) - 12.0 for _ in range(600)]
    assert stats.kstest(found, law.cdf).pvalue > 1e-3


# Bad input


@pytest.mark.parametrize(
    ("lower", "upper", "text"),
    [
        (1.0, 0.0, "Sum: lower must be at most upper, got 1.0 and 0.0. Did you swap them?"),
        (0.0, 0.0, "Sum: bounds must not both be 0"),
        (-0.0, 0, "Sum: bounds must not both be 0"),
        (0.0, np.inf, "Sum: upper must be finite, got inf"),
        (-np.inf, 0.0, "Sum: lower must be finite"),
        (np.nan, 0.0, "Sum: lower must be a number, got nan"),
        ("0", 1.0, "Sum: lower must be a real number"),
        (True, 2.0, "Sum: lower must be a real number"),
        (0.0, 1e300, "Sum: bounds must be between 1e-270 and 1e270 in size"),
        (0.0, 5e-324, "Sum: bounds must be between 1e-270 and 1e270 in size"),
    ],
)
def test_bounds_that_bound_nothing_are_refused(lower, upper, text):
    with pytest.raises(InvalidParameter, match=text):
        Sum(lower=lower, upper=upper, noise=SILENT)


@pytest.mark.parametrize("nan", ["drop", np.nan, np.inf, True, [0.0]])
def test_nan_must_be_declared_as_a_number_or_rejected(nan):
    with pytest.raises(InvalidParameter, match="Sum: nan must be"):
        Sum(lower=0, upper=1, noise=SILENT, nan=nan)
