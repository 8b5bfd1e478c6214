"""Multiplicity: what several answers about one claim prove together.

The largest of ten 95 % bounds is no 95 % bound. Two ways are sound whatever the answers have to do with each other:

- each answer gets a share of the error α, and all hold together with probability 1 − α, by the union bound;
- e-values against one claim (mean at most 1 where it holds) are averaged with weights fixed beforehand, which is an
  e-value again [VW21]; it refutes at 1/α [V39]. Averages of e-processes of one and the same stream of looks may be
  looked at always, those of separate streams only if one is stopped without regard to the other.

Attacks, canaries, δs, thresholds and looks count alike. What is shared or averaged, and how, is fixed before the run.

[VW21] V. Vovk, R. Wang. E-values: Calibration, Combination and Applications. Ann. Statist. 49 (2021). arXiv:1912.06116.
[V39] J. Ville. Étude critique de la notion de collectif. Gauthier-Villars, 1939.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors
from audit.evidence import check_level
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

Array = NDArray[np.float64]


def combined(e_values: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Return the weighted average of e-values against one claim, which is an e-value against it.

    Args:
        e_values: shape (k, …), >= 0, infinite ones allowed; they may depend on each other in any way.
        weights: shape (k,), >= 0, adding up to at most 1, fixed beforehand; equal if left out.

    Raises:
        InvalidParameter: if there is none, one is negative or NaN, or the weights break their rule.

    >>> float(combined([40.0, 0.5, 19.5]))
    20.0
    """
    values = _e_values(e_values)
    if values.ndim < 1 or len(values) == 0:
        raise InvalidParameter(f"multiplicity: e_values must hold one or more, got shape {values.shape}.")
    shares = _shares(len(values), weights)
    total = np.zeros(values.shape[1:])
    for share, value in zip(shares, values, strict=True):
        total += share * value if share > 0 else 0.0  # 0 times an infinite e-value must count as 0
    return total


def refutes(e_value: ArrayLike, *, confidence: float) -> NDArray[np.bool_]:
    """Tell, elementwise, whether an e-value refutes its claim: whether it is at least 1/(1 − confidence).

    Raises:
        InvalidParameter: if one is negative or NaN, or the confidence lies outside (0, 1).

    >>> refutes([19.9, 20.1], confidence=0.95)
    array([False,  True])
    """
    check_level("multiplicity", delta=0.0, confidence=confidence)
    refuted: NDArray[np.bool_] = _e_values(e_value) * (1 - confidence) >= 1
    return refuted


def shared_confidences(answers: int, *, confidence: float, weights: ArrayLike | None = None) -> tuple[float, ...]:
    """Return the confidence at which to ask each answer so that all hold together with `confidence`.

    Args:
        answers: k >= 1.
        confidence: in (0, 1), of all together.
        weights: shape (k,), > 0, adding up to at most 1: shares of the error; equal if left out.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> [round(level, 6) for level in shared_confidences(2, confidence=0.95, weights=[0.8, 0.2])]
    [0.96, 0.99]
    """
    answers = validate.count("multiplicity", "answers", answers, least=1)
    check_level("multiplicity", delta=0.0, confidence=confidence)
    shares = _shares(answers, weights)
    levels = tuple(float(1 - share * (1 - confidence)) for share in shares)
    if not max(levels) < 1:
        raise InvalidParameter(
            "multiplicity: weights must leave each answer an error above 0, got a share too small.\n"
            "An answer that gets no error proves nothing: leave it out."
        )
    return levels


def joint_confidence(confidences: Sequence[float]) -> float:
    """Return the confidence with which several bounds hold together, by the union bound; 0 where it says nothing.

    >>> round(joint_confidence([0.96, 0.99]), 6)
    0.95
    """
    levels = [validate.finite("multiplicity", "confidence", level) for level in confidences]
    if not levels:
        raise InvalidParameter("multiplicity: confidences must hold one or more, got none.")
    for level in levels:
        check_level("multiplicity", delta=0.0, confidence=level)
    return max(0.0, 1 - sum(1 - level for level in levels))


def _e_values(e_values: ArrayLike) -> Array:
    values = doors.numbers("multiplicity", "e_values", e_values)
    if not np.all(values >= 0):
        raise InvalidParameter("multiplicity: e_values must be at least 0 and no NaN, got others.")
    return values


def _shares(count: int, weights: ArrayLike | None) -> Array:
    if weights is None:
        return np.full(count, 1 / count)
    shares = doors.numbers("multiplicity", "weights", weights)
    if shares.shape != (count,) or not np.all(np.isfinite(shares)) or np.any(shares < 0):
        raise InvalidParameter(f"multiplicity: weights must be {count} finite numbers of at least 0, got {weights!r}.")
    if not shares.sum() <= 1 + 1e-12:
        raise InvalidParameter(f"multiplicity: weights must add up to at most 1, got {shares.sum():.15g}.")
    return shares / max(1.0, float(shares.sum()))
