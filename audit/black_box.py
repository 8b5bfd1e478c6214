"""Black boxes: run any mechanism on two neighbouring inputs, and bound from below what its answers give away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from audit.core.counts import Array
from audit.core.held_out import OutputsEstimator
from audit.evidence import LowerBound, check_level, estimators
from audit.scores import IndependentRuns
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency

THREAT_MODEL = "black box: the answers alone, on two inputs chosen before"


def mechanism_lower_bound(
    release: Callable[[Any], Any],
    first: Any,
    second: Any,
    *,
    runs: int,
    adjacency: Adjacency | str,
    delta: float,
    confidence: float,
    tester: str = "hockey_stick",
) -> LowerBound:
    """Return a lower bound of the ε of `release`, shown by its answers on two neighbouring inputs.

    Args:
        release: input -> a number, or an array of always the same shape; fresh randomness at each call.
        first: one input.
        second: a neighbour of it; the two are called in turn, so that what changes in time strikes both.
        runs: number of calls on each, >= 4. With n runs no more than about ln(n/7.4) can be shown at 95 %.
        adjacency: the neighbours that the two inputs are.
        delta: δ in [0, 1).
        confidence: in (0, 1), one-sided.
        tester: a name of `output_estimators()`, chosen before the runs: the largest of several bounds is no bound.

    Guarantees: frequentist; see `audit.core.held_out.OutputsEstimator`.

    Raises:
        InvalidParameter: if a value breaks its rule, or an answer is no finite number or changes its shape.

    >>> from mechanisms import KeyedSource, RandomizedResponse
    >>> coin, source = RandomizedResponse(epsilon=1.0, categories=2), KeyedSource(0)
    >>> found = mechanism_lower_bound(lambda answer: coin.release(answer, randomness=source), 1, 0, runs=500,
    ...                               adjacency="replace_one", delta=0.0, confidence=0.95)
    >>> round(found.epsilon, 2), found.guarantee
    (0.67, 'frequentist')
    """
    runs = validate.count("black_box", "runs", runs, least=4)
    kinds = output_estimators()
    estimator = kinds[validate.choice("black_box", "tester", tester, tuple(kinds))]()
    check_level("black_box", delta=delta, confidence=confidence)
    neighbours = Adjacency.parse(adjacency)
    answers = [(_answer(release(first)), _answer(release(second))) for _ in range(runs)]
    if len({len(answer) for pair in answers for answer in pair}) != 1:
        raise InvalidParameter("black_box: answers must always have the same shape, got several.")
    worlds = (np.stack([pair[side] for pair in answers]) for side in (0, 1))
    return LowerBound(
        epsilon=estimator.bound(*worlds, delta=delta, confidence=confidence),
        delta=delta,
        confidence=confidence,
        adjacency=neighbours,
        method=tester,
        guarantee=estimator.guarantee,
        threat_model=THREAT_MODEL,
        design=IndependentRuns(runs=2 * runs),
    )


def output_estimators() -> dict[str, type[OutputsEstimator]]:
    """Return every estimator that takes whatever a mechanism answers, by the name of its file.

    >>> "histogram" in output_estimators()
    True
    """
    return {name: kind for name, kind in estimators().items() if issubclass(kind, OutputsEstimator)}


def _answer(released: Any) -> Array:
    try:
        answer = np.asarray(released, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidParameter(
            f"black_box: answers must be numbers or arrays of them, got {type(released).__name__}.\n"
            "Code other answers, failures among them, as numbers."
        ) from None
    return answer.ravel()
