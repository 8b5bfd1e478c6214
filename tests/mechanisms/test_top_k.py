"""Top-k: the law of sequences by enumeration, its price as that many choices, and what it refuses."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from accountant import available
from mechanisms import Compose, Group, InvalidParameter, KeyedSource, Poisson, PureDP, Repeat, Sampled, leaves
from mechanisms.core.bounds import Bounds
from mechanisms.exponential import Exponential
from mechanisms.top_k import TopK
from tests.strategies import ADD_REMOVE

EPSILONS, TINY = np.array([0.0, 0.1, 0.35, 0.8, 1.1, 1.7]), 1e-12
TWO, ONE = TopK(epsilon=0.8, adjacency=ADD_REMOVE, count=2), Exponential(epsilon=0.8, adjacency=ADD_REMOVE)


def law(scores, rate, count):
    """Probabilities of all sequences, in the order of `itertools.permutations`."""
    weights = np.exp(rate * (np.asarray(scores, dtype=float) - np.max(scores)))
    found = []
    for order in itertools.permutations(range(len(weights)), count):
        left, mass = weights.sum(), 1.0
        for i in order:
            mass, left = mass * weights[i] / left, left - weights[i]
        found.append(mass)
    return np.array(found)


def delta(p, q, epsilons=EPSILONS):
    return np.array([np.maximum(p - math.exp(e) * q, 0.0).sum() for e in epsilons])


def test_it_is_priced_as_so_many_choices():
    assert leaves(TWO) == ((ONE, 2),) and leaves(Compose((TWO, ONE))) == ((ONE, 3),)
    assert leaves(TopK(epsilon=0.8, adjacency=ADD_REMOVE, count=1)) == ((ONE, 1),)
    assert leaves(Group(TWO, 3)) == ((Group(ONE, 3), 2),)
    runs = (Repeat(TWO, 5), Repeat(ONE, 10))
    claims = [available()["pld"]().profile(run, adjacency=ADD_REMOVE).epsilon(1e-5) for run in runs]
    assert claims[0] == claims[1] and claims[0].lower > 1


@pytest.mark.parametrize("name", ["pld", "rdp", "zcdp"])
def test_no_two_neighbours_tell_more_than_the_price(name):
    claim, rng = available()[name]().profile(TWO, adjacency=ADD_REMOVE).delta(EPSILONS), np.random.default_rng(0)
    for _ in range(60):
        k = int(rng.integers(2, 6))
        scores = rng.normal(size=k) * 10.0 ** rng.uniform(-2, 1)
        p, q = law(scores, 0.4, 2), law(scores + rng.choice([-1.0, 1.0], k), 0.4, 2)
        assert (delta(p, q) <= claim.upper + TINY).all()


def test_many_candidates_of_two_scores_come_up_to_its_lower_end():
    """Sequences of n + n candidates, told apart by which of them are of the better kind."""
    claim, gaps = available()["pld"]().profile(TWO, adjacency=ADD_REMOVE).delta(EPSILONS), []
    for n in (1, 10, 100, 10_000):
        rows = []
        for better in ("first", "last"):
            weights = {"first": math.exp(0.2), "last": math.exp(-0.2)}
            if better == "last":
                weights = {kind: 1 / weight for kind, weight in weights.items()}
            found = []
            for order in itertools.product(weights, repeat=2):
                counts, mass = dict.fromkeys(weights, n), 1.0
                for kind in order:
                    mass *= counts[kind] * weights[kind] / sum(counts[one] * weights[one] for one in weights)
                    counts[kind] -= 1
                found.append(mass)
            rows.append(np.array(found))
        shown = np.maximum(delta(*rows), 0.0)
        assert (shown <= claim.upper + TINY).all()
        gaps.append(float(np.max(even(EPSILONS) - shown)))
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3] and gaps[3] < 1e-4


def even(epsilons):
    """δ of two answers that are e^{ε/2} times as probable as their opposites, ε = 0.8."""
    p = np.array([math.exp(0.4), 1.0]) / (1 + math.exp(0.4))
    return delta(np.outer(p, p).ravel(), np.outer(p[::-1], p[::-1]).ravel(), epsilons)


def test_inside_one_sample_all_choices_count_as_their_epsilons_together():
    pairs = TWO.pairs(ADD_REMOVE)
    pure = PureDP(epsilon=1.6, adjacency=ADD_REMOVE).pairs(ADD_REMOVE)["remove"]
    assert set(pairs) == {"remove", "add"} and not pairs["add"].attained
    assert pairs["add"].supremum.contains(1.6) and pairs["add"].delta(Bounds.exact(0.5)).overlaps(
        pure.delta(Bounds.exact(0.5))
    )
    claim = available()["pld"]().profile(Sampled(TWO, Poisson(probability=0.2)), adjacency=ADD_REMOVE).delta(EPSILONS)
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores = rng.normal(size=4)
        p, q = law(scores, 0.4, 2), law(scores + rng.choice([-1.0, 1.0], 4), 0.4, 2)
        mixed = 0.8 * q + 0.2 * p
        assert (np.maximum(delta(mixed, q), delta(q, mixed)) <= claim.upper + TINY).all()
    assert TWO.renyi(ADD_REMOVE).divergence(3.0) >= 2 * ONE.renyi(ADD_REMOVE).divergence(3.0)
    assert TWO.renyi(ADD_REMOVE).rho == pytest.approx(2 * 0.8**2 / 8)


def test_sequences_have_the_law_which_is_that_of_gumbel_noise_at_once():
    scores, source, rng = np.array([3.0, 1.0, 2.0]), KeyedSource(0), np.random.default_rng(0)
    orders, expected = list(itertools.permutations(range(3), 2)), law(scores, 0.4, 2)
    drawn = [orders.index(TWO.release(scores, sensitivity=1.0, randomness=source)) for _ in range(600)]
    assert stats.chisquare(np.bincount(drawn, minlength=6), 600 * expected).pvalue > 1e-4
    noisy = np.argsort(-(scores + rng.gumbel(scale=2 / 0.8, size=(20_000, 3))), axis=1)[:, :2]
    seen = np.bincount([orders.index(tuple(one)) for one in noisy.tolist()], minlength=6)
    assert stats.chisquare(seen, 20_000 * expected).pvalue > 1e-4


def test_all_candidates_may_be_ranked_and_none_comes_twice():
    every = TopK(epsilon=1.0, adjacency=ADD_REMOVE, count=5)
    shown = every.release(np.arange(5.0), sensitivity=1.0, randomness=KeyedSource(0))
    assert type(shown) is tuple and sorted(shown) == list(range(5)) and all(type(one) is int for one in shown)


def test_fewer_candidates_than_choices_are_refused():
    with pytest.raises(InvalidParameter, match=r"TopK: value must hold .* shape \(k,\) with k >= 2"):
        TWO.release([1.0], sensitivity=1.0, randomness=KeyedSource(0))


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", None, True, math.nan])
def test_what_is_no_count_is_refused(count):
    with pytest.raises(InvalidParameter, match="TopK: count must be"):
        TopK(epsilon=1.0, adjacency=ADD_REMOVE, count=count)
