"""The other samples of the miniature DP-SGD, and how likely each scheme makes what was drawn.

With n records and the plan's q, batches of fixed size, drawn with replacement or cut hold B = q n records, and epochs
are k = 1/q steps long; both are whole. Counts (T, n) say how often a record takes part in a step:

    poisson           independent coins of probability q
    fixed_size        B of n, every such set equally likely
    with_replacement  B draws of one of n
    truncated         Poisson's, but of more than B a uniform subset of B stays
    shuffled          an epoch is an order of the records, cut into k equal batches
    balls_in_bins     in an epoch every record takes part in one step, each step equally likely

For a scheme S and any others, the mean of P_other(counts) ÷ P_S(counts) has expectation at most 1 under S: by Markov's
inequality it reaches 1/α with probability at most α.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from audit.core.toy_training import STEP, Drawn, Place, Sample, poisson
from mechanisms.core.randomness import uniforms

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """A way to draw records.

    Args:
        sample: draws those of a step.
        log_probability: (counts (T, n), q) -> log of the probability of these counts, −inf where they cannot come.
        adjacency: the neighbours that runs under it are claimed to be private for: add_remove or zero_out.
        varies: whether batches differ in size.
    """

    sample: Sample
    log_probability: Callable[[Counts, float], float]
    adjacency: str
    varies: bool


def fixed_size(n: int, place: Place) -> Drawn:
    """Return the first B of a new order."""
    return np.argsort(_keys(n, place))[: _batch(n, place)]


def with_replacement(n: int, place: Place) -> Drawn:
    """Return B numbers of records, one as often as it is drawn."""
    return (_keys(n, place)[: _batch(n, place)] * n).astype(np.int64)


def truncated(n: int, place: Place) -> Drawn:
    """Return those of a Poisson sample, or B of them."""
    drawn = np.flatnonzero(poisson(n, place))
    return drawn[np.argsort(_keys(n, place)[drawn])][: _batch(n, place)]


def shuffled(n: int, place: Place) -> Drawn:
    """Return a batch of an order that is drawn anew for every epoch."""
    steps = _steps(place)
    return np.split(np.argsort(_keys(n, place, epoch=True)), steps)[place.step % steps]


def balls_in_bins(n: int, place: Place) -> Drawn:
    """Return the records whose step of the epoch this is."""
    steps = _steps(place)
    own: Drawn = np.floor(_keys(n, place, epoch=True) * steps) == place.step % steps
    return own


def _keys(n: int, place: Place, *, epoch: bool = False) -> NDArray[np.float64]:
    """Return a uniform number for each record, of this step or of its epoch."""
    position = place.position - place.step % _steps(place) * STEP if epoch else place.position
    return uniforms(place.source.words("order", position, 2 * n))


def _batch(n: int, place: Place) -> int:
    return round(n * place.plan.probability)


def _steps(place: Place) -> int:
    return round(1 / place.plan.probability)


def log_poisson(counts: Counts, q: float) -> float:
    """Return the log-probability of independent coins."""
    return float(_log_coins(counts.sum(axis=1), counts.shape[1], q).sum()) if counts.max() <= 1 else -np.inf


def log_fixed_size(counts: Counts, q: float) -> float:
    """Return that of uniform sets of B."""
    steps, n = counts.shape
    possible = counts.max() <= 1 and np.all(counts.sum(axis=1) == round(n * q))
    return -steps * _log_sets(n, round(n * q)) if possible else -np.inf


def log_with_replacement(counts: Counts, q: float) -> float:
    """Return that of multinomial counts of B draws."""
    steps, n = counts.shape
    batch = round(n * q)
    ways = steps * special.gammaln(batch + 1) - special.gammaln(counts + 1).sum()
    return float(ways - steps * batch * np.log(n)) if np.all(counts.sum(axis=1) == batch) else -np.inf


def log_truncated(counts: Counts, q: float) -> float:
    """Return that of Poisson samples cut to B: a full batch is any sample of B or more, and a uniform part of it."""
    n, sizes = counts.shape[1], counts.sum(axis=1)
    batch = round(n * q)
    full = np.log(special.betainc(batch, n - batch + 1, q)) - _log_sets(n, batch)
    each = np.where(sizes < batch, _log_coins(sizes, n, q), full)
    return float(each.sum()) if counts.max() <= 1 and sizes.max() <= batch else -np.inf


def log_shuffled(counts: Counts, q: float) -> float:
    """Return that of epochs cut into equal batches."""
    n, steps = counts.shape[1], round(1 / q)
    epoch = special.gammaln(n + 1) - steps * special.gammaln(n / steps + 1)
    possible = _once_an_epoch(counts, steps) and np.all(counts.sum(axis=1) * steps == n)
    return -float(epoch) * len(counts) / steps if possible else -np.inf


def log_balls_in_bins(counts: Counts, q: float) -> float:
    """Return that of a step chosen by every record in every epoch."""
    n, steps = counts.shape[1], round(1 / q)
    return -len(counts) / steps * n * float(np.log(steps)) if _once_an_epoch(counts, steps) else -np.inf


def _log_coins(sizes: Counts, n: int, q: float) -> NDArray[np.float64]:
    found: NDArray[np.float64] = special.xlogy(sizes, q) + special.xlog1py(n - sizes, -q)
    return found


def _log_sets(n: int, size: int) -> float:
    return float(special.gammaln(n + 1) - special.gammaln(size + 1) - special.gammaln(n - size + 1))


def _once_an_epoch(counts: Counts, steps: int) -> bool:
    return bool(np.all(counts.reshape(-1, steps, counts.shape[1]).sum(axis=1) == 1))


SCHEMES: dict[str, Scheme] = {
    "poisson": Scheme(sample=poisson, log_probability=log_poisson, adjacency="add_remove", varies=True),
    "fixed_size": Scheme(sample=fixed_size, log_probability=log_fixed_size, adjacency="zero_out", varies=False),
    "with_replacement": Scheme(
        sample=with_replacement, log_probability=log_with_replacement, adjacency="zero_out", varies=False
    ),
    "truncated": Scheme(sample=truncated, log_probability=log_truncated, adjacency="zero_out", varies=True),
    "shuffled": Scheme(sample=shuffled, log_probability=log_shuffled, adjacency="zero_out", varies=False),
    "balls_in_bins": Scheme(
        sample=balls_in_bins, log_probability=log_balls_in_bins, adjacency="add_remove", varies=True
    ),
}


def log_likelier(scheme: str, counts: Counts, q: float) -> float:
    """Return log of the mean over all other schemes of P_other ÷ P_scheme: inf where `scheme` cannot give the counts.

    Guarantees: at least log(1/α) with probability at most α if `scheme` drew them, up to the rounding of logarithms.

    >>> log_likelier("shuffled", np.array([[1, 0], [1, 0]]), 0.5)
    inf
    >>> round(float(np.exp(log_likelier("poisson", np.array([[1, 0], [0, 1]]), 0.5))), 2)
    4.45
    """
    own = SCHEMES[scheme].log_probability(counts, q)
    if own == -np.inf:
        return np.inf
    others = [other.log_probability(counts, q) for name, other in SCHEMES.items() if name != scheme]
    return float(special.logsumexp(others) - np.log(len(others)) - own)
