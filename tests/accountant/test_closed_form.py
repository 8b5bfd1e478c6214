"""Closed forms: one step of any kind, equal answers, and what they leave to others."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from accountant import epsilon_bounds
from accountant.closed_form import ClosedForm
from accountant.gdp import GDP
from accountant.pld import PLD
from mechanisms import (
    Adjacency,
    Allocated,
    ApproximateDP,
    Compose,
    Gaussian,
    Laplace,
    Poisson,
    PureDP,
    RandomizedResponse,
    Repeat,
    Sampled,
    Shuffled,
    UnsupportedProcess,
)
from tests.reference.truth import delta as hockey_stick
from tests.reference.truth import sampled_gaussian, sampled_laplace
from tests.strategies import ADD_REMOVE, REPLACE_ONE, deltas, guarantees, tables

HALF = Poisson(probability=0.5)


def closed(process, adjacency=ADD_REMOVE):
    return ClosedForm().profile(process, adjacency=adjacency)


def holds(found, value):
    return mp.mpf(found.lower) <= value <= mp.mpf(found.upper)


# One step


@pytest.mark.parametrize(("delta", "epsilon"), [(1e-5, 0.9999799998999993), (1e-15, 0.999999999999998)])
def test_one_laplace_costs_the_published_epsilon(delta, epsilon):
    claim = epsilon_bounds(Laplace(noise_multiplier=1.0), delta=delta)
    assert claim.method == "closed_form" and claim.width < 1e-12
    assert claim.lower - 1e-15 <= epsilon <= claim.upper + 1e-15


@pytest.mark.parametrize("chance", [1e-6, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
@pytest.mark.parametrize(("mechanism", "law"), [(Gaussian, sampled_gaussian), (Laplace, sampled_laplace)])
def test_one_sampled_step_is_enclosed_narrowly_however_small_delta_is(mechanism, law, scale, chance):
    process = Sampled(mechanism(noise_multiplier=scale), Poisson(probability=chance))
    curves = dict(closed(process).curves)
    for direction, curve in curves.items():
        for epsilon in np.array([0.0, 1e-4, 0.02, 0.3, 1.0, 4.0, 18.0]):
            with mp.workdps(140):
                truth = max(hockey_stick(law(scale, chance, direction), mp.mpf(float(epsilon))), mp.mpf(0))
                found = curve.delta(np.array([epsilon]))[0]
                assert holds(found, truth)
                if truth > mp.mpf("1e-100"):
                    # Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ) cancels in proportion to σ = 1/μ, within the bounds
                    budget = mp.mpf("2e-10") * (1 + mp.mpf(scale))
                    assert mp.mpf(found.upper) - mp.mpf(found.lower) <= truth * budget


@given(tables(), deltas)
def test_one_step_of_any_table_is_bracketed_by_pld_too(table, delta):
    exact = closed(table).epsilon(delta)
    assert exact.overlaps(
        PLD(relative_width=1e-4, most_points=2**14).profile(table, adjacency=ADD_REMOVE).epsilon(delta)
    )


def test_where_no_neighbours_attain_the_pair_the_lower_end_is_zero():
    inner = Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=1 / 3))
    claim = closed(Sampled(inner, Poisson(probability=0.1))).epsilon(1e-6)
    assert claim.lower == 0.0 < claim.upper


# Equal answers


@pytest.mark.parametrize(
    "answer", [RandomizedResponse(epsilon=math.log(3)), PureDP(epsilon=math.log(3), adjacency="replace_one")]
)
def test_a_hundred_answers_cost_the_known_epsilon(answer):
    claim = epsilon_bounds(Repeat(answer, 100), delta=1e-6, adjacency="replace_one")
    assert claim.lower <= 94.28986789292487 * (1 + 1e-14) and claim.upper >= 94.28986789292487 * (1 - 1e-14)
    assert claim.width < 1e-10 and claim.method == "closed_form"


def tails(times, loss, lost, epsilon):
    """1 − (1 − d)^T + (1 − d)^T (P(S >= k) − e^ε Q(S >= k)) by plain sums."""
    p = 1 / (1 + mp.exp(-mp.mpf(loss)))
    first = int(mp.floor((mp.mpf(epsilon) / mp.mpf(loss) + times) / 2)) + 1
    sums = [
        mp.fsum(mp.binomial(times, k) * share**k * (1 - share) ** (times - k) for k in range(first, times + 1))
        for share in (p, 1 - p)
    ]
    kept = (1 - mp.mpf(lost)) ** times
    return 1 - kept + kept * (sums[0] - mp.exp(mp.mpf(epsilon)) * sums[1])


@pytest.mark.parametrize("lost", [0.0, 1e-300, 1e-9, 1e-3, 0.5])
@pytest.mark.parametrize(("times", "loss"), [(1, 0.3), (2, 2.0), (40, 0.1), (300, 0.7)])
def test_answers_that_may_tell_all_are_enclosed_around_the_tails(times, loss, lost):
    profile = closed(Repeat(ApproximateDP(epsilon=loss, delta=lost, adjacency="add_remove"), times))
    for share in (0.0, 0.1, 0.5, 0.9, 1.0, 1.1):
        epsilon = share * loss * times
        with mp.workdps(400):
            truth = tails(times, loss, lost, epsilon) if share < 1 else 1 - (1 - mp.mpf(lost)) ** times
        found = profile.delta(epsilon)
        with mp.workdps(400):
            assert holds(found, truth)
            if share != 1:
                assert mp.mpf(found.upper) - mp.mpf(found.lower) <= mp.mpf("1e-9") * truth + mp.mpf("1e-300")


def test_a_million_answers_are_enclosed_to_twelve_digits():
    profile = closed(Repeat(RandomizedResponse(epsilon=0.5), 10**6), REPLACE_ONE)
    claim = profile.epsilon(1e-5)
    assert claim.width <= 1e-12 * claim.upper
    assert profile.delta(claim.upper).upper <= 1e-5 < profile.delta(claim.lower * (1 - 1e-12)).lower


@settings(max_examples=30)
@given(guarantees(ADD_REMOVE), st.integers(1, 12), deltas)
def test_repeated_guarantees_are_bracketed_by_pld_too(guarantee, times, delta):
    process = Repeat(guarantee, times)
    coarse = PLD(relative_width=1e-4, most_points=2**14).profile(process, adjacency=ADD_REMOVE)
    assert closed(process).epsilon(delta).overlaps(coarse.epsilon(delta))


@pytest.mark.parametrize("times", [1, 5, 2**40])
def test_the_cost_without_any_delta_is_the_largest_loss_or_infinite(times):
    pure = closed(Repeat(PureDP(epsilon=0.5, adjacency="add_remove"), times)).epsilon(0.0)
    assert pure.contains(0.5 * times) and pure.width <= 1e-14 * times
    lossy = closed(Repeat(ApproximateDP(epsilon=0.5, delta=1e-9, adjacency="add_remove"), times)).epsilon(0.0)
    assert lossy.lower == lossy.upper == math.inf


@pytest.mark.parametrize(
    "guarantee", [ApproximateDP(epsilon=0.5, delta=1.0, adjacency="add_remove"), Gaussian(noise_multiplier=0.0)]
)
def test_what_tells_all_costs_everything(guarantee):
    profile = closed(Repeat(guarantee, 3))
    assert profile.delta(1e300).lower == 1.0 and profile.epsilon(0.5).upper == profile.epsilon(0.0).lower == math.inf


@pytest.mark.parametrize("times", [1, 7, 10**6])
@pytest.mark.parametrize("lost", [1e-300, 1e-9, 0.2])
def test_where_more_than_delta_is_certain_to_tell_all_epsilon_is_infinite(times, lost):
    profile = closed(Repeat(ApproximateDP(epsilon=0.1, delta=lost, adjacency="add_remove"), times))
    with mp.workdps(400):
        truth = 1 - (1 - mp.mpf(lost)) ** times
        for curve in (curve for _, curve in profile.curves):
            assert holds(curve.lost, truth) and curve.lost.width <= 1e-12 * curve.lost.upper
    below = float(truth) * (1 - 1e-9)
    assert profile.epsilon(below).lower == profile.epsilon(below).upper == math.inf
    assert profile.epsilon(min(1.0, float(truth) * (1 + 1e-9))).upper < math.inf


def test_what_no_neighbours_attain_is_not_certain_to_be_lost():
    lossy = Sampled(ApproximateDP(epsilon=1.0, delta=0.5, adjacency="add_remove"), Poisson(probability=1 / 3))
    rarely = Sampled(lossy, Poisson(probability=0.1))  # 1/3 · 0.1 is rounded up to a float
    attained, unattained = (dict(closed(each).curves)["remove"].lost for each in (lossy, rarely))
    assert attained.contains(1 / 6) and attained.width < 1e-15
    assert unattained.lower == 0.0 and unattained.upper >= 1 / 60


# The answer comes at the first look, and says what it was widened by


@pytest.mark.parametrize("delta", [0.3, 1e-2, 1e-5, 1e-12, 1e-100])
@pytest.mark.parametrize(
    "process", [Repeat(RandomizedResponse(epsilon=e), t) for e in (0.01, 0.5) for t in (10**4, 10**7)]
)
def test_the_guess_for_many_answers_is_good_to_nine_digits(process, delta):
    curve = dict(closed(process, REPLACE_ONE).curves)["replace"]
    found = curve.delta(np.array([curve.guess(delta)]))
    assert found.lower[0] * (1 - 1e-9) <= delta <= found.upper[0] * (1 + 1e-9)


@pytest.mark.parametrize("delta", [0.3, 1e-2, 1e-5, 1e-12])
def test_the_guess_for_a_laplace_is_its_epsilon(delta):
    curve = dict(closed(Laplace(noise_multiplier=0.5)).curves)["add"]
    with mp.workdps(40):
        truth = 2 + 2 * mp.log1p(-mp.mpf(delta))
        assert abs(curve.guess(delta) - truth) <= 1e-15 * truth


@pytest.mark.parametrize(
    ("process", "adjacency"),
    [
        (Laplace(noise_multiplier=1.0), ADD_REMOVE),
        (Gaussian(noise_multiplier=1.0), ADD_REMOVE),
        (Sampled(Sampled(Gaussian(noise_multiplier=1.0), HALF), HALF), ADD_REMOVE),
        (Repeat(RandomizedResponse(epsilon=0.5), 10**6), REPLACE_ONE),
    ],
)
def test_the_ledger_holds_the_rounding_of_floats(process, adjacency):
    claim = epsilon_bounds(process, delta=1e-5, adjacency=adjacency.value)
    (line,) = claim.ledger
    assert 0 < line.bound <= 1e-10 and (line.unit, line.basis) == ("relative", "validated")


# What is left to others


@pytest.mark.parametrize(
    ("process", "other"),
    [
        (Gaussian(noise_multiplier=1.0), "gdp"),
        (Repeat(Gaussian(noise_multiplier=1.0), 3), "gdp"),
        (Repeat(Laplace(noise_multiplier=1.0), 2), "pld"),
        (Repeat(Sampled(Gaussian(noise_multiplier=1.0), HALF), 2), "pld"),
        (Repeat(Sampled(PureDP(epsilon=1.0, adjacency="add_remove"), HALF), 2), "pld"),
        (Compose((Laplace(noise_multiplier=1.0), Laplace(noise_multiplier=2.0))), "pld"),
        (Repeat(PureDP(epsilon=1.0, adjacency="add_remove"), 2**40 + 1), "pld"),
    ],
)
def test_what_has_no_closed_form_here_is_refused_by_name(process, other):
    with pytest.raises(UnsupportedProcess, match=f"Use accountant='{other}'"):
        closed(process)


def test_answers_to_more_than_two_categories_are_refused_when_repeated():
    answer = RandomizedResponse(epsilon=1.0, categories=3)
    assert closed(answer, REPLACE_ONE).epsilon(0.0).contains(1.0)
    with pytest.raises(UnsupportedProcess, match="closed_form"):
        closed(Repeat(answer, 2), REPLACE_ONE)


def test_a_step_without_a_pair_is_refused_by_its_own_message():
    with pytest.raises(UnsupportedProcess, match="Shuffled: no proved bound under add_remove"):
        closed(Allocated(Repeat(Gaussian(noise_multiplier=1.0), 3), Shuffled()))


# Published compositions of the new mechanisms, by pld


@pytest.mark.parametrize(
    ("process", "delta", "adjacency", "lower", "upper"),
    [
        (Repeat(Laplace(noise_multiplier=10.0), 100), 1e-6, ADD_REMOVE, 4.69266741384728, 4.692667415627155),
        (Repeat(Laplace(noise_multiplier=50.0), 10_000), 1e-10, ADD_REMOVE, 14.2125679, 14.2125681),
        (Repeat(Laplace(noise_multiplier=1.0), 10), 1e-15, ADD_REMOVE, 9.999999999, 10.0),
        (
            Repeat(RandomizedResponse(epsilon=math.log(0.19 / 0.09), categories=10), 1000),
            1e-12,
            REPLACE_ONE,
            160.72524626855045,
            160.72524626856722,
        ),
    ],
)
def test_compositions_are_bracketed_around_the_reference(process, delta, adjacency, lower, upper):
    claim = epsilon_bounds(process, delta=delta, adjacency=adjacency)
    assert claim.lower <= upper * (1 + 1e-13) and lower * (1 - 1e-13) <= claim.upper
    assert claim.width <= 1e-4 * upper


def test_sampled_laplace_compositions_reach_the_published_largest_loss():
    sampled = Repeat(Sampled(Laplace(noise_multiplier=0.5), Poisson(probability=0.2)), 3)
    assert epsilon_bounds(sampled, delta=0.0).contains(3 * math.log1p(0.2 * math.expm1(2)))


def test_replace_one_moves_a_query_twice_as_far():
    one = closed(Laplace(noise_multiplier=2.0), Adjacency.REPLACE_ONE).delta(0.25)
    other = closed(Laplace(noise_multiplier=1.0), Adjacency.ZERO_OUT).delta(0.25)
    assert one.overlaps(other) and one.width < 4e-15


@pytest.mark.parametrize("delta", [0.1, 1e-5, 1e-300])
@pytest.mark.parametrize("shift", [1e8, 9.5e8, 9.5e10, 1e15, 1e100])
def test_gaussians_of_enormous_shifts_are_bracketed_without_a_warning(shift, delta):
    """ε = μ²/2 − μ Φ⁻¹(δ) up to a relative 1/μ²; Newton's method for it lost all digits and left the floats."""
    found = GDP().profile(Gaussian(noise_multiplier=1.0 / shift), adjacency=ADD_REMOVE).epsilon(delta)
    with mp.workdps(60):
        mu = mp.mpf(shift)
        truth = mu * mu / 2 - mu * mp.mpf(float(special.ndtri_exp(math.log(delta))))
        assert found.lower <= truth * (1 + mp.mpf("1e-15")) and truth * (1 - mp.mpf("1e-15")) <= found.upper
    assert found.upper <= float(truth) * (1 + 1e-5)
