import numpy as np
import pytest

from audit import interference as module
from audit.interference import explained_share, predicted_interference
from audit.scores import LabelledScores, OneRun, Scores, Threshold
from mechanisms import Gaussian, InvalidParameter, Poisson, Repeat, Sampled, UnsupportedProcess

STEPS, RATE, NOISE = 20, 0.3, 1.5
RUN = Repeat(Sampled(Gaussian(noise_multiplier=NOISE), Poisson(probability=RATE)), STEPS)


def test_the_shares_are_those_of_simulated_scores(rng):
    gradients = rng.normal(size=(12, 30)) / 9
    coins, runs = rng.random((40_000, 12)) < 0.5, 40_000
    visits = rng.binomial(STEPS, RATE, (runs, 12)) * coins
    of_others = visits @ (gradients @ gradients.T) - visits * np.sum(gradients**2, axis=1)
    of_noise = rng.normal(0, NOISE * np.sqrt(STEPS), (runs, 30)) @ gradients.T
    shares = of_others.var(axis=0) / (of_others + of_noise).var(axis=0)
    found = predicted_interference(gradients, RUN)
    assert found.largest_share == pytest.approx(shares.max(), rel=0.05)
    assert found.mean_share == pytest.approx(shares.mean(), rel=0.03)


def test_cosines_are_those_of_all_pairs(monkeypatch, rng):
    monkeypatch.setattr(module, "ENTRIES", 30)  # so that rows are taken in several pieces
    gradients = rng.normal(size=(9, 5))
    cosines = np.corrcoef(np.hstack([gradients, -gradients]))  # of zero mean, so that correlations are cosines
    pairs = np.abs(cosines[~np.eye(9, dtype=bool)])
    found = predicted_interference(gradients, RUN)
    assert found.largest_cosine == pytest.approx(pairs.max())
    assert found.root_mean_square_cosine == pytest.approx(np.sqrt(np.mean(pairs**2)))


def test_canaries_at_right_angles_do_not_interfere():
    found = predicted_interference(np.eye(6), RUN)
    assert (found.largest_cosine, found.largest_share, found.mean_share) == (0.0, 0.0, 0.0)
    assert predicted_interference([[1.0, 0.0]], RUN).largest_cosine == 0.0


@pytest.mark.parametrize(
    ("gradients", "text"),
    [([[0.0, 0.0], [1.0, 0.0]], "must not be zero"), ([1.0], r"of shape \(m, d\)"), ([[np.nan]], "must be finite")],
)
def test_bad_gradients_are_named(gradients, text):
    with pytest.raises(InvalidParameter, match=text):
        predicted_interference(gradients, RUN)


def test_other_processes_are_refused():
    with pytest.raises(UnsupportedProcess, match="one Gaussian step"):
        predicted_interference([[1.0]], Repeat(Sampled(RUN, Poisson(probability=0.5)), 2))


def simulated(rng, noise, canaries=400):
    """One run of canaries that crowd few dimensions, what they contribute on average subtracted from the scores."""
    gradients = rng.normal(size=(canaries, 100)) / 10
    membership = rng.random(canaries) < 0.5
    visits = rng.binomial(STEPS, RATE, canaries) * membership
    scores = gradients @ (gradients.T @ (visits - STEPS * RATE / 2) + rng.normal(0, noise * np.sqrt(STEPS), 100))
    data = LabelledScores(
        scores=Scores(values=scores, design=OneRun(canaries=canaries), guessing_rule=Threshold(value=0.0)),
        membership=membership, participations=visits,
    )  # fmt: skip
    return gradients, data


def test_what_is_explained_in_a_run_is_what_is_predicted_of_it(rng):
    gradients, data = simulated(rng, noise=2.0)
    predicted = predicted_interference(
        gradients, Repeat(Sampled(Gaussian(noise_multiplier=2.0), RUN.part.sampling), STEPS)
    )
    shares = [explained_share(*simulated(rng, noise=2.0)) for _ in range(30)]
    assert np.mean(shares) == pytest.approx(predicted.mean_share, abs=0.08) and predicted.mean_share > 0.3
    assert explained_share(*simulated(rng, noise=0.0)) > 0.99
    assert explained_share(rng.normal(size=(400, 100)), data) < 0.1


def test_shares_need_participations_and_canaries_that_were_out(rng):
    gradients, data = simulated(rng, noise=1.0, canaries=8)
    hidden = LabelledScores(scores=data.scores, membership=data.membership)
    inside = LabelledScores(scores=data.scores, membership=[True] * 8, participations=[1] * 8)
    for given in ((gradients, hidden), (gradients, inside), (gradients[:7], data)):
        with pytest.raises(InvalidParameter, match="4 or more of them out, with participations"):
            explained_share(*given)
