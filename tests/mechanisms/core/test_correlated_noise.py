"""Correlated noise: its covariance, its white rows, and going on at any step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import (
    InvalidParameter,
    KeyedSource,
)
from mechanisms.core.correlated_noise import TreeNoise
from mechanisms.matrix import square_root
from mechanisms.tree import Tree
from tests.reference.streams import matrix, mechanism, node_matrix, numbers, settings_of

# Toeplitz


@pytest.mark.parametrize("coefficients", [(1.0,), (2.0, 1.0, 0.5), (1.0, -0.5), square_root(12)])
def test_noise_has_the_covariance_of_the_inverse(coefficients):
    found, count = mechanism(coefficients, steps=12, noise=2.0), 3000
    source, noise, carried, rows = KeyedSource(5), found.noise(count, sensitivity=0.5), (), []
    for step in range(12):
        row, carried = noise.advance(step, carried, source)
        rows.append(row)
    rows = np.array(rows)
    inverse = np.linalg.inv(matrix(found))
    covariance = inverse @ inverse.T
    spread = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / count)
    assert (np.abs(rows @ rows.T / count - covariance) < 5.0 * spread).all()
    white = np.array([noise.white(step, source) for step in range(12)])
    assert rows == pytest.approx(inverse @ white)


@given(settings_of(numbers.filter(lambda c: abs(c) <= 1)), st.integers(1, 4))
def test_a_run_goes_on_at_any_step_from_what_is_carried_or_made_again(found, size):
    source, noise, carried = KeyedSource(1), found.noise(size, sensitivity=1.0), ()
    for step in range(found.steps):
        again = noise.carried_at(step, KeyedSource(1))
        assert len(again) == len(carried) == noise.carried_rows(step) < max(2, len(found.coefficients))
        assert all((a == b).all() for a, b in zip(again, carried, strict=True))
        carried = noise.advance(step, carried, source)[1]


@pytest.mark.parametrize("carried", [(), (np.zeros(4),), (np.zeros(3), np.zeros(3))])
def test_noise_does_not_go_on_from_what_was_not_carried(carried):
    with pytest.raises(InvalidParameter, match="ToeplitzNoise: carried must be the 1 rows of 3 that step 5"):
        mechanism().noise(3, sensitivity=1.0).advance(5, carried, KeyedSource(0))


# Tree


def test_a_tree_goes_on_at_any_step_from_what_is_carried_or_made_again():
    source = KeyedSource(3)
    noise, carried = Tree(noise_multiplier=1.0, steps=20).noise(5, sensitivity=1.0), ()
    for step in range(20):
        again = noise.carried_at(step, source)
        assert len(again) == len(carried) == noise.carried_rows(step) <= 5
        assert all((a == b).all() for a, b in zip(again, carried, strict=True))
        row, carried = noise.advance(step, carried, source)
        assert (row == noise.advance(step, again, KeyedSource(3))[0]).all()


@pytest.mark.parametrize("carried", [(), (np.zeros(5), np.zeros(5), np.zeros(5)), (np.zeros(5), np.zeros(4))])
def test_a_tree_does_not_go_on_from_what_was_not_carried(carried):
    noise = Tree(noise_multiplier=1.0, steps=20).noise(5, sensitivity=1.0)
    with pytest.raises(InvalidParameter, match=r"TreeNoise: carried must be the 2 rows of 5 .* Use carried_at"):
        noise.advance(6, carried, KeyedSource(0))


@given(st.integers(1, 40))
def test_nodes_never_share_a_row_of_white_noise(steps):
    asked = []

    class Recording(TreeNoise):
        def white(self, row, randomness):
            asked.append(row)
            return np.zeros(1)

    noise, carried = Recording(size=1, scale=1.0, stream="tree"), ()
    for step in range(steps):
        carried = noise.advance(step, carried, None)[1]
    assert len(set(asked)) == len(asked) == len(node_matrix(steps)) and max(asked) < 2 * steps
