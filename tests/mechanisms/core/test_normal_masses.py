"""Masses of normals on bins: against many digits, and where bins are empty or powers of e leave the floats."""

import itertools

import mpmath as mp
import numpy as np
import pytest

from mechanisms.core.normal_masses import interval_masses

LARGEST = np.finfo(np.float64).max


@pytest.mark.parametrize("z", [[-np.inf, -30.0, -1.0, -0.9, 2.0, 8.0, 8.001, 30.0, 40.0, np.inf], [-1e-9, 0.0, 1e-9]])
def test_masses_are_those_of_the_normal_times_e_to_the_scale(z):
    z = np.array(z)
    scale = np.linspace(-5.0, 300.0, len(z) - 1)
    found = interval_masses(z, 0.5, scale, 0.0)
    with mp.workdps(60):
        for k, (low, high) in enumerate(itertools.pairwise(z)):
            ends = (mp.mpf(float(low)), mp.mpf(float(high)))
            low, high = (ends[0] - 0.5, ends[1] - 0.5) if low < 0.5 else (0.5 - ends[1], 0.5 - ends[0])
            truth = mp.exp(mp.mpf(scale[k])) * (mp.ncdf(high) - mp.ncdf(low))
            assert found.lower[k] <= truth <= found.upper[k]


@pytest.mark.parametrize("end", [-1e300, -1e200, -3.0, 0.0, 2.0, 1e200, np.inf])
def test_an_empty_bin_holds_next_to_nothing_however_large_the_scale(end):
    found = interval_masses(np.full(3, end), 0.0, np.array([2653.0, 1e5]), 0.0)
    assert np.all(found.lower <= 0.0) and np.all(found.upper <= 1e-300)


@pytest.mark.parametrize("z", [[1.0, 1.001], [1.0, 9.0], [-np.inf, np.inf]])
def test_a_mass_that_leaves_the_floats_lies_above_the_largest_of_them(z):
    found = interval_masses(np.array(z), 0.0, np.array([2653.0]), 0.0)
    assert found.lower[0] <= LARGEST and found.upper[0] == np.inf


def test_bins_so_far_out_that_logarithms_of_tails_overflow_hold_next_to_nothing():
    found = interval_masses(np.array([-1e250, -1e200, -1e160]), 0.0, np.zeros(2), 0.0)
    assert np.all(found.lower <= 0.0) and np.all(found.upper <= 1e-300)


@pytest.mark.parametrize("mean", [0.0, 2.25])
def test_masses_up_to_one_end_are_known_to_a_few_ulps(mean):
    """The other end, infinite, is exact, so that errors do not grow with the distance to it."""
    for end in (-3.0, 0.5, 2.25, 7.3):
        with mp.workdps(60):
            truth = mp.ncdf(mp.mpf(end) - mp.mpf(mean))
        below = interval_masses(np.array([-np.inf, end]), mean, np.zeros(1), 0.0)
        above = interval_masses(np.array([-end, np.inf]), -mean, np.zeros(1), 0.0)
        for found in (below, above):
            assert found.lower[0] <= truth <= found.upper[0]
            assert found.width[0] <= 1e-12 * float(truth)
