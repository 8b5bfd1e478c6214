"""Mechanisms: what is run, described so that every accountant can price it.

    from mechanisms import Gaussian, Poisson, Repeat, Sampled
    process = Repeat(Sampled(Gaussian(noise_multiplier=1.1), Poisson(probability=0.01)), 10_000)

A new mechanism is one new file beside `gaussian.py`; nothing else is edited. Each is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mechanisms.core.bounds import Bounds
from mechanisms.core.discover import implementations as _implementations
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import BudgetExceeded, DPError, InvalidParameter, NumericalFailure, UnsupportedProcess
from mechanisms.core.group import Group
from mechanisms.core.pair import DominatingPair
from mechanisms.core.per_user import PerUser
from mechanisms.core.process import Adjacency, Allocated, Compose, Mechanism, Process, Repeat, Sampled, leaves
from mechanisms.core.randomness import KeyedSource, Source, SystemSource
from mechanisms.core.sampling import BallsInBins, FixedSize, Poisson, Shuffled, TruncatedPoisson, WithReplacement
from mechanisms.core.serialise import from_json, to_json
from mechanisms.core.stopping import PoissonRuns, TruncatedNegativeBinomial
from mechanisms.core.version import VERSION as __version__

if TYPE_CHECKING:
    from mechanisms.approximate_dp import ApproximateDP
    from mechanisms.bounded_gaussian import BoundedGaussian
    from mechanisms.bounded_laplace import BoundedLaplace
    from mechanisms.count import Count
    from mechanisms.covariance import Covariance
    from mechanisms.discrete_gaussian import DiscreteGaussian
    from mechanisms.discrete_laplace import DiscreteLaplace
    from mechanisms.exponential import Exponential
    from mechanisms.gaussian import Gaussian
    from mechanisms.histogram import Histogram
    from mechanisms.laplace import Laplace
    from mechanisms.local_categories import LocalCategories
    from mechanisms.local_noise import LocalNoise
    from mechanisms.matrix import MatrixMechanism
    from mechanisms.mean import Mean
    from mechanisms.noisy_max import NoisyMax
    from mechanisms.objective_perturbation import ObjectivePerturbation
    from mechanisms.pate import ConfidentGNMax, GNMax, LNMax, VoteThreshold
    from mechanisms.permute_and_flip import PermuteAndFlip
    from mechanisms.perturbed_table import PerturbedTable
    from mechanisms.pure_dp import PureDP
    from mechanisms.quantile import Quantile
    from mechanisms.randomized_response import RandomizedResponse
    from mechanisms.selection import Selection
    from mechanisms.sparse_vector import SparseVector
    from mechanisms.staircase import Staircase
    from mechanisms.sum import Sum
    from mechanisms.top_k import TopK
    from mechanisms.tree import Tree
    from mechanisms.truncated_laplace import TruncatedLaplace
    from mechanisms.unary_encoding import UnaryEncoding
    from mechanisms.user_supplied import UserSupplied
    from mechanisms.vector_mean import VectorMean
    from mechanisms.vector_sum import VectorSum
    from mechanisms.zcdp import ZCDP

_HOMES = {
    "ApproximateDP": "approximate_dp",
    "BoundedGaussian": "bounded_gaussian",
    "BoundedLaplace": "bounded_laplace",
    "ConfidentGNMax": "pate",
    "Count": "count",
    "Covariance": "covariance",
    "DiscreteGaussian": "discrete_gaussian",
    "DiscreteLaplace": "discrete_laplace",
    "Exponential": "exponential",
    "GNMax": "pate",
    "Gaussian": "gaussian",
    "Histogram": "histogram",
    "LNMax": "pate",
    "Laplace": "laplace",
    "LocalCategories": "local_categories",
    "LocalNoise": "local_noise",
    "MatrixMechanism": "matrix",
    "Mean": "mean",
    "NoisyMax": "noisy_max",
    "ObjectivePerturbation": "objective_perturbation",
    "PermuteAndFlip": "permute_and_flip",
    "PerturbedTable": "perturbed_table",
    "PureDP": "pure_dp",
    "Quantile": "quantile",
    "RandomizedResponse": "randomized_response",
    "Selection": "selection",
    "SparseVector": "sparse_vector",
    "Staircase": "staircase",
    "Sum": "sum",
    "TopK": "top_k",
    "Tree": "tree",
    "TruncatedLaplace": "truncated_laplace",
    "UnaryEncoding": "unary_encoding",
    "UserSupplied": "user_supplied",
    "VectorMean": "vector_mean",
    "VectorSum": "vector_sum",
    "VoteThreshold": "pate",
    "ZCDP": "zcdp",
}


def available() -> dict[str, type[Mechanism]]:
    """Return every mechanism there is, by the name of its file.

    >>> available()["gaussian"]
    <class 'mechanisms.gaussian.Gaussian'>
    """
    return _implementations("mechanisms", Mechanism)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'mechanisms' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mechanisms.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "ZCDP",
    "Adjacency",
    "Allocated",
    "ApproximateDP",
    "BallsInBins",
    "BoundedGaussian",
    "BoundedLaplace",
    "Bounds",
    "BudgetExceeded",
    "Compose",
    "ConfidentGNMax",
    "Count",
    "Covariance",
    "DPError",
    "DiscreteGaussian",
    "DiscreteLaplace",
    "DiscretePair",
    "DominatingPair",
    "Exponential",
    "FixedSize",
    "GNMax",
    "Gaussian",
    "Group",
    "Histogram",
    "InvalidParameter",
    "KeyedSource",
    "LNMax",
    "Laplace",
    "LocalCategories",
    "LocalNoise",
    "MatrixMechanism",
    "Mean",
    "Mechanism",
    "NoisyMax",
    "NumericalFailure",
    "ObjectivePerturbation",
    "PerUser",
    "PermuteAndFlip",
    "PerturbedTable",
    "Poisson",
    "PoissonRuns",
    "Process",
    "PureDP",
    "Quantile",
    "RandomizedResponse",
    "Repeat",
    "Sampled",
    "Selection",
    "Shuffled",
    "Source",
    "SparseVector",
    "Staircase",
    "Sum",
    "SystemSource",
    "TopK",
    "Tree",
    "TruncatedLaplace",
    "TruncatedNegativeBinomial",
    "TruncatedPoisson",
    "UnaryEncoding",
    "UnsupportedProcess",
    "UserSupplied",
    "VectorMean",
    "VectorSum",
    "VoteThreshold",
    "WithReplacement",
    "__version__",
    "available",
    "from_json",
    "leaves",
    "to_json",
]
