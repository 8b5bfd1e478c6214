"""A run of the zoo: every detector on every documented bug and on its twin, at one family-wise level."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from audit.core.detectors import TRAINING, Detection, black_box, mechanism_replay
from audit.core.specimens import MechanismSpecimen, Specimen, TrainingSpecimen, specimens, title
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

ALPHA = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooRow:
    """What the detectors say of one bug.

    Args:
        name: of its file.
        title: the bug in words.
        source: where it is documented.
        expected: the detectors that must catch it.
        caught: the detections that did, in the order of the detectors, the deterministic one first.
        alarms: what was said of the twin, which is correct: nothing, but with probability at most `ALPHA` for all.
        seconds: of CPU time, all detectors on both.
    """

    name: str
    title: str
    source: str
    expected: tuple[str, ...]
    caught: tuple[Detection, ...]
    alarms: tuple[Detection, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every detector that must catch the bug did, and none the twin."""
        return set(self.expected) <= {one.detector for one in self.caught} and not self.alarms


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooReport:
    """All bugs that were run.

    Args:
        rows: one a bug.
        level: of each test: the family-wise error over the number of all tests there are.
        seed: of the run.
    """

    rows: tuple[ZooRow, ...]
    level: float
    seed: int

    @property
    def passed(self) -> bool:
        """Whether every bug was caught and no twin."""
        return all(row.passed for row in self.rows)


def level() -> float:
    """Return the level of each test: ALPHA over the number of tests on all bugs and twins, whichever are run."""
    tests = 2 * sum(len(_statistical(specimen)) for specimen in specimens().values())
    return ALPHA / tests


def run_zoo(
    names: Sequence[str] = (), *, seed: int = 0, tell: Callable[[ZooRow], None] = lambda row: None
) -> ZooReport:
    """Return what every detector says of the bugs named, or of all, and of their twins.

    Args:
        names: of bugs; () for all.
        seed: of all records, coins and noise.
        tell: is told every row when it is there.

    Guarantees: over the seeds, the probability that any twin is caught in a run is at most `ALPHA`, up to the floats
    in which twins add their noise. Replay has no part in it: it is deterministic.

    Raises:
        InvalidParameter: if there is no bug of that name.
    """
    known, seed = specimens(), validate.count("run_zoo", "seed", seed)
    for name in names:
        validate.choice("run_zoo", "names", name, tuple(known))
    each, rows = level(), list[ZooRow]()
    for name in names or known:
        rows.append(_row(name, known[name], each, seed))
        tell(rows[-1])
    return ZooReport(rows=tuple(rows), level=each, seed=seed)


def detections(specimen: Specimen, which: str, each: float, seed: int) -> tuple[Detection, ...]:
    """Return what every detector says of "broken" or of "correct"."""
    return tuple(_detections(specimen, which, each, seed))


def _row(name: str, specimen: Specimen, each: float, seed: int) -> ZooRow:
    started = time.process_time()
    broken, correct = (detections(specimen, which, each, seed) for which in ("broken", "correct"))
    return ZooRow(
        name=name,
        title=title(name),
        source=specimen.source,
        expected=specimen.caught_by,
        caught=tuple(one for one in broken if one.caught),
        alarms=tuple(one for one in correct if one.caught),
        seconds=time.process_time() - started,
    )


def _detections(specimen: Specimen, which: str, each: float, seed: int) -> Iterator[Detection]:
    computation = getattr(specimen, which)
    match specimen:
        case TrainingSpecimen():
            for detector in TRAINING.values():
                yield detector(computation, each, seed)
        case MechanismSpecimen(epsilon=epsilon):
            yield mechanism_replay(specimen, computation, each, seed)
            if epsilon is not None:
                yield black_box(specimen, computation, each, seed)
        case _:
            raise InvalidParameter(f"zoo: specimen must be one of training or of a mechanism, got {specimen!r}.")


def _statistical(specimen: Specimen) -> list[str]:
    """Return the detectors that are run and may err."""
    if isinstance(specimen, TrainingSpecimen):
        return [name for name in TRAINING if name != "replay"]
    return ["black_box"] if specimen.epsilon is not None else []
