"""The laws of samplers by enumeration: how many words of 64 bits lead to which outcome, exactly.

Where the outcome is a step function of a word, `pieces` finds its steps by bisection and so counts all 2^64 words; what
the last digits leave open, below 1e-18, is decided by later words. Between strata of the word a step function may do
what it likes unseen; there are more strata than steps.
"""

import itertools
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest

from mechanisms import (
    Adjacency,
    NoisyMax,
    RandomizedResponse,
    Staircase,
    TruncatedLaplace,
    UnaryEncoding,
)
from mechanisms.core import discrete_noise, exact_choice, inverted_counts
from mechanisms.core.bounds import Bounds
from mechanisms.core.exact_coins import exp_coins, geometrics, logistic_coins
from mechanisms.core.exact_uniforms import LazyUniform
from tests.mechanisms.core.scripted import WORD, Scripted, first_bits

CELL = 1 << 62
LATER = [WORD // 3, WORD // 5, WORD // 7, WORD // 9, WORD // 11, WORD // 13]  # decide what the first word leaves open
CLOSE = mp.mpf("1e-18")


@pytest.fixture(autouse=True)
def sixty_digits():
    with mp.workdps(60):
        yield


def pieces(outcome, size=WORD, strata=64):
    """Return how many of the whole numbers below `size` have each outcome."""
    ends = [size * k // strata for k in range(strata)] + [size - 1]
    counts, start, here = {}, 0, outcome(0)
    for left, right in itertools.pairwise(ends):
        while outcome(right) != here:
            low, high = max(left, start), right
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if outcome(middle) == here else (low, middle)
            counts[here] = counts.get(here, 0) + high - start
            start, here = high, outcome(high)
    counts[here] = counts.get(here, 0) + size - start
    return counts


def shares(counts):
    total = sum(counts.values())
    return {outcome: mp.mpf(count) / total for outcome, count in counts.items()}


def assert_close(found, law, within=CLOSE):
    for outcome in set(found) | set(law):
        assert abs(found.get(outcome, 0) - law.get(outcome, 0)) < within, outcome


def exact(fraction):
    return mp.mpf(fraction.numerator) / fraction.denominator


def test_pieces_are_counted_exactly():
    assert pieces(lambda word: word * 10 // WORD)[3] == WORD * 4 // 10 - WORD * 3 // 10
    assert pieces(lambda word: word >= 7) == {False: 7, True: WORD - 7}
    assert pieces(lambda k: k % 7, size=70, strata=70) == dict.fromkeys(range(7), 10)


# Coins and whole numbers


@pytest.mark.parametrize("exponent", [Fraction(0), Fraction(1, 3), Fraction(9, 2), Fraction(30)])
def test_coins_fall_with_their_probability(exponent):
    near = np.array([float(exponent)])
    found = pieces(lambda word: bool(exp_coins(Scripted([word, *LATER]), "s", near, lambda _: exponent)[0]))
    assert_close(shares(found), {True: mp.exp(-exact(exponent)), False: -mp.expm1(-exact(exponent))})


@pytest.mark.parametrize(("exponent", "weight"), [(Fraction(0), 1), (Fraction(1), 2), (Fraction(7, 3), 9)])
def test_logistic_coins_fall_with_their_probability(exponent, weight):
    found = pieces(
        lambda word: bool(logistic_coins(Scripted([word, *LATER]), "s", 1, exponent=exponent, weight=weight)[0])
    )
    odds = weight * mp.exp(-exact(exponent))
    assert_close(shares(found), {True: odds / (1 + odds), False: 1 / (1 + odds)})


def test_trials_have_their_law():
    found = pieces(lambda word: min(int(geometrics(Scripted([word, *LATER]), "s", 1)[0]), 12))
    law = {k: mp.exp(-k) * -mp.expm1(-1) for k in range(12)} | {12: mp.exp(-12)}
    assert_close(shares(found), law)


def test_a_lazy_number_lies_below_as_often_as_it_should():
    found = pieces(
        lambda word: LazyUniform(Scripted([word, *LATER]), "s").is_below(
            lambda bits: ((1 << bits) // 3, (1 << bits) // 3 + 1)
        )
    )
    assert abs(found[True] - WORD // 3) <= 1


@pytest.mark.parametrize("mean", [Fraction(1, 4), Fraction(3)])
def test_poisson_numbers_have_their_law(mean):
    found = pieces(lambda word: min(inverted_counts.poisson(Scripted([word, *LATER]), "k", mean), 8))
    law = {k: mp.exp(-exact(mean)) * exact(mean) ** k / mp.factorial(k) for k in range(8)}
    assert_close(shares(found), law | {8: 1 - mp.fsum(law.values())})


@pytest.mark.parametrize(
    ("eta", "gamma"), [(Fraction(1), Fraction(1, 4)), (Fraction(0), Fraction(1, 2)), (Fraction(-1, 2), Fraction(1, 8))]
)
def test_truncated_negative_binomial_numbers_have_their_law(eta, gamma):
    def drawn(word):
        return min(inverted_counts.truncated_negative_binomial(Scripted([word, *LATER]), "k", eta, gamma), 6)

    def weight(k):
        return (1 - exact(gamma)) ** k * mp.fprod((exact(eta) + j) / (j + 1) for j in range(1, k))  # but for factors

    total = (exact(gamma) ** -exact(eta) - 1) / exact(eta) if eta else -mp.log(exact(gamma))
    law = {k: weight(k) / total for k in range(1, 6)}
    assert_close(shares(pieces(drawn)), law | {6: 1 - mp.fsum(law.values())})


# Randomised response and unary encoding


@pytest.mark.parametrize(("epsilon", "categories"), [(1.0, 3), (0.25, 5), (3.0, 2)])
def test_randomised_response_has_its_law(epsilon, categories):
    """A word for the lie, and one whose remainder tells which: words beyond the last whole run are drawn anew."""
    mechanism, others = RandomizedResponse(epsilon=epsilon, categories=categories), categories - 1

    def answers(word):
        return tuple(
            mechanism.release(1, randomness=Scripted([word, *[rest + others * 10**9] * 9])) for rest in range(others)
        )

    law = {}
    for found, count in pieces(answers).items():
        for answer in found:
            law[answer] = law.get(answer, 0) + mp.mpf(count) / WORD / others
    weight = mp.exp(mp.mpf(epsilon))
    own = {k: (weight if k == 1 else 1) / (weight + others) for k in range(categories)}
    assert_close(law, own)


@pytest.mark.parametrize("encoding", ["symmetric", "optimised"])
def test_bits_of_unary_encoding_have_their_law_and_each_its_own_word(encoding):
    mechanism, epsilon = UnaryEncoding(epsilon=1.5, categories=3, encoding=encoding), mp.mpf(1.5)
    words = 4 if encoding == "optimised" else 3
    half = epsilon / 2 if encoding == "symmetric" else epsilon
    own = 1 / (1 + mp.exp(-half)) if encoding == "symmetric" else mp.mpf(1) / 2
    for which, others in itertools.product(range(words), ([0] * words, [WORD - 1] * words, LATER[:words])):

        def bits(word, which=which, others=others):
            script = [word if k == which else one for k, one in enumerate(others)]
            return tuple(mechanism.release(1, randomness=Scripted(script + LATER)).tolist())

        found, fixed = {one: count for one, count in pieces(bits).items() if count > 4}, bits(0)
        at = 1 if which == 3 else which  # the last word is the own bit's, where it is drawn apart
        if encoding == "optimised" and which == 1:
            assert list(found) == [fixed]  # but for a word or two that leave it open and so take the next one
            continue
        assert all(one[k] == fixed[k] for one in found for k in range(3) if k != at)
        chance = {one[at]: share for one, share in shares(found).items()}
        assert abs(chance[1] - (own if at == 1 else 1 / (1 + mp.exp(half)))) < CLOSE


# Discrete noise


@pytest.mark.parametrize("variance", [Fraction(1, 4), Fraction(2), Fraction(17, 3)])
def test_of_all_ways_to_draw_a_gaussian_candidate_the_masses_add_to_the_law(variance, monkeypatch):
    """Whole numbers, trials and signs in all their combinations, each with the chances of its coins."""
    law, asked = {}, []

    def coins(source, stream, exponents, exponent):
        asked.extend(exponent(i) for i in range(len(exponents)))
        return np.ones(len(exponents), dtype=bool)

    monkeypatch.setattr(discrete_noise, "exp_coins", coins)
    t = int(mp.floor(mp.sqrt(exact(variance)))) + 1
    for below, trials, negative in itertools.product(range(t), range(40), (False, True)):
        monkeypatch.setattr(discrete_noise, "uniform_integers", lambda *given, u=below: np.array([u]))
        monkeypatch.setattr(discrete_noise, "geometrics", lambda *given, v=trials: np.array([v]))
        monkeypatch.setattr(discrete_noise, "signs", lambda *given, s=negative: np.array([s]))
        asked.clear()
        for drawn in discrete_noise._gaussian_candidates(Scripted([]), "s", variance, 1).tolist():
            law[drawn] = law.get(drawn, 0) + mp.exp(-trials - exact(sum(asked)))
    total = mp.fsum(mp.exp(-(mp.mpf(k) ** 2) / (2 * exact(variance))) for k in range(-60, 61))
    for k in range(-12, 13):
        truth = mp.exp(-(mp.mpf(k) ** 2) / (2 * exact(variance))) / total
        assert abs(law.get(k, 0) / mp.fsum(law.values()) - truth) < mp.mpf("1e-17")


# Choices among three candidates

SCORES, RATE = np.array([0.0, -1.0, -2.5]), Fraction(2, 3)
EXPONENTS = [Fraction(0), Fraction(2, 3), Fraction(5, 3)]


def test_the_exponential_mechanism_has_its_law():
    """By the first whole number that is drawn; where it is rejected, all begins anew."""
    _, most = exact_choice._table()
    levels = exact_choice._levels(SCORES, RATE).lower
    total = sum(int(most[level]) for level in levels)
    drawn_anew = [first_bits(0, total)]

    def outcome(point):
        source = Scripted([first_bits(point, total), *drawn_anew])
        chosen = exact_choice.drawn(SCORES, RATE, source, "s")
        return chosen if source.rest == drawn_anew else "rejected"

    found = pieces(outcome, size=total)
    assert found.pop("rejected") < total // 100
    weights = [mp.exp(-exact(x)) for x in EXPONENTS]
    law = {i: weight / mp.fsum(weights) for i, weight in enumerate(weights)}
    assert_close(shares(found), law, within=5 * CLOSE)


def test_permute_and_flip_has_its_law():
    """The chance of each coin by all of its words, whatever the others; then one of those that show heads."""
    for i in range(3):
        for others in itertools.product((0, CELL - 1), repeat=2):

            def heads(cell, i=i, others=others):
                cells = [*others[:i], cell, *others[i:]]
                found = set()
                for which in range(3):  # of up to three heads, each comes first for one first word
                    script = [c << 2 for c in cells] + [first_bits(which, 3)]
                    source = Scripted([*script, *LATER])
                    found.add(exact_choice.flipped(SCORES, RATE, source, "s"))
                return i in found

            chance = mp.mpf(pieces(heads, size=CELL, strata=16)[True]) / CELL
            assert abs(chance - mp.exp(-exact(EXPONENTS[i]))) < CLOSE


@pytest.mark.parametrize("strata", [4, pytest.param(10, marks=pytest.mark.slow)])
def test_the_largest_of_three_scores_with_laplace_noise_has_its_law(strata):
    """Strata of all three words, at the ends at which a candidate is the worst off: there it wins for certain."""
    mechanism = NoisyMax(epsilon=4 / 3, adjacency=Adjacency.ADD_REMOVE, noise="laplace")
    assert mechanism.rate(1.0) == Fraction(4 / 3) / 2
    sides = [(k, odd) for k in range(strata) for odd in (0, 1)]
    certain = dict.fromkeys(range(3), 0)

    def end(side, high):
        k, odd = side  # noise −log U falls with the cell, log U rises with it
        return ((k + 1) * CELL // strata - 1 if high == bool(odd) else k * CELL // strata) << 2 | odd

    for drawn in itertools.product(sides, repeat=3):
        for i in range(3):
            words = [end(side, high=j != i) for j, side in enumerate(drawn)]
            chosen = mechanism.release(SCORES, sensitivity=1.0, randomness=Scripted([*words, *LATER * 4]))
            certain[i] += chosen == i
    bounds = {i: mp.mpf(count) / len(sides) ** 3 for i, count in certain.items()}
    left = 1 - mp.fsum(bounds.values())
    assert 0 < left < 2.5 / strata
    for i, truth in laplace_law().items():
        assert bounds[i] <= truth <= bounds[i] + left


def laplace_law():
    def below(x):
        return mp.exp(x) / 2 if x < 0 else 1 - mp.exp(-x) / 2

    def chance(i):
        def density(z):
            others = [below(z + exact(EXPONENTS[j])) for j in range(3) if j != i]
            return mp.exp(-abs(z + exact(EXPONENTS[i]))) / 2 * mp.fprod(others)

        return mp.quad(density, [-30, *sorted(-exact(x) for x in EXPONENTS), 30])

    with mp.workdps(20):
        return {i: chance(i) for i in range(3)}


# Numbers of one dimension


def test_steps_of_the_staircase_have_their_law():
    mechanism = Staircase(epsilon=0.75, fraction=0.25)
    found = pieces(lambda word: min(mechanism._steps(Scripted([word, *LATER])), 9))
    law = {k: mp.exp(-0.75 * mp.mpf(k)) * -mp.expm1(-mp.mpf(0.75)) for k in range(9)} | {9: mp.exp(-mp.mpf(6.75))}
    assert_close(shares(found), law)


@pytest.mark.parametrize(("epsilon", "fraction"), [(0.75, 0.25), (2.0, 0.9)])
def test_places_before_the_fall_have_their_chance(epsilon, fraction):
    mechanism = Staircase(epsilon=epsilon, fraction=fraction)
    found = pieces(lambda word: mechanism._before_the_fall(Scripted([word, *LATER])))
    before, behind = mp.mpf(fraction), mp.exp(-mp.mpf(epsilon)) * (1 - mp.mpf(fraction))
    assert_close(shares(found), {True: before / (before + behind), False: behind / (before + behind)})


def test_truncated_laplace_noise_has_its_law_in_coarse_steps():
    """Of noise of scale 1 up to 3, rounded to halves: by the word of the exponential, which is taken or drawn anew."""
    mechanism = TruncatedLaplace(noise_multiplier=1.0, bound=3.0)

    def outcome(word, sign):
        source = Scripted([word, sign, *LATER * 9])
        released = mechanism.release(0.0, sensitivity=1.0, randomness=source, granularity=0.5)
        return released if len(source.rest) == 9 * len(LATER) else "drawn anew"

    plus, minus = (pieces(lambda word, sign=sign: outcome(word, sign)) for sign in (0, WORD - 1))
    assert abs(mp.mpf(plus.pop("drawn anew")) / WORD - mp.exp(-3)) < CLOSE
    assert minus.pop("drawn anew") > 0
    law = {}
    for counts in (plus, minus):
        for released, share in shares(counts).items():
            law[released] = law.get(released, 0) + share / 2

    def below(x):
        x = min(max(mp.mpf(x), -3), 3)
        return (1 + mp.sign(x) * mp.expm1(-abs(x)) / mp.expm1(-3)) / 2

    truth = {k / 2: below(k / 2 + 0.25) - below(k / 2 - 0.25) for k in range(-6, 7)}
    assert_close(law, truth)


def test_weights_of_many_candidates_have_their_law():
    counts, powers = np.array([4, 1, 1]), [Fraction(0), Fraction(1, 3), Fraction(2)]
    floats = np.array([float(x) for x in powers])
    around = Bounds(lower=floats * (1 - 1e-15), upper=floats * (1 + 1e-15))
    _, most = exact_choice._table()
    levels = exact_choice._leveled(around).lower
    total = sum(int(n) * int(most[level]) for n, level in zip(counts, levels, strict=True))

    def words(point):
        whole = point << (128 - total.bit_length())  # of two words, the low one first
        return [whole & (WORD - 1), whole >> 64]

    def outcome(point):
        source = Scripted([*words(point), *words(0)])
        chosen = exact_choice.drawn_by_weight(counts, around, powers.__getitem__, source, "s")
        return chosen if len(source.rest) == 2 else "rejected"

    found = pieces(outcome, size=total)
    found.pop("rejected")
    weights = [int(n) * mp.exp(-exact(x)) for n, x in zip(counts, powers, strict=True)]
    assert_close(shares(found), {i: weight / mp.fsum(weights) for i, weight in enumerate(weights)})
