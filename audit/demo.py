"""The main job: train privately on public data with canaries inside, audit that run, and report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from audit.attacks.gradient import GradientProjection
from audit.canaries import signed_coordinates
from audit.core.plan import chosen_attack, planned
from audit.core.run_config import RUNS, RunConfig
from audit.estimators.clopper_pearson import ClopperPearson
from audit.evidence import LowerBound, check_level
from audit.harness import audit
from audit.report import AuditReport
from audit.runs import Setup, check_fit, observe_independent_runs, one_run_design
from audit.scores import GuessExtremes, Threshold
from audit.trainers import dpsgd_trainer, sample_rate
from dpsgd import DPSGD, Dataset, count_parameters, load, mlp
from dpsgd.core.generators import set_apart
from mechanisms import KeyedSource, Poisson, Source, SystemSource
from mechanisms.core import validate

CLASSES = 10
# Chosen by a study of simulated scores at ε = 4, over 5,000 to 20,000 canaries and 100 to 1,500 guesses. The variance
# of the out-scores has a relative standard error of 2/√canaries: 1.4 % here; 5,000 miss 1 ± 5 % in 8 % of runs. With
# more guesses the bound scatters less and its ceiling is higher; with more canaries, 2 m δ costs more. Here the primary
# shows 1.85 or more in 98 % of honest runs, and with every guess right 5.01.
CANARIES_A_GUESS = 20
GUESSES = GuessExtremes(included=500, excluded=500)  # of 20,000 canaries
CONFIDENCE = 0.95
LOSS = nn.CrossEntropyLoss(reduction="none")

RECORDS_OF_A_RUN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The public constants of a demo: chosen by hand, none of them computed from the records.

    Args:
        hidden: widths of the hidden layers; the model needs more parameters than there are canaries.
        probability: q. Large, so that each canary takes part often and few steps suffice.
        steps: T.
        expected_batch_size: the divisor of the noisy sums.
        learning_rate: see `DPSGD`.
    """

    hidden: tuple[int, ...]
    probability: float
    steps: int
    expected_batch_size: float
    learning_rate: float

    def calibrated(self, *, epsilon: float, delta: float) -> DPSGD:
        """Return the configuration with the least noise that keeps the budget."""
        return DPSGD.for_budget(
            epsilon=epsilon,
            delta=delta,
            max_grad_norm=1.0,
            sampling=Poisson(probability=self.probability),
            expected_batch_size=self.expected_batch_size,
            steps=self.steps,
            learning_rate=self.learning_rate,
        )


SETTINGS = {
    "digits": Setting(hidden=(272,), probability=0.5, steps=100, expected_batch_size=700, learning_rate=3.0),
    "fashion_mnist": Setting(hidden=(64,), probability=0.1, steps=200, expected_batch_size=6_000, learning_rate=4.0),
    "mnist": Setting(hidden=(64,), probability=0.1, steps=200, expected_batch_size=6_000, learning_rate=4.0),
}


def run(config: RunConfig, *, directory: Path | None, log: Callable[[str], None]) -> AuditReport:
    """Return the report of one audited training run, with two-world runs of a tiny model beside it, or of these alone.

    Args:
        config: what to run.
        directory: where the data lies, see `dpsgd.load`.
        log: is told what happens, a line at a time.

    Guarantees: the same seed, machine, software and number of torch's threads give the same report, bit for bit.

    Raises:
        InvalidParameter: if a value breaks its rule or the data is not there.
    """
    setting = SETTINGS[validate.choice("audit", "data", config.data, tuple(SETTINGS))]
    check_level("audit", delta=config.delta, confidence=CONFIDENCE)
    train, test = load(config.data, directory=directory)
    log(f"calibrating the noise to ε = {config.epsilon:g} at δ = {config.delta:g}")
    ran = setting.calibrated(epsilon=config.epsilon, delta=config.delta)
    randomness = SystemSource() if config.seed is None else KeyedSource(config.seed)
    rng = np.random.default_rng(config.seed)
    if config.design == "independent_runs":
        log(f"running {config.runs} tiny models with and without one canary")
        report = _independent_runs(config, train, ran, rng=rng, randomness=randomness)
        return replace(report, data=config.data, seed=config.seed)
    model = initialised((train.features.shape[1], *setting.hidden), rng)
    canaries = signed_coordinates(canaries=config.canaries, dimension=count_parameters(model), rng=rng)
    guesses = config.canaries // CANARIES_A_GUESS // 2
    rule = GuessExtremes(included=guesses, excluded=guesses)
    _check(
        config,
        Setup(
            trainer=dpsgd_trainer(model, train, ran, loss=LOSS),
            canaries=canaries,
            attack=chosen_attack(config.attack),
            guessing_rule=rule,
            randomness=KeyedSource(0),  # nothing is drawn that anyone sees
            process=ran.process(),
        ),
    )
    log(f"running {RUNS} tiny models with and without one canary")
    two_worlds = _two_worlds(train, ran, delta=config.delta, rng=rng, randomness=randomness)
    log(f"training on {config.data} with {config.canaries} canaries, noise multiplier {ran.noise_multiplier:.3f}")
    report = audit(
        dpsgd_trainer(model, train, ran, loss=LOSS),
        delta=config.delta,
        confidence=CONFIDENCE,
        canaries=canaries,
        guessing_rule=rule,
        randomness=randomness,
        primary=config.primary,
        refuter=config.refuter,
        attack=config.attack,
        exploratory=(two_worlds,),
    )
    return replace(report, data=config.data, seed=config.seed, accuracy=accuracy(model, test))


def _check(config: RunConfig, setup: Setup) -> None:
    """Refuse now what the audit would refuse, which the tiny models run before."""
    assert setup.process is not None
    check_fit(setup, setup.observations(np.zeros(len(setup.canaries), np.bool_), 0))
    planned(
        primary=config.primary,
        refuter=config.refuter,
        exploratory=(),
        attack=setup.attack,
        design=one_run_design(setup),
        claim=setup.process,
        adjacency=setup.adjacency,
        delta=config.delta,
        confidence=CONFIDENCE,
    )


def _independent_runs(
    config: RunConfig, train: Dataset, ran: DPSGD, *, rng: np.random.Generator, randomness: Source
) -> AuditReport:
    """Return the audit of independent runs of the same process on few records, by one threshold: half the gap."""
    model, few = _tiny(train, rng)
    return audit(
        dpsgd_trainer(model, few, ran, loss=LOSS),
        delta=config.delta,
        confidence=CONFIDENCE,
        canaries=signed_coordinates(canaries=1, dimension=count_parameters(model), rng=rng),
        guessing_rule=Threshold(value=sample_rate(ran) * ran.steps / 2),
        randomness=randomness,
        runs=config.runs,
        primary=config.primary,
        refuter=config.refuter,
        attack=config.attack,
    )


def _tiny(train: Dataset, rng: np.random.Generator) -> tuple[nn.Module, Dataset]:
    few = Dataset(features=train.features[:RECORDS_OF_A_RUN], targets=train.targets[:RECORDS_OF_A_RUN])
    return initialised((train.features.shape[1],), rng), few


def _two_worlds(
    train: Dataset, config: DPSGD, *, delta: float, rng: np.random.Generator, randomness: Source
) -> LowerBound:
    """Return what independent runs of the same process, on few records, show by one fixed threshold: half the gap."""
    model, few = _tiny(train, rng)
    attack = GradientProjection()
    setup = Setup(
        trainer=dpsgd_trainer(model, few, config, loss=LOSS),
        canaries=signed_coordinates(canaries=1, dimension=count_parameters(model), rng=rng),
        attack=attack,
        guessing_rule=Threshold(value=sample_rate(config) * config.steps / 2),
        randomness=randomness,
    )
    data = observe_independent_runs(setup, runs=RUNS)
    return ClopperPearson().lower_bound(
        data, process=config.process(), delta=delta, confidence=CONFIDENCE, threat_model=attack.threat_model
    )


def initialised(widths: tuple[int, ...], rng: np.random.Generator) -> nn.Module:
    """Return a model of these layers, for ten classes, with fresh public weights.

    Args:
        widths: number of features, then the widths of the hidden layers.
        rng: public randomness.
    """
    with set_apart(torch.device("cpu"), seed=int(rng.integers(2**63))):
        return mlp(widths[0], widths[1:], CLASSES)


def accuracy(model: nn.Module, test: Dataset) -> float:
    """Return the share of the records in `test` whose class the model gives the largest output."""
    with torch.no_grad():
        hits = model(test.features).argmax(dim=1) == test.targets
    return int(hits.sum()) / len(test)
