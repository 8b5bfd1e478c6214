"""What `lower_bound…` and `rejects` of every estimator's module make of input that makes no sense, or is huge."""

import importlib
import inspect

import numpy as np
import pytest

from audit.core import doors
from audit.evidence import estimators
from mechanisms import Gaussian, InvalidParameter, UnsupportedProcess

HUGE = (2**63, 1e308, -1e308, 10**400)
NONSENSE = (np.nan, np.inf, -np.inf, -1.0, 1.5, "a", None, 1j, [1.0, np.nan], [], *HUGE)
SCORES = (
    [],
    [np.nan, 1.0, 1.0, 2.0],
    ["a", "b", "c", "d"],
    None,
    3.0,
    [[1.0], [1.0, 2.0]],
    [1j, 1.0, 2.0, 3.0],
    [1e308, -1e308, 1e308, 1e200],
    [1e60, -1e60, 1.0, 2.0],
    [5.0, 5.0, 5.0, 5.0],
)
SEEN = [0.3, 1.7, 0.9, 2.2, 1.1, 0.4, 1.9, 0.8]
USUAL = {
    **dict(true_positives=40, false_negatives=10, false_positives=10, true_negatives=40, included=50, excluded=50),
    **dict(canaries=100, guesses=20, correct=15, delta=1e-5, confidence=0.95, epsilon=1.0, order=2.0, factor=1.0),
    **dict(gap=1.0, deviation_in=1.0, deviation_out=1.0, deviation=1.0, centre=0.5, distance=1.0, ratio=1.0),
    **dict(probability=0.5, steps=10, noise_multiplier=1.0, squares=10.0, degrees=10, samples="poisson"),
    **dict(process=Gaussian(noise_multiplier=1.0), adjacency="add_remove", side="either", curve="gaussian", opening=14),
    **dict(outcomes=np.ones(10), values=np.array([1.0, 0.0, 1.2, 0.1]), membership=np.array([True, False] * 2)),
    **dict(first=np.array(SEEN) + 1, second=np.array(SEEN)),
}
ASKED = ("lower_bound", "interval", "divergence", "estimate", "epsilon_of", "noise_multiplier_upper", "mu_lower")
TAKE_SCORES = {"berk_jones", "bonferroni", "dkw", "held_out", "maximal"}


def found():
    for name, kind in estimators().items():
        module = importlib.import_module(kind.__module__)
        for called, function in vars(module).items():
            if inspect.isfunction(function) and (called == "rejects" or called.startswith(ASKED)):
                yield pytest.param(name, function, id=f"{name}.{called}")


def usual_for(function):
    usual = dict(USUAL)
    if function.__module__.rpartition(".")[2] in TAKE_SCORES:
        usual |= {"included": np.array(SEEN) + 1, "excluded": np.array(SEEN)}
    return {key: usual[key] for key in inspect.signature(function).parameters}


def said(function, given):
    """The answer as an array, or None where the question is refused by name."""
    try:
        return np.asarray(getattr(answer := function(**given), "value", answer))
    except (InvalidParameter, UnsupportedProcess) as error:
        assert ": " in str(error)
        return None


@pytest.mark.thinned(8)
@pytest.mark.parametrize("function", [pytest.param(one.values[1], id=one.id) for one in list(found())[::-1]])
def test_nonsense_is_refused_and_nothing_is_ever_nan_or_negative(function):
    usual = usual_for(function)
    assert said(function, usual) is not None
    for key, value in usual.items():
        for tried in SCORES if isinstance(value, np.ndarray) else NONSENSE:
            answer = said(function, usual | {key: tried})
            assert answer is None or answer.dtype == bool or np.all(answer >= 0), (key, tried)


RULES = [
    ("confidence", 1.5, "confidence must lie strictly between 0 and 1"),
    ("delta", 1.0, "delta must be below 1"),
    ("epsilon", -1.0, "epsilon must be at least 0"),
    ("epsilon", np.nan, "epsilon must be"),
    ("false_negatives", 2.0**54, "must be"),
    ("correct", 21, "correct must be"),
    ("guesses", 101, "guesses must be at most the 100 canaries"),
    ("canaries", 0, "canaries must be at least 1"),
]


@pytest.mark.thinned(5)
@pytest.mark.parametrize(
    ("function", "key", "value", "rule"),
    [
        pytest.param(*one.values[1:], *rule, id=f"{one.id}-{rule[0]}-{rule[1]}")
        for one in found()
        for rule in RULES
        if rule[0] in inspect.signature(one.values[1]).parameters
    ],
)
def test_what_breaks_a_rule_is_named(function, key, value, rule):
    with pytest.raises(InvalidParameter, match=rule):
        function(**usual_for(function) | {key: value})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: doors.numbers("x", "scores", ["a"]), "x: scores must be real numbers, got an array of <U1"),
        (lambda: doors.numbers("x", "scores", [[1], [1, 2]]), "x: scores must be an array, got rows of"),
        (lambda: doors.counts("x", "correct", [1.5], 3), "x: correct must be whole numbers, at least 0 and at most"),
        (lambda: doors.counts("x", "correct", [4], 3), "x: correct must be whole numbers, at least 0 and at most"),
        (lambda: doors.counts("x", "correct", [np.nan], 3), "x: correct must be whole numbers"),
        (lambda: doors.trials("x", "included", 2**53 + 1), "x: included must be at most 9,007,199,254,740,992, got"),
        (lambda: doors.sized("x", "gap", 1e61), r"x: gap must be finite, at least -1e\+60 and at most 1e\+60"),
        (lambda: doors.losses("x", [0.0, -1.0]), "x: epsilon must be at least 0, got less or nan"),
    ],
)
def test_what_is_refused_is_named_without_its_value(call, message):
    with pytest.raises(InvalidParameter, match=message):
        call()
