"""The ladder only plans: what is asked of it is order, finiteness and sensible choices, never a guarantee."""

import math

import numpy as np
import pytest

from accountant import delta_bounds
from accountant.core.base import steps
from accountant.core.ladder import FURTHER, NATS, Ladder
from accountant.core.lines import lines
from accountant.core.loss_sums import LossSum
from accountant.core.plans import log_deltas
from mechanisms import Compose, Gaussian, NumericalFailure, Poisson, Repeat, Sampled
from tests.strategies import ADD_REMOVE

CASES = [
    (1.0, 0.01, 10_000),
    (0.5, 0.1, 100),
    (50.0, 1e-5, 10**9),
    (2.0, 1.0, 30),
    (1.0, 1 - 1e-9, 40),
    (0.3, 1e-6, 10),
]
# (δ, ε) of (σ, q, T) = (1.1, .01, 10⁴), by other programs.
KNOWN = [(1e-5, 5.192583446), (1e-15, 9.898660), (1e-30, 14.691684)]


def ladder(sigma, chance, times, direction="remove"):
    process = Repeat(Sampled(Gaussian(noise_multiplier=sigma), Poisson(probability=chance)), times)
    return lines(steps(process, ADD_REMOVE)[direction], math.inf).ladder


@pytest.mark.parametrize("direction", ["remove", "add"])
@pytest.mark.parametrize("case", CASES)
def test_rungs_rise_and_what_is_planned_is_convex(case, direction):
    rungs = ladder(*case, direction)
    finite = np.isfinite(rungs.value)
    assert finite[0] and np.all(np.diff(rungs.theta) > 0) and not np.any(np.isnan(rungs.value))
    assert np.all(np.diff(finite.astype(int)) <= 0)  # once out of the floats, always out
    assert np.all(np.diff(rungs.slope[finite]) >= -1e-9 * np.abs(rungs.slope[finite][1:]))
    assert np.all(rungs.bend[finite] >= 0) and np.all(rungs.value[finite] >= 0)


@pytest.mark.parametrize("case", CASES)
def test_layouts_leave_room_between_the_line_and_what_shows_its_aliases(case):
    rungs = ladder(*case)
    widths = []
    for level in (2, 3, 6):
        layout = rungs.layout(0, level)
        assert 0 < layout.theta < layout.further <= layout.theta * 2.0 ** (max(FURTHER) / 4) * (1 + 1e-9)
        assert 0 < layout.spacing <= 2 * math.pi * layout.theta / (NATS * level) * (1 + 1e-9) and layout.bend > 0
        widths.append(layout.spacing)
    assert widths == sorted(widths, reverse=True)


def test_the_epsilon_expected_is_near_the_one_known():
    rungs = ladder(1.1, 0.01, 10_000)
    for delta, epsilon in KNOWN:
        (rung, level), expected = rungs.for_delta(delta)
        assert expected == pytest.approx(epsilon, rel=0.1)
        assert 0 <= rung < len(rungs.theta) and level * NATS >= -math.log(delta)


def test_smaller_deltas_and_larger_epsilons_are_read_on_higher_lines():
    rungs = ladder(1.1, 0.01, 10_000)
    by_delta = [rungs.for_delta(delta)[0][0] for delta in (1e-2, 1e-5, 1e-15, 1e-30)]
    by_epsilon = [rung for rung, _ in rungs.for_epsilon(np.array([0.5, 2.0, 5.0, 9.0, 14.0]))]
    assert by_delta == sorted(by_delta) and by_epsilon == sorted(by_epsilon) and by_epsilon[0] < by_epsilon[-1]


@pytest.mark.parametrize("epsilon", [0.0, 1e-300, 1e3, 1e300])
@pytest.mark.parametrize("case", CASES)
def test_every_epsilon_has_a_rung(case, epsilon):
    rungs = ladder(*case)
    ((rung, level),) = rungs.for_epsilon(np.array([epsilon]))
    assert 0 <= rung <= len(rungs.theta) - 1 and 0 < level < 10**4


@pytest.mark.parametrize("delta", [0.999, 1e-300, 5e-324])
@pytest.mark.parametrize("case", CASES)
def test_every_delta_has_a_rung(case, delta):
    (rung, level), epsilon = ladder(*case).for_delta(delta)
    assert rung >= 0 and level > 0 and 0 <= epsilon < math.inf


def test_log_delta_is_that_of_a_normal_loss_and_of_a_single_one():
    theta = np.array([1e-3, 0.5, 11.4])
    found = log_deltas(theta, 0.5 * theta * (1.0 + theta), 0.5 + theta, np.ones(3))
    exact = [delta_bounds(Gaussian(noise_multiplier=1.0), epsilon=0.5 + one).lower for one in theta]
    assert found == pytest.approx(np.log(exact), rel=1e-9)
    alone = log_deltas(np.array([9.0]), np.array([9.0 * 2.0 - 5.0]), np.array([2.0]), np.zeros(1))
    assert alone == pytest.approx(-5.0) and log_deltas(*np.array([[9.0], [np.inf], [np.inf], [np.inf]])) == -np.inf


def test_losses_out_of_the_floats_have_no_ladder():
    for chance, times in [(1e-140, 1), (0.5, 1)]:
        part = Sampled(Gaussian(noise_multiplier=1e148), Poisson(probability=max(chance, 0.5)))
        with pytest.raises(NumericalFailure, match="pld"):
            Ladder.of(LossSum.of(steps(Compose((Repeat(part, times),)), ADD_REMOVE)["remove"]).plan)


def test_losses_so_large_that_theta_is_lost_in_1_plus_theta_have_no_line():
    rungs = ladder(1e-20, 1.0, 1)
    with pytest.raises(NumericalFailure, match="too large"):
        rungs.layout(0, 3)
