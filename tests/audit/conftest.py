"""What several tests of the audit share: simulated runs, and the deep-learning run of the demo."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from accountant import epsilon_bounds
from audit import (
    AuditReport,
    GuessExtremes,
    Observations,
    SignedCoordinates,
    Trainer,
    TrainerTask,
    audit,
    signed_coordinates,
)
from mechanisms import Gaussian, KeyedSource, Poisson, Process, Repeat, Sampled

NOISE = 5.511170774929619  # ε = 4 at δ = 1e-5 for the two numbers below
PROBABILITY = 0.5
STEPS = 100
DELTA = 1e-5


def described_run(noise: float = NOISE, probability: float = PROBABILITY, steps: int = STEPS) -> Process:
    return Repeat(Sampled(Gaussian(noise_multiplier=noise), Poisson(probability=probability)), steps)


def simulated_trainer(
    *, noise: float = NOISE, probability: float = PROBABILITY, included: float = 1.0, seed: int = 0
) -> Trainer:
    """A trainer without a model: noisy sums of the canaries alone, each `included` times the clip norm."""
    torch = pytest.importorskip("torch")

    def released(task: TrainerTask) -> Iterator[SimpleNamespace]:
        rng = np.random.default_rng(seed)
        for step in range(STEPS):
            sampled = (rng.random(len(task.canaries)) < probability) & task.membership
            noisy_sum = rng.normal(0, noise, task.canaries.dimension)
            noisy_sum[task.canaries.coordinates] += included * task.canaries.signs * sampled
            weights = torch.zeros(task.canaries.dimension)
            yield SimpleNamespace(step=step, weights_before=weights, noisy_sum=torch.tensor(noisy_sum))

    def trainer(task: TrainerTask) -> Observations:
        return Observations(released=released(task), max_grad_norm=1.0, expected_sum=torch.zeros_like)

    return trainer


def audit_simulated(
    trainer: Trainer, *, canaries: int | SignedCoordinates = 2_000, guesses: int = 150, seed: int = 0, **more
) -> AuditReport:
    asked = {
        "claim": described_run(),
        "delta": DELTA,
        "canaries": canaries
        if isinstance(canaries, SignedCoordinates)
        else signed_coordinates(canaries=canaries, dimension=canaries, rng=np.random.default_rng(seed)),
        "guessing_rule": GuessExtremes(included=guesses, excluded=guesses),
        "randomness": KeyedSource(seed),
    }
    return audit(trainer, **(asked | more))


@pytest.fixture(scope="session", autouse=True)
def asked_once() -> Iterator[Callable[..., object]]:
    """Ask every accountant once about a claim that many audits are about: its answer depends on nothing else."""
    once = functools.cache(epsilon_bounds)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("audit.core.claims.epsilon_bounds", once)
        yield once


@pytest.fixture
def described() -> Callable[..., Process]:
    return described_run


@pytest.fixture
def simulated() -> Callable[..., Trainer]:
    return simulated_trainer


@pytest.fixture
def auditing() -> Callable[..., AuditReport]:
    return audit_simulated


@pytest.fixture(scope="session")
def honest_report() -> AuditReport:
    """Without its pictures, which take long to draw."""
    return dataclasses.replace(audit_simulated(simulated_trainer()), pictures=None)


@pytest.fixture(scope="session")
def judged() -> Callable[[AuditReport, str], AuditReport]:
    """From a report and a verdict to the report with evidence that leads to it."""

    def judge(report: AuditReport, verdict: str) -> AuditReport:
        shown = {"violated": (1.1, None), "description refuted": (0.1, 1.1), "consistent": (0.1, None), "none": (0, 0)}
        bounds = {
            name: dataclasses.replace(bound, epsilon=share * report.claim.upper)
            for (name, bound), share in zip(
                (("evidence", report.evidence), ("refutation", report.refutation)), shown[verdict], strict=True
            )
            if bound is not None and share is not None
        }
        return dataclasses.replace(report, **bounds, verdict=verdict)

    return judge


@pytest.fixture(scope="session")
def digits_run() -> Callable[..., tuple[AuditReport, float]]:
    """Audit the demo's training on digits, its noise multiplied behind the claim's back; return accuracy too."""
    torch = pytest.importorskip("torch")
    from audit import demo, dpsgd_trainer
    from audit.core.run_config import CANARIES
    from dpsgd import DPSGD, count_parameters, load

    torch.set_num_threads(1)
    train, test = load("digits")
    setting = demo.SETTINGS["digits"]
    config = DPSGD(
        noise_multiplier=NOISE,
        max_grad_norm=1.0,
        sampling=Poisson(probability=setting.probability),
        expected_batch_size=setting.expected_batch_size,
        steps=setting.steps,
        learning_rate=setting.learning_rate,
    )

    def unsubtracted(trainer: Trainer) -> Trainer:
        def blind(task: TrainerTask) -> Observations:
            return dataclasses.replace(trainer(task), expected_sum=torch.zeros_like)

        return blind

    def run(seed: int, *, noise_factor: float = 1.0, subtract: bool = True) -> tuple[AuditReport, float]:
        rng = np.random.default_rng(seed)
        model = demo.initialised((64, *setting.hidden), rng)
        ran = dataclasses.replace(config, noise_multiplier=noise_factor * NOISE)
        trainer = dpsgd_trainer(model, train, ran, loss=demo.LOSS)
        report = audit(
            trainer if subtract else unsubtracted(trainer),
            claim=config.process(),
            delta=DELTA,
            canaries=signed_coordinates(canaries=CANARIES, dimension=count_parameters(model), rng=rng),
            guessing_rule=demo.GUESSES,
            randomness=KeyedSource(seed),
        )
        return report, demo.accuracy(model, test)

    return run
