"""From scores and coins to the small arrays that a report shows: binned scores and points of their ROC curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from accountant import available
from audit.core.described import SampledGaussianRun
from audit.pictures import Pictures, RocCurve, ScoreHistogram
from audit.report import FailedEstimator
from audit.scores import LabelledScores
from mechanisms import Adjacency, NumericalFailure, Process, UnsupportedProcess

Array = NDArray[np.float64]
Distribution = Callable[[Array], Array]
BINS = 30
POINTS = 120  # of a ROC curve
ALPHAS = tuple(np.unique(np.concatenate([[0.0], np.geomspace(1e-4, 0.1, 24), np.linspace(0.1, 1.0, 24)])).tolist())
UNIT = "clip norms"


def whatever_succeeds(**makers: Callable[[], Pictures]) -> Pictures:
    """Return what all make together; one that raises is named as missing, and loses neither the others nor the report.

    >>> whatever_succeeds(jaws=lambda: 1 / 0).missing
    ('jaws: ZeroDivisionError',)
    """
    found = Pictures()
    for name, make in makers.items():
        try:
            made = make()
        except Exception as error:
            found = replace(found, missing=(*found.missing, f"{name}: {FailedEstimator.of(name, error).reason}"))
            continue
        seen = {one.name: getattr(made, one.name) for one in fields(made) if one.name != "missing"}
        found = replace(found, **{name: picture for name, picture in seen.items() if picture is not None})
    return found


def pictured(
    data: LabelledScores,
    *,
    process: Process,
    adjacency: Adjacency,
    accountant: str,
    described: SampledGaussianRun | None,
) -> Pictures:
    """Return the pictures of labelled scores.

    Args:
        data: scores and coins.
        process: the claim.
        adjacency: of the claim.
        accountant: whose trade-off curve bounds the ROC curve.
        described: the run whose noise the scores are sums of, in units of the clip norm; None where they are none.
    """
    alpha, allowed = certified(process, adjacency, accountant)
    false_rate, true_rate = roc_points(data.included, data.excluded)
    curve = RocCurve(false_positive_rate=false_rate, true_positive_rate=true_rate, alpha=alpha, allowed=allowed)
    sums = data.scores.sums is None or np.array_equal(data.scores.sums, data.scores.values)
    return Pictures(histogram=histogram(data.included, data.excluded, described if sums else None), roc=curve)


def histogram(included: Array, excluded: Array, described: SampledGaussianRun | None) -> ScoreHistogram | None:
    """Return the binned scores, with the mean counts of the described run: N(0, Tσ²) if out, plus Bin(T, q) if in.

    None where all scores are one number, or so near to another that no bins lie between.
    """
    scores = np.concatenate([included, excluded])
    edges = np.linspace(scores.min(), scores.max(), BINS + 1)
    if not np.all(np.isfinite(edges)) or np.any(np.diff(edges) <= 0):
        return None
    counts = [np.histogram(part, edges)[0] for part in (included, excluded)]
    expected: list[tuple[float, ...]] = [(), ()]
    if described is not None:
        laws = (_inside(described), _outside(described))
        expected = [
            tuple((len(part) * np.maximum(np.diff(law(edges)), 0.0)).tolist())  # between near edges it may round below
            for part, law in zip((included, excluded), laws, strict=True)
        ]
    return ScoreHistogram(
        edges=tuple(edges.tolist()),
        included=tuple(counts[0].tolist()),
        excluded=tuple(counts[1].tolist()),
        expected_included=expected[0],
        expected_excluded=expected[1],
        unit=UNIT if described is not None else "",
    )


def roc_points(included: Array, excluded: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return rates of false and of true alarms at falling thresholds, both ends among them, `POINTS` at most.

    Thinned evenly over the logarithm of the false rate and over the rate itself, so that either scale shows the curve.

    >>> roc_points(np.array([3.0, 1.0]), np.array([2.0, 0.0]))
    ((0.0, 0.0, 0.5, 0.5, 1.0), (0.0, 0.5, 0.5, 1.0, 1.0))
    """
    thresholds = np.unique(np.concatenate([included, excluded]))[::-1]
    above = [
        np.concatenate([[0], len(part) - np.searchsorted(np.sort(part), thresholds, side="left")])
        for part in (included, excluded)
    ]
    last = len(thresholds)
    kept = np.arange(last + 1)
    if len(kept) > POINTS:
        spread = np.concatenate([np.geomspace(1, last, POINTS // 2), np.linspace(0, last, POINTS // 2)])
        kept = np.unique(np.round(spread).astype(int))
    true_rate, false_rate = above[0][kept] / len(included), above[1][kept] / len(excluded)
    return tuple(false_rate.tolist()), tuple(true_rate.tolist())


@lru_cache(maxsize=64)
def certified(process: Process, adjacency: Adjacency, accountant: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (α, 1 − f(α)), f the certified lower end of the claimed trade-off curve; nothing where none is known."""
    kinds = available()
    if accountant not in kinds:
        return (), ()
    try:
        curve = kinds[accountant]().profile(process, adjacency=adjacency).tradeoff(np.array(ALPHAS))
    except (UnsupportedProcess, NumericalFailure):
        return (), ()
    allowed = np.maximum.accumulate(np.clip((1.0 - curve).upper, 0.0, 1.0))
    return ALPHAS, tuple(allowed.tolist())


def _outside(described: SampledGaussianRun) -> Distribution:
    scale = np.sqrt(described.steps) * described.noise_multiplier
    return lambda scores: np.asarray(special.ndtr(scores / scale))


def _inside(described: SampledGaussianRun) -> Distribution:
    """Return the mixture over how often a canary took part."""
    steps, rate = described.steps, described.probability
    times = np.arange(steps + 1)
    below = special.bdtr(times, steps, rate)
    weights = np.diff(below, prepend=0.0)
    outside = _outside(described)
    return lambda scores: np.array([float(weights @ outside(score - times)) for score in scores])
