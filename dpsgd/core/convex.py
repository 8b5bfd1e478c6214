"""Strongly convex objectives of linear models, and minimisers whose distance from the exact one is certified.

    J(w) = Σ_i f(<x_i, w>, y_i) + (Λ/2) ‖w‖² + <b, w>

J is Λ-strongly convex, so that ‖w − w*‖ <= ‖∇J(w)‖/Λ for its minimiser w* and every w. The gradient is computed in
floats; what rounding adds to it is bounded from the sizes of what is added up.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mechanisms.core import validate
from mechanisms.core.errors import NumericalFailure

Floats = NDArray[np.float64]
UNIT_ROUNDOFF = 2.0**-53
MOST_STEPS, MOST_HALVINGS = 500, 60
SHRUNK = 0.5
"""Of a gradient that a step has to shrink, where the objective is too flat for floats to tell that it fell."""


class Loss(ABC):
    """A convex loss f(margin, target) of a linear model, with Lipschitz derivative by the margin."""

    __slots__ = ()

    slopes: ClassVar[str]
    largest_bend: ClassVar[float]

    @property
    @abstractmethod
    def largest_slope(self) -> float:
        """The bound of abs(f')."""

    @abstractmethod
    def value(self, margins: Floats, targets: Floats) -> Floats:
        """Return f(margin, target) − f(0, target), shape (n,): no far target drowns the rest of a sum."""

    @abstractmethod
    def slope(self, margins: Floats, targets: Floats) -> Floats:
        """Return f', shape (n,), within 8 units of roundoff of `largest_slope` and what the margin's error makes."""

    @abstractmethod
    def bend(self, margins: Floats, targets: Floats) -> Floats:
        """Return f'' where it exists, else a value between its limits, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Logistic(Loss):
    """log(1 + e^{−y m}) for targets y = ±1: f' is of y's opposite sign and below 1 in size, f'' at most 1/4."""

    slopes = "one_signed"
    largest_bend = 0.25

    @property
    def largest_slope(self) -> float:
        """1."""
        return 1.0

    def value(self, margins: Floats, targets: Floats) -> Floats:
        """log(1 + e^{−y m}) − log 2."""
        return np.logaddexp(0.0, -targets * margins) - math.log(2.0)

    def slope(self, margins: Floats, targets: Floats) -> Floats:
        """−y / (1 + e^{y m})."""
        return np.asarray(-targets * special.expit(-targets * margins))

    def bend(self, margins: Floats, targets: Floats) -> Floats:
        """1 / ((1 + e^m)(1 + e^{−m}))."""
        return np.asarray(special.expit(margins) * special.expit(-margins))


@dataclass(frozen=True, slots=True, kw_only=True)
class Huber(Loss):
    """(m − y)²/2, continued linearly where the residual exceeds a bound: f' is the residual, clipped, f'' at most 1.

    Args:
        residual_clip: the bound, > 0.
    """

    residual_clip: float
    slopes = "two_signed"
    largest_bend = 1.0

    def __post_init__(self) -> None:
        checked = validate.positive("Huber", "residual_clip", self.residual_clip)
        object.__setattr__(self, "residual_clip", checked)

    @property
    def largest_slope(self) -> float:
        """The bound of the residual."""
        return self.residual_clip

    def value(self, margins: Floats, targets: Floats) -> Floats:
        """m c + (c − c₀)(r₀ − (c + c₀)/2), the residual r₀ = −y at 0, c₀ its slope and c that at m."""
        start, end = self.slope(np.zeros_like(margins), targets), self.slope(margins, targets)
        return margins * end + (end - start) * (-targets - 0.5 * (end + start))

    def slope(self, margins: Floats, targets: Floats) -> Floats:
        """m − y, clipped."""
        return np.clip(margins - targets, -self.residual_clip, self.residual_clip)

    def bend(self, margins: Floats, targets: Floats) -> Floats:
        """1 inside the bound, else 0."""
        return np.asarray(np.abs(margins - targets) < self.residual_clip, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Objective:
    """J of one dataset.

    Args:
        loss: f.
        features: x_i, shape (n, d), every norm at most `feature_norm`.
        targets: y_i, shape (n,).
        ridge: Λ > 0.
        linear: b, shape (d,).
        feature_norm: bound of ‖x_i‖.
    """

    loss: Loss
    features: Floats
    targets: Floats
    ridge: float
    linear: Floats
    feature_norm: float

    def value(self, w: Floats) -> float:
        """Return J(w) − J(0)."""
        losses = self.loss.value(self.features @ w, self.targets)
        return float(np.sum(losses) + 0.5 * self.ridge * (w @ w) + self.linear @ w)

    def gradient(self, w: Floats) -> Floats:
        """Return ∇J(w), shape (d,), the records added in a tree, so that rounding grows with log n and not with n."""
        terms = self.features * self.loss.slope(self.features @ w, self.targets)[:, None]
        return tree_sum(terms) + self.ridge * w + self.linear

    def hessian(self, w: Floats) -> Floats:
        """Return ∇²J(w), shape (d, d)."""
        bends = self.loss.bend(self.features @ w, self.targets)
        return (self.features.T * bends) @ self.features + self.ridge * np.eye(len(w))

    def certified_gradient_norm(self, w: Floats) -> float:
        """Return an upper end of ‖∇J(w)‖: what the floats say, and twice the first-order bound of their error.

        A margin is off by d u ‖x‖ ‖w‖ at most; a slope by its bend times that and 8 u of its size; their sum in a tree
        by (log₂ n + 2) u of the sum of sizes; the rest by 8 u of what is added, the norm by d u of itself.
        """
        n, d = self.features.shape
        found, reach = float(np.linalg.norm(self.gradient(w))), float(np.linalg.norm(w))
        slopes = n * self.feature_norm * self.loss.largest_slope
        margins = n * self.feature_norm**2 * self.loss.largest_bend * (d + 2) * reach
        rest = slopes + self.ridge * reach + float(np.linalg.norm(self.linear))
        error = UNIT_ROUNDOFF * (slopes * (math.log2(n + 1) + 12) + margins + 8 * rest + (d + 2) * found)
        return float(found + 2 * error)


def minimiser(objective: Objective, *, tolerance: float) -> Floats:
    """Return w with a certified ‖∇J(w)‖ <= tolerance, so within tolerance/Λ of the minimiser, shape (d,).

    By Newton's method with halved steps. In exact arithmetic it reaches every tolerance, as J is strongly convex and
    smooth; how many steps it takes depends on the data, and running times are not part of any guarantee.

    Raises:
        NumericalFailure: if the certified norm stays above the tolerance. That it does so is a fact about the data
            that no guarantee covers: take a tolerance well above the round-off of n records, about
            n · 1e-14 of one record's largest gradient.
    """
    w = np.zeros(objective.features.shape[1])
    for _ in range(MOST_STEPS):
        if objective.certified_gradient_norm(w) <= tolerance:
            return w
        moved = _newton_step(objective, w)
        if moved is None:
            break
        w = moved
    raise NumericalFailure(
        "minimiser: the gradient's norm was not certified to reach the tolerance. Nothing is released.\n"
        "Raise tolerance, or regularise more."
    )


def _newton_step(objective: Objective, w: Floats) -> Floats | None:
    """Return w after a step that lowers J enough, or shrinks the gradient, None if there is none."""
    gradient, value = objective.gradient(w), objective.value(w)
    try:
        step = np.linalg.solve(objective.hessian(w), gradient)
    except np.linalg.LinAlgError:
        return None
    fall, size = float(gradient @ step), float(np.linalg.norm(gradient))
    length = 1.0
    for _ in range(MOST_HALVINGS):
        moved = w - length * step
        if objective.value(moved) <= value - 1e-4 * length * fall:
            return moved
        if float(np.linalg.norm(objective.gradient(moved))) <= SHRUNK * size:
            return moved
        length *= 0.5
    return None


def tree_sum(terms: Floats) -> Floats:
    """Return the sum over the first axis, added pairwise: at most ⌈log₂ n⌉ roundings on the way of any term.

    >>> float(tree_sum(np.full((1000, 1), 0.1))[0])
    100.0
    """
    while len(terms) > 1:
        half = len(terms) // 2
        rest = terms[2 * half :]
        terms = (
            np.concatenate([terms[:half] + terms[half : 2 * half], rest]) if len(rest) else terms[:half] + terms[half:]
        )
    return terms[0] if len(terms) else np.zeros(terms.shape[1:])


def clipped_rows(features: Floats, most: float) -> Floats:
    """Return rows scaled down to a Euclidean norm of at most `most`, those within it as they are; shape (n, d).

    Guarantees: no exact norm exceeds `most`: rows are scaled to a little less, by what computing norms may be off.
    """
    largest = np.max(np.abs(features), axis=1, initial=0.0, keepdims=True)
    units = features / np.where(largest > 0, largest, 1.0)  # so that no square leaves the floats
    norms = np.linalg.norm(units, axis=1, keepdims=True)
    aim = most * (1.0 - (2 * features.shape[1] + 16) * UNIT_ROUNDOFF)
    with np.errstate(over="ignore"):
        over = largest * norms > aim
    return np.where(over, units * (aim / np.where(norms > 0, norms, 1.0)), features)
