"""Choices, stairs and truncated noise by enumeration: see `tests.mechanisms.core.enumerated`."""

import itertools
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest

from mechanisms import (
    Adjacency,
    NoisyMax,
    Staircase,
    TruncatedLaplace,
)
from mechanisms.core import exact_choice
from mechanisms.core.bounds import Bounds
from tests.mechanisms.core.enumerated import CLOSE, LATER, assert_close, exact, pieces, shares
from tests.mechanisms.core.scripted import WORD, Scripted, first_bits

CELL = 1 << 62


@pytest.fixture(autouse=True)
def sixty_digits():
    with mp.workdps(60):
        yield


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
