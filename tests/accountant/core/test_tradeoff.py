"""Trade-off functions: both ends against closed forms, tight everywhere, from few evaluations of δ."""

import math
import tracemalloc

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from accountant import dp_sgd
from accountant.core.profile import Profile
from accountant.core.tradeoff import PASSES, tradeoff
from accountant.rdp import RDP
from accountant.tightest import Tightest
from mechanisms import Adjacency, ApproximateDP, Bounds, Compose, Gaussian, Laplace, PureDP, RandomizedResponse, Repeat
from tests.strategies import ADD_REMOVE, REPLACE_ONE, processes, seldom

WIDTH = 1e-6
LEVELS = np.concatenate([np.geomspace(1e-6, 0.5, 15), 1 - np.geomspace(1e-6, 0.4, 10)])


def gaussian(mu, alpha):
    """Φ(Φ⁻¹(1 − α) − μ) with 30 digits."""
    with mpmath.workdps(30):
        z = mpmath.sqrt(2) * mpmath.erfinv(1 - 2 * mpmath.mpf(float(alpha)))
        return mpmath.ncdf(z - mu)


def normal(mu, alpha):
    """The same with 60 digits, also where α is no float beside 1 or tiny."""
    with mpmath.workdps(400):
        z = -mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(float(alpha)) - 1)
        return mpmath.ncdf(z - mpmath.mpf(1) / mpmath.mpf(1 / mu))


def profile(process, adjacency=ADD_REMOVE):
    return Tightest().profile(process, adjacency=adjacency)


@pytest.mark.parametrize("mu", [0.01, 0.2, 1.0, 2.5, 6.0])
def test_planes_below_the_profile_of_a_gaussian_find_its_closed_form_within_a_millionth(mu):
    found = tradeoff(LEVELS, profile(Gaussian(noise_multiplier=1 / mu)).delta, 0.0)
    for alpha, lower, upper in zip(LEVELS, found.lower, found.upper, strict=True):
        assert lower <= gaussian(mu, alpha) <= upper
    assert np.max(found.width) <= WIDTH
    assert np.all(found.width <= 2e-3 * np.minimum(found.upper, 1 - found.lower) + 1e-11)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("mu", [1e-9, 0.01, 1.0, 2.5, 40.0, 1e9])
def test_a_gaussian_is_known_to_twelve_digits(mu):
    levels = np.concatenate([[0.0, 5e-324, 1e-300, 1e-40], LEVELS, [1 - 2.0**-53, 1.0]])
    found = profile(Gaussian(noise_multiplier=1 / mu)).tradeoff(levels)
    for alpha, lower, upper in zip(levels[1:-1], found.lower[1:-1], found.upper[1:-1], strict=True):
        assert lower <= normal(mu, alpha) <= upper
    assert found[0].contains(1.0) and found[-1].contains(0.0)
    assert np.max(found.width[(levels > 1e-290) | (levels == 0.0)]) <= 1e-12


def test_published_values_of_a_gaussian_are_enclosed():
    """f(α) of μ = 1, computed from the closed form of Dong, Roth and Su (2022) to the digits given."""
    found = profile(Gaussian(noise_multiplier=1.0)).tradeoff([0.01, 0.05, 0.1])
    known = np.array([0.907637751926, 0.740488977159, 0.610856308355])
    assert np.all(found.lower <= known + 1e-12) and np.all(known - 1e-12 <= found.upper)


def test_two_pure_guarantees_have_the_published_power():
    """(1, 0) and (2, 0) composed: the power at α = .1 is .8286, by the software of Gomez et al."""
    process = Compose(tuple(PureDP(epsilon=one, adjacency="add_remove") for one in (1.0, 2.0)))
    power = 1.0 - profile(process).tradeoff(0.1)
    assert power.lower <= 0.82865 and power.upper >= 0.82855 and power.width < WIDTH


def test_dp_sgd_is_tight_and_encloses_what_a_fine_grid_gives():
    """Against the distributions of the loss on a grid of 1e-4, composed by a plain FFT: .839455, .648971, .521568.

    riskcal 1.5.1 gives .842813, .650256 and .522341, up to .0034 more; it promises no digits.
    """
    found = profile(dp_sgd(noise_multiplier=0.5, sample_rate=0.002, steps=10_000)).tradeoff([0.01, 0.05, 0.1])
    grid = np.array([0.8394556844, 0.6489714600, 0.5215690546])
    assert np.all(np.abs(found.lower - grid) < 2e-6) and np.all(found.width <= WIDTH)
    assert np.all(np.abs(found.upper - [0.8428134, 0.6502558, 0.5223409]) < 0.005)


@pytest.mark.parametrize(("sigma", "rate", "steps"), [(1.1, 0.01, 10_000), (4.0, 0.01, 10_000), (1.0, 0.5, 1)])
def test_dp_sgd_is_tight_at_all_levels(sigma, rate, steps):
    found = profile(dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=steps)).tradeoff(LEVELS)
    assert np.max(found.width) <= WIDTH


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.1), (1.0, 0.0), (1.0, 1e-3), (5.0, 0.2), (0.3, 1.0)])
def test_an_approximate_guarantee_has_its_closed_form(epsilon, delta):
    """f = max{0, 1 − δ − e^ε α, e^{−ε} (1 − δ − α)} [Dong, Roth and Su 2022]."""
    alpha = np.concatenate([[0.0], LEVELS, [1.0]])
    guarantee = ApproximateDP(epsilon=epsilon, delta=delta, adjacency="add_remove")
    found = profile(guarantee).tradeoff(alpha)
    known = np.maximum(1 - delta - math.exp(epsilon) * alpha, math.exp(-epsilon) * (1 - delta - alpha)).clip(0)
    assert np.all(found.lower <= known + 1e-15) and np.all(known - 1e-15 <= found.upper)
    assert np.max(found.width) <= WIDTH


@settings(max_examples=8)
@given(processes(ADD_REMOVE), st.lists(st.floats(0, 1), min_size=1, max_size=5).map(sorted))
def test_ends_are_ordered_and_fall(process, alpha):
    found = profile(process).tradeoff(alpha)
    assert np.all((found.lower >= 0) & (found.upper <= np.nextafter(1 - np.array(alpha), 2)))
    assert np.all(np.diff(found.lower) <= 1e-13) and np.all(np.diff(found.upper) <= WIDTH)
    assert np.max(found.width) <= 1e-4


@seldom
@given(processes(REPLACE_ONE, most=2))
def test_f_is_its_own_inverse(process):
    """f(f(α)) = α where f > 0, within what the ends allow: f falls."""
    here, alpha = profile(process, REPLACE_ONE), np.array([0.02, 0.1, 0.3])
    first = here.tradeoff(alpha)
    assert np.all(here.tradeoff(first.upper).lower <= alpha)
    assert np.all((alpha <= here.tradeoff(first.lower).upper) | (first.lower == 0))


def test_nothing_done_leaves_the_blind_guess_and_everything_given_away_leaves_nothing():
    alpha = np.array([0.0, 0.3, 1.0])
    empty = Profile(curves=(), adjacency=Adjacency.ADD_REMOVE, method="none")
    assert np.all(empty.tradeoff(alpha).contains(1 - alpha)) and np.max(empty.tradeoff(alpha).width) < 1e-9
    assert np.all(profile(Gaussian(noise_multiplier=0.0)).tradeoff(alpha).upper <= 1e-12)


def test_an_upper_profile_bounds_from_below_and_says_nothing_above():
    process, alpha = Gaussian(noise_multiplier=1.0), np.array([0.01, 0.1, 0.5])
    found = RDP().profile(process, adjacency=ADD_REMOVE).tradeoff(alpha)
    truth = profile(process).tradeoff(alpha)
    assert np.all(found.lower <= truth.lower) and np.all(found.lower > 0.5 * truth.lower)
    assert np.all(found.upper >= (1 - alpha) * (1 - 1e-12))


def test_the_answer_has_the_shape_of_the_question():
    curve = profile(Gaussian(noise_multiplier=1.0))
    assert type(curve.tradeoff(0.1).lower) is float and curve.tradeoff([[0.1, 0.2]]).upper.shape == (1, 2)
    assert curve.tradeoff([]).lower.shape == (0,)


@pytest.mark.parametrize(
    "process",
    [Gaussian(noise_multiplier=1.0), Laplace(noise_multiplier=0.5), Repeat(Gaussian(noise_multiplier=9.0), 4)],
)
def test_few_evaluations_suffice(process):
    asked, curve = [], profile(process)

    def counted(epsilon):
        asked.append(len(epsilon))
        return curve.delta(epsilon)

    tradeoff(np.array([0.01, 0.05, 0.1]), counted, 0.0)
    assert sum(asked) <= 100 and len(asked) <= PASSES // 2


def test_noise_in_delta_costs_about_as_much_as_it_is():
    """δ known to 1e-6 only, as from a coarse accountant: ends within 1e-5, and still on the right sides."""
    exact, alpha = profile(Gaussian(noise_multiplier=1.0)), np.array([0.001, 0.05, 0.4])

    def blurred(epsilon):
        return exact.delta(epsilon) + Bounds(lower=-1e-6, upper=1e-6)

    found = tradeoff(alpha, blurred, 0.0)
    truth = [gaussian(1.0, one) for one in alpha]
    assert np.all(found.lower <= truth) and np.all(truth <= found.upper) and np.max(found.width) < 2e-5


def test_randomised_responses_have_corners_at_the_right_places():
    """One answer with ε: f falls by e^ε up to α = 1/(1 + e^ε), where f(α) = α."""
    corner = 1 / (1 + math.exp(0.7))
    found = profile(RandomizedResponse(epsilon=0.7), REPLACE_ONE).tradeoff([corner, corner / 2])
    assert np.all(found.lower <= [corner, 1 - math.exp(0.7) * corner / 2 + 1e-16]) and np.all(found.upper >= corner)
    assert np.max(found.width) < 1e-12


def test_memory_stays_small_for_many_levels():
    """A matrix of levels × points took gigabytes at 20,000 levels."""

    def delta(epsilon):
        value = ndtr(0.5 - epsilon) - np.exp(epsilon) * ndtr(-0.5 - epsilon)
        return Bounds(lower=np.maximum(value * (1 - 1e-10) - 1e-15, 0.0), upper=value * (1 + 1e-10) + 1e-15)

    tracemalloc.start()
    found = tradeoff(np.linspace(0.0, 1.0, 1001), delta, 0.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.max(found.width) < 1e-6 and peak < 64 * 2**20
