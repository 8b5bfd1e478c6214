"""The attack of an informed adversary on a linear classifier trained to its optimum: the missing record, solved for.

[BCH22] B. Balle, G. Cherubin, J. Hayes. Reconstructing Training Data with Informed Adversaries. IEEE S&P 2022.
arXiv:2201.04845.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from audit.attack import Attack, FinalModel, Public, Sees
from audit.canaries import InputCanaries
from audit.core.asked import Asked
from audit.scores import Scores
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

Array = NDArray[np.float64]


def reconstructed_record(
    weights: ArrayLike, features: ArrayLike, targets: ArrayLike, *, ridge: float
) -> tuple[Array, int]:
    """Return the features and the class of the one record that is missing, from the optimum of softmax regression.

    With weights W and intercepts b that minimise  (1/n) Σ_i ℓ(W x_i + b, y_i) + (ridge/2) ‖W‖²,  whose gradient is 0,
    the missing record's own is what is left over, and of rank one, p being the model's answer to x and e_y its class:

        (p − e_y) (x, 1)ᵀ  =  −n ridge (W, 0) − Σ_known (p_i − e_{y_i}) (x_i, 1)ᵀ  =:  (G, g)

    so that x = Gᵀ g / ‖g‖², and y is where g is negative                                                   [BCH22].

    Args:
        weights: (k, d + 1), rows (W, b) of k >= 2 classes.
        features: of the n − 1 known records, (n − 1, d).
        targets: their classes, (n − 1,).
        ridge: λ >= 0; the C of scikit-learn is 1 / (n λ).

    Guarantees: exact for an exact optimum, up to round-off ÷ ‖p − e_y‖: a record that the model is sure of leaves
    little behind. Noise in the weights is multiplied by the curvature n.

    Raises:
        InvalidParameter: if shapes do not fit.

    >>> from sklearn.linear_model import LogisticRegression
    >>> x, y = np.array([[1.0], [-1.0], [2.0], [0.5]]), np.array([1, 0, 2, 0])
    >>> fitted = LogisticRegression(C=1 / (4 * 0.1), solver="newton-cholesky", tol=1e-10).fit(x, y)
    >>> found, label = reconstructed_record(
    ...     np.hstack([fitted.coef_, fitted.intercept_[:, None]]), x[1:], y[1:], ridge=0.1)
    >>> found.round(6), label
    (array([1.]), 1)
    """
    left = _left_over(weights, features, targets, ridge)
    gradient = left[:, -1]
    return left[:, :-1].T @ gradient / (gradient @ gradient), int(np.argmin(gradient))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClosedForm(Attack):
    """score_z = −‖(p_z − e_{y_z}) (x_z, 1)ᵀ − (G, g)‖: how near candidate z's gradient comes to what is left over.

    Without noise it is 0 for the record that was in, whatever the other candidates are; see `reconstructed_record`,
    which needs none.

    Args:
        ridge: λ of the objective that was minimised, >= 0.
        classes: k >= 2; the final weights are W (k, d), row after row, and then the k intercepts.

    Raises:
        InvalidParameter: if a number breaks its rule.
    """

    ridge: float
    classes: int

    threat_model: ClassVar[str] = (
        "informed, final weights: sees the optimum of a linear classifier, knows every record but one, and of this one "
        "the candidates"
    )
    sees: ClassVar[Sees] = "final model"
    takes: ClassVar[type] = InputCanaries
    needs: ClassVar[tuple[str, ...]] = ("known",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ridge", validate.non_negative("closed_form", "ridge", self.ridge))
        object.__setattr__(self, "classes", validate.count("closed_form", "classes", self.classes, least=2))

    def start(self, canaries: InputCanaries, public: Public) -> Asked[InputCanaries]:
        """Return the question, not yet answered."""
        return Asked(canaries=canaries, public=public)

    def observe(self, state: Asked[InputCanaries], release: FinalModel) -> Asked[InputCanaries]:
        """Return how near each candidate comes.

        Raises:
            InvalidParameter: if the trainer does not show its weights, or they are those of another model.
        """
        known: Any = state.public.known
        features, targets = (np.asarray(part, dtype=np.float64) for part in (known.features, known.targets))
        width = state.canaries.features.shape[1]
        if release.weights is None or np.size(release.weights) != self.classes * (width + 1):
            raise InvalidParameter(
                f"closed_form: the trainer must show the {self.classes * (width + 1)} final weights of a linear "
                f"classifier of {self.classes} classes and {width} features, and does not."
            )
        flat = np.asarray(release.weights, dtype=np.float64)
        weights = np.hstack([flat[: -self.classes].reshape(self.classes, width), flat[-self.classes :, None]])
        left = _left_over(weights, features, targets, self.ridge)
        own = _gradients(weights, state.canaries.features, state.canaries.targets)
        return state.answered(-np.linalg.norm(own - left, axis=(1, 2)))

    def finish(self, state: Asked[InputCanaries]) -> Scores:
        """Return the answers as scores."""
        return state.scores()


def _left_over(weights: ArrayLike, features: ArrayLike, targets: ArrayLike, ridge: float) -> Array:
    """Return (G, g), (k, d + 1)."""
    at = np.asarray(weights, dtype=np.float64)
    penalty = validate.non_negative("closed_form", "ridge", ridge) * np.hstack([at[:, :-1], np.zeros((len(at), 1))])
    left: Array = -(np.shape(features)[0] + 1) * penalty - _gradients(at, features, targets).sum(axis=0)
    return left


def _gradients(weights: Array, features: ArrayLike, targets: ArrayLike) -> Array:
    """Return (p_i − e_{y_i}) (x_i, 1)ᵀ of every record, (n, k, d + 1)."""
    rows, labels = _with_ones(features), np.asarray(targets).astype(np.int64)
    if rows.shape[1:] != weights.shape[1:] or labels.shape != rows.shape[:1] or np.any(labels >= len(weights)):
        raise InvalidParameter(
            f"closed_form: records must have {weights.shape[1] - 1} features and a class below {len(weights)} each."
        )
    residuals = special.softmax(rows @ weights.T, axis=1) - np.eye(len(weights))[labels]
    gradients: Array = residuals[:, :, None] * rows[:, None, :]
    return gradients


def _with_ones(features: ArrayLike) -> Array:
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2:
        raise InvalidParameter(f"closed_form: features must have the shape (n, d), got {rows.shape}.")
    return np.hstack([rows, np.ones((len(rows), 1))])
