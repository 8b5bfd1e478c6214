"""How far a record moves a query: the table against brute force, and the pairs that follow."""

import itertools
import math
from dataclasses import dataclass

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import (
    Adjacency,
    Allocated,
    DiscretePair,
    Gaussian,
    InvalidParameter,
    KeyedSource,
    Laplace,
    Mechanism,
    PureDP,
    Repeat,
    Shuffled,
    UnsupportedProcess,
)
from mechanisms.core.bounds import Bounds
from mechanisms.core.contributions import ball, counted, numbers, one_cell, outer_products
from mechanisms.core.query import checked_noise
from mechanisms.core.renyi import LinearDivergence
from mechanisms.count import Count
from mechanisms.histogram import Histogram
from mechanisms.sum import Sum
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT


def norm(vector, order):
    return float(np.linalg.norm(np.ravel(vector), order))


def farthest(values, order):
    return max(norm(np.subtract(a, b), order) for a, b in itertools.product(values, repeat=2))


def largest(values, order):
    return max(norm(value, order) for value in values)


def holds(bounds, value):
    return bounds.lower * (1 - 1e-12) <= value <= bounds.upper * (1 + 1e-12)


SETS = {
    "numbers": (numbers(-3, 5), [(k,) for k in range(-3, 6)], 2),
    "numbers above 0": (numbers(3, 5), [(0,), (3,), (4,), (5,)], 1),
    "symmetric numbers": (numbers(-4, 4), [(k,) for k in range(-4, 5)], 1),
    "cells, L2": (one_cell(2), [tuple(row) for row in np.eye(3)], 2),
    "cells, L1": (one_cell(1), [tuple(row) for row in np.eye(3)], 1),
    "counted, L2": (counted(4, 2, nothing=True), [(c, 4) for c in range(-4, 5)] + [(0, 0)], 2),
    "counted, L1": (counted(4, 1, nothing=True), [(c, 4) for c in range(-4, 5)] + [(0, 0)], 1),
    "ball": (ball(5), [v for v in itertools.product(range(-5, 6), repeat=2) if v[0] ** 2 + v[1] ** 2 <= 25], 2),
    "outer products": (
        outer_products(5, 2),
        [np.outer(v, v) for v in itertools.product(range(-5, 6), repeat=2) if v[0] ** 2 + v[1] ** 2 <= 25],
        2,
    ),
    "squares": (outer_products(5, 1), [(k * k,) for k in range(6)], 2),
}


@pytest.mark.parametrize("name", SETS)
def test_movements_are_those_of_all_contributions_tried(name):
    found, values, order = SETS[name]
    assert found.sensitivity >= largest(values, order) * (1 - 1e-15)
    assert holds(found.movement(ADD_REMOVE), largest(values, order) / found.sensitivity)
    assert holds(found.movement(REPLACE_ONE), farthest(values, order) / found.sensitivity)
    assert found.movement(ZERO_OUT) == found.movement(ADD_REMOVE)


@pytest.mark.parametrize("name", SETS)
def test_replacing_moves_at_least_as_far_as_leaving_out(name):
    """Theorems on samples take leaving a record out for a replacement."""
    found = SETS[name][0]
    assert found.movement(REPLACE_ONE).upper >= found.movement(ADD_REMOVE).upper


@pytest.mark.parametrize("name", SETS)
def test_only_opposite_contributions_attain_the_pair_under_replace_one(name):
    found, values, _ = SETS[name]
    opposite = any(np.any(a) and np.array_equal(np.negative(a), b) for a, b in itertools.product(values, repeat=2))
    opposite &= name not in ("numbers", "counted, L2", "counted, L1")  # opposite there, but not the largest
    for noise in (Gaussian(noise_multiplier=2.0), Laplace(noise_multiplier=2.0)):
        assert found.pairs(noise, REPLACE_ONE)["replace"].attained == opposite


def test_a_record_that_cannot_contribute_nothing_leaves_no_lower_end_for_samples():
    found = numbers(3, 5, nothing=False)
    assert not found.pairs(Gaussian(noise_multiplier=1.0), ADD_REMOVE)["remove"].attained
    pairs = found.pairs(Gaussian(noise_multiplier=1.0), REPLACE_ONE)
    assert holds(pairs["replace"].shift, 1.0) and holds(pairs["witness"].shift, 0.4) and pairs["witness"].attained
    assert found.pairs(Gaussian(noise_multiplier=1.0), ZERO_OUT).keys() == {"remove", "add"}
    assert "witness" not in numbers(5, 5, nothing=False).pairs(Gaussian(noise_multiplier=1.0), REPLACE_ONE)


@given(st.integers(-(2**24), 2**24), st.integers(-(2**24), 2**24), st.sampled_from((0.5, 1.0, 3.7)))
def test_shifts_enclose_the_exact_movement_over_the_scale(one, other, scale):
    low, high = min(one, other), max(one, other)
    if low == high == 0:
        return
    found = numbers(low, high)
    with mp.workdps(60):
        exact = mp.mpf(max(high, 0) - min(low, 0)) / max(-low, high) / mp.mpf(scale)
    for noise in (Gaussian(noise_multiplier=scale), Laplace(noise_multiplier=scale)):
        shift = found.pairs(noise, REPLACE_ONE)["replace"].shift
        assert mp.mpf(shift.lower) <= exact <= mp.mpf(shift.upper) and shift.width <= 3e-15 * shift.upper


def test_a_plain_noise_has_the_pairs_of_a_ball():
    for noise in (Gaussian(noise_multiplier=1.3), Laplace(noise_multiplier=1.3)):
        for adjacency in Adjacency:
            assert ball(7).pairs(noise, adjacency) == noise.pairs(adjacency)


@pytest.mark.parametrize("scale", [0.0, 5e-324, 1e-309, 6e-309])
def test_without_noise_all_is_shown_whatever_the_movement(scale):
    for noise in (Gaussian(noise_multiplier=scale), Laplace(noise_multiplier=scale)):
        for found in (numbers(0, 5), one_cell(2), counted(3, 2, nothing=True)):
            for adjacency in (ADD_REMOVE, REPLACE_ONE):
                pairs = found.pairs(noise, adjacency)
                assert all(pair.delta(Bounds.exact(3.0)).upper == 1.0 for pair in pairs.values())


def test_a_noise_without_a_pair_for_the_movement_is_refused():
    with pytest.raises(UnsupportedProcess, match="Use Gaussian"):
        one_cell(2).pairs(PureDP(epsilon=1.0, adjacency="add_remove"), REPLACE_ONE)


@pytest.mark.parametrize("noise", [None, "Gaussian", Gaussian, PureDP(epsilon=1.0, adjacency="add_remove"), 1.0])
def test_what_adds_no_noise_is_refused(noise):
    with pytest.raises(InvalidParameter, match="Sum: noise must be one of Gaussian, Laplace"):
        checked_noise("Sum", noise, ("Gaussian", "Laplace"))


# Two cells, by integrating over both


def two_cells(density, scale, epsilon):
    """δ(ε) of noise on (1, 0) against noise on (0, 1), by the midpoint rule."""
    edge = 12.0 * scale + 2.0
    points = np.linspace(-edge, edge, 1001)
    middle = 0.5 * (points[1:] + points[:-1])
    here, there = density((middle - 1.0) / scale) / scale, density(middle / scale) / scale
    p, q = np.outer(here, there), np.outer(there, here)
    return float(np.sum(np.maximum(p - math.exp(epsilon) * q, 0.0))) * (middle[1] - middle[0]) ** 2


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_a_replaced_record_of_a_histogram_shows_what_two_cells_show(epsilon):
    def normal(z):
        return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    truth = two_cells(normal, 1.5, epsilon)
    found = one_cell(2).pairs(Gaussian(noise_multiplier=1.5), REPLACE_ONE)
    assert abs(found["replace"].delta(Bounds.exact(epsilon)).upper - truth) < 1e-4
    assert found["witness"].delta(Bounds.exact(epsilon)) == found["replace"].delta(Bounds.exact(epsilon))


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_laplace_noise_on_two_cells_lies_between_its_witness_and_its_pair(epsilon):
    truth = two_cells(lambda z: np.exp(-np.abs(z)) / 2, 1.5, epsilon)
    found = one_cell(1).pairs(Laplace(noise_multiplier=1.5), REPLACE_ONE)
    assert found["witness"].delta(Bounds.exact(epsilon)).lower - 1e-4 <= truth
    assert truth <= found["replace"].delta(Bounds.exact(epsilon)).upper + 1e-4
    assert truth > 0


# Zeroed records


@pytest.mark.parametrize("kind", [Gaussian, Laplace])
def test_a_zeroed_record_is_priced_as_one_left_out(kind):
    noise = kind(noise_multiplier=2.0)
    found, same = numbers(0, 5).pairs(noise, ZERO_OUT), noise.pairs(ADD_REMOVE)["remove"]
    assert found["witness"] == same and not found["remove"].attained
    assert found["add"].delta(Bounds.exact(0.1)) == same.delta(Bounds.exact(0.1))
    assert ball(5).pairs(noise, ZERO_OUT)["remove"].attained


def test_no_record_is_zeroed_among_opposite_ones_where_there_are_none():
    """Shuffled zeroed Gaussian steps have a lower end of opposite records."""
    for low, known in ((0.0, False), (-1.0, True)):
        query = Sum(lower=low, upper=1.0, noise=Gaussian(noise_multiplier=1.0))
        found = Allocated(Repeat(query, 3), Shuffled()).pairs(ZERO_OUT)
        assert ("witness" in found) == known


# Discrete noise


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscreteGaussian(Mechanism):
    """What a query asks of discrete noise: a pair of one step, and a Rényi bound for any movement."""

    sensitivity: int = 1
    dimension: int = 1

    def pairs(self, adjacency):
        pair = DiscretePair.from_probabilities((0.75, 0.25), (0.25, 0.75), attained=True)
        return dict.fromkeys(adjacency.directions, pair)

    def renyi(self, adjacency):
        return LinearDivergence(rho=0.5)

    def release(self, value, *, sensitivity, randomness):
        assert sensitivity == 1 and np.asarray(value).dtype == np.int64
        return value


def test_discrete_noise_of_one_step_serves_counts_under_every_adjacency():
    count = Count(noise=DiscreteGaussian())
    for adjacency in Adjacency:
        pairs = count.pairs(adjacency)
        assert pairs[adjacency.directions[0]].losses == DiscreteGaussian().pairs(ADD_REMOVE)["remove"].losses
        assert pairs.get("witness", pairs[adjacency.directions[0]]).attained
        assert count.renyi(adjacency).rho == pytest.approx(0.5)
    found = count.release([True, True], randomness=KeyedSource(0))
    assert found == 2 and isinstance(found, int)


def test_discrete_noise_of_a_histogram_has_a_renyi_bound_where_it_has_no_pair():
    query = Histogram(categories=(1, 2, 3), noise=DiscreteGaussian(dimension=3))
    assert query.pairs(ADD_REMOVE)["remove"].attained and 1.0 <= query.renyi(REPLACE_ONE).rho < 1.0000001
    with pytest.raises(UnsupportedProcess, match="accountant='zcdp'"):
        query.pairs(REPLACE_ONE)
    assert query.release([1, 3, 3], randomness=KeyedSource(0)).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Count(noise=DiscreteGaussian(sensitivity=3)), "Count: noise must have sensitivity=1"),
        (lambda: Count(noise=DiscreteGaussian(dimension=2)), "Count: noise must have dimension=1"),
        (lambda: Histogram(categories=(1, 2), noise=DiscreteGaussian()), "Histogram: noise must have dimension=2"),
        (lambda: Sum(lower=0, upper=1, noise=DiscreteGaussian()), "Sum: noise must be one of Gaussian, Laplace"),
    ],
)
def test_discrete_noise_of_another_size_is_refused(build, text):
    with pytest.raises(InvalidParameter, match=text):
        build()


def test_continuous_noise_has_no_renyi_bound_of_its_own():
    with pytest.raises(UnsupportedProcess, match="no Rényi bound of its own"):
        Count(noise=Gaussian(noise_multiplier=1.0)).renyi(ADD_REMOVE)
