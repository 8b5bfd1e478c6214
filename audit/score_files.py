"""Scores from files: what an attack of anyone's said of every canary, and which of them were in.

    .npz    arrays `scores` and `membership`, both (m,)
    .csv    a line "scores,membership", then one line a canary

Membership is true or false, or 1 or 0. Nothing in a file is ever run: pickled arrays are refused.

The order of a file may tell what no score does: equal scores are guessed by position, and halves are held out by it, so
a file sorted by membership or by score would show what is not there. Lines are put in an order of ours first, which
depends on their number alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.binomial import probability_at_most
from audit.core.plan import check_neighbours, check_rule
from audit.core.score_columns import read_scores
from audit.evidence import LowerBound, estimators
from audit.report import decides
from audit.scores import (
    Design,
    Guesses,
    GuessExtremes,
    GuessingRule,
    IndependentRuns,
    LabelledScores,
    OneRun,
    Scores,
    Threshold,
    Values,
)
from mechanisms import Gaussian, InvalidParameter, Poisson, Process, Repeat, Sampled, UnsupportedProcess
from mechanisms.core import validate
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency

DESIGNS: dict[str, Callable[[int], Design]] = {
    "one_run": lambda size: OneRun(canaries=size),
    "independent_runs": lambda size: IndependentRuns(runs=size),
}
THREAT_MODEL = "not known: the scores are somebody else's"
UNFAIR = 1e-9  # probability below which no fair coins are believed


class Unguessed(GuessingRule):
    """No rule at all, for estimators that read scores as they are.

    >>> Unguessed()
    Unguessed()
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "Unguessed()"

    def guess(self, values: Values) -> Guesses:
        """Refuse.

        Raises:
            InvalidParameter: always.
        """
        raise InvalidParameter(
            "scores: a threshold or a number of guesses must be given for this estimator, which counts right guesses.\n"
            "Fix it before the scores are seen: one chosen after proves nothing."
        )


class Undescribed(Process):
    """No claim at all, for estimators that need none.

    >>> Undescribed()
    Undescribed()
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "Undescribed()"

    def pairs(self, adjacency: Adjacency) -> dict[Any, DominatingPair]:
        """Refuse.

        Raises:
            UnsupportedProcess: always.
        """
        raise UnsupportedProcess("scores: the claimed process must be given for this estimator, which needs it.")


def lower_bound_from_file(
    path: Path,
    *,
    estimator: str,
    design: str,
    guessing_rule: GuessingRule | None = None,
    claim: Process | None = None,
    adjacency: Adjacency | str = Adjacency.ADD_REMOVE,
    delta: float,
    confidence: float,
) -> LowerBound:
    """Return what scores in a file show of ε.

    Args:
        path: see the module.
        estimator: a name in `estimators()`, chosen before the scores were seen.
        design: "one_run" for many canaries in one run, "independent_runs" for one canary in as many runs.
        guessing_rule: fixed before the scores were seen; None for estimators that make no guesses.
        claim: the process, for estimators that need its description; or None.
        adjacency: the neighbours that a coin made.
        delta: in [0, 1).
        confidence: in (0, 1), one-sided.

    Raises:
        InvalidParameter: if a file, name or number breaks its rule, or so many canaries of one run were in, or so few,
            as fair coins would never put there: then a guess is better than it should be without any loss.
        UnsupportedProcess: if the estimator is for another kind of claim.
    """
    kinds = estimators()
    chosen = kinds[validate.choice("scores", "estimator", estimator, tuple(kinds))]()
    made = DESIGNS[validate.choice("scores", "design", design, tuple(DESIGNS))]
    neighbours = Adjacency.parse(adjacency)
    check_neighbours("estimator", chosen, claim, neighbours)
    values, membership = read_scores(path)
    order = np.random.default_rng(len(values)).permutation(len(values))
    values, membership = values[order], membership[order]
    check_rule(made(len(values)), guessing_rule)
    _check_coins(made(len(values)), membership)
    data = LabelledScores(
        scores=Scores(values=values, design=made(len(values)), guessing_rule=guessing_rule or Unguessed()),
        membership=membership,
    )
    try:
        bound = chosen.lower_bound(
            data, process=claim or Undescribed(), delta=delta, confidence=confidence, threat_model=THREAT_MODEL
        )
    except UnsupportedProcess:
        if claim is not None:
            raise
        raise UnsupportedProcess(
            f"scores: the claimed process must be given for {estimator}, which needs it: --noise-multiplier, "
            "--sample-rate and --steps."
        ) from None
    return replace(bound, adjacency=neighbours)


def _check_coins(design: Design, membership: NDArray[np.bool_]) -> None:
    """Refuse a run whose canaries were not put in by fair coins, where their number tells."""
    count = int(np.count_nonzero(membership))
    fewer = min(count, len(membership) - count)
    if isinstance(design, OneRun) and 2 * float(probability_at_most(fewer, len(membership), np.array(0.5))) < UNFAIR:
        raise InvalidParameter(
            f"scores: membership must come from a fair coin for every canary of one run, got {count} in of "
            f"{len(membership)}.\nOf canaries most of which are out, to guess all out is right without any loss: toss "
            "fair coins, or draw as many that were in as were out, each by its own coin."
        )


def claimed(*, noise_multiplier: float | None, sample_rate: float | None, steps: int | None) -> Process | None:
    """Return the process of the three, None if none is given.

    Raises:
        InvalidParameter: if only some are given.
    """
    given = (noise_multiplier, sample_rate, steps)
    if all(value is None for value in given):
        return None
    if noise_multiplier is None or sample_rate is None or steps is None:
        raise InvalidParameter("scores: --noise-multiplier, --sample-rate and --steps must be given together.")
    step = Sampled(Gaussian(noise_multiplier=noise_multiplier), Poisson(probability=sample_rate))
    return Repeat(step, steps)


def guessing_rule(*, threshold: float | None, guesses: int | None) -> GuessingRule | None:
    """Return the guessing rule that was asked for, if any.

    Raises:
        InvalidParameter: if both are given.
    """
    if threshold is not None and guesses is not None:
        raise InvalidParameter("scores: --threshold and --guesses must not both be given: a rule is one or the other.")
    if threshold is not None:
        return Threshold(value=threshold)
    if guesses is None:
        return None
    count = validate.count("scores", "guesses", guesses)
    return GuessExtremes(included=count - count // 2, excluded=count // 2)


def deciders(bound: LowerBound) -> tuple[LowerBound, LowerBound | None]:
    """Return what may show a violation, and what may refute the description: of one bound, by its guarantee."""
    if bound.guarantee == "frequentist":
        return bound, None
    nothing = replace(bound, epsilon=0.0, description_refuted=False)
    return nothing, bound if decides(bound) else None
