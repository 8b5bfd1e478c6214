"""Shadow models: many small models trained in one batched program, for attacks that compare models with and without.

Each is trained on its own part of a dataset, and is what `train` would have made of it: the same draws, the same noise,
the same sums up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpsgd.config import DPSGD
from dpsgd.core.batches import Rows, drawn_rows
from dpsgd.core.chains import Chain
from dpsgd.core.clippers import Clipper
from dpsgd.core.failures import check_attempt, told_without_records
from dpsgd.core.noising import check_range, noising
from dpsgd.core.parameters import flatten, trainable
from dpsgd.core.rowwise import Rowwise
from dpsgd.core.run_clipping import run_clipping
from dpsgd.core.runs import begin_run
from dpsgd.core.shadow_checks import check_config, checked_chain, checked_membership
from dpsgd.core.stacked import Batches, Records, entries_for_row, gradient_sums, stacked_outputs
from dpsgd.datasets import Dataset
from dpsgd.gradients import check_no_autocast
from dpsgd.losses import Loss, per_example
from dpsgd.nonprivate import NonPrivate, ordered_rows
from dpsgd.training import initialised
from mechanisms import InvalidParameter, Source
from mechanisms.core import validate

ENTRIES = 2**20
"""Numbers that models worked on together hold at once: 4 MiB of float32 stay in the cache."""
MODELS_AT_ONCE = 128
"""Each of those that are trained together holds the words and the noise of a block, however small it is: 1.5 MiB."""
ROWS_AT_ONCE = 1024
Move = Callable[[Tensor, int], None]
"""(gradient sums (models, d), which may be written to, number of the step) -> None: moves the weights."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shadows:
    """Trained shadow models.

    Args:
        architecture: a model of their kind; its own weights do not matter.
        weights: (models, d), each in the order of the architecture's parameters.
        config: what every single one was trained by.
        reproducible: whether the draws and the noise were made with a key that others may know: then none of the models
            is private. Even if not, all of them together have cost what their number times the steps does.
    """

    architecture: nn.Module
    weights: Tensor
    config: DPSGD | NonPrivate
    reproducible: bool

    def __len__(self) -> int:
        return len(self.weights)

    def model(self, number: int) -> nn.Module:
        """Return a model of its own with the weights of shadow `number`.

        Raises:
            InvalidParameter: if there is none of this number.
        """
        number = validate.count("Shadows", "number", number)
        if number >= len(self):
            raise InvalidParameter(f"Shadows: number must be below {len(self)}, the number of models, got {number}.")
        model = copy.deepcopy(self.architecture)
        torch.nn.utils.vector_to_parameters(self.weights[number].clone(), model.parameters())
        return model

    @torch.no_grad()
    def outputs(self, features: Tensor) -> Tensor:
        """Return the outputs (models, n, k) of all models on features (n, …); only they grow with models · n.

        Raises:
            InvalidParameter: if the features do not fit the models.
        """
        chain = checked_chain(self.architecture, features)
        shape = len(self), len(features), stacked_outputs(chain, self.weights[:1], features[:0].unsqueeze(0)).shape[2]
        found = self.weights.new_empty(shape)
        for models, rows in self._pieces(chain, len(features)):
            found[models, rows] = self._outputs(chain, models, features[rows])
        return found

    @torch.no_grad()
    def losses(self, dataset: Dataset, *, loss: Loss) -> Tensor:
        """Return the losses (models, n) of all models on all records, without holding all outputs.

        Args:
            dataset: n records, those they were trained on or others.
            loss: (outputs (n, …), targets (n, …)) -> (n,), that of the training or another.

        Raises:
            InvalidParameter: if the features do not fit the models, or the loss has another shape.
        """
        chain = checked_chain(self.architecture, dataset.features)
        found = self.weights.new_empty(len(self), len(dataset))
        for models, rows in self._pieces(chain, len(dataset)):
            outputs, targets = self._outputs(chain, models, dataset.features[rows]), dataset.targets[rows]
            repeated = targets.repeat(len(outputs), *[1] * (targets.dim() - 1))
            found[models, rows] = per_example(loss, outputs.flatten(end_dim=1), repeated).view(outputs.shape[:2])
        return found

    def _outputs(self, chain: Chain, models: slice, features: Tensor) -> Tensor:
        weights = self.weights[models]
        return stacked_outputs(chain, weights, features.expand(len(weights), *features.shape))

    def _pieces(self, chain: Chain, records: int) -> Iterator[tuple[slice, slice]]:
        """Yield which models and which records to take at once."""
        entries = entries_for_row(chain)
        rows = min(max(1, ENTRIES // entries), ROWS_AT_ONCE, max(1, records))
        for models in _groups(len(self), ENTRIES // (rows * entries)):
            for start in range(0, records, rows):
                yield models, slice(start, start + rows)


def train_together(
    model: nn.Module,
    dataset: Dataset,
    config: DPSGD | NonPrivate,
    *,
    membership: Tensor | np.ndarray[Any, Any] | Sequence[Rows],
    loss: Loss,
    randomness: Source,
    initialisation_seeds: Sequence[int] | None = None,
) -> Shadows:
    """Return copies of `model`, each trained by `config` on its own part of `dataset`, all in one batched program.

    Args:
        model: a chain of `nn.Linear` and activations, such as `mlp`; it is left as it is.
        dataset: records with features (n, k).
        config: what every single model is trained by. Of DPSGD: with any sampling and a fixed bound of clipping;
            records are the unit and the noise is IndependentGaussian.
        membership: bool (models, n), whether each model's dataset has a record; or for each model the rows of `dataset`
            that its own dataset consists of, in their order: with rows that no two have, datasets of their own.
        loss: (outputs (n, …), targets (n, …)) -> one loss for each example, shape (n,).
        randomness: of draws and noise. Model number m takes the m-th run of the source from here on.
        initialisation_seeds: one for each model, of fresh weights for every layer; None starts all of them from the
            weights of `model`.

    Guarantees: with DPSGD, model m is what `train` returns for the m-th of as many calls with the same source, on the
    records that m has, up to the rounding of sums, and with its seed. No record outside a model's own dataset has any
    part in its weights, apart from that rounding, as batches are brought to the same size. The same arguments give the
    same weights, bit for bit, on one machine with one number of threads, of which one is quickest: models are small.

    Raises:
        InvalidParameter: before the first step, if something does not fit.

    >>> from dpsgd.models import mlp
    >>> from mechanisms import KeyedSource
    >>> data = Dataset(features=torch.rand(8, 2), targets=torch.arange(8) % 2)
    >>> membership = torch.tensor([[True] * 8, [True] * 7 + [False]])
    >>> shadows = train_together(mlp(2, (3,), 2), data, NonPrivate(batch_size=4, steps=9, learning_rate=0.1),
    ...                          membership=membership, loss=nn.CrossEntropyLoss(reduction="none"),
    ...                          randomness=KeyedSource(0), initialisation_seeds=range(2))
    >>> shadows.losses(data, loss=nn.CrossEntropyLoss(reduction="none")).shape
    torch.Size([2, 8])
    """
    check_no_autocast("train_together")
    chain, apart = checked_chain(model, dataset.features), Rowwise(loss=loss)
    members = checked_membership(membership, len(dataset))
    check_config(config, dataset, members)
    if isinstance(config, DPSGD):
        check_range(config, like=next(model.parameters()))
    weights = _initial_weights(model, initialisation_seeds, models=len(members))
    runs = [begin_run(randomness) for _ in members]
    records, batch = Records(dataset), _batch_size(config)
    clip = run_clipping(config, model).clip if isinstance(config, DPSGD) else None
    at_once = int(ENTRIES / (2 * weights.shape[1] + batch * entries_for_row(chain)))
    for group in _groups(len(members), min(MODELS_AT_ONCE, at_once)):
        own = nn.Parameter(weights[group])  # a view: the steps move the rows of `weights`
        draws = [_drawn(randomness, config, run, rows) for run, rows in zip(runs[group], members[group], strict=True)]
        _descend(
            chain, own, records, draws, _move(own, config, randomness, runs[group], clip), config.steps, apart, clip
        )
    return Shadows(
        architecture=copy.deepcopy(model), weights=weights, config=config, reproducible=randomness.reproducible
    )


def _descend(
    chain: Chain,
    weights: Tensor,
    records: Records,
    draws: Sequence[Callable[[int], Rows]],
    move: Move,
    steps: int,
    loss: Loss,
    clip: Clipper | None,
) -> None:
    """Take all steps of models whose weights (models, d) are moved in place."""

    def sums(batches: Batches) -> Tensor:
        return gradient_sums(chain, weights.detach(), batches, loss=loss, clip=clip)

    def on_zeros() -> None:
        sums(records.zeros(len(draws)))

    check_attempt(on_zeros, device=weights.device)
    for step in range(steps):
        with told_without_records(on_zeros, device=weights.device):
            found = sums(records.drawn([draw(step) for draw in draws]))
        move(found, step)


def _drawn(source: Source, config: DPSGD | NonPrivate, run: int, members: Rows) -> Callable[[int], Rows]:
    """Return the function from the number of a step to the rows of the dataset that a model draws."""
    if isinstance(config, DPSGD):
        places = drawn_rows(source, config, run=run, records=len(members))
    else:
        places = ordered_rows(source, config, run=run, records=len(members))
    return lambda step: members[places(step)]


def _move(
    weights: nn.Parameter, config: DPSGD | NonPrivate, source: Source, runs: Sequence[int], clip: Clipper | None
) -> Move:
    """Return what moves the weights (models, d) of a group by its gradient sums."""
    if isinstance(config, NonPrivate):
        optimizer, batch_size = config.made_optimizer(weights), config.batch_size

        def plainly(sums: Tensor, step: int) -> None:
            weights.grad = sums.div_(batch_size)
            optimizer.step()

        return plainly
    assert clip is not None
    scale = config.noise_multiplier * clip.max_grad_norm
    rate = config.learning_rate / config.expected_batch_size
    noises = [
        noising(config, source=source, run=run, like=own) for run, own in zip(runs, weights.detach(), strict=True)
    ]

    def privately(sums: Tensor, step: int) -> None:
        noisy = [noise(own, step=step, scale=scale) for noise, own in zip(noises, sums, strict=True)]
        weights.detach().sub_(torch.stack(noisy), alpha=rate)

    return privately


def _initial_weights(model: nn.Module, seeds: Sequence[int] | None, *, models: int) -> Tensor:
    """Return the weights (models, d) that training starts from."""
    if seeds is None:
        return flatten(trainable(model).values()).repeat(models, 1)
    seeds = tuple(seeds)
    if len(seeds) != models:
        raise InvalidParameter(
            f"train_together: initialisation_seeds must be as many as models, {models}, got {len(seeds)}."
        )
    return torch.stack([flatten(trainable(initialised(model, seed)).values()) for seed in seeds])


def _batch_size(config: DPSGD | NonPrivate) -> float:
    return config.expected_batch_size if isinstance(config, DPSGD) else config.batch_size


def _groups(models: int, at_once: int) -> Iterator[slice]:
    """Yield models in groups of about the same size, at most `at_once`, one at least.

    >>> list(_groups(5, 3))
    [slice(0, 3, None), slice(3, 5, None)]
    """
    size = -(-models // -(-models // max(1, at_once)))
    for start in range(0, models, size):
        yield slice(start, min(start + size, models))
