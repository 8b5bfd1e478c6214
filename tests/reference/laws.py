"""Checks of a pair against its law in many digits: δ(ε), masses on bins, sums of them."""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
import numpy as np

from mechanisms import DominatingPair
from mechanisms.core.bounds import Bounds
from tests.reference.truth import delta

EPSILONS = (0.0, 1e-9, 0.003, 0.1, 0.27, 1.0, 2.7, 9.0, 30.0)


def edges() -> dict[str, np.ndarray]:
    """Edges of every kind: fine and coarse, about the middle and in the tails, with and without ends at infinity."""
    return {
        "fine": np.linspace(-0.01, 0.01, 9),
        "coarse": np.linspace(-3.0, 3.0, 13),
        "tails": np.array([-math.inf, -40.0, -2.0, -1e-3, 0.0, 1e-12, 0.7, 5.0, 60.0, math.inf]),
        "far": np.linspace(7.99, 8.01, 5),
    }


def assert_delta(pair: DominatingPair, law: Any, width: float = 1e-11) -> None:
    """Assert that δ encloses its definition, to about `width` of itself, one by one and elementwise."""
    together = pair.delta(Bounds.exact(np.array(EPSILONS)))
    for k, epsilon in enumerate(EPSILONS):
        found, truth = pair.delta(Bounds.exact(epsilon)), max(delta(law, mp.mpf(epsilon)), mp.mpf(0))
        assert mp.mpf(found.lower) <= truth <= mp.mpf(found.upper), (epsilon, found, mp.nstr(truth, 20))
        assert found.upper - found.lower <= width * found.upper + 1e-14
        assert together[k].overlaps(found)


def assert_bins(pair: DominatingPair, law: Any, asked: np.ndarray, digits: int = 250) -> None:
    """Assert that masses lie between those of bins with every edge moved by the declared error in and out."""
    scale = np.clip(asked[:-1], -50.0, 50.0)
    found = pair.loss_bins(asked, scale)
    with mp.workdps(digits):  # masses of 1e-200 are differences of numbers near 1
        edge = [mp.mpf(float(x)) for x in np.clip(asked, -1e4, 1e4)]
        error = [mp.mpf(float(e)) for e in found.edge_error]
        for k in range(len(scale)):
            inner = _masses(law, edge[k] + error[k], max(edge[k + 1] - error[k + 1], edge[k] + error[k]))
            outer = _masses(law, edge[k] - error[k], edge[k + 1] + error[k + 1])
            weight = mp.exp(mp.mpf(float(scale[k])))
            assert mp.mpf(float(found.p.lower[k])) <= outer[0] and inner[0] <= mp.mpf(float(found.p.upper[k])), k
            assert mp.mpf(float(found.q.lower[k])) <= weight * outer[1], k
            assert weight * inner[1] <= mp.mpf(float(found.q.upper[k])), k


def assert_totals(pair: DominatingPair, width: float = 1e-9) -> None:
    """Assert that the masses on all bins are 1 but for infinite losses, and known to `width`."""
    asked = np.concatenate([[-math.inf], np.linspace(-20, 20, 4001), [math.inf]])
    bins = pair.loss_bins(asked, np.zeros(len(asked) - 1))
    for part, missing in ((bins.p, pair.infinite_mass), (bins.q, pair.missing_mass)):
        lower, upper = math.fsum(part.lower), math.fsum(part.upper)
        assert lower <= 1 - missing.lower + 1e-15 and upper >= 1 - missing.upper - 1e-15
        assert upper - lower < width


def assert_edges_near(pair: DominatingPair, error: float = 1e-12) -> None:
    """Assert that bins are hardly other ones than those asked for."""
    asked = np.linspace(-3.0, 3.0, 601)
    assert np.max(pair.loss_bins(asked, np.zeros(600)).edge_error) <= error


def _masses(law: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """P and Q of (low, high], infinite losses left out."""
    above, beyond = law.above(low), law.above(high)
    return above[0] - beyond[0], above[1] - beyond[1]
