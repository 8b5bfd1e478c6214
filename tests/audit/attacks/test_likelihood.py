from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")

from audit.attack import Public  # noqa: E402
from audit.attacks.gradient import GradientProjection  # noqa: E402
from audit.attacks.likelihood import StepLikelihoodRatio, log_odds  # noqa: E402
from audit.canaries import SignedCoordinates, signed_coordinates  # noqa: E402
from audit.core.described import SampledGaussianRun  # noqa: E402
from audit.estimators import one_run  # noqa: E402
from audit.estimators.accountant_inversion import AccountantInversion  # noqa: E402
from audit.runs import Setup, observe_one_run  # noqa: E402
from audit.scores import GuessExtremes, OneRun, Threshold  # noqa: E402
from mechanisms import Gaussian, InvalidParameter, KeyedSource, Laplace, UnsupportedProcess  # noqa: E402

CANARIES = SignedCoordinates(coordinates=[3, 0], signs=[1.0, -1.0], dimension=4)
STEPS = [[4.0, 9.0, 9.0, 2.0], [-1.0, 9.0, 9.0, 3.0], [0.5, 9.0, 9.0, -0.25]]


def fold(attack, noisy_sums, *, max_grad_norm=1.0, process=None):
    public = Public(
        design=OneRun(canaries=2),
        guessing_rule=Threshold(value=0.0),
        max_grad_norm=max_grad_norm,
        expected_sum=torch.zeros_like,
        process=process,
    )
    state = attack.start(CANARIES, public)
    for noisy_sum in noisy_sums:
        weights = torch.zeros(4)
        state = attack.observe(
            state, SimpleNamespace(step=0, weights_before=weights, noisy_sum=torch.tensor(noisy_sum))
        )
    return attack.finish(state), state


def test_a_score_is_the_log_ratio_of_the_two_laws_of_the_projections(described):
    noise, probability, norm = 1.5, 0.1, 0.5
    scores, _ = fold(StepLikelihoodRatio(), STEPS, max_grad_norm=norm, process=described(noise, probability))
    seen = np.array([[step[3], -step[0]] for step in STEPS]) / norm
    inside = probability * stats.norm.pdf(seen, 1, noise) + (1 - probability) * stats.norm.pdf(seen, 0, noise)
    expected = np.sum(np.log(inside) - stats.norm.logpdf(seen, 0, noise), axis=0)
    np.testing.assert_allclose(scores.values, expected, rtol=1e-12)


def test_sums_and_squares_are_those_of_the_plain_attack(described):
    plain, _ = fold(GradientProjection(), STEPS, max_grad_norm=0.5)
    scores, _ = fold(StepLikelihoodRatio(), STEPS, max_grad_norm=0.5, process=described())
    np.testing.assert_array_equal(scores.measured, plain.measured)
    np.testing.assert_array_equal(scores.squares, plain.squares)


@pytest.mark.parametrize("noise", [1e-3, 1.0, 1e3])
def test_without_sampling_scores_rank_canaries_as_sums_do(described, noise):
    scores, _ = fold(StepLikelihoodRatio(), STEPS, process=described(noise, 1.0))
    assert np.all(np.isfinite(scores.values))
    assert np.array_equal(np.argsort(scores.values), np.argsort(scores.measured))


def test_the_state_does_not_grow_with_the_number_of_steps(described):
    for steps in (STEPS, STEPS * 100):
        _, state = fold(StepLikelihoodRatio(), steps, process=described())
        assert state.log_odds.shape == state.projections.sums.shape == (2,)


@pytest.mark.parametrize(
    ("claim", "error", "message"),
    [
        (Laplace(noise_multiplier=1.0), UnsupportedProcess, "must be one Gaussian step on Poisson samples"),
        (Gaussian(noise_multiplier=0.0), InvalidParameter, "StepLikelihoodRatio: process must have noise"),
    ],
)
def test_a_claim_with_no_ratio_of_normal_laws_is_refused(claim, error, message):
    with pytest.raises(error, match=message):
        fold(StepLikelihoodRatio(), STEPS, process=claim)


def test_where_few_steps_take_a_canary_it_shows_more_than_sums_and_the_noise_is_measured_alike(simulated, described):
    claim = described(0.9359, 0.1)  # ε = 8 at δ = 1e-5 in 100 steps
    seen = {
        attack: observe_one_run(
            Setup(
                trainer=simulated(noise=0.9359, probability=0.1),
                canaries=signed_coordinates(canaries=2_000, dimension=2_000, rng=np.random.default_rng(0)),
                guessing_rule=GuessExtremes(included=500, excluded=500),
                randomness=KeyedSource(0),
                attack=attack,
                process=claim,
            )
        )
        for attack in (GradientProjection(), StepLikelihoodRatio())
    }
    plain, weighed = seen.values()
    assert weighed.correct >= plain.correct + 30
    inversion, level = AccountantInversion(), {"process": claim, "confidence": 0.95}
    assert inversion.noise_multiplier(weighed, **level) == inversion.noise_multiplier(plain, **level)


@pytest.mark.parametrize("noise", [0.25, 1.0, 4.0])
def test_a_wrong_claim_makes_scores_no_evidence_against_a_run_that_loses_nothing(described, noise):
    """500 runs whose canaries never take part: at most 5 % may show anything, whatever the scores rest on."""
    rng = np.random.default_rng(5)
    seen = rng.normal(size=(500, 40))
    order = np.argsort(log_odds(SampledGaussianRun.of(described(noise, 0.1)), seen), axis=1)
    coins = np.take_along_axis(rng.random((500, 40)) < 0.5, order, axis=1)
    correct = coins[:, -10:].sum(axis=1) + (~coins[:, :10]).sum(axis=1)
    refuted = one_run.rejects(canaries=40, guesses=20, correct=correct, epsilon=0.0, delta=1e-5, confidence=0.95)
    assert refuted.mean() <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 500)


def test_a_canary_that_never_takes_part_has_no_odds():
    run = SampledGaussianRun(noise_multiplier=1.0, probability=0.0, steps=1)
    assert log_odds(run, np.array([-9.0, 0.5, 9.0])).tolist() == [0.0, 0.0, 0.0]
