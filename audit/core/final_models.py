"""A trainer's final model whose answers and weights are looked at before an attack reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.attack import FinalModel
from audit.core.faults import TrainerFault, blamed
from audit.scores import Values


def guarded(model: FinalModel, dimension: int | None) -> FinalModel:
    """Return the model with answers that are checked.

    Args:
        model: as the trainer gave it.
        dimension: d of its weights, None where that is not known.

    Raises:
        TrainerFault: if its weights, or later its answers, are no finite numbers, or too many or too few.
    """

    def outputs(features: NDArray[Any]) -> NDArray[Any]:
        with blamed("its final model"):
            return _finite(np.asarray(model.outputs(features)), len(features))

    def losses(features: NDArray[Any], targets: NDArray[Any]) -> Values:
        with blamed("its final model"):
            found = _finite(np.asarray(model.losses(features, targets)), len(features)).astype(np.float64)
            if found.ndim != 1:
                raise TrainerFault("the trainer's final model gave losses that are not one for each record")
        return found

    return replace(model, outputs=outputs, losses=losses, weights=_checked_weights(model.weights, dimension))


def _finite(answers: NDArray[Any], records: int) -> NDArray[Any]:
    if answers.ndim < 1 or len(answers) != records:
        raise TrainerFault("the trainer's final model gave more or fewer answers than there were records")
    _check_real("answers", answers)
    return answers


def _checked_weights(weights: Any, dimension: int | None) -> NDArray[Any] | None:
    if weights is None:
        return None
    with blamed("its final model"):
        found = np.asarray(weights)
        if found.ndim != 1 or (dimension is not None and len(found) != dimension):
            wanted = "(d,)" if dimension is None else f"({dimension},)"
            raise TrainerFault(f"the trainer's final model has weights of shape {found.shape}, where {wanted} is due")
        _check_real("weights", found)
    return found


def _check_real(name: str, numbers: NDArray[Any]) -> None:
    if numbers.dtype.kind not in "biuf":
        raise TrainerFault(f"the trainer's final model gave {name} that are no real numbers")
    if not np.all(np.isfinite(numbers)):
        raise TrainerFault(f"the trainer's final model gave {name} that are not finite")
