"""Cells of monotone pairs and their curves: against all events of finite laws, in exact arithmetic."""

import itertools
from fractions import Fraction

import mpmath as mp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import InvalidParameter
from mechanisms.core.bounds import Bounds
from mechanisms.core.monotone_cells import lower_curve, upper_cells
from mechanisms.core.roc_curves import curve_of, hull, mirrored, pair_of

ALPHAS = [Fraction(0), *(Fraction(2) ** k * m for k in range(-8, 9) for m in (1, Fraction(5, 4), Fraction(3, 2)))]


def divergence(p, q, alpha):
    """H_α(P ‖ Q), the best event taken outcome by outcome."""
    return sum((max(a - alpha * b, Fraction(0)) for a, b in zip(p, q, strict=True)), start=Fraction(0))


def of_curve(curve, alpha):
    return max(a - alpha * b for b, a in curve)


def normalised(weights):
    return tuple(Fraction(weight, sum(weights)) for weight in weights)


weights = st.lists(st.integers(0, 12), min_size=2, max_size=9)


@st.composite
def laws(draw):
    q = draw(weights.filter(any))
    p = draw(st.lists(st.integers(0, 12), min_size=len(q), max_size=len(q)).filter(any))
    return normalised(p), normalised(q)


@given(laws(), laws())
def test_curves_have_the_divergences_of_their_laws(one, other):
    curves = [curve_of(*law) for law in (one, other)]
    for alpha in ALPHAS:
        of_laws = [divergence(*law, alpha) for law in (one, other)]
        assert [of_curve(curve, alpha) for curve in curves] == of_laws
        assert of_curve(mirrored(curves[0]), alpha) == divergence(one[1], one[0], alpha)
        assert of_curve(hull([*curves[0], *curves[1]]), alpha) == max(of_laws)


@given(laws())
def test_curves_are_concave_and_mirror_back(law):
    curve = curve_of(*law)
    slopes = [(c - a) / (d - b) for (b, a), (d, c) in itertools.pairwise(curve)]
    assert slopes == sorted(slopes, reverse=True) and len(set(slopes)) == len(slopes)
    assert mirrored(mirrored(curve)) == curve == hull(list(curve)) and curve[-1] == (1, 1) and curve[0][0] == 0


@given(laws(), st.floats(0.0, 4.0))
def test_pairs_of_curves_enclose_delta(law, epsilon):
    pair = pair_of(curve_of(*law), attained=True)
    with mp.workdps(60):
        alpha = mp.exp(mp.mpf(epsilon))
        for found, p, q in ((pair, *law), (pair.reverse(), *reversed(law))):
            found = found.delta(Bounds.exact(epsilon))
            p, q = ([mp.mpf(x.numerator) / x.denominator for x in side] for side in (p, q))
            truth = mp.fsum(max(a - alpha * b, 0) for a, b in zip(p, q, strict=True))
            assert mp.mpf(found.lower) - mp.mpf("1e-50") <= truth <= mp.mpf(found.upper) + mp.mpf("1e-50")
            assert found.width <= 1e-14 * (1 + epsilon)


@pytest.mark.parametrize(
    "ratio",
    [Fraction(1), 1 + Fraction(1, 10**15), 1 - Fraction(1, 10**250), Fraction(2), Fraction(1, 2), Fraction(21, 10)]
    + [Fraction(10) ** k * 3 for k in (-900, -400, -300, 290, 308, 500)],
)
def test_losses_are_logarithms_to_three_roundings(ratio):
    top = min(Fraction(1, 4), Fraction(1, 4) / ratio)
    curve = hull([(top, top * ratio)])
    pair = pair_of(curve, attained=True)
    slopes = [(c - a) / (d - b) for (b, a), (d, c) in itertools.pairwise(curve)]
    with mp.workdps(1000):
        for loss, slope in zip(pair.losses, reversed(slopes), strict=True):
            truth = mp.log(mp.mpf(slope.numerator) / slope.denominator)
            assert abs(mp.mpf(loss) - truth) <= 3 * mp.mpf(2) ** -53 * abs(truth)


def test_losses_that_floats_cannot_tell_from_zero_are_refused():
    half, tiny = Fraction(1, 2), Fraction(1, 10**301)
    with pytest.raises(InvalidParameter, match="must differ from 1 by 1e-300 at least"):
        pair_of(curve_of((half + tiny, half - tiny), (half, half)), attained=True)


@st.composite
def monotone_cases(draw):
    """Laws with increasing ratio, thresholds between some outcomes, and bands about the distribution functions."""
    q = draw(st.lists(st.integers(0, 9), min_size=2, max_size=12).filter(any))
    ratios = sorted(draw(st.lists(st.integers(0, 20), min_size=len(q), max_size=len(q))))
    p = [
        a * b if b else draw(st.integers(0, 9)) * (i == len(q) - 1)
        for i, (a, b) in enumerate(zip(ratios, q, strict=True))
    ]
    if not any(p):
        p[max(i for i, b in enumerate(q) if b)] = 1 if not any(q[i] and ratios[i] for i in range(len(q))) else p[-1]
    p, q = normalised(p), normalised(q)
    cuts = sorted(draw(st.sets(st.integers(1, len(q) - 1), min_size=1)))
    unsure = draw(st.sampled_from((Fraction(0), Fraction(1, 10**6), Fraction(1, 50))))
    bands = []
    for law in (p, q):
        band = [(Fraction(0), Fraction(0))]
        for cut in cuts:
            truth = sum(law[:cut])
            low = truth - unsure * draw(st.integers(0, 2)) / 2
            band.append((max(band[-1][0], low), truth + unsure * draw(st.integers(0, 2)) / 2))
        highs = [Fraction(1)]
        for _, high in reversed(band[1:]):
            highs.append(min(highs[-1], high))
        band = [
            (max(low, Fraction(0)), high) for (low, _), high in zip(band, [Fraction(0), *highs[:0:-1]], strict=True)
        ]
        bands.append([*band, (Fraction(1), Fraction(1))])
    return p, q, bands


@given(monotone_cases())
def test_cells_bracket_every_divergence(case):
    p, q, bands = case
    upper, lower = upper_cells(*bands, rising=True), lower_curve(*bands, rising=True)
    assert sum(upper[0]) == 1 == sum(upper[1]) and min(*upper[0], *upper[1]) >= 0
    for alpha in ALPHAS:
        truth = divergence(p, q, alpha)
        assert of_curve(lower, alpha) <= truth <= divergence(*upper, alpha)
        assert of_curve(mirrored(lower), alpha) <= divergence(q, p, alpha) <= divergence(*upper[::-1], alpha)


@given(monotone_cases())
def test_falling_ratios_are_rising_ones_from_behind(case):
    _, _, bands = case
    flipped = [[(1 - high, 1 - low) for low, high in reversed(band)] for band in bands]
    assert upper_cells(*flipped, rising=False) == upper_cells(*bands, rising=True)
    assert lower_curve(*flipped, rising=False) == lower_curve(*bands, rising=True)


def test_one_outcome_a_cell_is_bracketed_closely():
    """With exact masses and many cells, both sides close in on the truth, by the square of their number above."""
    gaps = []
    for n in (32, 64):
        q = [Fraction(1, n)] * n
        p = [Fraction(2 * i + 1, n * n) for i in range(n)]
        bands = []
        for law in (p, q):
            sums = [Fraction(0)]
            for mass in law:
                sums.append(sums[-1] + mass)
            bands.append([(x, x) for x in sums])
        upper, lower = upper_cells(*bands, rising=True), lower_curve(*bands, rising=True)
        assert max(x.denominator.bit_length() for side in upper for x in side) < 400
        gaps.append(max(divergence(*upper, a) - of_curve(lower, a) for a in ALPHAS if 0 < a < 2))
    assert 0 < gaps[1] < gaps[0] / 3 < Fraction(1, 100)


def test_masses_of_no_monotone_ratio_are_refused():
    point = lambda *sums: [(Fraction(x, 10), Fraction(x, 10)) for x in sums]  # noqa: E731
    for rising, p, q in ((True, (0, 5, 6, 10), (0, 3, 7, 10)), (False, (0, 1, 4, 10), (0, 5, 9, 10))):
        with pytest.raises(InvalidParameter, match="the loss must be monotone in the outcome as stated"):
            upper_cells(point(*p), point(*q), rising=rising)
    with pytest.raises(InvalidParameter, match="the loss must be monotone"):
        upper_cells(point(0, 5, 10), point(0, 0, 10), rising=True)
