"""The noisy number of records for which a condition holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mechanisms.core.contributions import Contributions, numbers
from mechanisms.core.process import Mechanism
from mechanisms.core.query import NORMS, Query, array, checked_noise, derived
from mechanisms.core.randomness import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Count(Query):
    """The number of true records + noise. Any record, added, left out or replaced, moves it by at most 1.

    Args:
        noise: `Gaussian`, `Laplace`, or a discrete one of these.

    Raises:
        InvalidParameter: if the noise is of another kind.

    >>> from mechanisms import Adjacency, Gaussian, KeyedSource
    >>> Count(noise=Gaussian(noise_multiplier=2.0)).pairs(Adjacency.REPLACE_ONE)["replace"].shift.contains(0.5)
    True
    >>> Count(noise=Gaussian(noise_multiplier=0.0)).release([True, False, True], randomness=KeyedSource(0))
    2.0
    """

    noise: Mechanism

    def __post_init__(self) -> None:
        checked_noise("Count", self.noise, tuple(NORMS))

    @property
    def contributions(self) -> Contributions:
        """0 or 1."""
        return numbers(0, 1)

    @property
    def sensitivity(self) -> float:
        """1."""
        return 1.0

    def release(self, value: Any, *, sensitivity: float | None = None, randomness: Source) -> Any:
        """Return the noisy count, a float or, of discrete noise, an int; of no records, noise.

        Args:
            value: booleans, shape (n,): which records to count, such as `ages > 65`.
            sensitivity: must be left out.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the value is no such array or a sensitivity is given.
        """
        derived("Count", sensitivity)
        return self.noisy(int(np.sum(array("Count", value, kinds="b", what="booleans"))), randomness)
