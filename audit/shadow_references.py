"""Reference models for attacks on input canaries: trained as the audited one is, hundreds in one batched program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from audit.canaries import InputCanaries
from audit.core.confidences import logit_confidences
from audit.core.references import References, balanced_membership
from dpsgd import DPSGD, Dataset, NonPrivate, Shadows, train_together
from dpsgd.losses import Loss
from mechanisms import InvalidParameter, Source


def shadow_references(
    model: nn.Module,
    known: Dataset,
    canaries: InputCanaries,
    config: DPSGD | NonPrivate,
    *,
    models: int,
    loss: Loss,
    rng: np.random.Generator,
    randomness: Source,
    population: InputCanaries | None = None,
    initialisation_seeds: Sequence[int] | None = None,
) -> References:
    """Return what models say of canaries that were trained on the known records and a half of the canaries each.

    A canary that is out is replaced as in the audited run, by the record named for it, or by none.

    Args:
        model: a classifier, see `dpsgd.train_together`; it is left as it is.
        known: the records that the audited model is trained on for certain.
        canaries: m.
        config: what the audited model is trained by.
        models: how many, an even number.
        loss: as there.
        rng: public randomness, of which model is trained on which canaries.
        randomness: of draws and noise. It may be any but the audited run's: references are the attacker's own.
        population: public records that no model is trained on, for rmia.
        initialisation_seeds: one for each model; None starts all from the weights of `model`, as an attacker does who
            knows those of the audited one.

    Raises:
        InvalidParameter: if something does not fit.

    >>> from dpsgd import mlp
    >>> from mechanisms import KeyedSource
    >>> known = Dataset(features=torch.rand(20, 4), targets=torch.arange(20) % 2)
    >>> canaries = InputCanaries(features=np.eye(3, 4, dtype=np.float32), targets=np.array([0, 1, 1]))
    >>> references = shadow_references(mlp(4, (), 2), known, canaries, NonPrivate(batch_size=5, steps=8,
    ...     learning_rate=0.1), models=6, loss=nn.CrossEntropyLoss(reduction="none"), rng=np.random.default_rng(0),
    ...     randomness=KeyedSource(0))
    >>> references.included.sum(axis=0)
    array([3, 3, 3])
    """
    included = balanced_membership(models=models, canaries=len(canaries), rng=rng)
    everything, rows = _everything(known, canaries), np.arange(len(known) + len(canaries))
    membership = np.concatenate([np.ones((models, len(known)), dtype=np.bool_), included], axis=1)
    if canaries.replaced is not None:
        membership = np.concatenate([membership, ~included], axis=1)
        rows = np.arange(len(everything))
    shadows = train_together(
        model,
        everything,
        config,
        membership=[rows[own] for own in membership],
        loss=loss,
        randomness=randomness,
        initialisation_seeds=initialisation_seeds,
    )
    return References(
        confidences=_confidences(shadows, canaries, everything),
        included=included,
        population=None if population is None else _confidences(shadows, population, everything),
    )


def _everything(known: Dataset, canaries: InputCanaries) -> Dataset:
    """Return the known records, the canaries, and then what these replace."""
    if known.owners is not None:
        raise InvalidParameter("shadow_references: known must be without owners: canaries have none.")
    added = [canaries] if canaries.replaced is None else [canaries, canaries.replaced]
    for name in ("features", "targets"):
        ours, theirs = getattr(known, name).shape[1:], getattr(canaries, name).shape[1:]
        if tuple(ours) != tuple(theirs):
            raise InvalidParameter(
                f"shadow_references: {name} of canaries must have the shape {tuple(ours)} of the known records', "
                f"got {tuple(theirs)}."
            )
    parts = {
        name: torch.cat([ours, *(torch.tensor(getattr(records, name)).to(ours) for records in added)])
        for name, ours in (("features", known.features), ("targets", known.targets))
    }
    return Dataset(**parts)


def _confidences(
    shadows: Shadows, records: InputCanaries, like: Dataset
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    outputs = shadows.outputs(torch.tensor(records.features).to(like.features))
    return logit_confidences(outputs.cpu().numpy(), records.targets)
