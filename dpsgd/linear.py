"""Private logistic and linear regression with the interface of scikit-learn.

    model = PrivateLogisticRegression(epsilon=1.0, delta=1e-6, feature_norm=1.0, classes=(0, 1),
                                      randomness=SystemSource())
    model.fit(X, y).predict(X)

What is public is declared and never learnt: the norm that features are clipped to, the classes, the residuals' bound.
Nothing is centred or scaled by the data. `process_` says what was run; every accountant prices it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from dpsgd.core.convex import Floats, Huber, Logistic, Loss, clipped_rows
from dpsgd.core.perturbation import Perturbation
from mechanisms import Adjacency, InvalidParameter, Process, Source
from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, sqrt

TELLING = {
    "NaN": "X and y must hold no NaN",
    "infinity": "X and y must hold no infinity, nor a value too large for float64",
    "omplex data": "Complex data not supported: X and y must be real",
    "parse": "X must be dense, got sparse data",
    "Expected 2D array": "Expected 2D array: X must have the shape (records, features). Reshape your data",
    "0 feature(s)": "0 feature(s) (shape=(, 0)) while a minimum of 1 is required: X must have columns",
    "0 sample(s)": "0 sample(s): X must hold records, one at least",
    "inconsistent numbers": "inconsistent numbers of samples: X and y must have as many records",
    "requires y": "requires y to be passed, but the target y is None",
    "Unknown label type": "Unknown label type: y must hold classes, not continuous values",
    "1d array": "y should be a 1d array of one target a record",
}
UNREADABLE = "every argument must be a string of a number or a number, in arrays"
"""What errors of scikit-learn say, without the data that some of them quote."""


class _PrivateLinear(BaseEstimator):  # type: ignore[misc]
    """What both models share: clipped features, an intercept that is penalised as the rest, the release."""

    randomness: Any
    epsilon: Any
    delta: Any
    feature_norm: Any
    method: Any
    adjacency: Any
    fit_intercept: Any
    intercept_scaling: Any
    tolerance: Any

    def _scores(self, X: Any) -> Floats:
        check_is_fitted(self)
        scores = validate_data(self, X, dtype=np.float64, reset=False) @ self.coef_.T + self.intercept_
        return np.asarray(scores.ravel() if scores.ndim == 2 and scores.shape[1] == 1 else scores)

    def __sklearn_clone__(self) -> Any:
        """Return an unfitted copy with the same source, whose streams go on: no two releases share noise."""
        return type(self)(**self.get_params(deep=False))

    def __getstate__(self) -> Any:
        """Leave the source behind: a copy elsewhere would draw the same noise again; it must be given a new one."""
        return {**super().__getstate__(), "randomness": None}

    def _checked(self, X: Any, y: Any, *, numeric: bool) -> tuple[Floats, NDArray[Any]]:
        """Return X as floats and y of one dimension; errors are raised without what they would quote of the data."""
        if isinstance(X, np.ma.MaskedArray) or isinstance(y, np.ma.MaskedArray):
            raise InvalidParameter(f"{type(self).__name__}: X and y must not be masked arrays. Fill them first.")
        try:
            features, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=numeric)
            if not numeric:
                with warnings.catch_warnings(action="ignore"):  # one counts the classes that occur
                    check_classification_targets(targets)
        except (ValueError, TypeError) as error:
            said = next((text for key, text in TELLING.items() if key in str(error)), UNREADABLE)
            failure = type(error) if isinstance(error, TypeError) else InvalidParameter
            raise failure(f"{type(self).__name__}: {said}.") from None
        return np.asarray(features, dtype=np.float64), targets

    def _plan(self, loss: Loss, ridge: float, fits: int) -> Perturbation:
        owner = type(self).__name__
        self._source()  # a missing one is told before anything else is done
        norm = validate.positive(owner, "feature_norm", self.feature_norm)
        if validate.truth(owner, "fit_intercept", self.fit_intercept):
            scaling = Bounds.exact(validate.positive(owner, "intercept_scaling", self.intercept_scaling))
            norm = float(sqrt(Bounds.exact(norm) * norm + scaling * scaling).upper)
        return Perturbation(
            method=self.method,
            epsilon=self.epsilon,
            delta=self.delta,
            adjacency=Adjacency.parse(self.adjacency),
            fits=fits,
            loss=loss,
            feature_norm=norm,
            ridge=ridge,
            tolerance=self.tolerance,
        )

    def _source(self) -> Source:
        if isinstance(self.randomness, Source):
            return self.randomness
        raise InvalidParameter(
            f"{type(self).__name__}: randomness must be a Source, got {type(self.randomness).__name__}.\n"
            "Use SystemSource(). Copies that were pickled lose theirs: set_params(randomness=...) in each process."
        )

    def _release(self, plan: Perturbation, features: Floats, targets: list[Floats]) -> None:
        """Fit one model to each of the targets, and only then keep anything."""
        rows = clipped_rows(features, float(self.feature_norm))
        if self.fit_intercept:
            rows = np.hstack([rows, np.full((len(rows), 1), float(self.intercept_scaling))])
        process, source = plan.process, self._source()
        weights = np.stack([plan.minimise(rows, target, source) for target in targets])
        self.coef_: Floats = weights[:, : features.shape[1]]
        self.intercept_: Any = weights[:, -1] * (float(self.intercept_scaling) if self.fit_intercept else 0.0) + 0.0
        self.process_: Process = process
        self.reproducible_ = source.reproducible


class PrivateLogisticRegression(ClassifierMixin, _PrivateLinear):  # type: ignore[misc]
    """Differentially private logistic regression with an L2 penalty, one class against the rest for more than two.

        minimise  Σ_i log(1 + e^{−y_i <x_i, w>}) + ‖w‖²/(2 C)        by objective or output perturbation

    Args:
        randomness: a `SystemSource` for real releases; copies by `clone` share it, pickled ones lose it.
        epsilon: ε > 0 of the fit, all classes together.
        delta: δ in [0, 1); 0 asks for a pure guarantee.
        feature_norm: public bound R > 0 of a record's Euclidean norm; longer records are scaled down to it in `fit`.
        classes: the labels that may occur, in order, public: two at least. Which ones do occur is private.
        C: inverse of the penalty, > 0, as in scikit-learn: the losses are added up, not averaged.
        method: "objective" (as a rule less noise) or "output".
        adjacency: the neighbours that ε and δ are about: "add_remove", "replace_one" or "zero_out".
        fit_intercept: whether a constant column, clipped apart and penalised as the others, is added.
        intercept_scaling: its value, > 0.
        tolerance: largest gradient left at the end ÷ that of one record: accounted for; raise it for very many records.

    Attributes:
        process_: what was run; `accountant.compute_epsilon(model.process_, delta=…, adjacency=…)`.
        reproducible_: whether the noise came from a key that others may know: then nothing is private.
        classes_, coef_, intercept_, n_features_in_: as in scikit-learn.

    Guarantees: (ε, δ)-differential privacy of `coef_` and `intercept_` under `adjacency`, but for what float noise
    shows beyond the ideal one where δ = 0, running times, and failures: NaN, infinities, labels that are not declared,
    and minimisers not certified to `tolerance` raise before anything is released, and that they do depends on the data.

    Raises:
        InvalidParameter: in `fit`, if a value breaks its rule; no text quotes data.
        NumericalFailure: in `fit`, if the minimiser is not certified to `tolerance`.

    >>> from mechanisms import KeyedSource
    >>> X, y = np.array([[-1.0], [1.0]] * 500), np.array([0, 1] * 500)
    >>> model = PrivateLogisticRegression(epsilon=1.0, delta=1e-6, feature_norm=1.0, classes=(0, 1),
    ...                                   C=0.01, method="output", randomness=KeyedSource(0))
    >>> model.fit(X, y).score(X, y)
    1.0
    """

    def __init__(
        self,
        *,
        randomness: Source | None,
        epsilon: float,
        delta: float,
        feature_norm: float,
        classes: Sequence[Any] | None = None,
        C: float = 1.0,
        method: str = "objective",
        adjacency: str = "add_remove",
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        tolerance: float = 1e-7,
    ) -> None:
        self.randomness = randomness
        self.epsilon = epsilon
        self.delta = delta
        self.feature_norm = feature_norm
        self.classes = classes
        self.C = C
        self.method = method
        self.adjacency = adjacency
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.tolerance = tolerance

    def fit(self, X: Any, y: Any) -> PrivateLogisticRegression:
        """Release a model of the records X, shape (n, d), and their labels y, shape (n,); return self."""
        features, labels = self._checked(X, y, numeric=False)
        classes = self._declared()
        if not np.all(np.isin(labels, classes)):
            raise InvalidParameter(
                f"{type(self).__name__}: y must hold declared classes only. Declare classes= for all that may occur."
            )
        positive = classes[1:] if len(classes) == 2 else classes
        ridge = float((1.0 / Bounds.exact(validate.positive(type(self).__name__, "C", self.C))).lower)
        plan = self._plan(Logistic(), ridge, len(positive))
        self._release(plan, features, [np.where(labels == one, 1.0, -1.0) for one in positive])
        self.classes_ = classes
        return self

    def decision_function(self, X: Any) -> Floats:
        """Return <x, coef> + intercept, shape (n,), or (n, classes) for more than two; of X as it is, not clipped."""
        return self._scores(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the likeliest class of every record, shape (n,)."""
        scores = self.decision_function(X)
        return np.asarray(self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else np.argmax(scores, axis=1)])

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of every class, shape (n, classes): for more than two, shares of theirs one by one."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.stack([special.expit(-scores), special.expit(scores)], axis=1)
        return np.asarray(special.softmax(special.log_expit(scores), axis=1))

    def _declared(self) -> NDArray[Any]:
        owner = type(self).__name__
        if self.classes is None:
            raise InvalidParameter(
                f"{owner}: classes must be declared, got None.\n"
                "Which labels occur among the records is private. Write classes=(…) for all that may occur."
            )
        classes = np.asarray(self.classes)
        if classes.ndim != 1 or len(classes) < 2 or len(np.unique(classes)) < len(classes):
            raise InvalidParameter(f"{owner}: classes must be two different labels at least, got {self.classes!r}.")
        return classes


class PrivateLinearRegression(RegressorMixin, _PrivateLinear):  # type: ignore[misc]
    """Differentially private linear regression with an L2 penalty and clipped residuals (Huber's loss).

        minimise  Σ_i h(<x_i, w> − y_i) + (alpha/2) ‖w‖²,      h(r) = r²/2 where abs(r) <= residual_clip, linear beyond

    For residuals within the bound it is scikit-learn's `Ridge(alpha)` with a penalised intercept.

    Args:
        randomness: a `SystemSource` for real releases; copies by `clone` share it, pickled ones lose it.
        epsilon: ε > 0 of the fit.
        delta: δ in [0, 1); 0 asks for a pure guarantee.
        feature_norm: public bound R > 0 of a record's Euclidean norm; longer records are scaled down to it in `fit`.
        residual_clip: public bound > 0, in the unit of y, of the residual that a gradient counts; y needs none.
        alpha: penalty Λ > 0: the losses are added up, not averaged.
        method: and the rest, attributes, guarantees and errors: as in `PrivateLogisticRegression`.

    >>> from mechanisms import KeyedSource
    >>> X = np.linspace(-1, 1, 2001)[:, None]
    >>> model = PrivateLinearRegression(epsilon=1.0, delta=1e-6, feature_norm=1.0, residual_clip=1.0, alpha=4.0,
    ...                                 randomness=KeyedSource(0))
    >>> model.fit(X, X[:, 0]).score(X, X[:, 0]) > 0.9
    True
    """

    def __init__(
        self,
        *,
        randomness: Source | None,
        epsilon: float,
        delta: float,
        feature_norm: float,
        residual_clip: float,
        alpha: float = 1.0,
        method: str = "objective",
        adjacency: str = "add_remove",
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        tolerance: float = 1e-7,
    ) -> None:
        self.randomness = randomness
        self.epsilon = epsilon
        self.delta = delta
        self.feature_norm = feature_norm
        self.residual_clip = residual_clip
        self.alpha = alpha
        self.method = method
        self.adjacency = adjacency
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.tolerance = tolerance

    def fit(self, X: Any, y: Any) -> PrivateLinearRegression:
        """Release a model of the records X, shape (n, d), and their targets y, shape (n,); return self."""
        features, targets = self._checked(X, y, numeric=True)
        alpha = validate.positive(type(self).__name__, "alpha", self.alpha)
        plan = self._plan(Huber(residual_clip=self.residual_clip), alpha, 1)
        self._release(plan, features, [np.asarray(targets, dtype=np.float64)])
        self.coef_, self.intercept_ = self.coef_[0], float(self.intercept_[0])
        return self

    def predict(self, X: Any) -> Floats:
        """Return <x, coef> + intercept, shape (n,), of X as it is, not clipped."""
        return self._scores(X)
