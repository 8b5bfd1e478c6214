"""Held-out events: learn on one half of the outputs what sets two worlds apart, and count on the other.

Whatever is learnt on the first half, an event that it fixes is a test fixed before the second half was looked at, so
exact limits of its two error rates there hold at their level.

[KMRA23] W. Kong, A. Muñoz Medina, M. Ribero, U. Syed. DP-Auditorium: a Large Scale Library for Auditing Differential
Privacy. 2023. arXiv:2307.05608.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from audit.core import doors
from audit.core.binomial import upper_limit
from audit.core.counts import Array, rectangle_bound, rectangle_refutes
from audit.core.rankings import Ranking
from audit.evidence import Estimator, Guarantee, check_level
from audit.scores import Design, IndependentRuns, LabelledScores
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Process

Counts = NDArray[np.intp]
LEAST_GAP = 1e-9  # relative, between ranks that are taken for different


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Halves:
    """The outputs of a mechanism in two worlds, every second one of each held out; or of several sets of runs.

    Args:
        first: outputs of the first world to learn from, shape (n, k), or (sets, n, k); so `second`.
        second: of the second world.
        first_held: those held out of the first world; so `second_held`.
        second_held: of the second world.
    """

    first: Array
    second: Array
    first_held: Array
    second_held: Array

    @classmethod
    def of(cls, owner: str, first: ArrayLike, second: ArrayLike, *, least: int = 2, sets: bool = False) -> Halves:
        """Return the halves, by position, of outputs (n,) or (n, k) of either world; (sets, n, k) where there are sets.

        Raises:
            InvalidParameter: if a world has fewer than `least` outputs, an output is not finite, or shapes do not fit.
        """
        worlds = [_outputs(owner, name, values, least, sets) for name, values in (("first", first), ("second", second))]
        if worlds[0].shape[-1] != worlds[1].shape[-1]:
            raise InvalidParameter(
                f"{owner}: outputs of both worlds must have as many coordinates, "
                f"got {worlds[0].shape[-1]} and {worlds[1].shape[-1]}."
            )
        if worlds[0].shape[:-2] != worlds[1].shape[:-2]:
            raise InvalidParameter(f"{owner}: outputs of both worlds must be of as many sets of runs.")
        learnt, held = ([world[..., start::2, :] for world in worlds] for start in (0, 1))
        return cls(first=learnt[0], second=learnt[1], first_held=held[0], second_held=held[1])

    @property
    def parts(self) -> tuple[Array, Array, Array, Array]:
        """All four."""
        return self.first, self.second, self.first_held, self.second_held

    def each(self) -> Iterator[Halves]:
        """Yield the halves of every set by itself."""
        for first, second, first_held, second_held in zip(*self.parts, strict=True):
            yield Halves(first=first, second=second, first_held=first_held, second_held=second_held)


class OutputsEstimator(Estimator):
    """A lower bound of ε from what a computation gave in two worlds: scores, or whatever else it answered.

    Guarantees: at most the true ε with probability `confidence`, for any computation and anything that is learnt on the
    first half, if the runs are independent. With few outputs, or a poor guess of what sets the worlds apart, it is
    small but not wrong.
    """

    __slots__ = ()

    designs: ClassVar[tuple[type[Design], ...]] = (IndependentRuns,)
    guarantee: ClassVar[Guarantee] = "frequentist"

    @abstractmethod
    def bound(self, first: ArrayLike, second: ArrayLike, *, delta: float, confidence: float) -> float:
        """Return the largest ε refuted, 0 if none is.

        Args:
            first: outputs of the mechanism on one input, shape (n,) or (n, k), n >= 2 (Rényi: 4), finite.
            second: on a neighbouring input, as many coordinates; n may differ.
            delta: in [0, 1).
            confidence: in (0, 1), one-sided.

        Raises:
            InvalidParameter: if a value breaks its rule.
        """

    @abstractmethod
    def refutes(
        self, first: ArrayLike, second: ArrayLike, epsilon: ArrayLike, *, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether (ε, δ) is refuted: the test that `bound` inverts.

        Arguments are as there; outputs of several sets of runs have shape (sets, n, k), the answer then (sets,).
        """

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound from the scores, whatever the guesses; the process plays no part."""
        return self.bound(data.included, data.excluded, delta=delta, confidence=confidence)

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether (ε, δ) is refuted; the process plays no part."""
        return self.refutes(data.included, data.excluded, epsilon, delta=delta, confidence=confidence)


class HeldOutEvent(OutputsEstimator):
    """A lower bound of ε from one event that is fixed on the first half of the outputs."""

    __slots__ = ()

    @abstractmethod
    def errors(self, halves: Halves, *, delta: float, level: float) -> tuple[Counts, Counts]:
        """Return how many outputs held out the event misses, and how many it takes falsely, for each set of runs.

        Args:
            halves: of one set of runs, or several.
            delta: in [0, 1).
            level: at which limits of both error rates will be taken: the event is to show most at them.
        """

    def bound(self, first: ArrayLike, second: ArrayLike, *, delta: float, confidence: float) -> float:
        """Return the largest ε refuted by exact limits of the event's two error rates, 0 if none is."""
        check_level(self.name, delta=delta, confidence=confidence)
        missed, alarms = self._limits(Halves.of(self.name, first, second), delta, confidence)
        return float(rectangle_bound(missed, alarms, delta=delta))

    def refutes(
        self, first: ArrayLike, second: ArrayLike, epsilon: ArrayLike, *, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, or set by set, whether those limits refute (ε, δ)."""
        check_level(self.name, delta=delta, confidence=confidence)
        asked = doors.losses(self.name, epsilon)
        missed, alarms = self._limits(Halves.of(self.name, first, second, sets=True), delta, confidence)
        return rectangle_refutes(missed, alarms, epsilon=asked, delta=delta)

    def ceiling(self, data: LabelledScores, *, delta: float, confidence: float) -> float:
        """Return the bound that no error at all on the held-out half would give."""
        held = Halves.of(self.name, data.included, data.excluded)
        level = (1 - confidence) / 2
        limits = (upper_limit(0, len(held.first_held), level), upper_limit(0, len(held.second_held), level))
        return float(rectangle_bound(*limits, delta=delta))

    def _limits(self, halves: Halves, delta: float, confidence: float) -> tuple[Array, Array]:
        """Return the upper limits of both error rates of the event on the held-out half."""
        level = (1 - confidence) / 2
        missed, alarms = self.errors(halves, delta=delta, level=level)
        held = halves.first_held.shape[-2], halves.second_held.shape[-2]
        return upper_limit(missed, held[0], level), upper_limit(alarms, held[1], level)


class RankedEvent(HeldOutEvent):
    """A lower bound of ε from a threshold of a ranking, both fixed on the first half of the outputs."""

    __slots__ = ()

    @abstractmethod
    def learn(self, first: Array, second: Array) -> Ranking:
        """Return a ranking learnt from outputs of the two worlds, shape (n, k), or (sets, n, k), each set by itself."""

    def errors(self, halves: Halves, *, delta: float, level: float) -> tuple[Counts, Counts]:
        """Return how many outputs held out the best threshold errs on, in either world."""
        with np.errstate(over="ignore", invalid="ignore"):  # of outputs near the largest float ranks may be nan
            ranking = self.learn(halves.first, halves.second)
            cuts = best_cuts(ranking(halves.first), ranking(halves.second), delta, level)[..., None]
            hits, alarms = (
                np.count_nonzero(ranking(held) >= cuts, axis=-1) for held in (halves.first_held, halves.second_held)
            )
        return halves.first_held.shape[-2] - np.asarray(hits), np.asarray(alarms)  # nan is outside, in both worlds


def threshold_shows(missed: Counts, alarms: Counts, trials: tuple[int, int], delta: float, level: float) -> Array:
    """Return, up to monotony, how much errors of thresholds show, by Wilson's upper limits, which are quick.

    What is chosen by them decides how much is shown on other outputs, not whether it is true.
    """
    x, y = _wilson(missed, trials[0], level), _wilson(alarms, trials[1], level)
    shown: Array = np.maximum((1 - delta - x) / y, (1 - delta - y) / x)
    return shown


def _outputs(owner: str, name: str, values: ArrayLike, least: int, sets: bool) -> Array:
    outputs = doors.numbers(owner, "outputs", values)
    several = sets and outputs.ndim == 3
    if not (several or outputs.ndim in (1, 2)) or outputs.shape[int(several)] < least or outputs.size == 0:
        raise InvalidParameter(
            f"{owner}: outputs must have shape (n,) or (n, k) with n >= {least} in either world, and in one have not."
        )
    if not np.all(np.isfinite(outputs)):
        raise InvalidParameter(
            f"{owner}: outputs of the {name} world must be finite.\n"
            "If the mechanism may fail, or answer no number, code that as a number of its own: it is an event too."
        )
    return outputs if several else outputs.reshape(len(outputs), -1)


def best_cuts(first: Array, second: Array, delta: float, level: float) -> Array:
    """Return the thresholds whose events show most on ranks (…, n) of the two worlds, inf where all ranks are alike.

    They lie midway between two ranks that differ by more than rounding, so that no output that was seen is next to one.
    """
    ranks, trials = np.concatenate([first, second], axis=-1), (first.shape[-1], second.shape[-1])
    places = np.argsort(ranks, axis=-1)
    rising = np.take_along_axis(ranks, places, axis=-1)
    apart = np.diff(rising, axis=-1) > LEAST_GAP * np.max(np.abs(ranks), axis=-1, keepdims=True)
    missed = np.cumsum(places < trials[0], axis=-1)[..., :-1]
    alarms = trials[1] - (np.arange(1, ranks.shape[-1]) - missed)
    shown = np.where(apart, threshold_shows(missed, alarms, trials, delta, level), -np.inf)
    best = np.argmax(shown, axis=-1)[..., None]
    below, above = (np.take_along_axis(rising, place, axis=-1) for place in (best, best + 1))
    cuts: Array = np.where(np.any(apart, axis=-1, keepdims=True), below + 0.5 * (above - below), np.inf)[..., 0]
    return cuts


def _wilson(errors: Counts, trials: int, level: float) -> Array:
    z = -special.ndtri(level)
    rate = (errors + 0.5) / (trials + 0.5)
    middle = rate + z**2 / (2 * trials)
    limit: Array = (middle + z * np.sqrt(rate * (1 - rate) / trials + (z / (2 * trials)) ** 2)) / (1 + z**2 / trials)
    return limit
