import numpy as np
import pytest

from audit.input_canaries import blank, least_variance, mislabelled, uniform_noise
from mechanisms import InvalidParameter


def rng():
    return np.random.default_rng(0)


def test_mislabelled_records_are_different_ones_with_any_wrong_class():
    features, targets = np.arange(600.0).reshape(300, 2), np.arange(300) % 4
    made = mislabelled(features, targets, canaries=300, classes=4, rng=rng())
    rows = made.features[:, 0].astype(int) // 2
    assert sorted(rows) == list(range(300)) and not np.array_equal(rows, range(300))
    turns = (made.targets - targets[rows]) % 4
    assert np.all(turns > 0) and np.all(np.bincount(turns)[1:] > 75)


def test_blank_records_are_zeros_of_every_class():
    made = blank((3, 2), canaries=5, classes=3)
    assert made.features.shape == (5, 3, 2) and not made.features.any()
    np.testing.assert_array_equal(made.targets, [0, 1, 2, 0, 1])


def test_noise_fills_its_range_and_the_classes():
    made = uniform_noise((50,), canaries=200, classes=3, rng=rng(), low=-2.0, high=3.0)
    assert made.features.dtype == np.float32
    assert made.features.min() == pytest.approx(-2, abs=0.01) and made.features.max() == pytest.approx(3, abs=0.01)
    assert made.features.mean() == pytest.approx(0.5, abs=0.05) and set(made.targets) == {0, 1, 2}


def test_directions_of_least_variance_are_those_that_records_reach_least_into():
    generator = rng()
    turn = np.linalg.qr(generator.normal(size=(6, 6)))[0]
    records = (generator.normal(size=(400, 6)) * [9, 7, 5, 3, 1, 0.1]) @ turn
    made = least_variance(records.reshape(400, 2, 3), canaries=3, classes=2, rng=generator)
    flat = made.features.reshape(3, 6)
    length = np.linalg.norm(records, axis=1).mean()
    np.testing.assert_allclose(flat @ flat.T, length**2 * np.eye(3), atol=1e-3 * length**2)
    singular = np.linalg.svd(records)[1]
    np.testing.assert_allclose(np.linalg.norm(records @ flat.T, axis=0) / length, singular[::-1][:3], rtol=1e-3)
    assert made.features.shape == (3, 2, 3)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mislabelled([[0.0]], [0], canaries=2, classes=2, rng=rng()), "at most the 1 records, got 2"),
        (lambda: mislabelled([[0.0]], [2], canaries=1, classes=2, rng=rng()), r"targets must lie in \[0, 2\)"),
        (lambda: mislabelled([[0.0]], [0.5], canaries=1, classes=2, rng=rng()), "whole numbers, one for each"),
        (lambda: mislabelled([[0.0]], [0], canaries=1, classes=1, rng=rng()), "classes must be at least 2"),
        (lambda: blank((0,), canaries=1, classes=2), "shape must be at least 1"),
        (lambda: blank(3, canaries=1, classes=2), "shape must be a sequence"),
        (lambda: uniform_noise((1,), canaries=1, classes=2, rng=rng(), low=1.0), "high must be above low"),
        (lambda: least_variance([[1.0]], canaries=2, classes=2, rng=rng()), "at most the 1 numbers in a record"),
        (lambda: least_variance([1.0], canaries=1, classes=2, rng=rng()), "features must be finite"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InvalidParameter, match=text):
        make()
