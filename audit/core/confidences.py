"""How sure models are of the right class, on a scale on which attacks can compare them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mechanisms.core.errors import InvalidParameter

Array = NDArray[np.float64]


def logit_confidences(outputs: ArrayLike, targets: ArrayLike) -> Array:
    """Return φ = log p_y − log(1 − p_y) of the right class y, p being the softmax of the outputs o      [C22].

        φ = o_y − log Σ_{j ≠ y} exp(o_j)

    This never forms p, which floats round to 1 where a model is sure. It is nearly normal over models [C22].

    Args:
        outputs: (…, m, k), those of any number of models on m records, k >= 2 classes.
        targets: (m,), classes from 0 to k − 1.

    Raises:
        InvalidParameter: if the shapes do not fit, or a target is no class.

    [C22] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis, F. Tramèr. Membership Inference Attacks From First
    Principles. IEEE S&P 2022. arXiv:2112.03570.

    >>> logit_confidences([[3.0, 1.0], [0.0, 50.0]], [0, 1])
    array([ 2., 50.])
    """
    logits, classes = np.asarray(outputs, dtype=np.float64), np.asarray(targets)
    if logits.ndim < 2 or logits.shape[-1] < 2 or classes.shape != logits.shape[-2:-1]:
        raise InvalidParameter(
            "confidences: outputs must have shape (…, m, k) with k >= 2 classes and targets (m,), "
            f"got {logits.shape} and {classes.shape}."
        )
    if classes.dtype.kind not in "iu" or np.any((classes < 0) | (classes >= logits.shape[-1])):
        raise InvalidParameter(f"confidences: targets must be whole numbers from 0 to {logits.shape[-1] - 1}.")
    right = np.arange(logits.shape[-1]) == classes[:, None]
    others = special.logsumexp(np.where(right, -np.inf, logits), axis=-1)
    found: Array = np.sum(np.where(right, logits, 0.0), axis=-1) - others
    return found
