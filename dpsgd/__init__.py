"""Private training: one configuration that is executed, described and audited as the same object.

    from dpsgd import DPSGD, load, mlp, train

`DPSGD` and the values of its fields can be had without torch; every other name imports it on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dpsgd.clipping import AdaptiveQuantile, Automatic, Flat, Normalised, PerLayer
from dpsgd.config import DPSGD
from dpsgd.correlated_laws import BufferedGaussian, MatrixGaussian, TreeGaussian
from dpsgd.cyclic import Cyclic, CyclicPoisson
from dpsgd.independent_laws import IndependentGaussian, LatticeGaussian, RoundedGaussian

if TYPE_CHECKING:
    from dpsgd.augmentation import Augmentation
    from dpsgd.averaging import ExponentialAverage, TailAverage
    from dpsgd.budget import Budget
    from dpsgd.callbacks import STOP
    from dpsgd.card import PrivacyCard
    from dpsgd.checkpoint import Checkpoint
    from dpsgd.datasets import Dataset, load
    from dpsgd.descent import Release, steps
    from dpsgd.findings import Finding
    from dpsgd.gradients import gradient_sum
    from dpsgd.isolation import check_private, validate_model
    from dpsgd.linear import PrivateLinearRegression, PrivateLogisticRegression
    from dpsgd.logs import CsvLog, TensorBoardLog
    from dpsgd.meter import Meter
    from dpsgd.models import count_parameters, layer_sizes, mlp
    from dpsgd.nonprivate import NonPrivate
    from dpsgd.optimizers import DPAdam
    from dpsgd.prescribed import Prescribed, PrescribedGradients, PrescribedVectors
    from dpsgd.replacements import with_replacements
    from dpsgd.resolution import NoiseResolution
    from dpsgd.schedules import Cosine
    from dpsgd.shadows import Shadows, train_together
    from dpsgd.training import TrainResult, train

_HOMES = {
    "Augmentation": "augmentation",
    "Budget": "budget",
    "Checkpoint": "checkpoint",
    "Cosine": "schedules",
    "CsvLog": "logs",
    "DPAdam": "optimizers",
    "Dataset": "datasets",
    "ExponentialAverage": "averaging",
    "Finding": "findings",
    "Meter": "meter",
    "NoiseResolution": "resolution",
    "NonPrivate": "nonprivate",
    "Prescribed": "prescribed",
    "PrescribedGradients": "prescribed",
    "PrescribedVectors": "prescribed",
    "PrivacyCard": "card",
    "PrivateLinearRegression": "linear",
    "PrivateLogisticRegression": "linear",
    "Release": "descent",
    "STOP": "callbacks",
    "Shadows": "shadows",
    "TailAverage": "averaging",
    "TensorBoardLog": "logs",
    "TrainResult": "training",
    "check_private": "isolation",
    "count_parameters": "models",
    "layer_sizes": "models",
    "gradient_sum": "gradients",
    "load": "datasets",
    "mlp": "models",
    "steps": "descent",
    "train": "training",
    "train_together": "shadows",
    "validate_model": "isolation",
    "with_replacements": "replacements",
}

__all__ = [
    "DPSGD",
    "STOP",
    "AdaptiveQuantile",
    "Augmentation",
    "Automatic",
    "Budget",
    "BufferedGaussian",
    "Checkpoint",
    "Cosine",
    "CsvLog",
    "Cyclic",
    "CyclicPoisson",
    "DPAdam",
    "Dataset",
    "ExponentialAverage",
    "Finding",
    "Flat",
    "IndependentGaussian",
    "LatticeGaussian",
    "MatrixGaussian",
    "Meter",
    "NoiseResolution",
    "NonPrivate",
    "Normalised",
    "PerLayer",
    "Prescribed",
    "PrescribedGradients",
    "PrescribedVectors",
    "PrivacyCard",
    "PrivateLinearRegression",
    "PrivateLogisticRegression",
    "Release",
    "RoundedGaussian",
    "Shadows",
    "TailAverage",
    "TensorBoardLog",
    "TrainResult",
    "TreeGaussian",
    "check_private",
    "count_parameters",
    "gradient_sum",
    "layer_sizes",
    "load",
    "mlp",
    "steps",
    "train",
    "train_together",
    "validate_model",
    "with_replacements",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dpsgd' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dpsgd.{_HOMES[name]}"), name)
