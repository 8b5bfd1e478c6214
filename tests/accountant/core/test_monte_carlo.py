"""Monte Carlo brackets: against quadrature, against certified brackets, and how often they fail."""

import numpy as np
import pytest

from accountant import delta_bounds
from accountant.core.monte_carlo import _rounding, balls_in_bins_estimate, delta_from_losses
from mechanisms import (
    Allocated,
    BallsInBins,
    Bounds,
    Gaussian,
    InvalidParameter,
    Laplace,
    Poisson,
    Repeat,
    Sampled,
    Shuffled,
    TruncatedPoisson,
    UnsupportedProcess,
)

# δ of T = 2, the larger direction, by quadrature: shared/reference papers.md §5
TWO = {(1.0, 0.5): 0.149177523132, (0.5, 1.0): 0.404577500351, (2.0, 0.5): 0.018326594761}

CUT = Sampled(Gaussian(noise_multiplier=1.0), TruncatedPoisson(probability=1.0, largest_batch=5))  # not attained


def run(sigma, times):
    return Allocated(Repeat(Gaussian(noise_multiplier=sigma), times), BallsInBins())


def estimate(process, epsilon, *, samples=20_000, confidence=0.99, seed=0, adjacency="add_remove"):
    rng = np.random.default_rng(seed)
    return balls_in_bins_estimate(
        process, epsilon=epsilon, adjacency=adjacency, samples=samples, confidence=confidence, rng=rng
    )


@pytest.mark.parametrize(("sigma", "epsilon"), TWO)
def test_two_steps_are_bracketed(sigma, epsilon):
    found = estimate(run(sigma, 2), epsilon)
    assert TWO[sigma, epsilon] in found
    assert found.upper - found.lower < 0.03 and found.confidence == 0.99 and found.samples == 20_000


@pytest.mark.parametrize(("times", "epochs"), [(10, 1), pytest.param(300, 1, marks=pytest.mark.slow), (10, 4)])
def test_certified_brackets_meet_the_simulated_ones(times, epochs):
    process = Repeat(run(1.0, times), epochs)
    certified, simulated = delta_bounds(process, epsilon=0.2), estimate(process, 0.2, adjacency="zero_out")
    assert certified.lower <= simulated.upper and simulated.lower <= certified.upper


def test_brackets_fail_at_most_as_often_as_stated():
    inside = [TWO[1.0, 0.5] in estimate(run(1.0, 2), 0.5, samples=400, confidence=0.8, seed=k) for k in range(300)]
    assert np.mean(inside) >= 0.8


def test_the_same_generator_gives_the_same_bracket():
    assert estimate(run(1.0, 5), 0.3, seed=7) == estimate(run(1.0, 5), 0.3, seed=7) != estimate(run(1.0, 5), 0.3)


def test_a_bracket_that_may_fail_is_no_bounds():
    assert not isinstance(estimate(run(1.0, 2), 0.5), Bounds)


@pytest.mark.parametrize("epochs", [1, 2])
def test_ratios_that_leave_the_floats_are_simulated(epochs):
    """μ = 60: the loss is about μ²/2 = 1,800 an epoch, its ratio beyond 1e300; Gaussian steps bound it from above."""
    process, epsilon = Repeat(run(1 / 60, 2), epochs), 1_900.0 * epochs
    alone = delta_bounds(Repeat(Gaussian(noise_multiplier=1 / 60), epochs), epsilon=epsilon)
    found = estimate(process, epsilon)
    assert found.lower <= alone.upper < 0.06 and found.upper > 0.0


def test_many_samples_are_drawn_in_parts():
    found = estimate(run(1.0, 2), 0.5, samples=2**20 + 7)
    assert TWO[1.0, 0.5] in found and found.upper - found.lower < 4e-3


def test_rounding_grows_with_what_is_added():
    found = _rounding(1.0, 10, 1), _rounding(1.0, 10**6, 1), _rounding(1.0, 10**6, 100), _rounding(1e4, 10, 1)
    assert 1e-11 <= found[0] < 2e-11 < found[1] < found[2] and found[3] > 1e8 * 2**-53


def test_more_normals_than_can_be_drawn_are_refused():
    with pytest.raises(InvalidParameter, match=r"at most 1e\+12 normals are drawn.*Use fewer samples"):
        estimate(run(1.0, 10**9), 0.5)


REFUSED = [
    Gaussian(noise_multiplier=1.0),
    Allocated(Repeat(Laplace(noise_multiplier=1.0), 3), BallsInBins()),
    Allocated(Repeat(Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.5)), 3), BallsInBins()),
    Allocated(Repeat(Gaussian(noise_multiplier=1.0), 3), Shuffled()),
    Allocated(Repeat(CUT, 3), BallsInBins()),
]


@pytest.mark.parametrize("process", REFUSED, ids=repr)
def test_other_processes_are_refused_with_what_to_use(process):
    with pytest.raises(UnsupportedProcess, match="Use epsilon_bounds"):
        estimate(process, 0.5)


def test_replacing_is_refused_and_numbers_are_checked():
    with pytest.raises(UnsupportedProcess, match="Use adjacency='zero_out'"):
        estimate(run(1.0, 2), 0.5, adjacency="replace_one")
    with pytest.raises(InvalidParameter, match="confidence must lie inside"):
        estimate(run(1.0, 2), 0.5, confidence=1.0)
    with pytest.raises(InvalidParameter, match="samples must be at least 2"):
        estimate(run(1.0, 2), 0.5, samples=1)


# Losses that a user draws


def normal_losses(rng, shift, *shape):
    return rng.normal(shift * shift / 2, shift, size=shape)


@pytest.mark.parametrize("steps", [1, 4])
def test_drawn_losses_bracket_the_certified_delta(steps):
    losses = normal_losses(np.random.default_rng(0), 0.5, 50_000, steps)
    found = delta_from_losses(losses, epsilon=0.5, accuracy=1e-12, confidence=0.99)
    truth = delta_bounds(Repeat(Gaussian(noise_multiplier=2.0), steps), epsilon=0.5)
    assert found.lower <= truth.lower and truth.upper <= found.upper and found.upper - found.lower < 0.02
    assert found.samples == 50_000 and found.confidence == 0.99


def test_brackets_of_drawn_losses_fail_at_most_as_often_as_stated():
    truth, rng = delta_bounds(Gaussian(noise_multiplier=1.0), epsilon=1.0).upper, np.random.default_rng(1)
    draws = (normal_losses(rng, 1.0, 400) for _ in range(500))
    missed = sum(truth not in delta_from_losses(one, epsilon=1.0, accuracy=0.0, confidence=0.8) for one in draws)
    assert missed <= 500 * 0.2 * 0.5  # far fewer: the bounds are made for all laws


def test_losses_without_end_are_certain_to_tell():
    found = delta_from_losses([np.inf, 1e308, 3, 800.0] * 2_000, epsilon=2.0, accuracy=0.0, confidence=0.9)
    assert found.lower <= (3 - np.exp(-1.0) + 1) / 4 <= found.upper
    twice = delta_from_losses([[1e308, 1e308], [-1e308, -1e308]] * 2_000, epsilon=2.0, accuracy=0.0, confidence=0.9)
    assert (twice.lower, twice.upper) == (0.0, 1.0)  # rounding may have done anything to such sums


def test_an_error_of_the_losses_widens_the_bracket_by_as_much():
    losses = normal_losses(np.random.default_rng(0), 1.0, 1_000)
    exact, doubtful = (delta_from_losses(losses, epsilon=0.0, accuracy=a, confidence=0.9) for a in (0.0, 0.05))
    assert abs(doubtful.upper - exact.upper - 0.05) < 1e-12 and abs(exact.lower - doubtful.lower - 0.05) < 1e-12


@pytest.mark.parametrize(
    ("losses", "fields", "message"),
    [
        ([1.0], {}, r"n >= 2, got shape \(1,\)"),
        ([1.0, np.nan], {}, "A loss of -inf or NaN has probability 0"),
        ([1.0, -np.inf], {}, "draws above -inf"),
        (np.zeros((2, 2, 2)), {}, "losses must be draws"),
        ("12", {}, "losses must be draws"),
        ([1.0, 2.0], {"epsilon": -1.0}, "epsilon must be at least 0"),
        ([1.0, 2.0], {"accuracy": np.inf}, "accuracy must be finite"),
        ([1.0, 2.0], {"confidence": 1.0}, r"confidence must lie inside \(0, 1\)"),
    ],
)
def test_what_are_no_losses_is_refused(losses, fields, message):
    with pytest.raises(InvalidParameter, match=message):
        delta_from_losses(losses, **{"epsilon": 1.0, "accuracy": 0.0, "confidence": 0.9} | fields)
