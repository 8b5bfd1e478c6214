"""Approximate guarantees: their pair, the adjacency they state, and that they run nothing."""

import math

import mpmath as mp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import Adjacency, ApproximateDP, InvalidParameter, KeyedSource, UnsupportedProcess
from mechanisms.core.bounds import Bounds
from tests.strategies import ADD_REMOVE


@given(st.floats(0.0, 700.0), st.floats(0.0, 1.0), st.floats(0.0, 1.5), st.sampled_from(Adjacency))
def test_delta_is_the_chance_to_tell_all_and_randomised_response_otherwise(epsilon, delta, share, adjacency):
    pairs = ApproximateDP(epsilon=epsilon, delta=delta, adjacency=adjacency).pairs(adjacency)
    assert tuple(pairs) == adjacency.directions
    with mp.workdps(400):
        weight, lost = mp.exp(mp.mpf(epsilon)), mp.mpf(delta)
        truth = lost + (1 - lost) * max((weight - mp.exp(mp.mpf(share * epsilon))) / (weight + 1), 0)
        for pair in pairs.values():
            found = pair.delta(Bounds.exact(share * epsilon))
            assert mp.mpf(found.lower) <= truth <= mp.mpf(found.upper)
            assert pair.attained and pair.infinite_mass.lower == pair.missing_mass.upper == delta


@pytest.mark.parametrize("delta", [0.0, 5e-324, 1e-6, 0.5, 1.0])
@pytest.mark.parametrize("epsilon", [0.0, 1e-300, 1.0, 1e5])
def test_at_its_epsilon_it_costs_its_delta(epsilon, delta):
    pair = ApproximateDP(epsilon=epsilon, delta=delta, adjacency="add_remove").pairs(ADD_REMOVE)["remove"]
    found = pair.delta(Bounds.exact(epsilon))
    assert found.contains(delta) and found.width <= 1e-14 + 2.0**-50 * epsilon  # the rounding that losses may have
    assert pair.reverse().delta(Bounds.exact(0.3)).overlaps(pair.delta(Bounds.exact(0.3)))


def test_another_adjacency_than_the_one_stated_is_refused():
    with pytest.raises(UnsupportedProcess, match=r"ApproximateDP.*about replace_one neighbours, got add_remove"):
        ApproximateDP(epsilon=1.0, delta=1e-6, adjacency="replace_one").pairs(ADD_REMOVE)


def test_it_releases_nothing():
    guarantee = ApproximateDP(epsilon=1.0, delta=1e-6, adjacency="add_remove")
    with pytest.raises(UnsupportedProcess, match="ApproximateDP: it states a guarantee and runs nothing"):
        guarantee.release(0.0, sensitivity=1.0, randomness=KeyedSource(0))


@pytest.mark.parametrize(
    ("name", "value"), [("epsilon", -1.0), ("epsilon", math.inf), ("delta", 1.5), ("delta", math.nan)]
)
def test_what_is_out_of_range_is_refused(name, value):
    with pytest.raises(InvalidParameter, match=f"ApproximateDP: {name} must"):
        ApproximateDP(**{"epsilon": 1.0, "delta": 0.1, "adjacency": "add_remove"} | {name: value})
