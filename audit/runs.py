"""Runs: toss the coins, have a trainer run, let an attack watch, and join scores and coins afterwards.

The attack meets neither coins nor samples, the trainer never meets the attack. Nothing that is refused depends on how
the coins fell: if they leave nobody in, or nobody out, the run takes place all the same, and shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from audit.attack import Attack, Observations, Public, Trainer, TrainerTask
from audit.canaries import Canaries
from audit.core.cost import Stopwatch
from audit.core.described import released_steps
from audit.core.faults import TrainerFault, blamed
from audit.core.streams import RunStreams, check_source, reserve_run
from audit.core.watching import Course, known_of, scored
from audit.scores import Coins, Counts, GuessingRule, IndependentRuns, LabelledScores, OneRun, Scores
from mechanisms import Adjacency, InvalidParameter, Process
from mechanisms.core import validate
from mechanisms.core.randomness import Source, coins

if TYPE_CHECKING:
    from dpsgd import Dataset

FEWEST_CANARIES, FEWEST_RUNS = 20, 4
MOST_RUNS = 10**7  # their coins and scores are kept


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setup:
    """What is fixed before any run.

    Args:
        trainer: runs the computation.
        canaries: the records to add.
        attack: what turns releases into scores.
        guessing_rule: how guesses are read off them.
        randomness: of the coins; every run is handed streams of its own, made from it.
        process: the claim, if there is one; where it says so, it fixes the number of steps.
        adjacency: what a canary that is out leaves behind, see `TrainerTask`.
        pool: public records for shadow models, or None.
        stopwatch: counts what the runs take, and decides nothing.

    Raises:
        InvalidParameter: if the randomness is no source, the rule none, the attack does not work on such canaries, or
            these make no such neighbours.
    """

    trainer: Trainer
    canaries: Canaries
    attack: Attack
    guessing_rule: GuessingRule
    randomness: Source
    process: Process | None = None
    adjacency: Adjacency = Adjacency.ADD_REMOVE
    pool: Dataset | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self) -> None:
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency))
        check_source("audit", self.randomness)
        if not isinstance(self.guessing_rule, GuessingRule):
            raise InvalidParameter(
                f"audit: guessing_rule must be a GuessingRule, got {type(self.guessing_rule).__name__}.\n"
                "Fix how guesses are made before the run: GuessExtremes(included=..., excluded=...), or Threshold(...)."
            )
        if not isinstance(self.canaries, self.attack.takes):
            raise InvalidParameter(
                f"audit: attack {self.attack.name!r} must have {self.attack.takes.__name__}, "
                f"got {type(self.canaries).__name__}."
            )
        if self.adjacency not in self.canaries.adjacencies:
            made = " or ".join(repr(adjacency.value) for adjacency in self.canaries.adjacencies)
            raise InvalidParameter(
                f"audit: adjacency must be {made} with these {type(self.canaries).__name__}, "
                f"got {self.adjacency.value!r}."
            )

    @property
    def steps(self) -> int | None:
        """The number of steps claimed, None where the claim does not say."""
        return None if self.process is None else released_steps(self.process)

    def public(self, design: OneRun) -> Public:
        """Return what an attack may know of a run, but for what the trainer gives."""
        return Public(
            design=design,
            guessing_rule=self.guessing_rule,
            process=self.process,
            adjacency=self.adjacency,
            pool=self.pool,
        )

    def observations(self, membership: Coins, run: int) -> Observations:
        """Return what the trainer hands back when it is asked for a run; run number and coins fix all that is drawn.

        Raises:
            TrainerFault: if it raises anything but the refusal or failure of an adapter, or hands back something else.
        """
        task = TrainerTask(
            canaries=self.canaries,
            membership=membership,
            streams=RunStreams(self.randomness, run),
            adjacency=self.adjacency,
        )
        self.stopwatch.runs += 1
        with blamed("setting up"), self.stopwatch.training():
            found = self.trainer(task)
        if not isinstance(found, Observations):
            raise TrainerFault(f"the trainer handed back {type(found).__name__}, no Observations")
        return found


def check_fit(setup: Setup, observations: Observations) -> None:
    """Refuse before a step what the attack would refuse at the first: a trainer, canaries or a claim not made for it.

    Args:
        setup: of the run.
        observations: of its trainer; nothing that is released is asked for.

    Raises:
        InvalidParameter: if the attack needs what the trainer does not give.
        UnsupportedProcess: if it is for another kind of claim.
        TrainerFault: if the trainer's bound is none.
    """
    public = setup.public(OneRun(canaries=len(setup.canaries)))
    setup.attack.start(setup.canaries, known_of(setup.attack, setup.canaries, public, observations))


def observe_one_run(setup: Setup) -> LabelledScores:
    """Return the scores of one run that all canaries entered by their coins, and the coins, see `observe_course`.

    Raises:
        InvalidParameter: before the coins are tossed, if there are fewer than 20 canaries.
        TrainerFault: if the trainer does not do what every trainer must.
    """
    return observe_course(setup)[0]


def observe_course(
    setup: Setup, *, at: Sequence[int] = ()
) -> tuple[LabelledScores, tuple[tuple[int, LabelledScores], ...]]:
    """Return what `observe_one_run` does, and (number of steps, the same) after so many steps of this run.

    Args:
        setup: of the run.
        at: numbers of steps, before the end.

    Raises:
        InvalidParameter: before the coins are tossed, if there are fewer than 20 canaries.
        TrainerFault: if the trainer does not do what every trainer must.
    """
    one_run_design(setup)
    membership = toss(setup.randomness, len(setup.canaries))
    course, reveal = _watched(setup, membership, at)
    before = tuple((step, LabelledScores(scores=seen, membership=membership)) for step, seen in course.before)
    return _labelled(course.scores, membership, reveal), before


def observe_independent_runs(setup: Setup, *, runs: int) -> LabelledScores:
    """Return the scores of many runs with one canary each, in by a coin of its own, and the coins.

    Args:
        setup: of exactly one canary; its trainer is called once for each run.
        runs: >= 4: bounds need two of a kind.

    Raises:
        InvalidParameter: before the coins are tossed, if there is not exactly one canary, or fewer runs.
        TrainerFault: if the trainer does not do what every trainer must.
    """
    design = independent_design(setup, runs)
    membership = toss(setup.randomness, design.runs)
    seen = [_watched(setup, membership[run : run + 1])[0].scores for run in range(design.runs)]
    scores = Scores(
        values=np.array([one.values[0] for one in seen]),
        design=design,
        guessing_rule=setup.guessing_rule,
        sums=np.array([one.measured[0] for one in seen]),
    )
    return LabelledScores(scores=scores, membership=membership)


def one_run_design(setup: Setup) -> OneRun:
    """Return the design of one run that all canaries enter.

    Raises:
        InvalidParameter: if there are fewer than 20 canaries.
    """
    count = len(setup.canaries)
    if count < FEWEST_CANARIES:
        raise InvalidParameter(
            f"audit: canaries must be {FEWEST_CANARIES} or more for one run, got {count}.\n"
            "Of fewer the coins leave too often none in or none out, and then nothing is shown."
        )
    return OneRun(canaries=count)


def independent_design(setup: Setup, runs: int) -> IndependentRuns:
    """Return the design of runs that have one canary.

    Raises:
        InvalidParameter: if there are fewer than 4 runs or more than ten million, or not exactly one canary.
    """
    if len(setup.canaries) != 1:
        raise InvalidParameter(
            f"audit: canaries must be exactly one for independent runs, which all have it, got {len(setup.canaries)}."
        )
    count = validate.count("audit", "runs", runs, least=FEWEST_RUNS)
    if count > MOST_RUNS:
        raise InvalidParameter(
            f"audit: runs must be at most {MOST_RUNS}, got {count}: a coin and a score of each are kept."
        )
    return IndependentRuns(runs=count)


def toss(randomness: Source, count: int) -> Coins:
    """Return fair coins, fresh at every call, bool (count,)."""
    return coins(randomness, "membership", randomness.reserve("membership", count), count, probability=0.5)


def _watched(setup: Setup, membership: Coins, at: Sequence[int] = ()) -> tuple[Course, Callable[[], Counts] | None]:
    """Fold the attack over one run; return its course and what, from then on, reveals the samples, if anything does."""
    observations = setup.observations(membership, reserve_run(setup.randomness))
    public = setup.public(OneRun(canaries=len(setup.canaries)))
    course = scored(setup.attack, setup.canaries, public, observations, setup.steps, stopwatch=setup.stopwatch, at=at)
    return course, observations.participations


def _labelled(scores: Scores, membership: Coins, reveal: Callable[[], Counts] | None) -> LabelledScores:
    data = LabelledScores(scores=scores, membership=membership)
    if reveal is None:
        return data
    with blamed("its participations"):
        counts = np.asarray(reveal())
    try:
        return replace(data, participations=counts)
    except InvalidParameter:
        raise TrainerFault("the trainer revealed participations that do not fit the coins") from None
