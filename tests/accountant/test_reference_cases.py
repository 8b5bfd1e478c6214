"""More brackets of known cases, made by other programs: unusual noise, mixed steps, pure mechanisms, tiny δ."""

import math

import pytest

from accountant import delta_bounds, dp_sgd, epsilon_bounds
from accountant.pld import PLD
from mechanisms import Adjacency, Compose, Gaussian, RandomizedResponse, Repeat

# (σ, q, T, δ, lower, upper, width allowed relative to ε)
SAMPLED = [
    (0.1, 0.01, 10, 1e-5, 160.18124675263354, 160.18124676612874, 1e-4),
    (0.7, 0.9, 100, 1e-5, 142.80905045554766, 142.80905061795846, 1e-4),
    (2.5, 0.012788340630066182, 18_000, 8e-7, 3.4031659021744733, 3.4031675425406807, 1e-4),
    (10.0, 0.1, 10**6, 1e-6, 97.04715873263251, 97.04761890856372, 1e-3),
    (20.0, 0.05, 10**7, 1e-6, 68.1072004502189, 68.10799958540018, 1e-2),
    (1.0, 1e-5, 10**6, 1e-12, 0.08071931974068391, 0.08077504936089801, 10.0),
]


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "lower", "upper", "width"), SAMPLED[:-1])
def test_the_bracket_of_sampled_gaussians_overlaps_the_reference(noise, rate, steps, delta, lower, upper, width):
    claim = epsilon_bounds(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta, accountant="pld")
    assert claim.lower <= upper and lower <= claim.upper
    assert claim.width <= width * claim.upper


def test_even_a_coarse_bracket_of_very_rare_sampling_overlaps_the_reference():
    noise, rate, steps, delta, lower, upper, width = SAMPLED[-1]
    process = dp_sgd(noise_multiplier=noise, sample_rate=rate, steps=steps)
    claim = PLD(relative_width=1e-2, most_points=2**16).profile(process, adjacency=Adjacency.ADD_REMOVE).epsilon(delta)
    assert claim.lower <= upper and lower <= claim.upper
    assert claim.width <= width


# (σ, T, δ, ε) to 16 digits, from the closed form in 60
GAUSSIANS = [
    (1.0, 1, 1e-5, 4.3771780956812245),
    (5.0, 1000, 1e-6, 49.31927666069618),
    (1.0, 1, 1e-15, 8.165579695504254),
    (100.0, 1, 1e-5, 0.027219419814577137),
    (0.02, 1, 1e-5, 1462.2850159647799),
    (1000.0, 1, 1e-3, 0.0),
]


@pytest.mark.parametrize(("noise", "times", "delta", "epsilon"), GAUSSIANS)
def test_gaussians_are_exact_to_eleven_digits(noise, times, delta, epsilon):
    claim = epsilon_bounds(Repeat(Gaussian(noise_multiplier=noise), times), delta=delta)
    ulps = 4 * math.ulp(epsilon)
    assert claim.lower <= epsilon + ulps and epsilon - ulps <= claim.upper
    assert claim.width <= 1e-11 * epsilon and claim.method == "gdp"


def test_a_binomial_of_a_hundred_responses_is_bracketed_at_the_sum_over_answers():
    process = Repeat(RandomizedResponse(epsilon=0.5), 100)
    at = 12.0
    p = math.exp(0.5) / (1 + math.exp(0.5))
    truth = math.fsum(
        math.comb(100, k) * p**k * (1 - p) ** (100 - k) * max(0.0, 1 - math.exp(at - (2 * k - 100) * 0.5))
        for k in range(101)
    )
    claim = delta_bounds(process, epsilon=at, adjacency="replace_one")
    assert claim.lower * (1 - 1e-12) <= truth <= claim.upper * (1 + 1e-12)


def test_three_kinds_of_steps_overlap_the_reference():
    kinds = ((1.5, 0.01, 500), (0.8, 0.02, 300), (3.0, 0.1, 200))
    process = Compose(tuple(dp_sgd(noise_multiplier=s, sample_rate=q, steps=t) for s, q, t in kinds))
    claim = epsilon_bounds(process, delta=1e-6)
    assert claim.lower <= 5.062375330429495 and claim.upper >= 5.062375118964022
    assert claim.width <= 2e-4


PUBLISHED_DIGITS = [(2080, 1.9423198259870), (2467, 2.1128178777712), (4500, 2.8514636235030)]


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("steps", "epsilon"), PUBLISHED_DIGITS)
def test_published_saddle_point_values_at_delta_1e_15_lie_in_the_bracket(steps, epsilon):
    """σ = 2, q = .01: 14 digits of Alghamdi et al., ICML 2023."""
    claim = epsilon_bounds(noise_multiplier=2.0, sample_rate=0.01, steps=steps, delta=1e-15, accountant="pld")
    assert claim.contains(epsilon) and claim.width <= 1e-4


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("noise", "delta", "epsilon"), [(2.0, 1e-6, 2.446734047), (2.0, 1e-5, 2.162704603), (1.0, 1e-6, 6.907422808)]
)
def test_published_fourier_accountant_values_lie_within_their_digits_of_the_bracket(noise, delta, epsilon):
    """q = .01, T = 10,000: Koskela, Jälkö, Honkela 2020, whose values are estimates to about five digits."""
    claim = epsilon_bounds(noise_multiplier=noise, sample_rate=0.01, steps=10_000, delta=delta, accountant="pld")
    assert claim.lower * (1 - 1e-5) <= epsilon <= claim.upper * (1 + 1e-5)


@pytest.mark.parametrize("accountant", ["rdp", "basic"])
def test_upper_bounds_lie_above_the_reference(accountant):
    for noise, rate, steps, delta, lower, *_ in SAMPLED:
        claim = epsilon_bounds(
            noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta, accountant=accountant
        )
        assert claim.upper >= lower and claim.lower == 0.0


@pytest.mark.parametrize(("noise", "steps", "mironov"), [(1.13, 1600, 19.7357), (8.83, 1600, 2.0449)])
def test_the_older_conversion_gives_the_published_values_of_tree_aggregation(noise, steps, mironov):
    """ρ = ⌈log₂(T + 1)⌉ releases at δ = 1e-6: 19.74 and 2.04 in Kairouz et al. 2021."""
    from accountant.rdp import RDP

    releases = Repeat(Gaussian(noise_multiplier=noise), math.ceil(math.log2(steps + 1)))
    found = {
        conversion: RDP(conversion=conversion).profile(releases, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-6).upper
        for conversion in ("mironov", "cks")
    }
    assert found["mironov"] == pytest.approx(mironov, rel=2e-3)
    assert found["cks"] < found["mironov"]
