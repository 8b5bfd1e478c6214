"""Runs: toss the coins, have a trainer run, let an attack watch, and join scores and coins afterwards.

The attack meets neither coins nor samples, the trainer never meets the attack.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from audit.attack import Attack, Public, Trainer, TrainerTask
from audit.canaries import SignedCoordinates
from audit.scores import Coins, Counts, GuessingRule, IndependentRuns, LabelledScores, OneRun, Scores, Threshold
from mechanisms import InvalidParameter
from mechanisms.core.randomness import Source, coins


def observe_one_run(
    trainer: Trainer, *, canaries: SignedCoordinates, guessing_rule: GuessingRule, randomness: Source, attack: Attack
) -> LabelledScores:
    """Return the scores of one run that all canaries entered by their coins, and the coins.

    Raises:
        InvalidParameter: before the run, if the coins left fewer than one canary in or fewer than two out.
    """
    membership = _toss(randomness, len(canaries))
    if np.count_nonzero(membership) < 1 or np.count_nonzero(~membership) < 2:
        raise InvalidParameter(
            f"audit: canaries must be enough for some to be in and some out, got {len(canaries)}. Use 20 or more."
        )
    scores, revealed = _watched(trainer, canaries, membership, guessing_rule, randomness, attack)
    return LabelledScores(scores=scores, membership=membership, participations=revealed() if revealed else None)


def observe_independent_runs(
    trainer: Trainer, *, canary: SignedCoordinates, runs: int, threshold: Threshold, randomness: Source, attack: Attack
) -> LabelledScores:
    """Return the scores of many runs with one canary each, in by a coin of its own, and the coins.

    Args:
        trainer: is called once for each run; fresh noise each time is its and the source's business.
        canary: exactly one.
        runs: >= 1.
        threshold: guess "in" from this score on, fixed before the runs.
        randomness: of the coins, and handed to the trainer.
        attack: what turns releases into scores.

    Raises:
        InvalidParameter: if there is not exactly one canary.
    """
    design = IndependentRuns(runs=runs)
    if len(canary) != 1:
        raise InvalidParameter(f"audit: canary must be exactly one for each independent run, got {len(canary)}.")
    membership = _toss(randomness, design.runs)
    seen = [
        _watched(trainer, canary, membership[run : run + 1], threshold, randomness, attack)[0]
        for run in range(design.runs)
    ]
    scores = Scores(
        values=np.array([one.values[0] for one in seen]),
        design=design,
        guessing_rule=threshold,
        sums=np.array([one.measured[0] for one in seen]),
    )
    return LabelledScores(scores=scores, membership=membership)


def _watched(
    trainer: Trainer,
    canaries: SignedCoordinates,
    membership: Coins,
    guessing_rule: GuessingRule,
    randomness: Source,
    attack: Attack,
) -> tuple[Scores, Callable[[], Counts] | None]:
    """Fold the attack over one run; return its scores and what, from then on, reveals the samples, if anything does."""
    observations = trainer(TrainerTask(canaries=canaries, membership=membership, streams=randomness))
    public = Public(
        design=OneRun(canaries=len(canaries)),
        guessing_rule=guessing_rule,
        max_grad_norm=observations.max_grad_norm,
        expected_sum=observations.expected_sum,
    )
    state = attack.start(canaries, public)
    for release in observations.released:
        state = attack.observe(state, release)
    return attack.finish(state), observations.participations


def _toss(randomness: Source, count: int) -> Coins:
    return coins(randomness, "membership", randomness.reserve("membership", count), count, probability=0.5)
