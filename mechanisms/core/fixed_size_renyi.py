"""Rényi divergences of a step run on a fixed-size sample without replacement, under replace-one neighbours.

[WBK19] Y.-X. Wang, B. Balle, S. Kasiviswanathan. Subsampled Rényi Differential Privacy and Analytical Moments
Accountant. AISTATS 2019. arXiv:1808.00087.
[EH14] T. van Erven, P. Harremoës. Rényi Divergence and Kullback-Leibler Divergence. IEEE Transactions on Information
Theory 60 (2014). arXiv:1206.2459.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, exp, expm1, log, log1p
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.renyi import RenyiBound

LARGEST_ORDER = 1024  # up to which sums of as many terms are taken


def fixed_size_bound(*, base: RenyiBound, batch_size: int, records: int) -> RenyiBound:
    """Return a bound for a step on a uniformly random batch of `batch_size` out of `records` records.

    With γ = batch_size / records and ε(j) the base's divergence of order j, for whole orders α >= 2   [WBK19, Thm 9]

        ε'(α) <= log(1 + γ² C(α, 2) min(4 (e^{ε(2)} − 1), e^{ε(2)} min(2, (e^{ε(∞)} − 1)²))
                       + Σ_{j=3..α} γ^j C(α, j) e^{(j − 1) ε(j)} min(2, (e^{ε(∞)} − 1)^j)) / (α − 1);

    in between, (α − 1) ε'(α) lies below the chord, as it is convex and 0 at α = 1 [EH14]; and never is ε' above the
    base's own: both laws are mixtures, alike but for the record, and divergences are quasi-convex [EH14].

    Args:
        base: of the step run on all of its batch, under REPLACE-ONE neighbours: for Gaussian noise with the replaced
            sensitivity, twice the largest norm of one record (ε(j) = 2 j / σ²), not with that under add/remove.
        batch_size: whole number from 0 to `records`.
        records: whole number from 1 on.

    Guarantees: an upper bound at every order, for replace-one neighbours alone.

    Raises:
        InvalidParameter: if a count breaks its rule.

    >>> from mechanisms.core.renyi import LinearDivergence
    >>> bound = fixed_size_bound(base=LinearDivergence(rho=0.5), batch_size=1, records=100)
    >>> round(bound.divergence(2.0), 9)  # log(1 + .01² · 2 e), where Poisson sampling has .000171813
    0.000543509
    """
    population = validate.count("fixed_size_bound", "records", records, least=1)
    drawn = validate.count("fixed_size_bound", "batch_size", batch_size)
    if drawn > population:
        raise InvalidParameter(f"fixed_size_bound: batch_size must be at most records, got {drawn} of {population}.")
    return _FixedSize(base=base, batch_size=drawn, records=population)


@dataclass(frozen=True, slots=True, kw_only=True)
class _FixedSize(RenyiBound):
    base: RenyiBound
    batch_size: int
    records: int

    def divergence(self, order: float) -> float:
        """Return ε'(order)."""
        whole = self.base.divergence(order)
        if self.batch_size == 0 or whole == 0.0:
            return 0.0
        if self.batch_size == self.records or order > LARGEST_ORDER:
            return whole
        below, above = math.floor(order), math.ceil(order)
        share = Bounds.exact(order) - float(below)
        low, high = (Bounds.exact(_log_moment(self.base, self.batch_size, self.records, end)) for end in (below, above))
        chord = low if below == above else (1.0 - share) * low + share * high
        return min(whole, float((chord / (Bounds.exact(order) - 1.0)).upper))


@lru_cache(maxsize=4096)
def _log_moment(base: RenyiBound, batch_size: int, records: int, order: int) -> float:
    """Bound (α − 1) ε'(α) at a whole order from above: the logarithm above."""
    if order <= 1:
        return 0.0
    log_ratio = log(Bounds.exact(float(batch_size)) / float(records))
    odds = expm1(Bounds.exact(base.divergence(math.inf)))
    second = Bounds.exact(base.divergence(2.0))
    most = min(4.0 * float(expm1(second).upper), float((exp(second) * min(2.0, float((odds * odds).upper))).upper))
    total = exp(2.0 * log_ratio) * _count(order, 2) * Bounds.exact(most)
    if order == 2:
        return float(log1p(total).upper)
    powers = np.arange(3.0, order + 1.0)
    capped = np.minimum((powers * log(odds.clip(0.0, np.inf))).upper, log(Bounds.exact(2.0)).upper)
    terms = powers * log_ratio + log_counts(order) + (powers - 1.0) * Bounds.exact(_divergences(base)[: order - 2])
    return log_sum(total, np.asarray((terms + capped).upper))


@lru_cache(maxsize=64)
def _divergences(base: RenyiBound) -> Array:
    """Return the base's divergences at the orders 3, 4, … ."""
    return base.divergences(np.arange(3.0, LARGEST_ORDER + 1.0))


def _count(n: int, k: int) -> Bounds:
    return Bounds.exact(float(math.comb(n, k)))  # k = 2: below 2^53


@lru_cache(maxsize=256)
def log_counts(order: int, first: int = 3) -> Bounds:
    """Enclose log C(order, j) for j = first, …, order: from whole numbers, whose logarithms are right to an ulp or two.

    >>> bool(log_counts(5).contains(np.log([10.0, 5.0, 1.0])).all())
    True
    """
    count, logs = math.comb(order, first), []
    for j in range(first, order + 1):
        logs.append(math.log(count))
        count = count * (order - j) // (j + 1)
    return Bounds.exact(np.array(logs)).inflate(4 * UNIT_ROUNDOFF)


def log_sum(second: Bounds, terms: Array) -> float:
    """Bound log(1 + second + Σ e^terms) from above; of what is added to 1 where that is small, to keep its digits.

    Args:
        second: enclosure of a number >= 0.
        terms: bounds of the other logarithms from above, shape (n,).
    """
    slack = 1.0 + 2.0 * len(terms) * UNIT_ROUNDOFF
    if max(float(np.max(terms)), second.upper) < 1.0:
        return float(log1p(second + Bounds.exact(float(np.sum(exp(Bounds.exact(terms)).upper))) * slack).upper)
    everything = np.append(terms, log1p(second).upper)
    largest = float(np.max(everything))
    if math.isinf(largest):
        return largest
    total = Bounds.exact(float(np.sum(exp(Bounds.exact(everything) - largest).upper))) * (slack + 2.0 * UNIT_ROUNDOFF)
    return float((largest + log(total)).upper)
