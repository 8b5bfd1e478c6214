"""Rows of correlated noise as dense matrices, and runs of few canaries made from them."""

import dataclasses
import functools

import numpy as np

from audit.core.correlated import CorrelatedRun
from audit.core.whitened_scores import Whitened
from audit.scores import LabelledScores, OneRun, Scores, Threshold
from mechanisms import MatrixMechanism, Tree
from mechanisms.core.correlated_noise import ToeplitzNoise, TreeNoise


class ToeplitzImpulses(ToeplitzNoise):
    """White noise of which row i is the i-th unit vector: rows made from it are coefficients."""

    def white(self, row, randomness):
        return np.eye(1, self.size, row)[0]


class TreeImpulses(TreeNoise):
    """The same of a tree."""

    white = ToeplitzImpulses.white


@functools.lru_cache(maxsize=64)
def noise_rows(mechanism):
    """Return the matrix that takes white noise to the rows that `mechanism` adds, (T, as many as there are)."""
    common = {"scale": 1.0, "stream": "impulses"}
    if isinstance(mechanism, Tree):
        noise = TreeImpulses(size=2 * mechanism.steps, **common)
    else:
        noise = ToeplitzImpulses(size=mechanism.steps, coefficients=mechanism.coefficients, **common)
    rows, carried = [], ()
    for step in range(mechanism.steps):
        row, carried = noise.advance(step, carried, None)
        rows.append(row)
    return np.array(rows)


def turns(mechanism, canaries):
    """Return whose turn is when, (T, m): canary i has one turn in every `separation` steps."""
    steps, canary = np.arange(mechanism.steps)[:, None], np.arange(canaries)
    return (steps % mechanism.separation == canary % mechanism.separation).astype(float)


def honest(mechanism, rng, canaries):
    """Return rows of unit noise as described, (T, m)."""
    rows = noise_rows(mechanism)
    return rows @ rng.standard_normal((rows.shape[1], canaries))


def of_same_variance(mechanism, rng, canaries):
    """Return white noise of the same variance, row by row."""
    deviations = np.linalg.norm(noise_rows(mechanism), axis=1)
    return deviations[:, None] * rng.standard_normal((mechanism.steps, canaries))


def an_epoch(mechanism):
    """Return the mechanism of one epoch alone."""
    alone = {"steps": mechanism.separation, "participations": 1, "separation": 1}
    if isinstance(mechanism, MatrixMechanism):
        alone["coefficients"] = mechanism.coefficients[: mechanism.separation]
    return dataclasses.replace(mechanism, **alone)


def begun_anew(mechanism, rng, canaries):
    """Return rows of noise that begins anew in every epoch."""
    epochs = -(-mechanism.steps // mechanism.separation)
    return np.concatenate([honest(an_epoch(mechanism), rng, canaries) for _ in range(epochs)])[: mechanism.steps]


def used_again(mechanism, rng, canaries):
    """Return rows of one epoch's noise, in every epoch the same."""
    epochs = -(-mechanism.steps // mechanism.separation)
    return np.tile(honest(an_epoch(mechanism), rng, canaries), (epochs, 1))[: mechanism.steps]


def seen(mechanism, shown, taken):
    """Return the scores of what is shown of every canary, (T, m), by the dense inverse of the rows' covariance.

    With covariance K = L Lᵀ the whitened rows are L⁻¹ x, L of positive diagonal: the same as any other triangular ones.
    """
    rows = noise_rows(mechanism)
    white, signature = (np.linalg.solve(np.linalg.cholesky(rows @ rows.T), part) for part in (shown, taken))
    energies, matched = np.sum(signature**2, axis=0), np.sum(signature * white, axis=0)
    half = 1 << mechanism.steps.bit_length() - 1
    return Scores(
        values=matched - energies / 2,
        design=OneRun(canaries=shown.shape[1]),
        guessing_rule=Threshold(value=0.0),
        squares=np.sum(white**2, axis=0),
        sums=shown.sum(axis=0),
        whitened=Whitened(
            steps=mechanism.steps,
            energies=energies,
            matched=matched,
            halfway=shown[:half].sum(axis=0),
            lagged=np.sum(white[1:] * white[:-1], axis=0),
        ),
    )


def labelled(mechanism, noise=honest, *, seed, canaries=100, scale=1.0, contribution=1.0, more=0.0):
    """Return scores and coins, half of them in, of a run whose canaries add `contribution` in turns, `more` always."""
    rng, taken = np.random.default_rng(seed), turns(mechanism, canaries)
    inside = rng.permutation(canaries) < canaries // 2
    shown = scale * mechanism.noise_multiplier * noise(mechanism, rng, canaries)
    shown += inside * (contribution * taken + more)
    return LabelledScores(scores=seen(mechanism, shown, taken), membership=inside)


def run_of(mechanism):
    """Return the description as auditors read it."""
    return CorrelatedRun.of(mechanism)
