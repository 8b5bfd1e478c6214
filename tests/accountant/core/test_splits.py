"""Splits: what is read off a pair holds for it, and the two losses that are made of it dominate it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant.core.base import dominating
from accountant.core.splits import FEW_KINDS, Splits, total
from accountant.core.two_losses import sum_of
from mechanisms import ApproximateDP, Bounds, Compose, Gaussian, Laplace, Poisson, PureDP, Repeat, Sampled
from mechanisms.core.bounds import log1p
from tests.strategies import ADD_REMOVE, steps

EPSILONS = np.array([0.0, 1e-3, 0.02, 0.1, 0.5, 1.0, 3.0, 12.0])


def composed(split, epsilons):
    """δ of one run of every step, each taken for its two losses."""
    left = (Bounds.exact(epsilons) - split.offset).lower
    upper = np.clip(sum_of(split.kinds, above=True).upper(left), 0.0, 1.0)
    return split.delta(Bounds(lower=np.zeros_like(upper), upper=upper)).upper


@given(steps(ADD_REMOVE), st.data())
def test_the_two_losses_of_a_step_dominate_it(step, data):
    for parts in dominating(step, ADD_REMOVE).values():
        found = Splits.of(parts)
        level = data.draw(st.integers(0, found.up.shape[1] - 1))
        shift = data.draw(st.integers(0, found.down.shape[1] - 1))
        truth = parts[0][0].delta(Bounds.exact(EPSILONS))
        assert np.all(truth.lower <= composed(found.chosen(level, shift), EPSILONS))


@given(steps(ADD_REMOVE))
def test_what_is_read_off_a_pair_is_its_delta_in_both_orders(step):
    for ((pair, _),) in dominating(step, ADD_REMOVE).values():
        found = Splits.of(((pair, 3),))
        ahead = pair.delta(Bounds.exact(found.up[0]))
        back = pair.reverse().delta(Bounds.exact(found.down[0]))
        beyond, behind = found.up[0] >= pair.supremum.upper, found.down[0] >= pair.reverse().supremum.upper
        assert np.all((ahead.lower <= found.lost[0]) & ((found.lost[0] <= ahead.upper) | beyond))
        assert np.all((back.lower <= found.missing[0]) & ((found.missing[0] <= back.upper) | behind))


@pytest.mark.parametrize("delta", [0.0, 1e-300, 1e-9, 0.3, 1.0])
@pytest.mark.parametrize("epsilon", [0.0, 1e-300, 0.5, 1e5, 1e200])
def test_a_guarantee_is_split_into_itself(epsilon, delta):
    guarantee = ApproximateDP(epsilon=epsilon, delta=delta, adjacency="add_remove")
    split = Splits.of(dominating(guarantee, ADD_REMOVE)["add"]).chosen(-1, -1)
    assert split.lost.contains(delta) and split.lost.width <= 1e-12 * delta + 1e-320
    assert delta == 1.0 or (split.u[0] == split.v[0] and abs(split.u[0] - epsilon) <= 1e-14 * epsilon + 5e-324)


def test_mass_that_only_the_other_law_has_costs_epsilon_and_no_delta():
    gaussian = Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.1))
    found = Splits.of(dominating(Repeat(gaussian, 50), ADD_REMOVE)["remove"])
    one, other = found.chosen(60, -1), found.chosen(60, 4)
    assert found.missing[0, 4] > 100 * found.missing[0, -1]
    assert one.lost == other.lost
    difference = 50.0 * (log1p(Bounds.exact(-found.missing[0, -1])) - log1p(Bounds.exact(-found.missing[0, 4])))
    assert (other.offset - one.offset).overlaps(difference) and difference.lower > 0


def test_drift_and_chance_are_those_of_randomised_response():
    split = Splits.of(dominating(Repeat(PureDP(epsilon=0.5, adjacency="add_remove"), 7), ADD_REMOVE)["add"]).chosen(
        -1, -1
    )
    assert abs(split.drift.upper - 7 * 0.5 * np.tanh(0.25)) <= 1e-13 and split.drift.width <= 1e-13
    assert abs(split.chance.upper[0] - 1 / (1 + np.exp(-0.5))) <= 1e-14


def test_rough_values_are_those_of_the_certified_splits():
    process = Compose((Repeat(Gaussian(noise_multiplier=3.0), 4), Laplace(noise_multiplier=2.0)))
    found = Splits.of(dominating(process, ADD_REMOVE)["remove"])
    for level, shift in ((20, 3), (90, 10), (160, 0)):
        split = found.chosen(level, shift)
        assert abs(found.rough.drift[level, shift] - split.drift.upper) <= 1e-12 * split.drift.upper
        assert abs(found.rough.lost[level, shift] - split.lost.upper) <= 1e-12
        assert abs(found.rough.offset[level, shift] - split.offset.upper) <= 1e-12


def test_long_lists_are_split_with_fewer_levels():
    parts = [Laplace(noise_multiplier=2.0 + k) for k in range(FEW_KINDS + 1)]
    few, many = (Splits.of(dominating(Compose(tuple(parts[:n])), ADD_REMOVE)["add"]) for n in (2, len(parts)))
    assert many.up.shape[1] < few.up.shape[1] / 3 and many.up[:, -1].tolist() == pytest.approx(
        [1 / (2.0 + k) for k in map(lambda k: parts.index(k), sorted(parts, key=repr))]
    )


def test_a_sum_that_leaves_the_floats_is_enclosed_by_everything():
    assert total(Bounds.exact(np.array([1e308, 1e308]))) == Bounds(lower=-np.inf, upper=np.inf)
    assert total(Bounds.exact(np.array([0.1, 0.2]))).contains(0.30000000000000004)
