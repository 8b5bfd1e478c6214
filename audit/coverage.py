"""A test bench of auditors: how often each claims what is false, and how much of what is true it shows.

    from audit.coverage import bench
    results = bench(auditors, sizes=(50, 200), simulations=1_000, folder=Path("coverage"))

Auditors are ours, `audit.core.auditors.our_auditors()`, or anybody's that fit `audit.core.auditors.Auditor`; peers that
are installed are found by `audit.core.peers`. Laws are in `audit/laws`: each is private to a known extent, and an
auditor is asked to refute just what is true of it.

- *frequentist* and *parametric* guarantees fail the bench where the rate of false claims under a law that they are
  about is above 1 − confidence, by more than four standard errors where it was simulated;
- under other laws, of a description that did not run, rates are printed, as are *credible* and *approximate* ones.

Every auditor × law × size is a file of the folder, written when it is done: a bench that was stopped goes on there. The
command goes on from the coverage.json that it left, too. Both are taken at their word: where an auditor has changed,
its trials are to be deleted.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.core.auditors import Auditor, OurAuditor
from audit.core.coverage_files import CELL, decode, earlier, encode, keep, kept, read, read_trial
from audit.core.law import Law, laws
from audit.core.trials import Trial, audits_for, largest_disagreement, milliseconds, trials
from audit.laws.two_worlds import ConstantRatio
from mechanisms import InvalidParameter
from mechanisms import __version__ as library
from mechanisms.core.files import write_atomically

SCHEMA = "dp-calipers/coverage/1"
SIZES = (50, 200)
CONFIDENCE = 0.95
BOUNDS, LARGEST_SHOWN = 8, 1000  # averaged for the power, up to a size
POWER = (ConstantRatio, 1000, 2.0)  # where rules are compared that search all thresholds: law, runs a side, ε
MORE = 10  # audits for each elsewhere
AUDITS = 100  # timed at once
LARGEST_TIMED = 1000
SLOW_LAWS = ("PoissonDPSGD",)  # each ε needs a calibration: tests are compared with bounds on others


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What a bench found.

    Args:
        trials: one for every auditor, law, size and ε.
        milliseconds: by auditor, the processor time of one answer among 100, at the largest size tried, 1,000 at most.
        disagreements: by auditor, the largest relative distance to its bound at which test and bound differ.
        confidence: at which all was asked.
        seed: of the simulations.
        cases: of every disagreement, or the most there were of one.
    """

    trials: tuple[Trial, ...]
    milliseconds: dict[str, float]
    disagreements: dict[str, float]
    confidence: float
    seed: int
    cases: int

    @property
    def failing(self) -> tuple[Trial, ...]:
        """The trials that speak against a guarantee."""
        return tuple(one for one in self.trials if one.fails(1 - self.confidence))

    def of(self, auditor: str) -> tuple[Trial, ...]:
        """Return the trials of one auditor that it did not refuse."""
        return tuple(one for one in self.trials if one.auditor == auditor and one.rate is not None)

    def over(self, earlier: Coverage) -> Coverage:
        """Return the findings of both, these where both have one; the confidence and the seed are to be the same."""
        trials = {_place(one): one for one in (*earlier.trials, *self.trials)}
        return dataclasses.replace(
            self,
            trials=tuple(trials[place] for place in sorted(trials)),
            milliseconds=earlier.milliseconds | self.milliseconds,
            disagreements=earlier.disagreements | self.disagreements,
            cases=max(earlier.cases, self.cases),
        )

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        document = {"schema": SCHEMA, "library": library, **encode(dataclasses.asdict(self))}
        write_atomically(path, (json.dumps(document, allow_nan=False, ensure_ascii=False, indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Coverage:
        """Return what `save` wrote.

        Raises:
            InvalidParameter: if the file is of another schema, or damaged.
        """
        document = read(path, SCHEMA)
        try:
            fields = {field.name: document[field.name] for field in dataclasses.fields(cls)}
            return cls(**(fields | {"trials": tuple(read_trial(one) for one in document["trials"])}))
        except (KeyError, TypeError) as error:
            raise InvalidParameter(
                f"coverage, {path.name}: the file must be as it was written, and has lost something: "
                f"{type(error).__name__}."
            ) from None


def bench(
    auditors: Iterable[Auditor],
    *,
    sizes: Sequence[int] = SIZES,
    simulations: int = 1_000,
    cases: int = 0,
    power: int = 0,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    folder: Path,
    known: Sequence[Trial] = (),
    log: Callable[[str], None] = lambda line: None,
) -> Coverage:
    """Return how auditors fare under all laws of their designs, and leave it in `folder`, from which it goes on.

    Args:
        auditors: to try.
        sizes: runs in either world, canaries, or looks.
        simulations: audits, where a rate is no sum over counts; 1,000 at most where it decides nothing.
        cases: on which to compare each auditor's test with its bound.
        power: bounds to average under the law, and at the size and ε, of `POWER`, for whom it is about.
        confidence: at which is asked, in (0, 1).
        seed: of the simulations.
        folder: for one file for each auditor, law and size; it is made.
        known: trials at this confidence that need not be made again, if they are of this seed and as many simulations.
        log: is told what is being done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked = {"simulations": simulations, "confidence": confidence, "seed": seed}
    found: list[Trial] = []
    times, disagreements = {}, {}
    tried = list(auditors)
    for size in sizes:
        for kind in laws().values():
            group = [auditor for auditor in tried if kind.design in auditor.designs]
            found += _cells(folder, group, kind, size, asked, known, log)
    for auditor in tried if power else ():
        found += _power(folder, auditor, power, asked, known, log)
    for auditor in tried:
        inside = [kind for kind in laws().values() if _is_about(auditor, kind)]
        times[auditor.name] = _time(folder, auditor, inside[0], sizes, confidence, seed)
        if cases and isinstance(auditor, OurAuditor):
            log(f"{auditor.name}: test against bound")
            disagreements[auditor.name] = _disagreement(folder, auditor, inside, min(sizes), cases, confidence, seed)
    return Coverage(
        trials=tuple(found),
        milliseconds=times,
        disagreements=disagreements,
        confidence=confidence,
        seed=seed,
        cases=cases,
    )


def gathered(folder: Path, *, confidence: float = CONFIDENCE, seed: int = 0) -> Coverage:
    """Return what a bench has left in its folder so far, though it may not be done."""
    gathered_trials, times, disagreements, cases = [], {}, {}, 0
    for path in sorted(folder.glob("*.json")):
        document = read(path, CELL)
        asked, found, name = document["asked"], decode(document["found"]), path.name.removesuffix(".json")
        if asked["confidence"] != confidence or asked["seed"] != seed:
            continue
        if name.endswith(".time"):
            times[name.removesuffix(".time")] = found
        elif name.endswith(".inversion"):
            disagreements[name.removesuffix(".inversion")], cases = found, max(cases, asked["cases"])
        elif name.endswith(".power"):
            gathered_trials.append(read_trial(found))
        else:
            gathered_trials += [read_trial(one) for one in found]
    return Coverage(
        trials=tuple(gathered_trials),
        milliseconds=times,
        disagreements=disagreements,
        confidence=confidence,
        seed=seed,
        cases=cases,
    )


def _place(trial: Trial) -> tuple[str, str, int, float]:
    return trial.auditor, trial.law, trial.n, trial.epsilon


def _is_about(auditor: Auditor, kind: type[Law]) -> bool:
    return kind.design in auditor.designs and auditor.null in kind.holds and kind.__name__ not in SLOW_LAWS


def _cells(
    folder: Path,
    auditors: Sequence[Auditor],
    kind: type[Law],
    size: int,
    asked: dict[str, Any],
    known: Sequence[Trial],
    log: Callable[[str], None],
) -> list[Trial]:
    """Return the trials of all these auditors; those that are not known are made together, and a file of each."""
    enough = {
        _place(one): one
        for one in known
        if one.entropy[0] == asked["seed"]
        and (one.simulations == 0 or one.simulations >= audits_for(asked["simulations"], inside=one.inside))
    }
    found, left = [], []
    for auditor in auditors:
        wanted = [(auditor.name, kind.__name__, size, epsilon) for epsilon in kind.epsilons]
        before = earlier(_file(folder, auditor, kind, size), asked)
        if all(place in enough for place in wanted):
            found += [enough[place] for place in wanted]
        elif before is not None:
            found += [read_trial(one) for one in before]
        else:
            left.append(auditor)
    if left:
        log(f"{kind.__name__}, n = {size}: {', '.join(auditor.name for auditor in left)}")
        bounds = BOUNDS if size <= LARGEST_SHOWN else 0
        made = [trials(left, kind(epsilon=one), size, bounds=bounds, **asked) for one in kind.epsilons]
        for auditor, those in zip(left, zip(*made, strict=True), strict=True):
            keep(_file(folder, auditor, kind, size), asked, [dataclasses.asdict(one) for one in those])
            found += those
    return found


def _power(
    folder: Path,
    auditor: Auditor,
    power: int,
    asked: dict[str, Any],
    known: Sequence[Trial],
    log: Callable[[str], None],
) -> list[Trial]:
    """Return the trial in which so many bounds are averaged, with ten times as many audits as elsewhere."""
    kind, size, epsilon = POWER
    if not _is_about(auditor, kind):
        return []
    place = auditor.name, kind.__name__, size, epsilon
    before = [one for one in known if _place(one) == place and one.bounds >= power and one.entropy[0] == asked["seed"]]
    if before:
        return before
    log(f"{auditor.name}: power")
    more = asked | {"simulations": MORE * asked["simulations"], "bounds": power}

    def made() -> dict[str, Any]:
        return dataclasses.asdict(trials([auditor], kind(epsilon=epsilon), size, **more)[0])

    return [read_trial(kept(folder / f"{auditor.name}.power.json", more, made))]


def _file(folder: Path, auditor: Auditor, kind: type[Law], size: int) -> Path:
    return folder / f"{auditor.name}.{kind.__name__}.{size}.json"


def _time(folder: Path, auditor: Auditor, kind: type[Law], sizes: Sequence[int], confidence: float, seed: int) -> float:
    size = min(max(sizes), LARGEST_TIMED)
    asked: dict[str, Any] = {"n": size, "audits": AUDITS, "confidence": confidence, "seed": seed}

    def taken() -> float:
        return milliseconds(auditor, kind(epsilon=max(kind.epsilons)), **asked)

    return float(kept(folder / f"{auditor.name}.time.json", asked, taken))


def _disagreement(
    folder: Path,
    auditor: OurAuditor,
    kinds: Sequence[type[Law]],
    size: int,
    cases: int,
    confidence: float,
    seed: int,
) -> float:
    losing = [kind for kind in kinds if max(kind.epsilons) > 0]
    asked: dict[str, Any] = {"n": size, "cases": cases, "confidence": confidence, "seed": seed}

    def found() -> float:
        return largest_disagreement(auditor, losing, **asked)

    return float(kept(folder / f"{auditor.name}.inversion.json", asked, found))
