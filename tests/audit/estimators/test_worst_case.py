"""The largest probability of a false claim over all private computations, by other means than the estimators' proofs.

*One run.* A rule that rejects at v right guesses or more of r about m canaries is put to a linear program over all
kernels from coins to guesses. Flipping a coin together with its guesses, or permuting canaries, changes neither
privacy nor the chance of v right guesses, so that kernels may be averaged over both: what is left is the law π of the
number of right guesses, spread evenly, whose neighbour has one guess turned round.

*Independent runs.* Scores are any function of the four answers of randomised response [KOV15]: all deterministic ones
to a few values, and random ones; every set of scores is asked about, ties and all.

*Streams.* The adversary of the anytime test chooses at each look, knowing all before: the best answer is found by
dynamic programming over the counts of right and wrong guesses.

[KOV15] P. Kairouz, S. Oh, P. Viswanath. The Composition Theorem for Differential Privacy. ICML 2015. arXiv:1311.0776.
"""

import itertools

import numpy as np
import pytest
from scipy import optimize, sparse, stats

from audit.core.payoffs import gaussian_delta
from audit.core.tangents import lines
from audit.estimators import (
    anytime,
    berk_jones,
    bonferroni,
    calibrated,
    clopper_pearson,
    dkw,
    held_out,
    histogram,
    maximal,
    one_run,
    one_run_fdp,
    one_run_recursion,
    tradeoff,
)
from mechanisms import Gaussian


def most_right(canaries, guesses, correct, privacy):
    """Return the largest chance of so many right guesses under all (ε, δ) of `privacy`, in either direction."""
    right = np.arange(1, guesses + 1)
    up, down = right / canaries, (guesses - right + 1) / canaries  # shares of π_c and π_{c−1} in one canary's flip
    pairs, blocks, limits = guesses, [], []
    for place, (epsilon, delta) in enumerate(privacy):
        growth = np.exp(epsilon)
        rising = sparse.diags([-growth * down, up], [0, 1], shape=(pairs, guesses + 1))
        falling = sparse.diags([down, -growth * up], [0, 1], shape=(pairs, guesses + 1))
        slack = [sparse.csr_matrix((2 * pairs, 2 * pairs))] * len(privacy)
        slack[place] = -sparse.eye(2 * pairs)
        blocks.append([sparse.vstack([rising, falling]), *slack])
        total = [sparse.csr_matrix((1, 2 * pairs))] * len(privacy)
        total[place] = sparse.csr_matrix(np.ones((1, 2 * pairs)))
        blocks.append([sparse.csr_matrix((1, guesses + 1)), *total])
        limits += [0.0] * (2 * pairs) + [delta]
    count = guesses + 1 + 2 * pairs * len(privacy)
    claimed = np.where(np.arange(count) <= guesses, np.arange(count) >= correct, False)
    found = optimize.linprog(
        -claimed.astype(float),
        A_ub=sparse.bmat(blocks, format="csr"),
        b_ub=limits,
        A_eq=(np.arange(count) <= guesses)[None, :].astype(float),
        b_eq=[1.0],
        method="highs",
    )
    assert found.status == 0
    return -found.fun


def most_right_of_all_kernels(canaries, guesses, correct, privacy, kinds=(-1, 0, 1)):
    """Return the same without averaging, a variable for every coins and guesses of these kinds.

    `privacy` holds (ε, δ of removing, δ of adding).
    """
    coins = list(itertools.product((-1, 1), repeat=canaries))
    answers = [one for one in itertools.product(kinds, repeat=canaries) if np.count_nonzero(one) == guesses]
    flips = [(s, (*s[:i], -s[i], *s[i + 1 :]), s[i]) for s in coins for i in range(canaries)]
    pairs = [(*flip, one) for flip in flips for one in privacy]
    masses, width = len(coins) * len(answers), len(answers)
    one_block, rows, limits = np.eye(width), [], []
    for number, (first, second, coin, (epsilon, removing, adding)) in enumerate(pairs):
        block = np.zeros((width + 1, masses + len(pairs) * width))
        start, neighbour = coins.index(first) * width, coins.index(second) * width
        block[:width, start : start + width] = one_block
        block[:width, neighbour : neighbour + width] = -np.exp(epsilon) * one_block
        own = slice(masses + number * width, masses + (number + 1) * width)
        block[:width, own], block[width, own] = -one_block, 1.0
        rows.append(block)
        limits += [0.0] * width + [removing if coin == 1 else adding]
    wins = np.array([float(np.sum(np.array(s) * np.array(t) == 1) >= correct) for s in coins for t in answers])
    aim = np.concatenate([-wins / len(coins), np.zeros(len(pairs) * width)])
    laws = np.kron(np.eye(len(coins)), np.ones((1, width)))
    laws = np.concatenate([laws, np.zeros((len(coins), len(pairs) * width))], axis=1)
    found = optimize.linprog(
        aim, A_ub=np.concatenate(rows), b_ub=limits, A_eq=laws, b_eq=np.ones(len(coins)), method="highs"
    )
    assert found.status == 0
    return -found.fun


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "epsilon", "delta"),
    [(1, 1, 1, 1.0, 0.1), (2, 1, 1, 0.5, 0.2), (2, 2, 1, 1.0, 0.05), (2, 2, 2, 1.0, 0.3), (3, 2, 2, 0.0, 0.1)],
)
def test_averaged_kernels_do_as_well_as_all(canaries, guesses, correct, epsilon, delta):
    averaged = most_right(canaries, guesses, correct, [(epsilon, delta)])
    assert averaged == pytest.approx(
        most_right_of_all_kernels(canaries, guesses, correct, [(epsilon, delta, delta)]), abs=1e-7
    )


def p_value(refutes):
    """Return the least level at which counts refute, to 1e-9."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if refutes(middle) else (middle, high)
    return high


def recursion_refutes(canaries, guesses, correct, privacy, side="either"):
    slopes, heights = lines(*np.array(privacy).T, side)
    return lambda level: one_run_fdp._refuted(
        guesses / canaries, guesses, correct, level, lambda right: max(0.0, float(np.max(slopes * right + heights)))
    )


SIZES = [(1, 1), (2, 1), (3, 2), (3, 3), (8, 4), (20, 6)]


@pytest.mark.thinned(3)
@pytest.mark.parametrize("rule", [one_run, one_run_recursion])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 0.02, 0.4])
def test_no_private_run_is_falsely_accused(rule, delta):
    for (canaries, guesses), epsilon in itertools.product(SIZES, (0.0, 1.0, 4.0)):
        counts = {"canaries": canaries, "guesses": guesses, "epsilon": epsilon, "delta": delta}
        chances = [most_right(canaries, guesses, correct, [(epsilon, delta)]) for correct in range(1, guesses + 1)]
        for place, chance in enumerate(chances):
            if chance < 0.5:  # what is asked above is answered at a half
                level = chance * (1 - 1e-5) - 1e-7
                assert not rule.rejects(**counts, correct=place + 1, confidence=1 - level), (canaries, guesses, epsilon)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("mu", [0.1, 0.5, 1.0, 2.0])
def test_no_run_within_a_trade_off_curve_is_falsely_accused(mu):
    losses = mu * np.linspace(0.0, 0.5 * mu + 3.0, 6)
    deltas = gaussian_delta(losses, np.full(6, mu))
    both_ways = list(zip(losses, deltas, deltas, strict=True))
    shares = []
    for canaries, guesses in [(1, 1), (3, 2), (8, 4), (40, 10)]:
        for correct in {1, guesses // 2 + 1, guesses - 1, guesses} - {0}:
            chance = most_right(canaries, guesses, correct, [one[:2] for one in both_ways])
            shares.append(chance / p_value(recursion_refutes(canaries, guesses, correct, both_ways)))
    assert 0.999 < max(shares) < 1 + 1e-6


@pytest.mark.parametrize(("side", "kinds"), [("in", (0, 1)), ("out", (0, -1)), ("either", (-1, 0, 1))])
def test_no_run_that_loses_more_by_one_direction_is_falsely_accused(side, kinds):
    shares = []
    for (canaries, guesses), epsilon, (removing, adding) in itertools.product(
        [(2, 1), (3, 2), (4, 1)], (0.0, 1.0), [(0.0, 0.2), (0.2, 0.0), (0.1, 0.05)]
    ):
        privacy = [(epsilon, removing, adding)]
        if len(kinds) < 3 or canaries < 4:
            chance = most_right_of_all_kernels(canaries, guesses, guesses, privacy, kinds)
            shares.append(chance / p_value(recursion_refutes(canaries, guesses, guesses, privacy, side)))
    assert 0.9 < max(shares) < 1 + 1e-6


def boundary(epsilon, delta):
    """Return (false-negative rate, false-positive rate) all along the lower boundary of what (ε, δ) allows."""
    corner = (1 - delta) / (1 + np.exp(epsilon))
    least = np.unique(np.concatenate([[0.0], corner * np.geomspace(1e-6, 1.0, 300), corner * np.linspace(0, 1, 300)]))
    other = np.maximum(1 - delta - np.exp(epsilon) * least, 0.0)
    return np.concatenate([least, other]), np.concatenate([other, least])


def largest_rate(refuted, missed, alarms):
    """Return the largest chance of a rejection, told by counts of errors, over pairs of error rates."""
    included, excluded = (size - 1 for size in refuted.shape)
    first = stats.binom.pmf(np.arange(included + 1), included, missed[:, None])
    second = stats.binom.pmf(np.arange(excluded + 1), excluded, alarms[:, None])
    return float(np.max(np.einsum("pi,ij,pj->p", first, refuted.astype(float), second)))


RUNS = [(1, 1), (1, 5), (5, 2), (8, 8), (20, 6)]


@pytest.mark.thinned(2)
@pytest.mark.parametrize("rule", [calibrated, clopper_pearson])
@pytest.mark.parametrize("level", [0.5, 0.05])
def test_no_private_pair_of_worlds_is_falsely_accused(rule, level):
    for (included, excluded), epsilon, delta in itertools.product(RUNS, (0.0, 2.0), (0.0, 0.3)):
        counts = {
            "false_negatives": np.arange(included + 1)[:, None],
            "included": included,
            "false_positives": np.arange(excluded + 1)[None, :],
            "excluded": excluded,
        }
        refuted = rule.rejects(**counts, epsilon=epsilon, delta=delta, confidence=1 - level)
        assert largest_rate(refuted, *boundary(epsilon, delta)) <= level, (included, excluded, epsilon, delta)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("level", [0.5, 0.05])
def test_no_pair_of_worlds_on_a_trade_off_curve_is_falsely_accused(mu, level):
    alarms = np.unique(np.concatenate([np.geomspace(1e-9, 1.0, 200), 1 - np.geomspace(1e-9, 1.0, 200)]))
    missed = stats.norm.cdf(stats.norm.isf(alarms) - mu)
    for included, excluded in RUNS:
        refuted = tradeoff.rejects(
            false_negatives=np.arange(included + 1)[:, None],
            included=included,
            false_positives=np.arange(excluded + 1)[None, :],
            excluded=excluded,
            process=Gaussian(noise_multiplier=1 / mu),
            adjacency="add_remove",
            confidence=1 - level,
        )
        assert largest_rate(refuted, missed, alarms) <= level, (included, excluded)


def kernels(answers, values, rng):
    """Return functions of the answers, shape (k, answers, values): all deterministic ones, and random ones."""
    certain = np.eye(values)[list(itertools.product(range(values), repeat=answers))]
    return np.concatenate([certain, rng.dirichlet(np.full(values, 0.5), size=(60, answers))])


def largest_rate_of_scores(rejects, included, excluded, values, epsilon, delta, level):
    """Return the largest chance of a rejection over the kernels, by asking about every set of scores once."""
    sets = np.array(list(itertools.product(range(values), repeat=included + excluded)), dtype=np.intp)
    scores = sets.astype(float)
    refuted = rejects(
        included=scores[:, :included],
        excluded=scores[:, included:],
        epsilon=epsilon,
        delta=delta,
        confidence=1 - level,
    )
    right, wrong = (1 - delta) / (1 + np.exp(-epsilon)), (1 - delta) / (1 + np.exp(epsilon))
    worlds = np.array([[delta, right, wrong, 0.0], [0.0, wrong, right, delta]])
    laws = np.einsum("wa,kav->kwv", worlds, kernels(4, values, np.random.default_rng(0)))
    chances = np.prod(laws[:, 0][:, sets[refuted, :included]], axis=2)
    return float(np.max(np.sum(chances * np.prod(laws[:, 1][:, sets[refuted, included:]], axis=2), axis=1)))


@pytest.mark.thinned(3)
@pytest.mark.parametrize("rule", [berk_jones, bonferroni, dkw, held_out, maximal])
@pytest.mark.parametrize(("included", "excluded"), [(1, 2), (3, 3), (4, 2)])
def test_no_scores_of_private_worlds_falsely_accuse(rule, included, excluded):
    for epsilon, delta, level in itertools.product((0.0, 0.7), (0.0, 0.2), (0.5, 0.3)):
        rate = largest_rate_of_scores(rule.rejects, included, excluded, 3, epsilon, delta, level)
        assert rate <= level, (epsilon, delta, level)


def test_no_outputs_of_private_worlds_falsely_accuse():
    def rejects(*, included, excluded, **level):
        return histogram.rejects(first=included[..., None], second=excluded[..., None], **level)

    rates = [largest_rate_of_scores(rejects, 6, 6, 2, *asked, 0.5) for asked in [(0.0, 0.0), (0.3, 0.1)]]
    assert 0.01 < max(rates) <= 0.5


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.05), (2.0, 1e-3), (0.0, 0.2)])
@pytest.mark.parametrize("level", [0.05, 0.3])
def test_no_adversary_wins_the_bets_more_often_than_the_level_says(epsilon, delta, level):
    """Corners of (P[right], P[wrong]) at every look, the best of them, up to 40 looks."""
    right, wrong = (np.exp(epsilon) + delta) / (1 + np.exp(epsilon)), (1 - delta) / (1 + np.exp(epsilon))
    corners = [(right, wrong), (delta, 0.0), (0.0, 0.0), (wrong, right)]
    looks, counts = 40, np.arange(42.0)
    won = np.zeros((42, 42))
    for look in range(looks, -1, -1):
        if look < looks:
            won[:-1, :-1] = np.max(
                [p * won[1:, :-1] + q * won[:-1, 1:] + (1 - p - q) * won[:-1, :-1] for p, q in corners], axis=0
            )
        wealth = anytime.log_wealth(
            counts[:, None] + np.zeros(42), counts[None, :] + np.zeros((42, 1)), np.full((42, 42), look), epsilon, delta
        )
        won = np.where(wealth >= -np.log(level), 1.0, won)
    assert 0 < won[0, 0] <= level
