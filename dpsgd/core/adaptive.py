"""Flat clipping at a bound that follows a quantile of the gradients' norms; what it costs is told in `dpsgd.clipping`.

**Exact counts.** The count is a multiple of 1/2, its noise an ideal normal rounded by `mechanisms.core.exact_noise`: no
floating-point gap. The draws of a step are its own part of a stream of their own, a pure function of (run, step).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from torch import Tensor

from dpsgd.clipping import LOG_RANGE, AdaptiveQuantile
from dpsgd.core.batches import STEP
from dpsgd.core.clippers import FlatClipper, Seen, norms
from dpsgd.core.places import Place
from dpsgd.core.saved import State
from mechanisms import InvalidParameter, Source
from mechanisms.core import validate
from mechanisms.core.exact_noise import HalfNormal, grid, released

STREAM = "count"
NOTHING = 2.0**-30
"""Share of the bound up to which a gradient counts as 0: norms may be rounded up, so that 0 itself is not met."""


@dataclass(slots=True, kw_only=True, eq=False)
class AdaptiveClipper(FlatClipper):
    """c_i = min(1, C_t / ‖g_i‖); `max_grad_norm` is C_t, and moves after every step.

    Args:
        clipping: what moves it.
        initial: C, where it begins.
        expected_batch_size: public, what counts are divided by.
    """

    clipping: AdaptiveQuantile
    initial: float
    expected_batch_size: float
    _log_ratio: float = 0.0

    def count(self, seen: Seen) -> float:
        """Return Σ s_i over the examples seen in a step at the present bound: private."""
        return math.fsum(_centred_count(squares, found, self.max_grad_norm) for squares, found in seen)

    def noisy_count(self, count: float, *, source: Source, run: int, step: int) -> float:
        """Return the count with noise, and move the bound by it.

        Args:
            count: Σ s_i over the examples of the step.
            source: where the noise comes from, its streams "clipping count" and, for ties, "clipping count digits".
            run: where the run begins, see `dpsgd.core.runs`.
            step: its number, from 0.
        """
        on = grid("AdaptiveQuantile", Fraction(self.clipping.count_noise_multiplier) / 2, None)
        part = Place(source, "clipping", run + step * STEP)
        noisy: float = released(np.array(count), on=on, law=HalfNormal(), randomness=part, stream=STREAM)
        self._move_to(
            self.clipping.moved(self._log_ratio, noisy_count=noisy, expected_batch_size=self.expected_batch_size)
        )
        return noisy

    def state_dict(self) -> State:
        """Return what the next step's bound follows from: public."""
        return {"log_ratio": self._log_ratio}

    def load_state_dict(self, state: State) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            InvalidParameter: if it is not what that could have returned.
        """
        if set(state) != {"log_ratio"}:
            raise InvalidParameter(f"AdaptiveClipper: state must have just log_ratio, got {sorted(state)}.")
        log_ratio = validate.finite("AdaptiveClipper", "log_ratio", state["log_ratio"])
        if abs(log_ratio) > LOG_RANGE:
            raise InvalidParameter(f"AdaptiveClipper: log_ratio must lie within ±20 log 2, got {log_ratio}.")
        self._move_to(log_ratio)

    def _move_to(self, log_ratio: float) -> None:
        self._log_ratio, self.max_grad_norm = log_ratio, self.initial * math.exp(log_ratio)


def _centred_count(squares: Sequence[Tensor], found: Sequence[Tensor], bound: float) -> float:
    """Return the number of examples within the bound less half of all, those left out that add nothing to the sum."""
    whole = norms(squares)
    adds = (found[0] > 0) & (whole > NOTHING * bound)
    return float((adds & (whole <= bound)).sum()) - float(adds.sum()) / 2
