"""Who may decide: an estimator that says nothing about the neighbours or the claim is refused before the run."""

import numpy as np
import pytest

from accountant import epsilon_bounds
from audit import GuessExtremes, audit, signed_coordinates
from audit.canaries import InputCanaries
from audit.core.plan import check_neighbours
from audit.estimators.gdp import GDP
from audit.estimators.one_run_fdp import OneRunFDP
from audit.estimators.tradeoff import Tradeoff
from audit.evidence import LowerBound
from audit.score_files import lower_bound_from_file
from audit.scores import OneRun, Threshold
from mechanisms import Adjacency, Gaussian, InvalidParameter, KeyedSource, Laplace, Poisson, Sampled, UnsupportedProcess

SAMPLED = Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.5))

OTHER = LowerBound(
    epsilon=1.0, delta=1e-3, confidence=0.95, adjacency=Adjacency.ADD_REMOVE, method="one_run",
    guarantee="frequentist", threat_model="any", design=OneRun(canaries=40),
)  # fmt: skip


def never(task):
    raise AssertionError("the trainer was called")


def asked(claim=SAMPLED, **more):
    given = {
        "claim": claim,
        "delta": 1e-5,
        "canaries": signed_coordinates(canaries=40, dimension=40, rng=np.random.default_rng(0)),
        "guessing_rule": GuessExtremes(included=5, excluded=5),
        "randomness": KeyedSource(0),
    }
    return audit(never, **(given | more))


def replacing():
    replaced = InputCanaries(features=np.zeros((40, 1)), targets=np.zeros(40))
    return InputCanaries(features=np.ones((40, 1)), targets=np.zeros(40), replaced=replaced)


def test_the_family_of_one_record_more_or_less_would_refute_an_honest_run_on_replaced_records(tmp_path):
    """The record adds 1 or −1 where it takes part: the claimed Gaussian step, to the letter."""
    rng, runs = np.random.default_rng(1), 4_000
    membership, taking_part = rng.random(runs) < 0.5, rng.random(runs) < 0.5
    scores = rng.normal(0.0, 1.0, runs) + np.where(membership, 1.0, -1.0) * taking_part
    np.savez(tmp_path / "honest.npz", scores=scores, membership=membership)
    level = {
        "estimator": "tradeoff",
        "design": "independent_runs",
        "guessing_rule": Threshold(value=0.0),
        "claim": SAMPLED,
        "delta": 1e-5,
        "confidence": 0.95,
    }
    blind = lower_bound_from_file(tmp_path / "honest.npz", **level)
    assert blind.epsilon > 1.5 * epsilon_bounds(SAMPLED, delta=1e-5, adjacency="replace_one").upper
    with pytest.raises(InvalidParameter, match="estimator must be about any computation under replace_one neighbours"):
        lower_bound_from_file(tmp_path / "honest.npz", adjacency="replace_one", **level)


@pytest.mark.parametrize("role", [{"primary": "one_run_fdp"}, {"exploratory": ["one_run_fdp"]}])
def test_family_estimators_are_refused_for_replaced_records_before_the_run(role):
    with pytest.raises(InvalidParameter, match=f"{next(iter(role))} must be about any computation under replace_one"):
        asked(canaries=replacing(), adjacency="replace_one", attack="loss", refuter=None, **role)


@pytest.mark.parametrize("adjacency", [Adjacency.REPLACE_ONE, Adjacency.ZERO_OUT])
def test_gaussians_that_are_not_sampled_are_one_family_whatever_the_neighbours(adjacency):
    for estimator in (GDP(), Tradeoff(), OneRunFDP()):
        assert check_neighbours("primary", estimator, Gaussian(noise_multiplier=2.0), adjacency) is None


def test_a_contribution_of_zero_is_like_a_record_less_for_a_gaussian_on_poisson_samples():
    assert check_neighbours("primary", Tradeoff(), SAMPLED, Adjacency.ZERO_OUT) is None
    with pytest.raises(InvalidParameter, match="under zero_out neighbours of this claim, got 'tradeoff'"):
        check_neighbours("primary", Tradeoff(), Laplace(noise_multiplier=1.0), Adjacency.ZERO_OUT)


@pytest.mark.parametrize("role", [{"primary": "one_run_fdp"}, {"exploratory": ["one_run_fdp"]}])
def test_a_claim_that_an_estimator_cannot_treat_is_refused_before_the_run(role):
    with pytest.raises(UnsupportedProcess, match="must be one Gaussian step on Poisson samples"):
        asked(claim=Laplace(noise_multiplier=1.0), **role)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"randomness": 0}, "audit: randomness must be a Source, got int"),
        ({"randomness": None}, "audit: randomness must be a Source, got NoneType"),
        ({"guessing_rule": None}, "audit: guessing_rule must be a GuessingRule, got NoneType"),
        ({"primary": ""}, "primary must be one of .*'one_run'.*, got ''"),
        ({"exploratory": [5]}, "exploratory must hold names of estimators and LowerBounds, got int"),
        ({"exploratory": [OTHER]}, "exploratory must be about δ = 1e-05 and add_remove neighbours, .* got 0.001"),
        ({"exploratory": "one_run"}, "exploratory must be a sequence, got 'one_run'"),
        ({"delta": 0.0}, "no Gaussian has one at δ = 0"),
    ],
)
def test_what_would_fail_or_be_passed_over_later_is_refused_before_the_run(change, message):
    with pytest.raises(InvalidParameter, match=message):
        asked(**change)
