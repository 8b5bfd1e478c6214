"""Rates of false claims that are sums over counts, no simulations.

Counts left out have probability `LEFT_OUT` in all at most, which is added.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from audit.core.auditors import Auditor, OurAuditor, Question
from audit.core.law import Array, Batch, Law
from audit.core.routes import reads_counts, reads_guesses, refuted_by_counts
from audit.laws.one_run import ManyCanaries
from audit.laws.two_worlds import TwoWorlds
from audit.scores import LabelledScores

LEFT_OUT = 4e-10
MOST_EXACT = 1000  # runs: beyond, pairs of counts are too many for some tests


def exact_rate(auditor: Auditor, law: Law, n: int, asked: Question) -> float | None:
    """Return the rate of false claims where it is a sum over counts, None where it is not."""
    if not isinstance(auditor, OurAuditor):
        return None
    if isinstance(law, TwoWorlds) and reads_counts(auditor) and n <= MOST_EXACT:
        return _sum_over_errors(auditor, law, n, asked)
    if isinstance(law, ManyCanaries) and reads_guesses(auditor):
        right = law.right(n)
        return None if right is None else _sum_over_right_guesses(auditor, law, n, right, asked)
    return None


def _sum_over_errors(auditor: OurAuditor, law: TwoWorlds, n: int, asked: Question) -> float:
    windows = [_window(n, rate) for rate in law.error_rates(n)]
    (missed, chance_missed), (alarms, chance_alarms) = windows
    found = refuted_by_counts(auditor, missed[:, None], alarms[None, :], (n, n), asked)
    return float(chance_missed @ np.where(found, 1.0, 0.0) @ chance_alarms) + LEFT_OUT


def _window(trials: int, rate: float) -> tuple[np.ndarray, Array]:
    """Return the counts of a binomial but for tails of a quarter of `LEFT_OUT`, and their probabilities."""
    low, high = stats.binom.ppf(LEFT_OUT / 4, trials, rate), stats.binom.isf(LEFT_OUT / 4, trials, rate)
    counts = np.arange(int(low), int(high) + 1)
    return counts, stats.binom.pmf(counts, trials, rate)


def _sum_over_right_guesses(auditor: OurAuditor, law: ManyCanaries, n: int, right: Array, asked: Question) -> float:
    """Ask about one audit for every number of right guesses that is not out of the question."""
    likely = np.flatnonzero(right > LEFT_OUT / len(right))
    found = [auditor.rejects(_with_right_guesses(law, n, int(count)), asked) for count in likely]
    return float(right[likely][found].sum()) + LEFT_OUT


def _with_right_guesses(law: ManyCanaries, n: int, right: int) -> LabelledScores:
    """Return an audit in which so many guesses are right."""
    sample = law.sample(np.random.default_rng(0), n, 1)
    values = np.arange(float(n))[None, :]
    guesses = sample.guessing_rule.guess(values[0])
    membership = guesses > 0
    made = np.flatnonzero(guesses)
    membership[made[right:]] ^= True
    batch = Batch(
        values=values, membership=membership[None, :], design=sample.design, guessing_rule=sample.guessing_rule
    )
    return batch.audit(0)
