"""Scores of whitened noise are likelihood ratios of the described law, known by dense matrices."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")

from audit.attack import Observations, Public  # noqa: E402
from audit.attacks.gradient import GradientProjection  # noqa: E402
from audit.attacks.likelihood import StepLikelihoodRatio  # noqa: E402
from audit.attacks.whitened import WhitenedProjection  # noqa: E402
from audit.core.cost import Stopwatch  # noqa: E402
from audit.core.faults import TrainerFault  # noqa: E402
from audit.core.simulated_trainers import coordinates  # noqa: E402
from audit.core.watching import scored  # noqa: E402
from audit.scores import OneRun, Threshold  # noqa: E402
from mechanisms import (  # noqa: E402
    Gaussian,
    InvalidParameter,
    MatrixMechanism,
    PerUser,
    Poisson,
    Repeat,
    Sampled,
    Tree,
    UnsupportedProcess,
)
from tests.audit.correlated import noise_rows, seen, turns  # noqa: E402

PATTERN = {"noise_multiplier": 1.5, "steps": 11, "participations": 3, "separation": 4}
TREE = Tree(**PATTERN)
MATRIX = MatrixMechanism(**PATTERN, coefficients=(1.5, 0.7, -0.4))
CANARIES, BOUND = 6, 2.0
BOTH = pytest.mark.parametrize("mechanism", [TREE, MATRIX], ids=["tree", "matrix"])


def shown(mechanism, seed=0):
    """Return noisy projections of every step in units of the bound, and turns, both (T, m)."""
    rng, taken = np.random.default_rng(seed), turns(mechanism, CANARIES)
    return 1.5 * rng.standard_normal(taken.shape) + (np.arange(CANARIES) % 2) * taken, taken


def watched(
    mechanism, projections, taken, *, claim=None, attack=None, known=lambda weights, *, step: 7.0 * step, **told
):
    """Return what an attack says of such steps, to which the known records add 7 t in every coordinate."""
    canaries = coordinates(CANARIES)
    releases = (
        SimpleNamespace(
            step=step,
            weights_before=torch.zeros(CANARIES),
            noisy_sum=torch.from_numpy(BOUND * canaries.signs * row + 7.0 * step),
        )
        for step, row in enumerate(projections)
    )
    observations = Observations(
        released=releases,
        max_grad_norm=BOUND,
        expected_sum=lambda weights, **step: torch.full_like(weights, known(weights, **step)),
        **({"turns": lambda step: taken[step] > 0} | told),
    )
    public = Public(
        design=OneRun(canaries=CANARIES),
        guessing_rule=Threshold(value=0.0),
        process=mechanism if claim is None else claim,
        adjacency="zero_out",
    )
    chosen = WhitenedProjection() if attack is None else attack
    return scored(chosen, canaries, public, observations, len(projections), stopwatch=Stopwatch()).scores


@BOTH
def test_a_score_is_the_log_likelihood_ratio_of_what_is_shown(mechanism):
    projections, taken = shown(mechanism)
    scores, rows = watched(mechanism, projections, taken), noise_rows(mechanism)
    law = stats.multivariate_normal(cov=mechanism.noise_multiplier**2 * rows @ rows.T)
    expected = law.logpdf((projections - taken).T) - law.logpdf(projections.T)
    np.testing.assert_allclose(scores.values / mechanism.noise_multiplier**2, expected, rtol=1e-9)


@BOTH
def test_what_measures_the_noise_is_what_dense_matrices_say(mechanism):
    projections, taken = shown(mechanism)
    scores, dense = watched(mechanism, projections, taken), seen(mechanism, projections, taken)
    for name in ("values", "squares", "sums"):
        np.testing.assert_allclose(getattr(scores, name), getattr(dense, name), rtol=1e-9)
    for name in ("energies", "matched", "halfway", "lagged"):
        np.testing.assert_allclose(getattr(scores.whitened, name), getattr(dense.whitened, name), rtol=1e-9)


def test_canaries_that_share_directions_are_said_to_measure_nothing(monkeypatch):
    assert watched(TREE, *shown(TREE)).measuring is None
    monkeypatch.setattr("audit.attacks.whitened.at_right_angles", lambda _: False)
    scores = watched(TREE, *shown(TREE))
    assert scores.whitened.lagged is None and not np.any(scores.measuring) and len(scores.measuring) == CANARIES


def test_users_as_the_unit_change_nothing():
    projections, taken = shown(TREE)
    plain, users = (watched(TREE, projections, taken, claim=claim) for claim in (TREE, PerUser(TREE)))
    np.testing.assert_array_equal(plain.values, users.values)


@BOTH
def test_the_state_does_not_grow_with_the_number_of_steps(mechanism):
    def size(steps):
        claim = dataclasses.replace(mechanism, steps=steps, participations=steps // 4)
        attack, public = (
            WhitenedProjection(),
            Public(
                design=OneRun(canaries=CANARIES),
                guessing_rule=Threshold(value=0.0),
                process=claim,
                max_grad_norm=1.0,
                expected_sum=lambda weights, *, step: torch.zeros_like(weights),
                turns=lambda step: np.arange(CANARIES) % 4 == step % 4,
            ),
        )
        state = attack.start(coordinates(CANARIES), public)
        for step in range(steps):
            release = SimpleNamespace(step=step, weights_before=torch.zeros(6), noisy_sum=torch.ones(6))
            state = attack.observe(state, release)
        return sum(np.size(one) for one in state.kept)

    few, many = size(8), size(512)
    assert few == many


@pytest.mark.parametrize(
    ("attack", "told", "claim", "error", "text"),
    [
        (
            None,
            {},
            Repeat(Gaussian(noise_multiplier=1.0), 11),
            UnsupportedProcess,
            "must be a MatrixMechanism or a Tree",
        ),
        (None, {"turns": None}, None, InvalidParameter, "attack 'whitened' must be given turns, and is given none"),
        (
            GradientProjection(),
            {},
            None,
            InvalidParameter,
            "attack 'gradient' must have steps that anyone may take part",
        ),
        (
            GradientProjection(),
            {"turns": None},
            None,
            UnsupportedProcess,
            "drawn anew in every step for attack 'gradient'",
        ),
        (
            StepLikelihoodRatio(),
            {},
            Repeat(Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.5)), 11),
            InvalidParameter,
            "attack 'likelihood' must have steps that anyone may take part in",
        ),
    ],
)
def test_attacks_that_do_not_fit_the_noise_are_refused_by_name(attack, told, claim, error, text):
    with pytest.raises(error, match=text):
        watched(TREE, *shown(TREE), claim=claim, attack=attack, **told)


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        (lambda step: np.ones(CANARIES), "turns are no bool of shape"),
        (lambda step: np.ones(CANARIES - 1, dtype=bool), "turns are no bool of shape"),
        (lambda step: np.ones(CANARIES, dtype=bool), "more turns of a canary than the 3 claimed, or of turns"),
        (lambda step: 1 // 0, "raised ZeroDivisionError in its turns"),
    ],
)
def test_turns_that_are_not_those_claimed_are_faults_of_the_trainer(turns, text):
    with pytest.raises(TrainerFault, match=text):
        watched(TREE, *shown(TREE), turns=turns)


def test_more_turns_than_claimed_are_a_fault_though_they_lie_far_enough_apart():
    twice = dataclasses.replace(TREE, participations=2)
    with pytest.raises(TrainerFault, match="more turns of a canary than the 2 claimed"):
        watched(TREE, *shown(TREE), claim=twice)
