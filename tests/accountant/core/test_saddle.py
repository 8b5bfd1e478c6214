"""Tilts: few of them, up to the largest loss, and ranges that leave out what tilting makes nothing of."""

import math

import numpy as np
import pytest

from accountant.core.base import largest_loss, steps
from accountant.core.plans import cumulant, farthest, moved_end
from accountant.core.saddle import LEAST_LOST, MOST_LOST, saddle
from mechanisms import Gaussian, Laplace, Poisson, Repeat, Sampled
from tests.strategies import ADD_REMOVE

LAPLACE = Repeat(Laplace(noise_multiplier=1.0), 4)
SAMPLED = Repeat(Sampled(Gaussian(noise_multiplier=0.6), Poisson(probability=1e-4)), 10)


def parts_of(process, direction="remove"):
    return steps(process, ADD_REMOVE)[direction]


def lost(found, rung, epsilon):
    """By how many nats K(θ) − θε of a rung exceeds its least on the ladder."""
    heights = found.value - found.theta * epsilon
    return heights[found.chosen[rung]] - heights.min()


@pytest.mark.parametrize("process", [LAPLACE, SAMPLED, Repeat(Laplace(noise_multiplier=5.0), 1000)])
@pytest.mark.parametrize("direction", ["remove", "add"])
def test_no_epsilon_loses_more_nats_than_rungs_are_apart(process, direction):
    found = saddle(parts_of(process, direction))
    most = min(float(largest_loss(found.steps).upper), float(found.slope[-1]))
    for epsilon in np.linspace(max(float(found.slope[0]), 0.0), most, 200):
        rung = int(found.rungs(np.array([epsilon]))[0])
        apart = np.flatnonzero(found.slope <= epsilon)[-1] == found.chosen[rung]  # neighbours on the ladder may be far
        assert lost(found, rung, epsilon) <= MOST_LOST or apart


def test_rungs_reach_the_largest_loss_where_it_is_an_atom():
    found = saddle(parts_of(LAPLACE))
    assert found.slope[-1] >= 4.0 - 1e-3
    assert len(found.chosen) <= 16
    assert lost(found, len(found.chosen) - 1, 4.0) <= MOST_LOST


def test_rungs_are_close_where_many_steps_add_up_their_round_off():
    few, many = (saddle(parts_of(Repeat(Gaussian(noise_multiplier=s), n))) for s, n in ((1.0, 1), (1e4, 10**8)))
    assert len(few.chosen) < len(many.chosen)
    ends = many.slope[list(many.chosen)]
    assert all(lost(many, k, ends[k + 1]) <= LEAST_LOST or gap == 1 for k, gap in enumerate(np.diff(many.chosen)))


@pytest.mark.parametrize("delta", [1e-3, 1e-9, 1e-30])
def test_the_rung_for_a_delta_is_that_of_its_epsilon(delta):
    found = saddle(parts_of(Gaussian(noise_multiplier=1.0)))
    truth = {1e-3: 3.2646, 1e-9: 6.3325, 1e-30: 11.9009}[delta]  # δ(ε) of one unit of noise
    assert abs(found.for_delta(delta) - int(found.rungs(np.array([truth]))[0])) <= 1


@pytest.mark.parametrize("theta", [1e-3, 0.5, 20.0, 3000.0])
def test_what_is_moved_up_is_little_of_the_tilted_mass(theta):
    pair = Gaussian(noise_multiplier=0.5).pairs(ADD_REMOVE)["remove"]
    plan = cumulant(((pair, 1),))
    end = moved_end(plan, theta, 45.0)
    mean, deviation = 2.0, 2.0  # of the loss: μ²/2 and μ
    log_mass = -0.5 * ((end - mean) / deviation) ** 2  # log P(L <= end) is below that
    assert end < mean + theta * deviation**2
    assert log_mass + theta * end <= plan(np.array([theta]))[0][0] - 45.0 + 1e-6 * theta


def test_a_strongly_tilted_step_is_looked_at_beside_its_largest_loss_only():
    found = saddle(parts_of(LAPLACE))
    ranges = [found.tilt(rung).ranges[0] for rung in range(len(found.chosen))]
    assert ranges[0] == pytest.approx((-1.0, 1.0))
    assert ranges[-1][1] == pytest.approx(1.0) and ranges[-1][0] > 0.99
    assert all(math.isfinite(end) for ends in ranges for end in ends)


@pytest.mark.parametrize("depth", [32.0, 64.0, 128.0])
def test_steps_range_as_far_as_the_cumulant_that_windows_are_laid_out_by(depth):
    found = saddle(parts_of(SAMPLED), depth)
    ((_, high),) = found.tilt(len(found.chosen) - 1).ranges
    assert high == pytest.approx(farthest(found.steps, depth)[0])
    pair, times = found.steps[0]
    left_out = times * pair.loss_bins(np.array([high, np.inf]), np.zeros(1)).p.upper[0]
    assert math.exp(-depth - 5.0) <= left_out <= math.exp(-depth)
    assert all(np.isinf(farthest(parts_of(SAMPLED, "add"), depth)))
