"""What `accountant_inversion` shows where one of its assumptions is broken: the table in its docstring, row by row."""

import numpy as np
import pytest

from audit.estimators.accountant_inversion import rejects

RUNS, CANARIES, STEPS, PROBABILITY, NOISE = 25, 1000, 100, 0.1, 0.936  # ε = 8 at δ = 1e-5 is described
MEMBERSHIP = np.arange(CANARIES) % 2 == 0


def honest(rng, *, probability=PROBABILITY, steps=STEPS, contribution=1.0, noise=NOISE):
    """Return the projections of every step, shape (canaries, steps)."""
    sampled = (rng.random((CANARIES, steps)) < probability) & MEMBERSHIP[:, None]
    return contribution * sampled + rng.normal(0, noise, (CANARIES, steps))


def cancelling(rng):
    drawn = rng.normal(0, NOISE / np.sqrt(2), (CANARIES, STEPS + 1))
    return honest(rng, noise=0.0) + np.diff(drawn, axis=1)


def reused(rng):
    return honest(rng, noise=0.0) + rng.normal(0, NOISE, (CANARIES, 1))


def common(rng):
    return honest(rng, noise=0.0) + rng.normal(0, NOISE, (1, STEPS))


def uneven(rng):
    """Half of either world's coordinates have a third of the others' variance, the mean of which is described."""
    share = np.where(np.arange(CANARIES) // 2 % 2 == 0, 0.5, 1.5)
    return honest(rng, noise=0.0) + rng.normal(0, NOISE, (CANARIES, STEPS)) * np.sqrt(share)[:, None]


def heavy(rng):
    return honest(rng, noise=0.0) + rng.standard_t(3, (CANARIES, STEPS)) * NOISE / np.sqrt(3)


def light(rng):
    return honest(rng, noise=0.0) + rng.uniform(-1, 1, (CANARIES, STEPS)) * NOISE * np.sqrt(3)


def unsubtracted(rng):
    """Gradients of known records, which public signs make symmetric: 2.5 times the variance of the noise."""
    return honest(rng) + rng.normal(0, np.sqrt(1.5) * NOISE, (CANARIES, STEPS))


def restoring(rng):
    """Gradients that answer what was released before, as those of a loss near its minimum do."""
    seen, drift = honest(rng), np.zeros(CANARIES)
    for step in range(STEPS):
        seen[:, step] -= 0.003 * drift
        drift = drift + seen[:, step]
    return seen


def sharing(rng):
    """Every coordinate is that of two canaries: each sees the other, with a sign of its own, and the same noise."""
    sampled = (rng.random((CANARIES, STEPS)) < PROBABILITY) & MEMBERSHIP[:, None]
    partner, sign = rng.permutation(CANARIES), rng.choice([-1.0, 1.0], (CANARIES, 1))
    return sampled + sign * sampled[partner] + rng.normal(0, NOISE, (CANARIES, STEPS))


def share_refuted(projections, *, tested=NOISE, use="steps"):
    """Return how often a noise of at least `tested` is refuted by a test at the level .05, over independent runs."""
    rng = np.random.default_rng(5)
    gaps, deviations, squares = np.empty((3, RUNS))
    for run in range(RUNS):
        seen = projections(rng)
        out, sums = seen[~MEMBERSHIP], seen.sum(axis=1)
        gaps[run] = sums[MEMBERSHIP].mean() - sums[~MEMBERSHIP].mean()
        deviations[run] = sums[~MEMBERSHIP].std(ddof=1)
        squares[run] = np.sum(out**2) if use == "steps" else np.sum(sums[~MEMBERSHIP] ** 2) / STEPS
    squared = {"steps": {"squares": squares, "degrees": CANARIES // 2 * STEPS}, "gap": {}}
    squared["sums"] = {"squares": squares, "degrees": CANARIES // 2}
    return rejects(
        gap=gaps,
        deviation=deviations,
        included=CANARIES // 2,
        excluded=CANARIES // 2,
        probability=PROBABILITY,
        steps=STEPS,
        noise_multiplier=tested,
        confidence=0.95,
        **squared[use],
    ).mean()


USES = pytest.mark.parametrize("use", ["steps", "sums", "gap"])


@USES
def test_what_is_described_is_hardly_ever_refuted(use):
    assert share_refuted(honest, use=use) <= 0.2


@pytest.mark.thinned(5)
@USES
@pytest.mark.parametrize(
    "bug",
    [{"noise": NOISE / 2}, {"probability": 2 * PROBABILITY}, {"steps": 4 * STEPS}, {"contribution": 1.7}],
    ids=["half the noise", "twice the probability", "four times the steps", "contributions above the norm"],
)
def test_bugs_that_lose_privacy_are_refuted(bug, use):
    assert share_refuted(lambda rng: honest(rng, **bug), use=use) == 1.0


def test_a_little_less_noise_on_the_canaries_coordinates_is_refuted_by_single_steps_only():
    """Where else there is more of it is never seen: the projections do not hold it."""
    assert share_refuted(lambda rng: honest(rng, noise=0.98 * NOISE)) == 1.0
    assert share_refuted(lambda rng: honest(rng, noise=0.98 * NOISE), use="sums") < 0.5


@USES
def test_noise_that_cancels_over_the_steps_is_refuted_by_its_small_sums(use):
    assert share_refuted(cancelling, use=use) == 1.0


@USES
def test_one_noise_in_every_step_is_mostly_missed_since_it_buries_the_gap(use):
    """The loss is infinite there, so that no bound of ε is a false one."""
    assert share_refuted(reused, use=use) <= (0.3 if use == "steps" else 0.0)


@USES
def test_one_noise_on_every_coordinate_of_a_step_is_refuted(use):
    """It loses all: the difference of two coordinates has no noise."""
    assert share_refuted(common, use=use) == 1.0


@pytest.mark.parametrize("noise", [uneven, light])
@USES
def test_uneven_noise_and_light_tails_pass_for_what_is_described(noise, use):
    assert share_refuted(noise, use=use) <= 0.2


def test_heavy_tails_pass_for_less_noise_in_single_steps_and_hardly_in_sums():
    """The description is false, and so is the bound: that noise is normal is assumed."""
    assert share_refuted(heavy) > 0.3 and share_refuted(heavy, use="sums") <= 0.25


@USES
@pytest.mark.parametrize("nuisance", [unsubtracted, sharing])
def test_further_variance_only_hides(nuisance, use):
    assert share_refuted(nuisance, use=use) == 0.0


def test_gradients_that_answer_the_noise_shrink_sums_but_never_single_steps():
    """The squares of sums need the known records' gradients subtracted: else this is a false claim."""
    assert share_refuted(restoring) == share_refuted(restoring, use="gap") == 0.0
    assert share_refuted(restoring, use="sums") > 0.5


def test_many_missing_steps_cost_power_and_few_look_like_less_noise():
    for use in ("steps", "sums", "gap"):
        assert share_refuted(lambda rng: honest(rng, steps=STEPS // 2), use=use) == 0.0
    assert share_refuted(lambda rng: honest(rng, steps=STEPS - 4)) > 0.8


@USES
def test_canaries_far_below_the_norm_are_judged_at_their_own_scale(use):
    """At half the norm they lose what twice the noise would leave: it is refuted no more often than announced."""
    assert share_refuted(lambda rng: honest(rng, contribution=0.5), tested=2 * NOISE, use=use) <= 0.2


def test_canaries_just_below_the_norm_are_taken_for_records_at_the_norm():
    below = {"contribution": 0.95}
    assert share_refuted(lambda rng: honest(rng, **below)) <= 0.2
    assert share_refuted(lambda rng: honest(rng, **below), tested=NOISE / 0.95) > 0.8
    assert share_refuted(lambda rng: honest(rng, **below), tested=NOISE / 0.95, use="gap") <= 0.2


@USES
def test_canaries_that_never_enter_show_nothing(use):
    assert share_refuted(lambda rng: honest(rng, contribution=0.0), tested=np.inf, use=use) <= (
        0.2 if use == "gap" else 0.0
    )
