"""What `pld` spends on small questions that once took it half a minute: grid points, which no clock sways."""

import math
from fractions import Fraction

import numpy as np
import pytest

import accountant.pld as module
from accountant.closed_form import ClosedForm
from accountant.core.base import steps
from accountant.pld import PLD, united
from accountant.prv import PRV
from accountant.pure import Pure
from mechanisms import ApproximateDP, Compose, Gaussian, Laplace, Poisson, Repeat, Sampled, WithReplacement
from mechanisms.core.bounds import Bounds
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT, Tabulated


def sampled(scale, chance, times):
    return Repeat(Sampled(Laplace(noise_multiplier=scale), Poisson(probability=chance)), times)


LARGE = Compose(
    (
        Repeat(Gaussian(noise_multiplier=0.213), 850_000),
        sampled(0.443, 1.1e-5, 32),
        Repeat(ApproximateDP(epsilon=0.3 / 19.9, delta=1e-33, adjacency=ZERO_OUT), 1400),
        Repeat(Gaussian(noise_multiplier=0.407), 160_000_000),
    )
)
QUESTIONS = [
    (Repeat(Laplace(noise_multiplier=10.7), 4), REPLACE_ONE, 1.6e-19),
    (Repeat(Laplace(noise_multiplier=2.72), 12), REPLACE_ONE, 4.3e-22),
    (sampled(1.45, 0.011, 2), ADD_REMOVE, 1.2e-16),
    (sampled(31.4, 4.9e-4, 9), ADD_REMOVE, 4.1e-10),
    (Compose((Repeat(Laplace(noise_multiplier=0.412), 30), sampled(3.17, 2.2e-5, 130))), ZERO_OUT, 1.2e-26),
    (Repeat(Laplace(noise_multiplier=1.0), 10), ADD_REMOVE, 1e-5),
    (Repeat(Laplace(noise_multiplier=1.0), 3), ADD_REMOVE, 1e-6),
    (LARGE, ZERO_OUT, 1.7e-27),
]


@pytest.mark.parametrize(("process", "adjacency", "delta"), QUESTIONS)
def test_small_questions_take_few_points_and_get_narrow_brackets(process, adjacency, delta, monkeypatch):
    composed_on, sizes = module.composed_on, []

    def counted(parts, tilt, points):
        found = composed_on(parts, tilt, points)
        sizes.append(found.window.size)
        return found

    monkeypatch.setattr(module, "composed_on", counted)
    module._compose.cache_clear()
    bounds = PLD().profile(process, adjacency=adjacency).epsilon(delta)
    assert bounds.lower > 0.0 and bounds.upper - bounds.lower <= 2e-7 * bounds.upper
    assert sum(sizes) <= 2**21 and max(sizes) <= 2**19


def test_unsampled_gaussians_become_one_step_and_others_stay():
    parts = steps(LARGE, ZERO_OUT)["remove"]
    merged = united(parts)
    assert merged[1:] == tuple((pair, n) for pair, n in parts if n in (32, 1400)) and merged[0][1] == 1
    square = 850_000 / Bounds.exact(0.213**2) + 160_000_000 / Bounds.exact(0.407**2)
    assert (merged[0][0].shift * merged[0][0].shift).contains(0.5 * (square.lower + square.upper))
    assert united(merged[1:]) == merged[1:]


@pytest.mark.parametrize("delta", [1e-5, 1e-7, 1e-10, 1e-15])
def test_answers_next_to_the_largest_loss_are_narrow(delta):
    """Two sampled Laplace steps of small losses: tilts that leave little but the largest had no window."""
    process = Repeat(Sampled(Laplace(noise_multiplier=16.0), Poisson(probability=0.1)), 2)
    found = PLD().profile(process, adjacency=ADD_REMOVE).epsilon(delta)
    known = Pure().profile(process, adjacency=ADD_REMOVE).epsilon(delta)
    assert known.lower <= found.upper and found.lower <= known.upper
    assert 0.0 < found.upper - found.lower < 1e-8 * found.upper


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.0, 1.2, 2.0])
def test_delta_below_all_losses_that_one_order_has_is_known(epsilon):
    """Where much of Q's mass is missing under P the window of P's losses begins beyond ε."""
    one = Tabulated(p=(0.4375, 0.5625, 0.0), q=(0.09375, 0.140625, 0.765625))
    other = Tabulated(p=(0.25, 0.5, 0.25), q=(0.5, 0.25, 0.25))
    profile = PLD().profile(Compose((one, other)), adjacency=ADD_REMOVE)
    for (_, curve), (a, b, c, d) in zip(
        profile.curves, ((one.p, one.q, other.p, other.q), (one.q, one.p, other.q, other.p)), strict=True
    ):
        terms = (
            x * u - math.exp(epsilon) * y * v for x, y in zip(a, b, strict=True) for u, v in zip(c, d, strict=True)
        )
        found = curve.delta(np.array([epsilon]))[0]
        assert found.contains(math.fsum(max(0.0, term) for term in terms)) and found.width < 1e-9


@pytest.mark.parametrize("share", [2.0**-27, 1.1e-8, 3e-8])
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_delta_next_to_1_below_all_losses_is_rounded_up(share, epsilon):
    """With 1 − δ = e^ε q², less than half the spacing of floats there or about it."""
    one = Tabulated(p=(1.0, 0.0), q=(share, 1.0 - share))
    profile = PLD().profile(Compose((one, one)), adjacency=ADD_REMOVE)
    upper = float(dict(profile.curves)["remove"].delta(np.array([epsilon])).upper[0])
    assert Fraction(1) - Fraction(upper) <= Fraction(math.exp(epsilon) * (1 - 1e-15)) * Fraction(share) ** 2


@pytest.mark.parametrize("noise", [0.5, pytest.param(0.7, marks=pytest.mark.slow)])
def test_rare_large_losses_of_records_drawn_often_leave_the_bracket_narrow(noise):
    step = Sampled(Gaussian(noise_multiplier=noise), WithReplacement(batch_size=100, records=1000))
    one = ClosedForm().profile(step, adjacency=ADD_REMOVE).epsilon(1e-5)
    found = PLD().profile(Repeat(step, 100), adjacency=ADD_REMOVE).epsilon(1e-5)
    other = PRV(eps_error=0.1).profile(Repeat(step, 100), adjacency=ADD_REMOVE).epsilon(1e-5)
    assert one.lower < found.lower <= found.upper
    assert other.lower < found.lower and found.upper < other.upper
    assert found.width < 2e-5 * found.upper


@pytest.mark.parametrize("noise", [0.44417, 0.44566])
def test_a_finer_grid_whose_round_off_is_larger_does_not_widen_layers(noise):
    process = Repeat(Sampled(Gaussian(noise_multiplier=noise), Poisson(probability=1e-9)), 10**6)
    coarse, fine = (
        PLD(most_points=points).profile(process, adjacency=ZERO_OUT).delta(1e-3).upper for points in (3 * 2**12, 2**17)
    )
    assert fine <= coarse * (1 + 1e-9)
