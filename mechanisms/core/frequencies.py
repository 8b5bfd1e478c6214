"""Frequencies of categories, estimated from answers of which each is one coin: yes or no to "is it this category?".

Let a record of the category answer yes with probability p, any other with q. With Y the share of yes,

    f̂ = (Y − q) / (p − q)    has mean f    and variance    (f p (1 − p) + (1 − f) q (1 − q)) / (n (p − q)²),

f being the share of the n records that are of the category: the records are fixed, the coins independent [WBLJ17].
These are estimates in floats: no claim about privacy rests on them, and anything may be made of released answers.

[WBLJ17] T. Wang, J. Blocki, N. Li, S. Jha. Locally Differentially Private Protocols for Frequency Estimation.
USENIX Security 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

LEAST_DIFFERENCE = 1e-150  # its square is a float


@dataclass(frozen=True, slots=True, kw_only=True)
class YesProbabilities:
    """How probable yes is.

    Args:
        own: p, of a record of the category.
        other: q, of any other record.
        difference: p − q, without the cancellation of their floats.
    """

    own: float
    other: float
    difference: float

    def frequencies(self, yes: NDArray[np.int64], records: int) -> NDArray[np.float64]:
        """Return the unbiased estimates of all frequencies; they may lie outside [0, 1].

        Args:
            yes: how many answered yes, shape (k,).
            records: n >= 1.
        """
        self._check(records)
        return np.asarray((yes / records - self.other) / self.difference, dtype=np.float64)

    def variance(self, frequency: float, records: int) -> float:
        """Return the variance of one such estimate."""
        share = validate.probability("frequency_variance", "frequency", frequency)
        count = self._check(validate.count("frequency_variance", "records", records, least=1))
        spread = share * self.own * (1.0 - self.own) + (1.0 - share) * self.other * (1.0 - self.other)
        return spread / self.difference / self.difference / count

    def _check(self, records: int) -> int:
        if not records:
            raise InvalidParameter("frequencies: answers must come from one record at least, got none.")
        if self.difference < LEAST_DIFFERENCE:
            raise InvalidParameter(
                "frequencies: the answers must depend on the records, but epsilon is 0 or too near it for floats. "
                "Use a larger epsilon."
            )
        return records
