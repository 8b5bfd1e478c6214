"""Pure guarantees: their pair, the adjacency they state, and that they run nothing."""

import math

import mpmath as mp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import Adjacency, InvalidParameter, KeyedSource, PureDP, RandomizedResponse, UnsupportedProcess
from mechanisms.core.bounds import Bounds
from tests.strategies import ADD_REMOVE, REPLACE_ONE


@given(st.floats(0.0, 700.0), st.sampled_from(Adjacency), st.floats(0.0, 1.0))
def test_delta_is_that_of_randomised_response_in_every_direction(epsilon, adjacency, share):
    pairs = PureDP(epsilon=epsilon, adjacency=adjacency).pairs(adjacency)
    assert tuple(pairs) == adjacency.directions
    with mp.workdps(400):
        weight = mp.exp(mp.mpf(epsilon))
        truth = (weight - mp.exp(mp.mpf(share * epsilon))) / (weight + 1)
        for pair in pairs.values():
            found = pair.delta(Bounds.exact(share * epsilon))
            assert mp.mpf(found.lower) <= truth <= mp.mpf(found.upper)
            assert pair.attained and pair.infinite_mass.upper == 0.0 and pair.supremum.contains(epsilon)


def test_it_is_the_pair_of_randomised_response_to_two_categories():
    pure = PureDP(epsilon=1.3, adjacency="replace_one").pairs(REPLACE_ONE)["replace"]
    response = RandomizedResponse(epsilon=1.3).pairs(REPLACE_ONE)["replace"]
    assert all(pure.delta(Bounds.exact(x)).overlaps(response.delta(Bounds.exact(x))) for x in (0.0, 0.4, 1.2, 2.0))


def test_another_adjacency_than_the_one_stated_is_refused():
    pure = PureDP(epsilon=1.0, adjacency=Adjacency.ZERO_OUT)
    with pytest.raises(
        UnsupportedProcess, match=r"about zero_out neighbours, got add_remove\.\nUse adjacency='zero_out'"
    ):
        pure.pairs(ADD_REMOVE)


def test_it_releases_nothing():
    with pytest.raises(UnsupportedProcess, match="PureDP: it states a guarantee and runs nothing"):
        PureDP(epsilon=1.0, adjacency="add_remove").release(0.0, sensitivity=1.0, randomness=KeyedSource(0))


@pytest.mark.parametrize("epsilon", [-1.0, math.nan, math.inf, "1", None])
def test_what_is_no_epsilon_is_refused(epsilon):
    with pytest.raises(InvalidParameter, match="PureDP: epsilon must"):
        PureDP(epsilon=epsilon, adjacency="add_remove")


@pytest.mark.parametrize("adjacency", ["neighbours", None, 1])
def test_what_is_no_adjacency_is_refused(adjacency):
    with pytest.raises(InvalidParameter, match="Adjacency: name must be one of 'add_remove'"):
        PureDP(epsilon=1.0, adjacency=adjacency)
