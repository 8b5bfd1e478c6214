"""Whole reports on trainers whose samples are not Poisson's: half the noise is refuted, all of it is hardly ever."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")

from audit import GuessExtremes, Observations, audit  # noqa: E402
from audit.core.claims import claimed_bounds  # noqa: E402
from audit.core.simulated_trainers import coordinates  # noqa: E402
from audit.core.toy_samples import balls_in_bins, fixed_size, shuffled, truncated, with_replacement  # noqa: E402
from audit.core.toy_training import Plan, dp_sgd, gaussian  # noqa: E402
from audit.pictures import Pictures  # noqa: E402
from mechanisms import (  # noqa: E402
    Allocated,
    BallsInBins,
    FixedSize,
    Gaussian,
    KeyedSource,
    Repeat,
    Sampled,
    Shuffled,
    TruncatedPoisson,
    WithReplacement,
)

CANARIES, KNOWN, NOISE = 100, 20, 1.0
UNITS = CANARIES + KNOWN
BATCH = UNITS // 2
REFUTER_ERROR = 0.01
CLAIMED = functools.lru_cache(claimed_bounds)


@pytest.fixture(autouse=True)
def verdicts_alone(monkeypatch):
    monkeypatch.setattr("audit.harness.accountant_answers", lambda *_, **__: ())
    monkeypatch.setattr("audit.harness.pictured", lambda *_, **__: Pictures())
    monkeypatch.setattr("audit.harness.looked_at", lambda *_: ())
    monkeypatch.setattr("audit.harness.claimed_bounds", CLAIMED)


def one_step(sampling):
    return Sampled(Gaussian(noise_multiplier=NOISE), sampling)


def epoch(allocation):
    return Allocated(Repeat(Gaussian(noise_multiplier=NOISE), 2), allocation)


SCHEMES = {
    "fixed size": (fixed_size, one_step(FixedSize(batch_size=BATCH, records=UNITS))),
    "with replacement": (with_replacement, one_step(WithReplacement(batch_size=BATCH, records=UNITS))),
    "truncated": (truncated, one_step(TruncatedPoisson(probability=0.5, largest_batch=BATCH, records=UNITS))),
    "shuffled": (shuffled, epoch(Shuffled())),
    "balls in bins": (balls_in_bins, epoch(BallsInBins())),
}


def trainer(sample, *, steps, noise=1.0):
    """Return the miniature with these samples; known records lie across the canaries' coordinates."""
    known = np.random.default_rng(0).normal(size=(KNOWN, CANARIES))
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    plan = Plan(noise_multiplier=NOISE, probability=0.5, steps=steps, expected_batch_size=BATCH)

    def trained(task):
        rows = np.concatenate([known, task.canaries.signs[:, None] * np.eye(CANARIES) * task.membership[:, None]])
        run = dp_sgd(
            rows,
            plan,
            task.streams,
            np.zeros(CANARIES),
            sample=sample,
            noise=lambda dimension, place: noise * gaussian(dimension, place),
        )
        released = (
            SimpleNamespace(
                step=one.step,
                weights_before=torch.from_numpy(one.weights_before),
                noisy_sum=torch.from_numpy(one.noisy_sum),
            )
            for one in run
        )
        expected = torch.from_numpy(known.sum(axis=0) / 2)
        return Observations(released=released, max_grad_norm=1.0, expected_sum=lambda weights: expected)

    return trained


def reported(name, *, seed, noise=1.0):
    sample, claim = SCHEMES[name]
    return audit(
        trainer(sample, steps=2 if isinstance(claim, Allocated) else 1, noise=noise),
        claim=claim,
        delta=1e-5,
        canaries=coordinates(CANARIES),
        guessing_rule=GuessExtremes(included=10, excluded=10),
        randomness=KeyedSource(seed),
        adjacency="zero_out",
    )


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in SCHEMES])
def test_honest_reports_refute_no_more_often_than_announced_and_half_the_noise_is_refuted(name, monkeypatch):
    """Of 1,000 honest reports and 50 others; the primary's 4 % are spent on another question.

    Left out is the refuter's ε, which takes up to a second and lies above the claim only where the noise is refuted.
    """
    monkeypatch.setattr("audit.estimators.accountant_inversion.AccountantInversion.epsilon", lambda *_, **__: 0.0)
    honest = [reported(name, seed=seed) for seed in range(1_000)]
    broken = [reported(name, seed=seed, noise=0.5) for seed in range(50)]
    accused = [report.verdict for report in honest if report.verdict in ("violated", "description refuted")]
    found = sum(report.verdict == "description refuted" for report in broken)
    print(f"{name}: {len(accused)} of 1000 honest reports accuse, {found} of 50 with half the noise")
    assert len(accused) <= stats.binom.ppf(1 - 1e-4, 1_000, REFUTER_ERROR)
    assert not any(report.faults for report in (*honest, *broken))
    assert found >= 45


def test_a_report_on_wide_claims_says_in_words_that_the_noise_is_refuted():
    honest, broken = (reported("with replacement", seed=4, noise=noise) for noise in (1.0, 0.5))
    assert honest.verdict in ("consistent", "none") and broken.verdict == "description refuted"
    assert broken.refutation.epsilon <= broken.claim.upper
    text = " ".join(broken.to_markdown().split())
    assert "refutes the process described, by more than ε alone shows" in text
    assert "accountant_inversion), refuter, one run" in text
    assert type(broken).from_json(broken.to_json()) == broken
