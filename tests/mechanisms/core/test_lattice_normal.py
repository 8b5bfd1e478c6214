"""Masses of the discrete Gaussian: by sums at 400 digits, by two routes against each other, by their symmetry."""

import math
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechanisms.core import lattice_normal
from mechanisms.core.bounds import Bounds, exp
from mechanisms.core.lattice_normal import LatticeNormal

SIGMAS = [0.05, 0.3, 1.0, 1.999, 2.0, 10.1, 40.0]


def law(sigma):
    return LatticeNormal(sigma=Bounds.exact(sigma))


def tails(sigma):
    """k -> P(K >= k), each from the ratios e^{-(2k + 1)/2σ²} of one mass to the next."""
    reach, total = int(45 * sigma) + 60, mp.mpf(0)
    share = 1 / (2 * mp.mpf(sigma) ** 2)
    masses = {k: mp.exp(-share * k * k) for k in range(reach + 1)}
    found = {}
    for k in range(reach, -reach - 1, -1):
        total += masses[abs(k)]
        found[k] = total
    return {k: tail / total for k, tail in found.items()}


def holds(found, value):
    return mp.mpf(float(found.lower)) <= value <= mp.mpf(float(found.upper))


@pytest.fixture(params=SIGMAS, scope="module")
def known(request):
    with mp.workdps(400):
        yield request.param, tails(request.param)


@pytest.fixture(params=["added", "rounded"])
def route(request, monkeypatch):
    if request.param == "rounded":
        monkeypatch.setattr(lattice_normal, "MOST_ADDED", 2.5)
    return request.param


def test_tails_enclose_the_sums(known, route):
    sigma, tail = known
    spread = int(20 * sigma)
    k = np.unique([-spread, -3, -1, 0, 1, 2, 3, int(5 * sigma) + 1, spread])
    found = exp(law(sigma).log_tail(k.astype(float)))
    for i, one in enumerate(k):
        assert holds(found[i], tail[int(one)])
        if route == "added" and tail[int(one)] > 1e-290:
            assert found[i].width <= 1e-11 * found.lower[i]


@pytest.mark.thinned(3)
def test_runs_enclose_the_sums_wherever_the_law_stands(known, route):
    sigma, tail = known
    spread = int(20 * sigma)
    cuts = np.unique([-np.inf, -spread, -5, -4, -1, 0, 1, 3, int(2 * sigma) + 3, spread + 9, np.inf])
    scale = np.linspace(-3.0, 5.0, len(cuts) - 1)
    found = law(sigma).runs(cuts + 3.0, 3.0, scale, 40.0)
    for i, (low, high) in enumerate(pairwise(cuts)):
        above = (1 if np.isinf(low) else tail[int(low) + 1]) - (0 if np.isinf(high) else tail[int(high) + 1])
        assert holds(found[i], above * mp.exp(mp.mpf(scale[i])))
        if route == "added" and above > 1e-280:
            assert found[i].width <= 1e-11 * found.lower[i]


def test_tails_far_out_are_nothing_and_far_down_everything():
    for sigma in (0.3, 10.0, 1e5):
        found = law(sigma).log_tail(np.array([-np.inf, -1e9, 1e9, np.inf]))
        assert np.all(found.upper[:2] == 0.0) and np.all(found.lower[:2] > -1e-300)
        assert found.upper[3] < -1e300 and found.upper[2] < -1e6


@given(st.floats(0.01, 2000.0), st.integers(-3000, 3000))
@settings(max_examples=40)
def test_a_tail_and_its_mirror_image_are_everything(sigma, k):
    found = exp(law(sigma).log_tail(np.array([float(k), 1.0 - k])))
    whole = found[0] + found[1]
    assert whole.contains(1.0) and whole.width < 1e-10


def test_the_rounded_normal_takes_over_without_a_step(monkeypatch):
    """At σ = 4000 both routes have an answer, and they agree to what Sheppard's correction leaves."""
    one = law(4000.0)
    cuts = np.concatenate([[-np.inf], np.arange(-30_000.0, 30_000.0, 97.0), [np.inf]])
    k = np.array([-9000.0, 0.0, 1.0, 500.0, 20_000.0, 40_000.0])
    added = one.runs(cuts, 0.0, np.zeros(len(cuts) - 1), 0.0), one.log_tail(k)
    monkeypatch.setattr(lattice_normal, "MOST_ADDED", 1.0)
    rounded = one.runs(cuts, 0.0, np.zeros(len(cuts) - 1), 0.0), one.log_tail(k)
    for ours, theirs in zip(added, rounded, strict=True):
        assert np.all(ours.overlaps(theirs))
        assert np.all(theirs.width <= 1e-10 * np.maximum(np.abs(theirs.upper), 1e-300))


def test_single_integers_of_a_wide_law_have_the_mass_of_the_density():
    sigma, k = 1e7, np.array([0.0, 12_345_678.0, -6e7])
    cuts = np.sort(np.concatenate([k - 1.0, k]))
    found = law(sigma).runs(cuts, 0.0, np.zeros(5), 0.0)[::2]
    for i, one in enumerate(sorted(k)):
        density = mp.exp(-(mp.mpf(one) ** 2) / (2 * mp.mpf(sigma) ** 2)) / (mp.mpf(sigma) * mp.sqrt(2 * mp.pi))
        assert holds(found[i], density) and found[i].width < 1e-6 * found.lower[i]


@pytest.mark.thinned(2)
@pytest.mark.parametrize("sigma", [0.01, 0.2, 0.7, 1.5, 1.999, 5.0])
def test_theta_ratios_enclose_the_sums(sigma):
    x = np.array([0.0, 1e-9, 0.1, 0.25, 0.4999, 0.5])
    found = law(sigma).log_theta(x)
    with mp.workdps(250):
        for i, one in enumerate(x):
            sums = [
                mp.fsum(mp.exp(-((k - mp.mpf(float(at))) ** 2) / (2 * mp.mpf(sigma) ** 2)) for k in range(-200, 201))
                for at in (one, 0.0)
            ]
            assert mp.mpf(found.lower[i]) <= mp.log(sums[0] / sums[1]) <= mp.mpf(found.upper[i])
    assert np.all(found.width <= 1e-12 * (1.0 + np.abs(found.lower)))


def test_masses_add_up_to_one_and_log_mass_is_one_of_them():
    one = law(3.3)
    k = np.arange(-60.0, 61.0)
    total = exp(one.log_mass(k))
    assert math.fsum(total.lower) <= 1.0 <= math.fsum(total.upper) and math.fsum(total.width) < 1e-12
