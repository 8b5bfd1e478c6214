"""Deterministic neighbour replay: run a computation twice under the same randomness, on data that differ in a record.

Statistics need many runs to see that one record moves a release by more than is claimed. Under equal streams noise
cancels, and one pair of runs shows it to the last digit; it shows as well what no statistic sees in time: control flow,
draws, shapes or errors that depend on a record, NaN that passes a clip, a divisor counted from the data. The idea is
that of Re:cord-play                                                                                       [CEDB26].

*What it proves.* A finding is a counterexample to the description, for these records and streams. It isn't by itself a
lower bound of ε: a computation may be private for another reason, such as independent coins drawn in another order.
Without a finding nothing is proved, and noise of the wrong size is never found: that is for the estimators.

Use public or made-up records: a report on private ones tells about them.

[CEDB26] T. Cebere, D. Erb, D. Desfontaines, A. Bellet, J. Fitzsimons. Privacy in Theory, Bugs in Practice: Grey-Box
Auditing of Differential Privacy Libraries. 2026. arXiv:2602.17454.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.attack import Trainer, TrainerTask
from audit.canaries import SignedCoordinates
from audit.core.comparing import (
    Additive,
    Played,
    compared,
    depends_on_noise,
    finding,
    play,
    released,
    repeated,
)
from audit.core.extremes import Neighbours, array_neighbours
from audit.core.findings import ReplayFinding, ReplayReport
from audit.core.outputs import form, numbers
from audit.core.recording import first_difference
from mechanisms.core import validate
from mechanisms.core.randomness import Source

__all__ = [
    "Additive",
    "Neighbours",
    "ReplayFinding",
    "ReplayReport",
    "Steps",
    "Training",
    "array_neighbours",
    "flipped_canaries",
    "replay_mechanism",
    "replay_training",
]

Computation = Callable[[Any, Source], Any]
"""(dataset, source) -> what is released: a number, an array, a tensor, or lists, mappings and dataclasses of these."""


def replay_mechanism(
    computation: Computation,
    neighbours: Iterable[Neighbours],
    *,
    description: Additive | None,
    keys: int = 2,
    seed: int = 0,
) -> ReplayReport:
    """Return what differs between neighbours under the same streams, beyond what the description allows.

    Args:
        computation: a mechanism; it must draw from the source alone, and is handed a copy of the data each time.
        neighbours: pairs of datasets, made by `array_neighbours` or given.
        description: says that noise is added, and to what sensitivity; None for mechanisms that choose, of which only
            errors, NaN and randomness from elsewhere are findings: what they draw may depend on a record.
        keys: how many streams, >= 2.
        seed: names them.

    Raises:
        InvalidParameter: if there are too few keys.

    >>> from mechanisms import Gaussian, KeyedSource
    >>> def mean(values, source):
    ...     noisy = Gaussian(noise_multiplier=1.0).release(values.clip(0, 1).sum(), sensitivity=1.0, randomness=source)
    ...     return noisy / len(values)
    >>> pairs = (Neighbours(name="one more", one=np.ones(3), other=np.ones(2)),)
    >>> replay_mechanism(mean, pairs, description=Additive(sensitivity=1 / 2)).kinds
    ('noise',)
    """
    keys = validate.count("replay", "keys", keys, least=2)
    counts, pairs = Counter[str](), tuple(neighbours)
    found = [
        one
        for pair in pairs
        for one in _once_each(_mechanism_findings(computation, pair, description, range(keys), seed, counts))
    ]
    return _report(pairs, keys, counts, found)


def _mechanism_findings(
    computation: Computation,
    pair: Neighbours,
    description: Additive | None,
    keys: range,
    seed: int,
    counts: Counter[str],
) -> Iterator[ReplayFinding]:
    def run(data: Any, key: int) -> Played:
        return play(computation, copy.deepcopy(data), seed, key)

    played = [(run(pair.one, key), run(pair.other, key)) for key in keys]
    yield from repeated(played[0][0], run(pair.one, 0), pair.name)
    for key, (one, other) in enumerate(played):
        if one.error is None and other.error is None:
            _count(counts, one.value, other.value)
        yield from compared(one, other, description, f"{pair.name}, key {key}")
    if description is not None:
        yield from depends_on_noise(played, description, pair.name)


def _count(counts: Counter[str], one: Any, other: Any) -> None:
    """Count a comparison, and whether the two differ."""
    counts["compared"] += 1
    counts["moved"] += form(one) != form(other) or not np.array_equal(numbers(one), numbers(other), equal_nan=True)


def _report(pairs: tuple[Neighbours, ...], keys: int, counts: Counter[str], found: list[ReplayFinding]) -> ReplayReport:
    return ReplayReport(
        neighbours=len(pairs),
        runs=len(pairs) * (2 * keys + 1),
        compared=counts["compared"],
        moved=counts["moved"],
        apart=counts["apart"],
        findings=tuple(found),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """A run of training that is about to begin.

    Args:
        releases: as `dpsgd.steps` gives them: anything with `weights_before` and `noisy_sum`.
        force: called between two releases with flat weights (d,) from which the next step is to be taken, so that the
            steps of two runs can be compared beyond the first in which they differ; None where that can't be done. It
            comes after the step's own update, which must be made before its release is given.
    """

    releases: Iterable[Any]
    force: Callable[[Any], None] | None = None


Training = Callable[[Any, Source], Steps]
"""(dataset, source) -> a run on it, always from the same weights."""


def replay_training(
    training: Training,
    neighbours: Iterable[Neighbours],
    *,
    description: Additive,
    bound: Callable[[Any], float] | None = None,
    keys: int = 2,
    seed: int = 0,
) -> ReplayReport:
    """Return what differs between training runs on neighbours under the same streams, step by step.

    A step's gradients depend on its weights, and these on all noisy sums before: sums are compared where both runs
    stand at the same weights, and else counted as apart. Where the run can be forced, the second one takes every step
    from the weights of the first, so that none is apart.

    Args:
        training: makes a run on a copy of the data; all sums of two runs are kept.
        neighbours: pairs of datasets. In the larger one the record that differs should come last, or other records take
            over its coins.
        description: of every step. Under replace_one one record moves a sum by twice max_grad_norm.
        bound: from a release to the unit of `description.sensitivity`, such as its max_grad_norm where that adapts; two
            steps in different units are apart. None for 1.
        keys: how many streams, >= 1.
        seed: names them.

    Raises:
        InvalidParameter: if there are too few keys.
    """
    keys = validate.count("replay", "keys", keys, least=1)
    counts, pairs = Counter[str](), tuple(neighbours)
    found: list[ReplayFinding] = []
    for pair in pairs:
        runs = _TrainingRuns(training, pair, description, bound or (lambda release: 1.0), seed, counts)
        found += _once_each(one for key in range(keys) for one in runs.findings(key))
    return _report(pairs, keys, counts, found)


@dataclass(frozen=True, slots=True, eq=False)
class _TrainingRuns:
    training: Training
    pair: Neighbours
    description: Additive
    bound: Callable[[Any], float]
    seed: int
    counts: Counter[str]

    def findings(self, key: int) -> Iterator[ReplayFinding]:
        where = f"{self.pair.name}, key {key}"
        one = play(self._all, (self.pair.one, None), self.seed, key)
        if key == 0:
            yield from repeated(
                _bare(one), _bare(play(self._all, (self.pair.one, None), self.seed, key)), self.pair.name
            )
        other = play(self._all, (self.pair.other, one.value), self.seed, key)
        if one.error != other.error or one.error is not None:
            yield from compared(one, other, self.description, where)
            return
        if draw := first_difference(one.draws, other.draws, self.description.per_record):
            yield finding("draws", where, f"draws depend on a record, first at {draw.stream!r}, word {draw.counter}")
        yield from self._steps(one.value, other.value, where)

    def _all(self, given: tuple[Any, Any], source: Source) -> list[Any]:
        """Return all releases of a run on a dataset, forced along the weights of the releases given, if any."""
        data, along = given
        run, taken = self.training(copy.deepcopy(data), source), list[Any]()
        for release in run.releases:
            taken.append(release)
            if along is not None and run.force is not None and len(taken) < len(along):
                run.force(along[len(taken)].weights_before)
        return taken

    def _steps(self, one: list[Any], other: list[Any], where: str) -> Iterator[ReplayFinding]:
        if len(one) != len(other):
            message = f"{len(one)} releases with the record, {len(other)} without"
            yield finding("steps", where, message)
        for step, (mine, theirs) in enumerate(zip(one, other, strict=False)):
            if not self._together(mine, theirs):
                self.counts["apart"] += 1
                if step == 0:
                    yield finding("start", where)
                continue
            _count(self.counts, mine.noisy_sum, theirs.noisy_sum)
            unit = self.bound(mine)
            yield from released(
                numbers(mine.noisy_sum) / unit if unit != 1 else mine.noisy_sum,
                numbers(theirs.noisy_sum) / unit if unit != 1 else theirs.noisy_sum,
                self.description,
                f"{where}, step {step}",
            )

    def _together(self, mine: Any, theirs: Any) -> bool:
        weights = numbers(mine.weights_before), numbers(theirs.weights_before)
        return np.array_equal(*weights) and self.bound(mine) == self.bound(theirs)


def flipped_canaries(trainer: Trainer, canaries: SignedCoordinates) -> tuple[Training, tuple[Neighbours, ...]]:
    """Return any trainer that can be audited, and neighbours for it: runs without, and with, one canary or all others.

    >>> from audit.canaries import signed_coordinates
    >>> two = signed_coordinates(canaries=2, dimension=4, rng=np.random.default_rng(0))
    >>> [pair.one.tolist() for pair in flipped_canaries(None, two)[1]]
    [[False, True], [True, True]]
    """

    def training(membership: Any, source: Source) -> Steps:
        task = TrainerTask(canaries=canaries, membership=membership, streams=source)
        return Steps(releases=_steps_in(trainer(task).released))

    nothing, all_of_them = np.zeros(len(canaries), dtype=bool), np.ones(len(canaries), dtype=bool)
    last = np.arange(len(canaries)) == len(canaries) - 1
    pairs = (
        Neighbours(name="the last canary alone", one=last, other=nothing),
        Neighbours(name="the last canary among all", one=all_of_them, other=all_of_them & ~last),
    )
    return training, pairs


def _steps_in(released: Any) -> Iterator[Any]:
    """Yield the steps among all that is released: what is iterated over, or handed out by a function."""
    if callable(released):
        taken: list[Any] = []
        released(taken.append)
        released = taken
    return (one for one in released if hasattr(one, "noisy_sum"))


def _bare(played: Played) -> Played:
    """Return the run with nothing of its releases but the sums: they may hold objects that are equal to none."""
    sums = None if played.value is None else [release.noisy_sum for release in played.value]
    return Played(value=sums, error=played.error, draws=played.draws)


def _once_each(findings: Iterable[ReplayFinding]) -> list[ReplayFinding]:
    """Return the first finding of each kind."""
    first: dict[str, ReplayFinding] = {}
    for one in findings:
        first.setdefault(one.kind, one)
    return list(first.values())
