import itertools

import numpy as np
import pytest
from scipy import special, stats

from accountant import epsilon_bounds
from accountant.tightest import Tightest
from audit.core.boundary import QUANTILES, STRIP
from audit.core.counts import Counts
from audit.estimators.tradeoff import lower_bound_from_counts, noise_factor_upper_bound, rejects
from audit.noise_families import NoiseFamily
from mechanisms import (
    Adjacency,
    Compose,
    DiscreteGaussian,
    Gaussian,
    InvalidParameter,
    Laplace,
    Poisson,
    PureDP,
    RandomizedResponse,
    Repeat,
    Sampled,
    UnsupportedProcess,
)

NAMES = ("true_positives", "false_negatives", "false_positives", "true_negatives")
DP_SGD = Repeat(Sampled(Gaussian(noise_multiplier=0.936), Poisson(probability=0.1)), 100)  # ε(1e-5) = 8.0
SHIFTS = {8: 1.666031, 4: 0.924931, 1: 0.268051}  # μ of the Gaussian with this ε at δ = 1e-5


def gaussian_curve(shift):
    return lambda alpha: special.ndtr(-special.ndtri(alpha) - shift)


def pure_curve(epsilon):
    return lambda alpha: np.maximum(np.maximum(1 - np.exp(epsilon) * alpha, np.exp(-epsilon) * (1 - alpha)), 0)


def laplace_curve(shift):
    """Three pieces: the losses ±shift and what lies between them [Dong, Roth, Su 2022]."""

    def curve(alpha):
        middle = np.exp(-shift) / (4 * np.maximum(alpha, 1e-300))
        outer = np.where(alpha < np.exp(-shift) / 2, 1 - np.exp(shift) * alpha, np.exp(-shift) * (1 - alpha))
        return np.where((alpha >= np.exp(-shift) / 2) & (alpha <= 0.5), middle, outer)

    return curve


# process, adjacency, its trade-off function by another route
LAWS = {
    "gaussian_8": (Gaussian(noise_multiplier=1 / SHIFTS[8]), "add_remove", gaussian_curve(SHIFTS[8])),
    "gaussian_1": (Gaussian(noise_multiplier=1 / SHIFTS[1]), "add_remove", gaussian_curve(SHIFTS[1])),
    "gaussian_3": (Gaussian(noise_multiplier=1 / 3.0), "add_remove", gaussian_curve(3.0)),
    "laplace": (Laplace(noise_multiplier=0.5), "add_remove", laplace_curve(2.0)),
    "randomised": (RandomizedResponse(epsilon=1.0), "replace_one", pure_curve(1.0)),
    "nothing": (RandomizedResponse(epsilon=0.0), "replace_one", pure_curve(0.0)),
    "pure_4": (PureDP(epsilon=4.0, adjacency="add_remove"), "add_remove", pure_curve(4.0)),
    "composed": (
        Compose((Gaussian(noise_multiplier=2.0), Gaussian(noise_multiplier=1.0))),
        "add_remove",
        gaussian_curve(np.hypot(0.5, 1.0)),
    ),
    "dp_sgd": (
        DP_SGD,
        "add_remove",
        lambda alpha: Tightest().profile(DP_SGD, adjacency=Adjacency.ADD_REMOVE).tradeoff(alpha).upper,
    ),
}
LEVELS = special.ndtr(np.linspace(-3.0, 1.5, 25))


def bound(counts, process, adjacency="add_remove", delta=1e-5, confidence=0.95):
    asked = dict(zip(NAMES, counts, strict=True))
    return lower_bound_from_counts(**asked, process=process, adjacency=adjacency, delta=delta, confidence=confidence)


def counts_of(*counts):
    return Counts(owner="test", **dict(zip(NAMES, counts, strict=True)))


@pytest.mark.parametrize("name", LAWS)
def test_the_polygon_lies_below_the_tradeoff_function_and_near_it(name):
    process, adjacency, curve = LAWS[name]
    found = NoiseFamily(process=process, adjacency=adjacency).curve(1.0)(LEVELS)
    gap = curve(LEVELS) - found
    assert np.all(gap >= 0)
    assert np.all(gap < 1e-3)


def false_claims(process, adjacency, curve, included, excluded, confidence=0.95):
    """Return exact probabilities that the true curve is refuted, at rates all along it."""
    missed, alarms = np.arange(included + 1)[:, None], np.arange(excluded + 1)[None, :]
    refuted = rejects(
        false_negatives=missed,
        included=included,
        false_positives=alarms,
        excluded=excluded,
        process=process,
        adjacency=adjacency,
        confidence=confidence,
    )
    rates = zip(curve(LEVELS), LEVELS, strict=True)
    return [
        np.sum((stats.binom.pmf(missed, included, b) * stats.binom.pmf(alarms, excluded, a))[refuted]) for b, a in rates
    ]


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(("included", "excluded"), [(12, 12), (30, 20)])
def test_the_true_curve_is_refuted_no_more_often_than_announced(name, included, excluded):
    assert max(false_claims(*LAWS[name], included, excluded)) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(
    ("included", "excluded", "confidence"),
    [(25, 25, 0.5), (25, 25, 0.95), (25, 25, 0.999), (100, 100, 0.95), (130, 70, 0.95), (500, 500, 0.95)],
)
def test_the_level_holds_exactly_at_every_size(name, included, excluded, confidence):
    assert max(false_claims(*LAWS[name], included, excluded, confidence)) <= 1 - confidence


@pytest.mark.slow
def test_little_of_the_error_is_wasted():
    """The rectangle of two limits at half the error each spends .02 at the same size."""
    process, adjacency, curve = LAWS["gaussian_8"]
    missed, alarms = np.arange(64, 137), np.arange(64, 137)[:, None]  # four standard deviations to either side
    refuted = rejects(
        false_negatives=missed,
        included=500,
        false_positives=alarms,
        excluded=500,
        process=process,
        adjacency=adjacency,
        confidence=0.95,
    )
    spent = stats.binom.pmf(missed, 500, curve(0.2)) * stats.binom.pmf(alarms, 500, 0.2)
    assert 0.03 < np.sum(spent[refuted]) <= 0.05


@pytest.mark.parametrize("theta", np.linspace(0.02, np.pi / 2 - 0.02, 9))
@pytest.mark.parametrize("error", [0.3, 0.05, 1e-4])
def test_the_three_ways_of_refuting_a_point_err_as_seldom_as_their_two_levels_say(theta, error):
    c = -special.ndtri((1 - STRIP) * error)
    k = max(-special.ndtri(STRIP * error), 1.4143 * c)
    z = np.linspace(-k, 9, 20_001)
    other = np.maximum((-c - z * np.cos(theta)) / np.sin(theta), -k)
    accepted = np.trapezoid(stats.norm.pdf(z) * special.ndtr(-other), z)
    assert 1 - accepted <= special.ndtr(-c) + special.ndtr(-k) + 1e-7
    assert special.ndtr(-c) + special.ndtr(-k) <= error * (1 + 1e-12)


def test_what_refutes_less_noise_refutes_more_noise():
    rng = np.random.default_rng(5)
    for name in ("gaussian_8", "laplace", "pure_4"):
        process, adjacency, _ = LAWS[name]
        missed, alarms = rng.integers(0, 60, size=(2, 40))
        refuted = [
            rejects(
                false_negatives=missed,
                included=100,
                false_positives=alarms,
                excluded=120,
                process=process,
                adjacency=adjacency,
                factor=factor,
                confidence=0.95,
            )
            for factor in (0.5, 0.8, 0.9, 1.0, 1.1, 1.5, 3.0)
        ]
        assert all(np.all(more >= less) for less, more in itertools.pairwise(refuted))
        assert not np.all(refuted[0]) and np.any(refuted[-1])


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        *itertools.product(("gaussian_8", "laplace"), [(420, 80, 70, 430), (30, 10, 2, 60), (100, 0, 0, 90)]),
        ("dp_sgd", (400, 100, 100, 400)),
    ],
)
def test_the_factor_found_is_refuted_and_the_next_smaller_is_not(name, counts):
    process, adjacency, _ = LAWS[name]
    family = NoiseFamily(process=process, adjacency=adjacency)
    factor = noise_factor_upper_bound(counts_of(*counts), family, confidence=0.95)
    asked = {
        "false_negatives": counts[1],
        "included": counts[0] + counts[1],
        "false_positives": counts[2],
        "excluded": counts[2] + counts[3],
        "process": process,
        "adjacency": adjacency,
        "confidence": 0.95,
    }
    assert rejects(factor=factor, **asked)
    assert not rejects(factor=0.98 * factor, **asked)
    expected = epsilon_bounds(family.member(factor), delta=1e-5, adjacency=adjacency).lower
    assert bound(counts, process, adjacency) == expected


@pytest.mark.slow
def test_a_thousand_runs_show_four_fifths_of_epsilon_eight():
    assert bound((399, 101, 101, 399), Gaussian(noise_multiplier=1 / SHIFTS[8])) >= 0.85 * 8
    assert bound((399, 101, 101, 399), DP_SGD) >= 0.85 * 8


@pytest.mark.slow
@pytest.mark.parametrize(("epsilon", "runs", "least"), [(8, 1_000, 0.80), (4, 1_000, 0.75), (8, 10_000, 0.95)])
def test_the_median_bound_reaches_its_bar(epsilon, runs, least):
    rng, process = np.random.default_rng(epsilon + runs), Gaussian(noise_multiplier=1 / SHIFTS[epsilon])
    missed, alarms = rng.binomial(runs // 2, special.ndtr(-SHIFTS[epsilon] / 2), size=(2, 400))
    found = [bound((runs // 2 - fn, fn, fp, runs // 2 - fp), process) for fn, fp in zip(missed, alarms, strict=True)]
    print(f"f-DP counts, ε = {epsilon}, n = {runs}: median ratio {np.median(found) / epsilon:.4f}")
    assert np.median(found) >= least * epsilon
    assert np.mean(np.array(found) > epsilon) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


def test_a_pure_run_is_beyond_a_family_of_gaussians_but_not_beyond_its_own():
    """The bound is about the family: of the run itself it is only as true as the run is of that family."""
    rates = 1 / (1 + np.e)
    counts = (round(2000 * (1 - rates)), round(2000 * rates), round(2000 * rates), round(2000 * (1 - rates)))
    assert bound(counts, PureDP(epsilon=2.0, adjacency="add_remove")) < 1.0
    assert bound(counts, Gaussian(noise_multiplier=1.0)) > 4.0
    assert not rejects(
        false_negatives=counts[1],
        included=2000,
        false_positives=counts[2],
        excluded=2000,
        process=Gaussian(noise_multiplier=1 / 1.3),  # its curve lies below that of the pure run at these rates
        adjacency="add_remove",
        confidence=0.95,
    )


@pytest.mark.parametrize("counts", [(5, 5, 5, 5), (0, 10, 0, 10), (10, 0, 10, 0), (0, 10, 10, 0), (1, 0, 0, 1)])
def test_counts_that_say_nothing_give_zero(counts):
    assert bound(counts, Gaussian(noise_multiplier=1.0)) == 0.0


def test_everything_right_is_still_finite_evidence():
    found = bound((500, 0, 0, 500), Gaussian(noise_multiplier=0.5))
    assert 32.0 < found < 45.0  # 31.997 from the two limits at half the error each


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((0, 0, 1, 1), "got none of one kind"),
        ((1, 1, 0, 0), "got none of one kind"),
        ((-1, 2, 1, 1), "must be at least 0, got -1"),
        ((1.5, 1, 1, 1), "must be a whole number, got 1.5"),
    ],
)
def test_impossible_counts_are_refused(counts, message):
    with pytest.raises(InvalidParameter, match=f"tradeoff: .*{message}"):
        bound(counts, Gaussian(noise_multiplier=1.0))


def test_noise_that_is_not_nested_is_refused():
    with pytest.raises(UnsupportedProcess, match=r"NoiseFamily: steps must be Gaussian.*got DiscreteGaussian"):
        bound((9, 1, 1, 9), DiscreteGaussian(noise_multiplier=1.0))


def test_binomial_tails_agree_with_another_route():
    rates = special.betainccinv(31.0, 470.0, QUANTILES)
    assert special.bdtr(30.0, 500, rates) == pytest.approx(QUANTILES, rel=1e-9)
