import numpy as np
import pytest
from scipy import special

from audit.core.confidences import logit_confidences
from mechanisms import InvalidParameter


def test_confidences_are_the_log_odds_of_the_right_class(rng):
    outputs, targets = rng.normal(0, 2, (3, 5, 4)), rng.integers(4, size=5)
    chances = special.softmax(outputs, axis=2)[:, np.arange(5), targets]
    np.testing.assert_allclose(logit_confidences(outputs, targets), special.logit(chances), rtol=1e-11)


def test_confidences_stay_apart_where_chances_round_to_one_or_zero():
    outputs = np.array([[200.0, 0.0, 0.0], [201.0, 0.0, 0.0], [0.0, 900.0, 0.0]])
    found = logit_confidences(outputs, [0, 0, 0])
    np.testing.assert_allclose(found, [200 - np.log(2), 201 - np.log(2), -900.0], rtol=1e-15)


@pytest.mark.parametrize(
    ("outputs", "targets", "text"),
    [
        (np.zeros((3, 1)), [0, 0, 0], "k >= 2 classes"),
        (np.zeros((3, 2)), [0, 0], r"targets \(m,\)"),
        (np.zeros((2, 2)), [0, 2], "whole numbers from 0 to 1"),
        (np.zeros((2, 2)), [0.0, 1.0], "whole numbers from 0 to 1"),
    ],
)
def test_bad_input_is_named(outputs, targets, text):
    with pytest.raises(InvalidParameter, match=text):
        logit_confidences(outputs, targets)
