"""All that may be sampled in a run: whose clipped contributions a step sums."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpsgd.augmentation import Augmentation
from dpsgd.config import DPSGD
from dpsgd.core.batches import Rows
from dpsgd.core.clippers import Clipper, FlatClipper
from dpsgd.core.conduct import Conduct
from dpsgd.core.failures import told_without_records
from dpsgd.core.physical import added, checked_physical_batch, even_parts, uneven_parts
from dpsgd.core.users import holdings_of
from dpsgd.core.whole import WHOLE
from dpsgd.datasets import Dataset
from dpsgd.gradients import GradientSum
from dpsgd.prescribed import Clippable, Layers, Prescribed
from mechanisms import InvalidParameter, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """How many units there are, and the sum of the clipped contributions of some of them, each as often as it is drawn.

    Args:
        units: the number that the sampling scheme draws from: of records or of users.
        clipped_sum: from the units drawn, shape (m,), and the position where the step's draws begin in the streams
            (`dpsgd.core.batches`), to the flat sum (d,).
    """

    units: int
    clipped_sum: Callable[[Rows, int], Tensor]


@dataclass(slots=True, kw_only=True, eq=False)
class Examples:
    """The clipped sums of rectangles of a dataset's rows, with their copies where they have some.

    Args:
        dataset: the rows.
        clipped_sum: of features and targets.
        augmentation: of every row, or None.
        source: where the copies' randomness comes from, known once the run has begun.
        most_rows: public bound on the rows of a unit.
    """

    dataset: Dataset
    clipped_sum: GradientSum
    augmentation: Augmentation | None = None
    source: Source | None = None
    most_rows: int = 1

    @property
    def copies(self) -> int:
        """Rows of the model for one row of the dataset."""
        return self.augmentation.copies if self.augmentation is not None else 1

    def sum_of(self, units: Rows, position: int, rows: Rows, shares: Tensor | None = None) -> Tensor:
        """Return the clipped sum of units (n,) of one row each (n,), or of several with their shares, both (n, width).

        Raises:
            InvalidParameter: if model or loss end with an error, which is told without what records hold.
        """
        with told_without_records(self.sum_of_zeros, device=self.dataset.features.device):
            return self._sum_of(units, position, rows, shares)

    def sum_of_zeros(self) -> Tensor:
        """Return the clipped sum of one record of zeros: shapes and types alone are the dataset's.

        Where units may have several rows, one of two goes the same way: whether any is drawn later is private.
        """
        zeros = Dataset(features=_zeros_like(self.dataset.features), targets=_zeros_like(self.dataset.targets))
        alone = dataclasses.replace(self, dataset=zeros)
        first = np.zeros(1, dtype=np.int64)
        if self.most_rows > 1:
            alone._sum_of(
                first, 0, np.zeros((1, 2), dtype=np.int64), torch.full((1, 2), 0.5, dtype=torch.float64, device="cpu")
            )
        return alone._sum_of(first, 0, first, None)

    def _sum_of(self, units: Rows, position: int, rows: Rows, shares: Tensor | None) -> Tensor:
        each, flat = 1 if shares is None else rows.shape[1], rows.reshape(-1)
        taken = torch.from_numpy(flat).to(self.dataset.features.device)
        features = self.dataset.features.index_select(0, taken)
        targets = self.dataset.targets.index_select(0, taken)
        if self.augmentation is not None and len(flat):
            assert self.source is not None
            copies = self.augmentation.of(features, units, source=self.source, position=position, width=each)
            features, targets = copies.flatten(end_dim=1), targets.repeat_interleave(self.copies, 0)
        width = self.copies * each
        if width == 1 or not len(flat):
            return self.clipped_sum(features, targets)
        if shares is None:
            shares = torch.ones(len(rows), 1, dtype=torch.float64, device="cpu")
        shares = (shares / self.copies).repeat_interleave(self.copies, 1).to(features.device)
        return self.clipped_sum(
            features.reshape(len(rows), width, *features.shape[1:]),
            targets.reshape(len(rows), width, *targets.shape[1:]),
            shares,
        )


def _zeros_like(rows: Tensor) -> Tensor:
    return rows.new_zeros(1, *rows.shape[1:])


def population_of(config: DPSGD, examples: Examples, *, largest_physical_batch: object = None) -> Population:
    """Return the population of the configuration's units.

    Args:
        config: says what a unit is.
        examples: of the dataset.
        largest_physical_batch: most rows, copies counted, that are in memory at once; None for no bound.

    Raises:
        InvalidParameter: if the dataset does not fit the unit, or a unit the bound.
    """
    check_owners(config, examples.dataset)
    unit_rows = (config.examples_per_user or 1) * examples.copies
    largest = checked_physical_batch(largest_physical_batch, unit_rows=unit_rows)
    rows = None if largest is None else largest // examples.copies
    alone = units_alone(config, largest_physical_batch=largest_physical_batch, copies=examples.copies)
    if config.examples_per_user is None:
        return records_of(examples, 1 if alone else rows)
    assert examples.dataset.owners is not None
    return _of_users(examples, examples.dataset.owners, config.examples_per_user, rows, alone=alone)


def units_alone(config: DPSGD, *, largest_physical_batch: object, copies: int) -> bool:
    """Return whether every unit goes through copies, model and loss by itself, in tensors of its own rows alone.

    Then its contribution is a function of the unit and the weights to the last bit, in whatever precision. So it is for
    exact noise, which asks for that, and of records of which one is in memory at a time.

    Raises:
        InvalidParameter: if the largest physical batch is none.
    """
    largest = checked_physical_batch(largest_physical_batch, unit_rows=(config.examples_per_user or 1) * copies)
    return isinstance(config.noise, WHOLE) or (config.unit == "record" and largest is not None and largest < 2 * copies)


def runs_alone(config: DPSGD, conduct: Conduct) -> bool:
    """Return whether every unit of a run goes by itself: see `units_alone`."""
    copies = 1 if conduct.augmentation is None else conduct.augmentation.copies
    return units_alone(config, largest_physical_batch=conduct.largest_physical_batch, copies=copies)


def records_of(examples: Examples, largest: int | None) -> Population:
    """Return the population of a dataset's records, of which at most `largest` are in memory at once."""

    def sum_of(rows: Rows, position: int) -> Tensor:
        if largest is None:
            return examples.sum_of(rows, position, rows)
        return added(examples.sum_of(part, position, part) for part in even_parts(rows, largest))

    return Population(units=len(examples.dataset), clipped_sum=sum_of)


def _of_users(
    examples: Examples, owners: Tensor, examples_per_user: int, largest: int | None, *, alone: bool
) -> Population:
    holdings = holdings_of(owners, examples_per_user=examples_per_user)

    def sum_of(users: Rows, position: int) -> Tensor:
        parts = even_parts(np.arange(len(users)), 1) if alone else uneven_parts(holdings.counts[users], largest)
        return added(examples.sum_of(users[part], position, *holdings.rectangle(users[part])) for part in parts)

    return Population(units=len(holdings), clipped_sum=sum_of)


def check_owners(config: DPSGD, dataset: Dataset) -> None:
    """Refuse a dataset with owners where records are the unit, and one without where users are.

    Raises:
        InvalidParameter: if what is protected is not what the dataset is about.
    """
    if config.unit == "user" and dataset.owners is None:
        raise InvalidParameter(
            "steps: dataset must have owners where config.unit is 'user', and has none.\n"
            "Say to whom each row belongs: Dataset(features=..., targets=..., owners=...)."
        )
    if config.unit == "record" and dataset.owners is not None:
        raise InvalidParameter(
            "steps: config.unit must be 'user' for a dataset with owners, got 'record': a user of several records "
            "would have a weaker guarantee than the ε shown.\nUse DPSGD(unit='user', examples_per_user=...), or, if "
            "records are what is to be protected, a Dataset without owners."
        )


def with_prescribed(
    real: Population, prescribed: Prescribed, *, clip: Clipper, layers: Layers, like: Tensor
) -> Population:
    """Return the real units followed by the prescribed ones, whose parts are drawn whether included or not.

    Args:
        real: units of the dataset.
        prescribed: those that follow.
        clip: of the run; a bound that stays where it is is brought upon them once and for all.
        layers: of the model.
        like: any tensor (d,) of the dtype and device of the sums.
    """
    prescribed.check_dimension(len(like))
    add = _adding(prescribed, clip=clip, layers=layers, like=like)

    def sum_of(rows: Rows, position: int) -> Tensor:
        total = real.clipped_sum(rows[rows < real.units], position)
        times = np.bincount(rows[rows >= real.units] - real.units, minlength=len(prescribed))
        for least in range(max(1, int(times.max(initial=0)))):  # drawn with replacement a record counts k times
            total = add(total, torch.from_numpy(times > least))
        return total

    return Population(units=real.units + len(prescribed), clipped_sum=sum_of)


def _adding(
    prescribed: Prescribed, *, clip: Clipper, layers: Layers, like: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    if type(clip) is FlatClipper or not isinstance(prescribed, Clippable):
        return prescribed.placed(max_grad_norm=clip.max_grad_norm, like=like).add_to
    return functools.partial(prescribed.add_clipped_to, clip=clip, layers=layers)


def with_absent(all_: Population, present: Tensor) -> Population:
    """Return a population in which units that are not `present`, bool (units,), are drawn in vain.

    Raises:
        InvalidParameter: if `present` is no such tensor.
    """
    if not isinstance(present, Tensor) or present.dtype != torch.bool or present.shape != (all_.units,):
        raise InvalidParameter("steps: present must be a torch.bool tensor with one entry for each record.")
    mask = present.cpu().numpy()
    return Population(units=all_.units, clipped_sum=lambda rows, at: all_.clipped_sum(rows[mask[rows]], at))
