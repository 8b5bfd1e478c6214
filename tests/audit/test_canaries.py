import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.canaries import SignedCoordinates, signed_coordinates
from mechanisms import InvalidParameter


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 2**32))
def test_canaries_never_share_a_coordinate(canaries, spare, seed):
    made = signed_coordinates(canaries=canaries, dimension=canaries + spare, rng=np.random.default_rng(seed))
    assert len(np.unique(made.coordinates)) == len(made) == canaries
    assert set(np.abs(made.signs)) == {1.0}
    assert 0 <= made.coordinates.min() <= made.coordinates.max() < made.dimension


def test_more_canaries_than_parameters_are_refused():
    with pytest.raises(InvalidParameter, match="canaries must be at most the 10 trainable parameters, got 11"):
        signed_coordinates(canaries=11, dimension=10, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("coordinates", "signs", "message"),
    [
        ([0, 0], [1, 1], "all be different"),
        ([0, 5], [1, 1], r"lie in \[0, 5\)"),
        ([-1, 2], [1, 1], r"lie in \[0, 5\)"),
        ([0, 1], [1, 0.5], "signs must be 1"),
        ([0, 1], [1], r"one shape \(m,\)"),
        ([], [], "m >= 1"),
        ([0.5, 1.7], [1, 1], "coordinates must be whole numbers, got float64"),
    ],
)
def test_canaries_that_could_hide_each_other_are_refused(coordinates, signs, message):
    with pytest.raises(InvalidParameter, match=message):
        SignedCoordinates(coordinates=coordinates, signs=signs, dimension=5)


@pytest.mark.parametrize("dimension", ["5", 4.5, 0, True])
def test_a_dimension_that_is_no_number_of_parameters_is_refused(dimension):
    with pytest.raises(InvalidParameter, match="SignedCoordinates: dimension must be"):
        SignedCoordinates(coordinates=[0, 1], signs=[1, 1], dimension=dimension)
