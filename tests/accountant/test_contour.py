"""The contour accountant against published values, other programs' brackets, other accountants, and hostile input."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant import delta_bounds, epsilon_bounds
from accountant.contour import Contour
from accountant.core.lines import lines
from accountant.gdp import GDP
from accountant.pld import PLD
from accountant.rdp import RDP
from mechanisms import (
    Allocated,
    ApproximateDP,
    BallsInBins,
    Compose,
    Gaussian,
    NumericalFailure,
    Poisson,
    Repeat,
    Sampled,
    Shuffled,
    UnsupportedProcess,
)
from mechanisms.core.errors import DPError
from tests.reference.truth import line_delta
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

PUBLISHED = [
    (1.1, 0.01, 10_000, 1e-5, 5.19258344588),
    (0.8, 256 / 60_000, 14_062, 1e-5, 4.5498387257),
    (4.0, 0.01, 10_000, 1e-5, 0.94686680076),
    (2.0, 0.01, 1_500, 1e-15, 1.65535347172411),
]
# Brackets by other programs: (σ, q, T, δ, lower, upper).
REFERENCES = [
    (1.1, 0.01, 10_000, 1e-15, 9.89865901, 9.89866254),
    (1.1, 0.01, 10_000, 1e-30, 14.6916819, 14.6916864),
    (1.0, 0.001, 100_000, 1e-6, 1.86104272, 1.86105694),
    (50.0, 0.5, 1_000, 1e-6, 1.36858506, 1.36858525),
    (100.0, 0.01, 10_000, 1e-5, 0.0272241126, 0.0272244913),
    (2.0, 1.0, 100, 1e-5, 33.1037322, 33.1037324),
]
# ((σ, q, T) …), direction, ε, δ by `line_delta` in 60 digits on lines other than the ones used.
TRUTHS = [
    (((1.0, 0.01, 10**4),), "remove", 5.0, "2.779296219815473195e-4"),
    (((1.0, 0.01, 10**4),), "add", 5.0, "8.162285110773923434e-5"),
    (((1.0, 0.01, 10**4),), "remove", 20.0, "1.685200709420808322e-37"),
    (((0.5, 0.5, 10**9),), "remove", 663316756.4634485, "1.344203480437405349e-3"),
    (((0.5, 0.5, 10**15),), "remove", 663169323759399.1, "1.690775819406253623e-3"),
    (((1024.0, 2.0**-20, 2**53),), "remove", 0.25, "6.920765725646012523e-5"),
    (((1024.0, 2.0**-20, 2**53),), "add", 0.25, "6.920765723518164259e-5"),
    (((1.0, 0.125, 700), (4.0, 0.5, 20), (8.0, 1.0, 4)), "remove", 12.0, "0.1236209436092614024"),
    (((1.0, 0.125, 700), (4.0, 0.5, 20), (8.0, 1.0, 4)), "add", 12.0, "0.04007400020483241239"),
    (((64.0, 1e-4, 10**9),), "remove", 0.5, "1.404713420486188935e-26"),
    (((0.5, 1 - 1e-9, 60),), "remove", 200.0, "8.967056959162267315e-8"),
    (((2.0, 0.01, 1500),), "remove", 2.5, "2.456393541020644057e-30"),
]
CASES = Path(__file__).resolve().parents[2] / "shared" / "reference" / "accounting_cases.json"


def dp_sgd(sigma, chance, times):
    return Repeat(Sampled(Gaussian(noise_multiplier=sigma), Poisson(probability=chance)), times)


def profile(process, adjacency=ADD_REMOVE):
    return Contour().profile(process, adjacency=adjacency)


def forgotten():
    lines.cache_clear()


@pytest.mark.parametrize(("sigma", "chance", "times", "delta", "published"), PUBLISHED)
def test_published_values_are_enclosed_within_1e_9(sigma, chance, times, delta, published):
    bounds = profile(dp_sgd(sigma, chance, times)).epsilon(delta)
    digits = 5e-12 if published < 1 else 5e-11
    assert bounds.lower - digits <= published <= bounds.upper + digits
    assert bounds.width <= 1e-9


@pytest.mark.parametrize(("sigma", "chance", "times", "delta", "lower", "upper"), REFERENCES)
def test_brackets_of_other_programs_are_overlapped(sigma, chance, times, delta, lower, upper):
    bounds = profile(dp_sgd(sigma, chance, times)).epsilon(delta)
    assert bounds.lower <= upper and lower <= bounds.upper
    assert bounds.width <= 1e-8 * bounds.upper


@pytest.mark.parametrize(("parts", "direction", "epsilon", "truth"), TRUTHS)
def test_deltas_known_to_19_digits_are_enclosed(parts, direction, epsilon, truth):
    """At 10¹⁵ steps 1 + θ must be exact: rounded, it costs 7 % of δ."""
    process = Compose(tuple(dp_sgd(*part) for part in parts))
    found = dict(profile(process).curves)[direction].delta(np.array([epsilon]))[0]
    with mp.workdps(40):
        assert mp.mpf(found.lower) <= mp.mpf(truth) <= mp.mpf(found.upper)
        assert found.width <= 1e-4 * mp.mpf(truth) or parts[0][2] == 1500


@pytest.mark.slow
def test_the_first_of_them_is_what_another_line_says():
    with mp.workdps(30):
        parts, direction, epsilon, truth = TRUTHS[0]
        assert abs(line_delta(parts, direction, epsilon, 2.0, 0.25) / mp.mpf(truth) - 1) < mp.mpf("1e-15")


@pytest.mark.skipif(not CASES.exists(), reason="shared/reference/accounting_cases.json is not part of the repository")
def test_the_brackets_of_the_reference_cases_are_overlapped():
    answered = 0
    for case in json.loads(CASES.read_text())["cases"]:
        if any(item[0] not in ("g", "sg") for item in case["items"]) or "add" not in case["neighbouring"]:
            continue
        parts = [dp_sgd(item[1], item[2] if item[0] == "sg" else 1.0, item[-1]) for item in case["items"]]
        try:
            bounds = profile(Compose(tuple(parts))).epsilon(case["delta"])
        except NumericalFailure:
            continue
        answered += bounds.upper < math.inf
        assert bounds.lower <= case["eps_hi"] * (1 + 1e-11) and case["eps_lo"] * (1 - 1e-11) <= bounds.upper, case[
            "name"
        ]
    assert answered >= 10


@given(
    st.sampled_from((0.6, 1.0, 3.7, 25.0)),
    st.sampled_from((0.003, 0.05, 0.5, 0.9, 1.0)),
    st.integers(40, 10**6),
    st.sampled_from((1e-2, 1e-5, 1e-9, 1e-15)),
)
def test_no_upper_end_of_rdp_lies_below_and_no_lower_end_above_pld(sigma, chance, times, delta):
    process = dp_sgd(sigma, chance, times)
    try:
        bounds = profile(process).epsilon(delta)
    except NumericalFailure as failure:
        assert "pld" in str(failure)
        return
    assert bounds.lower <= RDP().profile(process, adjacency=ADD_REMOVE).epsilon(delta).upper
    if times <= 300:
        coarse = PLD(relative_width=1e-3, most_points=2**13)
        assert bounds.overlaps(coarse.profile(process, adjacency=ADD_REMOVE).epsilon(delta))


@given(st.floats(0.3, 300.0), st.integers(1, 1000), st.floats(1e-100, 0.5), st.sampled_from((ADD_REMOVE, REPLACE_ONE)))
def test_gaussians_meet_their_closed_form(sigma, times, delta, adjacency):
    process = Repeat(Gaussian(noise_multiplier=sigma), times)
    bounds, exact = (kind.profile(process, adjacency=adjacency).epsilon(delta) for kind in (Contour(), GDP()))
    assert bounds.overlaps(exact) and bounds.width <= 1e-6 * max(exact.upper, 1e-3)


def test_repeated_listed_and_reordered_steps_cost_the_same():
    a, b = dp_sgd(1.0, 0.05, 200), dp_sgd(4.0, 0.5, 300)
    answers = [
        profile(Compose(parts)).epsilon(1e-6)
        for parts in [(a, b), (b, a), (Repeat(a, 1), Compose((b,))), (dp_sgd(1.0, 0.05, 100),) * 2 + (b,)]
    ]
    for other in answers[1:]:
        assert answers[0].overlaps(other) and other.upper == pytest.approx(answers[0].upper, rel=1e-10)


def test_more_steps_more_sampling_and_less_noise_never_cost_less():
    base = profile(dp_sgd(1.5, 0.1, 500)).epsilon(1e-6)
    for worse in (dp_sgd(1.5, 0.1, 501), dp_sgd(1.5, 0.1001, 500), dp_sgd(1.499, 0.1, 500)):
        assert profile(worse).epsilon(1e-6).lower > base.upper
    epsilons = np.linspace(0.0, 9.0, 37)
    deltas = profile(dp_sgd(1.5, 0.1, 500)).delta(epsilons)
    assert np.all(deltas.lower[1:] <= deltas.upper[:-1]) and np.all(np.diff(deltas.upper) < 0)


@pytest.mark.parametrize("direction", ["remove", "add"])
def test_each_direction_meets_pld(direction):
    process = Compose((dp_sgd(1.0, 0.5, 60), dp_sgd(3.0, 0.2, 40)))
    kinds = (Contour(), PLD(relative_width=1e-4, most_points=2**14))
    ours, theirs = (dict(kind.profile(process, adjacency=ADD_REMOVE).curves)[direction] for kind in kinds)
    points = np.array([0.0, 1.0, 5.0, 12.0, 25.0])
    found, other = ours.delta(points), theirs.delta(points)
    assert np.all(found.overlaps(other)) and np.all(found.width <= 1e-6 * found.upper)


def test_the_direction_with_a_largest_loss_is_0_beyond_it():
    process = dp_sgd(0.5, 0.5, 40)
    curve = dict(profile(process).curves)["add"]
    most = 40 * math.log(2.0)
    assert curve.supremum.contains(most)
    found = curve.delta(np.array([most * (1 - 1e-3), most * (1 + 1e-12)]))
    assert found.upper[0] > 0 and found.upper[1] == 0.0


def test_same_input_same_bits_also_when_all_was_forgotten():
    process = Compose((dp_sgd(1.1, 0.01, 10_000), dp_sgd(2.0, 0.2, 7)))
    first = profile(process).epsilon(1e-6)
    again = profile(process).epsilon(1e-6)
    forgotten()
    profile(process).delta(3.0)  # other lines come first this time
    fresh = profile(process).epsilon(1e-6)
    assert (first.lower, first.upper) == (again.lower, again.upper) == (fresh.lower, fresh.upper)
    assert first.ledger == fresh.ledger


def test_another_process_finds_the_same_bits():
    code = (
        "from accountant import epsilon_bounds as f;"
        "b = f(noise_multiplier=1.1, sample_rate=0.01, steps=10_000, delta=1e-5, accountant='contour');"
        "print(repr((b.lower, b.upper)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    bounds = epsilon_bounds(noise_multiplier=1.1, sample_rate=0.01, steps=10_000, delta=1e-5, accountant="contour")
    assert printed.strip() == repr((bounds.lower, bounds.upper))


def test_where_it_has_no_answer_it_names_the_accountant_that_has():
    with pytest.raises(NumericalFailure, match="pld"):
        profile(dp_sgd(1.0, 1e-5, 1)).epsilon(1e-9)
    assert epsilon_bounds(dp_sgd(1.0, 1e-3, 2), delta=1e-9).method == "pld"


def test_what_is_no_gaussian_is_refused_by_name():
    with pytest.raises(UnsupportedProcess, match=r"DiscretePair.*pld"):
        profile(ApproximateDP(epsilon=1.0, delta=1.0, adjacency="replace_one"), REPLACE_ONE)
    with pytest.raises(UnsupportedProcess, match=r"PoissonRemove.*pld"):
        Contour().profile(Sampled(Gaussian(noise_multiplier=0.0), Poisson(probability=0.5)), adjacency=ADD_REMOVE)


@pytest.mark.thinned(9)
@pytest.mark.parametrize("sigma", [5e-324, 1e-300, 1e-150, 1e-3, 0.05, 1.0, 1e3, 1e10, 1e150, 1e300, 1.7e308])
@pytest.mark.parametrize("chance", [1e-300, 1e-150, 1e-12, 0.5, 1 - 1e-12, 1 - 2.0**-53, 1.0])
def test_hostile_numbers_end_quickly_in_an_answer_or_an_error(sigma, chance):
    for times, delta, epsilon in [(1, 0.9999, 1e300), (100, 1e-300, 1e3), (2**53, 1e-5, 0.0)]:
        start = time.process_time()
        for asked in ({"delta": delta}, {"epsilon": epsilon}):
            function = epsilon_bounds if "delta" in asked else delta_bounds
            try:
                found = function(dp_sgd(sigma, chance, times), accountant="contour", **asked)
            except DPError as error:
                assert "pld" in str(error)
                continue
            assert 0.0 <= found.lower <= found.upper and not math.isnan(found.upper)
            assert "delta" in asked or found.upper <= 1.0
            assert all(0 <= entry.bound < math.inf for entry in found.ledger)
        assert time.process_time() - start < 60.0


@pytest.mark.parametrize("times", [1, 100, 10**6])
@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_delta_0_and_1_are_answered_without_a_line(times, delta):
    bounds = profile(dp_sgd(1.0, 0.01, times)).epsilon(delta)
    assert (bounds.lower > 1e300 and bounds.upper == math.inf) if delta == 0.0 else bounds.upper == 0.0


def test_the_empty_process_costs_nothing():
    assert profile(dp_sgd(1.0, 0.5, 0)).epsilon(1e-5).upper == 0.0


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("sigma", "chance", "times", "delta"),
    [(5.5, 1e-6, 2300, 1e-16), (15.0, 3.5e-6, 720, 1e-28), (2.0, 6e-6, 65_000, 1e-16)],
)
def test_rare_jumps_are_bracketed_as_on_a_grid(sigma, chance, times, delta):
    """Moments of the whole explode at the tilts that suit these δ: outcomes are left out, and δ is a sum of both."""
    process = dp_sgd(sigma, chance, times)
    found, other = (epsilon_bounds(process, delta=delta, accountant=name) for name in ("contour", "pld"))
    assert found.overlaps(other)
    assert found.width <= 1e-7 * found.upper and other.width <= 1e-3 * other.upper
    assert any("left out" in entry.source for entry in found.ledger)
    assert delta_bounds(process, epsilon=found.upper, accountant="contour").upper <= delta


@pytest.mark.parametrize("scheme", [Shuffled(), BallsInBins()])
def test_pairs_that_are_rounded_bounds_are_refused_with_that_reason(scheme):
    process = Allocated(Repeat(Gaussian(noise_multiplier=1.0), 10), scheme)
    with pytest.raises(NumericalFailure, match=r"rounded to one side, whose masses sum to 1 [+-]\d\.\de-1\d\. Use"):
        Contour().profile(process, adjacency=ZERO_OUT).epsilon(1e-5)
