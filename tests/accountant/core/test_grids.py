"""Grids: their points are where the atoms are, and their windows as large as asked for."""

import numpy as np
import pytest

from accountant.core.base import steps
from accountant.core.bins import gridded
from accountant.core.grids import Atoms, composed_on
from accountant.core.saddle import saddle
from mechanisms import ApproximateDP, Compose, Gaussian, Laplace, Poisson, RandomizedResponse, Repeat, Sampled
from tests.strategies import ADD_REMOVE, REPLACE_ONE

SAMPLED = Sampled(Laplace(noise_multiplier=0.7), Poisson(probability=1e-3))
ATOMIC = [
    Laplace(noise_multiplier=0.7).pairs(ADD_REMOVE)["remove"],
    SAMPLED.pairs(ADD_REMOVE)["remove"],
    SAMPLED.pairs(ADD_REMOVE)["add"],
    RandomizedResponse(epsilon=1.3, categories=2).pairs(REPLACE_ONE)["replace"],
    ApproximateDP(epsilon=0.4, delta=1e-6, adjacency=ADD_REMOVE).pairs(ADD_REMOVE)["add"],
]


@pytest.mark.parametrize("pair", ATOMIC)
@pytest.mark.parametrize("share", [1.0, 1 / 3, 1 / 1000])
def test_the_largest_and_the_smallest_atom_are_points_of_the_grid(pair, share):
    atoms = Atoms.of(pair)
    top, bottom = pair.supremum.upper, -pair.reverse().supremum.upper
    step = atoms.apart * share
    places = (np.array([top, bottom]) - atoms.origin(step)) / step
    assert np.allclose(places, np.round(places), rtol=0, atol=1e-7)
    assert atoms.among == (pair in ATOMIC[:3])


@pytest.mark.parametrize("pair", ATOMIC)
@pytest.mark.parametrize("cells", [1, 7, 100])
def test_the_largest_atom_stays_whole_and_nothing_comes_above_it(pair, cells):
    atoms = Atoms.of(pair)
    step = atoms.apart / cells
    grid = gridded(pair, step, pair.loss_range(1e-30), origin=atoms.origin(step), centred=atoms.among)
    place = int(np.argmin(np.abs(grid.grid.points - pair.supremum.upper)))
    chance = pair.loss_bins(pair.supremum.lower * np.array([1 - 1e-9, 1 + 1e-9]), np.zeros(1)).p
    below = place if atoms.among else place - 1  # of other grids, the bin that ends with the atom
    for masses, index in ((grid.above, place), (grid.p, below)):
        assert masses[index] >= chance.lower[0] * (1 - 1e-6)
        assert masses[index + 1 :].sum() <= 1e-6 * chance.lower[0]


def test_a_step_without_atoms_is_gridded_from_zero():
    pair = Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.1)).pairs(ADD_REMOVE)["add"]
    assert Atoms.of(pair) == Atoms() and Atoms().origin(0.1) == 0.0


@pytest.mark.parametrize("points", [2**12, 3 * 2**14])
def test_a_window_has_no_more_points_than_asked_for(points):
    process = Compose((Repeat(SAMPLED, 50), Repeat(Gaussian(noise_multiplier=3.0), 20)))
    parts = steps(process, ADD_REMOVE)["remove"]
    found = saddle(parts)
    for rung in range(0, len(found.chosen), 5):
        composed = composed_on(parts, found.tilt(rung), points)
        assert points / 4 <= composed.window.size <= points


def test_sums_of_atoms_alone_are_exact_whatever_the_origins():
    process = Compose(
        (Repeat(RandomizedResponse(epsilon=0.3, categories=2), 3), Repeat(Laplace(noise_multiplier=1.0), 2))
    )
    parts = steps(process, REPLACE_ONE)["replace"]
    found = saddle(parts)
    top = 3 * 0.3 + 2 * 2.0
    chance = (np.exp(0.3) / (1 + np.exp(0.3))) ** 3 / 4  # that all losses are the largest
    epsilon = top - 1e-6
    rung = int(found.rungs(np.array([epsilon]))[0])
    bounds = composed_on(parts, found.tilt(rung), 2**14).delta(np.array([epsilon]))
    exact = -np.expm1(-1e-6) * chance
    assert bounds.lower[0] <= exact * (1 + 1e-8) and exact * (1 - 1e-8) <= bounds.upper[0] <= exact * (1 + 1e-3)
