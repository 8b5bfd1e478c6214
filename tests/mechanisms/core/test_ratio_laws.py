"""Laws of sums of likelihood ratios: both kinds against quadrature and enumeration."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from mechanisms import ApproximateDP, Gaussian, Laplace, Poisson, PureDP, Sampled
from mechanisms.core.bounds import Bounds
from mechanisms.core.pair import LossBins
from mechanisms.core.ratio_laws import RatioLaw, ratio_law, ratio_pair, summed_ratios
from tests.strategies import ZERO_OUT, steps, tables

# Balls in bins over T = 2 steps by quadrature: (σ, ε): (remove, add), shared/reference papers.md §5
TWO = {
    (1.0, 0.5): (0.149177523132, 0.142686965824),
    (1.0, 1.0): (0.059206501086, 0.050197662369),
    (0.5, 1.0): (0.404577500351, 0.380339194348),
    (2.0, 0.5): (0.018326594761, 0.017397485847),
}


def remove(step):
    return step.pairs(ZERO_OUT)["remove"]


def bracket(pair, times, epsilon, reverse):
    point = Bounds.exact(epsilon)
    lower, upper = (
        ratio_pair(summed_ratios(pair, times, kind), times, reverse=reverse).delta(point)
        for kind in ("collapse", "spread")
    )
    return lower.lower, upper.upper


@pytest.mark.parametrize(("sigma", "epsilon"), TWO)
def test_two_gaussian_steps_are_bracketed_in_both_directions(sigma, epsilon):
    pair = remove(Gaussian(noise_multiplier=sigma))
    for reverse, truth in zip((False, True), TWO[sigma, epsilon], strict=True):
        lower, upper = bracket(pair, 2, epsilon, reverse)
        assert lower <= truth * (1 + 1e-11) and truth * (1 - 1e-11) <= upper
        assert upper - lower <= 4e-3 * truth


def three(sigma, epsilon):
    """δ of both directions for T = 3 and a Gaussian: two coordinates by the trapezoid rule, the third in closed form.

    E (r − k)₊ = Φ(μ/2 − log k/μ) − k Φ(−μ/2 − log k/μ) for k > 0, 1 − k otherwise; and (k − r)₊ = (r − k)₊ + k − r.
    """
    mu = 1.0 / sigma
    x = np.linspace(-10.0, 10.0 + 2 * mu, 1201)
    weight = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    r = np.exp(mu * x - 0.5 * mu * mu)
    weights = np.multiply.outer(weight, weight)
    rest = np.add.outer(r, r)

    def excess(k):
        with np.errstate(divide="ignore", invalid="ignore"):
            d = -np.log(np.maximum(k, 1e-300)) / mu
            call = special.ndtr(mu / 2 + d) - k * special.ndtr(-mu / 2 + d)
        return np.where(k > 0, call, 1.0 - k)

    k = 3.0 * math.exp(epsilon) - rest
    low = 3.0 * math.exp(-epsilon) - rest
    with_record = np.sum(weights * excess(k)) / 3.0
    without = math.exp(epsilon) * np.sum(weights * np.where(low > 0, excess(low) + low - 1.0, 0.0)) / 3.0
    return with_record, without


@pytest.mark.thinned(4)
@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_three_gaussian_steps_are_bracketed_in_both_directions(sigma, epsilon):
    pair = remove(Gaussian(noise_multiplier=sigma))
    for reverse, truth in zip((False, True), three(sigma, epsilon), strict=True):
        lower, upper = bracket(pair, 3, epsilon, reverse)
        assert lower <= truth + 1e-10 and truth - 1e-10 <= upper
        assert upper - lower <= 5e-3 * truth + 1e-6


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("epsilon", "times"), [(0.5, 2), (1.0, 7), (2.0, 100), (0.1, 1000), (3.0, 999)])
def test_answers_to_two_categories_are_bracketed_as_counts_say(epsilon, times):
    pair = PureDP(epsilon=epsilon, adjacency="zero_out").pairs(ZERO_OUT)["remove"]
    j = np.arange(times + 1)
    q = stats.binom.pmf(j, times, 1.0 / (1.0 + math.exp(epsilon)))
    x = (j * math.exp(epsilon) + (times - j) * math.exp(-epsilon)) / times
    for at in (0.0, 0.3 * epsilon):
        truths = np.sum(q * np.maximum(x - math.exp(at), 0)), np.sum(q * np.maximum(1 - math.exp(at) * x, 0))
        for reverse, truth in zip((False, True), truths, strict=True):
            lower, upper = bracket(pair, times, at, reverse)
            assert lower <= truth * (1 + 1e-9) + 1e-30 and truth * (1 - 1e-9) - 1e-30 <= upper
            assert upper - lower <= 0.03 * truth + 1e-6


@given(steps(ZERO_OUT), st.integers(1, 6), st.sampled_from((0.0, 0.2, 1.0)), st.booleans())
def test_collapsed_laws_never_tell_more_than_spread_ones(step, times, epsilon, reverse):
    lower, upper = bracket(remove(step), times, epsilon, reverse)
    assert 0 <= lower <= upper <= 1


@given(steps(ZERO_OUT), st.sampled_from((0.0, 0.2, 1.0)))
def test_one_ratio_brackets_its_own_pair(step, epsilon):
    pair = remove(step)
    for reverse, one in ((False, pair), (True, pair.reverse())):
        lower, upper = bracket(pair, 1, epsilon, reverse)
        truth = one.delta(Bounds.exact(epsilon))
        assert lower <= truth.upper and truth.lower <= upper
        assert upper - lower <= 5e-3 * truth.upper + 1e-4


STEPS = [
    Gaussian(noise_multiplier=0.5),
    Laplace(noise_multiplier=1.0),
    Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.3)),
    PureDP(epsilon=1.0, adjacency="zero_out"),
]


@pytest.mark.thinned(7)
@pytest.mark.parametrize("step", STEPS, ids=repr)
@pytest.mark.parametrize("times", [1, 5, 64, 1000])
def test_masses_sum_to_one_and_ratios_to_the_number_of_steps(step, times):
    for kind in ("spread", "collapse"):
        law = summed_ratios(remove(step), times, kind)
        assert math.isclose(np.sum(law.masses), 1.0, rel_tol=2e-8)
        assert math.isclose(np.sum(law.masses * law.values) + law.lost, times, rel_tol=2e-8)
        assert law.error < 1e-8 and law.shift < 1e-9


def test_adding_one_by_one_brackets_the_same_as_doubling():
    one = ratio_law(remove(Gaussian(noise_multiplier=1.0)), "spread")
    by_steps = one.plus(one).plus(one).plus(one)
    slow, fast = (ratio_pair(law, 4, reverse=False).delta(Bounds.exact(0.3)).upper for law in (by_steps, one.times(4)))
    assert math.isclose(slow, fast, rel_tol=3e-3)


def test_what_gives_the_record_away_is_kept():
    pair = remove(Sampled(PureDP(epsilon=1.0, adjacency="zero_out"), Poisson(probability=0.5)))
    assert ratio_pair(summed_ratios(pair, 8, "spread"), 8, reverse=False).infinite_mass.upper < 1e-30


def by_enumeration(step, times, epsilon):
    """δ of remove and add over all outcomes of T steps: P the mean of the products with one step from p."""
    runs = list(itertools.product(range(len(step.p)), repeat=times))
    q = np.array([math.prod(step.q[i] for i in run) for run in runs])
    p = np.array(
        [
            sum(math.prod((step.p if t == here else step.q)[i] for t, i in enumerate(run)) for here in range(times))
            / times
            for run in runs
        ]
    )
    return tuple(float(np.sum(np.maximum(a - math.exp(epsilon) * b, 0.0))) for a, b in ((p, q), (q, p)))


class Beside:
    """A pair whose loss is x_k − e with probability 1 − w, else x_{k + 1}, w such that its mean ratio is e^{x_k}.

    x_k are edges that it is asked for, and e how far from them its bins begin: it lies in bin k.
    """

    infinite_mass = missing_mass = Bounds.exact(0.0)
    error, at = 1e-4, 450

    def loss_range(self, tail):
        return -1.0, 1.0

    def delta(self, epsilon):
        return Bounds.exact(0.4)

    def loss_bins(self, edges, scale):
        self.low, self.high = edges[self.at : self.at + 2]
        q = np.zeros(len(scale))
        q[self.at] = 1.0
        ratio = np.exp(self.low)
        return LossBins(p=Bounds.exact(q * ratio), q=Bounds.exact(q), edge_error=np.full(len(edges), self.error))

    def excess(self, level):
        least, mean, most = math.exp(self.low - self.error), math.exp(self.low), math.exp(self.high)
        return (mean - least) / (most - least) * (most - level)


def test_bins_that_begin_beside_the_points_are_spread_from_where_they_begin():
    pair = Beside()
    law = ratio_law(pair, "spread")
    for part in (0.3, 0.6, 0.9):
        level = math.exp(pair.low + part * (pair.high - pair.low))
        found = np.sum(law.masses * np.maximum(law.values * (1.0 + 2.0 * law.shift) - level, 0.0))
        assert found >= pair.excess(level) * (1 - 1e-9)


def test_masses_that_floats_can_not_hold_are_left_out_of_a_lower_end():
    """The square of 1.6e-162 is 2.6e-324 and rounds to 4.9e-324, above it: such a mass proves nothing."""
    part = RatioLaw(
        values=np.array([1.0, 2.0, 1e9]),
        masses=np.array([1.0, 1.6e-162, 1e-9]),
        lost=0.0,
        error=1e-16,
        shift=1e-16,
        kind="collapse",
    )
    law = part.plus(part)
    assert np.min(law.masses) > 1e-163 and np.max(law.values) >= 1e9


def test_what_only_the_other_law_shows_stays_in_a_lower_end():
    pair = remove(ApproximateDP(epsilon=500.0, delta=1e-3, adjacency="zero_out"))
    found = ratio_pair(summed_ratios(pair, 3, "collapse"), 3, reverse=True)
    assert math.isclose(found.infinite_mass.lower, 1e-9, rel_tol=1e-9)


@given(tables(), st.integers(1, 4), st.sampled_from((0.0, 0.4, 1.3)))
def test_finite_steps_are_bracketed_as_enumeration_says(step, times, epsilon):
    pair = remove(step)
    for reverse, truth in zip((False, True), by_enumeration(step, times, epsilon), strict=True):
        lower, upper = bracket(pair, times, epsilon, reverse)
        assert lower <= truth * (1 + 1e-9) + 1e-15 and truth * (1 - 1e-9) - 1e-15 <= upper
        assert upper - lower <= 0.02 * truth + 2e-3
