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
from mechanisms.core.version import VERSION as __version__
from mechanisms.gaussian import Gaussian
from mechanisms.laplace import Laplace
from mechanisms.pure_dp import PureDP
from mechanisms.randomized_response import RandomizedResponse
from mechanisms.zcdp import ZCDP


def available() -> dict[str, type[Mechanism]]:
    """Return every mechanism there is, by the name of its file.

    >>> sorted(available())
    ['approximate_dp', 'gaussian', 'laplace', 'pure_dp', 'randomized_response', 'zcdp']
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
    "DPError",
    "DiscretePair",
    "DominatingPair",
    "FixedSize",
    "Gaussian",
    "Group",
    "InvalidParameter",
    "KeyedSource",
    "Laplace",
    "Mechanism",
    "NumericalFailure",
    "Poisson",
    "Process",
    "PureDP",
    "RandomizedResponse",
    "Repeat",
    "Sampled",
    "Shuffled",
    "Source",
    "SystemSource",
    "TruncatedPoisson",
    "UnsupportedProcess",
    "WithReplacement",
    "__version__",
    "available",
    "from_json",
    "leaves",
    "to_json",
]
