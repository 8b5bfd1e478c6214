"""Grids whose steps are so wide that e^h is no float: a bracket or a refusal, never an OverflowError."""

import pytest

from accountant import dp_sgd, epsilon_bounds
from accountant.prv import PRV
from mechanisms import Gaussian, Laplace
from mechanisms.core.errors import NumericalFailure
from tests.strategies import ADD_REMOVE


@pytest.mark.slow
def test_a_billion_steps_of_hardly_any_noise_get_a_bracket():
    process = dp_sgd(noise_multiplier=0.0395, sample_rate=0.007, steps=10**9)
    found = epsilon_bounds(process, delta=5e-4)
    assert 0.0 < found.lower < found.upper < 3e9


@pytest.mark.parametrize("eps_error", [1e4, 1e5, 1e300])
@pytest.mark.parametrize(
    "process",
    [
        dp_sgd(noise_multiplier=0.03, sample_rate=0.5, steps=1),
        dp_sgd(noise_multiplier=1.0, sample_rate=0.5, steps=30),
        Gaussian(noise_multiplier=0.01),
        Laplace(noise_multiplier=0.001),
    ],
)
def test_an_eps_error_beyond_all_exponentials_is_refused(process, eps_error):
    with pytest.raises(NumericalFailure, match="Lower eps_error"):
        PRV(eps_error=eps_error).profile(process, adjacency=ADD_REMOVE).epsilon(1e-5)
