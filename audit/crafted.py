"""Initial weights crafted for one canary, and rehearsals without noise: what `audit.attacks.crafted` is prepared with.

Differential privacy holds whatever weights training starts from, so a sound audit may let the adversary choose them.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import torch
from torch import nn

from audit.attack import FinalModel, TrainerTask
from audit.attacks.crafted import RehearsedLoss
from audit.canaries import InputCanaries
from audit.trainers import DPSGDTrainer, dpsgd_trainer, sample_rate
from mechanisms import InvalidParameter, KeyedSource
from mechanisms.core import validate


def detector(
    model: nn.Module, *, darkest: float, right: int = 0, wrong: int = 1, height: float = 10.0, margin: float = 30.0
) -> nn.Module:
    """Return a copy of a classifier whose first hidden unit answers to the blank record alone.

        h_1(x) = max(0, height · (1 − 2 Σ_j x_j / darkest))

    It is `height` on a blank record and 0, with no gradient, where features sum up to half of `darkest` or more: known
    records train the rest of the model and never touch it. Its output weights make the model as sure as `margin` says
    that a blank record is of class `wrong`. For a blank canary of class `right` the loss is then linear in the logits,
    and its gradient, √2 · height long or more, is clipped to the same vector in every step: all but a share of about
    1 / height² of it lies in output weights that nothing but noise moves otherwise. As the unit is silent on real
    records, the model is as accurate as before, but for what the hidden unit did that it takes the place of.

    Args:
        model: nn.Sequential of nn.Linear, nn.ReLU and nn.Linear, trained on public records, say; features >= 0.
        darkest: the least sum of features that a real record has, by public knowledge, > 0; one below half of it
            weakens the attack and does no other harm.
        right: class of the canary.
        wrong: another class.
        height: of the unit on the blank record, > 0.
        margin: of the logits of the two classes, > 0; well above what training moves it by.

    Raises:
        InvalidParameter: if the model has other layers, a class is none of its, or a number breaks its rule.

    >>> plain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> crafted = detector(plain, darkest=1.0)
    >>> crafted[:2](torch.tensor([[0.0, 0.0], [0.3, 0.7]]))[:, 0]
    tensor([10.,  0.], grad_fn=<SelectBackward0>)
    """
    darkest = validate.positive("detector", "darkest", darkest)
    height, margin = validate.positive("detector", "height", height), validate.positive("detector", "margin", margin)
    layers = list(model.children())
    if not isinstance(model, nn.Sequential) or [type(layer) for layer in layers] != [nn.Linear, nn.ReLU, nn.Linear]:
        raise InvalidParameter(
            "detector: model must be nn.Sequential of nn.Linear, nn.ReLU and nn.Linear, got "
            f"{type(model).__name__} of {', '.join(type(layer).__name__ for layer in layers)}."
        )
    crafted = copy.deepcopy(model)
    first, _, last = crafted
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    classes = [validate.count("detector", name, one) for name, one in (("right", right), ("wrong", wrong))]
    if max(classes) >= last.out_features or classes[0] == classes[1]:
        raise InvalidParameter(
            f"detector: right and wrong must be two of the {last.out_features} classes, got {right} and {wrong}."
        )
    with torch.no_grad():
        first.weight[0], first.bias[0], last.weight[:, 0] = -2 * height / darkest, height, 0.0
        last.weight[classes[0], 0], last.weight[classes[1], 0] = -margin / (2 * height), margin / (2 * height)
    return crafted


def rehearsed(trainer: DPSGDTrainer, canary: InputCanaries) -> RehearsedLoss:
    """Return the attack on one canary, its scale taken from training without noise, once without it and once with it.

    The trainer's model is left as the second rehearsal made it; every audited run starts from the initial weights anew.

    Args:
        trainer: what will be audited, with every record in every step: otherwise no rehearsal tells what a run will do.
        canary: exactly one.

    Raises:
        InvalidParameter: if records are drawn, there are more canaries, or the canary's loss does not fall with it.
    """
    if sample_rate(trainer.config) != 1.0:
        raise InvalidParameter(
            f"rehearsed: sampling must be Poisson(probability=1.0), got {trainer.config.sampling!r}: a run that draws "
            "its records cannot be rehearsed."
        )
    if len(canary) != 1:
        raise InvalidParameter(f"rehearsed: canary must be exactly one, got {len(canary)}.")
    config = dataclasses.replace(trainer.config, noise_multiplier=0.0)
    quiet = dpsgd_trainer(trainer.model, trainer.dataset, config, loss=trainer.loss)
    quiet = dataclasses.replace(quiet, initial=trainer.initial)
    without, within = (_final_loss(quiet, canary, member) for member in (False, True))
    return RehearsedLoss(without=without, within=within)


def _final_loss(quiet: DPSGDTrainer, canary: InputCanaries, member: bool) -> float:
    """Return the canary's loss after a run in which nothing is random: the key of its source does not matter."""
    neighbours = canary.adjacencies[0]
    task = TrainerTask(canaries=canary, membership=np.array([member]), streams=KeyedSource(0), adjacency=neighbours)
    released = quiet(task).released
    assert not callable(released)
    *_, last = released
    assert isinstance(last, FinalModel)
    return float(last.losses(canary.features, canary.targets)[0])
