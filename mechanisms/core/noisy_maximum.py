"""The pair that dominates whoever tells which of several noisy scores is the largest: that of one Laplace release.

Let the noise Z be independent, of one continuous law with P(Z in (x, x + dx)) <= P(Z > x) dx, as exponential, Laplace
and Gumbel noise of scale 1 have it, and let the scores, in units of that scale, move by at most ε relative to each
other between neighbours: by ε/2 either way, or by ε all in one direction.

*A maximum of shifted noise has such a law too*: that it lies in (x, x + dx) has the probability
Σ f_i Π_{j≠i} F_j dx <= Σ (1 − F_i) Π_{j≠i} F_j dx, that of exactly one of the shifted Z exceeding x, which is at most
that of any. So for a set S of candidates and D = max over S − max over the others, both scores and noise, the function
G(s) = P(D > s) falls, by conditioning on either maximum, at a rate of

    −G' <= min(G, 1 − G).                                                                                       (1)

The answer lies in S with probability G(0); for the neighbour with at least G(ε), as moving all of S down and all others
up is the worst. The tail of Laplace noise of scale 1 has (1) with equality: so the probabilities of S are told apart no
better than by a threshold on Lap(0, 1) against Lap(ε, 1), for every S, in either order. The pair of the Laplace
mechanism dominates, at every ε' less than ε-differential privacy alone allows.
"""

from __future__ import annotations

from mechanisms.core.bounds import Bounds
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Direction
from mechanisms.laplace import LaplacePair


def noisy_maximum(epsilon: float, adjacency: Adjacency) -> dict[Direction, DominatingPair]:
    """Return, for every direction, Lap(0, 1) against Lap(ε, 1).

    >>> noisy_maximum(1.0, Adjacency.ADD_REMOVE)["add"].supremum.contains(1.0)
    True
    """
    return dict.fromkeys(adjacency.directions, LaplacePair(shift=Bounds.exact(epsilon), attained=False))
