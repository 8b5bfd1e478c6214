"""Opposite records on Poisson samples of Laplace steps: against sums over outcomes, and between what was known."""

import math

import numpy as np
import pytest

from accountant import delta_bounds, epsilon_bounds
from accountant.pld import PLD
from mechanisms import DiscreteLaplace, FixedSize, Laplace, Poisson, Repeat, Sampled
from mechanisms.core.bounds import Bounds
from mechanisms.core.opposed_records import opposed_discrete, opposed_laplace
from tests.strategies import ADD_REMOVE, REPLACE_ONE

EPSILONS = (0.0, 0.02, 0.1, 0.4, 1.0)
ROUGH = PLD(relative_width=1e-3, most_points=2**15)


def laws(mechanism, chance):
    """Both laws on outcomes: all integers that matter, or a fine grid."""
    if isinstance(mechanism, DiscreteLaplace):
        z, s, rate = np.arange(-400, 401), mechanism.sensitivity, 1 / mechanism.noise_multiplier / mechanism.sensitivity
        noise = [math.tanh(rate / 2) * np.exp(-rate * np.abs(z - k * s)) for k in (-1, 0, 1)]
    else:
        z, s = np.linspace(-60, 60, 1_200_001), 1 / mechanism.noise_multiplier
        noise = [np.exp(-np.abs(z - k * s)) / 2 * (z[1] - z[0]) for k in (-1, 0, 1)]
    return (1 - chance) * noise[1] + chance * noise[2], (1 - chance) * noise[1] + chance * noise[0]


STEPS = [
    DiscreteLaplace(noise_multiplier=3.78),
    DiscreteLaplace(noise_multiplier=0.5, sensitivity=3),
    Laplace(noise_multiplier=1.0),
    Laplace(noise_multiplier=8.0),
]


@pytest.mark.parametrize("chance", [0.5, 0.01])
@pytest.mark.parametrize("mechanism", STEPS)
def test_opposite_records_show_the_witness_and_no_more_than_the_pair(mechanism, chance):
    pairs = Sampled(mechanism, Poisson(probability=chance)).pairs(REPLACE_ONE)
    p, q = laws(mechanism, chance)
    for epsilon in EPSILONS:
        truth, point = float(np.maximum(p - math.exp(epsilon) * q, 0).sum()), Bounds.exact(epsilon)
        found = pairs["witness_reversed"].delta(point)
        assert found.lower <= truth + 1e-9 and found.upper == pytest.approx(truth, rel=1e-3, abs=1e-9)
        assert pairs["witness"].delta(point).lower <= found.upper + 1e-15
        assert found.lower <= pairs["replace"].delta(point).upper
    assert found.lower <= pairs["witness_reversed"].reverse().delta(point).upper + 1e-15  # mirror images of each other


def test_at_epsilon_0_the_bracket_of_one_step_is_closed_and_of_several_narrower_than_it_was():
    step = Sampled(DiscreteLaplace(noise_multiplier=3.78), Poisson(probability=0.5))
    none = delta_bounds(step, epsilon=0.0, adjacency="replace_one", accountant=ROUGH)
    assert none.lower == pytest.approx(none.upper, rel=1e-4)
    assert epsilon_bounds(step, delta=0.0014, adjacency="replace_one", accountant=ROUGH).lower > 0.26  # it was .138
    runs = delta_bounds(Repeat(step, 10), epsilon=0.5, adjacency="replace_one", accountant=ROUGH)
    assert 0.8 * runs.upper < runs.lower <= runs.upper


def test_a_batch_of_fixed_size_around_such_a_sample_keeps_records_that_are_alike():
    """All others hold what the second record does there, which opposite records were not seen beside."""
    inner = Sampled(Laplace(noise_multiplier=1.0), Poisson(probability=0.5))
    witness = Sampled(inner, FixedSize(batch_size=1, records=4)).pairs(REPLACE_ONE)["witness"]
    assert witness.probability == pytest.approx(0.125, rel=1e-15) and witness.attained
    assert witness.base == Laplace(noise_multiplier=1.0).pairs(ADD_REMOVE)["remove"]


def test_noise_too_small_or_too_large_for_the_digits_has_no_such_witness():
    for noise in (0.0, 0.01, 1e10):
        assert opposed_laplace(noise, 0.5) is None and opposed_discrete(noise, 1, 0.5) is None
    assert opposed_discrete(1.0, 1000, 0.5) is None and opposed_laplace(1.0, 1.0) is None
