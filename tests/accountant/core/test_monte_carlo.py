"""Monte Carlo brackets: against quadrature, against certified brackets, and how often they fail."""

import numpy as np
import pytest

from accountant import delta_bounds
from accountant.core.monte_carlo import balls_in_bins_estimate
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
    UnsupportedProcess,
)

# δ of T = 2, the larger direction, by quadrature: shared/reference papers.md §5
TWO = {(1.0, 0.5): 0.149177523132, (0.5, 1.0): 0.404577500351, (2.0, 0.5): 0.018326594761}


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


REFUSED = [
    Gaussian(noise_multiplier=1.0),
    Allocated(Repeat(Laplace(noise_multiplier=1.0), 3), BallsInBins()),
    Allocated(Repeat(Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.5)), 3), BallsInBins()),
    Allocated(Repeat(Gaussian(noise_multiplier=1.0), 3), Shuffled()),
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
