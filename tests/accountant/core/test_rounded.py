"""Steps rounded to a grid: their masses, and means that are kept though no integral of the loss is taken."""

import math

import mpmath as mp
import numpy as np
import pytest

from accountant.core.normal_cells import normal_cells
from accountant.core.rounded import ends, rounded
from mechanisms import Gaussian, Laplace, Poisson, RandomizedResponse, Sampled
from mechanisms.core.bounds import Bounds
from mechanisms.core.discrete_pair import DiscretePair
from tests.strategies import ADD_REMOVE, REPLACE_ONE

STEP = 2.0**-9


def pairs(process, adjacency=ADD_REMOVE):
    return process.pairs(adjacency)


def sampled(noise, chance):
    return pairs(Sampled(Gaussian(noise_multiplier=noise), Poisson(probability=chance)))


PAIRS = {
    "gaussian": pairs(Gaussian(noise_multiplier=1.0))["remove"],
    "little noise": pairs(Gaussian(noise_multiplier=0.05))["remove"],
    "much noise": pairs(Gaussian(noise_multiplier=40.0))["remove"],
    "remove": sampled(0.8, 0.1)["remove"],
    "add": sampled(0.8, 0.1)["add"],
    "rare remove": sampled(2.0, 1e-3)["remove"],
    "rare add": sampled(2.0, 1e-3)["add"],
    "often remove": sampled(1.0, 0.9)["remove"],
    "laplace": pairs(Laplace(noise_multiplier=0.7))["remove"],
    "sampled laplace": pairs(Sampled(Laplace(noise_multiplier=0.7), Poisson(probability=0.2)))["remove"],
    "response": pairs(RandomizedResponse(epsilon=1.0, categories=3), REPLACE_ONE)["replace"],
}


def one(name, step=STEP, tail=1e-14):
    low, high = ends(PAIRS[name], step, tail)
    return rounded(PAIRS[name], step, low, high)


@pytest.mark.parametrize("name", PAIRS)
def test_all_mass_is_kept_or_counted(name):
    found = one(name)
    assert found.left_out <= 1e-12
    assert abs(math.fsum(found.masses) - 1.0) <= found.left_out + 2 * found.relative + 1e-15
    assert found.relative <= 1e-9 and found.edge <= 1e-8 * STEP


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "little noise"])
@pytest.mark.parametrize("step", [2.0**-7, 2.0**-10])
def test_losses_are_likelihood_ratios_so_that_their_inverse_has_mean_one(name, step):
    """E[e^{−Y~}] is 1 up to h², or up to h where atoms are moved; little noise hides Q's side from P."""
    found = one(name, step)
    x = step * (found.low + np.arange(len(found.masses))) + found.mean
    budget = step if "laplace" in name or name == "response" else step**2
    assert abs(float(np.sum(found.masses * np.exp(-x))) - 1.0) <= budget + 1e-10


def mean_of_loss(noise, chance, low, high, direction):
    """E_P[L given that low < L <= high], by quadrature with 30 digits."""
    mp.mp.dps = 30
    mu, q = mp.mpf(1) / noise, mp.mpf(chance)

    def loss(z):
        return (1 if direction == "remove" else -1) * mp.log(1 - q + q * mp.exp(mu * z - mu**2 / 2))

    def density(z):
        plain = mp.npdf(z)
        return (1 - q) * plain + q * mp.npdf(z - mu) if direction == "remove" else plain

    def at(x):
        y = mp.mpf(x) if direction == "remove" else -mp.mpf(x)
        inside = 1 + mp.expm1(y) / q
        return mp.log(inside) / mu + mu / 2 if inside > 0 else mp.mpf(-40)

    first, last = sorted((at(low), at(high)))
    points = [first + (last - first) * k / 24 for k in range(25)]
    total = mp.quad(density, points)
    return float(mp.quad(lambda z: loss(z) * density(z), points) / total)


@pytest.mark.thinned(5)
@pytest.mark.parametrize(("noise", "chance"), [(1.0, 1.0), (0.8, 0.1), (2.0, 1e-3), (1.0, 0.9)])
@pytest.mark.parametrize("direction", ["remove", "add"])
@pytest.mark.parametrize("step", [2.0**-7, 2.0**-12])
def test_the_mean_of_the_loss_is_kept_to_less_than_the_doubt_stated(noise, chance, direction, step):
    pair = pairs(Gaussian(noise_multiplier=noise))[direction] if chance == 1.0 else sampled(noise, chance)[direction]
    found = rounded(pair, step, -0.9, 1.5)
    kept = np.flatnonzero(found.masses)
    low, high = step * (found.low + kept[0] - 0.5), step * (found.low + kept[-1] + 0.5)
    x = step * (found.low + np.arange(len(found.masses)))
    rough = float(np.sum(found.masses * x) / np.sum(found.masses)) + found.mean
    truth = mean_of_loss(noise, chance, low, high, "remove" if chance == 1.0 else direction)
    assert abs(rough - truth) <= found.doubt + 1e-14
    assert found.doubt <= step**2 / 12 + 1e-12


@pytest.mark.parametrize("name", ["gaussian", "much noise", "remove", "add", "rare remove", "rare add", "often remove"])
def test_cells_of_normals_are_the_bins_of_their_pair(name):
    pair = PAIRS[name]
    low, high = ends(pair, STEP, 1e-12)
    index = np.arange(math.floor(low / STEP), math.ceil(high / STEP) + 2)
    edges, points = STEP * (index - 0.5), STEP * index[:-1]
    p, q, edge, _, outside, relative = normal_cells(pair.mixture, edges, points)
    bins = pair.loss_bins(np.concatenate([[-np.inf], edges, [np.inf]]), np.concatenate([[0.0], points, [0.0]]))
    seen = bins.p.lower[1:-1] > 1e-13
    assert np.any(seen) and edge < 1e-11 and relative < 1e-10
    assert np.allclose(p[seen], bins.p.lower[1:-1][seen], rtol=1e-8, atol=0)
    assert np.allclose(q[seen], bins.q.lower[1:-1][seen], rtol=1e-8, atol=0)
    assert outside >= (bins.p.lower[0] + bins.p.lower[-1]) * (1 - 1e-9)


def test_normals_whose_masses_leave_the_floats_are_left_to_their_pair():
    pair = pairs(Gaussian(noise_multiplier=0.02))["remove"]
    edges = np.linspace(1000.0, 1400.0, 100)
    assert normal_cells(pair.mixture, edges, 0.5 * (edges[1:] + edges[:-1])) is None


def test_masses_of_which_little_is_known_are_left_out_without_a_warning():
    none, vague = Bounds.exact(0.0), Bounds(lower=1e-320, upper=1e-3)
    masses = (vague, Bounds(lower=0.999, upper=1.0))
    pair = DiscretePair(losses=(-0.5, 0.5), masses=masses, infinite_mass=none, missing_mass=none, attained=False)
    found = rounded(pair, 0.25, -1.0, 1.0)
    assert np.sum(found.masses > 0) == 1 and found.left_out >= 1e-3
