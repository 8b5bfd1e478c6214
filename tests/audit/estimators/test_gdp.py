import numpy as np
import pytest
from scipy import stats

from accountant import epsilon_bounds
from audit.estimators.gdp import GDP, lower_bound_from_counts, mu_lower_bound_from_counts, rejects
from audit.scores import IndependentRuns, LabelledScores, Scores, Threshold
from mechanisms import (
    Compose,
    Gaussian,
    InvalidParameter,
    Laplace,
    Poisson,
    Repeat,
    Sampled,
    UnsupportedProcess,
)

NAMES = ("true_positives", "false_negatives", "false_positives", "true_negatives")

# (TP, FN, FP, TN), μ and ε at δ = 1e-5 and 95 %, by an independent implementation.
REFERENCE = [
    ((950, 50, 20, 980), 3.3813445010848278, 19.493776775283553),
    ((800, 200, 200, 800), 1.50310989354637, 7.068907664422785),
    ((500, 0, 0, 500), 4.879313650820094, 31.997407546218728),
]


def named(counts):
    return dict(zip(NAMES, counts, strict=True))


def bound(counts, delta=1e-5, confidence=0.95):
    return lower_bound_from_counts(**named(counts), delta=delta, confidence=confidence)


@pytest.mark.parametrize(("counts", "mu", "epsilon"), REFERENCE)
def test_reference_values_are_reproduced(counts, mu, epsilon):
    assert mu_lower_bound_from_counts(**named(counts), confidence=0.95) == pytest.approx(mu, abs=1e-6)
    assert bound(counts) == pytest.approx(epsilon, abs=1e-6)


@pytest.mark.parametrize("counts", [(50, 50, 50, 50), (10, 990, 500, 500), (0, 500, 500, 0), (100, 0, 100, 0)])
@pytest.mark.parametrize("delta", [0.0, 1e-5])
def test_a_test_no_better_than_chance_shows_nothing_however_bad_it_is(counts, delta):
    assert bound(counts, delta) == 0.0


def test_identical_worlds_show_nothing():
    """jax-privacy 2.0.0 takes |μ| and reports about 3.97 here."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = Scores(
            values=rng.normal(size=2000), design=IndependentRuns(runs=2000), guessing_rule=Threshold(value=0.0)
        )
        data = LabelledScores(scores=scores, membership=np.arange(2000) < 1000)
        found = GDP().epsilon(data, process=Gaussian(noise_multiplier=1.0), delta=1e-5, confidence=0.999)
        assert found == 0.0


def test_without_delta_any_refuted_mu_is_an_infinite_loss():
    assert bound((900, 100, 100, 900), delta=0.0) == np.inf


@pytest.mark.parametrize("counts", [row[0] for row in REFERENCE] + [(60, 40, 40, 60)])
@pytest.mark.parametrize("delta", [1e-8, 1e-5, 0.05])
def test_the_bound_inverts_the_test(counts, delta):
    found = bound(counts, delta)
    asked = {
        "false_negatives": counts[1],
        "included": counts[0] + counts[1],
        "false_positives": counts[2],
        "excluded": counts[2] + counts[3],
        "delta": delta,
        "confidence": 0.95,
    }
    assert found == 0 or rejects(epsilon=found - 1e-7, **asked)
    assert not rejects(epsilon=found + 1e-7, **asked)


@pytest.mark.parametrize("size", [20, 200])
@pytest.mark.parametrize("mu", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("cut", [-1.0, 0.0, 2.0])
def test_false_claims_stay_below_the_level_for_gaussian_mechanisms(size, mu, cut):
    """Exact: the errors of the test "above the cut" on N(μ, 1) against N(0, 1)."""
    epsilon = epsilon_bounds(Gaussian(noise_multiplier=1 / mu), delta=1e-5).upper
    counts = np.arange(size + 1)
    refuted = rejects(
        false_negatives=counts[:, None],
        included=size,
        false_positives=counts[None, :],
        excluded=size,
        epsilon=epsilon,
        delta=1e-5,
        confidence=0.95,
    )
    law = stats.binom.pmf(counts, size, stats.norm.cdf(cut - mu)), stats.binom.pmf(counts, size, stats.norm.sf(cut))
    assert law[0] @ refuted @ law[1] <= 0.05


def test_outside_its_model_it_claims_what_is_not_so():
    """A fair answer kept with probability e/(1 + e) has ε = 1, and no μ below 1.2 explains its errors."""
    size, rate = 1000, 1 / (1 + np.e)
    counts = np.arange(size + 1)
    refuted = rejects(
        false_negatives=counts[:, None],
        included=size,
        false_positives=counts[None, :],
        excluded=size,
        epsilon=1.0,
        delta=1e-5,
        confidence=0.95,
    )
    law = stats.binom.pmf(counts, size, rate)
    assert law @ refuted @ law > 0.99


@pytest.mark.parametrize(
    "process",
    [
        Repeat(Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.1)), 10),
        Compose((Gaussian(noise_multiplier=1.0), Laplace(noise_multiplier=1.0))),
        Laplace(noise_multiplier=1.0),
    ],
)
def test_anything_but_composed_gaussians_is_refused(process):
    scores = Scores(values=np.arange(40.0), design=IndependentRuns(runs=40), guessing_rule=Threshold(value=20.0))
    data = LabelledScores(scores=scores, membership=np.arange(40) >= 20)
    level = {"process": process, "delta": 1e-5, "confidence": 0.95}
    with pytest.raises(UnsupportedProcess, match="gdp: the process must be Gaussian mechanisms"):
        GDP().epsilon(data, **level)
    with pytest.raises(UnsupportedProcess, match="gdp: the process must be Gaussian mechanisms"):
        GDP().rejects(data, 1.0, **level)


@pytest.mark.parametrize("counts", [(0, 0, 1, 1), (1, 1, 0, 0)])
def test_one_class_empty_is_refused(counts):
    with pytest.raises(InvalidParameter, match=r"gdp: counts must hold .*got none of one kind"):
        bound(counts)


def test_a_gaussian_curve_is_a_description():
    assert GDP.guarantee == "parametric"
