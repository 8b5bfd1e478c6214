"""Compositions small enough to be known exactly: by quadrature, enumeration, binomials and closed forms.

Each end is asked for by itself, before the upper end could hide a lower end above it.
"""

import itertools
import json
import math
from fractions import Fraction
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant.core.layered import Layered
from accountant.pld import PLD
from mechanisms import Compose, Gaussian, Poisson, RandomizedResponse, Repeat, Sampled
from mechanisms.core.bounds import Bounds
from tests.reference.truth import Normal, delta
from tests.strategies import ADD_REMOVE, REPLACE_ONE, Tabulated, noise_multipliers, probabilities, tables

COMPOSITIONS = json.loads((Path(__file__).resolve().parents[1] / "reference" / "compositions.json").read_text())
COARSE = PLD(relative_width=1e-3, most_points=2**13)
FINE = PLD(relative_width=1e-5, most_points=2**18)


def curve_of(accountant, process, adjacency, direction):
    return dict(accountant.profile(process, adjacency=adjacency).curves)[direction]


def ends(curve, epsilon):
    """The raw ends of δ at ε, neither clipped nor reconciled with one another."""
    at = np.array([epsilon])
    composed = curve._composed(curve._places(at)[0])
    layers = composed.layers if isinstance(composed, Layered) else ((composed, composed),)
    return sum(float(below._lower(at)[0]) for _, below in layers), sum(
        float(above._upper(at)[0]) for above, _ in layers
    )


def assert_holds(curve, epsilon, truth, *, width):
    lower, upper = ends(curve, epsilon)
    assert lower * (1 - 1e-13) <= truth <= upper * (1 + 1e-13), (epsilon, lower, truth, upper)
    assert curve.delta(np.array([epsilon]))[0].contains(min(max(truth, lower), upper))
    assert upper - lower <= width * truth + 1e-15


def sampled(sigma, chance):
    return Sampled(Gaussian(noise_multiplier=sigma), Poisson(probability=chance))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("row", COMPOSITIONS, ids=lambda row: f"{row['steps']}-{row['direction']}-{row['epsilon']}")
def test_two_and_three_sampled_gaussians_are_bracketed_around_the_quadrature(row):
    process = Compose(tuple(sampled(sigma, chance) for sigma, chance in row["steps"]))
    curve = curve_of(FINE, process, ADD_REMOVE, row["direction"])
    assert_holds(curve, row["epsilon"], float(row["delta"]), width=2e-3)


@given(noise_multipliers, probabilities, st.sampled_from(("remove", "add")))
def test_a_single_step_is_bracketed_around_its_pair(sigma, chance, direction):
    step = sampled(sigma, chance)
    curve = curve_of(COARSE, step, ADD_REMOVE, direction)
    pair = step.pairs(ADD_REMOVE)[direction]
    for epsilon in (0.01, 0.2, 0.9, 2.3):
        if epsilon < pair.supremum.lower:
            truth = pair.delta(Bounds.exact(epsilon))
            lower, upper = ends(curve, epsilon)
            assert lower <= truth.upper and truth.lower <= upper


def enumerated(pairs, epsilon):
    """δ(ε) of independent tables, exactly: Σ (P − e^ε Q)₊ over all sequences of outcomes."""
    growth, total = mp.exp(mp.mpf(epsilon)), mp.mpf(0)
    for outcomes in itertools.product(*(list(zip(p, q, strict=True)) for p, q in pairs)):
        p, q = math.prod(Fraction(a) for a, _ in outcomes), math.prod(Fraction(b) for _, b in outcomes)
        total += max(mp.mpf(p.numerator) / p.denominator - growth * q.numerator / q.denominator, mp.mpf(0))
    return float(total)


@given(tables(), tables(), st.integers(1, 2), st.sampled_from(("remove", "add")))
def test_tables_of_any_shape_are_bracketed_around_the_enumeration(one, other, times, direction):
    """Asymmetric, with outcomes that only one side can show; the two directions are composed apart."""
    curve = curve_of(COARSE, Compose((Repeat(one, times), other)), ADD_REMOVE, direction)
    order = 1 if direction == "remove" else -1
    pairs = [(one.p, one.q)[::order]] * times + [(other.p, other.q)[::order]]
    for epsilon in (0.0, 0.05, 0.7, 2.0):
        truth, found = enumerated(pairs, epsilon), curve.delta(np.array([epsilon]))[0]
        assert found.lower * (1 - 1e-12) <= truth <= found.upper * (1 + 1e-12) + 1e-15


def mixed(p, q, chance):
    """Both directions of a table behind Poisson sampling, as rationals."""
    share = Fraction(chance)
    with_record = tuple((1 - share) * Fraction(b) + share * Fraction(a) for a, b in zip(p, q, strict=True))
    return {"remove": (with_record, q), "add": (q, with_record)}


@given(tables(), st.sampled_from((0.25, 0.5, 0.875)), st.integers(1, 3), st.sampled_from(("remove", "add")))
def test_sampled_tables_are_bracketed_around_the_enumeration(table, chance, times, direction):
    process = Repeat(Sampled(table, Poisson(probability=chance)), times)
    curve = curve_of(COARSE, process, ADD_REMOVE, direction)
    pairs = [mixed(table.p, table.q, chance)[direction]] * times
    for epsilon in (0.0, 0.05, 0.7, 2.0):
        truth, found = enumerated(pairs, epsilon), curve.delta(np.array([epsilon]))[0]
        assert found.lower * (1 - 1e-12) <= truth <= found.upper * (1 + 1e-12) + 1e-15


def responses(epsilon, categories, times):
    """(loss, probability) of repeated answers: a multinomial over own, other and neither."""
    weight = mp.exp(mp.mpf(epsilon))
    own, other = weight / (weight + categories - 1), 1 / (weight + categories - 1)
    rest = (categories - 2) * other
    for a in range(times + 1):
        for b in range(times - a + 1):
            c = times - a - b
            if rest or not c:
                ways = math.comb(times, a) * math.comb(times - a, b)
                yield (a - b) * mp.mpf(epsilon), ways * own**a * other**b * (rest**c if c else 1)


@pytest.mark.parametrize(("epsilon", "categories", "times"), [(0.5, 2, 40), (math.log(3), 2, 10), (0.9, 10, 12)])
def test_randomised_responses_are_bracketed_around_the_multinomial(epsilon, categories, times):
    process = Repeat(RandomizedResponse(epsilon=epsilon, categories=categories), times)
    curve = curve_of(FINE, process, REPLACE_ONE, "replace")
    with mp.workdps(40):
        law = list(responses(epsilon, categories, times))
        for at in (0.01, 0.3, 1.1, 3.0, 0.7 * epsilon * times, 0.95 * epsilon * times):
            truth = float(mp.fsum(mass * -mp.expm1(mp.mpf(at) - loss) for loss, mass in law if loss > at))
            assert_holds(curve, at, truth, width=0.2)


@pytest.mark.parametrize(("sigma", "epsilon", "times"), [(2.0, 0.5, 5), (1.0, 2.0, 2), (10.0, 0.1, 20)])
def test_gaussians_and_responses_together_are_bracketed_around_the_sum_over_answers(sigma, epsilon, times):
    process = Compose((Gaussian(noise_multiplier=sigma), Repeat(RandomizedResponse(epsilon=epsilon), times)))
    curve = curve_of(FINE, process, REPLACE_ONE, "replace")
    with mp.workdps(40):
        law, gaussian = list(responses(epsilon, 2, times)), Normal(2 / mp.mpf(sigma))
        for at in (0.0, 0.1, 0.77, 2.0, 5.0):
            truth = float(mp.fsum(mass * delta(gaussian, mp.mpf(at) - loss) for loss, mass in law))
            assert_holds(curve, at, truth, width=1e-3)


@pytest.mark.parametrize(("mu", "times", "epsilon", "published"), [(0.05, 1000, 15.0, 2.587e-19)])
def test_a_delta_far_below_round_off_keeps_its_digits(mu, times, epsilon, published):
    curve = curve_of(FINE, Repeat(Gaussian(noise_multiplier=1 / mu), times), ADD_REMOVE, "remove")
    with mp.workdps(40):
        truth = float(delta(Normal(mp.mpf(mu) * mp.sqrt(times)), mp.mpf(epsilon)))
    assert truth == pytest.approx(published, rel=1e-3)
    assert_holds(curve, epsilon, truth, width=1e-2)


@pytest.mark.parametrize("chance", [0.1, 0.5])
@pytest.mark.parametrize("times", [1, 2, 10])
def test_without_noise_the_record_is_seen_unless_it_is_never_sampled(chance, times):
    curve = curve_of(COARSE, Repeat(sampled(0.0, chance), times), ADD_REMOVE, "remove")
    for epsilon in (0.0, 1.0, 50.0):
        assert curve.delta(np.array([epsilon]))[0].contains(1 - (1 - chance) ** times)


def test_a_mechanism_that_shows_nothing_costs_nothing():
    nothing = Tabulated(p=(0.25, 0.75), q=(0.25, 0.75))
    curve = curve_of(COARSE, Repeat(Sampled(nothing, Poisson(probability=0.25)), 3), ADD_REMOVE, "remove")
    assert curve.delta(np.array([0.0, 0.1])).upper[1] <= 1e-12


def test_infinite_losses_are_composed_not_added():
    curve = curve_of(FINE, Repeat(sampled(0.0, 0.1), 10), ADD_REMOVE, "remove")
    assert curve.delta(np.array([1.0]))[0].upper <= 0.66


def test_tables_with_a_single_finite_loss_are_bracketed():
    one = Tabulated(p=(0.0, 1.0), q=(0.015625, 0.984375))
    other = Tabulated(p=(0.0, 0.234375, 0.765625), q=(0.234375, 0.0, 0.765625))
    curve = curve_of(COARSE, Compose((one, other)), ADD_REMOVE, "remove")
    assert curve.delta(np.array([0.7]))[0].contains(0.234375)


def test_the_add_direction_without_noise_is_bracketed_closely():
    curve = curve_of(FINE, sampled(0.0, 0.1), ADD_REMOVE, "add")
    assert curve.delta(np.array([0.05]))[0].upper <= 0.06
