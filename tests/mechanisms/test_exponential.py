"""The exponential mechanism: its pairs against the laws of scores, brackets against compositions, releases."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

from accountant import available
from mechanisms import Adjacency, Compose, Group, KeyedSource, Poisson, PureDP, Repeat, Sampled, UnsupportedProcess
from mechanisms.core.bounds import Bounds
from mechanisms.exponential import Exponential
from tests.strategies import ADD_REMOVE

EPSILONS = np.array([0.0, 0.1, 0.35, 0.8, 1.1, 1.7])
TINY = 1e-12  # round-off of what is enumerated here


def law(scores, rate):
    weights = np.exp(rate * (np.asarray(scores) - np.max(scores)))
    return weights / weights.sum()


def delta(p, q, epsilons=EPSILONS):
    return np.array([np.maximum(p - math.exp(e) * q, 0.0).sum() for e in epsilons])


def neighbours(rng, k, monotonic):
    """Scores and what they are for a neighbour: random, or all moves extreme."""
    scores = rng.normal(size=k) * 10.0 ** rng.uniform(-2, 1)
    low = 0.0 if monotonic else -1.0
    moves = rng.choice([low, 1.0], k) if rng.random() < 0.7 else rng.uniform(low, 1.0, k)
    return scores, scores + moves


@pytest.mark.parametrize("monotonic", [False, True])
@pytest.mark.parametrize("epsilon", [0.2, 1.8])
def test_no_two_neighbours_tell_more_than_the_pair(epsilon, monotonic):
    mechanism = Exponential(epsilon=epsilon, adjacency="replace_one", monotonic=monotonic)
    pair, rng = mechanism.pairs(Adjacency.REPLACE_ONE)["replace"], np.random.default_rng(0)
    most, rate = pair.delta(Bounds.exact(EPSILONS)).upper, epsilon / (1 if monotonic else 2)
    assert not pair.attained
    for _ in range(400):
        p, q = (law(scores, rate) for scores in neighbours(rng, int(rng.integers(2, 7)), monotonic))
        assert (delta(p, q) <= most + TINY).all() and (delta(q, p) <= most + TINY).all()


@pytest.mark.parametrize("epsilon", [0.2, 1.8])
def test_two_candidates_reach_the_pair_at_every_epsilon(epsilon):
    pair = Exponential(epsilon=epsilon, adjacency=ADD_REMOVE).pairs(ADD_REMOVE)["remove"]
    for asked in np.array([0.0, 0.3, 0.9]) * epsilon:
        t = (asked + epsilon) / 2
        share = (math.exp(-t) - math.exp(-epsilon)) / -math.expm1(-epsilon)
        apart = math.log(share / (1 - share)) / (epsilon / 2)
        p, q = law([apart + 1.0, -1.0], epsilon / 2), law([apart, 0.0], epsilon / 2)
        assert delta(p, q, [asked])[0] == pytest.approx(pair.delta(Bounds.exact(asked)).upper, rel=1e-9)


@pytest.mark.parametrize("monotonic", [False, True])
@pytest.mark.parametrize(("witness", "share"), [("witness", 0.5), ("witness_reversed", 0.75)])
def test_the_witnesses_are_what_named_neighbours_show(witness, share, monotonic):
    epsilon, rate = 1.3, 1.3 if monotonic else 0.65
    pairs = Exponential(epsilon=epsilon, adjacency="zero_out", monotonic=monotonic).pairs(Adjacency.ZERO_OUT)
    likelier = (math.exp(-share * epsilon) - math.exp(-epsilon)) / -math.expm1(-epsilon)
    apart = math.log(likelier / (1 - likelier)) / rate
    p, q = law([apart + 1.0, 0.0 if monotonic else -1.0], rate), law([apart, 0.0], rate)
    assert np.log(p / q) == pytest.approx([share * epsilon, (share - 1) * epsilon]) and pairs[witness].attained
    for one, truth in ((pairs[witness], delta(p, q)), (pairs[witness].reverse(), delta(q, p))):
        found = one.delta(Bounds.exact(EPSILONS))
        assert (found.lower <= truth + TINY).all() and (truth <= found.upper + TINY).all()
    assert set(pairs) == {"remove", "add", "witness", "witness_reversed"}


def test_group_pairs_hold_for_as_many_moves():
    pair, rng = (
        Group(Exponential(epsilon=0.5, adjacency=ADD_REMOVE), 3).pairs(ADD_REMOVE)["add"],
        np.random.default_rng(1),
    )
    for _ in range(100):
        scores = rng.normal(size=4)
        p, q = law(scores, 0.25), law(scores + 3 * rng.choice([-1.0, 1.0], 4), 0.25)
        assert (delta(p, q) <= pair.delta(Bounds.exact(EPSILONS)).upper + TINY).all()


# Compositions


def two_points(reach, t):
    q = (math.exp(-t) - math.exp(-reach)) / -math.expm1(-reach)
    return np.array([t, t - reach]), np.array([q * math.exp(t), 1 - q * math.exp(t)])


def adaptive(reaches, epsilon, chance=1.0, points=40):
    """The largest δ(ε) of an adversary who chooses t among a few in each step, knowing what was shown before."""

    @cache
    def best(step, left):
        if step == len(reaches):
            return max(0.0, -math.expm1(left))
        found = 0.0
        for t in np.linspace(0.0, reaches[step], points + 1)[1:-1]:
            losses, masses = two_points(reaches[step], t)
            if chance < 1:
                masses = (1 - chance) * masses * np.exp(-losses) + chance * masses
                losses = np.log1p(chance * np.expm1(losses))
            found = max(found, sum(m * best(step + 1, left - loss) for loss, m in zip(losses, masses, strict=True)))
        return found

    return best(0, float(epsilon))


@cache
def truths(case):
    reaches, chance = case
    return np.array([adaptive(reaches, e, chance, 40 if len(reaches) < 3 else 20) for e in EPSILONS])


CASES = {
    "two": (Repeat(Exponential(epsilon=0.8, adjacency=ADD_REMOVE), 2), ((0.8, 0.8), 1.0)),
    "three": (Repeat(Exponential(epsilon=0.6, adjacency=ADD_REMOVE), 3), ((0.6,) * 3, 1.0)),
    "uneven": (
        Compose((Exponential(epsilon=1.0, adjacency=ADD_REMOVE), Exponential(epsilon=0.3, adjacency=ADD_REMOVE))),
        ((1.0, 0.3), 1.0),
    ),
    "sampled": (
        Repeat(Sampled(Exponential(epsilon=1.5, adjacency=ADD_REMOVE), Poisson(probability=0.25)), 2),
        ((1.5, 1.5), 0.25),
    ),
}


@pytest.mark.thinned(3)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", available())
def test_every_accountant_brackets_the_best_adaptive_adversary(name, case):
    process, asked = CASES[case]
    try:
        found = available()[name]().profile(process, adjacency=ADD_REMOVE).delta(EPSILONS)
    except UnsupportedProcess as refusal:
        assert name in ("closed_form", "contour", "gdp", "jumps") and "Use accountant=" in str(refusal)
        return
    truth = truths(asked)
    assert (found.lower <= truth * (1 + 1e-9) + TINY).all() and (truth <= found.upper + TINY).all()
    if name == "pld":
        assert (found.upper <= 1.35 * truth + 2e-3).all() and (found.lower >= 0.6 * truth - 2e-3).all()


def test_a_thousand_steps_cost_less_than_half_of_what_their_epsilon_alone_would():
    mechanism, pure = (kind(epsilon=0.1, adjacency=ADD_REMOVE) for kind in (Exponential, PureDP))
    ask = {name: available()[name]() for name in ("tightest", "optimal")}
    found = ask["tightest"].profile(Repeat(mechanism, 1000), adjacency=ADD_REMOVE).epsilon(1e-6)
    assert ask["optimal"].profile(Repeat(pure, 1000), adjacency=ADD_REMOVE).epsilon(1e-6).lower > 19.3
    assert 8.28 < found.lower < best_without_looking(0.1, 1000, 1e-6) < found.upper < 8.84


def best_without_looking(reach, steps, delta):
    """ε of the largest δ among the same t in every step: the non-adaptive optimum, [DDR20, Sec 3.2] by enumeration."""

    kept, found = np.arange(steps + 1), []
    for t in np.linspace(0.46, 0.6, 15) * reach:
        (loss, _), (mass, _) = two_points(reach, t)
        found.append((kept * loss + (steps - kept) * (loss - reach), stats.binom.pmf(kept, steps, mass)))
    losses, weights = (np.array(part) for part in zip(*found, strict=True))

    def spent(epsilon):
        return np.max(np.sum(weights * np.maximum(-np.expm1(np.minimum(epsilon - losses, 0.0)), 0.0), axis=1))

    low, high = 0.0, steps * reach
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > delta else (low, middle)
    return high


def test_another_adjacency_than_the_one_stated_is_refused():
    mechanism = Exponential(epsilon=1.0, adjacency="zero_out")
    for ask in (mechanism.pairs, mechanism.renyi):
        with pytest.raises(
            UnsupportedProcess, match=r"Exponential: its scores' .* got add_remove\.\nUse adjacency='zero_out'"
        ):
            ask(ADD_REMOVE)


# Releases


@pytest.mark.parametrize(("monotonic", "rate"), [(False, 0.5), (True, 1.0)])
def test_choices_have_the_law(monotonic, rate):
    mechanism, source = Exponential(epsilon=1.5, adjacency=ADD_REMOVE, monotonic=monotonic), KeyedSource(0)
    scores = [3, 1, 2, -4]
    counts = np.bincount(
        [mechanism.release(scores, sensitivity=1.5, randomness=source) for _ in range(800)], minlength=4
    )
    assert stats.chisquare(counts, 800 * law(scores, rate)).pvalue > 1e-4


def test_choices_depend_on_the_differences_of_scores_alone():
    mechanism = Exponential(epsilon=1.0, adjacency=ADD_REMOVE)
    runs = [
        [mechanism.release(scores, sensitivity=1.0, randomness=source) for _ in range(60)]
        for scores, source in (
            (s, KeyedSource(5)) for s in ([0.0, 1.0, 2.5], [-8.0, -7.0, -5.5], np.float32([8, 9, 10.5]))
        )
    ]
    assert runs[0] == runs[1] == runs[2] and len(set(runs[0])) == 3
    assert all(type(one) is int for one in runs[0])


def test_sums_of_what_is_shown_are_the_mechanism():
    """A second route to the law: the largest of scores with Gumbel noise, by simulation."""
    rng, scores = np.random.default_rng(0), np.array([0.0, 0.4, 2.0])
    shown = np.argmax(scores + rng.gumbel(scale=2.0, size=(20_000, 3)), axis=1)
    assert stats.chisquare(np.bincount(shown), 20_000 * law(scores, 0.5)).pvalue > 1e-4


def test_extreme_moves_are_the_worst():
    """Of all moves of four candidates by −1, 0 or 1 none tells more than some of −1 and 1 alone."""
    scores, most = np.array([0.0, 0.7, -0.4, 1.1]), np.zeros((2, len(EPSILONS)))
    for moves in itertools.product((-1.0, 0.0, 1.0), repeat=4):
        found = delta(law(scores + moves, 0.5), law(scores, 0.5))
        most[int(0.0 in moves)] = np.maximum(most[int(0.0 in moves)], found)
    assert (most[1] <= most[0] + TINY).all()
