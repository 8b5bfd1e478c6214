"""What is left of a line beyond its nodes, against the nodes themselves."""

import math

import numpy as np
import pytest

from accountant.core.base import steps
from accountant.core.loss_sums import LossSum
from mechanisms import Adjacency, Compose, Laplace, Poisson, PureDP, RandomizedResponse, Repeat, Sampled

ADD_REMOVE, REPLACE_ONE = Adjacency.ADD_REMOVE, Adjacency.REPLACE_ONE
COIN = PureDP(epsilon=0.1, adjacency=ADD_REMOVE)
SUMS = {
    "coins": (Repeat(COIN, 3000), ADD_REMOVE),
    "two coins": (Compose((Repeat(COIN, 900), Repeat(PureDP(epsilon=0.17, adjacency=ADD_REMOVE), 900))), ADD_REMOVE),
    "sampled coins": (
        Repeat(Sampled(PureDP(epsilon=2.0, adjacency=ADD_REMOVE), Poisson(probability=0.05)), 5000),
        ADD_REMOVE,
    ),
    "responses": (Repeat(RandomizedResponse(epsilon=0.3, categories=7), 500), REPLACE_ONE),
    "laplace": (Repeat(Laplace(noise_multiplier=8.0), 60), ADD_REMOVE),
    "laplace and coins": (Compose((Repeat(Laplace(noise_multiplier=8.0), 20), Repeat(COIN, 900))), ADD_REMOVE),
}


@pytest.mark.thinned(5)
@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("theta", [0.25, 2.0])
def test_what_is_beyond_the_nodes_is_bounded(name, theta):
    process, adjacency = SUMS[name]
    for parts in steps(process, adjacency).values():
        loss = LossSum.of(parts)
        deviation = math.sqrt(float(loss.plan(np.array([theta]))[2][0]))
        for spacing in (0.2 / deviation, 1.3 / deviation):
            y = spacing * np.arange(int(600.0 / spacing))  # many periods of every kind
            found = [loss.transform(theta, part) for part in np.array_split(y, 1 + len(y) // 100)]
            real, error = (np.concatenate([part[k] for part in found]) for k in (0, 2))
            terms = np.exp(real - real[0] + np.minimum(error, 1e-6)) * spacing / (math.pi * np.maximum(y, spacing) ** 2)
            for first in (4, 9, 20, 40):
                start = float(y[first])
                bound = sum(loss.beyond(theta, start, spacing))
                assert np.sum(terms[first:]) <= bound * (1 + 1e-5)
                plain = loss.envelope(theta, start) * (1 / start + spacing / start**2) / math.pi
                assert bound <= (0.5 if first == 9 and name != "laplace" else 1.0 + 1e-8) * plain
