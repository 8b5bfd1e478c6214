import numpy as np
import pytest

from audit.core.references import References, balanced_membership
from mechanisms import InvalidParameter


def test_means_and_squares_are_those_of_the_models_with_and_without_each_canary(rng):
    confidences, included = rng.normal(size=(9, 4)), balanced_membership(models=10, canaries=4, rng=rng)[:9]
    references = References(confidences=confidences, included=included)
    for canary in range(4):
        within, without = (confidences[chosen, canary] for chosen in (included[:, canary], ~included[:, canary]))
        assert references.included_means[canary] == pytest.approx(within.mean())
        assert references.excluded_means[canary] == pytest.approx(without.mean())
        squares = references.squares(references.excluded_means, ~included)[canary]
        assert squares == pytest.approx(without.var() * len(without))


def test_each_canary_is_in_half_of_the_models_and_pairs_are_independent(rng):
    drawn = balanced_membership(models=8, canaries=2000, rng=rng)
    assert np.all(drawn.sum(axis=0) == 4)
    assert abs(drawn.sum(axis=1) - 1000).max() < 5 * np.sqrt(500)
    assert abs(np.mean(drawn[0] & drawn[1]) - 3 / 14) < 5 * np.sqrt(0.17 / 2000)  # 4/8 · 3/7


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"included": np.zeros((2, 3), dtype=bool)}, "included must be bool of shape"),
        ({"included": np.zeros((2, 2))}, "included must be bool"),
        ({"included": [[True, True], [True, False]]}, "leave every canary out of one model"),
        ({"confidences": [[np.inf, 0.0], [0.0, 0.0]]}, "confidences must be finite"),
        ({"confidences": [0.0, 0.0]}, "a row for each model"),
        ({"population": np.zeros((3, 4))}, "a row for each of the 2 models"),
    ],
)
def test_bad_references_are_named(change, text):
    good = {"confidences": np.zeros((2, 2)), "included": [[True, False], [False, True]]}
    with pytest.raises(InvalidParameter, match=text):
        References(**(good | change))


def test_an_odd_number_of_models_has_no_half(rng):
    with pytest.raises(InvalidParameter, match="models must be even, got 3"):
        balanced_membership(models=3, canaries=1, rng=rng)
