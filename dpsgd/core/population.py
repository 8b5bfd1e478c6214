"""All that may be sampled in a run: whose clipped contributions a step sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsgd.augmentation import Augmentation
from dpsgd.config import DPSGD
from dpsgd.core.batches import Rows
from dpsgd.core.physical import added, checked_physical_batch, even_parts, uneven_parts
from dpsgd.core.users import holdings_of
from dpsgd.datasets import Dataset
from dpsgd.gradients import GradientSum
from dpsgd.prescribed import PrescribedGradients
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
    """

    dataset: Dataset
    clipped_sum: GradientSum
    augmentation: Augmentation | None = None
    source: Source | None = None

    @property
    def copies(self) -> int:
        """Rows of the model for one row of the dataset."""
        return self.augmentation.copies if self.augmentation is not None else 1

    def sum_of(self, rows: Rows, shares: Tensor | None, position: int) -> Tensor:
        """Return the clipped sum of units of one row each (n,), or of several with their shares, both (n, width)."""
        flat = rows.reshape(-1)
        taken = torch.from_numpy(flat).to(self.dataset.features.device)
        features = self.dataset.features.index_select(0, taken)
        targets = self.dataset.targets.index_select(0, taken)
        if self.augmentation is not None and len(flat):
            assert self.source is not None
            copies = self.augmentation.of(features, flat, source=self.source, position=position)
            features, targets = copies.flatten(end_dim=1), targets.repeat_interleave(self.copies, 0)
        width = self.copies * (1 if shares is None else rows.shape[1])
        if width == 1 or not len(flat):
            return self.clipped_sum(features, targets)
        if shares is None:
            shares = torch.ones(len(rows), 1, dtype=torch.float64)
        shares = (shares / self.copies).repeat_interleave(self.copies, 1).to(features.device)
        return self.clipped_sum(
            features.reshape(len(rows), width, *features.shape[1:]),
            targets.reshape(len(rows), width, *targets.shape[1:]),
            shares,
        )


def population_of(config: DPSGD, examples: Examples, *, largest_physical_batch: object = None) -> Population:
    """Return the population of the configuration's units.

    Args:
        config: says what a unit is.
        examples: of the dataset.
        largest_physical_batch: most rows, copies counted, that are in memory at once; None for no bound.

    Raises:
        InvalidParameter: if the dataset does not fit the unit, the augmentation its features, or a unit the bound.
    """
    check_owners(config, examples.dataset)
    if examples.augmentation is not None:
        examples.augmentation.check(examples.dataset.features)
    unit_rows = (config.examples_per_user or 1) * examples.copies
    largest = checked_physical_batch(largest_physical_batch, unit_rows=unit_rows)
    rows = None if largest is None else largest // examples.copies
    if config.examples_per_user is None:
        return _of_records(examples, rows)
    assert examples.dataset.owners is not None
    return _of_users(examples, examples.dataset.owners, config.examples_per_user, rows)


def _of_records(examples: Examples, largest: int | None) -> Population:
    def sum_of(rows: Rows, position: int) -> Tensor:
        return added(examples.sum_of(part, None, position) for part in even_parts(rows, largest))

    return Population(units=len(examples.dataset), clipped_sum=sum_of)


def _of_users(examples: Examples, owners: Tensor, examples_per_user: int, largest: int | None) -> Population:
    holdings = holdings_of(owners, examples_per_user=examples_per_user)

    def sum_of(users: Rows, position: int) -> Tensor:
        parts = uneven_parts(holdings.counts[users], largest)
        return added(examples.sum_of(*holdings.rectangle(users[part]), position) for part in parts)

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
    real: Population, prescribed: PrescribedGradients, *, max_grad_norm: float, like: Tensor
) -> Population:
    """Return the real units followed by the prescribed ones, whose parts are drawn whether included or not."""
    prescribed.check_dimension(len(like))
    coordinates = prescribed.coordinates.to(like.device)
    contributions = prescribed.contributions(max_grad_norm=max_grad_norm, dtype=like.dtype).to(like.device)

    def sum_of(rows: Rows, position: int) -> Tensor:
        drawn = torch.zeros(len(prescribed), dtype=torch.bool)
        drawn[torch.from_numpy(rows[rows >= real.units] - real.units)] = True
        total = real.clipped_sum(rows[rows < real.units], position)
        return total.index_add_(0, coordinates, torch.where(drawn.to(like.device), contributions, 0.0))

    return Population(units=real.units + len(prescribed), clipped_sum=sum_of)
