import dataclasses

import numpy as np
import pytest

from audit.evidence import LowerBound, estimators
from audit.scores import IndependentRuns, LabelledScores, OneRun, Scores, Stream, Threshold
from mechanisms import (
    Adjacency,
    Gaussian,
    InvalidParameter,
    Laplace,
    UnsupportedProcess,
)

FOUND = estimators()
DESIGNS = (OneRun(canaries=20), IndependentRuns(runs=20), Stream(looks=20))
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


def design_of(name):
    return next(design for design in DESIGNS if isinstance(design, FOUND[name].designs))


def bound_by(name, data, delta=1e-5, confidence=0.95):
    process = Gaussian(noise_multiplier=1.0)
    return FOUND[name]().lower_bound(data, process=process, delta=delta, confidence=confidence, threat_model="any")


@pytest.mark.parametrize("name", FOUND)
def test_an_estimator_refuses_any_design_but_its_own_by_name(name):
    for design in DESIGNS:
        if not isinstance(design, FOUND[name].designs):
            with pytest.raises(InvalidParameter, match=f"{name}: design must be .*, got {type(design).__name__}"):
                bound_by(name, data_of(design))


@pytest.mark.parametrize("name", FOUND)
def test_scores_that_say_nothing_give_zero(name):
    design = design_of(name)
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
    design = design_of(name)
    with pytest.raises(InvalidParameter, match=message):
        bound_by(name, data_of(design), **level)


@pytest.mark.parametrize("name", FOUND)
def test_a_bound_says_what_it_rests_on(name):
    design = design_of(name)
    bound = bound_by(name, data_of(design))
    assert (bound.method, bound.guarantee, bound.design) == (name, FOUND[name].guarantee, design)
    assert (bound.adjacency, bound.delta, bound.confidence) == (Adjacency.ADD_REMOVE, 1e-5, 0.95)
    assert bound.about == FOUND[name].about


@pytest.mark.parametrize("name", FOUND)
def test_what_depends_on_the_claimed_process_says_that_it_is_about_its_family(name):
    design = dataclasses.replace(design_of(name), **{dataclasses.fields(design_of(name))[0].name: 400})
    values = np.random.default_rng(7).normal(size=400) + 2.0 * (np.arange(400) % 2 == 0)
    data, level = data_of(design, values), {"delta": 1e-5, "confidence": 0.95}
    answers = set()
    for process in (Gaussian(noise_multiplier=1.0), Laplace(noise_multiplier=1.0)):
        try:
            answers.add(FOUND[name]().epsilon(data, process=process, **level))
        except UnsupportedProcess:
            answers.add(None)
    assert FOUND[name].about == ("any computation" if len(answers) == 1 else "the claimed family")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": -0.1}, "epsilon must be at least 0, got -0.1"),
        ({"epsilon": np.nan}, "epsilon must be a number, got nan"),
        ({"guarantee": "certain"}, "guarantee must be one of 'frequentist'"),
        ({"adjacency": "next_door"}, "Adjacency: name must be one of"),
        ({"about": "everything"}, "about must be one of 'any computation', 'the claimed family', got 'everything'"),
    ],
)
def test_evidence_is_never_negative_nan_or_of_an_unknown_kind(change, message):
    with pytest.raises(InvalidParameter, match=message):
        dataclasses.replace(BOUND, **change)


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_the_bound_inverts_the_test_that_rejects(name, shift):
    rng = np.random.default_rng(7)
    design = dataclasses.replace(design_of(name), **{dataclasses.fields(design_of(name))[0].name: 400})
    values = rng.normal(size=400) + shift * (np.arange(400) % 2 == 0)
    data, level = data_of(design, values), {"process": Gaussian(noise_multiplier=1.0), "delta": 1e-5}
    found = FOUND[name]().epsilon(data, confidence=0.95, **level)
    around = np.array([0.999 * found - 1e-9, 1.001 * found + 1e-9, found + 1.0])
    refuted = FOUND[name]().rejects(data, np.maximum(around, 0.0), confidence=0.95, **level)
    assert list(refuted[1:]) == [False, False]
    assert found == 0 or refuted[0]
