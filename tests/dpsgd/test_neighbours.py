"""Every scheme, law of noise, unit and kind of neighbours: what is priced, and that runs of the trainer bear it out.

Each unit's gradient is C times a direction of its own, at all weights, so that the sums of a run without noise tell who
took part. What is compared with `process()` is taken from releases alone: how many steps and draws there were, how much
noise, and by how much neighbours under the same noise differ, seen through the strategy where steps share noise.
"""

import functools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from dpsgd import (
    DPSGD,
    BufferedGaussian,
    Cyclic,
    CyclicPoisson,
    Dataset,
    IndependentGaussian,
    LatticeGaussian,
    MatrixGaussian,
    Meter,
    RoundedGaussian,
    TreeGaussian,
    train,
)
from mechanisms import (
    BallsInBins,
    FixedSize,
    InvalidParameter,
    KeyedSource,
    Poisson,
    Shuffled,
    TruncatedPoisson,
    UnsupportedProcess,
    WithReplacement,
)

UNITS, STEPS, NOISE, BOUND, CHANGED = 12, 48, 1.5, 0.7, 3
WIDTH = UNITS + 1  # one direction for the unit that is added
SCHEMES = {  # with the expected size of a batch, the steps of an epoch, and how often a unit takes part in a step
    "Poisson": (Poisson(probability=0.3), 4, None, 0.3),
    "full batch": (Poisson(probability=1.0), 12, None, 1.0),
    "cut": (TruncatedPoisson(probability=0.5, largest_batch=5), 4, None, None),
    "cut, counted": (TruncatedPoisson(probability=0.5, largest_batch=5, records=UNITS), 4, None, None),
    "fixed size": (FixedSize(batch_size=4, records=UNITS), 4, None, 1 / 3),
    "with replacement": (WithReplacement(batch_size=4, records=UNITS), 4, None, 1 / 3),
    "shuffled": (Shuffled(), 4, 3, 1 / 3),
    "balls in bins": (BallsInBins(), 4, 3, 1 / 3),
    "cyclic": (Cyclic(), 4, 3, 1 / 3),
    "cyclic, an epoch left over": (Cyclic(), 3, 5, 0.2),
    "cyclic Poisson": (CyclicPoisson(probability=0.3, groups=2), 4, None, 0.3),
}
NOISES = {
    "independent": IndependentGaussian(),
    "rounded": RoundedGaussian(divisions=2**20),
    "lattice": LatticeGaussian(dimension=WIDTH, divisions=2**20),
    "matrix": MatrixGaussian(coefficients=(1.0, 0.5)),
    "buffered": BufferedGaussian(weights=(0.6, 0.4), decays=(0.9, 0.2)),
    "tree": TreeGaussian(),
}
NEIGHBOURS = {"a": "add_remove", "z": "zero_out", "r": "replace_one"}
ANY_NUMBER, SAME_NUMBER = {"independent": "azr", "rounded": "azr"}, {"independent": "zr", "rounded": "zr"}
PLACED = {**SAME_NUMBER, "matrix": "zr", "buffered": "zr", "tree": "zr"}
PRICED = {  # and nothing else is taken
    "Poisson": {**ANY_NUMBER, "lattice": "azr"},
    "full batch": {**ANY_NUMBER, "lattice": "azr"},
    "cut": ANY_NUMBER,
    "cut, counted": SAME_NUMBER,
    "fixed size": {**SAME_NUMBER, "lattice": "r"},
    "with replacement": SAME_NUMBER,
    "shuffled": SAME_NUMBER,
    "balls in bins": ANY_NUMBER,
    "cyclic": PLACED,
    "cyclic, an epoch left over": PLACED,
    "cyclic Poisson": {"matrix": "azr"},
}
RUNS = [(s, n, u) for s, noises in PRICED.items() for n in noises for u in ("record", "user")]


def marked(cases):
    """Return cases for pytest; exact noise takes its time."""
    exact = ("rounded", "lattice")
    return [pytest.param(*case, marks=[pytest.mark.slow] * (case[1] in exact), id=", ".join(case)) for case in cases]


def config_of(scheme, noise, unit="record", noise_multiplier=NOISE):
    sampling, expected, per_epoch, _ = SCHEMES[scheme]
    return DPSGD(
        noise_multiplier=noise_multiplier,
        max_grad_norm=BOUND,
        sampling=sampling,
        expected_batch_size=expected,
        steps=STEPS,
        learning_rate=0.1,
        steps_per_epoch=per_epoch,
        noise=NOISES[noise],
        unit=unit,
        examples_per_user=2 if unit == "user" else None,
    )


def data_of(unit, change=None):
    """Return units of one direction each, users with two rows of it; one is added, zeroed out or turned round."""
    directions = 9.0 * torch.eye(WIDTH)[: UNITS + (change == "a")]
    if change in ("z", "r"):
        directions[CHANGED] *= 0.0 if change == "z" else -1.0
    ids = torch.arange(len(directions)).repeat(2 if unit == "user" else 1)
    owners = ids if unit == "user" else None
    return Dataset(features=directions[ids], targets=torch.zeros(len(ids)), owners=owners)


@functools.cache
def sums(scheme, noise, unit, change=None, noise_multiplier=NOISE):
    """Return the sums of a run ÷ C, and its result."""
    shown = []
    result = train(
        nn.Linear(WIDTH, 1, bias=False),
        data_of(unit, change),
        config_of(scheme, noise, unit, noise_multiplier),
        loss=lambda outputs, targets: outputs[:, 0],
        randomness=KeyedSource("neighbours"),
        initialisation_seed=0,
        callbacks=[lambda release: shown.append(release.noisy_sum.double() / BOUND)],
    )
    return torch.stack(shown).numpy(), result


def strategy(noise):
    """Return the matrix through which the noise of a run is white, None where it is so of itself."""
    if noise == "tree":
        spans = [(j << level, (j + 1) << level) for level in range(STEPS.bit_length()) for j in range(STEPS >> level)]
        return np.array([[float(a <= t < b) for t in range(STEPS)] for a, b in spans])
    if noise == "buffered":
        return sum((0.6 * 0.9**m + 0.4 * 0.2**m) * np.eye(STEPS, k=-m) for m in range(STEPS))
    return np.eye(STEPS) + 0.5 * np.eye(STEPS, k=-1) if noise == "matrix" else None


def drawn(scheme, noise, unit, change=None):
    """Return how often every unit took part in every step, as whole numbers."""
    found = sums(scheme, noise, unit, change, 0.0)[0]
    assert np.abs(found - found.round()).max() < 1e-5
    return np.abs(found.round())


def taken_apart(process):
    """Return the mechanism at the bottom, how many steps the process tells of, and the samples on the way."""
    steps, samples = 1, []
    while hasattr(process, "part"):
        steps *= getattr(process, "times", 1)
        samples += [process.sampling] if hasattr(process, "sampling") else []
        process = process.part
    return process, steps * getattr(process, "steps", 1), samples


@pytest.mark.thinned(7)
@pytest.mark.parametrize(("scheme", "noise", "unit"), marked(RUNS))
def test_steps_draws_unit_and_noise_are_those_that_the_process_tells_of(scheme, noise, unit):
    shown, result = sums(scheme, noise, unit)
    process, counts = result.process, drawn(scheme, noise, unit)[:, :UNITS]
    assert process == config_of(scheme, noise, unit).process() and process.unit == unit
    assert len(shown) == STEPS == result.executed
    mechanism, times, samples = taken_apart(process)
    if scheme == "cyclic Poisson":  # rounds of one step in each of two groups
        assert times == STEPS / 2 and samples == [Poisson(probability=0.6)]
        assert (counts.reshape(-1, 2, UNITS).max(0).min(0) == 0).all()
    else:
        assert times == STEPS
    if scheme.startswith("cyclic,") or scheme == "cyclic":
        assert not samples and counts.sum(0).max() == mechanism.participations
        assert min(np.diff(np.flatnonzero(one)).min() for one in counts.T) == mechanism.separation
    elif scheme != "cyclic Poisson":
        assert samples == [SCHEMES[scheme][0]]
    mean = SCHEMES[scheme][3]
    if mean is None:  # a cut sample
        held = np.arange(UNITS + 1)
        mean = float((stats.binom.pmf(held, UNITS, 0.5) * np.minimum(held, 5)).sum()) / UNITS
        assert counts.sum(1).max() == 5
    assert abs(counts.mean() - mean) <= 3.5 * math.sqrt(mean * (1 - mean) / counts.size) + 0.01  # by a fixed key
    white = shown - sums(scheme, noise, unit, None, 0.0)[0]
    if noise == "tree":  # of which prefixes alone are shown, with the least variance there is
        spread = np.cumsum(white, axis=0) / np.sqrt(mechanism.squared_errors() / NOISE**2)[:, None]
        assert spread.std() == pytest.approx(mechanism.noise_multiplier, rel=0.25)  # prefixes share nodes
        return
    white = white if strategy(noise) is None else strategy(noise) @ white
    told = NOISE if scheme == "cyclic Poisson" else mechanism.noise_multiplier
    assert white.std() == pytest.approx(told, rel=0.15)


def moves(scheme, noise, unit, kind):
    """Return by how much neighbours differ, in the norm of the strategy, and what the process says at most."""
    moved = sums(scheme, noise, unit, kind)[0] - sums(scheme, noise, unit)[0]
    reach = 2.0 if kind == "r" else 1.0
    mechanism, through = taken_apart(sums(scheme, noise, unit)[1].process)[0], strategy(noise)
    if scheme == "cyclic Poisson":  # every step of a record is a round of its own
        norms = [np.linalg.norm(np.outer(through[:, t], moved[t])) for t in range(STEPS)]
        return max(norms), reach * NOISE / mechanism.noise_multiplier
    if through is not None:
        squared = getattr(mechanism, "squared_sensitivity", (0, 0))[0]
        most = math.sqrt(squared) if noise == "tree" else mechanism.sensitivity.upper
        return np.linalg.norm(through @ moved), reach * most
    both = np.maximum(drawn(scheme, noise, unit), drawn(scheme, noise, unit, kind))
    own = both[:, UNITS if kind == "a" else CHANGED]
    norms = np.linalg.norm(moved, axis=1)
    if scheme == "cut" and kind == "a":  # whoever comes may take another's place
        assert (norms <= math.sqrt(2.0) + 1e-5).all()
        return norms.max(), 2.0
    assert np.allclose(norms, reach * own, rtol=0, atol=2e-5)
    return (norms / np.maximum(own, 1)).max(), reach


@pytest.mark.thinned(7)
@pytest.mark.parametrize(
    ("scheme", "noise", "unit", "kind"), marked((*run, kind) for run in RUNS for kind in PRICED[run[0]][run[1]])
)
def test_neighbours_differ_by_what_is_priced_at_most_and_by_all_of_it_where_that_is_exact(scheme, noise, unit, kind):
    found, most = moves(scheme, noise, unit, kind)
    assert found <= most * (1 + 2e-5)
    placed = noise in ("matrix", "buffered", "tree") and scheme != "cyclic Poisson"
    assert found >= (0.5 if placed or (scheme == "cut" and kind == "a") else 1 - 2e-5) * most


def test_what_is_priced_is_written_down_and_nothing_else_is_taken():
    for scheme in SCHEMES:
        for noise in NOISES:
            if noise not in PRICED[scheme]:
                with pytest.raises(InvalidParameter, match=r"DPSGD: (sampling must be|groups of)"):
                    config_of(scheme, noise)
                continue
            for kind, adjacency in NEIGHBOURS.items():
                meter = Meter(delta=1e-5, adjacency=adjacency)
                if kind in PRICED[scheme][noise]:
                    meter.check(config_of(scheme, noise, "user"))
                    continue
                with pytest.raises((InvalidParameter, UnsupportedProcess), match=r"Meter: (adjacency|there) must"):
                    meter.check(config_of(scheme, noise, "user"))
