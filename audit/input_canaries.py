"""Input canaries: records like others that a trainer is unlikely to learn unless it was given them.

Their features stand in the records' own units. How far they disturb each other is for `audit.interference` to say.

[JUO20] M. Jagielski, J. Ullman, A. Oprea. Auditing Differentially Private Machine Learning: How Private is Private
SGD? NeurIPS 2020. arXiv:2006.07709.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from audit.canaries import InputCanaries
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter


def mislabelled(
    features: ArrayLike, targets: ArrayLike, *, canaries: int, classes: int, rng: np.random.Generator
) -> InputCanaries:
    """Return records drawn without replacement, each of a wrong class, all of which are equally likely.

    Args:
        features: of public records, (n, …).
        targets: their classes, (n,), whole numbers from 0.
        canaries: m, 1 <= m <= n.
        classes: k >= 2.
        rng: public randomness.

    Raises:
        InvalidParameter: if a number breaks its rule, or a target is no class.

    >>> mislabelled([[0.1], [0.9]], [0, 1], canaries=2, classes=2, rng=np.random.default_rng(0)).targets
    array([1, 0])
    """
    records, labels = np.asarray(features), np.asarray(targets)
    canaries = validate.count("mislabelled", "canaries", canaries, least=1)
    classes = validate.count("mislabelled", "classes", classes, least=2)
    if labels.dtype.kind not in "iu" or labels.shape != records.shape[:1]:
        raise InvalidParameter(
            f"mislabelled: targets must be whole numbers, one for each of the records, got {labels.dtype} of shape "
            f"{labels.shape}."
        )
    if np.any((labels < 0) | (labels >= classes)) or canaries > len(records):
        raise InvalidParameter(
            f"mislabelled: targets must lie in [0, {classes}) and canaries be at most the {len(records)} records, "
            f"got {canaries}."
        )
    chosen = rng.choice(len(records), size=canaries, replace=False)
    wrong = (labels[chosen] + rng.integers(1, classes, size=canaries)) % classes
    return InputCanaries(features=records[chosen], targets=wrong.astype(labels.dtype))


def blank(shape: Sequence[int], *, canaries: int, classes: int) -> InputCanaries:
    """Return records of nothing but zeros, of the classes 0, 1, … in turn.

    Those of one class are the same record: with more canaries than classes they hide each other.

    Args:
        shape: of one record's features.
        canaries: m >= 1.
        classes: k >= 1.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> blank((2,), canaries=3, classes=2).targets
    array([0, 1, 0])
    """
    canaries = validate.count("blank", "canaries", canaries, least=1)
    targets = np.arange(canaries) % validate.count("blank", "classes", classes, least=1)
    return InputCanaries(features=np.zeros((canaries, *_shape("blank", shape)), dtype=np.float32), targets=targets)


def uniform_noise(
    shape: Sequence[int], *, canaries: int, classes: int, rng: np.random.Generator, low: float = 0.0, high: float = 1.0
) -> InputCanaries:
    """Return records outside the distribution: every number uniform in [low, high], every class equally likely.

    Args:
        shape: of one record's features.
        canaries: m >= 1.
        classes: k >= 1.
        rng: public randomness.
        low: in the records' unit.
        high: above `low`.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> uniform_noise((8, 8), canaries=3, classes=10, rng=np.random.default_rng(0)).features.shape
    (3, 8, 8)
    """
    canaries = validate.count("uniform_noise", "canaries", canaries, least=1)
    classes = validate.count("uniform_noise", "classes", classes, least=1)
    low, high = validate.finite("uniform_noise", "low", low), validate.finite("uniform_noise", "high", high)
    if not low < high:
        raise InvalidParameter(f"uniform_noise: high must be above low, {low}, got {high}.")
    features = rng.uniform(low, high, (canaries, *_shape("uniform_noise", shape))).astype(np.float32)
    return InputCanaries(features=features, targets=rng.integers(classes, size=canaries))


def least_variance(features: ArrayLike, *, canaries: int, classes: int, rng: np.random.Generator) -> InputCanaries:
    """Return records along the directions in which public records vary least, as clipping-aware poison is [JUO20].

    They are the last right singular vectors of the matrix of records, with fair signs, as long as records are on
    average: outside the range of the data, where that has fewer dimensions than numbers. At right angles to each other,
    they share the weights of a first linear layer between them; gradients of other records move those directions least.
    The authors take one, and the class that a trained model finds least likely; here every class is equally likely.

    Args:
        features: of public records, (n, …).
        canaries: m, 1 <= m <= the numbers in a record.
        classes: k >= 1.
        rng: public randomness.

    Raises:
        InvalidParameter: if a number breaks its rule, or the records are not finite.

    >>> flat = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.1]]
    >>> abs(least_variance(flat, canaries=1, classes=2, rng=np.random.default_rng(0)).features).round(1)
    array([[0., 2.]], dtype=float32)
    """
    records = np.asarray(features, dtype=np.float64)
    if records.ndim < 2 or not records.size or not np.all(np.isfinite(records)):
        raise InvalidParameter("least_variance: features must be finite, of one record or more, of shape (n, …).")
    flat = records.reshape(len(records), -1)
    canaries = validate.count("least_variance", "canaries", canaries, least=1)
    classes = validate.count("least_variance", "classes", classes, least=1)
    if canaries > flat.shape[1]:
        raise InvalidParameter(
            f"least_variance: canaries must be at most the {flat.shape[1]} numbers in a record, got {canaries}."
        )
    directions = np.linalg.eigh(flat.T @ flat)[1].T[:canaries]  # eigenvalues rise
    length = np.mean(np.linalg.norm(flat, axis=1))
    made = directions * length * rng.choice([-1.0, 1.0], size=(canaries, 1))
    return InputCanaries(
        features=made.reshape(canaries, *records.shape[1:]).astype(np.float32),
        targets=rng.integers(classes, size=canaries),
    )


def _shape(owner: str, shape: Sequence[int]) -> tuple[int, ...]:
    sizes: Sequence[Any] = validate.sequence(owner, "shape", shape)
    return tuple(validate.count(owner, "shape", size, least=1) for size in sizes)


def with_attribute(features: ArrayLike, target: int, *, columns: Sequence[int], values: ArrayLike) -> InputCanaries:
    """Return one record once for each value of an attribute: the candidates of attribute inference.

    Args:
        features: of the record, (d,), all but the attribute known.
        target: of the record.
        columns: where the attribute stands: one, or several if it is coded by several numbers.
        values: its codes, (s, number of columns); or (s,) for one column. All different.

    Raises:
        InvalidParameter: if there are fewer than two values, two are the same in the record's own precision, or a
            column is none of the record's.

    >>> with_attribute([0.2, 0.0, 0.7], 1, columns=[1], values=[0.0, 1.0]).features
    array([[0.2, 0. , 0.7],
           [0.2, 1. , 0.7]])
    """
    record, places = np.asarray(features), [validate.count("with_attribute", "columns", one) for one in columns]
    codes = np.asarray(values, dtype=np.float64).reshape(len(np.atleast_1d(values)), -1)
    if record.ndim != 1 or not places or max(places) >= len(record) or codes.shape[1] != len(set(places)):
        raise InvalidParameter(
            f"with_attribute: columns must be one different place for each of {codes.shape[1]} numbers of a code in a "
            f"record of shape (d,), got {places}."
        )
    rows = np.tile(record.astype(np.result_type(record.dtype, np.float32)), (len(codes), 1))
    with np.errstate(over="ignore"):  # what is too large for the record is infinite there, and no canary
        rows[:, places] = codes
    if len(np.unique(rows[:, places], axis=0)) != len(codes) or len(codes) < 2:
        raise InvalidParameter(
            f"with_attribute: values must be two or more, all different as {rows.dtype} numbers, which the record has: "
            "equal ones cannot be told."
        )
    return InputCanaries(features=rows, targets=np.full(len(codes), target))
