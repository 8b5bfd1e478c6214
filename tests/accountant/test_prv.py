"""`prv` against published upper ends, closed forms, other accountants, and what its theorem says of itself.

[GLW21] see `accountant.prv`.
"""

import math
import tracemalloc
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant import dp_sgd, epsilon_bounds
from accountant.core import rounded_grid
from accountant.core.convolve import Window
from accountant.gdp import GDP
from accountant.prv import PRV
from mechanisms import (
    Adjacency,
    ApproximateDP,
    Compose,
    Gaussian,
    InvalidParameter,
    Laplace,
    NumericalFailure,
    Poisson,
    Repeat,
    Sampled,
)
from tests.strategies import ADD_REMOVE, REPLACE_ONE, Tabulated, deltas, processes, tables

ERROR = 0.01

# [GLW21] reference values as shipped with Opacus (opacus/tests/prv_accountant.py), δ = 1e-6: (σ, q, T, upper end)
PUBLISHED = [
    (0.8, 0.001, 100, 0.2704033640580187),
    (1.5, 0.001, 100, 0.03936941930952033),
    (0.8, 0.05, 100, 6.7410519394141),
    (1.5, 0.05, 100, 1.9538531356842002),
    (2.0, 0.05, 100, 1.2836373796240652),
    (3.0, 0.05, 100, 0.7679337896668256),
    (1.5, 0.2, 100, 8.49897785912163),
    (2.0, 0.2, 100, 5.6720556088237295),
    (3.0, 0.2, 100, 3.3812205102218442),
    (1.5, 0.001, 1000, 0.09982066023084749),
    (2.0, 0.001, 1000, 0.07121878253811523),
    (0.8, 0.05, 1000, 19.525842805383736),
    (1.5, 0.05, 1000, 6.209969246577267),
    (2.0, 0.05, 1000, 4.172799866689319),
    (3.0, 0.05, 1000, 2.5275743260597383),
    (1.5, 0.001, 20_000, 0.4370051086548608),
    (2.0, 0.001, 20_000, 0.30583793976245344),
    (3.0, 0.001, 20_000, 0.1940310306860547),
    (1.5, 0.05, 20_000, 38.306617914087234),
    (2.0, 0.05, 20_000, 24.421718570322586),
    (3.0, 0.05, 20_000, 13.961114699236706),
    (0.8, 0.05, 20_000, 140.65520976007423),
]


def epsilon(process, delta, adjacency=ADD_REMOVE, **given_settings):
    return PRV(**given_settings).profile(process, adjacency=adjacency).epsilon(delta)


@pytest.mark.thinned(4)
@pytest.mark.parametrize(("noise", "rate", "steps", "published"), PUBLISHED)
def test_published_upper_ends_are_ours_where_their_delta_error_is_taken_off_and_the_truth_is_that_much_below(
    noise, rate, steps, published
):
    """They solve δ~(ε − .01) + δ/1000 = δ; what is published lies 10.04e-3 to 12.9e-3 above the truth (trap T1)."""
    process = dp_sgd(noise_multiplier=noise, sample_rate=rate, steps=steps)
    assert abs(epsilon(process, 1e-6 * (1 - 1e-3)).upper - published) <= 1e-4
    ours, truth = epsilon(process, 1e-6), epsilon_bounds(process, delta=1e-6)
    assert ours.lower <= truth.lower and truth.upper <= ours.upper <= published + 1e-4
    assert ours.width <= 2.02 * ERROR
    assert 1.0 * ERROR <= published - truth.upper <= 1.3 * ERROR


def test_the_value_published_by_opacus_is_that_of_one_step_less_than_its_parameters_say():
    """6.777395712150674 at σ = 1.5, q = .04, δ = 1e-5 and int(90 // .04) = 2249 steps, not 2250 (trap T15)."""
    at = [
        epsilon(dp_sgd(noise_multiplier=1.5, sample_rate=0.04, steps=steps), 1e-5 * (1 - 1e-3)).upper
        for steps in (2249, 2250)
    ]
    assert abs(at[0] - 6.777395712150674) <= 1e-4 < 1e-3 < abs(at[1] - 6.777395712150674)


REFERENCES = [
    (4.0, 0.01, 10_000, 1e-5, 0.9468668),
    (1.1, 0.01, 10_000, 1e-5, 5.192583446),
    (1.1, 0.01, 10_000, 1e-15, 9.89866),
    (1.1, 0.01, 10_000, 1e-30, 14.691684),
    (2.0, 0.01, 1_500, 1e-15, 1.65535347172),
    (0.3, 0.01, 100, 1e-5, 26.8347145),
    (1.1, 0.01, 1, 1e-5, 0.142290688),
]


@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "truth"), REFERENCES)
def test_the_bracket_is_the_known_value_and_eps_error_to_either_side(noise, rate, steps, delta, truth):
    found = epsilon(dp_sgd(noise_multiplier=noise, sample_rate=rate, steps=steps), delta)
    assert found.contains(truth)
    assert max(truth - found.lower, found.upper - truth) <= 1.04 * ERROR


@pytest.mark.thinned(4)
@pytest.mark.parametrize("steps", [4900, 4950, 4999])
@pytest.mark.parametrize("delta_error", [1e-9, 1e-10, 1e-12])
def test_the_middle_of_the_bracket_hardly_depends_on_the_grid(steps, delta_error):
    process = dp_sgd(noise_multiplier=0.9, sample_rate=256 / 1e5, steps=steps)
    found, truth = epsilon(process, 1e-6, delta_error=delta_error), epsilon_bounds(process, delta=1e-6)
    assert abs(0.5 * (found.lower + found.upper) - truth.upper) <= 1e-3 * truth.upper


@pytest.mark.parametrize(
    "process",
    [
        Repeat(Gaussian(noise_multiplier=100.0), 10_000),
        Compose((Repeat(Gaussian(noise_multiplier=10.0), 50), Repeat(Gaussian(noise_multiplier=5.0), 50))),
    ],
    ids=["10,000 of σ=100", "50 of σ=10 and 50 of σ=5"],
)
@pytest.mark.parametrize("epsilon_asked", [0.0, 1.0, 4.0, 8.0])
def test_gaussians_composed_step_by_step_are_bracketed_around_their_closed_form(process, epsilon_asked):
    exact = GDP().profile(process, adjacency=ADD_REMOVE)
    found = PRV().profile(process, adjacency=ADD_REMOVE).delta(epsilon_asked)
    assert found.lower <= exact.delta(epsilon_asked).lower and exact.delta(epsilon_asked).upper <= found.upper
    assert found.upper <= exact.delta(max(epsilon_asked - ERROR, 0.0)).upper * 1.01 + ERROR * (epsilon_asked < ERROR)
    assert found.lower >= exact.delta(epsilon_asked + ERROR).lower * 0.99


@pytest.mark.parametrize("delta", [1e-3, 0.1])
@pytest.mark.parametrize("times", [1, 3, 50])
def test_losing_everything_with_a_small_chance_adds_up_to_the_chance_of_any(delta, times):
    process = Repeat(ApproximateDP(epsilon=0.0, delta=delta, adjacency=ADD_REMOVE), times)
    expected = -math.expm1(times * math.log1p(-delta))
    for at in (0.1, 5.0):
        found = PRV().profile(process, adjacency=ADD_REMOVE).delta(at)
        assert found.contains(expected) and found.width <= 2e-3 * expected
    assert epsilon(process, expected * (1 - 1e-9)).upper == math.inf


@pytest.mark.slow
@given(st.sampled_from((0.3, 0.7, 1.0, 3.0, 20.0, 300.0)), st.integers(1, 300), st.floats(-69.0, -1.0))
def test_gaussians_are_bracketed_however_small_delta_is(noise, times, log_delta):
    process, delta = Repeat(Gaussian(noise_multiplier=noise), times), math.exp(log_delta)
    exact, found = GDP().profile(process, adjacency=ADD_REMOVE).epsilon(delta), epsilon(process, delta)
    assert found.lower <= exact.upper and exact.lower <= found.upper
    assert found.width <= 2.1 * ERROR


@given(st.sampled_from((ADD_REMOVE, REPLACE_ONE)).flatmap(lambda a: st.tuples(processes(a), st.just(a))), deltas)
def test_brackets_hold_what_others_certify_and_are_as_narrow_as_said(case, delta):
    process, adjacency = case
    found = epsilon(process, delta, adjacency)
    truth, lower, upper = (
        epsilon_bounds(process, delta=delta * share, adjacency=adjacency) for share in (1.0, 1.001, 0.999)
    )
    assert found.lower <= truth.upper and truth.lower <= found.upper
    assert found.upper <= upper.upper + 2.02 * ERROR
    assert found.lower >= lower.lower - 2.02 * ERROR


@given(tables(), st.integers(1, 3), st.sampled_from((0.0, 0.05, 0.4, 1.5)))
def test_a_few_steps_of_a_table_are_bracketed_around_the_sum_over_all_outcomes(table, times, at):
    p, q = np.array([1.0]), np.array([1.0])
    for _ in range(times):
        p, q = np.outer(p, table.p).ravel(), np.outer(q, table.q).ravel()
    profile = PRV().profile(Repeat(table, times), adjacency=ADD_REMOVE)
    ends = dict(profile.curves)["remove"].delta(np.array([at]))

    def exact(x):
        return math.fsum(np.maximum(p - math.exp(x) * q, 0.0))

    assert ends.lower[0] <= exact(at) * (1 + 1e-12) and exact(at) <= ends.upper[0] * (1 + 1e-12)
    assert ends.upper[0] <= exact(at - 2 * ERROR) * 1.002
    assert ends.lower[0] >= exact(at + 2 * ERROR) * 0.998 - 1e-3 * exact(at)


def test_lower_ends_come_from_attained_pairs_alone():
    gaussian = Gaussian(noise_multiplier=1.0)
    table = Unattained(p=(0.5, 0.5), q=(0.25, 0.75))
    found, alone = epsilon(Compose((gaussian, table)), 1e-5), epsilon(gaussian, 1e-5)
    assert 4.0 < found.lower <= alone.lower + 1e-9 and found.upper > alone.upper
    assert epsilon(table, 1e-5).lower == PRV().profile(table, adjacency=ADD_REMOVE).delta(0.1).lower == 0.0


class Unattained(Tabulated):
    def pairs(self, adjacency):
        return {
            direction: replace(pair, attained=False) for direction, pair in Tabulated.pairs(self, adjacency).items()
        }


@pytest.mark.parametrize("eps_error", [0.1, 0.03, 0.003])
def test_the_width_is_twice_the_eps_error_asked_for(eps_error):
    process = Repeat(Sampled(Laplace(noise_multiplier=2.0), Poisson(probability=0.05)), 400)
    found = epsilon(process, 1e-6, eps_error=eps_error)
    truth = epsilon_bounds(process, delta=1e-6)
    assert found.lower <= truth.lower and truth.upper <= found.upper
    assert 1.9 * eps_error <= found.width <= 2.1 * eps_error


def test_a_delta_error_beyond_the_delta_asked_for_leaves_a_wide_bracket_and_no_false_one():
    process = dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=100)
    truth = epsilon_bounds(process, delta=1e-9)
    found = epsilon(process, 1e-9, delta_error=1e-5)
    assert found.lower <= truth.lower and truth.upper <= found.upper
    assert found.upper > epsilon(process, 1e-9).upper + 0.1


def test_a_grid_beyond_the_budget_is_refused_with_the_knobs():
    process = dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=10**6)
    with pytest.raises(NumericalFailure, match=r"Raise eps_error or most_points, or use accountant='pld'"):
        epsilon(process, 1e-5)
    assert epsilon(process, 1e-5, eps_error=20.0).contains(epsilon_bounds(process, delta=1e-5).upper)


@pytest.mark.parametrize("given_settings", [{"eps_error": 0.0}, {"delta_error": 0.0}, {"delta_error": 2.0}])
def test_errors_that_are_none_are_refused(given_settings):
    with pytest.raises(InvalidParameter, match=next(iter(given_settings))):
        PRV(**given_settings)


def test_the_ledger_names_every_error_and_adds_up_to_the_width_of_delta():
    process = dp_sgd(noise_multiplier=2.0, sample_rate=0.02, steps=500)
    claim = epsilon(process, 1e-6)
    sources = {line.source: line for line in claim.ledger}
    assert sources["rounded losses, ε_error"].bound == ERROR
    assert sum(line.bound for line in claim.ledger if line.unit == "delta") <= 1e-9
    assert {line.unit for line in claim.ledger} == {"epsilon", "delta", "relative"}


def test_directions_are_composed_apart():
    process = Repeat(Sampled(Gaussian(noise_multiplier=0.8), Poisson(probability=0.2)), 20)
    curves = dict(PRV().profile(process, adjacency=Adjacency.ZERO_OUT).curves)
    assert curves["remove"].epsilon(1e-5).lower > curves["add"].epsilon(1e-5).upper


def test_a_point_of_a_long_grid_takes_36_bytes_so_that_the_default_budget_takes_less_than_450_megabytes(monkeypatch):
    """Earlier compositions go before a long one is made: kept, each would take 16 bytes a point more."""
    monkeypatch.setattr(rounded_grid, "FEW", 2**18)
    monkeypatch.setattr(rounded_grid, "RECENT", rounded_grid.Recent())
    process = dp_sgd(noise_multiplier=4.0, sample_rate=0.01, steps=10_000)
    tracemalloc.start()
    try:
        assert epsilon(process, 1e-5, eps_error=1e-3).contains(0.9468668)
        (last,) = rounded_grid.RECENT.kept.values()
        points, peak = last.window.size, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert points > 2**19 and peak <= 36 * points
    assert 40 * PRV().most_points < 420e6


def test_short_compositions_are_remembered_and_long_ones_one_at_a_time():
    recent, made = rounded_grid.Recent(), []

    def asked(key, points):
        return recent.found(key, points, lambda: made.append(key) or Summed(points))

    for key in (1, 2, 1, 3, 1):
        asked(key, rounded_grid.FEW // 2)
    assert made == [1, 2, 3] and list(recent.kept) == [3, 1]
    for key in (4, 1, 4, 4):
        asked(key, rounded_grid.FEW + 1)
    assert made == [1, 2, 3, 4, 1, 4] and list(recent.kept) == [4]


@dataclass
class Summed:
    """A composition of so many points."""

    points: int

    @property
    def window(self):
        return Window(step=1.0, low=0, size=self.points)
