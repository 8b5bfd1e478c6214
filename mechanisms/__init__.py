"""Mechanisms: what is run, described so that every accountant can price it.

    from mechanisms import Gaussian, Poisson, Repeat, Sampled
    process = Repeat(Sampled(Gaussian(noise_multiplier=1.1), Poisson(probability=0.01)), 10_000)

A new mechanism is one new file beside `gaussian.py`; nothing else is edited.
"""

from mechanisms.approximate_dp import ApproximateDP
from mechanisms.core.bounds import Bounds
from mechanisms.core.discover import implementations as _implementations
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import BudgetExceeded, DPError, InvalidParameter, NumericalFailure, UnsupportedProcess
from mechanisms.core.group import Group
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Allocated, Compose, Mechanism, Process, Repeat, Sampled, leaves
from mechanisms.core.randomness import KeyedSource, Source, SystemSource
from mechanisms.core.sampling import BallsInBins, FixedSize, Poisson, Shuffled, TruncatedPoisson, WithReplacement
from mechanisms.core.serialise import from_json, to_json
from mechanisms.core.stopping import PoissonRuns, TruncatedNegativeBinomial
from mechanisms.core.version import VERSION as __version__
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


def available() -> dict[str, type[Mechanism]]:
    """Return every mechanism there is, by the name of its file.

    >>> available()["gaussian"]
    <class 'mechanisms.gaussian.Gaussian'>
    """
    return _implementations("mechanisms", Mechanism)


__all__ = [
    "ZCDP",
    "Adjacency",
    "Allocated",
    "ApproximateDP",
    "BallsInBins",
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
