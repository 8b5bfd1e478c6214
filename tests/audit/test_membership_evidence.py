"""From a trainer to a bound: attacks with shadow models give evidence below an honest claim, and refute a false one."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from accountant import epsilon_bounds  # noqa: E402
from audit.attack import Observations  # noqa: E402
from audit.attacks.lira import LikelihoodRatio  # noqa: E402
from audit.attacks.loss import LossThreshold  # noqa: E402
from audit.estimators.clopper_pearson import ClopperPearson  # noqa: E402
from audit.estimators.one_run import OneRunBound  # noqa: E402
from audit.input_canaries import blank, mislabelled  # noqa: E402
from audit.runs import Setup, observe_independent_runs, observe_one_run  # noqa: E402
from audit.scores import GuessExtremes, Threshold  # noqa: E402
from audit.shadow_references import shadow_references  # noqa: E402
from audit.trainers import dpsgd_trainer, final_model, with_records  # noqa: E402
from dpsgd import DPSGD, Dataset, NonPrivate, load, mlp, train_together  # noqa: E402
from mechanisms import KeyedSource, Poisson  # noqa: E402

LOSS = torch.nn.CrossEntropyLoss(reduction="none")
CANARIES, DELTA = 400, 1e-5
RULE = GuessExtremes(included=60, excluded=60)
PLAIN = NonPrivate(batch_size=50, steps=400, learning_rate=0.1, momentum=0.9)


@pytest.fixture(scope="module")
def setting():
    records, _ = load("digits")
    known = Dataset(features=records.features[:400], targets=records.targets[:400])
    canaries = mislabelled(
        records.features[400:].numpy(), records.targets[400:].numpy(), canaries=CANARIES, classes=10,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    torch.manual_seed(0)
    return mlp(64, (32,), 10), known, canaries


def attack(setting, config):
    references = shadow_references(
        *setting, config, models=8, loss=LOSS, rng=np.random.default_rng(1), randomness=KeyedSource("shadows")
    )
    return LikelihoodRatio(references=references)


def observed(setting, trainer, watching, seed):
    setup = Setup(
        trainer=trainer, canaries=setting[2], attack=watching, guessing_rule=RULE, randomness=KeyedSource(seed)
    )
    return observe_one_run(setup)


def bound(data):
    return OneRunBound().epsilon(data, process=None, delta=DELTA, confidence=0.95)


def careless(setting, config=PLAIN):
    """A trainer without privacy that shows the final model alone."""
    model, known, canaries = setting

    def trainer(task):
        data = with_records(known, canaries, task.membership)
        everyone = np.ones((1, len(data)), dtype=bool)
        trained = train_together(model, data, config, membership=everyone, loss=LOSS, randomness=task.streams)
        return Observations(released=[final_model(trained.model(0), LOSS)])

    return trainer


def test_training_without_privacy_is_refuted_far_above_any_small_claim(setting):
    data = observed(setting, careless(setting), attack(setting, PLAIN), 0)
    assert bound(data) > 2.0  # with every guess right 3.7
    assert 0 < bound(observed(setting, careless(setting), LossThreshold(), 0)) < bound(data)


@pytest.mark.parametrize("epsilon", [1.0, 32.0])
def test_private_training_is_never_shown_to_lose_more_than_it_claims(setting, epsilon):
    config = DPSGD.for_budget(
        epsilon=epsilon, delta=DELTA, max_grad_norm=1.0, sampling=Poisson(probability=0.25), expected_batch_size=150,
        steps=40, learning_rate=2.0,
    )  # fmt: skip
    claim = epsilon_bounds(config.process(), delta=DELTA).upper
    trainer, watching = dpsgd_trainer(setting[0], setting[1], config, loss=LOSS), attack(setting, config)
    found = [observed(setting, trainer, watching, seed) for seed in range(3)]
    assert max(map(bound, found)) <= claim <= epsilon
    if epsilon == 32.0:  # the attack is not blind, which would make the law above empty
        assert sum(data.correct for data in found) > 180 + 4 * np.sqrt(90) and min(map(bound, found)) > 0


def test_independent_runs_with_one_canary_give_counts_that_refute_a_small_claim(setting):
    """A tiny model, a blank record of class 0, and the threshold that a likelihood ratio has by itself."""
    torch.manual_seed(0)
    known = Dataset(features=setting[1].features[:20], targets=setting[1].targets[:20] % 9 + 1)
    tiny, canary, plain = mlp(64, (), 10), blank((64,), canaries=1, classes=1), dataclasses.replace(PLAIN, steps=15)
    references = shadow_references(
        tiny, known, canary, plain, models=32, loss=LOSS, rng=np.random.default_rng(1), randomness=KeyedSource("s")
    )
    setup = Setup(
        trainer=careless((tiny, known, canary), plain), canaries=canary, randomness=KeyedSource(0),
        attack=LikelihoodRatio(references=references), guessing_rule=Threshold(value=0.0),
    )  # fmt: skip
    data = observe_independent_runs(setup, runs=80)
    shown = ClopperPearson().epsilon(data, process=None, delta=DELTA, confidence=0.95)
    assert shown > 1.8  # with no error 2.3
