import dataclasses

import numpy as np
import pytest

from audit.evidence import LowerBound, estimators
from audit.scores import IndependentRuns, LabelledScores, OneRun, Scores, Threshold
from mechanisms import Adjacency, Gaussian, InvalidParameter

FOUND = estimators()
BOUND = LowerBound(
    epsilon=1.0,
    delta=1e-5,
    confidence=0.95,
    adjacency="add_remove",
    method="one_run",
    guarantee="frequentist",
    threat_model="white box",
    design=OneRun(canaries=10),
)


def data_of(design, values=None):
    values = np.linspace(-1, 1, design.size) if values is None else values
    scores = Scores(values=values, design=design, guessing_rule=Threshold(value=0.0))
    return LabelledScores(scores=scores, membership=np.arange(design.size) % 2 == 0)


def bound_by(name, data, delta=1e-5, confidence=0.95):
    process = Gaussian(noise_multiplier=1.0)
    return FOUND[name]().lower_bound(data, process=process, delta=delta, confidence=confidence, threat_model="any")


@pytest.mark.parametrize("name", FOUND)
def test_an_estimator_refuses_any_design_but_its_own_by_name(name):
    other = IndependentRuns(runs=20) if FOUND[name].design is OneRun else OneRun(canaries=20)
    with pytest.raises(InvalidParameter, match=f"{name}: design must be {FOUND[name].design.__name__}, got "):
        bound_by(name, data_of(other))


@pytest.mark.parametrize("name", FOUND)
def test_scores_that_say_nothing_give_zero(name):
    design = OneRun(canaries=20) if FOUND[name].design is OneRun else IndependentRuns(runs=20)
    assert bound_by(name, data_of(design)).epsilon == 0.0
    assert bound_by(name, data_of(design, np.zeros(20))).epsilon == 0.0


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize(
    ("level", "message"),
    [
        ({"delta": 1.0}, "delta must be below 1"),
        ({"delta": -0.1}, "delta must be at least 0"),
        ({"delta": np.nan}, "delta must be a number"),
        ({"confidence": 0.0}, "confidence must lie strictly between 0 and 1"),
        ({"confidence": 1.0}, "confidence must lie strictly between 0 and 1"),
        ({"confidence": np.nan}, "confidence must be a number"),
    ],
)
def test_impossible_levels_are_refused(name, level, message):
    design = OneRun(canaries=20) if FOUND[name].design is OneRun else IndependentRuns(runs=20)
    with pytest.raises(InvalidParameter, match=message):
        bound_by(name, data_of(design), **level)


@pytest.mark.parametrize("name", FOUND)
def test_a_bound_says_what_it_rests_on(name):
    design = OneRun(canaries=20) if FOUND[name].design is OneRun else IndependentRuns(runs=20)
    bound = bound_by(name, data_of(design))
    assert (bound.method, bound.guarantee, bound.design) == (name, FOUND[name].guarantee, design)
    assert (bound.adjacency, bound.delta, bound.confidence) == (Adjacency.ADD_REMOVE, 1e-5, 0.95)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": -0.1}, "epsilon must be at least 0, got -0.1"),
        ({"epsilon": np.nan}, "epsilon must be a number, got nan"),
        ({"guarantee": "certain"}, "guarantee must be one of 'frequentist'"),
        ({"adjacency": "next_door"}, "Adjacency: name must be one of"),
    ],
)
def test_evidence_is_never_negative_nan_or_of_an_unknown_kind(change, message):
    with pytest.raises(InvalidParameter, match=message):
        dataclasses.replace(BOUND, **change)
