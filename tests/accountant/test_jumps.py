"""Runs split by their number of jumps, against nested quadrature and against other accountants."""

import contextlib
import json
import math
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest

from accountant import delta_bounds, dp_sgd, epsilon_bounds
from accountant.core.base import steps
from accountant.jumps import JumpCurve, Jumps
from accountant.rdp import ORDERS, RDP
from mechanisms import (
    Adjacency,
    Compose,
    Gaussian,
    Laplace,
    NumericalFailure,
    Poisson,
    Repeat,
    Sampled,
    UnsupportedProcess,
)
from tests.reference.truth import composed_delta

ADD_REMOVE = Adjacency.ADD_REMOVE
COMPOSITIONS = json.loads((Path(__file__).parents[1] / "reference" / "compositions.json").read_text(encoding="utf-8"))
RARE = [(1.15, 6.4e-4, 3, 4.7e-16), (0.693, 7.1e-5, 15, 4e-13), (1.24, 9.6e-4, 15, 7e-25)]


def sampled(sigma, chance):
    return Sampled(Gaussian(noise_multiplier=sigma), Poisson(probability=chance))


def curve(*parts):
    process = Compose(tuple(sampled(sigma, chance) for sigma, chance in parts))
    return JumpCurve(steps=steps(process, ADD_REMOVE)["remove"])


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("parts", "epsilon"),
    [
        (((1.15, 6.4e-4), (1.15, 6.4e-4)), 0.31),
        (((1.0, 1e-3), (1.0, 1e-3)), 0.8),
        (((0.7, 1e-4), (1.2, 1e-3)), 0.5),
        (((0.9, 1e-5), (0.9, 1e-5)), 0.05),
        (((1.5, 1e-2), (0.8, 1e-5)), 1.2),
    ],
)
def test_two_steps_are_bracketed_narrowly_around_nested_quadrature(parts, epsilon):
    with mp.workdps(30):
        exact = composed_delta(parts, "remove", mp.mpf(epsilon))
        found = curve(*parts).delta(np.array([epsilon]))[0]
        assert mp.mpf(float(found.lower)) <= exact * (1 + mp.mpf(10) ** -12)
        assert exact * (1 - mp.mpf(10) ** -12) <= mp.mpf(float(found.upper))
        assert found.width <= 0.02 * found.upper


@pytest.mark.parametrize("row", COMPOSITIONS, ids=lambda row: f"{row['steps']} {row['direction']} {row['epsilon']}")
def test_no_composition_lies_outside(row):
    process = Compose(tuple(sampled(sigma, chance) for sigma, chance in row["steps"] if chance < 1))
    if any(chance == 1 for _, chance in row["steps"]):
        with pytest.raises(UnsupportedProcess):
            Jumps().profile(Compose((process, Gaussian(noise_multiplier=1.0))), adjacency=ADD_REMOVE)
        return
    found = JumpCurve(steps=steps(process, ADD_REMOVE)[row["direction"]]).delta(np.array([row["epsilon"]]))[0]
    assert found.lower <= float(row["delta"]) * (1 + 1e-12) and float(row["delta"]) * (1 - 1e-12) <= found.upper


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("sigma", "chance", "times", "delta"), RARE)
def test_few_steps_at_tiny_delta_are_narrow_and_agree_with_the_grid(sigma, chance, times, delta):
    process = dp_sgd(noise_multiplier=sigma, sample_rate=chance, steps=times)
    found = epsilon_bounds(process, delta=delta, accountant="jumps")
    assert found.method == "jumps" and found.width <= 1e-3 * found.upper
    assert len(found.ledger) == 3 and 0 < sum(entry.bound for entry in found.ledger) < 1e-2 * delta
    assert found.overlaps(epsilon_bounds(process, delta=delta, accountant="pld"))
    assert epsilon_bounds(process, delta=delta).width <= 1e-4 * found.upper
    assert delta_bounds(process, epsilon=found.upper).upper <= delta
    assert delta_bounds(process, epsilon=found.lower * (1 - 1e-9)).lower > delta * (1 - 1e-9)


@pytest.mark.thinned(17)
@pytest.mark.parametrize("index", range(40))
def test_random_runs_are_never_excluded_by_the_contour_or_by_renyi_moments(index):
    rng = np.random.default_rng(index)
    sigma, chance = float(np.exp(rng.uniform(-1, 2))), float(10 ** rng.uniform(-6, -1))
    process = dp_sgd(noise_multiplier=sigma, sample_rate=chance, steps=int(10 ** rng.uniform(0.5, 5)))
    delta = float(10 ** rng.uniform(-28, -6))
    found = epsilon_bounds(process, delta=delta, accountant="jumps")
    assert found.lower <= epsilon_bounds(process, delta=delta, accountant=RDP(orders=ORDERS[::32])).upper
    with contextlib.suppress(NumericalFailure):
        assert found.overlaps(epsilon_bounds(process, delta=delta, accountant="contour"))


@pytest.mark.parametrize(("chance", "times"), [(1e-4, 9), (3e-4, 3)])
@pytest.mark.parametrize("epsilon", [650.0, 700.0])
def test_no_lower_end_exceeds_the_probability_that_any_step_samples_the_record(chance, times, epsilon):
    found = curve(*[(0.02, chance)] * times).delta(np.array([epsilon]))[0]
    assert found.lower <= -math.expm1(times * math.log1p(-chance)) * (1 - 1e-9)


@pytest.mark.parametrize(("sigma", "chance", "epsilon"), [(1e-6, 1e-3, 500010999993.0), (2.9e7, 8.5e-99, 1.5e-105)])
def test_losses_far_out_of_proportion_are_answered_for_without_a_warning(sigma, chance, epsilon):
    found = Jumps().profile(sampled(sigma, chance), adjacency=ADD_REMOVE).delta(epsilon)
    assert 0.0 <= found.lower <= found.upper <= 1.0 and (found.upper < 1.0 or not found.ledger)


def test_other_processes_are_refused_by_name():
    for process in (Gaussian(noise_multiplier=1.0), Repeat(Laplace(noise_multiplier=1.0), 3)):
        with pytest.raises(UnsupportedProcess, match=r"jumps: .*pld"):
            Jumps().profile(process, adjacency=ADD_REMOVE)


def test_where_no_single_jump_decides_nothing_is_claimed():
    found = epsilon_bounds(dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=10_000), delta=1e-5, accountant="jumps")
    assert found.lower == 0.0 and found.upper == math.inf
