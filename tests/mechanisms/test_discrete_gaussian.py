"""The discrete Gaussian: its pair against sums at 60 digits, compositions against convolutions, exact releases."""

import math
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from accountant import available
from mechanisms import Adjacency, Compose, DiscretePair, InvalidParameter, KeyedSource, Poisson, Repeat, Sampled
from mechanisms.core.bounds import Bounds, exp
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.lattice_normal import LatticeNormal
from mechanisms.core.serialise import from_json, to_json
from mechanisms.discrete_gaussian import DiscreteGaussian, DiscreteGaussianPair
from mechanisms.discrete_laplace import DiscreteLaplace
from tests.contracts.coarse import profile
from tests.strategies import ADD_REMOVE, REPLACE_ONE

GOLDEN = Path(__file__).resolve().parents[1] / "reference" / "process_v1_discrete.json"
CASES = [(1.0, 1), (10 / 3, 3), (0.3, 2), (5.5, 1), (0.05, 1), (2.0, 7)]
EPSILONS = [0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 20.0, 100.0, 1e4]


def pair_of(sigma, shift):
    return DiscreteGaussianPair(sigma=Bounds.exact(sigma), shift=shift, attained=True)


def holds(found, value):
    return mp.mpf(float(found.lower)) <= value <= mp.mpf(float(found.upper))


@lru_cache
def masses(sigma, shift):
    """k, P(k) and Q(k) at 60 digits."""
    with mp.workdps(60):
        s, k = mp.mpf(sigma), range(-int(40 * sigma) - 40, int(40 * sigma) + 41 + shift)
        q = [mp.exp(-(mp.mpf(one) ** 2) / (2 * s * s)) for one in k]
        p = [mp.exp(-(mp.mpf(one - shift) ** 2) / (2 * s * s)) for one in k]
        total = mp.fsum(q)
        return list(k), [one / total for one in p], [one / total for one in q]


def delta(sigma, shift, epsilon):
    with mp.workdps(60):
        _, p, q = masses(sigma, shift)
        return mp.fsum(max(mp.mpf(0), a - mp.exp(mp.mpf(epsilon)) * b) for a, b in zip(p, q, strict=True))


# The pair


@pytest.mark.parametrize(("multiplier", "sensitivity"), CASES)
def test_delta_is_that_of_the_sums(multiplier, sensitivity):
    pair = DiscreteGaussian(noise_multiplier=multiplier, sensitivity=sensitivity).pairs(ADD_REMOVE)["add"]
    found = pair.delta(Bounds.exact(np.array(EPSILONS)))
    with mp.workdps(60):
        sigma = mp.mpf(multiplier) * sensitivity
        for i, epsilon in enumerate(EPSILONS):
            truth = delta(sigma, sensitivity, epsilon)
            assert holds(found[i], truth)
            if truth > 1e-150:
                assert found[i].width <= 1e-9 * truth


def test_delta_at_the_losses_themselves_is_enclosed():
    """Where rounding may put an integer on either side of ε, the mass of its excess over ε counts."""
    sigma, shift = 0.6, 2
    losses = np.array([(2 * k * shift - shift**2) / (2 * sigma**2) for k in range(1, 22)])
    found = pair_of(sigma, shift).delta(Bounds.exact(losses))
    for i, loss in enumerate(losses):
        assert holds(found[i], delta(sigma, shift, loss))


def test_delta_of_an_uncertain_epsilon_holds_both_ends():
    found = pair_of(2.0, 1).delta(Bounds(lower=0.1, upper=0.3))
    assert isinstance(found.lower, float) and holds(found, delta(2.0, 1, 0.1)) and holds(found, delta(2.0, 1, 0.3))


@pytest.mark.parametrize("sigma", [0.1, 1.0, 1e5])
def test_nothing_exceeds_an_infinite_epsilon(sigma):
    found = pair_of(sigma, 1).delta(Bounds.exact(np.array([math.inf, 1e300])))
    assert found.upper[0] == 0.0 and found.upper[1] <= 1e-300


PUBLISHED = [  # [σ, sensitivity, k cut at, q, direction, ε, δ], of dp_accounting's privacy_loss_mechanism_test
    (1.0, 1, 2, 1.0, "remove", 1.0, 0.150574425),
    (10.0, 3, 5, 1.0, "remove", 1.0, 0.263672394),
    (1.0, 1, 2, 0.8, "add", 1.0, 0.024865564),
    (5.0, 3, 5, 0.4, "add", 0.1, 0.08558498),
    (1.0, 1, 2, 0.8, "remove", 1.0, 0.101734157),
    (5.0, 3, 5, 0.4, "remove", 0.1, 0.104486937),
]


@pytest.mark.parametrize(("sigma", "shift", "cut", "q", "direction", "epsilon", "published"), PUBLISHED)
def test_masses_cut_to_few_integers_give_the_published_delta(sigma, shift, cut, q, direction, epsilon, published):
    mass = exp(LatticeNormal(sigma=Bounds.exact(sigma)).log_mass(np.arange(-cut, cut + 1.0))).lower
    without = np.append(mass / np.sum(mass), np.zeros(shift))
    mixed = (1 - q) * without + q * np.roll(without, shift)
    p, q_ = (mixed, without) if direction == "remove" else (without, mixed)
    assert abs(np.sum(np.maximum(p - np.exp(epsilon) * q_, 0.0)) - published) < 1e-8


@pytest.mark.parametrize(("sigma", "shift"), [(0.4, 1), (3.0, 1), (3.0, 4), (2.0, 90)])
def test_bins_hold_the_masses_of_their_losses(sigma, shift):
    edges = np.concatenate([[-np.inf], np.linspace(-3.07, 4.03, 40) * shift / sigma, [np.inf]])
    scale = np.clip(edges[:-1], -5.0, 5.0)
    found = pair_of(sigma, shift).loss_bins(edges, scale)
    k, p, q = masses(sigma, shift)
    with mp.workdps(60):
        losses = [mp.mpf(2 * one * shift - shift**2) / (2 * mp.mpf(sigma) ** 2) for one in k]
        place = [np.searchsorted(edges, float(loss), side="left") - 1 for loss in losses]
        assert min(abs(float(loss) - edge) for loss in losses for edge in edges[1:-1]) > np.max(found.edge_error)
        for i in range(len(scale)):
            inside = [j for j, at in enumerate(place) if at == i]
            assert holds(found.p[i], mp.fsum(p[j] for j in inside))
            assert holds(found.q[i], mp.exp(mp.mpf(scale[i])) * mp.fsum(q[j] for j in inside))
    assert np.all(found.p.width <= 1e-11 * found.p.upper + 1e-300)


def test_bins_of_a_wide_law_are_those_of_the_normal_but_for_one_integer_an_edge():
    sigma, shift = 2.0**20, 2**19
    edges = np.linspace(-2.0, 2.0, 1000)
    found = pair_of(sigma, shift).loss_bins(edges, np.zeros(999))
    z = edges / 0.5 + 0.25
    assert np.allclose(0.5 * (found.p.lower + found.p.upper), np.diff(stats.norm.cdf(z - 0.5)), rtol=3e-4)
    assert np.all(found.p.width <= 1e-7 * found.p.upper) and np.all(found.q.width <= 1e-7 * found.q.upper)


@pytest.mark.parametrize("sigma", [0.5, 3.0, 6000.0])
def test_a_larger_movement_tells_more(sigma):
    epsilon = Bounds.exact(np.linspace(0.0, 4.0, 50))
    found = [pair_of(sigma, shift).delta(epsilon) for shift in (1, 2, 3, 7)]
    for less, more in pairwise(found):
        assert np.all(less.lower <= more.upper)


def test_groups_move_a_query_as_far_as_their_members():
    assert pair_of(2.0, 3).group(4) == pair_of(2.0, 12)
    with pytest.raises(UnsupportedProcess, match="no pair for groups of records is known"):
        pair_of(2.0, 3).group(10**4)


def test_the_pair_is_its_own_mirror_image():
    pair = pair_of(1.3, 2)
    assert pair.reverse() is pair and pair.missing_mass.upper == 0.0
    assert pair.loss_range(1e-9)[0] == -pair.loss_range(1e-9)[1]


# The description


@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_the_movement_follows_from_the_sensitivity_and_the_adjacency(adjacency):
    found = DiscreteGaussian(noise_multiplier=2.0, sensitivity=3).pairs(adjacency)
    assert tuple(found) == adjacency.directions
    for pair in found.values():
        assert pair.shift == (6 if adjacency is REPLACE_ONE else 3) and pair.sigma.contains(6.0) and pair.attained


def test_several_dimensions_have_a_pair_only_where_one_coordinate_moves():
    wide = DiscreteGaussian(noise_multiplier=2.0, dimension=10)
    pair = wide.pairs(ADD_REMOVE)["add"]
    assert replace(pair, dimension=1) == DiscreteGaussian(noise_multiplier=2.0).pairs(ADD_REMOVE)["add"]
    with pytest.raises(UnsupportedProcess, match="no pair for groups of records is known"):
        pair.group(2)  # who may move two coordinates by one each
    for refused, adjacency in (
        (wide, REPLACE_ONE),
        (DiscreteGaussian(noise_multiplier=1.0, sensitivity=2, dimension=2), ADD_REMOVE),
    ):
        with pytest.raises(UnsupportedProcess, match=r"movements of norm 2 .*\n?.*Use accountant='rdp'"):
            refused.pairs(adjacency)
        answered = available()["rdp"]().profile(refused, adjacency=adjacency).epsilon(1e-5)
        assert 0 < answered.upper < math.inf


@pytest.mark.parametrize(("adjacency", "rho"), [(ADD_REMOVE, 1 / 8), (REPLACE_ONE, 1 / 2)])
def test_renyi_divergences_are_at_most_those_of_the_normal(adjacency, rho):
    found = DiscreteGaussian(noise_multiplier=2.0, sensitivity=5, dimension=7).renyi(adjacency).rho
    assert rho <= found <= rho * (1 + 1e-14)
    assert DiscreteGaussian(noise_multiplier=0.0).renyi(adjacency).rho == math.inf


@pytest.mark.parametrize(("multiplier", "attained"), [(0.0, True), (5e-324, False), (1e-4, False)])
def test_without_noise_nothing_is_protected(multiplier, attained):
    pair = DiscreteGaussian(noise_multiplier=multiplier).pairs(ADD_REMOVE)["add"]
    assert isinstance(pair, DiscretePair) and pair.infinite_mass.lower == 1.0 and pair.attained == attained


@pytest.mark.parametrize(("multiplier", "sensitivity"), [(2.0**45, 1), (1e308, 10**400), (1.0, 2**51)])
def test_what_is_too_wide_for_floats_is_left_to_renyi(multiplier, sensitivity):
    wide = DiscreteGaussian(noise_multiplier=multiplier, sensitivity=sensitivity)
    with pytest.raises(UnsupportedProcess, match=r"standard deviations below 2\^45 .*\n?.*Use accountant='rdp'"):
        wide.pairs(ADD_REMOVE)
    assert available()["rdp"]().profile(wide, adjacency=ADD_REMOVE).epsilon(1e-5).upper < 6.0


def test_it_survives_json():
    one = DiscreteGaussian(noise_multiplier=0.1, sensitivity=np.int64(3), dimension=2)
    assert from_json(to_json(Repeat(one, 3))) == Repeat(one, 3)
    assert type(one.sensitivity) is int


def test_the_golden_file_of_discrete_noise_loads_for_ever():
    assert from_json(GOLDEN.read_text()) == Compose(
        (
            DiscreteGaussian(noise_multiplier=0.1, sensitivity=3, dimension=2),
            DiscreteLaplace(noise_multiplier=0.1, sensitivity=3),
        )
    )


@pytest.mark.parametrize("multiplier", [-1.0, math.inf, math.nan, "1", None, True])
def test_what_is_no_noise_multiplier_is_refused(multiplier):
    with pytest.raises(InvalidParameter, match="DiscreteGaussian: noise_multiplier must"):
        DiscreteGaussian(noise_multiplier=multiplier)


@pytest.mark.parametrize("field", ["sensitivity", "dimension"])
@pytest.mark.parametrize("whole", [0, -1, 1.5, math.nan, "1", None, True])
def test_what_is_no_whole_number_is_refused(field, whole):
    with pytest.raises(InvalidParameter, match=f"DiscreteGaussian: {field} must"):
        DiscreteGaussian(noise_multiplier=1.0, **{field: whole})


# Accountants


def convolved(sigma, shift, times, epsilon):
    """δ of a composition: its loss is that of the sum of the integers, whose law is a convolution."""
    reach = int(12 * sigma) + 12
    mass = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    q = mass / np.sum(mass)
    for _ in range(times - 1):
        q = np.convolve(q, mass / np.sum(mass))
    p = np.append(np.zeros(times * shift), q)
    return float(np.sum(np.maximum(p - math.exp(epsilon) * np.append(q, np.zeros(times * shift)), 0.0)))


@pytest.mark.parametrize(("sigma", "shift", "times"), [(1.5, 1, 4), (0.8, 1, 2), (6.0, 3, 3)])
def test_accountants_bracket_the_convolution(sigma, shift, times):
    process = Repeat(DiscreteGaussian(noise_multiplier=sigma / shift, sensitivity=shift), times)
    for epsilon in (0.5, 2.0):
        truth = convolved(sigma, shift, times, epsilon)
        for name in ("pld", "prv", "rdp", "basic", "zcdp", "tightest"):
            found = profile(name, process, ADD_REMOVE).delta(epsilon)
            assert found.lower <= truth * (1 + 1e-9) and truth * (1 - 1e-9) <= found.upper
            assert name != "pld" or found.upper - found.lower <= 1e-3 * truth


def test_wide_noise_costs_what_normal_noise_costs():
    """At σ = 2^20 the steps of the loss are 1e-6."""
    wide = Compose((DiscreteGaussian(noise_multiplier=2.0, sensitivity=2**19),))
    found = available()["tightest"]().profile(wide, adjacency=ADD_REMOVE).epsilon(1e-5)
    assert found.overlaps(Bounds.exact(1.9930914).inflate(1e-6)) and found.width < 1e-6


@pytest.mark.parametrize("direction", ["remove", "add"])
def test_poisson_samples_have_the_delta_of_the_mixed_masses(direction):
    q, sigma = 0.3, 1.2
    sampled = Sampled(DiscreteGaussian(noise_multiplier=sigma), Poisson(probability=q)).pairs(ADD_REMOVE)[direction]
    _, moved, still = masses(sigma, 1)
    with mp.workdps(60):
        mixed = [(1 - mp.mpf(q)) * b + mp.mpf(q) * a for a, b in zip(moved, still, strict=True)]
        p, rest = (mixed, still) if direction == "remove" else (still, mixed)
        for epsilon in (0.0, 0.1, 0.25):
            truth = mp.fsum(max(mp.mpf(0), a - mp.exp(mp.mpf(epsilon)) * b) for a, b in zip(p, rest, strict=True))
            assert holds(sampled.delta(Bounds.exact(epsilon)), truth)


# Releases


def test_integers_come_back_as_integers_in_their_shape():
    source = KeyedSource(0)
    assert type(DiscreteGaussian(noise_multiplier=1.0).release(3, sensitivity=1, randomness=source)) is int
    for shape in ((1,), (2, 3), (6, 1)):
        mechanism = DiscreteGaussian(noise_multiplier=1.0, dimension=math.prod(shape))
        found = mechanism.release(np.zeros(shape, dtype=int), sensitivity=1.0, randomness=source)
        assert found.shape == shape and found.dtype == np.int64


def test_noise_has_the_scale_of_multiplier_times_sensitivity():
    n = 100_000
    mechanism = DiscreteGaussian(noise_multiplier=1.5, sensitivity=2, dimension=n)
    found = mechanism.release(np.full(n, 5), sensitivity=2, randomness=KeyedSource(0)) - 5
    k = np.arange(-9, 10)
    expected = np.exp(-(k**2) / 18.0)
    seen = np.array([np.sum(found == one) for one in k])
    assert np.sum(np.abs(found) > 9) < n * 0.004
    assert stats.chisquare(seen, expected * np.sum(seen) / np.sum(expected)).pvalue > 1e-4


def test_what_a_release_shows_is_what_the_pair_says():
    """The best test of K > t on actual releases, at the ε where δ is a quarter."""
    n, sensitivity = 200_000, 3
    mechanism = DiscreteGaussian(noise_multiplier=0.8, sensitivity=sensitivity, dimension=n)
    source = KeyedSource("seen")
    near, far = (
        mechanism.release(np.full(n, value), sensitivity=sensitivity, randomness=source) for value in (0, sensitivity)
    )
    pair = mechanism.pairs(ADD_REMOVE)["add"] if mechanism.dimension == 1 else pair_of(2.4, 3)
    for epsilon in (0.0, 0.7):
        claimed = pair.delta(Bounds.exact(epsilon))
        best = max(np.mean(far > t) - math.exp(epsilon) * np.mean(near > t) for t in range(-5, 9))
        error = 5.0 * math.sqrt((1 + math.exp(2 * epsilon)) / (4 * n))
        assert claimed.lower - error <= best <= claimed.upper + error


def test_no_noise_changes_nothing():
    assert DiscreteGaussian(noise_multiplier=0.0).release(7, sensitivity=1, randomness=KeyedSource(0)) == 7


def test_values_and_noise_beyond_64_bits_are_exact():
    found = DiscreteGaussian(noise_multiplier=1.0).release(10**30, sensitivity=1, randomness=KeyedSource(0))
    assert abs(found - 10**30) < 20
    wide = DiscreteGaussian(noise_multiplier=1e30).release(0, sensitivity=1, randomness=KeyedSource(0))
    assert 10**26 < abs(wide) < 10**32


def test_a_release_refuses_what_the_description_is_not_about():
    mechanism, source = DiscreteGaussian(noise_multiplier=1.0, sensitivity=2), KeyedSource(0)
    with pytest.raises(InvalidParameter, match="sensitivity must be the declared one, 2, got 1"):
        mechanism.release(3, sensitivity=1, randomness=source)
    with pytest.raises(InvalidParameter, match="value must be an integer or an array of integers"):
        mechanism.release(3.0, sensitivity=2, randomness=source)
    with pytest.raises(InvalidParameter, match="as many integers as there are dimensions, 1"):
        mechanism.release([3, 4], sensitivity=2, randomness=source)
