"""Smooth sensitivity: walks against all histograms, the cost of a release against exact normals, releases."""

import itertools
import math

import numpy as np
import pytest
from scipy import special

from mechanisms import InvalidParameter, KeyedSource, UnsupportedProcess
from mechanisms.core.process import Process
from mechanisms.core.smooth_sensitivity import (
    ReleasedRenyi,
    release_cost,
    release_divergence,
    smoothed,
)
from mechanisms.core.vote_walk import Walk
from mechanisms.core.votes import GaussianVotes
from mechanisms.pate import ConfidentGNMax, GNMax, LNMax

# Walks


def histograms(teachers, classes):
    for cuts in itertools.combinations(range(teachers + classes - 1), classes - 1):
        ends = (-1, *cuts, teachers + classes - 1)
        yield tuple(b - a - 1 for a, b in itertools.pairwise(ends))


def distance(one, other):
    """How many teachers change their votes."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) // 2


SMALL = [(0.5, 3, 1.5, 7), (1.0, 2, 2.0, 14), (1.5, 3, 2.0, 6), (0.6, 4, 1.5, 5)]


@pytest.mark.parametrize(("sigma", "classes", "order", "teachers"), SMALL)
def test_a_walk_finds_the_largest_change_among_all_histograms(sigma, classes, order, teachers):
    walk = Walk(sigma=sigma, classes=classes, order=order)
    if walk.conditions() != (True, True):
        pytest.fail("the settings are meant to meet the conditions")
    every = list(histograms(teachers, classes))
    log_q = GaussianVotes(noise_multiplier=sigma).log_errors(np.array(every, dtype=float))
    costs = dict(zip(every, walk.cost(log_q).tolist(), strict=True))
    local = {
        votes: max(abs(costs[votes] - costs[other]) for other in every if distance(votes, other) == 1)
        for votes in every
    }
    for votes in every:
        found = walk.local_sensitivities(np.array(votes))
        assert len(found) == teachers + 1
        for far in range(teachers + 1):
            most = max(local[other] for other in every if distance(votes, other) <= far)
            assert most <= np.max(found[: far + 1]) * (1 + 1e-9)


@pytest.mark.parametrize(("sigma", "classes", "order", "teachers"), SMALL)
def test_smooth_sensitivities_of_neighbours_differ_by_their_factor(sigma, classes, order, teachers):
    walk, b = Walk(sigma=sigma, classes=classes, order=order), 0.1
    every = list(histograms(teachers, classes))
    scales = {votes: smoothed(walk.local_sensitivities(np.array(votes)), b) for votes in every}
    for one, other in itertools.combinations(every, 2):
        if distance(one, other) == 1:
            assert abs(math.log(scales[one] / scales[other])) <= b * (1 + 1e-9)


def test_one_vote_moves_the_error_no_further_than_the_maps_say():
    sigma, classes, teachers = 1.3, 4, 7
    walk, every = Walk(sigma=sigma, classes=classes, order=2.0), list(histograms(7, 4))
    gaps = np.array([[max(v) - x for i, x in enumerate(v) if i != int(np.argmax(v))] for v in every]) / sigma
    log_q = np.log(np.sum(special.ndtr(-gaps / math.sqrt(2)), axis=1))
    up, down = walk.moved(log_q, 1.0), walk.moved(log_q, -1.0)
    for i, j in itertools.permutations(range(len(every)), 2):
        if distance(every[i], every[j]) == 1:
            assert down[i] - 1e-9 <= log_q[j] or log_q[j] >= 0
            assert log_q[j] <= up[i] + 1e-9 or up[i] >= 0
    assert teachers == sum(every[0])


@pytest.mark.parametrize(("sigma", "holds"), [(20.0, (True, False)), (30.0, (True, True))])
def test_conditions_are_those_of_the_authors_tests(sigma, holds):
    assert Walk(sigma=sigma, classes=10, order=25.0).conditions() == holds


def test_a_walk_from_disagreement_finds_the_values_of_the_authors_tests():
    found = Walk(sigma=250.0, classes=5, order=10.0).local_sensitivities(np.array([1000, 500, 300, 200, 0]))
    assert np.all(found[:298] == 0.0)
    assert found[298:300] == pytest.approx([2.77693450548e-7, 2.10853979548e-6], rel=1e-8)
    assert found[300:] == pytest.approx(np.full(1701, 2.73113623988e-6), rel=1e-8)


# The cost of a release


def normals(order, moved, scale):
    """D_order of N(moved, 1) from N(0, scale²)."""
    mixed = 1.0 + order * (scale**2 - 1.0)
    if mixed <= 0.0:
        return math.inf
    return order * moved**2 / (2.0 * mixed) + (order * math.log(scale) - 0.5 * math.log(mixed)) / (order - 1.0)


@pytest.mark.parametrize("order", [1.1, 3.0, 30.0])
@pytest.mark.parametrize("share", [0.01, 0.4, 0.9])
@pytest.mark.parametrize("noise", [0.3, 1.0, 10.0])
def test_a_release_costs_what_the_worst_two_normals_show(order, share, noise):
    b = -0.5 * math.log1p(-share / order)
    found = release_cost(order=order, smoothness=b, noise_multiplier=noise)
    shown = [
        normals(order, min(1.0, t) * part / noise, t)
        for t in np.exp(np.linspace(-b, b, 201))
        for part in (0.0, 0.5, 1.0)
    ]
    assert max(shown) <= found * (1 + 1e-9) and found <= max(shown) * (1 + 1e-9)


def test_the_cost_in_print_is_too_small_near_the_largest_smoothness():
    """α e^{2b}/σ² + (αb − ½ log(1 − 2αb))/(α − 1), with 2αb = .98, as the authors' programs take it."""
    order, b, noise = 10.0, 0.049, 1.0
    printed = order * math.exp(2 * b) / noise**2 + (order * b - 0.5 * math.log(1 - 2 * order * b)) / (order - 1)
    shown = normals(order, math.exp(-b) / noise, math.exp(-b))
    assert printed < 12 < 60 < shown <= release_cost(order=order, smoothness=b, noise_multiplier=noise)


@pytest.mark.parametrize(("order", "smoothness"), [(1.0, 0.01), (0.5, 0.01), (10.0, 0.06), (1e300, 0.01)])
def test_an_order_out_of_range_is_refused(order, smoothness):
    with pytest.raises(InvalidParameter, match=r"release_cost: order must lie strictly between 1 and"):
        release_cost(order=order, smoothness=smoothness, noise_multiplier=1.0)
    for name in ("smoothness", "noise_multiplier"):
        with pytest.raises(InvalidParameter, match=f"release_cost: {name} must be above 0"):
            release_cost(**{"order": 3.0, "smoothness": 0.01, "noise_multiplier": 1.0, name: 0.0})


# Releases

ASKED = {"order": 20.0, "smoothness": 0.01, "noise_multiplier": 10.0}


def test_a_released_end_fails_as_rarely_as_asked_for():
    shown, source = GNMax(noise_multiplier=40.0).data_dependent([[220, 20, 10]] * 20), KeyedSource(0)
    truth = shown.divergence(20.0)
    ends = [release_divergence(shown, **ASKED, failure=0.2, randomness=source).answers for _ in range(100)]
    failed = sum(end < truth for end in ends)
    assert 1 <= failed <= 25  # half of the failure is spent on S, which seldom matters
    assert len(set(ends)) > 60 and min(ends) >= 0.0


def test_agreement_is_worth_its_release():
    shown = GNMax(noise_multiplier=40.0).data_dependent([[245, 5]] * 1_000)
    found = release_divergence(shown, **ASKED, failure=0.01, randomness=KeyedSource(1))
    assert shown.divergence(20.0) < found.divergence < 0.9 * 1_000 * 20.0 / 40.0**2
    assert isinstance(found, ReleasedRenyi) and not isinstance(found, Process)
    single = release_cost(**ASKED)
    assert found.cost == pytest.approx(single + 20.0 / 200.0, rel=1e-12)


def test_what_has_no_smooth_sensitivity_is_refused():
    asked = {**ASKED, "failure": 0.1, "randomness": KeyedSource(0)}
    for mechanism in (
        LNMax(noise_multiplier=20.0),
        ConfidentGNMax(threshold=1.0, threshold_noise_multiplier=1.0, noise_multiplier=40.0),
        GNMax(noise_multiplier=0.0),
    ):
        with pytest.raises(UnsupportedProcess, match="Use"):
            release_divergence(mechanism.data_dependent([9, 1]), **asked)
    with pytest.raises(UnsupportedProcess, match="Use GNMax"):
        release_divergence(GNMax(noise_multiplier=40.0), **asked)
    with pytest.raises(UnsupportedProcess, match="conditions of its theorem fail"):
        release_divergence(
            GNMax(noise_multiplier=20.0).data_dependent([9] + [0] * 9), **{**asked, "order": 25.0, "smoothness": 0.005}
        )
    with pytest.raises(UnsupportedProcess, match="Use a smaller order"):
        release_divergence(GNMax(noise_multiplier=1e-200).data_dependent([9, 1]), **asked)
    for votes in ([[9, 1], [5, 6]], np.zeros((0, 2), dtype=int)):
        with pytest.raises(InvalidParameter, match="the same number of teachers"):
            release_divergence(GNMax(noise_multiplier=40.0).data_dependent(votes), **asked)
    for failure in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(InvalidParameter, match="release_divergence: failure must"):
            release_divergence(GNMax(noise_multiplier=40.0).data_dependent([9, 1]), **{**asked, "failure": failure})
