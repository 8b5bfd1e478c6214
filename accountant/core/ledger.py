"""The error ledger: every error that a certified number has been widened by, one line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mechanisms.core.bounds import Bounds


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


def rounding(delta: Bounds) -> Ledger:
    """Return the one line of a closed form: how wide the enclosure of δ is, relative to its upper end.

    >>> rounding(Bounds(lower=0.75, upper=1.0))[0].bound >= 0.25
    True
    """
    bound = min(1.0, float(delta.width) / float(delta.upper)) if delta.upper > 0 else 0.0
    source = "rounding of floats, the error of the special functions included"
    return (ErrorLine(source=source, bound=bound, unit="relative", basis="validated"),)
