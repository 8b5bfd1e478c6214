"""The tree: sensitivity against all patterns, noise as a linear map, published values."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from accountant import compute_epsilon, epsilon_bounds
from accountant.rdp import RDP
from mechanisms import (
    Adjacency,
    Compose,
    Gaussian,
    InvalidParameter,
    KeyedSource,
    Poisson,
    Repeat,
    Sampled,
    UnsupportedProcess,
    from_json,
    to_json,
)
from mechanisms import tree as module
from mechanisms.core.correlated_noise import TreeNoise
from mechanisms.tree import Tree
from tests.reference.streams import node_matrix, patterns
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT


def brute_force(steps, participations, separation):
    nodes = node_matrix(steps)
    return max(
        int((nodes[:, list(places)].sum(axis=1) ** 2).sum()) for places in patterns(steps, participations, separation)
    )


class Impulses(TreeNoise):
    """A row of white noise is the unit vector of its number, so that a row of noise is a row of the linear map."""

    def white(self, row, randomness):
        return np.eye(self.size)[row]


def node_matrix_sums(values):
    """Return the sums of the nodes, level by level."""
    ends = np.cumsum([len(values) >> level for level in range(len(values).bit_length())])[:-1]
    return np.split(node_matrix(len(values)) @ values, ends)


def noise_map(steps):
    """Return how prefix sums depend on the white noise of the nodes, shape (steps, nodes)."""
    noise, carried, rows = Impulses(size=2 * steps, scale=1.0, stream="tree"), (), []
    for step in range(steps):
        row, carried = noise.advance(step, carried, None)
        rows.append(row)
    return np.cumsum(rows, axis=0)


# Sensitivity


@given(st.integers(1, 11).flatmap(lambda t: st.tuples(st.just(t), st.integers(1, 5), st.integers(1, t))))
def test_the_programme_finds_the_largest_of_all_patterns(setting):
    steps, participations, separation = setting
    tree = Tree(noise_multiplier=1.0, steps=steps, participations=participations, separation=separation)
    assert tree.squared_sensitivity == (brute_force(*setting),) * 2


@given(st.integers(1, 11).flatmap(lambda t: st.tuples(st.just(t), st.integers(1, 5), st.integers(1, t))))
def test_where_the_programme_is_too_long_the_bound_holds_and_the_neighbours_are_real(setting):
    truth = brute_force(*setting)
    steps, participations, separation = setting
    fitting = min(participations, (steps - 1) // separation + 1)
    assert module._of_earliest(steps, fitting, separation) <= truth <= module._at_most(steps, fitting, separation)


@given(st.integers(1, 2**53))
def test_one_participation_is_in_as_many_nodes_as_published(steps):
    found = Tree(noise_multiplier=1.0, steps=steps).squared_sensitivity
    assert found == (steps.bit_length(),) * 2
    if steps < 2**40:  # beyond, the logarithm rounds
        assert found[0] == math.ceil(math.log2(steps + 1))


def test_who_takes_part_in_all_steps_fills_all_nodes():
    assert module._at_most(37, 37, 1) == int((node_matrix(37).sum(axis=1) ** 2).sum()) == module._of_earliest(37, 37, 1)


@pytest.mark.parametrize(
    ("steps", "participations", "separation"), [(2**53, 10**15, 1), (2**53, 4096, 10**9), (10**6, 5000, 3)]
)
def test_long_runs_are_bounded_in_a_moment_and_named_neighbours_stay_close(steps, participations, separation):
    tree = Tree(noise_multiplier=1.0, steps=steps, participations=participations, separation=separation)
    most, shown = tree.squared_sensitivity
    assert shown < most
    pairs = tree.pairs(ZERO_OUT)
    assert not pairs["remove"].attained and pairs["witness"].attained
    assert Fraction(pairs["remove"].shift.upper) ** 2 >= most
    bounds = epsilon_bounds(replace(tree, noise_multiplier=most**0.5), delta=1e-5, adjacency="zero_out")
    assert bounds.lower < bounds.upper


def test_where_the_bound_is_met_by_neighbours_nothing_is_lost():
    pairs = Tree(noise_multiplier=1.0, steps=2**53, participations=4000, separation=1).pairs(ZERO_OUT)
    assert set(pairs) == {"remove", "add"} and pairs["add"].attained


# Pairs


@given(st.floats(1e-6, 1e6), st.integers(1, 10**6))
def test_the_pair_is_that_of_as_many_gaussians_as_a_record_has_nodes(noise, steps):
    found = Tree(noise_multiplier=noise, steps=steps).pairs(ZERO_OUT)
    nodes = Repeat(Gaussian(noise_multiplier=noise), steps.bit_length()).pairs(ZERO_OUT)
    for direction in ("remove", "add"):
        assert found[direction].shift.overlaps(nodes[direction].shift) and found[direction].attained
        assert found[direction].shift.width <= 1e-14 * found[direction].shift.upper


def test_replaced_records_move_twice_as_far():
    tree = Tree(noise_multiplier=3.0, steps=100, participations=3, separation=20)
    once, twice = tree.pairs(ZERO_OUT)["remove"].shift, tree.pairs(REPLACE_ONE)["replace"].shift
    assert twice.overlaps(2.0 * once) and twice.width <= 1e-14 * twice.upper


def test_a_record_more_or_less_is_refused_with_what_to_use():
    with pytest.raises(UnsupportedProcess, match=r"Tree: its neighbours are zero_out or replace_one, got add_remove"):
        Tree(noise_multiplier=1.0, steps=8).pairs(ADD_REMOVE)
    with pytest.raises(UnsupportedProcess, match="Use adjacency='zero_out'"):
        compute_epsilon(Tree(noise_multiplier=1.0, steps=8), delta=1e-5)


@pytest.mark.parametrize(("noise", "attained"), [(0.0, True), (5e-324, False), (1e-310, False)])
def test_without_noise_nothing_is_protected(noise, attained):
    pair = Tree(noise_multiplier=noise, steps=8).pairs(ZERO_OUT)["remove"]
    assert pair.infinite_mass.lower == 1.0 and pair.attained == attained


@pytest.mark.parametrize("setting", [(5, 1, 1), (8, 2, 3), (11, 3, 3), (12, 4, 1)])
def test_prefix_sums_tell_no_more_than_the_pair_and_the_worst_pattern_almost_as_much(setting):
    """The squared distance of the laws of all prefix sums shown, u^T A^T Cov^{-1} A u, for every pattern u."""
    steps, participations, separation = setting
    tree = Tree(noise_multiplier=1.0, steps=steps, participations=participations, separation=separation)
    noise = noise_map(steps)
    inverse = np.linalg.inv(noise @ noise.T)
    moved = np.tril(np.ones((steps, steps)))
    found = []
    for places in patterns(steps, participations, separation):
        change = moved[:, list(places)].sum(axis=1)
        found.append(change @ inverse @ change)
    assert 0.5 * tree.squared_sensitivity[0] < max(found) <= tree.squared_sensitivity[0] * (1 + 1e-12)


# Noise and errors


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 13, 32])
def test_errors_are_the_variances_of_the_linear_map(steps):
    noise = noise_map(steps)
    assert Tree(noise_multiplier=2.0, steps=steps).squared_errors() == pytest.approx(4.0 * (noise**2).sum(axis=1))


@pytest.mark.parametrize("steps", [4, 7, 13])
def test_no_unbiased_estimate_from_the_nodes_so_far_has_less_variance(steps):
    """Gauss and Markov: the least variance of the prefix t is a^T (N_t^T N_t)^{-1} a over the nodes within it."""
    errors = Tree(noise_multiplier=1.0, steps=steps).squared_errors()
    for t in range(1, steps + 1):
        nodes = node_matrix(t)
        ones = np.ones(t)
        assert errors[t - 1] == pytest.approx(ones @ np.linalg.solve(nodes.T @ nodes, ones))


@pytest.mark.parametrize("steps", [1, 2, 5, 16, 27])
def test_batch_and_stream_are_the_same_estimate_of_the_same_nodes(steps):
    rng, source = np.random.default_rng(0), KeyedSource(1)
    values = rng.normal(size=(steps, 3))
    tree = Tree(noise_multiplier=2.0, steps=steps)
    sums = tree.stream((3,), sensitivity=0.5, randomness=KeyedSource(1))
    shown = np.array([sums.add(value) for value in values])
    noise = tree.noise(3, sensitivity=0.5)
    noisy = [
        level + np.array([noise.node(height, index, source) for index in range(len(level))])
        for height, level in enumerate(node_matrix_sums(values))
    ]
    assert shown == pytest.approx(module._prefix_sums(noisy))


def test_released_sums_have_the_variance_that_is_told():
    tree, repeats = Tree(noise_multiplier=2.0, steps=6), 4000
    noisy = tree.release(np.ones((6, repeats)), sensitivity=0.5, randomness=KeyedSource(2))
    spread = ((noisy - np.arange(1, 7)[:, None]) ** 2).sum(axis=1) / (0.25 * tree.squared_errors())
    assert (stats.chi2(repeats).sf(spread) > 1e-5).all() and (stats.chi2(repeats).cdf(spread) > 1e-5).all()
    assert stats.kstest((noisy[5] - 6) / (0.25 * tree.squared_errors()[5]) ** 0.5, "norm").pvalue > 1e-4


# Fields


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": -3}, "steps must be at least 1"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"steps": "8"}, "steps must be a whole number"),
        ({"steps": 2**53 + 1}, "steps must be at most"),
        ({"participations": 0}, "participations must be at least 1"),
        ({"separation": 0}, "separation must be at least 1"),
        ({"separation": 9}, "separation must be at most steps, got 9 and 8"),
        ({"noise_multiplier": -1.0}, "noise_multiplier must be at least 0"),
        ({"noise_multiplier": math.nan}, "noise_multiplier must be a number"),
        ({"noise_multiplier": math.inf}, "noise_multiplier must be finite"),
        ({"noise_multiplier": np.array([1.0, 2.0])}, "noise_multiplier must be"),
    ],
)
def test_what_is_no_tree_is_refused(fields, text):
    with pytest.raises(InvalidParameter, match=f"Tree: {text}"):
        Tree(**({"noise_multiplier": 1.0, "steps": 8} | fields))


def test_trees_come_back_from_json_and_numpy_numbers_are_numbers():
    tree = Tree(noise_multiplier=np.float32(0.5), steps=np.int64(9), participations=np.uint8(2), separation=3.0)
    assert tree == Tree(noise_multiplier=0.5, steps=9, participations=2, separation=3) == eval(repr(tree))
    process = Compose((tree, Sampled(tree, Poisson(probability=0.5))))
    assert from_json(to_json(process)) == process


# Published values


@pytest.mark.parametrize(
    ("noise", "older", "newer", "exact"),
    [(1.13, 19.7357, 18.7096, 17.66675076120658), (8.83, 2.0449, 1.7732, 1.648658841080685)],
)
def test_following_the_regularised_leader_costs_what_was_published(noise, older, newer, exact):
    """Zero-out, 1600 steps, δ = 1e-6: the paper's orders were coarser than those taken here."""
    tree = Tree(noise_multiplier=noise, steps=1600)
    for conversion, published in (("mironov", older), ("cks", newer)):
        found = RDP(conversion=conversion).profile(tree, adjacency=ZERO_OUT).epsilon(1e-6).upper
        assert published * (1 - 2e-3) < found < published + 1e-4
    bounds = epsilon_bounds(tree, delta=1e-6, adjacency="zero_out")
    assert bounds.lower - 1e-9 < exact < bounds.upper + 1e-9 and bounds.width < 1e-9


def test_the_keyboards_of_2022_cost_what_was_published():
    """ζ = 79, ρ = 79/98 = .806, ε = 8.8986 by ρ, 8.526 exactly."""
    tree = Tree(noise_multiplier=7, steps=2000, participations=6, separation=313)
    assert tree.squared_sensitivity == (79, 79)
    assert compute_epsilon(tree, delta=1e-10, adjacency="zero_out", accountant="zcdp") == pytest.approx(
        8.8986, abs=2e-4
    )
    found = epsilon_bounds(tree, delta=1e-10, adjacency=Adjacency.ZERO_OUT)
    assert found.lower - 1e-9 < 8.526093443452087 < found.upper + 1e-9 and found.upper - found.lower < 1e-9
