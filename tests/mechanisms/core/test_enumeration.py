"""Coins, whole numbers, answers, bits and discrete noise by enumeration: see `tests.mechanisms.core.enumerated`."""

import itertools
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest

from mechanisms import (
    RandomizedResponse,
    UnaryEncoding,
)
from mechanisms.core import discrete_noise, inverted_counts
from mechanisms.core.exact_coins import exp_coins, geometrics, logistic_coins
from mechanisms.core.exact_uniforms import LazyUniform
from tests.mechanisms.core.enumerated import CLOSE, LATER, assert_close, exact, pieces, shares
from tests.mechanisms.core.scripted import WORD, Scripted


@pytest.fixture(autouse=True)
def sixty_digits():
    with mp.workdps(60):
        yield


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
