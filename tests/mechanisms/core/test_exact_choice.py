"""Exact choices: enclosures against 60 digits, every comparison at its threshold, and the laws by χ²."""

from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechanisms import KeyedSource
from mechanisms.core import exact_choice
from mechanisms.core.bounds import Bounds
from mechanisms.core.exact_choice import drawn, drawn_by_weight, drawn_in_order, flipped, laplace_race
from tests.mechanisms.core.scripted import Scripted, first_bits

WHOLE = 1 << 62


def scaled_exp(exponent, bits):
    with mp.workdps(int(bits / 3) + 60):
        return mp.ldexp(mp.exp(-mp.mpf(exponent.numerator) / exponent.denominator), bits)


# Enclosures


def test_the_table_encloses_every_level_and_falls():
    least, most = exact_choice._table()
    with mp.workdps(60):
        for m in [*range(0, 11265, 97), 11264]:
            truth = mp.ldexp(mp.exp(-mp.mpf(m) / 256), 62)
            assert least[m] <= truth <= most[m] <= least[m] + 2
    assert (np.diff(least) <= 0).all() and (np.diff(most) <= 0).all() and most[-1] >= 1 and least[0] == WHOLE
    assert least[-1] == 0  # so that what is clipped to the last level is not taken unseen


@pytest.mark.parametrize("seed", range(8))
def test_levels_hold_the_exponents_of_scores_of_any_size(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=40) * 10.0 ** rng.uniform(-320, 308, 40)
    rate = Fraction(float(10.0 ** rng.uniform(-300, 300))) / Fraction(float(10.0 ** rng.uniform(-300, 300)))
    levels = exact_choice._levels(scores, rate)
    for i in range(40):
        exact = min(256 * exact_choice._exponent(scores, rate, i), Fraction(44 * 256))
        assert int(levels.lower[i]) <= exact <= int(levels.upper[i])
    assert levels.lower[np.argmax(scores)] == levels.upper[np.argmax(scores)] == 0


@given(st.integers(0, WHOLE - 1))
def test_levels_of_exponential_noise_hold_the_logarithm(cell):
    found = exact_choice._exponential(np.array([cell]))
    with mp.workdps(40):
        assert float(found.lower[0]) <= -mp.log(mp.mpf(cell + 1) / WHOLE)
        assert cell == 0 or -mp.log(mp.mpf(cell) / WHOLE) <= float(found.upper[0])


# Comparisons at their thresholds


@pytest.mark.parametrize("exponent", [Fraction(1, 3), Fraction(7), Fraction(1, 10**9), Fraction(31, 2)])
def test_a_point_is_told_from_the_threshold_by_as_many_bits_as_it_takes(exponent):
    threshold = int(scaled_exp(exponent, 62 + 128))
    cell, rest = threshold >> 128, threshold & ((1 << 128) - 1)
    first, second = rest >> 64, rest & ((1 << 64) - 1)
    for moved, below in ((-5, True), (5, False)):
        source = Scripted([first, second + moved])
        assert exact_choice._below(cell, exponent, source, "s") is below and not source.rest
    assert exact_choice._below(cell - 5, exponent, Scripted([]), "s")
    assert not exact_choice._below(cell + 5, exponent, Scripted([]), "s")


def test_a_candidate_is_taken_where_its_point_lies_below_its_weight():
    """Two candidates of exponents 0 and 1/3, so that the points are 2^62 and the level's bound in number."""
    scores, rate = np.array([0.0, -1.0]), Fraction(1, 3)
    _, most = exact_choice._table()
    bound, weight = int(most[85]), int(scaled_exp(Fraction(1, 3), 62))
    total = WHOLE + bound
    assert weight < bound < 1.004 * weight
    for point, chosen in ((0, 0), (WHOLE - 1, 0), (WHOLE, 1), (WHOLE + weight - 2, 1)):
        assert drawn(scores, rate, Scripted([first_bits(point, total)]), "s") == chosen
    for point in (WHOLE + weight + 2, WHOLE + bound - 1, total, 2**63 - 1):
        source = Scripted([first_bits(point, total), first_bits(3, total)])
        assert drawn(scores, rate, source, "s") == 0 and not source.rest


def cells_of(*pairs):
    return [cell << 2 | odd for cell, odd in pairs]


def test_coins_show_heads_below_their_probability_and_heads_are_chosen_uniformly():
    scores, rate = np.array([0.0, -1.0, -2.0]), Fraction(1, 3)
    weights = [WHOLE, int(scaled_exp(Fraction(1, 3), 62)), int(scaled_exp(Fraction(2, 3), 62))]
    for heads in range(4):
        coins = [(WHOLE - 1, 0)] + [(weights[i] + (-3 if heads >> (i - 1) & 1 else 3), 0) for i in (1, 2)]
        shown = [0, *(i for i in (1, 2) if heads >> (i - 1) & 1)]
        for which, chosen in enumerate(shown):
            drawing = [first_bits(which, len(shown))] if len(shown) > 1 else []
            assert flipped(scores, rate, Scripted([*cells_of(*coins), *drawing]), "s") == chosen


@pytest.mark.parametrize(
    ("first", "second", "odd"),
    [
        ("0.3", "0.2", (0, 0)),
        ("0.3", "0.2", (1, 1)),
        ("0.3", "0.9", (0, 1)),
        ("0.9", "0.4", (1, 0)),
        ("0.8", "0.85", (1, 0)),
    ],
)
@pytest.mark.parametrize("gap", [Fraction(0), Fraction(1, 3), Fraction(2), Fraction(80)])
def test_the_larger_noisy_score_wins_the_race(first, second, odd, gap):
    cells = [int(mp.mpf(text) * WHOLE) for text in (first, second)]
    noise = [(-1 if turned else 1) * -mp.log(mp.mpf(cell) / WHOLE) for cell, turned in zip(cells, odd, strict=True)]
    chosen = 0 if noise[0] > noise[1] - mp.mpf(gap.numerator) / gap.denominator else 1
    source = Scripted(cells_of(*zip(cells, odd, strict=True)))
    assert laplace_race(np.array([0.0, -1.0]), gap or Fraction(1, 10**40), source, "s") == chosen


def test_a_race_within_one_cell_is_decided_by_further_bits():
    cell = WHOLE // 3
    """The smaller U is the larger noise −log U, and the smaller noise log U."""
    for odd, more, chosen in ((0, (5, 6), 1), (0, (6, 5), 0), (1, (5, 6), 0), (1, (6, 5), 1)):  # the second one's first
        source = Scripted([*cells_of((cell, odd), (cell, odd)), *more])
        assert laplace_race(np.zeros(2), Fraction(1), source, "s") == chosen and not source.rest


def test_noise_of_any_size_below_takes_part():
    source = Scripted(cells_of((0, 1), (WHOLE // 2, 1)))
    assert laplace_race(np.zeros(2), Fraction(1), source, "s") == 1
    assert laplace_race(np.zeros(1), Fraction(1), Scripted(cells_of((0, 1))), "s") == 0


# Weights


def weighed(counts, powers, source, slack=1e-15):
    floats = np.array([float(x) for x in powers])
    around = Bounds(lower=floats * (1 - slack), upper=floats * (1 + slack))
    return drawn_by_weight(np.array(counts), around, powers.__getitem__, source, "s")


def test_a_weight_is_a_number_of_candidates_of_one_level():
    """Three and two of exponent 0, one of 1/3: every whole number of points leads to the one they belong to."""
    _, most = exact_choice._table()
    counts, powers = [3, 1, 2], [Fraction(0), Fraction(1, 3), Fraction(0)]
    total = 5 * WHOLE + int(most[85])
    for point, chosen in (
        (0, 0),
        (3 * WHOLE - 1, 0),
        (3 * WHOLE, 2),
        (5 * WHOLE - 1, 2),
        (5 * WHOLE, 1),
        (5 * WHOLE + int(scaled_exp(Fraction(1, 3), 62)) - 2, 1),
    ):
        whole = point << (128 - total.bit_length())  # of two words, the low one first
        source = Scripted([whole & (2**64 - 1), whole >> 64])
        assert weighed(counts, powers, source) == chosen and not source.rest


def test_choices_follow_weights():
    counts, powers = [1, 10, 400, 2, 7], [Fraction(0), Fraction(3, 2), Fraction(6), Fraction(1, 3), Fraction(2)]
    weights = np.array(counts) * np.exp([-float(x) for x in powers])
    for slack in (1e-15, 1e-3):
        source = KeyedSource(3)
        found = [weighed(counts, powers, source, slack) for _ in range(1500)]
        expected = weights / weights.sum() * 1500
        assert stats.chisquare(np.bincount(found, minlength=5), expected).pvalue > 1e-3


def test_enclosures_that_know_nothing_slow_a_choice_down_and_leave_its_law():
    blind = Bounds(lower=np.zeros(3), upper=np.full(3, np.inf))
    source = KeyedSource(0)
    found = [
        drawn_by_weight(np.array([1, 1, 2]), blind, lambda i: Fraction(i == 0) * 50, source, "s") for _ in range(300)
    ]
    assert found.count(0) == 0 and 60 < found.count(1) < 140


@pytest.mark.parametrize("scale", [1e-300, 1e20, 1e300])
def test_weights_of_any_exponent_end_in_a_choice(scale):
    powers, source = [Fraction(scale) * k for k in (2, 0, 0, 3)], KeyedSource(7)
    found = {weighed([1, 1, 1, 2**52], powers, source) for _ in range(40)}
    assert found == ({3} if scale < 1 else {1, 2})


# Laws


def law(kind, exponents):
    q = np.exp(-np.array(exponents))
    if kind is drawn:
        return q / q.sum()
    x, weight = np.polynomial.legendre.leggauss(24)
    if kind is flipped:
        w = (x + 1) / 2
        others = [np.prod([1 - q[j] * w for j in range(len(q)) if j != i], axis=0) for i in range(len(q))]
        return np.array([q[i] * np.sum(weight * others[i]) / 2 for i in range(len(q))])
    found = np.zeros(len(q))
    for left in np.arange(-24.0, 24.0, 0.5):
        z = left + 0.25 * (x + 1)
        below = [stats.laplace.cdf(z + r) for r in exponents]
        for i, r in enumerate(exponents):
            density = stats.laplace.pdf(z + r) * np.prod([b for j, b in enumerate(below) if j != i], axis=0)
            found[i] += 0.25 * np.sum(weight * density)
    return found


@pytest.mark.thinned(4)
@pytest.mark.parametrize("kind", [drawn, flipped, laplace_race])
@pytest.mark.parametrize("exponents", [(0.0, 0.5, 1.7), (0.0, 0.0, 0.0, 3.0, 0.01), (2.0, 0.0)])
def test_draws_have_the_law(kind, exponents):
    source, expected = KeyedSource(f"{kind.__name__}{exponents}"), law(kind, exponents)
    assert abs(expected.sum() - 1) < 1e-6
    scores = -np.array(exponents)
    counts = np.bincount([kind(scores, Fraction(1), source, "s") for _ in range(800)], minlength=len(exponents))
    assert stats.chisquare(counts, expected / expected.sum() * 800).pvalue > 1e-4


SIZES = [
    np.zeros(1),
    np.array([1.7e308, -1.7e308]),
    np.array([5e-324, 0.0, -0.0]),
    np.array([1e308, -1e308, 5e-324]),
    np.linspace(-1, 1, 3000),
]


@pytest.mark.parametrize("kind", [drawn, flipped, laplace_race])
@pytest.mark.parametrize("rate", [Fraction(1), Fraction(1, 10**600), Fraction(10) ** 600, Fraction(5e-324)])
def test_scores_and_rates_of_any_size_are_chosen_among(kind, rate):
    for scores in SIZES:
        source = KeyedSource(0)
        found = [kind(scores, rate, source, "s") for _ in range(2)]
        assert all(type(one) is int and 0 <= one < len(scores) for one in found)
        if rate > 1e300 and len(scores) > 1 and scores.max() > 1e-300:
            assert found == [int(np.argmax(scores))] * 2


def test_where_one_of_many_candidates_dominates_it_is_drawn_at_once():
    scores = np.zeros(50_000)
    scores[-7] = 60.0
    source = KeyedSource(0)
    for kind in (drawn, flipped, laplace_race):
        assert kind(scores, Fraction(1), source, "s") == 49_993


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    "gaps", [(0.0, 0.3, 1.0), (0.0, 33.0, 33.5), (0.0, 500.0, 500.7, 1e6), (0.0, 31.9, 32.1, 1e300)]
)
def test_orders_have_the_law_however_far_apart_scores_are(gaps):
    """Of the first, or of the two that are far behind it, the better one comes first as often as it should."""
    scores, source = -np.array(gaps), KeyedSource(str(gaps))
    orders = [drawn_in_order(scores, Fraction(1), len(gaps), source, "s") for _ in range(600)]
    assert all(sorted(order) == list(range(len(gaps))) for order in orders)
    assert gaps[1] < 2 or all(order[0] == 0 for order in orders)
    expected = 1 / (1 + np.exp(gaps[1] - gaps[2]))
    ahead = sum(order.index(1) < order.index(2) for order in orders)
    assert stats.binomtest(ahead, 600, expected).pvalue > 1e-4


def test_levels_are_kept_from_one_draw_to_the_next():
    scores = np.linspace(0.0, 5.0, 20_000)
    order = drawn_in_order(scores, Fraction(1), 40, KeyedSource(0), "s")
    assert len(set(order)) == 40 and np.mean(scores[list(order)]) == pytest.approx(4.03, abs=0.6)  # Σ u e^u / Σ e^u
