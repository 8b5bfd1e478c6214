"""`accountant_inversion` where samples are not Poisson's: what squares show of the noise, however records are drawn."""

import dataclasses

import numpy as np
import pytest

from accountant import epsilon_bounds
from audit.core.described import GaussianRun
from audit.estimators.accountant_inversion import AccountantInversion, noise_multiplier_upper_bound, rejects
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
from tests.dpsgd.schemes import EVERY_SCHEME

CANARIES, KNOWN, STEPS, PARTS, NOISE = 40, 20, 8, 2, 0.7
UNITS, BATCH = CANARIES + KNOWN, (CANARIES + KNOWN) // PARTS
MEMBERSHIP = np.arange(CANARIES) % 2 == 0
LEVEL, SIMULATIONS = 0.05, 2_000


def fixed_size(rng, runs):
    ranks = rng.random((runs, STEPS, UNITS)).argsort(axis=2)
    return ranks < BATCH


def with_replacement(rng, runs):
    return rng.multinomial(BATCH, np.full(UNITS, 1 / UNITS), (runs, STEPS))


def truncated(rng, runs):
    """Cut often: the largest batch is the expected one."""
    coins = rng.random((runs, STEPS, UNITS)) < 1 / PARTS
    order = np.where(coins, rng.random(coins.shape), 2.0).argsort(axis=2).argsort(axis=2)
    return coins & (order < BATCH)


def shuffled(rng, runs):
    ranks = rng.random((runs, STEPS // PARTS, 1, UNITS)).argsort(axis=3)
    parts = np.arange(PARTS)[:, None]
    return (ranks // BATCH == parts).reshape(runs, STEPS, UNITS)


def balls_in_bins(rng, runs):
    bins = rng.integers(PARTS, size=(runs, STEPS // PARTS, 1, UNITS))
    return (bins == np.arange(PARTS)[:, None]).reshape(runs, STEPS, UNITS)


SCHEMES = [fixed_size, with_replacement, truncated, shuffled, balls_in_bins]
SAMPLES = pytest.mark.parametrize("scheme", SCHEMES)


def projections(scheme, runs=SIMULATIONS, *, contribution=1.0, noise=NOISE, gradients=False, seed=3):
    """Return those of every step on the canaries' coordinates, shape (runs, T, m); canaries that are out hold places.

    With `gradients` known records of norm 1 take part too, and their sum is subtracted as it is expected.
    """
    rng = np.random.default_rng(seed)
    drawn = scheme(rng, runs).astype(float)
    seen = contribution * drawn[..., :CANARIES] * MEMBERSHIP + rng.normal(0, noise, (runs, STEPS, CANARIES))
    if gradients:
        known = rng.normal(size=(KNOWN, CANARIES))
        known /= np.linalg.norm(known, axis=1, keepdims=True)
        seen += (drawn[..., CANARIES:] - drawn.mean()) @ known
    return seen


def asked_of(seen):
    """Return what the test is asked about: gap, deviation and squares of many runs."""
    sums, out = seen.sum(axis=1), ~MEMBERSHIP
    return {
        "gap": sums[:, MEMBERSHIP].mean(axis=1) - sums[:, out].mean(axis=1),
        "deviation": sums[:, out].std(axis=1, ddof=1),
        "squares": np.square(seen[:, :, out]).sum(axis=(1, 2)),
        "degrees": int(out.sum()) * STEPS,
        "included": int(MEMBERSHIP.sum()),
        "excluded": int(out.sum()),
        "probability": 1 / PARTS,
        "steps": STEPS,
        "samples": "other",
    }


def share_refuted(seen, *, tested=NOISE, level=LEVEL):
    return rejects(**asked_of(seen), noise_multiplier=tested, confidence=1 - level).mean()


def within(level, runs=SIMULATIONS):
    return 4 * np.sqrt(level * (1 - level) / runs)


@pytest.mark.parametrize("gradients", [False, True], ids=["canaries alone", "known records too"])
@SAMPLES
def test_the_true_noise_is_refuted_no_more_often_than_announced(scheme, gradients):
    assert share_refuted(projections(scheme, gradients=gradients)) <= LEVEL + within(LEVEL)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.002, 0.01, 0.2, 0.5])
@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
@SAMPLES
def test_other_levels_and_noises_are_kept_too(scheme, noise, level):
    for gradients in (False, True):
        shares = [
            share_refuted(projections(scheme, noise=noise, gradients=gradients, seed=seed), tested=noise, level=level)
            for seed in range(10)
        ]
        assert np.mean(shares) <= level + within(level, 10 * SIMULATIONS)


@SAMPLES
def test_little_of_the_error_is_wasted_and_half_the_noise_is_nearly_always_refuted(scheme):
    assert share_refuted(projections(scheme)) >= 0.9 * LEVEL - within(LEVEL)
    assert share_refuted(projections(scheme, noise=NOISE / 2), level=1e-4) > 0.99
    assert share_refuted(projections(scheme, noise=NOISE / 2, gradients=True)) > 0.5


@pytest.mark.parametrize("noise", [1.0, 0.5])
def test_bound_and_test_agree(noise):
    seen = asked_of(projections(fixed_size, 20, noise=noise * NOISE))
    for run in range(20):
        asked = {name: value[run] if np.ndim(value) else value for name, value in seen.items()}
        found = noise_multiplier_upper_bound(**asked, confidence=0.95)
        tested = [found * (1 + 1e-9), found * (1 - 1e-9)]
        assert list(rejects(**asked, noise_multiplier=tested, confidence=0.95)) == [True, False]


@SAMPLES
def test_samples_of_another_scheme_than_described_refute_no_noise_that_is_there(scheme):
    """The description enters the test by one number, how often a record takes part."""
    for ran in SCHEMES:
        assert share_refuted(projections(ran, 500, seed=4)) <= LEVEL + within(LEVEL, 500)


def test_canaries_that_never_enter_or_stand_far_below_the_norm_show_nothing():
    for contribution in (0.0, 0.4):
        seen = projections(fixed_size, noise=NOISE / 10, contribution=contribution)
        assert share_refuted(seen, tested=np.inf) == 0.0


def test_a_sum_in_another_unit_than_the_norm_is_no_noise_too_small():
    """A trainer that hands over means, or sums of another bound."""
    assert share_refuted(projections(fixed_size) / BATCH, tested=np.inf) == 0.0


def test_canaries_just_below_the_norm_are_taken_for_records_at_the_norm():
    assert share_refuted(projections(fixed_size, contribution=0.95)) <= LEVEL + within(LEVEL)
    assert share_refuted(projections(fixed_size, contribution=0.95, noise=0.8 * NOISE), tested=NOISE) > 0.9


def test_contributions_above_the_norm_are_not_seen_and_do_no_harm():
    assert share_refuted(projections(fixed_size, contribution=2.0)) <= LEVEL + within(LEVEL)


def test_a_shuffle_that_leaves_half_the_records_over_shows_less():
    """The description does not tell how many are left: it expects each in every epoch."""

    def leaving(rng, runs):
        return shuffled(rng, runs) & (rng.random((runs, 1, UNITS)) < 0.5)

    assert share_refuted(projections(leaving, noise=NOISE / 2), tested=NOISE) < 0.2


def test_noise_that_cancels_over_the_steps_is_not_seen():
    rng = np.random.default_rng(0)
    drawn = rng.normal(0, NOISE / np.sqrt(2), (SIMULATIONS, STEPS + 1, CANARIES))
    seen = projections(fixed_size, noise=0.0) + np.diff(drawn, axis=1)
    assert share_refuted(seen) <= 0.15


def test_one_noise_in_every_step_may_pass_for_too_little():
    """It is one draw for all degrees: refuted more often than announced, of a run whose loss is infinite."""
    rng = np.random.default_rng(0)
    seen = projections(fixed_size, noise=0.0) + rng.normal(0, NOISE, (SIMULATIONS, 1, CANARIES))
    assert 0.1 < share_refuted(seen) < 0.5


def test_noise_that_shrinks_over_the_steps_counts_by_its_mean_square():
    scales = np.linspace(1.4, 0.2, STEPS)
    rng = np.random.default_rng(0)
    seen = projections(fixed_size, noise=0.0) + rng.normal(0, 1, (SIMULATIONS, STEPS, CANARIES)) * scales[:, None]
    assert share_refuted(seen, tested=np.sqrt(np.mean(scales**2))) <= 3 * LEVEL
    assert share_refuted(seen, tested=1.3 * np.sqrt(np.mean(scales**2))) > 0.9


def test_canaries_that_share_coordinates_show_less():
    rng = np.random.default_rng(0)
    seen = projections(fixed_size)
    shared = seen + rng.permuted(seen, axis=2)
    assert share_refuted(shared) == 0.0


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
    """One step, in which 200 of 400 canaries are drawn."""
    one_step = Sampled(Gaussian(noise_multiplier=2.0), FixedSize(batch_size=200, records=400))
    rng, membership = np.random.default_rng(0), np.arange(400) % 2 == 0
    drawn, zeroed = rng.permutation(400) < 200, AccountantInversion(adjacency=Adjacency.ZERO_OUT)
    claim = epsilon_bounds(one_step, delta=1e-5, adjacency="zero_out")
    bounds = []
    for noise in (1.0, 2.0):
        seen = (drawn & membership) + noise * rng.normal(size=400)
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
