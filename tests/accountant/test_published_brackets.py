"""Brackets of known cases: by a tilted FFT and a contour integral elsewhere, by closed forms, by other libraries."""

import math

import pytest

from accountant import calibrate_noise_multiplier, dp_sgd, epsilon_bounds
from accountant.pld import PLD
from mechanisms import Adjacency, Bounds, Compose, Gaussian, RandomizedResponse, Repeat

HEADLINES = [
    (1.1, 0.01, 10_000, 1e-5, 5.192583446),
    (0.8, 256 / 60_000, 14_062, 1e-5, 4.549838726),
    (4.0, 0.01, 10_000, 1e-5, 0.946866801),
]
# (σ, q, T, δ, lower, upper) of reference brackets that were computed by other programs.
REFERENCES = [
    (1.1, 0.01, 10_000, 1e-15, 9.89865901, 9.89866254),
    (1.1, 0.01, 10_000, 1e-30, 14.6916819, 14.6916864),
    (1.1, 0.01, 10_000, 1e-10, 7.84949019, 7.84949318),
    (1.1, 0.01, 1, 1e-5, 0.142290687, 0.142290689),
    (1.0, 0.001, 100_000, 1e-6, 1.86104272, 1.86105694),
    (0.5, 0.01, 1_000, 1e-5, 13.360824, 13.3608241),
    (0.3, 0.01, 100, 1e-5, 26.8347144, 26.8347146),
    (50.0, 0.5, 1_000, 1e-6, 1.36858506, 1.36858525),
    (100.0, 0.01, 10_000, 1e-5, 0.0272241126, 0.0272244913),
    (2.0, 1.0, 100, 1e-5, 33.1037322, 33.1037324),
    (2.0, 0.01, 1_500, 1e-15, 1.65535347172, 1.65535347173),
]


@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "truth"), HEADLINES)
def test_the_default_bracket_of_dp_sgd_holds_the_known_value_within_1e_4(noise, rate, steps, delta, truth):
    process = dp_sgd(noise_multiplier=noise, sample_rate=rate, steps=steps)
    bounds = epsilon_bounds(process, delta=delta)
    assert bounds.overlaps(Bounds(lower=truth - 5e-10, upper=truth + 5e-10))  # what is known is rounded to 1e-9
    assert bounds.width <= 1e-4 and bounds.width <= 1e-6 * bounds.upper
    assert epsilon_bounds(process, delta=delta, accountant="rdp").upper > bounds.upper


@pytest.mark.thinned(7)
@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "lower", "upper"), REFERENCES)
def test_the_bracket_overlaps_the_reference(noise, rate, steps, delta, lower, upper):
    bounds = epsilon_bounds(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta, accountant="pld")
    assert bounds.lower <= upper and lower <= bounds.upper
    assert bounds.width <= 1e-4 * max(bounds.upper, 1.0)


TEN_ANSWERS = 10 * math.log(3) + math.log1p(-1e-5 / 0.75**10)  # only the largest loss, of mass p^10, lies above it


def test_ten_randomised_responses_cost_the_same_listed_and_repeated():
    answer = RandomizedResponse(epsilon=math.log(3))
    assert round(TEN_ANSWERS, 6) == 10.985945
    listed, repeated = Compose((answer,) * 10), Repeat(answer, 10)
    for process in (listed, repeated):
        pure = epsilon_bounds(process, delta=0.0, adjacency="replace_one")
        assert pure.contains(10 * math.log(3)) and pure.width < 1e-12
        assert epsilon_bounds(process, delta=1e-5, adjacency="replace_one").contains(TEN_ANSWERS)
        assert epsilon_bounds(process, delta=1e-5, adjacency="replace_one", accountant="pld").contains(TEN_ANSWERS)
    assert epsilon_bounds(listed, delta=1e-5, adjacency="replace_one") == epsilon_bounds(
        repeated, delta=1e-5, adjacency="replace_one"
    )


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 3.0, 6.0, 9.0, 10.5])
def test_randomised_responses_are_bracketed_around_the_binomial_sum(epsilon):
    """δ(ε) = Σ_k C(n, k) p^k r^{n−k} (1 − e^{ε − (2k − n) ε₀})₊ for answers to two categories."""
    n, single = 10, math.log(3)
    p = math.exp(single) / (1 + math.exp(single))
    exact = math.fsum(
        math.comb(n, k) * p**k * (1 - p) ** (n - k) * max(0.0, 1 - math.exp(epsilon - (2 * k - n) * single))
        for k in range(n + 1)
    )
    profile = PLD().profile(Repeat(RandomizedResponse(epsilon=single), n), adjacency=Adjacency.REPLACE_ONE)
    bounds = profile.delta(epsilon)
    assert bounds.lower * (1 - 1e-12) <= exact <= bounds.upper * (1 + 1e-12)
    assert bounds.width <= 0.05 * exact + 1e-9


@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-12, 1e-30, 1e-60])
@pytest.mark.parametrize("noise", [0.3, 1.0, 20.0])
def test_gaussians_are_bracketed_around_their_closed_form(noise, delta):
    process = Repeat(Gaussian(noise_multiplier=noise), 7)
    exact = epsilon_bounds(process, delta=delta, accountant="gdp")
    bounds = epsilon_bounds(process, delta=delta, accountant="pld")
    assert bounds.lower <= exact.upper and exact.lower <= bounds.upper
    assert bounds.width <= 2e-5 * exact.upper + 1e-9


def test_calibrated_dp_sgd_keeps_its_promise_and_a_little_less_noise_does_not():
    noise = calibrate_noise_multiplier(target_epsilon=4.0, delta=1e-5, sample_rate=0.5, steps=100)
    kept = epsilon_bounds(noise_multiplier=noise, sample_rate=0.5, steps=100, delta=1e-5)
    broken = epsilon_bounds(noise_multiplier=noise * (1 - 1e-4), sample_rate=0.5, steps=100, delta=1e-5)
    assert kept.upper <= 4.0 < broken.lower
