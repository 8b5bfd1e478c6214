"""`accountant_inversion` of descriptions whose samples are not Poisson's: what ε and which refutation it gives."""

import dataclasses

import numpy as np
import pytest

from accountant import epsilon_bounds
from audit.core.described import GaussianRun
from audit.estimators.accountant_inversion import AccountantInversion, rejects
from audit.report import verdict
from audit.scores import LabelledScores, OneRun, Scores, Threshold
from mechanisms import (
    Adjacency,
    Allocated,
    BallsInBins,
    BudgetExceeded,
    Compose,
    FixedSize,
    Gaussian,
    InvalidParameter,
    MatrixMechanism,
    NumericalFailure,
    Poisson,
    Repeat,
    Sampled,
    Shuffled,
    Tree,
    TruncatedPoisson,
    UnsupportedProcess,
    WithReplacement,
)
from tests.audit.estimators.drawn_records import (
    BATCH,
    MEMBERSHIP,
    NOISE,
    PARTS,
    STEPS,
    UNITS,
    asked_of,
    balls_in_bins,
    fixed_size,
    projections,
    shuffled,
    truncated,
    with_replacement,
)
from tests.dpsgd.schemes import EVERY_SCHEME

REFUTED = "description refuted"


def labelled(seen, membership=MEMBERSHIP):
    """Return the scores of one run from its projections, shape (T, m) or, of one step, (m,)."""
    steps = np.atleast_2d(seen)
    scores = Scores(
        values=steps.sum(axis=0),
        design=OneRun(canaries=len(membership)),
        guessing_rule=Threshold(value=0.0),
        squares=np.square(steps).sum(axis=0),
    )
    return LabelledScores(scores=scores, membership=membership)


DRAWN = FixedSize(batch_size=BATCH, records=UNITS)
FIXED = Repeat(Sampled(Gaussian(noise_multiplier=NOISE), DRAWN), STEPS)


def test_half_the_noise_refutes_the_description_where_no_epsilon_of_the_family_lies_above_the_claim():
    """One step of 200 draws, with replacement, of 400 canaries: under zero_out claims know no exact pair."""
    one_step = Sampled(Gaussian(noise_multiplier=2.0), WithReplacement(batch_size=200, records=400))
    rng, membership = np.random.default_rng(0), np.arange(400) % 2 == 0
    drawn, zeroed = np.bincount(rng.integers(400, size=200), minlength=400), AccountantInversion(adjacency="zero_out")
    claim = epsilon_bounds(one_step, delta=1e-5, adjacency="zero_out")
    bounds = []
    for noise in (1.0, 2.0):
        seen = drawn * membership + noise * rng.normal(size=400)
        data = labelled(seen, membership)
        bounds.append(zeroed.lower_bound(data, process=one_step, delta=1e-5, confidence=0.99, threat_model="white box"))
    less, all_of_it = bounds
    assert less.description_refuted and claim.lower < less.epsilon < claim.upper
    assert not all_of_it.description_refuted and all_of_it.epsilon < claim.lower
    assert less.adjacency is Adjacency.ZERO_OUT
    assert verdict(claim, dataclasses.replace(less, epsilon=0.0, description_refuted=False), less) == REFUTED
    assert verdict(claim, all_of_it, all_of_it) in ("consistent", "none")


def bound_where_the_accountant_raises(error, monkeypatch):
    def failing(*_, **__):
        raise error("no answer")

    monkeypatch.setattr("accountant.epsilon_bounds", failing)
    return AccountantInversion(adjacency="zero_out").lower_bound(
        labelled(projections(fixed_size, 1, noise=NOISE / 2)[0]),
        process=FIXED,
        delta=1e-5,
        confidence=0.99,
        threat_model="white box",
    )


@pytest.mark.parametrize("error", [NumericalFailure, UnsupportedProcess])
def test_an_epsilon_that_no_accountant_knows_is_none_and_the_refutation_stands(error, monkeypatch):
    bound = bound_where_the_accountant_raises(error, monkeypatch)
    assert (bound.epsilon, bound.description_refuted) == (0.0, True)


@pytest.mark.parametrize("error", [InvalidParameter, BudgetExceeded, TypeError])
def test_an_error_that_is_no_lack_of_an_answer_is_not_swallowed(error, monkeypatch):
    with pytest.raises(error, match="no answer"):
        bound_where_the_accountant_raises(error, monkeypatch)


@pytest.mark.parametrize("name", [name for name in EVERY_SCHEME if not name.startswith("Cyclic")])
def test_the_description_with_other_noise_is_that_of_the_configuration_with_it(name):
    config = EVERY_SCHEME[name]
    run = GaussianRun.of(config.process())
    assert (run.noise_multiplier, run.steps) == (config.noise_multiplier, config.steps)
    assert run.with_noise(0.123) == dataclasses.replace(config, noise_multiplier=0.123).process()
    assert GaussianRun.of(run.with_noise(0.123)).participations == run.participations


@pytest.mark.parametrize(
    ("sampling", "scheme"),
    [
        (DRAWN, fixed_size),
        (WithReplacement(batch_size=BATCH, records=UNITS), with_replacement),
        (TruncatedPoisson(probability=1 / PARTS, largest_batch=BATCH, records=UNITS), truncated),
        (Shuffled(), shuffled),
        (BallsInBins(), balls_in_bins),
    ],
)
def test_records_take_part_as_often_as_the_description_says(sampling, scheme):
    step = Gaussian(noise_multiplier=1.0)
    if isinstance(sampling, (Shuffled, BallsInBins)):
        process = Repeat(Allocated(Repeat(step, PARTS), sampling), STEPS // PARTS)
    else:
        process = Repeat(Sampled(step, sampling), STEPS)
    drawn = scheme(np.random.default_rng(0), 1000).sum(axis=1)
    assert GaussianRun.of(process).participations == pytest.approx(drawn.mean(), abs=0.03)


POISSON = Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.5))


@pytest.mark.parametrize(
    "process",
    [
        Compose((POISSON, Gaussian(noise_multiplier=2.0))),
        Sampled(Compose((Gaussian(noise_multiplier=1.0), Gaussian(noise_multiplier=1.0))), Poisson(probability=0.5)),
        Repeat(Gaussian(noise_multiplier=1.0), 0),
        MatrixMechanism(noise_multiplier=1.0, coefficients=(1.0, 0.5), steps=6, participations=2, separation=3),
        Tree(noise_multiplier=1.0, steps=6, participations=2, separation=3),
    ],
)
def test_other_descriptions_are_refused_by_name(process):
    with pytest.raises(UnsupportedProcess, match="Gaussian steps of one noise multiplier on records that are drawn"):
        GaussianRun.of(process)


def test_what_only_poisson_samples_allow_is_refused_on_others():
    data = labelled(projections(fixed_size, 1)[0])
    with pytest.raises(UnsupportedProcess, match="on Poisson samples, repeated, where the norm is measured"):
        AccountantInversion(norm="measured").epsilon(data, process=FIXED, delta=1e-5, confidence=0.9)
    asked = asked_of(projections(fixed_size, 1)) | {"squares": None}
    with pytest.raises(InvalidParameter, match="squares must be given on other samples than Poisson's"):
        rejects(**asked, noise_multiplier=1.0, confidence=0.9)
    with pytest.raises(InvalidParameter, match="samples must be one of 'poisson', 'other'"):
        rejects(**(asked | {"samples": "fixed"}), noise_multiplier=1.0, confidence=0.9)
    with pytest.raises(InvalidParameter, match="adjacency must be 'add_remove' or 'zero_out', got 'replace_one'"):
        AccountantInversion(adjacency="replace_one")
