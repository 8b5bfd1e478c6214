from itertools import product

import numpy as np
import pytest

from audit.core.least_favourable import LeastFavourable, passing
from tests.audit.estimators.laws import LAWS, constant_ratio

REGION = np.array([0, 0, 1, 1, 2, 4])  # by true positives: how many false positives it allows


def passes(labels, region=REGION):
    """Whether the walk with these labels, True for a step right, passes the region."""
    points = np.concatenate([[[0, 0]], np.cumsum([[label, not label] for label in labels], axis=0)])
    return bool(np.any(points[:, 1] < region[points[:, 0]]))


@pytest.mark.parametrize("end", [(0, 3), (5, 0), (2, 3), (5, 4)])
def test_passing_agrees_with_all_ways_one_by_one(end):
    rights, ups = end
    ways = [way for way in product([True, False], repeat=rights + ups) if sum(way) == rights]
    share = np.mean([passes(way) for way in ways])
    assert passing(REGION, rows=(0, 6), columns=(0, 5)).values[end] == pytest.approx(share, rel=1e-12)
    alone = passing(REGION, rows=(rights, rights + 1), columns=(ups, ups + 1))
    assert alone.values == pytest.approx(share, rel=1e-12)


def passing_share(law, epsilon, delta, *, n_in=5, n_out=4, draws=2000, seed=1):
    """How often scores of this law, ties broken for the worst, pass the region."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(draws):
        inside, outside = law(rng, n_in, n_out, epsilon, delta)
        values, labels = np.concatenate([inside, outside]), np.arange(n_in + n_out) < n_in
        found += passes(labels[np.argsort(-values, kind="stable")] if len(set(values)) > 1 else labels[::-1])
    return found / draws


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.15), (2.5, 0.02)])
def test_the_law_is_that_of_sorted_answers(epsilon, delta):
    expected = LeastFavourable.of(REGION, 4, delta=delta, rest=1e-9).p_value(epsilon)
    found = passing_share(constant_ratio, epsilon, delta)
    assert abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / 2000)


def exact_share(inside_law, outside_law, n_in=3, n_out=2):
    """P[region is passed], scores being atoms 0, 1, … of these laws, thresholds between atoms only."""
    region, total = np.array([0, 0, 1, 3]), 0.0
    atoms = range(len(inside_law))
    for drawn in product(atoms, repeat=n_in + n_out):
        chance = np.prod(inside_law[list(drawn[:n_in])]) * np.prod(outside_law[list(drawn[n_in:])])
        hits = [sum(score >= cut for score in drawn[:n_in]) for cut in atoms]
        alarms = [sum(score >= cut for score in drawn[n_in:]) for cut in atoms]
        total += chance * any(false < region[true] for true, false in zip(hits, alarms, strict=True))
    return total


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.1), (1.0, 0.0), (1.5, 0.1)])
def test_no_random_function_of_the_answers_passes_more_often(epsilon, delta):
    """Exact, over random channels from four answers to four scores and over those that sort or reverse them."""
    rng = np.random.default_rng(5)
    right = 1 / (1 + np.exp(-epsilon))
    inside = np.array([0.0, (1 - delta) * (1 - right), (1 - delta) * right, delta])
    highest = LeastFavourable.of(np.array([0, 0, 1, 3]), 2, delta=delta, rest=1e-12).p_value(epsilon)
    channels = [np.eye(4), np.eye(4)[::-1], *rng.dirichlet([0.2] * 4, size=(2, 4))]
    shares = [exact_share(inside @ channel, inside[::-1] @ channel) for channel in channels]
    assert max(shares) <= highest
    assert max(shares) >= 0.5 * highest


@pytest.mark.parametrize("delta", [0.0, 1e-3, 0.1])
def test_the_probability_rises_with_epsilon_and_with_delta(delta):
    region = np.maximum(np.arange(61) - 40, 0)
    law = LeastFavourable.of(region, 60, delta=delta, rest=1e-6)
    points = [law.p_value(epsilon) for epsilon in np.linspace(0, 6, 13)]
    assert np.all(np.diff(points) >= -1e-12) and points[0] > 0 and points[-1] <= 1 + 1e-9
    assert law.p_value(1.0) <= LeastFavourable.of(region, 60, delta=delta + 0.01, rest=1e-6).p_value(1.0)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (0.7, 0.05), (4.0, 1e-3)])
def test_tables_for_one_epsilon_hold_all_that_it_asks_for(epsilon, delta):
    region = np.maximum(np.arange(401) - 280, 0)
    asked = {"delta": delta, "rest": 1e-6}
    alone = LeastFavourable.of(region, 300, **asked, only=epsilon)
    assert sum(table.values.size for table in alone.firsts) < 0.9 * len(alone.firsts) * 401 * 301
    found = alone.p_value(epsilon)
    assert found == pytest.approx(LeastFavourable.of(region, 300, **asked).p_value(epsilon), rel=1e-12)


def test_blocks_of_many_sure_answers_only_raise_the_probability():
    """Against sums over every number of sure answers."""
    import audit.core.least_favourable as module

    region = np.maximum(np.arange(61) - 45, 0)  # 9 ± 3 sure answers a side
    blocked = LeastFavourable.of(region, 60, delta=0.15, rest=1e-6)
    few, module.FEW = module.FEW, 99
    try:
        exact = LeastFavourable.of(region, 60, delta=0.15, rest=1e-6)
    finally:
        module.FEW = few
    assert len(blocked.firsts) < 8 < len(exact.firsts)
    assert exact.p_value(1.0) <= blocked.p_value(1.0) <= 3 * exact.p_value(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_no_law_of_scores_passes_more_often(law):
    highest = LeastFavourable.of(REGION, 4, delta=0.05, rest=1e-9).p_value(1.0)
    found = passing_share(law, 1.0, 0.05, draws=10_000) if law.__name__ != "tied" else 0.0
    assert found <= highest + 4 * np.sqrt(highest * (1 - highest) / 10_000)
