"""The Rényi bound of symmetric noise on Poisson samples: sampled normals, whole lattices summed up, and its limits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from accountant import compute_epsilon
from mechanisms import ZCDP, Adjacency, DiscreteGaussian, Gaussian, Poisson, Repeat, Sampled, UnsupportedProcess
from mechanisms.core.fixed_size_renyi import LARGEST_ORDER
from mechanisms.core.poisson_renyi import PoissonRenyi
from mechanisms.core.renyi import MirroredDivergence

ADD_REMOVE, ZERO_OUT, REPLACE_ONE = Adjacency.ADD_REMOVE, Adjacency.ZERO_OUT, Adjacency.REPLACE_ONE
LONGEST = 5
MOVES = [(5, 0), (-5, 0), (3, 4), (-3, -4), (2, 2), (0, -1), (0, 0)]


def lattice(move, sigma):
    """Return the logarithms of N_Z²(move, σ²) on all points that matter, up to one constant."""
    axis = np.arange(-60, 61)
    x, y = np.meshgrid(axis, axis)
    return -((x - move[0]) ** 2 + (y - move[1]) ** 2) / (2 * sigma**2)


def mixed(logs, none, q):
    return np.logaddexp(np.log1p(-q) + none, math.log(q) + logs)


def divergence(p, q, order):
    """Return D_order of two laws on the same points by their sums."""
    p, q = p - np.logaddexp.reduce(p, axis=None), q - np.logaddexp.reduce(q, axis=None)
    return float(np.logaddexp.reduce(order * p + (1 - order) * q, axis=None)) / (order - 1)


def step(noise, q, dimension=2):
    return Sampled(
        DiscreteGaussian(noise_multiplier=noise, sensitivity=LONGEST, dimension=dimension), Poisson(probability=q)
    )


@given(
    st.sampled_from((0.5, 1.0, 2.0)),
    st.sampled_from((0.001, 0.1, 0.6, 0.99)),
    st.floats(1.01, 12.0),
    st.sampled_from(MOVES),
    st.sampled_from(MOVES),
)
def test_no_movement_on_a_lattice_shows_more(noise, q, order, move, other):
    sigma = noise * LONGEST
    none, one, two = lattice((0, 0), sigma), lattice(move, sigma), lattice(other, sigma)
    shown = divergence(mixed(one, none, q), none, order), divergence(none, mixed(one, none, q), order)
    apart = step(noise, q).renyi(ADD_REMOVE)
    assert max(shown) <= apart.divergence(order) * (1 + 1e-9) + 1e-12
    assert apart.divergence(order) == step(noise, q).renyi(ZERO_OUT).divergence(order)
    replaced = divergence(mixed(one, none, q), mixed(two, none, q), order)
    assert replaced <= step(noise, q).renyi(REPLACE_ONE).divergence(order) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(("noise", "q"), [(0.5, 0.3), (1.0, 0.01), (2.0, 0.6)])
def test_the_farthest_movement_comes_near_the_bound_at_whole_orders(noise, q):
    none, one = (lattice(move, noise * LONGEST) for move in ((0, 0), (3, 4)))
    for order in (2.0, 3.0, 7.0):
        shown = divergence(mixed(one, none, q), none, order)
        assert 0.999 < shown / step(noise, q).renyi(ADD_REMOVE).divergence(order) <= 1 + 1e-9


def test_opposite_records_of_a_rare_sample_come_near_the_bound_under_replace_one():
    q, sigma, order = 0.001, 2.0 * LONGEST, 9.0
    none, one, two = (lattice(move, sigma) for move in ((0, 0), (3, 4), (-3, -4)))
    shown = divergence(mixed(one, none, q), mixed(two, none, q), order)
    assert 0.8 < shown / step(2.0, q).renyi(REPLACE_ONE).divergence(order) <= 1.0


@pytest.mark.parametrize("q", [1e-4, 0.05, 0.7])
@pytest.mark.parametrize("noise", [0.7, 3.0])
def test_at_whole_orders_it_is_the_moment_of_sampled_normal_noise(noise, q):
    found = step(noise, q).renyi(ADD_REMOVE)
    for order in (2, 5, 40, 600):
        with mp.workdps(40):
            rho, share = 1 / (2 * mp.mpf(noise) ** 2), mp.mpf(q)
            terms = (
                mp.binomial(order, k) * (1 - share) ** (order - k) * share**k * mp.exp(k * (k - 1) * rho)
                for k in range(order + 1)
            )
            expected = mp.log(mp.fsum(terms)) / (order - 1)
            assert expected <= found.divergence(float(order)) <= expected * (1 + 1e-12)
        normal = Gaussian(noise_multiplier=noise).pairs(ADD_REMOVE)["remove"].log_mixture_moment(q, float(order))
        assert normal.lower <= found.divergence(float(order)) * (order - 1) * (1 + 1e-12)


def test_noise_that_is_not_known_to_be_symmetric_is_refused_as_the_other_direction_may_show_more():
    """P lies above the sum where P and Q have the same divergences of r = P/Q, yet none turns one into the other."""
    p, q, rate, order = np.log([0.04, 0.96]), np.log([0.08, 0.92]), 0.5, 2.0
    base = max(divergence(p, q, order), divergence(q, p, order))
    there, back = divergence(mixed(p, q, rate), q, order), divergence(q, mixed(p, q, rate), order)
    assert back > there and base > 0
    for adjacency in Adjacency:
        with pytest.raises(UnsupportedProcess, match=r"Poisson: no theorem(.|\n)*for symmetric noise"):
            Sampled(ZCDP(rho=0.5, adjacency=adjacency), Poisson(probability=0.1)).renyi(adjacency)


@given(st.floats(1.0001, 40.0), st.floats(1.0001, 40.0), st.sampled_from([ADD_REMOVE, REPLACE_ONE]))
def test_the_bound_rises_with_the_order_and_never_exceeds_the_steps_own(one, other, adjacency):
    bound, whole = step(2.0, 0.2).renyi(adjacency), step(2.0, 0.2).part.renyi(adjacency)
    low, high = sorted((one, other))
    assert bound.divergence(low) <= bound.divergence(high) * (1 + 1e-12)
    assert bound.divergence(high) <= whole.divergence(high)


@pytest.mark.parametrize("adjacency", Adjacency)
def test_certainty_rarity_and_large_orders_need_no_theorem(adjacency):
    whole, orders = step(2.0, 0.3).part.renyi(adjacency), np.array([1.5, 2.0, 7.0, LARGEST_ORDER + 1.0, math.inf])
    assert np.array_equal(step(2.0, 1.0).renyi(adjacency).divergences(orders), whole.divergences(orders))
    assert not step(2.0, 0.0).renyi(adjacency).divergences(orders).any()
    assert np.array_equal(step(2.0, 0.3).renyi(adjacency).divergences(orders[3:]), whole.divergences(orders[3:]))
    assert step(0.0, 0.3).renyi(adjacency).divergence(2.0) == math.inf
    assert PoissonRenyi(base=MirroredDivergence(rho=0.0), probability=0.3).divergence(2.0) == 0.0


DEAR = pytest.param(REPLACE_ONE, 1.72, marks=pytest.mark.slow)


@pytest.mark.parametrize(("adjacency", "most"), [(ADD_REMOVE, 1.16), DEAR])
def test_a_run_costs_about_what_renyi_divergences_of_normal_noise_do(adjacency, most):
    discrete, normal = (
        Repeat(Sampled(one, Poisson(probability=0.01)), 1000)
        for one in (step(1.0, 0.01, dimension=9).part, Gaussian(noise_multiplier=1.0))
    )
    found, exact = (compute_epsilon(run, delta=1e-5, adjacency=adjacency) for run in (discrete, normal))
    assert exact < found < most * exact


@pytest.mark.parametrize("q", [0.01, 0.3])
def test_in_one_dimension_it_is_above_both_directions_of_the_pair_that_is_attained(q):
    pairs = step(1.0, q, dimension=1).pairs(ADD_REMOVE)
    for order in (1.5, 2.0, 6.25):
        bound = step(1.0, q).renyi(ADD_REMOVE).divergence(order) * (order - 1)
        there, back = (pairs[direction].log_mixture_moment(1.0, order) for direction in ("remove", "add"))
        assert 0 < back.lower <= there.upper and there.lower <= bound * (1 + 1e-12)
