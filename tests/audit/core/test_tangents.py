import numpy as np
import pytest

from audit.core.described import SampledGaussianRun
from audit.core.tangents import BEND, LAST, SIDES, Tangents, lines
from mechanisms import Gaussian

RUN = SampledGaussianRun(noise_multiplier=0.7, probability=0.5, steps=1).process()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("process", [RUN, Gaussian(noise_multiplier=0.5)], ids=["sampled", "one step"])
def test_the_line_that_is_found_is_the_best_of_all(process, side):
    tangents, share = Tangents.of(process), 1.0 if side == "either" else 0.5
    losses = tangents._farthest * np.linspace(0, 1, LAST + 1) ** BEND
    slopes, heights = lines(losses, tangents.removing.delta(losses).upper, tangents.adding.delta(losses).upper, side)
    right = np.concatenate([np.geomspace(1e-9, 1e-2, 30), np.linspace(0.01, 1.0, 50)]) * share
    found = np.array([tangents.curve(side)(one) for one in right])
    best = np.maximum(0.0, np.max(slopes * right[:, None] + heights, axis=1))
    assert found == pytest.approx(best, rel=1e-8, abs=1e-9)
    assert np.count_nonzero(best) > 40


def test_profiles_are_asked_at_few_losses_for_what_one_search_looks_at():
    tangents = Tangents.of(SampledGaussianRun(noise_multiplier=0.8, probability=0.5, steps=1).process())
    least_wrong = tangents.curve("either")
    for right in np.linspace(0.05, 0.1, 50):
        least_wrong(right)
    assert 1 < len(tangents._deltas) < LAST / 2


def test_a_run_that_loses_nothing_leaves_the_guesses_of_coins():
    curve = Tangents.of(Gaussian(noise_multiplier=1e9)).curve("either")
    assert [curve(right) for right in (0.0, 0.3, 1.0)] == pytest.approx([0.0, 0.3, 1.0], abs=1e-8)
