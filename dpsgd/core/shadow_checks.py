"""What is refused before models are trained together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from dpsgd.clipping import AdaptiveQuantile
from dpsgd.config import DPSGD
from dpsgd.core.batches import Rows, check_records
from dpsgd.core.chains import Chain
from dpsgd.core.parameters import check_flat, trainable
from dpsgd.core.population import check_owners
from dpsgd.core.stacked import inputs_of, stackable_chain
from dpsgd.datasets import Dataset
from dpsgd.independent_laws import IndependentGaussian
from dpsgd.nonprivate import NonPrivate
from mechanisms import InvalidParameter
from mechanisms.core import validate


def checked_chain(model: nn.Module, features: Tensor) -> Chain:
    """Return the chain of a model that the features fit.

    Raises:
        InvalidParameter: if they do not, or its copies can't be run together.
    """
    chain = stackable_chain(model)
    parameters = trainable(model)
    check_flat(parameters)
    like, inputs = next(iter(parameters.values())), inputs_of(chain)
    if features.shape[1:] != (inputs,) or features.dtype != like.dtype or features.device != like.device:
        raise InvalidParameter(
            f"train_together: features must be {like.dtype} on {like.device} with {inputs} numbers a record, as the "
            f"model takes them, got {features.dtype} on {features.device} with shape (n, …) = (n, "
            f"{', '.join(map(str, features.shape[1:]))})."
        )
    return chain


def checked_membership(membership: object, records: int) -> list[Rows]:
    """Return the rows of every model's dataset.

    Args:
        membership: as in `train_together`.
        records: of the whole dataset.

    Raises:
        InvalidParameter: if it is of another kind or size.
    """
    if isinstance(membership, (Tensor, np.ndarray)):
        matrix = np.asarray(membership.cpu() if isinstance(membership, Tensor) else membership)
        if matrix.dtype == np.bool_ and matrix.ndim == 2 and matrix.shape[1] == records and len(matrix):
            return [np.flatnonzero(row) for row in matrix]
        raise InvalidParameter(
            "train_together: membership must be bool with a row for every model, one at least, and a column for every "
            f"record, got {matrix.dtype} of {matrix.ndim} dimensions, or of another size."
        )
    rows = [np.asarray(own) for own in validate.sequence("train_together", "membership", membership)]
    for own in rows:
        whole = own.dtype.kind in "iu" or not own.size
        if own.ndim != 1 or not whole or not ((own >= 0) & (own < records)).all():
            raise InvalidParameter(
                "train_together: membership must hold numbers of rows of the dataset, whole numbers from 0, for every "
                "model, and holds others."
            )
        if len(np.unique(own)) < len(own):
            raise InvalidParameter(
                "train_together: membership must name no row twice for one model, and does.\nThe record would count "
                "twice where one unit is accounted. Records of two people that are alike are two rows."
            )
    if not rows:
        raise InvalidParameter("train_together: membership must be of one model at least, got none.")
    return [own.astype(np.int64) for own in rows]


def check_config(config: object, dataset: Dataset, members: Sequence[Rows]) -> None:
    """Refuse what can't be trained together.

    Args:
        config: as in `train_together`.
        dataset: as there.
        members: the rows of every model's dataset.

    Raises:
        InvalidParameter: naming what is in the way.
    """
    if isinstance(config, NonPrivate):
        return
    if not isinstance(config, DPSGD):
        raise InvalidParameter(f"train_together: config must be a DPSGD or a NonPrivate, got {type(config).__name__}.")
    found = {
        "unit": config.unit != "record" and config.unit,
        "noise": not isinstance(config.noise, IndependentGaussian) and config.noise,
        "clipping": isinstance(config.clipping, AdaptiveQuantile) and config.clipping,
    }
    for name, other in found.items():
        if other is not False:
            raise InvalidParameter(
                f"train_together: {name} must be that of plain DP-SGD, got {other!r}.\nTrain one by one: train(...)."
            )
    check_owners(config, dataset)
    for number in {len(rows) for rows in members}:
        check_records(config, number)
