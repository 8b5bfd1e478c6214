"""Canaries that share directions, and so noise: what each one's projection says beside those before it.

In a step canary i sees x_i = ⟨g_i, noise⟩ and what is added before the noise is drawn. Together the x are normal about
that, with covariance σ² G, G_ij = ⟨g_i, g_j⟩: sums of their squares scatter more than χ² does. With G = L Lᵀ [GVL13]

    r = L^{-1} x

are independent of variance σ²: r_i is the projection on what of g_i is at right angles to g_1, …, g_{i−1}, in length 1.
Canaries of which little is left that way are passed over, which never looks at coins or releases; so no more are
counted than there are dimensions. What canaries add to a step moves r_i by Σ_{j >= i} L_ji over those that take part,
and that is fixed before the noise is drawn.

[GVL13] G. H. Golub, C. F. Van Loan. Matrix Computations. Johns Hopkins, 4th edition, 2013: Gram–Schmidt and Cholesky.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.canaries import GradientCanaries, Mask, Vector

PROBES = 4
ASKEW = 1e-3  # what all canaries at random signs may add to one, in its own unit: a variance of a millionth
LEAST_LEFT = 0.1  # of a unit vector, at right angles to those before: of less, rounding would be divided by it
MOST = 1024  # canaries that are looked at: their matrix takes 8 MiB, and a step multiplies by it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Independent:
    """Projections made independent.

    Args:
        measuring: bool (m,), which canaries have one.
        inverse: L^{-1} of these r, (r, r).
    """

    measuring: Mask
    inverse: NDArray[np.float64]

    @classmethod
    def of(cls, canaries: GradientCanaries) -> Independent:
        """Return what makes the projections of the first 1,024 canaries independent.

        >>> from audit.directions import Directions
        >>> found = Independent.of(Directions(vectors=[[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]]))
        >>> found.measuring, found.seen(np.array([5.0, 7.0, 8.2])).round(6)  # of the vector (5, 5)
        (array([ True,  True, False]), array([5., 5., 0.]))
        """
        from scipy.linalg import solve_triangular

        looked_at = np.arange(min(len(canaries), MOST))
        cosines = canaries.cosines(looked_at)
        factor, kept = np.zeros_like(cosines), np.zeros(0, dtype=np.int64)
        for index in looked_at:
            rank = len(kept)
            along = solve_triangular(factor[:rank, :rank], cosines[kept, index], lower=True) if rank else np.zeros(0)
            left = cosines[index, index] - along @ along
            if left >= LEAST_LEFT**2:
                factor[rank, :rank], factor[rank, rank] = along, np.sqrt(left)
                kept = np.append(kept, index)
        measuring = np.zeros(len(canaries), dtype=np.bool_)
        measuring[kept] = True
        rank = len(kept)
        return cls(measuring=measuring, inverse=solve_triangular(factor[:rank, :rank], np.eye(rank), lower=True))

    def seen(self, projections: Vector) -> Vector:
        """Return r of projections (m,), 0 for a canary that was passed over, (m,)."""
        independent = np.zeros(len(projections))
        independent[self.measuring] = self.inverse @ projections[self.measuring]
        return independent


def at_right_angles(canaries: GradientCanaries) -> bool:
    """Tell whether canaries are unit vectors at right angles: what all at random signs add to one is its own sign.

    >>> from audit.canaries import signed_coordinates
    >>> at_right_angles(signed_coordinates(canaries=3, dimension=5, rng=np.random.default_rng(0)))
    True
    """
    rng = np.random.default_rng(0)
    for _ in range(PROBES):
        positive = rng.random(len(canaries)) < 0.5
        added = canaries.projections(canaries.total(positive) - canaries.total(~positive))
        if np.max(np.abs(added - np.where(positive, 1.0, -1.0))) > ASKEW:
            return False
    return True
