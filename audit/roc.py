"""How well scores tell members from others: the area under their ROC curve and the rates at low alarms, with limits.

Both limits hold for samples of any size and any laws, ties included, if scores are independent of each other. Those
of the records of one model depend on each other through the model; what is said then is about such a model, no more.
No limit here is evidence of ε: estimators give that.

[H63] W. Hoeffding. Probability Inequalities for Sums of Bounded Random Variables. JASA 58 (1963).
[CP34] C. J. Clopper, E. S. Pearson. The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial.
Biometrika 26 (1934).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from audit.core.binomial import Array, upper_limit
from audit.evidence import check_level
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

HALVINGS = 60
ROUND_OFF = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """An area under a ROC curve: the probability that a member scores higher than another, ties counting half.

    Args:
        value: of the scores seen, in [0, 1].
        lower: of the limits that hold together with the confidence asked for.
        upper: the other.
    """

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """What a threshold does that was set by the scores of non-members alone.

    Args:
        threshold: called members are the scores above it.
        true_positive_rate: share of the members called members, in [0, 1].
        lower: of the limits of the true rate, which hold together with the confidence asked for.
        upper: the other.
        false_positives: how many non-members were called members.
        false_positive_rate_upper: the limit below which their true rate lies, with that confidence too.
    """

    threshold: float
    true_positive_rate: float
    lower: float
    upper: float
    false_positives: int
    false_positive_rate_upper: float


def area_under_curve(included: ArrayLike, excluded: ArrayLike, *, confidence: float) -> Area:
    """Return the area under the ROC curve with limits θ at which  n KL(area ‖ θ) = log(2 / (1 − confidence)).

    n is the smaller of the numbers of members and others, KL that of coins. The area is an average of averages of n
    independent pairs, so that its tails are at most those of such an average [H63, Sec. 5].

    Args:
        included: scores of members, (n₁,), infinite ones allowed.
        excluded: scores of others, (n₀,).
        confidence: in (0, 1), of both limits together.

    Raises:
        InvalidParameter: if there are no scores of one kind, one is NaN, or the confidence breaks its rule.

    >>> found = area_under_curve(np.arange(50) + 25.0, np.arange(50), confidence=0.95)
    >>> round(found.value, 3), round(found.lower, 3), round(found.upper, 3)
    (0.875, 0.715, 0.965)
    """
    members, others = _checked(included, excluded, confidence)
    ordered = np.sort(others)
    beaten = np.searchsorted(ordered, members, side="left") + np.searchsorted(ordered, members, side="right")
    value = float(np.mean(beaten) / (2 * len(others)))
    limit = np.log(2 / (1 - confidence)) / min(len(members), len(others))
    return Area(value=value, lower=_farthest(value, 0.0, limit), upper=_farthest(value, 1.0, limit))


def true_positive_rate(
    included: ArrayLike, excluded: ArrayLike, *, false_positive_rate: float, confidence: float
) -> OperatingPoint:
    """Return the share of members above the lowest threshold that calls this share of others members, or less [CP34].

    With k = ⌊rate · n₀⌋ alarms allowed, the threshold is the (k + 1)-th highest score of the others. Members' scores
    have no part in it, so that of their number those above it are binomial, and the limits exact. The true rate of
    false alarms of the threshold is Beta(k + 1, n₀ − k) where scores have no ties, and lower with ties.

    Args:
        included: scores of members, (n₁,), infinite ones allowed.
        excluded: scores of others, (n₀,).
        false_positive_rate: in [0, 1). Below 1/n₀ no alarm is allowed.
        confidence: in (0, 1): of the two limits of the true positive rate together, and of the other one.

    Raises:
        InvalidParameter: as `area_under_curve`, or if the rate is out of range.

    >>> found = true_positive_rate(np.arange(100) + 50, np.arange(100), false_positive_rate=0.01, confidence=0.95)
    >>> found.threshold, found.true_positive_rate, found.false_positives, round(found.lower, 3)
    (98.0, 0.51, 1, 0.408)
    """
    members, others = _checked(included, excluded, confidence)
    rate = validate.probability("roc", "false_positive_rate", false_positive_rate)
    if rate == 1:
        raise InvalidParameter("roc: false_positive_rate must be below 1, got 1: there everything is called a member.")
    allowed = min(int(rate * len(others) * (1 + ROUND_OFF)), len(others) - 1)  # round-off must not allow them all
    threshold = np.sort(others)[len(others) - allowed - 1]
    caught, tail = int(np.sum(members > threshold)), (1 - confidence) / 2
    return OperatingPoint(
        threshold=float(threshold),
        true_positive_rate=caught / len(members),
        lower=float(1 - upper_limit(len(members) - caught, len(members), tail)),
        upper=float(upper_limit(caught, len(members), tail)),
        false_positives=int(np.sum(others > threshold)),
        false_positive_rate_upper=float(upper_limit(allowed, len(others), 1 - confidence)),
    )


def _farthest(value: float, end: float, limit: float) -> float:
    """Return the θ between value and end, rounded towards the end, at which KL(value ‖ θ) reaches the limit."""
    near, far = value, end
    for _ in range(HALVINGS):
        middle = (near + far) / 2
        near, far = (middle, far) if _divergence(value, middle) <= limit * (1 + ROUND_OFF) else (near, middle)
    return far


def _divergence(value: float, theta: float) -> float:
    """Return the Kullback–Leibler divergence of a coin of rate θ from one of rate `value`."""
    return float(special.rel_entr(value, theta) + special.rel_entr(1 - value, 1 - theta))


def _checked(included: ArrayLike, excluded: ArrayLike, confidence: float) -> tuple[Array, Array]:
    check_level("roc", delta=0.0, confidence=confidence)
    found = [np.asarray(scores, dtype=np.float64).ravel() for scores in (included, excluded)]
    if not all(map(len, found)) or any(np.any(np.isnan(scores)) for scores in found):
        raise InvalidParameter("roc: scores must be one or more of members and of others, and no NaN.")
    return found[0], found[1]
