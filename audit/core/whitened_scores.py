"""What a white-box attack hands on of noise that is correlated over the steps, beside its scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.core.finite import finite
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Whitened:
    """What was seen of noise made white, see `audit.attacks.whitened`.

    With p_t the whitened projection of step t, in units of the clip norm, and a_t what the canary adds to it where it
    is in, one number for each canary:

    Args:
        steps: T >= 1 of them, so far.
        energies: Σ a_t², shape (m,), finite and >= 0.
        matched: Σ a_t p_t, (m,), finite.
        halfway: Σ of the projections themselves, not whitened, over the first 2^k steps, as many as there are, (m,).
        lagged: Σ p_t p_{t−1}, (m,), finite; None where canaries are not at right angles, so that they share noise, and
            what one adds shows in the projections of others.

    Raises:
        InvalidParameter: if there is no step, a number is not finite, an energy negative, or the shapes differ.
    """

    steps: int
    energies: Values
    matched: Values
    halfway: Values
    lagged: Values | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", validate.count("Whitened", "steps", self.steps, least=1))
        for name in ("energies", "matched", "halfway", "lagged"):
            given = getattr(self, name)
            if given is None:
                continue
            numbers = np.array(given, dtype=np.float64)
            if numbers.ndim != 1 or numbers.shape != np.shape(self.energies):
                raise InvalidParameter(f"Whitened: {name} must have shape (m,), as energies, got {numbers.shape}.")
            object.__setattr__(self, name, finite("Whitened", name, numbers))
        if np.any(self.energies < 0):
            raise InvalidParameter("Whitened: energies must be at least 0: they are sums of squares.")
