"""Sums of losses with Laplace and discrete steps: the contour against closed forms, truths and the grid of pld."""

import math

import mpmath as mp
import numpy as np
import pytest
from scipy import special

from accountant import available
from accountant.contour import LineCurve
from mechanisms import (
    Adjacency,
    ApproximateDP,
    Compose,
    Gaussian,
    Laplace,
    NumericalFailure,
    Poisson,
    PureDP,
    RandomizedResponse,
    Repeat,
    Sampled,
)
from mechanisms.core.discrete_pair import DiscretePair
from tests.accountant.test_truth import ROWS, assert_holds, built

ADD_REMOVE, REPLACE_ONE = Adjacency.ADD_REMOVE, Adjacency.REPLACE_ONE
ANSWERED = (
    "laplace 50 x10000 add_remove 1e-10",
    "laplace 1000 x1e+06 add_remove 1e-30",
    "gaussian, laplace, sampled add_remove 1e-05",
    "coins, gaussian, sampled add_remove 1e-09",
    "gaussian, laplace, responses replace_one 1e-08",
    "laplace, gaussian zero_out 1e-40",
)


def profile(process, adjacency, accountant="contour"):
    return available()[accountant]().profile(process, adjacency=adjacency)


def random_step(rng, adjacency):
    laplace = Laplace(noise_multiplier=float(np.exp(rng.uniform(math.log(0.3), math.log(100)))))
    sample = Poisson(probability=float(np.exp(rng.uniform(math.log(1e-4), math.log(0.9)))))
    if adjacency is REPLACE_ONE:
        response = RandomizedResponse(epsilon=float(np.exp(rng.uniform(-5, 0))), categories=int(rng.integers(2, 9)))
        return (laplace, response, PureDP(epsilon=0.05, adjacency=adjacency))[rng.integers(3)]
    pure = PureDP(epsilon=float(np.exp(rng.uniform(-6, 0))), adjacency=adjacency)
    return (laplace, Sampled(laplace, sample), pure, Sampled(pure, sample))[rng.integers(4)]


def random_mix(rng, adjacency):
    """One Laplace or Gaussian step that smoothes, often enough, and up to two kinds of any others."""
    smooth = (Gaussian(noise_multiplier=8.0), Laplace(noise_multiplier=4.0))[rng.integers(2)]
    others = [Repeat(random_step(rng, adjacency), int(np.exp(rng.uniform(0, 8)))) for _ in range(rng.integers(1, 3))]
    return Compose((Repeat(smooth, 400), *others))


@pytest.mark.parametrize("name", ANSWERED)
def test_rows_of_truth_are_answered_and_narrow(name):
    row = ROWS[name]
    found = profile(built(row["process"]), Adjacency.parse(row["adjacency"]))
    assert_holds(found, row, "contour")
    epsilon = found.epsilon(row["delta"])
    assert epsilon.width <= 1e-10 * epsilon.upper


def mixes(adjacency):
    rng = np.random.default_rng(3)
    return [(adjacency, random_mix(rng, adjacency), float(10 ** rng.uniform(-15, -3))) for _ in range(6)]


@pytest.mark.thinned(5)
@pytest.mark.parametrize(("adjacency", "process", "delta"), [*mixes(ADD_REMOVE), *mixes(REPLACE_ONE)])
def test_brackets_meet_those_of_the_grid_and_are_narrower(adjacency, process, delta):
    found, other = (profile(process, adjacency, name).epsilon(delta) for name in ("contour", "pld"))
    assert found.lower <= other.upper and other.lower <= found.upper
    assert found.width <= 1e-9 * found.upper


def test_each_direction_of_a_sampled_step_meets_that_of_the_grid():
    process = Repeat(Sampled(Laplace(noise_multiplier=0.5), Poisson(probability=0.02)), 3000)
    points = np.array([0.5, 2.0, 8.0])
    curves = [dict(profile(process, ADD_REMOVE, name).curves) for name in ("contour", "pld")]
    for direction in ("remove", "add"):
        found, other = (curve[direction].delta(points) for curve in curves)
        assert np.all(found.overlaps(other)), direction
        assert np.all(found.width <= 1e-9 * found.upper + 1e-300)


def test_very_many_steps_are_as_cheap_and_as_narrow():
    process = Repeat(Sampled(Laplace(noise_multiplier=0.18), Poisson(probability=1.3e-5)), 643_502_259)
    epsilon = profile(process, ADD_REMOVE).epsilon(6e-28)
    assert epsilon.width <= 1e-10 * epsilon.upper
    assert epsilon.upper == pytest.approx(55.9233598246, rel=1e-10)


@pytest.mark.parametrize(("epsilon", "times"), [(1e-3, 10**6), (1e-4, 10**8)])
def test_very_many_responses_are_bracketed_as_by_their_closed_form(epsilon, times):
    process = Repeat(RandomizedResponse(epsilon=epsilon), times)
    for delta in (1e-3, 1e-8):
        found, exact = (profile(process, REPLACE_ONE, name).epsilon(delta) for name in ("contour", "closed_form"))
        assert found.lower <= exact.upper and exact.lower <= found.upper
        assert found.width <= 0.02 * epsilon * found.upper


def test_very_many_sampled_discrete_steps_are_narrow():
    response = PureDP(epsilon=1.0, adjacency=ADD_REMOVE)
    found = profile(Repeat(Sampled(response, Poisson(probability=1e-5)), 10**9), ADD_REMOVE).epsilon(1e-8)
    assert found.width <= 1e-7 * found.upper
    other = profile(Repeat(Sampled(response, Poisson(probability=1e-3)), 10**5), ADD_REMOVE, "pld").epsilon(1e-8)
    assert found.upper == pytest.approx(other.upper, rel=2e-2)  # σ √n is the same


def test_steps_that_lose_nothing_change_nothing():
    process = Repeat(Laplace(noise_multiplier=2.0), 500)
    with_nothing = Compose((process, Repeat(PureDP(epsilon=0.0, adjacency=ADD_REMOVE), 7)))
    assert profile(with_nothing, ADD_REMOVE).epsilon(1e-6) == profile(process, ADD_REMOVE).epsilon(1e-6)


def test_infinite_losses_are_set_apart_exactly():
    """A million (ε₀, δ₀) answers lose 1 − (1 − δ₀)^T, and otherwise are randomised responses."""
    told, times = ApproximateDP(epsilon=0.1, delta=1e-9, adjacency=ADD_REMOVE), 10**6
    answers = profile(Repeat(PureDP(epsilon=0.1, adjacency=ADD_REMOVE), times), ADD_REMOVE)
    lost = -math.expm1(times * math.log1p(-1e-9))
    for epsilon in (5200.0, 5400.0, 5500.0):
        whole = profile(Repeat(told, times), ADD_REMOVE).delta(epsilon)
        rest = answers.delta(epsilon)
        assert whole.lower <= lost + (1 - lost) * rest.upper and lost + (1 - lost) * rest.lower <= whole.upper
        assert whole.width <= 5e-3 * whole.upper
    assert profile(Repeat(told, times), ADD_REMOVE).epsilon(0.9 * lost).lower == math.inf


def test_losses_that_are_infinite_one_way_only_shift_the_others():
    """P may show what Q never does, and Q other things: δ summed over the binomial law of what both show."""
    pair = DiscretePair.from_probabilities((1e-6, 0.0, 0.59, 0.409999), (0.0, 0.03, 0.37, 0.6), attained=True)
    times, logs = 20_000, [math.log(0.59 / 0.37), math.log(0.409999 / 0.6)]
    k = np.arange(times + 1)
    log_mass = special.gammaln(times + 1) - special.gammaln(k + 1) - special.gammaln(times - k + 1)
    log_mass += k * math.log(0.59) + (times - k) * math.log(0.409999)
    loss = k * logs[0] + (times - k) * logs[1]
    for epsilon in (2400.0, 2500.0, 2600.0):
        gain = -np.expm1(np.minimum(epsilon - loss, 0.0))
        exact = -math.expm1(times * math.log1p(-1e-6)) + float(np.sum(np.exp(log_mass) * gain))
        found = LineCurve(steps=((pair, times),)).delta(np.array([epsilon]))[0]
        assert found.lower <= exact * (1 + 1e-9) and exact * (1 - 1e-9) <= found.upper
        assert found.width <= 0.08 * found.upper


@pytest.mark.parametrize("times", [60, 400, 4000])
def test_shifted_losses_are_priced_below_0_too(times):
    """Where Q often shows what P never does, ε lies below what shifts the losses; a binomial law in 40 digits."""
    p, q = (0.5, 0.0, 0.5), (0.46875, 0.03125, 0.5)
    pair = DiscretePair.from_probabilities(p, q, attained=True)
    mean, deviation = times * 0.0323, math.sqrt(times) * 0.0323
    epsilon = np.maximum(mean + deviation * np.array([-3.0, -2.0, -1.0, -0.5, 3.0]), 0.0)
    assert np.any(epsilon + times * math.log1p(-q[1]) < 0.0)
    found = LineCurve(steps=((pair, times),)).delta(epsilon)
    with mp.workdps(40):
        masses = [mp.binomial(times, k) * mp.mpf(0.5) ** times for k in range(times + 1)]
        ratios = [(mp.mpf(q[0]) / mp.mpf(p[0])) ** k for k in range(times + 1)]  # of Q's mass to P's
        for k, point in enumerate(epsilon):
            growth = mp.exp(mp.mpf(float(point)))
            exact = mp.fsum(m * max(1 - growth * r, 0) for m, r in zip(masses, ratios, strict=True))
            assert mp.mpf(float(found.lower[k])) <= exact <= mp.mpf(float(found.upper[k]))
    assert np.all((found.upper - found.lower)[:4] <= 0.2 * found.upper[:4])


def test_few_steps_whose_atoms_keep_the_transform_from_decaying_are_left_to_others():
    with pytest.raises(NumericalFailure, match="pld"):
        profile(Repeat(Laplace(noise_multiplier=1.0), 10), ADD_REMOVE).epsilon(1e-6)
