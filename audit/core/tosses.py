"""Canaries that are in for one step at a time: a fresh coin for each that is drawn, told when the step is released."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, distributed

from audit.canaries import SignedCoordinates
from audit.scores import Coins
from dpsgd.prescribed import Prescribed, PrescribedGradients
from mechanisms import InvalidParameter, Source
from mechanisms.core.randomness import coins

STREAM = "coins of a streaming audit"


@dataclass(slots=True, kw_only=True, eq=False)
class Tosses:
    """The coins of one step, kept from its sum to its release.

    Args:
        canaries: that they are tossed for.
        randomness: of the coins.
        untold: (drawn, tossed), bool (m,) each, of a sum that was made and not yet released; or None.
    """

    canaries: SignedCoordinates
    randomness: Source
    untold: tuple[Coins, Coins] | None = field(default=None, init=False)

    def toss(self, drawn: Tensor) -> Tensor:
        """Return which of the canaries drawn are in, by fresh coins, and keep both for the release to come.

        Raises:
            InvalidParameter: if those of an earlier sum were not told.
        """
        if self.untold is not None:
            raise InvalidParameter(
                "StreamingAudit: every release must be shown to the audit before the next sum, and one was not.\n"
                "Give the run both: train(..., prescribed=watch.prescribed, callbacks=[watch])."
            )
        count = len(self.canaries)
        tossed = coins(self.randomness, STREAM, self.randomness.reserve(STREAM, count), count, probability=0.5)
        self.untold = drawn.cpu().numpy().copy(), tossed
        return drawn & torch.from_numpy(tossed).to(drawn.device)


class TossedCanaries(Prescribed):
    """The canaries as records of a run, each in for one step at a time.

    Args:
        tosses: their coins.
        max_grad_norm: C that is claimed, and so their size.
        records: them where the run has placed them, or None.
    """

    __slots__ = ("_max_grad_norm", "_records", "_tosses")
    repeatable = False

    def __init__(self, tosses: Tosses, *, max_grad_norm: float, records: PrescribedGradients | None = None) -> None:
        self._tosses, self._max_grad_norm, self._records = tosses, max_grad_norm, records

    def __len__(self) -> int:
        return len(self._tosses.canaries)

    def check_dimension(self, dimension: int) -> None:
        """Refuse a model of another number of parameters."""
        if dimension != self._tosses.canaries.dimension:
            raise InvalidParameter(
                f"StreamingAudit: canaries must be of dimension {dimension}, the number of trainable parameters, "
                f"got {self._tosses.canaries.dimension}."
            )

    def placed(self, *, max_grad_norm: float, like: Tensor) -> TossedCanaries:
        """Return the same, clipped by the run's own norm; the size is that of the claim.

        Raises:
            InvalidParameter: if several ranks share the sums: each would toss coins of its own.
        """
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            raise InvalidParameter("StreamingAudit: the run must have one rank, and has more.")
        canaries = self._tosses.canaries
        records = canaries.prescribed(np.ones(len(canaries), np.bool_), max_grad_norm=self._max_grad_norm)
        placed = records.placed(max_grad_norm=max_grad_norm, like=like)
        assert isinstance(placed, PrescribedGradients)
        return TossedCanaries(self._tosses, max_grad_norm=self._max_grad_norm, records=placed)

    def add_to(self, total: Tensor, drawn: Tensor) -> Tensor:
        """Return the total plus the canaries that are drawn and in."""
        assert self._records is not None
        return self._records.add_to(total, self._tosses.toss(drawn))
