import mpmath
import numpy as np
import pytest

from accountant import epsilon_bounds
from audit.estimators.accountant_inversion import (
    AccountantInversion,
    _p_value,
    noise_multiplier_upper_bound,
    rejects,
)
from audit.scores import LabelledScores, OneRun, Scores, Threshold
from mechanisms import Gaussian, InvalidParameter, RandomizedResponse, Repeat, UnsupportedProcess

SIMULATIONS = 20_000
LEVEL = 0.01
FOUR_STANDARD_ERRORS = 4 * np.sqrt(LEVEL * (1 - LEVEL) / SIMULATIONS)

# sampling probability, steps, noise multiplier, included, excluded
LAWS = [
    (0.5, 100, 5.5, 2500, 2500),
    (0.5, 100, 1.4, 2500, 2500),
    (0.1, 200, 1.8, 500, 500),
    (0.01, 1000, 0.9, 500, 480),
    (1.0, 10, 4.0, 200, 210),
    (0.5, 20, 4.0, 25, 25),
    (0.5, 100, 1.0, 5, 4),
]


def simulated(probability, steps, noise, included, excluded):
    """Draw gap and deviation many times from the law of Poisson DP-SGD's projections."""
    rng = np.random.default_rng(7)
    spread = noise * np.sqrt(steps)
    mean_in = rng.binomial(included * steps, probability, SIMULATIONS) / included
    mean_in = mean_in + rng.normal(0, spread / np.sqrt(included), SIMULATIONS)
    mean_out = rng.normal(0, spread / np.sqrt(excluded), SIMULATIONS)
    deviation = spread * np.sqrt(rng.chisquare(excluded - 1, SIMULATIONS) / (excluded - 1))
    return mean_in - mean_out, deviation


def share_refuted(law, tested_noise):
    probability, steps, _, included, excluded = law
    gap, deviation = simulated(*law)
    return rejects(
        gap=gap,
        deviation=deviation,
        included=included,
        excluded=excluded,
        probability=probability,
        steps=steps,
        noise_multiplier=tested_noise,
        confidence=1 - LEVEL,
    ).mean()


@pytest.mark.parametrize("law", LAWS)
def test_the_true_noise_is_refuted_as_often_as_announced(law):
    assert share_refuted(law, law[2]) == pytest.approx(LEVEL, abs=FOUR_STANDARD_ERRORS)


@pytest.mark.parametrize("law", LAWS)
def test_less_noise_than_there_is_is_refuted_less_often(law):
    assert share_refuted(law, 0.8 * law[2]) <= LEVEL + FOUR_STANDARD_ERRORS


def test_the_bound_inverts_the_test():
    asked = {"gap": 49.0, "deviation": 56.0, "included": 900, "excluded": 1100, "probability": 0.5, "steps": 100}
    found = noise_multiplier_upper_bound(**asked, confidence=0.99)
    assert rejects(**asked, noise_multiplier=found * (1 + 1e-9), confidence=0.99)
    assert rejects(**asked, noise_multiplier=np.inf, confidence=0.99)
    assert not rejects(**asked, noise_multiplier=found * (1 - 1e-9), confidence=0.99)


@pytest.mark.parametrize(
    ("contrast", "signal", "included", "excluded"),
    [(0.5, 1.0, 2500, 2500), (0.105, 0.2, 2500, 2500), (0.35, 0.5, 40, 60), (0.4, 0.1, 5, 3), (3.0, 4.0, 500, 500)],
)
def test_p_values_agree_with_thirty_digit_integration(contrast, signal, included, excluded):
    probability, steps, degrees = 0.5, 100, excluded - 1
    found = float(_p_value(np.asarray(contrast), np.asarray(signal), included, excluded, probability, steps))
    with mpmath.workdps(30):
        spread = mpmath.sqrt(probability * (1 - probability) * signal**2 / included + 1 / included + 1 / excluded)
        log_scale = mpmath.log(2) + degrees / mpmath.mpf(2) * mpmath.log(degrees / mpmath.mpf(2))
        log_scale -= mpmath.loggamma(degrees / mpmath.mpf(2))

        def integrand(chi):
            density = mpmath.exp(log_scale + (degrees - 1) * mpmath.log(chi) - degrees * chi**2 / 2)
            return density * mpmath.ncdf(10 * (probability * signal - contrast * chi) / spread)

        width = 12 / mpmath.sqrt(2 * degrees)
        points = mpmath.linspace(max(mpmath.mpf("1e-20"), 1 - width), 1 + width, 25)
        exact = mpmath.quad(integrand, points)
    assert found == pytest.approx(float(exact), abs=2e-9)


def test_the_unit_of_the_scores_does_not_matter():
    asked = {"included": 500, "excluded": 500, "probability": 0.5, "steps": 100, "confidence": 0.99}
    plain = noise_multiplier_upper_bound(gap=50.0, deviation=55.0, **asked)
    assert noise_multiplier_upper_bound(gap=5e5, deviation=5.5e5, **asked) == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize(
    ("gap", "deviation", "expected"), [(-1.0, 50.0, np.inf), (0.0, 0.0, np.inf), (1.0, 0.0, 0.0), (0.1, 50.0, np.inf)]
)
def test_no_gap_refutes_no_noise_and_no_spread_refutes_every_noise(gap, deviation, expected):
    found = noise_multiplier_upper_bound(
        gap=gap, deviation=deviation, included=500, excluded=500, probability=0.5, steps=100, confidence=0.99
    )
    assert found == expected


def test_five_thousand_canaries_show_nine_tenths_of_epsilon_four(described):
    """At the expected gap and deviation, so without luck."""
    noise = noise_multiplier_upper_bound(
        gap=50.0,
        deviation=10 * 5.511170774929619,
        included=2500,
        excluded=2500,
        probability=0.5,
        steps=100,
        confidence=0.99,
    )
    assert epsilon_bounds(described(noise=noise), delta=1e-5).lower >= 0.9 * 4.0


def labelled(values, membership):
    scores = Scores(values=values, design=OneRun(canaries=len(values)), guessing_rule=Threshold(value=0.0))
    return LabelledScores(scores=scores, membership=membership)


def epsilon_of(data, process):
    return AccountantInversion().epsilon(data, process=process, delta=1e-5, confidence=0.99)


def test_scores_without_any_noise_show_an_infinite_loss(described):
    membership = np.arange(40) < 20
    assert epsilon_of(labelled(np.where(membership, 50.0, 0.0), membership), described()) == np.inf


@pytest.mark.parametrize("included", [0, 39, 40])
def test_one_class_empty_or_nearly_so_is_refused(described, included):
    data = labelled(np.arange(40.0), np.arange(40) < included)
    with pytest.raises(InvalidParameter, match=r"accountant_inversion: (included must be|excluded must be)"):
        epsilon_of(data, described())


def test_only_repeated_sampled_gaussians_can_be_inverted():
    data = labelled(np.arange(40.0), np.arange(40) >= 20)
    with pytest.raises(UnsupportedProcess, match="must be one Gaussian step"):
        epsilon_of(data, RandomizedResponse(epsilon=1.0))


def test_a_run_without_sampling_is_inverted_through_the_exact_accountant():
    rng = np.random.default_rng(3)
    membership = np.arange(2000) < 1000
    data = labelled(rng.normal(10.0 * membership, 10.0), membership)
    found = epsilon_of(data, Repeat(Gaussian(noise_multiplier=np.sqrt(10.0)), 10))
    assert 0.75 < found / epsilon_bounds(Gaussian(noise_multiplier=1.0), delta=1e-5).lower < 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gap": np.nan}, "gap must be a number"),
        ({"deviation": -1.0}, "deviation must be at least 0"),
        ({"deviation": np.inf}, "deviation must be finite"),
        ({"included": 0}, "included must be at least 1"),
        ({"excluded": 1}, "excluded must be at least 2"),
        ({"probability": 256}, r"probability must lie in \[0, 1\]"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"confidence": 1.0}, "confidence must lie strictly between"),
    ],
)
def test_impossible_numbers_are_refused(change, message):
    asked = {"gap": 50.0, "deviation": 55.0, "included": 50, "excluded": 50, "probability": 0.5, "steps": 100}
    with pytest.raises(InvalidParameter, match=f"accountant_inversion: {message}"):
        noise_multiplier_upper_bound(**(asked | {"confidence": 0.99} | change))
