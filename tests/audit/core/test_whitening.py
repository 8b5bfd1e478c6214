"""Whitening undoes what dense matrices say correlated noise is, and keeps little."""

import numpy as np
import pytest

from audit.core.correlated import MOST_BANDS, CorrelatedRun, correlated_run
from audit.core.whitening import ToeplitzWhitening, TreeWhitening
from mechanisms import Gaussian, KeyedSource, MatrixMechanism, PerUser, Repeat, Tree, UnsupportedProcess
from mechanisms.core import buffered
from mechanisms.core.buffered import BufferedNoise
from mechanisms.matrix import square_root
from tests.audit.correlated import noise_rows, turns

STEPS = (1, 2, 3, 8, 13, 32, 33)


def matrix(steps, coefficients=(1.5, 0.7, -0.4), **pattern):
    return MatrixMechanism(noise_multiplier=1.0, coefficients=coefficients[:steps], steps=steps, **pattern)


def whitened(mechanism, rows):
    whitening, kept, found = CorrelatedRun.of(mechanism).whitening, (), []
    for step, row in enumerate(rows):
        white, kept = whitening.advance(step, row, kept)
        found.append(white)
    return np.array(found)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("kind", ["tree", "matrix"])
def test_whitened_noise_is_white_and_of_unit_variance(kind, steps):
    mechanism = Tree(noise_multiplier=1.0, steps=steps) if kind == "tree" else matrix(steps)
    white = whitened(mechanism, noise_rows(mechanism))
    np.testing.assert_allclose(white @ white.T, np.eye(steps), atol=1e-12)


@pytest.mark.parametrize("kind", ["tree", "matrix"])
def test_the_signature_holds_all_that_the_rows_tell_of_a_record(kind):
    pattern = {"steps": 13, "participations": 3, "separation": 5}
    mechanism = Tree(noise_multiplier=1.0, **pattern) if kind == "tree" else matrix(**pattern)
    rows, taken = noise_rows(mechanism), turns(mechanism, 5)
    told = np.diag(taken.T @ np.linalg.solve(rows @ rows.T, taken))
    np.testing.assert_allclose(np.sum(whitened(mechanism, taken) ** 2, axis=0), told, rtol=1e-12)


def test_the_signature_of_the_worst_turns_is_the_sensitivity_and_for_a_tree_at_most_that():
    mechanism = matrix(20, square_root(4), participations=4, separation=5)
    energy = np.sum(whitened(mechanism, turns(mechanism, 1)) ** 2)
    assert mechanism.sensitivity.lower <= np.sqrt(energy) * (1 + 1e-12)
    assert mechanism.sensitivity.upper >= np.sqrt(energy) * (1 - 1e-12)
    tree = Tree(noise_multiplier=1.0, steps=20, participations=4, separation=5)
    assert np.all(np.sum(whitened(tree, turns(tree, 5)) ** 2, axis=0) <= tree.squared_sensitivity[1])


def test_noise_of_few_powers_is_whitened_by_the_matrix_that_describes_it():
    weights, decays, steps = (0.6, 0.4), (0.9, 0.2), 12
    noise, source, carried = BufferedNoise(weights=weights, decays=decays, size=3, scale=1.0, stream="x"), None, ()
    source = KeyedSource(0)
    described = matrix(steps, buffered.coefficients(weights, decays, steps))
    rows = []
    for step in range(steps):
        row, carried = noise.advance(step, carried, source)
        rows.append(row)
    expected = [noise.white(step, source) for step in range(steps)]
    np.testing.assert_allclose(whitened(described, rows), expected, atol=1e-12)


def test_what_is_kept_does_not_grow_with_the_steps():
    kept, tree, row = (), (), np.zeros(2)
    for step in range(100):
        kept = ToeplitzWhitening(coefficients=(1.0, 0.5, 0.2)).advance(step, row, kept)[1]
        tree = TreeWhitening().advance(step, row, tree)[1]
        assert len(kept) <= 2 and len(tree) == (step + 1).bit_count()


def test_a_description_is_read_whatever_its_unit_and_its_noise_replaced():
    tree = Tree(noise_multiplier=2.0, steps=8, participations=2, separation=4)
    run = CorrelatedRun.of(PerUser(tree))
    assert (run.noise_multiplier, run.steps) == (2.0, 8)
    assert CorrelatedRun.of(run.with_noise(0.5)).noise_multiplier == 0.5
    assert CorrelatedRun.of(run.with_noise(2.0)) == run
    rows = noise_rows(tree)
    assert run.prefix_variance(7) == pytest.approx(np.sum(rows[:7].sum(axis=0) ** 2))


@pytest.mark.parametrize(
    ("process", "text"),
    [
        (Repeat(Gaussian(noise_multiplier=1.0), 3), "must be a MatrixMechanism or a Tree for noise to be whitened"),
        (matrix(4).amplified(probability=0.1), "Rounds of CyclicPoisson are described without their correlation"),
        (
            matrix(2 * MOST_BANDS, (1.0,) * (MOST_BANDS + 1)),
            f"coefficients must number at most {MOST_BANDS} for noise to be whitened, got {MOST_BANDS + 1}",
        ),
        (matrix(40, (1.0, 2.0)), "noise that does not grow beyond what float32 sums hold"),
        (matrix(2000, (1.0, 2.0)), "noise that does not grow beyond what float32 sums hold"),
        (Tree(noise_multiplier=1.0, steps=10**6 + 1), "steps must be at most 1000000 for noise to be whitened"),
    ],
)
def test_what_cannot_be_whitened_is_refused_by_name(process, text):
    with pytest.raises(UnsupportedProcess, match=text):
        CorrelatedRun.of(process)
    assert correlated_run(process) is None
