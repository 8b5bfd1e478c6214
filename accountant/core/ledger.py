"""The error ledger: every error that a certified number has been widened by, one line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLine:
    """One source of error and its bound, already inside the ends of the bounds that carry it.

    Args:
        source: what errs, in words.
        bound: how much at most, >= 0.
        unit: whether `bound` widens "delta", shifts "epsilon", or is "relative" to delta.
        basis: "proved" if the bound follows from a theorem, "validated" if it rests on a measured constant.
    """

    source: str
    bound: float
    unit: Literal["delta", "epsilon", "relative"]
    basis: Literal["proved", "validated"]


Ledger = tuple[ErrorLine, ...]
