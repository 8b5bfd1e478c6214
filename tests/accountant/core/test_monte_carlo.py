"""Monte Carlo brackets: against quadrature, against certified brackets, and how often they fail."""

import numpy as np
import pytest

from accountant import delta_bounds
from accountant.core.monte_carlo import _rounding, balls_in_bins_estimate
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


@pytest.mark.parametrize(("times", "epochs"), [(10, 1), (300, 1), (10, 4)])
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
