"""What watches one run of a loop with Opacus: releases as the optimiser steps, and canaries before it clips.

Where gradients of examples are there to be clipped, those of canaries are written over. With ghost clipping only their
norms are: these are written over, the weights that Opacus gives them are taken away from what stands in for the
canaries, and what the weights leave of the canaries' gradients is added to the clipped sum. So weights, sum, noise and
samples are Opacus's own; that its second backward pass applies its weights to other examples is for input canaries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audit.attack import Observe
from audit.canaries import GradientCanaries
from audit.core.expected_sums import ROWS_AT_ONCE, clipped_sum_of, parameterwise_sum
from audit.core.faults import TrainerRefusal
from audit.core.opacus_loops import Fetched, pieces, without_hooks, write_over
from audit.core.regularity import Regularity
from audit.trainers import final_model
from dpsgd import Release
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.generators import set_apart
from dpsgd.core.parameters import trainable
from dpsgd.core.population import records_of
from dpsgd.losses import Loss

if TYPE_CHECKING:
    from audit.opacus import OpacusTrainer

NEEDED = ("original_optimizer", "clip_and_accumulate", "expected_batch_size", "params")
ROUND_OFF = 1e-6  # of the bounds of layers, whose squares Opacus adds up in float32
OVER = 10.0  # times the bound: what does not clip adds ten contributions, what does adds one
LOST = (
    "a step of ghost clipping must be of one batch, and there were more: every backward pass of Opacus clears the sum, "
    "so that the last batch alone would count.\nLeave out the accumulation, or have BatchMemoryManager split batches."
)
MOVES = (
    "A bound that adapts follows from how many gradients of a batch it left whole. Opacus adds noise to that number as "
    "if a record moved it by a half, and divides it by the size of the batch: no claim made here describes this, and "
    "the noisy sums alone do not show it. AdaptiveQuantile of dpsgd can be audited."
)

Places = NDArray[np.int64]
Rows = NDArray[np.float64]


@dataclass(slots=True, kw_only=True, eq=False)
class Watch:
    """What a loop calls once with its model, optimiser and loader.

    Args:
        dataset: what the loop trains on.
        known: number of records that are no canaries, which come first.
        canaries: whose gradients are written over; None where canaries are records.
        membership: of the canaries.
        max_grad_norm: C.
        poisson_sampling: whether samples must be Poisson ones.
        loss: one for each example.
        observe: where releases go.
    """

    dataset: Fetched
    known: int
    canaries: GradientCanaries | None
    membership: NDArray[np.bool_]
    max_grad_norm: float
    poisson_sampling: bool
    loss: Loss
    observe: Observe | None = None
    optimizer: Any = None
    model: nn.Module | None = None
    bare: nn.Module | None = None
    rate: float = 0.0
    regularity: Regularity | None = None
    steps: int = 0
    clipped: int = 0
    written: bool = False
    _counted: Tensor | None = None
    _expected: Callable[[Tensor], Tensor] | None = field(default=None)

    def __call__(self, model: nn.Module, optimizer: Any, loader: Any) -> None:
        """Watch what `make_private` returned.

        Raises:
            TrainerRefusal: if it is not what Opacus makes, or has another bound or parameters, or comes a second time;
                or if the loss is not one for each example.
        """
        if self.optimizer is not None:
            raise TrainerRefusal("opacus_trainer: watch must be called once in a run, and was called again.")
        bare = getattr(model, "_module", model)
        self._check(bare, optimizer)
        self.optimizer, self.model = optimizer, bare
        self.bare = without_hooks(self.model)
        self._check_loss(self.bare)
        self.rate = self._rate(loader)
        optimizer.original_optimizer.register_step_pre_hook(lambda *_: self._release())
        self.dataset.order.clear()  # to make a loader takes a record, for its shape
        if hasattr(optimizer, "accumulate") and hasattr(optimizer, "zero_grad"):  # clips within the backward pass
            self._count_batches(optimizer)
        if self.poisson_sampling:
            self.regularity = Regularity(records=len(self.dataset), probability=self.rate)
        if self.canaries is not None and hasattr(model, "get_clipping_coef"):
            self._haunt(model, optimizer)
        elif self.canaries is not None:
            clip = optimizer.clip_and_accumulate

            def write_over_and_clip() -> None:
                self._write_over()
                clip()

            optimizer.clip_and_accumulate = write_over_and_clip

    def _count_batches(self, optimizer: Any) -> None:
        """Refuse several batches a step of ghost clipping: each backward pass of Opacus clears what the last left.

        A batch that `BatchMemoryManager` adds to others is accumulated before the next one's pass, and so is kept.
        """
        clear, accumulate = optimizer.zero_grad, optimizer.accumulate
        batches: list[Any] = []

        def note_and_clear(*given: Any, **named: Any) -> None:
            norms = getattr(optimizer.params[0], "_norm_sample", None)
            if norms is not None and not any(norms is seen for seen in batches):
                batches.append(norms)
            clear(*given, **named)

        def check_and_accumulate() -> None:
            if len(batches) > 1 + (self._counted is not None):
                raise TrainerRefusal(f"opacus_trainer: {LOST}")
            self._counted = batches[-1] if batches else None
            batches[:] = batches[-1:]
            accumulate()

        optimizer.zero_grad, optimizer.accumulate = note_and_clear, check_and_accumulate

    def _haunt(self, model: Any, optimizer: Any) -> None:
        """Have canaries take part in ghost clipping."""
        weights_of, accumulate = model.get_clipping_coef, optimizer.accumulate
        owed: list[Tensor] = []

        def write_over_and_weigh() -> Tensor:
            places, rows = self._waiting([len(optimizer.params[0]._norm_sample)])
            blocks = torch.split(torch.from_numpy(rows), [one.numel() for one in optimizer.params], dim=1)
            for parameter, block in zip(optimizer.params, blocks, strict=True):
                norms = parameter._norm_sample
                norms[torch.from_numpy(places)] = block.norm(dim=1).to(norms)
            weights: Tensor = weights_of().clone()
            taken = weights[torch.from_numpy(places)]
            weights[torch.from_numpy(places)] = 0.0
            owed[:] = [(taken.to(block)[:, None] * block).sum(dim=0) for block in blocks]
            return weights

        def add_and_accumulate() -> None:
            for parameter, left in zip(optimizer.params, owed, strict=False):
                parameter.grad += left.reshape(parameter.shape).to(parameter.grad)
            owed.clear()
            accumulate()

        model.get_clipping_coef, optimizer.accumulate = write_over_and_weigh, add_and_accumulate

    def expected_sum(self, weights: Tensor, trainer: OpacusTrainer) -> Tensor:
        """Return what the known records add to a step on average, at these weights."""
        if self._expected is None:
            assert self.bare is not None
            bounds = getattr(self.optimizer, "max_grad_norms", None)
            if bounds is not None:
                summed = parameterwise_sum(self.bare, trainer.records, loss=trainer.loss, bounds=bounds)
            else:
                summed = clipped_sum_of(
                    self.bare,
                    trainer.records,
                    loss=trainer.loss,
                    clipper=lambda _: FlatClipper(max_grad_norm=trainer.max_grad_norm),
                    population=lambda examples: records_of(examples, ROWS_AT_ONCE),
                )
            self._expected = lambda flat: summed(flat).mul_(self.rate * self.optimizer.accumulated_iterations)
        return self._expected(weights)

    def _rate(self, loader: Any) -> float:
        """Return how often a record takes part in a step, on average."""
        if not self.poisson_sampling:
            return 1 / len(loader)
        rate = getattr(loader, "sample_rate", None)
        if rate is None:
            raise TrainerRefusal(
                f"opacus_trainer: loader must draw Poisson samples, as make_private has one do, got "
                f"{type(loader).__name__}, which has no sample_rate.\nGive poisson_sampling=False where the loop does, "
                "and claim what it draws, such as Repeat(Allocated(Repeat(Gaussian(...), steps), Shuffled()), epochs)."
            )
        if not 0 < float(rate) <= 1:
            raise TrainerRefusal(f"opacus_trainer: loader.sample_rate must lie in (0, 1], got {rate}.")
        return float(rate)

    def end(self) -> None:
        """Release the final model, if there is one.

        Raises:
            TrainerFault: if steps took records too regularly for the samples that they were to be drawn by.
        """
        if self.regularity is not None:
            self.regularity.check()
        if self.model is not None and self.bare is not None and self.observe is not None:
            self.bare.load_state_dict(self.model.state_dict())
            self.observe(final_model(self.bare, self.loss))

    def _check(self, model: nn.Module, optimizer: Any) -> None:
        missing = [name for name in NEEDED if not hasattr(optimizer, name)]
        if missing:
            raise TrainerRefusal(
                f"opacus_trainer: optimizer must be what make_private returned, got {type(optimizer).__name__}, "
                f"which has no {missing[0]}."
            )
        if hasattr(optimizer, "target_unclipped_quantile"):
            raise TrainerRefusal(f"opacus_trainer: clipping must be 'flat' or 'per_layer', got 'adaptive'.\n{MOVES}")
        if not math.isclose(optimizer.max_grad_norm, self.max_grad_norm, rel_tol=ROUND_OFF):
            used, claimed = optimizer.max_grad_norm, self.max_grad_norm
            raise TrainerRefusal(f"opacus_trainer: max_grad_norm must be the optimizer's, {used}, got {claimed}.")
        if list(map(id, optimizer.params)) != list(map(id, trainable(model).values())):
            raise TrainerRefusal("opacus_trainer: optimizer must hold model.parameters() in their order, got others.")
        dimension = sum(parameter.numel() for parameter in optimizer.params)
        if self.canaries is not None and self.canaries.dimension != dimension:
            raise TrainerRefusal(
                f"opacus_trainer: canaries must have the dimension of the model, {dimension} trainable parameters, "
                f"got {self.canaries.dimension}."
            )

    def _check_loss(self, model: nn.Module) -> None:
        some = slice(0, 2)
        records, device = self.dataset.records, next(model.parameters()).device
        with torch.no_grad(), set_apart(device):
            losses = self.loss(model(records.features[some].to(device)), records.targets[some].to(device))
        if losses.shape != records.targets[some].shape[:1]:
            raise TrainerRefusal(
                f"opacus_trainer: loss must be one for each example, and for {len(records.targets[some])} it has the "
                f"shape {tuple(losses.shape)}.\nGive it reduction='none'; the loop keeps its own."
            )

    def _check_unmoved(self) -> None:
        """Refuse a bound that moves, which data may have moved: it is not told where to."""
        if not math.isclose(self.optimizer.max_grad_norm, self.max_grad_norm, rel_tol=ROUND_OFF):
            raise TrainerRefusal(
                f"opacus_trainer: max_grad_norm must stay {self.max_grad_norm} in every step, and it moved.\n{MOVES}"
            )

    def _release(self) -> None:
        """Hand over weights and noisy sum, as the optimiser is about to step."""
        assert self.observe is not None
        self._check_unmoved()
        if self.canaries is not None and not self.written:
            what = "canaries must be InputCanaries where neither gradients nor norms of examples can be written over"
            raise TrainerRefusal(f"opacus_trainer: {what}.")
        self.written = False
        optimizer, parameters = self.optimizer, self.optimizer.params
        divisor = 1.0
        if optimizer.loss_reduction == "mean":
            divisor = optimizer.expected_batch_size * optimizer.accumulated_iterations
        with torch.no_grad():
            weights = torch.cat([parameter.reshape(-1) for parameter in parameters])
            noisy_sum = torch.cat([parameter.grad.reshape(-1) for parameter in parameters]) * divisor
        if self.regularity is not None:
            self.regularity.add(self.dataset.order)
        self.dataset.order.clear()
        step, self.steps, self.clipped = self.steps, self.steps + 1, 0
        self.observe(Release(step=step, weights_before=weights, noisy_sum=noisy_sum, max_grad_norm=self.max_grad_norm))

    def _write_over(self) -> None:
        """Give the canaries among the examples about to be clipped their gradients."""
        waiting = [list(pieces(parameter)) for parameter in self.optimizer.params]
        places, rows = self._waiting(list(map(len, waiting[0])))
        start = 0
        for parameter, samples in zip(self.optimizer.params, waiting, strict=True):
            block = torch.from_numpy(rows[:, start : start + parameter.numel()])
            write_over(samples, places, block.reshape(-1, *parameter.shape))
            start += parameter.numel()

    def _waiting(self, batches: list[int]) -> tuple[Places, Rows]:
        """Return where canaries lie among the examples of batches about to be clipped, and their gradients there."""
        assert self.canaries is not None
        self.written = True
        order = np.array(self.dataset.order[self.clipped :], dtype=np.int64)
        self.clipped = len(self.dataset.order)
        if len(order) != sum(batches):
            raise TrainerRefusal(
                "opacus_trainer: every record fetched must have one gradient until the optimizer steps, and there are "
                "more or fewer.\nFetch them with num_workers=0, use each batch once, and leave out rand_on_empty."
            )
        places = np.flatnonzero(order >= self.known)
        drawn = order[places] - self.known
        return places, self.canaries.rows(drawn) * (OVER * self.max_grad_norm * self.membership[drawn])[:, None]
