"""One step on a grid: above the truth and below it, at every ε, whatever the pair."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant.core.bins import coarsened, gridded
from mechanisms import Gaussian, Poisson, RandomizedResponse, Sampled
from mechanisms.core.bounds import Bounds
from tests.reference.truth import SampledAdd, SampledRemove, Table, delta, sampled_gaussian
from tests.strategies import ADD_REMOVE, REPLACE_ONE, Tabulated, tables

EPSILONS = (-8.0, -1.0, -0.2, -1e-3, 0.0, 1e-3, 0.1, 0.377, 1.0, 2.5, 6.0, 15.0)


def above(step, epsilon):
    """δ(ε) of the masses that dominate, errors of the edges included."""
    x = step.grid.points
    return step.lost + math.fsum(step.above * np.maximum(-np.expm1(np.minimum(epsilon - step.shift - x, 0.0)), 0.0))


def below(step, infinite, epsilon):
    """The best test on the index of the bin."""
    q = step.q * np.exp(epsilon - step.grid.points)
    return infinite + max(0.0, float(np.max(np.cumsum((step.p - q)[::-1]))))


def laws():
    for sigma, chance in ((0.4, 1.0), (1.0, 0.3), (1.1, 0.01), (6.0, 0.9)):
        pairs = Sampled(Gaussian(noise_multiplier=sigma), Poisson(probability=chance)).pairs(ADD_REMOVE)
        for direction, pair in pairs.items():
            yield f"{sigma}-{chance}-{direction}", pair, sampled_gaussian(sigma, chance, direction)
    p, q = (mp.e / (mp.e + 2), 1 / (mp.e + 2), 1 / (mp.e + 2)), (1 / (mp.e + 2), mp.e / (mp.e + 2), 1 / (mp.e + 2))
    yield "response", RandomizedResponse(epsilon=1.0, categories=3).pairs(REPLACE_ONE)["replace"], Table(p, q)


with mp.workdps(40):
    LAWS = {name: (pair, law) for name, pair, law in laws()}


@pytest.mark.parametrize("size", [0.5, 0.013, 2e-4])
@pytest.mark.parametrize("name", LAWS)
def test_the_gridded_step_lies_above_and_below_the_truth_at_every_epsilon(name, size):
    pair, law = LAWS[name]
    step = gridded(pair, coarsened(size), pair.loss_range(1e-30))
    with mp.workdps(40):
        for epsilon in EPSILONS:
            truth = float(delta(law, mp.mpf(epsilon)))
            assert below(step, 0.0, epsilon) * (1 - 1e-12) <= truth <= above(step, epsilon) * (1 + 1e-12) + 1e-16


@pytest.mark.parametrize("name", LAWS)
def test_a_fine_grid_is_close_to_the_truth_on_either_side(name):
    pair, _ = LAWS[name]
    step = gridded(pair, coarsened(2e-4), pair.loss_range(1e-30))
    for epsilon in EPSILONS:
        gap = above(step, epsilon) - below(step, 0.0, epsilon)
        # At an atom δ has a kink, where connecting the dots errs by up to a quarter of the step times its mass.
        assert gap <= (step.grid.step / 4 if name == "response" else 2e-7)


@pytest.mark.parametrize("name", LAWS)
def test_halving_the_grid_does_not_raise_what_lies_above(name):
    pair, _ = LAWS[name]
    coarse, fine = (gridded(pair, size, pair.loss_range(1e-30)) for size in (2.0**-5, 2.0**-6))
    for epsilon in EPSILONS:
        assert above(fine, epsilon) <= above(coarse, epsilon) * (1 + 1e-12) + 1e-15


@given(tables(), st.floats(0.05, 0.95), st.sampled_from((0.5, 0.01)))
def test_tables_with_infinite_losses_are_enclosed_sampled_or_not(table, chance, size):
    p, q = [mp.mpf(x) for x in table.p], [mp.mpf(x) for x in table.q]
    sampled = Sampled(table, Poisson(probability=chance)).pairs(ADD_REMOVE)
    plain = table.pairs(ADD_REMOVE)
    cases = [
        (plain["remove"], Table(p, q)),
        (plain["add"], Table(q, p)),
        (sampled["remove"], SampledRemove(Table(p, q), mp.mpf(chance))),
        (sampled["add"], SampledAdd(Table(q, p), mp.mpf(chance))),
    ]
    for pair, law in cases:
        step = gridded(pair, coarsened(size), pair.loss_range(1e-30))
        for epsilon in EPSILONS:
            truth = float(delta(law, mp.mpf(epsilon)))
            least = below(step, pair.infinite_mass.lower, epsilon)
            assert least * (1 - 1e-12) <= truth + 1e-16 and truth <= above(step, epsilon) * (1 + 1e-12) + 1e-16


@pytest.mark.parametrize("name", LAWS)
def test_masses_above_sum_to_one_with_what_was_lost(name):
    step = gridded(LAWS[name][0], coarsened(0.013), LAWS[name][0].loss_range(1e-30))
    assert math.fsum(step.above) + step.lost == pytest.approx(1.0, abs=1e-9)
    assert (step.above >= 0).all() and (step.p >= 0).all() and (step.q >= 0).all()


@given(st.floats(1e-300, 1e300))
def test_a_coarsened_step_has_exact_multiples_and_is_hardly_smaller(size):
    step = coarsened(size)
    assert size * (1 - 2.0**-19) <= step <= size
    assert math.frexp(step)[0] * 2**20 == int(math.frexp(step)[0] * 2**20)


def test_the_pair_of_a_table_tells_all_where_an_outcome_is_impossible():
    pair = Tabulated(p=(0.5, 0.5), q=(0.0, 1.0)).pairs(ADD_REMOVE)["remove"]
    step = gridded(pair, 0.25, pair.loss_range(1e-30))
    assert 0.5 <= step.lost <= 0.5 + 1e-12
    assert pair.delta(Bounds.exact(5.0)).contains(0.5)
