"""The Rényi bound of fixed-size samples: published values, an explicit pair of neighbours below, and its limits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from mechanisms import Adjacency, Gaussian, InvalidParameter, Laplace, PureDP
from mechanisms.core.fixed_size_renyi import LARGEST_ORDER, fixed_size_bound
from mechanisms.core.renyi import PairDivergence

REPLACE_ONE, ADD_REMOVE = Adjacency.REPLACE_ONE, Adjacency.ADD_REMOVE


def step(mechanism, adjacency=REPLACE_ONE):
    return PairDivergence(pair=next(iter(mechanism.pairs(adjacency).values())))


# Values of Theorem 9 of [WBK19]: with the replaced sensitivity, twice the norm of a record, and with the norm itself,
# which peers that call it replace-one use: up to 5.5 times too small.
PUBLISHED = [
    (2.0, 2, 0.0005435086381093816, 0.00011360371352876478),
    (2.0, 8, 0.002684165012688916, 0.0004883930419623885),
    (5.0, 16, 0.0006790697906432655, 0.00021759916505064884),
]


@pytest.mark.parametrize(("noise", "order", "replaced", "single"), PUBLISHED)
def test_the_theorem_is_evaluated_as_published(noise, order, replaced, single):
    gaussian = Gaussian(noise_multiplier=noise)
    for adjacency, value in ((REPLACE_ONE, replaced), (ADD_REMOVE, single)):
        bound = fixed_size_bound(base=step(gaussian, adjacency), batch_size=1, records=100)
        assert bound.divergence(float(order)) == pytest.approx(value, rel=1e-11)


def test_losses_with_a_bound_take_the_other_sides_of_the_minima():
    epsilon, rate = 0.2, 0.05
    base = step(PureDP(epsilon=epsilon, adjacency="replace_one"))
    bound = fixed_size_bound(base=base, batch_size=5, records=100).divergence(3.0)
    with mp.workdps(30):
        two, three = (mp.mpf(base.divergence(order)) for order in (2.0, 3.0))
        odds = mp.expm1(epsilon)
        square = rate**2 * 3 * min(4 * mp.expm1(two), mp.exp(two) * min(2, odds**2))
        expected = mp.log1p(square + mp.mpf(rate) ** 3 * mp.exp(2 * three) * min(2, odds**3)) / 2
    assert expected <= bound <= expected * (1 + 1e-12)


@given(st.sampled_from((0.7, 1.0, 3.0)), st.sampled_from((2.0, 3.0, 6.0)), st.integers(1, 40))
def test_no_neighbours_of_gaussian_noise_show_more(noise, order, batch):
    """All others contribute −1 and the replaced record +1 or −1: half as much noise, Poisson-sampled or so."""
    rate = batch / 50
    bound = fixed_size_bound(base=step(Gaussian(noise_multiplier=noise)), batch_size=batch, records=50)
    moment = next(iter(Gaussian(noise_multiplier=noise / 2).pairs(ADD_REMOVE).values())).log_mixture_moment
    if rate < 1:
        assert bound.divergence(order) >= moment(rate, order).lower / (order - 1)


@given(st.floats(1.0001, 40.0), st.floats(1.0001, 40.0))
def test_the_bound_rises_with_the_order_and_never_exceeds_the_base(one, other):
    base = step(Gaussian(noise_multiplier=2.0))
    bound = fixed_size_bound(base=base, batch_size=3, records=100)
    low, high = sorted((one, other))
    assert bound.divergence(low) <= bound.divergence(high) * (1 + 1e-12)
    assert bound.divergence(high) <= base.divergence(high)


def test_whole_batches_empty_ones_and_large_orders_need_no_theorem():
    base = step(Gaussian(noise_multiplier=2.0))
    assert fixed_size_bound(base=base, batch_size=9, records=9).divergence(3.0) == base.divergence(3.0)
    assert fixed_size_bound(base=base, batch_size=0, records=9).divergence(3.0) == 0.0
    far = fixed_size_bound(base=base, batch_size=1, records=9)
    assert far.divergence(LARGEST_ORDER + 1.0) == base.divergence(LARGEST_ORDER + 1.0)
    assert far.divergence(math.inf) == math.inf
    assert fixed_size_bound(base=step(Gaussian(noise_multiplier=0.0)), batch_size=1, records=9).divergence(2.5) == (
        math.inf
    )


def test_many_orders_are_those_one_by_one():
    bound = fixed_size_bound(base=step(Laplace(noise_multiplier=3.0)), batch_size=2, records=30)
    orders = np.array([1.5, 2.0, 7.25, 200.0, 1000.5])
    assert np.array_equal(bound.divergences(orders), [bound.divergence(float(order)) for order in orders])


@pytest.mark.parametrize(
    ("counts", "rule"),
    [
        ({"batch_size": 11, "records": 10}, "batch_size must be at most records"),
        ({"batch_size": -1, "records": 10}, "batch_size must"),
        ({"batch_size": 0.5, "records": 10}, "batch_size must"),
        ({"batch_size": 0, "records": 0}, "records must"),
    ],
)
def test_counts_that_are_none_are_refused(counts, rule):
    with pytest.raises(InvalidParameter, match=rule):
        fixed_size_bound(base=step(Gaussian(noise_multiplier=1.0)), **counts)
