"""Permute-and-flip: its law by enumeration, twice; its pair against the laws of neighbours and of compositions."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from accountant import available
from mechanisms import KeyedSource, NumericalFailure, Poisson, PureDP, Repeat, Sampled, UnsupportedProcess
from mechanisms.core.bounds import Bounds
from mechanisms.permute_and_flip import PermuteAndFlip
from tests.strategies import ADD_REMOVE

EPSILONS, TINY = np.array([0.0, 0.1, 0.35, 0.8, 1.1, 1.7]), 1e-12
X, WEIGHT = np.polynomial.legendre.leggauss(12)
HEADS = [
    [Fraction(1), Fraction(1, 3)],
    [Fraction(2, 7), Fraction(1), Fraction(1)],
    [Fraction(1), Fraction(1, 10**6), Fraction(9, 10), Fraction(1, 2)],
    [Fraction(1, 5), Fraction(3, 5), Fraction(4, 5), Fraction(1, 7), Fraction(1)],
]


def by_permutations(heads):
    """Of every order of the candidates the probability that each is the first to show heads."""
    k = len(heads)
    found = [Fraction(0)] * k
    for order in itertools.permutations(range(k)):
        left = Fraction(1, math.factorial(k))
        for i in order:
            found[i] += left * heads[i]
            left *= 1 - heads[i]
    return found


def by_coins(heads):
    """Of every outcome of all coins a uniform one of those that show heads."""
    k = len(heads)
    found = [Fraction(0)] * k
    for shown in itertools.product((False, True), repeat=k):
        mass = math.prod(h if s else 1 - h for h, s in zip(heads, shown, strict=True))
        for i in range(k):
            if shown[i]:
                found[i] += mass / sum(shown)
    return found


def by_noise(heads):
    """The largest of log h_i + exponential noise: h_i ∫ Π (1 − h_j w) dw over (0, 1), w the tail of the best there."""
    found = []
    for i, own in enumerate(heads):
        product = [Fraction(1)]
        for j, other in enumerate(heads):
            if j != i:
                product = [a - other * b for a, b in zip([*product, 0], [0, *product], strict=True)]
        found.append(own * sum(c / (n + 1) for n, c in enumerate(product)))
    return found


@pytest.mark.parametrize("heads", HEADS, ids=len)
def test_flips_in_random_order_all_flips_and_exponential_noise_have_one_law(heads):
    law = by_permutations(heads)
    assert law == by_coins(heads) == by_noise(heads) and sum(law) == 1


def law(scores, rate):
    """`by_noise` in floats; 12 nodes integrate polynomials of up to 23rd degree."""
    heads = np.exp(rate * (np.asarray(scores) - np.max(scores)))
    missed = 1.0 - heads[:, None] * (X + 1) / 2
    return np.array([own * 0.5 * WEIGHT @ np.prod(np.delete(missed, i, axis=0), axis=0) for i, own in enumerate(heads)])


def delta(p, q, epsilons=EPSILONS):
    return np.array([np.maximum(p - math.exp(e) * q, 0.0).sum() for e in epsilons])


@pytest.mark.parametrize("monotonic", [False, True])
@pytest.mark.parametrize("epsilon", [0.2, 1.8])
def test_no_two_neighbours_tell_more_than_the_pair(epsilon, monotonic):
    mechanism = PermuteAndFlip(epsilon=epsilon, adjacency=ADD_REMOVE, monotonic=monotonic)
    pair, rng, low = mechanism.pairs(ADD_REMOVE)["remove"], np.random.default_rng(0), 0.0 if monotonic else -1.0
    most, rate = pair.delta(Bounds.exact(EPSILONS)).upper, epsilon / (1 if monotonic else 2)
    closest = np.full(len(EPSILONS), math.inf)
    for n in range(300):
        k = int(rng.integers(2, 7))
        scores = rng.normal(size=k) * 10.0 ** rng.uniform(-2, 1) if n % 3 else np.zeros(k)
        moves = rng.choice([low, 1.0], k) if n % 2 else rng.uniform(low, 1.0, k)
        p, q = law(scores, rate), law(scores + moves, rate)
        for found in (delta(p, q), delta(q, p)):
            assert (found <= most + TINY).all()
            closest = np.minimum(closest, most - found)
    assert closest[0] < 0.2 * epsilon


def test_the_pair_is_less_than_its_epsilon_alone_and_reached_at_zero():
    mechanism, pure = PermuteAndFlip(epsilon=1.0, adjacency=ADD_REMOVE), PureDP(epsilon=1.0, adjacency=ADD_REMOVE)
    pair, other = (one.pairs(ADD_REMOVE)["add"].delta(Bounds.exact(EPSILONS)) for one in (mechanism, pure))
    assert (pair.upper[:4] < other.lower[:4]).all()
    p, q = law([1.0, 0.0], 0.5), law([0.0, 1.0], 0.5)
    assert delta(p, q)[0] == pytest.approx(pair.upper[0], rel=1e-12)


@pytest.mark.parametrize("monotonic", [False, True])
def test_the_witnesses_are_what_named_neighbours_show(monotonic):
    pairs = PermuteAndFlip(epsilon=1.3, adjacency=ADD_REMOVE, monotonic=monotonic).pairs(ADD_REMOVE)
    rate = 1.3 if monotonic else 0.65
    level = ([0.0, 0.0], [0.0, -1.0]) if monotonic else ([0.0, 0.0], [1.0, -1.0])
    apart = ([1.0, 0.5], [0.0, 0.5]) if monotonic else ([1.0, 0.0], [0.0, 1.0])
    for witness, scores in (("witness", level), ("witness_reversed", apart)):
        p, q = (law(one, rate) for one in scores)
        found = pairs[witness].delta(Bounds.exact(EPSILONS))
        assert (found.lower <= delta(p, q) + TINY).all() and (delta(p, q) <= found.upper + TINY).all()


def composed(pairs, epsilons):
    p, q = (np.array([math.prod(x) for x in itertools.product(*(pair[k] for pair in pairs))]) for k in (0, 1))
    return delta(p, q, epsilons)


def sampled(p, q, chance):
    return (1 - chance) * q + chance * p, q


@pytest.mark.parametrize("chance", [1.0, 0.3])
@pytest.mark.parametrize("name", available())
def test_no_accountant_claims_less_than_compositions_show(name, chance):
    """Of three steps, with the most telling of a few neighbours in each."""
    step = PermuteAndFlip(epsilon=0.8, adjacency=ADD_REMOVE)
    process = Repeat(step if chance == 1 else Sampled(step, Poisson(probability=chance)), 3)
    try:
        found = available()[name]().profile(process, adjacency=ADD_REMOVE).delta(EPSILONS)
    except (UnsupportedProcess, NumericalFailure) as refusal:  # few steps are too much for contour
        assert name in ("closed_form", "contour", "gdp", "jumps") and "Use accountant=" in str(refusal)
        return
    neighbours = [
        ([1.0, 0.0], [0.0, 1.0]),
        ([0.0, 0.0], [1.0, -1.0]),
        ([1.0, -1.0], [0.0, 0.0]),
        ([2.0, 0.0], [1.0, 1.0]),
    ]
    laws = [sampled(law(u, 0.4), law(v, 0.4), chance) for u, v in neighbours]
    truth = np.max([composed(c, EPSILONS) for c in itertools.combinations_with_replacement(laws, 3)], axis=0)
    assert (truth <= found.upper + TINY).all()
    if name == "pld":
        assert (found.upper <= 1.2 * truth + 5e-3).all() and (found.lower <= truth + TINY).all()
        assert (found.lower >= 0.5 * truth - 5e-3).all()


def test_choices_have_the_law():
    mechanism, source, scores = PermuteAndFlip(epsilon=1.5, adjacency=ADD_REMOVE), KeyedSource(0), [3, 1, 2, 3]
    counts = np.bincount([mechanism.release(scores, sensitivity=1.5, randomness=source) for _ in range(800)])
    assert stats.chisquare(counts, 800 * law(scores, 0.5)).pvalue > 1e-4
