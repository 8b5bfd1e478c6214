"""Estimators asked about coins that left too few in, or too few out: no error tells which, or how many."""

import numpy as np
import pytest

from audit.evidence import estimators
from audit.scores import IndependentRuns, LabelledScores, OneRun, Scores, Stream, Threshold
from mechanisms import Gaussian, InvalidParameter

NUMBER = 20
DESIGNS = {OneRun: OneRun(canaries=NUMBER), IndependentRuns: IndependentRuns(runs=NUMBER), Stream: Stream(looks=NUMBER)}
VALUES = np.random.default_rng(0).normal(size=NUMBER)
SLOW = {"one_run_fdp"}  # it never refuses coins: its own tests ask it about one class


def said(name, design, membership):
    """Return the bound or the text of the error, and the same of the test."""
    scores = Scores(values=VALUES, design=design, guessing_rule=Threshold(value=0.0), squares=VALUES**2)
    data, estimator = LabelledScores(scores=scores, membership=membership), estimators()[name]()
    asked = {"process": Gaussian(noise_multiplier=1.0), "delta": 1e-5, "confidence": 0.95}
    answers = []
    for ask in (estimator.epsilon, lambda data, **asked: estimator.rejects(data, 1.0, **asked)):
        try:
            answers.append(float(ask(data, **asked)))
        except InvalidParameter as error:
            answers.append(str(error))
    return tuple(answers)


@pytest.mark.parametrize("name", sorted(set(estimators()) - SLOW))
def test_errors_tell_neither_which_class_is_too_small_nor_how_small(name):
    design = DESIGNS[estimators()[name].designs[0]]
    first = np.arange(NUMBER)
    answers = {
        k: {said(name, design, (first < k) != turned) for turned in (False, True)}  # k in, or k out
        for k in (0, 1)
    }
    texts = {text for found in answers.values() for both in found for text in both if isinstance(text, str)}
    assert len(texts) <= 1
    numbers = {both for found in answers.values() for both in found if not isinstance(both[0], str)}
    assert all(0 <= bound < np.inf for bound, _ in numbers)
