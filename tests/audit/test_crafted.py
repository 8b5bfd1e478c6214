"""Crafted weights: what the detecting unit does, and that a final loss tells what all the steps do."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from audit.attacks.crafted import RehearsedLoss
from audit.canaries import InputCanaries
from audit.crafted import detector, rehearsed
from audit.input_canaries import blank
from audit.runs import Setup, observe_independent_runs
from audit.scores import Threshold
from audit.trainers import dpsgd_trainer, with_records
from dpsgd import DPSGD, Dataset, steps
from dpsgd.core.parameters import flatten
from mechanisms import InvalidParameter, KeyedSource, Poisson

LOSS = nn.CrossEntropyLoss(reduction="none")
INPUTS, CLASSES, BOUND, STEPS = 12, 3, 1.0, 20
CANARY = blank((INPUTS,), canaries=1, classes=CLASSES)


def config(noise_multiplier=4.0, probability=1.0):
    return DPSGD(
        noise_multiplier=noise_multiplier,
        max_grad_norm=BOUND,
        sampling=Poisson(probability=probability),
        expected_batch_size=50,
        steps=STEPS,
        learning_rate=0.05,
    )


def records(count=50):
    generator = torch.Generator().manual_seed(0)
    features = 0.2 + torch.rand(count, INPUTS, generator=generator)
    return Dataset(features=features, targets=torch.arange(count) % CLASSES)


def plain():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(INPUTS, 6), nn.ReLU(), nn.Linear(6, CLASSES))


def canary_gradient(model):
    loss = LOSS(model(torch.zeros(1, INPUTS)), torch.tensor([0])).sum()
    return flatten(torch.autograd.grad(loss, list(model.parameters())))


def setup(attack, trainer):
    return Setup(
        trainer=trainer,
        canaries=CANARY,
        attack=attack,
        guessing_rule=Threshold(value=0.5),
        randomness=KeyedSource(3),
        process=config().process(),
    )


def test_the_unit_answers_to_the_blank_record_alone_and_leaves_the_rest_as_it_was():
    before = plain()
    model, features = detector(before, darkest=2.0), records().features
    assert torch.all(model[:2](features)[:, 0] == 0) and float(model[:2](torch.zeros(1, INPUTS))[0, 0].detach()) == 10.0
    with torch.no_grad():
        rest = before[:2](features)[:, 1:] @ before[2].weight[:, 1:].T + before[2].bias
        assert torch.allclose(model(features), rest, atol=1e-6)
        logits = model(torch.zeros(1, INPUTS))[0]
    assert float(logits[1] - logits[0]) == pytest.approx(30.0, abs=2.0) and int(logits.argmax()) == 1


def test_nearly_all_of_the_canary_gradient_lies_where_no_record_has_any():
    model = detector(plain(), darkest=2.0)
    canary = canary_gradient(model)
    known = flatten(
        torch.autograd.grad(LOSS(model(records().features), records().targets).sum(), [*model.parameters()])
    )
    silent = known == 0
    assert float(canary.norm()) > 14.0
    assert float(canary[silent].square().sum() / canary.square().sum()) > 0.97


def test_the_final_loss_is_the_projection_of_all_noisy_sums():
    model = detector(plain(), darkest=2.0)
    known, trainer = records(), dpsgd_trainer(model, records(), config(), loss=LOSS)
    direction = canary_gradient(model)
    direction = (direction / direction.norm()).double()

    def projected(source, noise_multiplier=4.0):
        model.load_state_dict(trainer.initial)
        ran = steps(model, known, config(noise_multiplier), loss=LOSS, randomness=source)
        seen = sum(float(release.noisy_sum.double() @ direction) for release in ran) / STEPS
        return seen, float(LOSS(model(torch.zeros(1, INPUTS)), torch.tensor([0])).sum().detach())

    attack = rehearsed(trainer, CANARY)
    without, loss = projected(KeyedSource(0), 0.0)
    assert loss == pytest.approx(attack.without)
    for seed in range(4):
        seen, loss = projected(KeyedSource(seed))
        score = (attack.without - loss) / (attack.without - attack.within)
        assert score == pytest.approx((seen - without) / BOUND, abs=0.05)  # the noise of either is 0.9


def test_runs_with_the_canary_score_one_and_without_it_zero_where_noise_is_small():
    trainer = dpsgd_trainer(detector(plain(), darkest=2.0), records(), config(noise_multiplier=0.05), loss=LOSS)
    data = observe_independent_runs(setup(rehearsed(trainer, CANARY), trainer), runs=12)
    assert data.included == pytest.approx(1.0, abs=0.1) and data.excluded == pytest.approx(0.0, abs=0.1)
    assert data.correct == 12


def test_what_replaces_the_canary_is_in_the_rehearsal_without_it():
    other = InputCanaries(features=np.full((1, INPUTS), 0.04, dtype=np.float32), targets=np.array([0]))
    canary = InputCanaries(features=CANARY.features, targets=CANARY.targets, replaced=other)
    trainer = dpsgd_trainer(detector(plain(), darkest=2.0), records(), config(), loss=LOSS)
    with_other = with_records(records(), other, np.array([True]))
    known = rehearsed(dpsgd_trainer(detector(plain(), darkest=2.0), with_other, config(), loss=LOSS), CANARY)
    found, alone = rehearsed(trainer, canary), rehearsed(trainer, CANARY)
    assert found.without == pytest.approx(known.without, abs=1e-5) and found.within == pytest.approx(alone.within)
    assert abs(known.without - alone.without) > 1e-2


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda: RehearsedLoss(without=1.0, within=1.0), "crafted: within must be below without, 1.0, got 1.0"),
        (lambda: RehearsedLoss(without=np.inf, within=1.0), "crafted: without must be finite"),
        (lambda: detector(nn.Linear(2, 2), darkest=1.0), "detector: model must be nn.Sequential of"),
        (lambda: detector(plain(), darkest=0.0), "detector: darkest must be"),
        (lambda: detector(plain(), darkest=1.0, right=3), "detector: right and wrong must be two of the 3 classes"),
        (lambda: detector(plain(), darkest=1.0, right=1), "got 1 and 1"),
        (
            lambda: rehearsed(dpsgd_trainer(plain(), records(), config(probability=0.5), loss=LOSS), CANARY),
            "rehearsed: sampling must be Poisson.probability=1.0., got",
        ),
        (
            lambda: rehearsed(
                dpsgd_trainer(plain(), records(), config(), loss=LOSS), blank((INPUTS,), canaries=2, classes=3)
            ),
            "rehearsed: canary must be exactly one, got 2",
        ),
    ],
)
def test_what_cannot_be_crafted_or_rehearsed_is_refused(ask, text):
    with pytest.raises(InvalidParameter, match=text):
        ask()
