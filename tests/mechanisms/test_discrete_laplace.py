"""The discrete Laplace: its pair against sums at 60 digits, the worst movement by enumeration, exact releases."""

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from mechanisms import Adjacency, DiscretePair, InvalidParameter, KeyedSource, Poisson, Repeat, Sampled
from mechanisms.core.bounds import Bounds
from mechanisms.core.serialise import from_json, to_json
from mechanisms.discrete_laplace import MOST_STEPS, DiscreteLaplace
from mechanisms.laplace import LaplacePair
from tests.contracts.coarse import profile
from tests.strategies import ADD_REMOVE, REPLACE_ONE

CASES = [(1.0, 1), (0.7, 3), (2.0, 8), (1e-2, 2), (50.0, 5)]
EPSILONS = [0.0, 0.013, 0.1, 0.5, 0.99, 1.0, 1.4, 3.0]


@pytest.fixture(autouse=True)
def sixty_digits():
    with mp.workdps(60):
        yield


def holds(found, value):
    return mp.mpf(float(found.lower)) <= value <= mp.mpf(float(found.upper))


def laws(scale, movement):
    """P(k) and Q(k), P at 0 and Q at the movement; what lies beyond them as one outcome on either side."""
    r = mp.exp(-1 / mp.mpf(scale))
    p = [1 / (1 + r)] + [(1 - r) / (1 + r) * r**k for k in range(1, movement)] + [r**movement / (1 + r)]
    return p, p[::-1]


def delta(scale, movement, epsilon):
    p, q = laws(scale, movement)
    return mp.fsum(max(mp.mpf(0), a - mp.exp(mp.mpf(epsilon)) * b) for a, b in zip(p, q, strict=True))


def test_outcomes_that_are_merged_have_the_masses_of_all_their_integers():
    """The sums that the others are tested by, against integers one by one."""
    r = mp.exp(-1 / mp.mpf(3))
    p = {k: (1 - r) / (1 + r) * r ** abs(k) for k in range(-500, 501)}
    one_by_one = mp.fsum(max(mp.mpf(0), p[k] - mp.exp(mp.mpf("0.4")) * p[k - 4]) for k in range(-490, 490))
    assert abs(one_by_one - delta(3.0, 4, mp.mpf("0.4"))) < mp.mpf("1e-50")


# The pair


@pytest.mark.parametrize(("multiplier", "sensitivity"), CASES)
@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_delta_is_that_of_the_sums(multiplier, sensitivity, adjacency):
    found = DiscreteLaplace(noise_multiplier=multiplier, sensitivity=sensitivity).pairs(adjacency)
    movement = (2 if adjacency is REPLACE_ONE else 1) * sensitivity
    assert tuple(found) == adjacency.directions
    for pair in found.values():
        assert pair.attained and len(pair.losses) == movement + 1
        for epsilon in EPSILONS:
            enclosed = pair.delta(Bounds.exact(epsilon / multiplier))
            truth = delta(mp.mpf(multiplier) * sensitivity, movement, epsilon / multiplier)
            assert holds(enclosed, truth) and enclosed.width <= 1e-12


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_delta_at_lattice_points_is_that_of_continuous_noise(scale):
    for j in range(6):
        epsilon = (5 - 2 * j) / mp.mpf(scale)
        assert abs(delta(scale, 5, epsilon) - (1 - mp.exp((epsilon - 5 / mp.mpf(scale)) / 2))) < mp.mpf("1e-50")


@pytest.mark.parametrize("scale", [0.6, 2.0, 9.0])
def test_no_split_of_the_movement_over_coordinates_tells_more(scale):
    """Every split of a movement of 5 into up to three coordinates, at and between lattice points, both signs of ε."""
    with mp.workdps(30):
        epsilons = [mp.mpf(j) / (4 * mp.mpf(scale)) for j in range(-24, 25)]
        whole = [delta(scale, 5, epsilon) for epsilon in epsilons]
        for split in ((1, 4), (2, 3), (1, 1, 3), (1, 2, 2)):
            sides = [list(zip(*laws(scale, part), strict=True)) for part in split]
            joint = [(mp.fprod(a for a, _ in one), mp.fprod(b for _, b in one)) for one in itertools.product(*sides)]
            for epsilon, most in zip(epsilons, whole, strict=True):
                growth = mp.exp(epsilon)
                assert mp.fsum(a - growth * b for a, b in joint if a > growth * b) <= most + mp.mpf("1e-25")


@pytest.mark.parametrize("multiplier", [0.3, 4.0])
def test_a_smaller_movement_tells_less(multiplier):
    for epsilon in np.linspace(0.0, 1.2, 20) / multiplier:
        found = [delta(5 * mp.mpf(multiplier), movement, epsilon) for movement in range(1, 6)]
        assert found == sorted(found)


@pytest.mark.parametrize("sensitivity", [MOST_STEPS + 1, 10**9, 10**400])
def test_many_steps_are_enclosed_by_continuous_noise(sensitivity):
    found = DiscreteLaplace(noise_multiplier=2.0, sensitivity=sensitivity).pairs(ADD_REMOVE)
    assert not found["remove"].attained and found["witness"].attained and found["add"] == found["remove"]
    assert isinstance(found["remove"], LaplacePair) and found["witness"].supremum.contains(0.5)
    assert found["remove"].supremum.lower <= (sensitivity + 2) / (2 * sensitivity) <= found["remove"].supremum.upper
    for epsilon in (0.0, 0.1234567, 0.49999):
        most, least = (found[one].delta(Bounds.exact(epsilon)) for one in ("remove", "witness"))
        assert least.lower <= most.upper and most.upper - least.lower < 2e-4
        if sensitivity < 10**4:
            assert least.lower <= delta(2 * sensitivity, sensitivity, epsilon) <= most.upper


def test_the_continuous_pair_of_a_longer_movement_is_above_everywhere():
    """The law behind many steps, where there are few of them."""
    for scale, movement in itertools.product((0.4, 3.0), (1, 2, 5)):
        for epsilon in np.linspace(0.0, 1.3 * movement / scale, 40):
            truth = delta(scale, movement, epsilon)
            lower, upper = (
                max(mp.mpf(0), 1 - mp.exp((mp.mpf(epsilon) - s / mp.mpf(scale)) / 2)) for s in (movement, movement + 2)
            )
            assert lower <= truth + mp.mpf("1e-50") and truth <= upper


# The description


@pytest.mark.parametrize(("multiplier", "attained"), [(0.0, True), (5e-324, False), (1e-309, False)])
def test_without_noise_nothing_is_protected(multiplier, attained):
    pair = DiscreteLaplace(noise_multiplier=multiplier).pairs(ADD_REMOVE)["add"]
    assert isinstance(pair, DiscretePair) and pair.infinite_mass.lower == 1.0 and pair.attained == attained


@pytest.mark.parametrize("multiplier", [1e-300, 1e-3, 1e15, 1e280, 1e300, 1.7e308])
@pytest.mark.parametrize("sensitivity", [1, 7, 10**6])
def test_extreme_scales_have_bounds_in_order(multiplier, sensitivity):
    found = DiscreteLaplace(noise_multiplier=multiplier, sensitivity=sensitivity).pairs(REPLACE_ONE)["replace"]
    top = found.supremum
    assert top.upper >= 2.0 / multiplier * (1 - 1e-12)
    assert not found.attained or top.lower <= 2.0 / multiplier * (1 + 1e-12)
    value = found.delta(Bounds.exact(0.0))
    assert 0.0 <= value.lower <= value.upper <= 1.0
    assert found.delta(2.0 * top).upper < 1e-300


def test_it_survives_json():
    one = DiscreteLaplace(noise_multiplier=np.float32(0.5), sensitivity=np.int64(3))
    assert from_json(to_json(Repeat(one, 3))) == Repeat(one, 3)
    assert type(one.sensitivity) is int


@pytest.mark.parametrize("multiplier", [-1.0, math.inf, math.nan, "1", None, True])
def test_what_is_no_noise_multiplier_is_refused(multiplier):
    with pytest.raises(InvalidParameter, match="DiscreteLaplace: noise_multiplier must"):
        DiscreteLaplace(noise_multiplier=multiplier)


@pytest.mark.parametrize("sensitivity", [0, -1, 1.5, math.nan, "1", None, True])
def test_what_is_no_whole_number_is_refused(sensitivity):
    with pytest.raises(InvalidParameter, match="DiscreteLaplace: sensitivity must"):
        DiscreteLaplace(noise_multiplier=1.0, sensitivity=sensitivity)


# Accountants


def convolved(scale, movement, times, epsilon):
    """δ of a composition: losses are (s − 2j)/b, so that their sum has the law of a convolution."""
    p = np.array([float(mass) for mass in laws(scale, movement)[0]])
    whole = p
    for _ in range(times - 1):
        whole = np.convolve(whole, p)
    losses = (movement * times - 2.0 * np.arange(len(whole))) / scale
    return float(np.sum(whole * np.maximum(-np.expm1(epsilon - losses), 0.0)))


@pytest.mark.parametrize(("multiplier", "sensitivity", "times"), [(2.0, 1, 8), (1.0, 3, 5)])
def test_accountants_bracket_the_convolution(multiplier, sensitivity, times):
    process = Repeat(DiscreteLaplace(noise_multiplier=multiplier, sensitivity=sensitivity), times)
    for epsilon in (0.5, 2.0):
        truth = convolved(multiplier * sensitivity, sensitivity, times, epsilon)
        for name in ("pld", "prv", "rdp", "basic", "pure", "optimal", "tightest"):
            found = profile(name, process, ADD_REMOVE).delta(epsilon)
            assert found.lower <= truth * (1 + 1e-9) and truth * (1 - 1e-9) <= found.upper
            assert name != "pld" or found.upper - found.lower <= 1e-3 * truth


def test_many_steps_are_bracketed_under_sampling():
    process = Repeat(Sampled(DiscreteLaplace(noise_multiplier=2.0, sensitivity=10**6), Poisson(probability=0.1)), 20)
    found = profile("pld", process, ADD_REMOVE).epsilon(1e-5)
    assert 0.7745 < found.lower <= 0.774875 <= found.upper < 0.7753


# Releases


def test_integers_come_back_as_integers_in_their_shape():
    source, mechanism = KeyedSource(0), DiscreteLaplace(noise_multiplier=1.0)
    assert type(mechanism.release(3, sensitivity=1, randomness=source)) is int
    for shape in ((0,), (1,), (2, 3)):
        found = mechanism.release(np.zeros(shape, dtype=int), sensitivity=1.0, randomness=source)
        assert found.shape == shape and found.dtype == np.int64


def test_noise_has_the_scale_of_multiplier_times_sensitivity():
    n = 100_000
    mechanism = DiscreteLaplace(noise_multiplier=1.5, sensitivity=2)
    found = mechanism.release(np.full(n, 5), sensitivity=2, randomness=KeyedSource(0)) - 5
    r, k = math.exp(-1 / 3), np.arange(-15, 16)
    seen = np.array([np.sum(found == one) for one in k])
    expected = (1 - r) / (1 + r) * r ** np.abs(k)
    rest = 1 - np.sum(expected)
    assert stats.chisquare(np.append(seen, n - np.sum(seen)), n * np.append(expected, rest)).pvalue > 1e-4


def test_what_a_release_shows_is_what_the_pair_says():
    n, mechanism, source = 200_000, DiscreteLaplace(noise_multiplier=0.7, sensitivity=3), KeyedSource("seen")
    near, far = (mechanism.release(np.full(n, value), sensitivity=3, randomness=source) for value in (0, 3))
    for epsilon in (0.0, 0.6):
        claimed = mechanism.pairs(ADD_REMOVE)["add"].delta(Bounds.exact(epsilon))
        best = max(np.mean(far > t) - math.exp(epsilon) * np.mean(near > t) for t in range(-5, 9))
        error = 5.0 * math.sqrt((1 + math.exp(2 * epsilon)) / (4 * n))
        assert claimed.lower - error <= best <= claimed.upper + error


def test_no_noise_changes_nothing():
    assert DiscreteLaplace(noise_multiplier=0.0).release(7, sensitivity=1, randomness=KeyedSource(0)) == 7


def test_a_release_refuses_what_the_description_is_not_about():
    mechanism, source = DiscreteLaplace(noise_multiplier=1.0, sensitivity=2), KeyedSource(0)
    with pytest.raises(InvalidParameter, match="sensitivity must be the declared one, 2, got 1"):
        mechanism.release(3, sensitivity=1, randomness=source)
    with pytest.raises(InvalidParameter, match="value must be an integer or an array of integers"):
        mechanism.release(3.0, sensitivity=2, randomness=source)
