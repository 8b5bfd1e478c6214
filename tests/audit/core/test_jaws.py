"""Both jaws along one run: each point is what an audit of a run that ended there finds."""

import dataclasses

import pytest

pytest.importorskip("torch")

from accountant import epsilon_bounds
from audit.attacks.gradient import GradientProjection
from audit.attacks.loss import LossThreshold
from audit.canaries import InputCanaries
from audit.core.claims import claimed_bounds
from audit.core.described import SampledGaussianRun
from audit.core.jaws import POINTS, jaws_path, looked_at
from audit.core.simulated_trainers import DELTA, coordinates, simulated
from audit.core.verdicts import simulated_plan
from audit.runs import Setup, observe_course, observe_one_run
from audit.scores import GuessExtremes
from mechanisms import Adjacency, KeyedSource, Laplace, Repeat

CANARIES = 400


def setup_of(run, process=None):
    return Setup(
        trainer=simulated("quiet", run, seed=(3, 1)),
        canaries=coordinates(CANARIES),
        guessing_rule=GuessExtremes(included=CANARIES // 10, excluded=CANARIES // 10),
        randomness=KeyedSource(3),
        attack=GradientProjection(),
        process=process or run.process(),
    )


@pytest.fixture(scope="module")
def run():
    return SampledGaussianRun(noise_multiplier=1.5, probability=0.5, steps=4)


def test_every_point_is_claim_and_evidence_of_a_run_that_ended_there(run):
    plan = simulated_plan(run, canaries=CANARIES, refuter=False, confidence=0.95)
    setup = setup_of(run)
    data, before = observe_course(setup, at=looked_at(setup))
    claimed = claimed_bounds(run.process(), delta=DELTA, adjacency=Adjacency.ADD_REMOVE)
    path = jaws_path(setup, plan, before, claimed=claimed, evidence=plan.evidence(data, ""))
    assert path.steps == (1, 2, 3, 4) and max(path.evidence) > 0
    for step, upper, shown in zip(path.steps, path.claimed, path.evidence, strict=True):
        ended = dataclasses.replace(run, steps=step)
        alone = observe_one_run(setup_of(ended))
        assert upper == epsilon_bounds(ended.process(), delta=DELTA, adjacency="add_remove").upper
        assert shown == plan.primary.epsilon(
            alone, process=ended.process(), delta=DELTA, confidence=plan.primary_confidence
        )


@pytest.mark.parametrize("steps", [1, 2, 7, 8, 9, 100, 12_345])
def test_a_run_is_looked_at_a_few_times_before_its_end(run, steps):
    places = looked_at(setup_of(dataclasses.replace(run, steps=steps)))
    assert len(places) == min(steps, POINTS) - 1 and list(places) == sorted(set(places))
    assert all(0 < place < steps for place in places)


def test_a_run_of_other_steps_or_whose_steps_are_not_seen_is_not_looked_at(run):
    assert looked_at(setup_of(run, Repeat(Laplace(noise_multiplier=1.0), 8))) == ()
    records = InputCanaries(features=[[0.0]], targets=[0])
    black = dataclasses.replace(setup_of(run), attack=LossThreshold(), canaries=records)
    assert looked_at(black) == ()
