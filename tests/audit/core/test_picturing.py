import math

import numpy as np
import pytest
from scipy import stats

from audit.core.described import SampledGaussianRun
from audit.core.picturing import ALPHAS, POINTS, certified, histogram, pictured, roc_points
from audit.scores import IndependentRuns, LabelledScores, Scores, Threshold
from mechanisms import Adjacency, Gaussian, Laplace, Repeat

RUN = SampledGaussianRun(noise_multiplier=2.0, probability=0.3, steps=12)
ADD_REMOVE = Adjacency.ADD_REMOVE


def brute_force(included, excluded):
    thresholds = [math.inf, *sorted({*included, *excluded}, reverse=True)]
    return {(float(np.mean(excluded >= threshold)), float(np.mean(included >= threshold))) for threshold in thresholds}


@pytest.mark.parametrize("sizes", [(1, 2), (30, 40), (90, 20)])
@pytest.mark.parametrize("ties", [True, False])
def test_every_point_is_of_the_curve_and_few_scores_give_all_of_it(sizes, ties):
    rng = np.random.default_rng(sum(sizes))
    included, excluded = rng.normal(1, 2, sizes[0]), rng.normal(0, 2, sizes[1])
    if ties:
        included, excluded = np.round(included), np.round(excluded)
    points = list(zip(*roc_points(included, excluded), strict=True))
    assert set(points) == brute_force(included, excluded)
    assert points == sorted(points) and (points[0], points[-1]) == ((0.0, 0.0), (1.0, 1.0))


def test_many_scores_are_thinned_to_points_of_their_curve_with_both_ends():
    rng = np.random.default_rng(0)
    included, excluded = rng.normal(1, 1, 2_000), rng.normal(0, 1, 2_000)
    points = list(zip(*roc_points(included, excluded), strict=True))
    assert 60 <= len(points) <= POINTS + 1 and set(points) <= brute_force(included, excluded)
    assert (points[0], points[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert len([point for point in points if point[0] < 0.01]) >= 8


def test_all_scores_are_counted_and_the_law_is_that_of_the_described_run():
    """By another route: the mixture summed term by term with the library's binomial and normal laws."""
    rng = np.random.default_rng(1)
    scale = math.sqrt(RUN.steps) * RUN.noise_multiplier
    included = rng.binomial(RUN.steps, RUN.probability, 300) + rng.normal(0, scale, 300)
    excluded = rng.normal(0, scale, 200)
    found = histogram(included, excluded, RUN)
    assert (sum(found.included), sum(found.excluded)) == (300, 200) and found.unit == "clip norms"
    edges = np.array(found.edges)
    mixed = sum(
        stats.binom(RUN.steps, RUN.probability).pmf(times) * np.diff(stats.norm(times, scale).cdf(edges))
        for times in range(RUN.steps + 1)
    )
    np.testing.assert_allclose(found.expected_included, 300 * mixed, rtol=1e-9)
    np.testing.assert_allclose(found.expected_excluded, 200 * np.diff(stats.norm(0, scale).cdf(edges)), rtol=1e-9)


def test_a_run_without_sampling_takes_every_canary_every_time():
    whole = SampledGaussianRun(noise_multiplier=2.0, probability=1.0, steps=4)
    scores = np.linspace(-12.0, 12.0, 50)
    found = histogram(scores, scores, whole)
    np.testing.assert_allclose(
        found.expected_included, 50 * np.diff(stats.norm(4, 4).cdf(found.edges)), rtol=1e-9, atol=1e-12
    )


def test_scores_without_a_law_have_no_unit_and_equal_ones_no_histogram():
    found = histogram(np.array([0.0, 1.0]), np.array([0.5]), None)
    assert (found.expected_included, found.expected_excluded, found.unit) == ((), (), "")
    assert histogram(np.ones(3), np.ones(2), RUN) is None
    assert histogram(np.array([1.0]), np.array([np.nextafter(1.0, 2.0)]), RUN) is None


def test_the_certified_curve_is_no_lower_than_the_gaussian_one_and_hardly_above():
    alpha, allowed = certified(Repeat(Gaussian(noise_multiplier=2.0), 4), ADD_REMOVE, "gdp")
    exact = stats.norm.cdf(stats.norm.ppf(np.array(alpha)) + 1.0)
    assert alpha == ALPHAS and np.all(np.array(allowed) >= exact - 1e-15)
    np.testing.assert_allclose(allowed, exact, atol=2e-6)


def test_no_curve_is_drawn_where_the_accountant_has_none():
    assert certified(Laplace(noise_multiplier=1.0), ADD_REMOVE, "gdp") == ((), ())
    assert certified(Laplace(noise_multiplier=1.0), ADD_REMOVE, "elsewhere") == ((), ())


def test_scores_of_another_kind_than_the_sums_are_drawn_without_a_law():
    rng = np.random.default_rng(2)
    values, membership = rng.normal(0, 1, 20), np.arange(20) % 2 == 0
    asked = {"process": RUN.process(), "adjacency": ADD_REMOVE, "accountant": "elsewhere", "described": RUN}
    for sums, known in ((None, True), (values, True), (2 * values, False)):
        scores = Scores(values=values, design=IndependentRuns(runs=20), guessing_rule=Threshold(value=0.0), sums=sums)
        found = pictured(LabelledScores(scores=scores, membership=membership), **asked)
        assert bool(found.histogram.expected_included) is known
        assert not found.roc.alpha and not found.jaws and not found.wealth


def test_scores_a_few_roundings_apart_have_a_histogram():
    run = SampledGaussianRun(noise_multiplier=1.0, probability=0.5, steps=1000)
    ends = -np.sqrt(1000) + np.array([-1e-13, 1e-13])  # the normal law rounds down once between them
    assert min(histogram(ends, ends, run).expected_excluded) == 0
