"""`accountant_inversion` where samples are not Poisson's: what squares show of the noise, however records are drawn."""

import numpy as np
import pytest

from audit.estimators.accountant_inversion import noise_multiplier_upper_bound, rejects
from tests.audit.estimators.drawn_records import (
    BATCH,
    CANARIES,
    LEVEL,
    NOISE,
    SCHEMES,
    SIMULATIONS,
    STEPS,
    UNITS,
    asked_of,
    fixed_size,
    projections,
    share_refuted,
    shuffled,
    with_replacement,
)

SAMPLES = pytest.mark.parametrize("scheme", SCHEMES)


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
    often = 0.75 if scheme is with_replacement else 0.99  # copies of known records add noise of their own
    assert share_refuted(projections(scheme, noise=NOISE / 2, gradients=True)) > often


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
