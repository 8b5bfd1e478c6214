"""The integral over a line against closed forms in 50 digits, nested quadrature, and the identity of its aliases."""

import contextlib
import json
import math
from dataclasses import replace
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest

from accountant.contour import Contour
from accountant.core.base import steps
from accountant.core.ladder import Layout
from accountant.core.lines import lines
from accountant.core.loss_sums import LossSum
from accountant.core.vertical_line import line
from mechanisms import Compose, Gaussian, NumericalFailure, Poisson, Repeat, Sampled
from tests.reference.truth import Normal, delta
from tests.strategies import ADD_REMOVE

COMPOSITIONS = json.loads((Path(__file__).resolve().parents[2] / "reference" / "compositions.json").read_text())


def gaussian_sum(sigma, times=1):
    return LossSum.of(steps(Repeat(Gaussian(noise_multiplier=sigma), times), ADD_REMOVE)["remove"])


def exact(mu, epsilon):
    return delta(Normal(mu), mp.mpf(epsilon))


@pytest.mark.parametrize("mu", [2.0**-6, 0.25, 1.0, 4.0, 32.0])
@pytest.mark.parametrize("share", [-1.0, 0.5, 3.0, 8.0, 20.0, 35.0])
def test_gaussians_are_enclosed_down_to_the_smallest_floats(mu, share):
    """At `share` deviations from the mean loss; δ from .9 to 1e-270."""
    epsilon = mu * mu / 2 + share * mu
    if epsilon < 0:
        epsilon = 0.0
    curve = Contour().profile(Gaussian(noise_multiplier=1 / mu), adjacency=ADD_REMOVE).curves[0][1]
    found = curve.delta(np.array([epsilon]))[0]
    with mp.workdps(50):
        truth = exact(mp.mpf(mu), epsilon)
        assert mp.mpf(found.lower) <= truth <= mp.mpf(found.upper)
        assert found.upper - found.lower <= 3e-6 * truth


@pytest.mark.parametrize("epsilon", [-1e-3, -0.7, -5.0, -40.0, -300.0, -1e4])
@pytest.mark.parametrize("theta", [0.01, 0.3, 2.0])
def test_the_line_encloses_delta_below_0_too(theta, epsilon):
    """As of losses that are shifted by infinite ones; δ(ε) rises to 1 there."""
    found = line(gaussian_sum(1.0), Layout(theta=theta, spacing=0.01, further=3 * theta, bend=1.0), leave=True)
    bounds = found.delta(np.array([epsilon]))[0]
    with mp.workdps(50):
        assert mp.mpf(bounds.lower) <= exact(mp.mpf(1), epsilon) <= mp.mpf(bounds.upper)
    assert bounds.upper <= 1.0 and (theta < 1 or epsilon < -1 or bounds.lower > 0.1)


@pytest.mark.parametrize("spacing", [0.5, 2.0, 6.0, 15.0])
@pytest.mark.parametrize(("theta", "epsilon"), [(0.25, 0.5), (1.0, 1.0), (2.0, 3.0), (0.5, 0.0)])
def test_the_sum_is_delta_and_its_aliases(theta, spacing, epsilon):
    """h Σ_j … = Σ_k e^{2πkθ/h} δ(ε + 2πk/h) over all whole k, each term >= 0, for any spacing."""
    found = line(gaussian_sum(1.0), Layout(theta=theta, spacing=spacing, further=2 * theta, bend=1.0), leave=True)
    scale, value, noise = (float(part[0]) for part in found._read(np.array([epsilon])))
    with mp.workdps(40):
        terms = [
            mp.exp(2 * mp.pi * k * theta / spacing) * exact(mp.mpf(1), epsilon + 2 * mp.pi * k / spacing)
            for k in range(-60, 60)
        ]
        rest = mp.exp(-2 * mp.pi * 60 * theta / spacing) / (1 - mp.exp(-2 * mp.pi * theta / spacing))
        assert min(terms) >= 0
        assert abs(scale * value - mp.fsum(terms)) <= scale * (noise + found.cut) + rest
        assert mp.fsum(terms) - exact(mp.mpf(1), epsilon) <= found._aliased(np.array([epsilon]))[0]
    bounds = found.delta(np.array([epsilon]))[0]
    assert bounds.lower <= float(exact(1, epsilon)) <= bounds.upper


def test_a_line_cut_short_is_off_by_what_was_cut_on_either_side_and_says_so():
    full = line(gaussian_sum(1.0), Layout(theta=1.0, spacing=0.4, further=2.0, bend=1.0), leave=True)
    kept = {name: getattr(full, name)[:5] for name in ("frequencies", "size", "angle")}
    short = replace(full, **kept, cut=full.cut + float(np.sum(full.size[5:])))
    epsilons, signs = np.linspace(0.0, 4.0, 17), set()
    bounds, blind = short.delta(epsilons), replace(short, cut=0.0).delta(epsilons)
    for k, epsilon in enumerate(epsilons):
        truth = float(exact(1, epsilon))
        assert bounds.lower[k] <= truth <= bounds.upper[k]
        signs.add(int(truth > blind.upper[k]) - int(truth < blind.lower[k]))
    assert {-1, 1} <= signs  # without `cut` it would be too low at some ε and too high at others


@pytest.mark.thinned(6)
@pytest.mark.parametrize("row", COMPOSITIONS, ids=lambda row: f"{row['steps']}-{row['direction']}-{row['epsilon']}")
def test_small_compositions_are_enclosed_where_the_line_is_within_budget(row):
    parts = tuple(Sampled(Gaussian(noise_multiplier=s), Poisson(probability=q)) for s, q in row["steps"])
    curve = dict(Contour().profile(Compose(parts), adjacency=ADD_REMOVE).curves)[row["direction"]]
    try:
        found = curve.delta(np.array([row["epsilon"]]))[0]
    except NumericalFailure as failure:
        assert "pld" in str(failure)
        return
    truth = float(row["delta"])  # 15 digits
    assert found.lower * (1 - 1e-14) <= truth <= found.upper * (1 + 1e-14)


@pytest.mark.slow
def test_most_small_compositions_have_an_answer():
    """So that the test above can't pass by refusals alone."""
    answered = 0
    for row in COMPOSITIONS:
        parts = tuple(Sampled(Gaussian(noise_multiplier=s), Poisson(probability=q)) for s, q in row["steps"])
        curve = dict(Contour().profile(Compose(parts), adjacency=ADD_REMOVE).curves)[row["direction"]]
        try:
            answered += float(curve.delta(np.array([row["epsilon"]])).upper[0]) < 1.0
        except NumericalFailure:
            continue
    assert answered >= 8


def test_far_in_the_tail_the_upper_end_is_small_and_never_0():
    """δ of a Gaussian is above 0 everywhere, whatever underflows."""
    curve = Contour().profile(Repeat(Gaussian(noise_multiplier=1.0), 10), adjacency=ADD_REMOVE).curves[0][1]
    for epsilon in (200.0, 1e3, 1e4, 1e8, 1e300):
        try:
            found = curve.delta(np.array([epsilon]))[0]
        except NumericalFailure:
            continue
        assert 0.0 == found.lower < found.upper


def test_far_below_the_mean_loss_the_lower_end_stays_below_1():
    """δ(0) of μ = 1e4 is 1 − 1e-5,000,000 or so: aliases of a line that stands too high must not be lost in a cap."""
    answers = 0
    for sigma, times in [(1.0, 10**8), (0.01, 10**6), (0.1, 10**4)]:
        curve = Contour().profile(Repeat(Gaussian(noise_multiplier=sigma), times), adjacency=ADD_REMOVE).curves[0][1]
        for epsilon in (0.0, 1.0, 1e3):
            with contextlib.suppress(NumericalFailure):  # as good: gdp answers these
                assert curve.delta(np.array([epsilon])).lower[0] < 1.0
                answers += 1
    assert answers > 0


def test_layouts_have_an_exact_first_power():
    """1 + θ is a float: e^{K} would be off by e^{K' u} where θ was rounded in it, and K' may be 1e16."""
    parts = steps(Repeat(Sampled(Gaussian(noise_multiplier=0.5), Poisson(probability=0.5)), 10**15), ADD_REMOVE)[
        "remove"
    ]
    for rung in range(3):
        layout = lines(parts, math.inf).ladder.layout(rung, 3)
        assert (1.0 + layout.theta) - 1.0 == layout.theta > 0
        assert (1.0 + layout.further) - 1.0 == layout.further > layout.theta


def test_round_off_of_very_many_steps_is_a_failure_and_no_doubtful_number():
    parts = steps(Repeat(Sampled(Gaussian(noise_multiplier=0.5), Poisson(probability=0.5)), 2**53), ADD_REMOVE)[
        "remove"
    ]
    with pytest.raises(NumericalFailure, match="pld"):
        line(lines(parts, math.inf).loss, Layout(theta=1.0, spacing=0.01, further=2.0, bend=1e16), leave=True)


def test_a_line_that_needs_too_many_nodes_is_refused():
    for spacing in (1e-6, 1e-300):
        with pytest.raises(NumericalFailure, match=r"nodes.*pld"):
            line(gaussian_sum(1.0), Layout(theta=1.0, spacing=spacing, further=2.0, bend=1.0), leave=True)


def test_the_ledger_names_every_error_once():
    found = line(gaussian_sum(1.0), Layout(theta=1.0, spacing=0.25, further=2.0, bend=1.0), leave=True)
    lines = found.ledger(1.5)
    bounds = found.delta(np.array([1.5]))[0]
    assert [entry.basis for entry in lines] == ["proved", "proved", "validated"]
    assert bounds.upper - bounds.lower == pytest.approx(
        lines[0].bound + 2 * (lines[1].bound + lines[2].bound), rel=1e-3
    )
    assert all(0 < entry.bound < 1e-6 and math.isfinite(entry.bound) for entry in lines)
