import itertools
import time

import numpy as np
import pytest
from scipy import sparse, special, stats
from scipy.optimize import linprog

from audit.core.curves import ApproximateFamily, GaussianFamily
from audit.estimators import one_run
from audit.estimators.one_run_fdp import OneRunFDP, lower_bound_from_guesses, rejects, side_of
from audit.scores import GuessExtremes, LabelledScores, OneRun, Scores, Threshold
from mechanisms import Gaussian, InvalidParameter, Poisson, Sampled

DELTA = 1e-5
MU = {1: 0.268051, 4: 0.924931}  # of ε at δ = 1e-5

# Values of Mahloujifar, Melis and Chaudhuri's Algorithm 3, cross-checked with jax-privacy.
PUBLISHED = [
    (1000, 100, 100, 5.54903),
    (1000, 1000, 950, 5.08398),
    (1000, 1000, 600, 0.5835404730901481),
    (5000, 250, 220, 2.248391886198605),
    (10_000, 717, 462, 0.599992270933413),
]


def bound(canaries, guesses, correct, delta=DELTA, confidence=0.95, **how):
    return lower_bound_from_guesses(
        canaries=canaries, guesses=guesses, correct=correct, delta=delta, confidence=confidence, **how
    )


def refuted(canaries, guesses, correct, epsilon, delta=DELTA, confidence=0.95, **how):
    numbers = {"canaries": canaries, "guesses": guesses, "correct": correct, "epsilon": epsilon}
    return rejects(**numbers, delta=delta, confidence=confidence, **how)


@pytest.mark.parametrize(("canaries", "guesses", "correct", "expected"), PUBLISHED)
def test_published_values_are_reproduced(canaries, guesses, correct, expected):
    tolerance = 1e-6 if len(str(expected)) > 8 else 5e-6
    assert bound(canaries, guesses, correct) == pytest.approx(expected, abs=tolerance)


# The exact worst case. By symmetry (a random order of the canaries and random flips of their coins, both revealed, keep
# a run private) it is enough to look at runs that draw j ~ p and answer any guesses of which j are right alike. Such a
# run gives guess i, together with l right ones among the others, the probabilities p_{l+1} (l + 1) / m if it says what
# the coin says and p_l (g − l) / m if not. So privacy at (ε, δ) is linear in p and the positive parts of differences.


def worst_case(canaries, guesses, correct, profile):
    """Return the largest P[correct or more right] of runs that are (ε, δ) private for all (ε, δ), and their p."""
    others, points = np.arange(guesses), guesses + 1
    size = points + 2 * guesses * len(profile)
    rows, limits = [], []
    for k, (epsilon, delta) in enumerate(profile):
        total = np.zeros(size)
        for half, direction in enumerate(((1.0, 0), (0.0, 1))):
            start = points + guesses * (2 * k + half)
            block = np.zeros((guesses, size))
            block[others, others + 1] = (others + 1) / canaries * (1.0 if direction[0] else -np.exp(epsilon))
            block[others, others] = (guesses - others) / canaries * (-np.exp(epsilon) if direction[0] else 1.0)
            block[others, start + others] = -1.0
            total[start : start + guesses] = 1.0
            rows.append(block)
            limits.append(np.zeros(guesses))
        rows.append(total[None])
        limits.append(np.array([delta]))
    aim, ones = np.zeros(size), np.zeros((1, size))
    aim[correct:points], ones[0, :points] = -1.0, 1.0
    found = linprog(
        aim, A_ub=sparse.csr_matrix(np.vstack(rows)), b_ub=np.concatenate(limits), A_eq=ones, b_eq=[1.0], method="highs"
    )
    assert found.success
    return -found.fun, found.x[:points]


def worst_case_of_all(canaries, guesses, correct, profile):
    """The same by brute force: over all laws of the guesses given all coins, with no symmetry."""
    coins = list(itertools.product((-1, 1), repeat=canaries))
    answers = [a for a in itertools.product((-1, 0, 1), repeat=canaries) if np.count_nonzero(a) == guesses]
    place = {coin: k * len(answers) for k, coin in enumerate(coins)}
    flips = [(c, tuple(-x if i == k else x for k, x in enumerate(c))) for c in coins for i in range(canaries)]
    first, n = len(coins) * len(answers), len(answers)
    size = first + len(flips) * len(profile) * n
    upper, limits = sparse.lil_matrix((len(flips) * len(profile) * (n + 1), size)), []
    row = 0
    for k, ((one, other), (epsilon, delta)) in enumerate(itertools.product(flips, profile)):
        for a in range(n):
            upper[row, place[one] + a], upper[row, place[other] + a] = 1.0, -np.exp(epsilon)
            upper[row, first + k * n + a] = -1.0
            limits.append(0.0)
            row += 1
        upper[row, first + k * n : first + (k + 1) * n] = 1.0
        limits.append(delta)
        row += 1
    aim, ones = np.zeros(size), sparse.lil_matrix((len(coins), size))
    for k, coin in enumerate(coins):
        ones[k, place[coin] : place[coin] + n] = 1.0
        right = np.count_nonzero(np.array(answers) == np.array(coin), axis=1)
        aim[place[coin] : place[coin] + n] = -1.0 * (right >= correct) / len(coins)
    found = linprog(aim, A_ub=upper.tocsr(), b_ub=limits, A_eq=ones.tocsr(), b_eq=np.ones(len(coins)), method="highs")
    assert found.success
    return -found.fun


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("canaries", "guesses", "correct"), [(2, 2, 2), (3, 2, 2), (3, 3, 2), (3, 1, 1)])
@pytest.mark.parametrize("profile", [((0.7, 0.0),), ((0.0, 0.3), (0.5, 0.1), (1.5, 0.02))])
def test_the_symmetric_worst_case_is_the_worst_of_all_runs(canaries, guesses, correct, profile):
    by_symmetry, _ = worst_case(canaries, guesses, correct, profile)
    assert worst_case_of_all(canaries, guesses, correct, profile) == pytest.approx(by_symmetry, abs=1e-7)


@pytest.mark.thinned(5)
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0])
@pytest.mark.parametrize(("canaries", "guesses"), [(6, 6), (50, 50), (200, 40), (1000, 60)])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
def test_no_approximately_private_run_has_more_false_claims_than_the_level(canaries, guesses, epsilon, delta):
    """Exact, over every (ε, δ) run: the least count that refutes is looked up, and its worst case computed."""
    counts = np.arange(guesses + 1)
    how = {"curve": ApproximateFamily(delta=delta), "delta": delta}
    refuting = counts[refuted(canaries, guesses, counts, epsilon, **how)]
    if len(refuting):
        size, _ = worst_case(canaries, guesses, refuting[0], [(epsilon, delta)])
        assert size <= 0.05 + 1e-9


def profile_of_normal(mu, points=25):
    losses = np.linspace(0.0, mu * mu / 2 + 4 * mu, points)
    tail = np.exp(losses + special.log_ndtr(-mu / 2 - losses / mu))
    return list(zip(losses, special.ndtr(mu / 2 - losses / mu) - tail, strict=True))


@pytest.mark.thinned(4)
@pytest.mark.parametrize("epsilon", [1, 4])
@pytest.mark.parametrize(("canaries", "guesses"), [(50, 50), (200, 40), (1000, 60)])
def test_no_run_below_a_normal_curve_has_more_false_claims_than_the_level(canaries, guesses, epsilon):
    """All runs private at 25 points of the curve, which are more than those below it; they come close to the level."""
    counts = np.arange(guesses + 1)
    first = counts[refuted(canaries, guesses, counts, epsilon)][0]
    size, _ = worst_case(canaries, guesses, first, profile_of_normal(MU[epsilon]))
    assert size <= 0.05
    nearly, _ = worst_case(canaries, guesses, first - 1, profile_of_normal(MU[epsilon]))
    assert nearly > 0.02, "the recursion would be far from what is possible"


@pytest.mark.thinned(5)
@pytest.mark.parametrize("epsilon", [1, 4])
@pytest.mark.parametrize("canaries", [50, 200, 1000, 5000])
@pytest.mark.parametrize("guesses", [0.1, 1.0])
def test_false_claims_stay_below_the_level_when_one_level_of_loss_is_shared(canaries, guesses, epsilon):
    """Exact: |x| of one normal x is drawn for all canaries, the signs apart; each canary by itself is μ-GDP."""
    guesses, mu = int(guesses * canaries), MU[epsilon]
    counts = np.arange(guesses + 1)
    refuting = counts[refuted(canaries, guesses, counts, epsilon)]
    if len(refuting):
        x, weight = np.linspace(0, 12, 4001), 12 / 4000
        density = stats.norm.pdf(x - mu / 2) + stats.norm.pdf(x + mu / 2)
        claims = stats.binom.sf(refuting[0] - 1, guesses, special.expit(mu * x))
        assert np.sum(density * claims) * weight <= 0.05


@pytest.mark.thinned(5)
@pytest.mark.parametrize("canaries", [50, 200, 1000, 5000])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("revealed", [1, 7, 50])
def test_false_claims_stay_below_the_level_when_delta_tells_many_at_once(canaries, epsilon, revealed):
    """Exact: with probability m δ / revealed, that many canaries are told; all others have randomised response."""
    delta = 0.02 / canaries * 5
    counts, right = np.arange(canaries + 1), 1 / (1 + np.exp(-epsilon))
    chance = min(1.0, canaries * delta / revealed)
    law = (1 - chance) * stats.binom.pmf(counts, canaries, right)
    law += chance * stats.binom.pmf(counts - revealed, canaries - revealed, right)
    told = refuted(canaries, canaries, counts, epsilon, delta=delta, curve=ApproximateFamily(delta=delta))
    assert law[told].sum() <= 0.05


@pytest.mark.parametrize("canaries", [50, 1000])
@pytest.mark.parametrize("side", ["in", "either"])
def test_false_claims_stay_below_the_level_for_isolated_normal_scores(canaries, side):
    """The guesses are the highest scores, or the highest absolute ones, of x ~ N(± μ/2, 1)."""
    rng, mu, runs, guesses = np.random.default_rng(3), MU[4], 1000, canaries // 5
    coins = rng.random((runs, canaries)) < 0.5
    scores = rng.normal(size=(runs, canaries)) + np.where(coins, mu / 2, -mu / 2)
    surest = np.argsort(-(scores if side == "in" else np.abs(scores)), axis=1)[:, :guesses]
    correct = np.take_along_axis((scores > 0) == coins if side == "either" else coins, surest, axis=1).sum(axis=1)
    assert np.mean(refuted(canaries, guesses, correct, 4.0, side=side)) <= 0.05


@pytest.mark.thinned(5)
@pytest.mark.parametrize("side", ["in", "either"])
@pytest.mark.parametrize("curve", ["gaussian", ApproximateFamily(delta=DELTA)])
@pytest.mark.parametrize("correct", [0, 60, 85, 99, 100])
def test_the_bound_inverts_the_test(correct, curve, side):
    found = bound(1000, 100, correct, curve=curve, side=side)
    points = np.array([0.5, 0.999999, 1.0]) * found
    assert found == 0 or refuted(1000, 100, correct, points, curve=curve, side=side).all()
    above = found + np.array([1e-5, 0.1, 1.0])
    assert not refuted(1000, 100, correct, above, curve=curve, side=side).any()


def test_the_bound_rises_with_right_guesses_and_falls_with_confidence_and_canaries():
    rising = [bound(500, 100, correct) for correct in range(0, 101, 5)]
    assert rising == sorted(rising) and rising[0] == 0.0 and rising[-1] > 4
    assert bound(500, 100, 90, confidence=0.99) < bound(500, 100, 90, confidence=0.95)
    assert bound(1000, 100, 90) < bound(100, 100, 90)


def test_it_beats_the_binomial_bound_where_many_canaries_meet_a_delta():
    for canaries, guesses, correct, delta in [
        (10_000, 185, 183, 1e-5),
        (100_000, 400, 380, 1e-5),
        (1000, 100, 90, 1e-3),
    ]:
        numbers = {"canaries": canaries, "guesses": guesses, "correct": correct, "delta": delta}
        binomial = one_run.lower_bound_from_guesses(**numbers, confidence=0.95)
        assert bound(**numbers, curve=ApproximateFamily(delta=delta)) > 1.02 * binomial


def test_a_side_is_used_only_if_the_rule_fixes_it():
    def data(rule):
        scores = Scores(values=np.ones(10), design=OneRun(canaries=10), guessing_rule=rule)
        return LabelledScores(scores=scores, membership=np.arange(10) < 9)

    assert side_of(data(GuessExtremes(included=4, excluded=0))) == "in"
    assert side_of(data(GuessExtremes(included=0, excluded=4))) == "out"
    assert side_of(data(GuessExtremes(included=2, excluded=2))) == "either"
    assert side_of(data(Threshold(value=0.0))) == "either"


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "message"),
    [
        (0, 0, 0, "canaries must be at least 1, got 0"),
        (10, 11, 5, "guesses must be at most the 10 canaries, got 11"),
        (10, 5, 6, "correct must be at most the 5 guesses, got 6"),
        (10, 5, -1, "correct must be at least 0, got -1"),
        (10, 5.5, 1, "guesses must be a whole number, got 5.5"),
        (np.nan, 5, 1, "canaries must be finite|canaries must be a number"),
    ],
)
def test_impossible_counts_are_refused(canaries, guesses, correct, message):
    with pytest.raises(InvalidParameter, match=message):
        bound(canaries, guesses, correct)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"delta": 0.0}, "delta must be above 0, got 0: normal noise"),
        ({"delta": 1.0}, "delta must be below 1"),
        ({"confidence": 1.0}, "confidence must lie strictly between 0 and 1"),
        ({"side": "up"}, "side must be one of 'in', 'out', 'either'"),
        ({"curve": "laplace"}, "curve must be one of 'gaussian'"),
        ({"delta": 1e-3, "curve": ApproximateFamily(delta=1e-5)}, "delta must be at most the family's 1e-05"),
    ],
)
def test_what_says_nothing_is_refused_before_anything_is_computed(how, message):
    for correct in (0, 10):
        with pytest.raises(InvalidParameter, match=message):
            bound(10, 10, correct, **how)


def test_no_guess_and_no_success_show_nothing():
    assert bound(10, 0, 0) == bound(10, 10, 0) == 0.0


def test_a_run_without_noise_is_refused():
    scores = Scores(values=np.ones(10), design=OneRun(canaries=10), guessing_rule=Threshold(value=0.0))
    data = LabelledScores(scores=scores, membership=np.arange(10) < 9)
    with pytest.raises(InvalidParameter, match="must have noise"):
        OneRunFDP().epsilon(data, process=Gaussian(noise_multiplier=0.0), delta=DELTA, confidence=0.95)


@pytest.mark.slow  # a time
def test_a_bound_takes_less_than_50_ms_and_a_test_less_than_1_ms():
    def seconds(action):
        started = time.process_time()
        action()
        return time.process_time() - started

    counts = np.arange(1001)
    assert min(seconds(lambda: bound(1000, 1000, 950)) for _ in range(5)) < 0.050
    assert min(seconds(lambda: refuted(1000, 1000, counts, 2.0)) for _ in range(5)) < 0.001


def test_the_normal_family_is_the_curve_of_two_normals():
    mu, least = 0.5, GaussianFamily().curve(2**24, "in")
    threshold = np.linspace(-4, 4, 30)
    right, wrong = 0.5 * special.ndtr(mu - threshold), 0.5 * special.ndtr(-threshold)
    assert np.array([least(one) for one in right]) == pytest.approx(wrong, rel=1e-11)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("rule", [GuessExtremes(included=60, excluded=0), GuessExtremes(included=30, excluded=30)])
def test_the_bound_inverts_the_test_for_a_sampled_run_and_ignores_the_noise_it_starts_from(rule):
    rng = np.random.default_rng(5)
    membership = rng.random(300) < 0.5
    scores = Scores(values=2.5 * membership + rng.normal(size=300), design=OneRun(canaries=300), guessing_rule=rule)
    data, level = LabelledScores(scores=scores, membership=membership), {"delta": DELTA, "confidence": 0.95}
    found = []
    for noise in (0.6, 1.7):
        process = Sampled(Gaussian(noise_multiplier=noise), Poisson(probability=0.5))
        found.append(OneRunFDP().epsilon(data, process=process, **level))
        points = np.array([0.5, 1.0, 1.0 + 1e-9, 1.5]) * found[-1]
        decisions = OneRunFDP().rejects(data, points, process=process, **level)
        assert list(decisions) == [True, True, False, False]
    assert found[0] > 1 and found[1] == pytest.approx(found[0], rel=5e-3)
