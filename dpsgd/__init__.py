"""Private training: one configuration that is executed, described and audited as the same object.

    from dpsgd import DPSGD, load, mlp, train

`DPSGD` can be had without torch; every other name imports it on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dpsgd.config import DPSGD

if TYPE_CHECKING:
    from dpsgd.datasets import Dataset, load
    from dpsgd.descent import Release, steps
    from dpsgd.gradients import gradient_sum
    from dpsgd.isolation import check_private
    from dpsgd.linear import PrivateLinearRegression, PrivateLogisticRegression
    from dpsgd.models import count_parameters, mlp
    from dpsgd.prescribed import PrescribedGradients
    from dpsgd.training import TrainResult, train

_HOMES = {
    "Dataset": "datasets",
    "PrescribedGradients": "prescribed",
    "PrivateLinearRegression": "linear",
    "PrivateLogisticRegression": "linear",
    "Release": "descent",
    "TrainResult": "training",
    "check_private": "isolation",
    "count_parameters": "models",
    "gradient_sum": "gradients",
    "load": "datasets",
    "mlp": "models",
    "steps": "descent",
    "train": "training",
}

__all__ = [
    "DPSGD",
    "Dataset",
    "PrescribedGradients",
    "PrivateLinearRegression",
    "PrivateLogisticRegression",
    "Release",
    "TrainResult",
    "check_private",
    "count_parameters",
    "gradient_sum",
    "load",
    "mlp",
    "steps",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dpsgd' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dpsgd.{_HOMES[name]}"), name)
