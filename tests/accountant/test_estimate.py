"""Estimates are another type than bounds, and only who has one gives one."""

import pytest

from accountant import available, compute_epsilon, estimate_epsilon
from mechanisms import Gaussian, InvalidParameter, RandomizedResponse, Repeat, UnsupportedProcess


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "published"), [(0.5, 0.01, 1000, 11.99), (0.95215, 256 / 60_000, 14_062, 3.0)]
)
def test_the_central_limit_gives_what_other_programs_give(noise, rate, steps, published):
    found = estimate_epsilon(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=1e-5)
    assert found.method == "gdp" and abs(found.value - published) < 0.01
    assert not hasattr(found, "upper")


def test_the_estimate_of_gaussians_is_exact():
    process = Repeat(Gaussian(noise_multiplier=3.0), 7)
    assert estimate_epsilon(process, delta=1e-6).value == pytest.approx(compute_epsilon(process, delta=1e-6), rel=1e-9)


@pytest.mark.parametrize("name", [name for name in available() if name != "gdp"])
def test_accountants_that_certify_do_not_estimate(name):
    with pytest.raises(UnsupportedProcess, match="does not estimate"):
        estimate_epsilon(Gaussian(noise_multiplier=1.0), delta=1e-5, accountant=name)


def test_what_has_no_central_limit_here_is_refused():
    with pytest.raises(UnsupportedProcess, match="DiscretePair"):
        estimate_epsilon(RandomizedResponse(epsilon=1.0), delta=1e-5, adjacency="replace_one")
    with pytest.raises(InvalidParameter, match="delta"):
        estimate_epsilon(Gaussian(noise_multiplier=1.0), delta=2.0)
