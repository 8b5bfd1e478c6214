"""Means of vectors: the sum of vectors, its price, and a division."""

import numpy as np
import pytest

from mechanisms import (
    Adjacency,
    Gaussian,
    InvalidParameter,
    KeyedSource,
    Laplace,
    VectorMean,
    VectorSum,
    from_json,
    to_json,
)

SUM = VectorSum(max_norm=2.0, dimensions=3, noise=Gaussian(noise_multiplier=3.0))
MEAN = VectorMean(max_norm=2.0, dimensions=3, records=8, noise=Gaussian(noise_multiplier=3.0))


def test_it_is_the_sum_divided_and_costs_what_the_sum_costs():
    rows = np.random.default_rng(0).standard_normal((8, 3))
    total, mean = SUM.release(rows, randomness=KeyedSource(0)), MEAN.release(rows, randomness=KeyedSource(0))
    assert np.array_equal(mean, total / 8) and MEAN.sensitivity == SUM.sensitivity == 2.0
    for adjacency in Adjacency:
        assert MEAN.pairs(adjacency) == SUM.pairs(adjacency)


def test_it_comes_back_from_json():
    assert from_json(to_json(MEAN)) == MEAN


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"records": 0}, "VectorMean: records must be at least 1, got 0"),
        ({"max_norm": 0.0}, "max_norm must"),
        ({"dimensions": 0}, "dimensions must be at least 1"),
        ({"noise": Laplace(noise_multiplier=1.0)}, "noise must"),
    ],
)
def test_what_is_no_such_mean_is_refused(changes, message):
    given = {"max_norm": 2.0, "dimensions": 3, "records": 8, "noise": Gaussian(noise_multiplier=3.0)}
    with pytest.raises(InvalidParameter, match=message):
        VectorMean(**given | changes)
