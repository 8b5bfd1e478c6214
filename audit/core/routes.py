"""Auditors asked about many audits at once.

Our estimators are asked through the vectorised `rejects` of their files where these have one, which is the test that
the bound inverts; all other auditors one audit after the other.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from audit.core.auditors import Auditor, OurAuditor, Question, Refuted
from audit.core.described import SampledGaussianRun
from audit.core.law import Array, Batch
from audit.scores import GuessExtremes, Threshold
from mechanisms.core.process import Adjacency


def refuted(auditor: Auditor, batch: Batch, question: Question) -> Refuted:
    """Return for every audit of a batch whether the auditor refutes what is asked, shape (k,)."""
    route = _route(auditor)
    if route is not None:
        return route(cast(OurAuditor, auditor), batch, question)
    return np.array([auditor.rejects(batch.audit(number), question) for number in range(len(batch))])


def refuted_by_counts(
    auditor: OurAuditor, missed: NDArray[np.intp], alarms: NDArray[np.intp], runs: tuple[int, int], question: Question
) -> Refuted:
    """Return for counts of errors, which broadcast, whether they refute what is asked."""
    counts = {"false_negatives": missed, "included": runs[0], "false_positives": alarms, "excluded": runs[1]}
    return _ask(auditor, question, **counts)


def reads_counts(auditor: Auditor) -> bool:
    """Tell whether an auditor of two worlds reads nothing but the counts of its guesses."""
    return _route(auditor) is _by_counts


def reads_guesses(auditor: Auditor) -> bool:
    """Tell whether an auditor of one run reads nothing but how many guesses are right."""
    return _route(auditor) is _by_right_guesses


def scales_noise(auditor: Auditor) -> bool:
    """Tell whether an auditor's test is tuned to a description, others being asked about by a factor of its noise."""
    return isinstance(auditor, OurAuditor) and "factor" in _parameters(auditor)


def _route(auditor: Auditor) -> Callable[[OurAuditor, Batch, Question], Refuted] | None:
    if not isinstance(auditor, OurAuditor):
        return None
    wanted = _parameters(auditor)
    return next((route for name, route in ROUTES.items() if name in wanted), None)


def _parameters(auditor: OurAuditor) -> tuple[str, ...]:
    rejects = getattr(auditor.module, "rejects", None)
    return tuple(inspect.signature(rejects).parameters) if rejects else ()


def _ask(auditor: OurAuditor, question: Question, **data: Any) -> Refuted:
    """Return what the vectorised test says, given of all there is to know what it wants to know."""
    known = {field.name: getattr(auditor.estimator, field.name) for field in dataclasses.fields(auditor.estimator)}  # type: ignore[arg-type]
    known |= {field.name: getattr(question, field.name) for field in dataclasses.fields(question)}
    known |= {"adjacency": Adjacency.ADD_REMOVE} | data
    wanted = _parameters(auditor)
    found: Refuted = np.asarray(auditor.module.rejects(**{name: known[name] for name in wanted if name in known}))
    return found


def _by_counts(auditor: OurAuditor, batch: Batch, question: Question) -> Refuted:
    guesses = batch.values >= cast(Threshold, batch.guessing_rule).value
    included = int(np.count_nonzero(batch.membership[0]))
    runs = included, batch.membership.shape[1] - included
    missed = np.count_nonzero(~guesses & batch.membership, axis=1)
    alarms = np.count_nonzero(guesses & ~batch.membership, axis=1)
    return refuted_by_counts(auditor, missed, alarms, runs, question)


def _by_right_guesses(auditor: OurAuditor, batch: Batch, question: Question) -> Refuted:
    """Ask about one audit for every number of right guesses."""
    right = _right_guesses(batch)
    _, examples, back = np.unique(right, return_index=True, return_inverse=True)
    found: Refuted = np.array([auditor.rejects(batch.audit(int(one)), question) for one in examples])[back]
    return found


def _right_guesses(batch: Batch) -> NDArray[np.intp]:
    """Return the number of right guesses of every audit; only equal scores at the last guess need a stable order."""
    rule = cast(GuessExtremes, batch.guessing_rule)
    last_in = batch.values.shape[1] - rule.included
    rising = np.pad(np.sort(batch.values, axis=1), ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf)))
    lowest, highest = rising[:, rule.excluded, None], rising[:, last_in + 1, None]
    guessed = batch.values <= lowest, batch.values >= highest
    right: NDArray[np.intp] = np.count_nonzero(guessed[0] & ~batch.membership, axis=1)
    right += np.count_nonzero(guessed[1] & batch.membership, axis=1)
    tied = (rising[:, rule.excluded + 1] == lowest[:, 0]) | (rising[:, last_in] == highest[:, 0])
    right[tied] = [batch.audit(int(number)).correct for number in np.flatnonzero(tied)]
    return right


def _by_scores(auditor: OurAuditor, batch: Batch, question: Question) -> Refuted:
    """Ask about both worlds' scores, all audits with the same numbers in and out at once."""

    def of(those: NDArray[np.intp], runs: tuple[int, int]) -> dict[str, Any]:
        included, excluded = _worlds(batch, those, runs)
        return {"included": included, "excluded": excluded}

    return _by_runs(auditor, batch, question, of)


def _by_outputs(auditor: OurAuditor, batch: Batch, question: Question) -> Refuted:
    """Ask about both worlds' scores as outputs of one coordinate."""

    def of(those: NDArray[np.intp], runs: tuple[int, int]) -> dict[str, Any]:
        first, second = _worlds(batch, those, runs)
        return {"first": first[..., None], "second": second[..., None]}

    return _by_runs(auditor, batch, question, of)


def _by_outcomes(auditor: OurAuditor, batch: Batch, question: Question) -> Refuted:
    guesses = np.where(batch.values >= cast(Threshold, batch.guessing_rule).value, 1, -1)
    return _ask(auditor, question, outcomes=np.where(batch.membership, guesses, -guesses))


def _by_values(auditor: OurAuditor, batch: Batch, question: Question) -> Refuted:
    return _ask(auditor, question, values=batch.values, membership=batch.membership)


def _by_moments(auditor: OurAuditor, batch: Batch, question: Question) -> Refuted:
    """Ask about gap and deviations."""
    moments = _moments(batch)

    def of(those: NDArray[np.intp], runs: tuple[int, int]) -> dict[str, Any]:
        asked = dict(zip(("gap", "deviation_in", "deviation_out"), moments[:, those], strict=True))
        return {**asked, "included": runs[0], "excluded": runs[1]}

    return _by_runs(auditor, batch, question, of)


def _by_noise(auditor: OurAuditor, batch: Batch, question: Question) -> Refuted:
    """Ask whether the noise described is refuted, from the sums over the steps alone."""
    run, moments = SampledGaussianRun.of(question.process), _moments(batch)
    squares = np.sum(np.square(batch.values) * ~batch.membership, axis=1) / run.steps
    described = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}

    def of(those: NDArray[np.intp], runs: tuple[int, int]) -> dict[str, Any]:
        gap, _, deviation = moments[:, those]
        asked = {"gap": gap, "deviation": deviation, "squares": squares[those], "degrees": runs[1]}
        return {**asked, **described, "included": runs[0], "excluded": runs[1]}

    return _by_runs(auditor, batch, question, of)


def _by_runs(
    auditor: OurAuditor,
    batch: Batch,
    question: Question,
    data: Callable[[NDArray[np.intp], tuple[int, int]], dict[str, Any]],
) -> Refuted:
    """Ask about all audits with the same numbers of runs in and out at once."""
    answers, included = np.zeros(len(batch), dtype=bool), np.count_nonzero(batch.membership, axis=1)
    for count in np.unique(included):
        those = np.flatnonzero(included == count)
        runs = int(count), batch.membership.shape[1] - int(count)
        answers[those] = _ask(auditor, question, **data(those, runs))
    return answers


def _worlds(batch: Batch, those: NDArray[np.intp], runs: tuple[int, int]) -> tuple[Array, Array]:
    """Return the in- and the out-scores of audits with so many of either, shapes (k, n_in) and (k, n_out)."""
    values, inside = batch.values[those], batch.membership[those]
    return values[inside].reshape(len(those), runs[0]), values[~inside].reshape(len(those), runs[1])


def _moments(batch: Batch) -> Array:
    """Return gap, deviation in and deviation out of every audit, shape (3, k)."""
    means, deviations = [], []
    for world in (batch.membership, ~batch.membership):
        count = np.count_nonzero(world, axis=1)
        means.append(np.sum(batch.values, axis=1, where=world) / count)
        away = np.where(world, batch.values - means[-1][:, None], 0.0)
        deviations.append(np.sqrt(np.einsum("ij,ij->i", away, away) / (count - 1)))
    return np.array([means[0] - means[1], *deviations])


# By an argument of the vectorised test that tells what it reads; the first that fits.
ROUTES: dict[str, Callable[[OurAuditor, Batch, Question], Refuted]] = {
    "correct": _by_right_guesses,
    "false_negatives": _by_counts,
    "deviation_in": _by_moments,
    "noise_multiplier": _by_noise,
    "outcomes": _by_outcomes,
    "values": _by_values,
    "first": _by_outputs,
    "included": _by_scores,
}
