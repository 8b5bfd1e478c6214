"""Sums of losses: what independence makes of their parts, against mpmath and against each other."""

import math

import mpmath as mp
import numpy as np
import pytest

from accountant.core.base import steps
from accountant.core.loss_sums import LossSum
from mechanisms import (
    ApproximateDP,
    Compose,
    Gaussian,
    NumericalFailure,
    Poisson,
    Repeat,
    Sampled,
    UnsupportedProcess,
)
from tests.reference.truth import sampled_excess
from tests.strategies import ADD_REMOVE, REPLACE_ONE


def sampled(sigma, chance, times):
    return Repeat(Sampled(Gaussian(noise_multiplier=sigma), Poisson(probability=chance)), times)


def loss_of(*parts, direction="remove"):
    return LossSum.of(steps(Compose(parts), ADD_REMOVE)[direction])


MIXED = (
    sampled(1.0, 0.1, 700),
    sampled(3.0, 0.5, 20),
    Repeat(Gaussian(noise_multiplier=9.0), 4),
    sampled(0.7, 1e-4, 9),
)


def exact_log(parts, direction, theta, y):
    """Σ n log E_Q[e^{(1 + θ + iy) L}] of (σ, q, n), q = 1 by its closed form."""
    t, total = mp.mpc(1 + mp.mpf(theta), y), mp.mpc(0)
    for sigma, q, n in parts:
        mu = float(1 / sigma)
        s = t if direction == "remove" else 1 - t
        total += n * (t * (t - 1) * mp.mpf(mu) ** 2 / 2 if q == 1 else mp.log(1 + sampled_excess(mu, q, s)))
    return total


@pytest.mark.parametrize("direction", ["remove", "add"])
@pytest.mark.parametrize(("theta", "y"), [(0.25, 0.0), (0.25, 0.5), (2.0, 1.5), (6.0, 0.1)])
def test_the_transform_of_a_sum_is_the_product_of_its_parts(direction, theta, y):
    loss = loss_of(
        sampled(1.0, 0.125, 700), sampled(4.0, 0.5, 20), Repeat(Gaussian(noise_multiplier=8.0), 4), direction=direction
    )
    real, imaginary, error = loss.transform(theta, np.array([y]))
    with mp.workdps(40):
        exact = exact_log([(1.0, 0.125, 700), (4.0, 0.5, 20), (8.0, 1, 4)], direction, theta, y)
        gap = exact - mp.mpc(float(real[0]), float(imaginary[0]))
        gap -= 2j * mp.pi * mp.nint(gap.imag / (2 * mp.pi))
        assert abs(gap) <= error[0] <= 1e-9 * (1 + abs(exact))
        assert y or exact.real <= loss.log_moment(theta) <= exact.real * (1 + mp.mpf("1e-11"))


@pytest.mark.parametrize("direction", ["remove", "add"])
def test_repeated_and_listed_steps_have_one_transform(direction):
    y = np.linspace(0.0, 3.0, 40)
    one = loss_of(sampled(1.0, 0.1, 6), direction=direction)
    other = loss_of(*[sampled(1.0, 0.1, 2)] * 3, direction=direction)
    for found, expected in zip(one.transform(0.5, y)[:2], other.transform(0.5, y)[:2], strict=True):
        assert np.allclose(found, expected, rtol=1e-13, atol=1e-14)
    assert one.envelope(0.5, 3.0) == pytest.approx(other.envelope(0.5, 3.0), rel=1e-12)


@pytest.mark.parametrize("direction", ["remove", "add"])
def test_plans_agree_with_bounds_to_three_digits(direction):
    loss = loss_of(*MIXED, direction=direction)
    theta = np.array([2.0**-8, 0.125, 1.0, 3.0])
    value, slope, bend = loss.plan(theta)
    for k, at in enumerate(theta):
        h = 2.0**-12 * float(at)
        below, here, above = (loss.log_moment(float(at) + step) for step in (-h, 0.0, h))
        assert value[k] == pytest.approx(here, rel=1e-3)
        assert slope[k] == pytest.approx((above - below) / (2 * h), rel=2e-3)
    assert np.all(np.diff(slope) > 0) and np.all(bend > 0)


@pytest.mark.parametrize("direction", ["remove", "add"])
def test_the_envelope_lies_above_the_transform(direction):
    loss = loss_of(*MIXED, direction=direction)
    for theta in (0.25, 2.0):
        deviation = math.sqrt(float(loss.plan(np.array([theta]))[2][0]))
        y = np.append(0.0, np.geomspace(0.05, 40, 60)) / deviation
        real, _, error = loss.transform(theta, y)
        envelope = np.array([loss.envelope(theta, float(value)) for value in y])
        assert np.all(np.exp(real - real[0] - error - error[0]) <= envelope)
        assert np.all(np.diff(envelope) <= 0)


def test_unsampled_normals_are_one_normal():
    loss = loss_of(Repeat(Gaussian(noise_multiplier=2.0), 4), Gaussian(noise_multiplier=1.0))
    assert loss.square.contains(2.0) and loss.kinds == 1
    real, imaginary, error = loss.transform(0.5, np.array([0.0, 3.0]))
    assert np.allclose(real, [0.75, 0.75 - 9.0], atol=error) and np.allclose(imaginary, [0.0, 6.0], atol=error)
    assert loss.envelope(0.5, 3.0) == pytest.approx(math.exp(-9.0), rel=1e-6)


def test_replace_one_neighbours_of_a_gaussian_move_twice_as_far():
    loss = LossSum.of(steps(Gaussian(noise_multiplier=1.0), REPLACE_ONE)["replace"])
    assert loss.square.contains(4.0)


def test_steps_that_are_no_normals_are_refused_by_name():
    told = ApproximateDP(epsilon=1.0, delta=1.0, adjacency="replace_one")
    with pytest.raises(UnsupportedProcess, match=r"DiscretePair.*pld"):
        LossSum.of(steps(told, REPLACE_ONE)["replace"])


@pytest.mark.parametrize(("sigma", "chance"), [(1e-300, 1.0), (1e-300, 0.5), (1e200, 1.0), (1e300, 0.5), (1.0, 1e-300)])
def test_squares_that_leave_the_floats_are_refused(sigma, chance):
    with pytest.raises(NumericalFailure, match="too small or too large"):
        loss_of(sampled(sigma, chance, 3), Gaussian(noise_multiplier=1.0))
