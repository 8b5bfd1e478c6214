"""ρ of single steps: what `accountant.zcdp` and its filter add up. See `accountant.zcdp` for the proofs."""

from __future__ import annotations

import contextlib
import math

from mechanisms.core.bounds import Bounds, exp, expm1
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Process
from mechanisms.core.renyi import LinearDivergence
from mechanisms.gaussian import GaussianPair
from mechanisms.laplace import LaplacePair


def concentration_of(leaf: Process, adjacency: Adjacency) -> float:
    """Bound the ρ of a step from above: as stated, or the larger of its directions.

    Raises:
        UnsupportedProcess: if no ρ is known; the message names the step.

    >>> from mechanisms import Laplace
    >>> round(concentration_of(Laplace(noise_multiplier=1.0), Adjacency.ADD_REMOVE), 6)
    0.367879
    """
    own = None
    with contextlib.suppress(UnsupportedProcess):
        own = leaf.renyi(adjacency)
    if isinstance(own, LinearDivergence):
        return own.rho
    try:
        pairs = leaf.pairs(adjacency)
    except UnsupportedProcess as refusal:
        raise UnsupportedProcess(_refusal(leaf) if own else str(refusal)) from None
    return max(_of_pair(leaf, pairs[direction]) for direction in adjacency.directions)


def _of_pair(leaf: Process, pair: DominatingPair) -> float:
    if isinstance(pair, GaussianPair):
        return float((pair.shift * pair.shift / 2.0).upper)
    if isinstance(pair, LaplacePair):
        s = pair.shift
        return min(float((s + expm1(-s)).upper), float((s * s / 2.0).upper))
    if max(pair.infinite_mass.upper, pair.missing_mass.upper) == 0:
        largest = Bounds.exact(max(float(pair.supremum.upper), float(pair.reverse().supremum.upper), 0.0))
        if math.isfinite(largest.upper):
            entropy = largest * (1.0 - 2.0 / (1.0 + exp(largest)))
            return min(float(entropy.upper), float((largest * largest / 2.0).upper))
    raise UnsupportedProcess(_refusal(leaf))


def _refusal(leaf: Process) -> str:
    return (
        f"zcdp: no ρ is known for {leaf!r}, only for Gaussian and Laplace noise, for steps of bounded loss and for "
        "ZCDP.\n"
        "Use accountant='rdp', which takes the divergence of every order as it is, or a RenyiFilter."
    )
