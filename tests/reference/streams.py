"""Patterns of steps, matrices of nodes and of coefficients, for tests of mechanisms on streams."""

import itertools

import numpy as np
from hypothesis import strategies as st
from scipy import linalg

from mechanisms.matrix import MatrixMechanism


def patterns(steps, participations, separation):
    for size in range(1, participations + 1):
        for places in itertools.combinations(range(steps), size):
            if all(b - a >= separation for a, b in itertools.pairwise(places)):
                yield places


def node_matrix(steps):
    """Row by row the nodes, as 0 and 1 over the steps: whatever whole block of 2^l steps is complete."""
    rows = []
    for level in range(steps.bit_length()):
        for index in range(steps >> level):
            row = np.zeros(steps)
            row[index << level : (index + 1) << level] = 1.0
            rows.append(row)
    return np.array(rows)


def mechanism(coefficients=(1.0, 0.5), steps=8, noise=1.0, **pattern):
    return MatrixMechanism(noise_multiplier=noise, coefficients=coefficients, steps=steps, **pattern)


def matrix(found):
    return linalg.toeplitz(
        np.pad(found.coefficients, (0, found.steps - len(found.coefficients))), np.zeros(found.steps)
    )


def fitting(found):
    """Yield the patterns that `found` declares."""
    return patterns(found.steps, found.participations, found.separation)


def settings_of(coefficients):
    """Return a strategy of small mechanisms with coefficients of that kind."""
    return st.integers(1, 9).flatmap(
        lambda steps: st.builds(
            MatrixMechanism,
            noise_multiplier=st.just(1.0),
            steps=st.just(steps),
            participations=st.integers(1, 4),
            separation=st.integers(1, steps),
            coefficients=st.lists(coefficients, min_size=1, max_size=steps).filter(lambda c: c[0] != 0),
        )
    )


def falling(found):
    return MatrixMechanism(
        noise_multiplier=1.0,
        steps=found.steps,
        participations=found.participations,
        separation=found.separation,
        coefficients=sorted((abs(c) for c in found.coefficients), reverse=True),
    )


numbers = st.integers(-8, 8).map(lambda n: n / 4)
