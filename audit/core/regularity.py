"""Whether records took part in steps as Poisson samples have them do, or too regularly: in turn, or in equal batches.

Poisson samples take every record of a pool by a coin of its own, tossed anew in every step. So whatever went before,
whichever part of the records is the pool in all steps, whether empty samples are left out, and whenever the loop stops:

* *Turns.* Given its size s, a sample is any s records of the pool alike. Of r that were seen it holds H, which is
  hypergeometric, and least, in the stochastic order, in the largest pool: all n records. So

      Π_t  e^{−λ H_t} / E e^{−λ H(n, r_t, s_t)}

  is a non-negative supermartingale for every λ > 0. What counts as seen is forgotten once it and the next sample
  together would be more than n: where records take turns, H is 0 throughout.
* *Sizes.* The size of a sample is S_m ~ Bin(m, q), m the size of the pool, or that given S_m >= 1 where empty ones are
  left out. With c the first size above 0, the same holds of

      Π_t  e^{−λ (s_t − c)²} / sup_m E e^{−λ (S_m − c)²}.

By Ville's inequality [V39] either, and its average over several λ, ever reaches 1/α with chance α at most.

[V39] J. Ville. Étude critique de la notion de collectif. Gauthier-Villars, 1939.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy import special

from audit.core.faults import TrainerFault

CHANCE = 1e-9  # of calling Poisson samples too regular, by turns or by sizes
RATES = np.array([0.5, 2.0, 50.0])  # λ for turns; by the last a record that comes again ends all doubt
SPREADS = np.array([0.5, 4.0])  # λ for sizes, times their variance; the last of `RATES` besides
LEFT_OUT = 60.0  # −log of what a kernel adds, at most, where it is not summed
TINY = 1e-300  # more than is lost where numbers are too small for floats
ROUND_OFF = 1e-13  # more than the logarithm of a mass errs by, relative to the factorials in it

Logs = NDArray[np.float64]


@dataclass(slots=True, kw_only=True, eq=False)
class Regularity:
    """Bets that a loop's samples are more regular than Poisson ones, in memory that does not grow with its steps.

    Args:
        records: n, of which the loop may leave some out.
        probability: q, of every record of the pool in every sample, in (0, 1].

    >>> turns = Regularity(records=300, probability=0.25)
    >>> for start in range(0, 300, 75):
    ...     turns.add(range(start, start + 75))
    >>> turns.check()
    Traceback (most recent call last):
        ...
    audit.core.faults.TrainerFault: the trainer's records came again too rarely for Poisson samples, as in a shuffle
    """

    records: int
    probability: float
    _seen: NDArray[np.bool_] = field(init=False, repr=False)
    _turns: Logs = field(init=False, repr=False)
    _sizes: Logs = field(init=False, repr=False)
    _kernels: tuple[Logs, Logs, int] | None = field(default=None, init=False, repr=False)
    _most: tuple[float, float] = field(default=(0.0, 0.0), init=False, repr=False)

    def __post_init__(self) -> None:
        self._seen = np.zeros(self.records, dtype=np.bool_)
        self._turns, self._sizes = np.zeros(len(RATES)), np.zeros(len(SPREADS) + 1)

    def add(self, drawn: Sequence[int]) -> None:
        """Take in a step's records; where one comes twice they are no sample, as of a loop that also tests on them."""
        places = np.unique(np.asarray(drawn, dtype=np.int64))
        if len(places) < len(drawn):
            return
        self._turns += self._turn(places)
        self._sizes += self._size(len(places))
        self._most = max(self._most[0], _average(self._turns)), max(self._most[1], _average(self._sizes))

    def check(self) -> None:
        """Refuse what happens to Poisson samples with chance 1e-9 at most.

        Raises:
            TrainerFault: if it happened.
        """
        for log_wealth, what in zip(
            self._most,
            (
                "records came again too rarely for Poisson samples, as in a shuffle",
                "batches are too equal in size for Poisson samples",
            ),
            strict=True,
        ):
            if log_wealth >= math.log(2 / CHANCE):
                raise TrainerFault(f"the trainer's {what}")

    def _turn(self, places: NDArray[np.int64]) -> Logs:
        if int(self._seen.sum()) + len(places) > self.records:
            self._seen[:] = False
        again, seen = int(self._seen[places].sum()), int(self._seen.sum())
        self._seen[places] = True
        return -RATES * again - log_means_of_repeats(self.records, seen, len(places))

    def _size(self, size: int) -> Logs:
        if self.probability == 1 or (self._kernels is None and size == 0):
            return np.zeros_like(self._sizes)
        if self._kernels is None:
            rates = np.array([*(SPREADS / (size * (1 - self.probability))), RATES[-1]])
            likely = [most_like(size, self.probability, rate, records=self.records) for rate in rates]
            self._kernels = rates, np.array(likely), size
            return np.zeros_like(self._sizes)
        rates, most, first = self._kernels
        return -rates * (size - first) ** 2 - most


def log_means_of_repeats(records: int, seen: int, size: int) -> Logs:
    """Return log E e^{−λH} for every λ of `RATES`, H how many of `size` of the records drawn alike are among the seen.

    >>> round(float(np.exp(log_means_of_repeats(4, 2, 1))[-1]), 6)  # 1/2, and e^-50/2
    0.5
    """
    again = np.arange(min(seen, size) + 1)
    logs = _log_choose(seen, again) + _log_choose(records - seen, size - again) - _log_choose(records, np.array(size))
    means = np.log(np.exp(-np.outer(RATES, again)) @ np.exp(logs) + TINY)
    found: Logs = np.minimum(means + ROUND_OFF * (1 + special.gammaln(records + 1)), 0.0)
    return found


@lru_cache(maxsize=256)
def most_like(size: int, probability: float, rate: float, *, records: int) -> float:
    """Return the logarithm of sup_m E e^{−rate (S_m − size)²}, over pools of 1 to n, and with or without S_m = 0.

    Binomials in m are totally positive, so that either mean, in m, rises to its largest and falls [K68, ch. 5, §3].

    [K68] S. Karlin. Total Positivity. Stanford University Press, 1968.

    >>> round(math.exp(most_like(2, 0.5, 50.0, records=9)), 3)  # of 2 among 3, given one: 3/7
    0.429
    """
    reach = math.ceil(math.sqrt(LEFT_OUT / rate))
    numbers = np.arange(max(0, size - reach), size + reach + 1)

    def log_mean(pool: int, least: int) -> float:
        some = numbers[(numbers >= least) & (numbers <= pool)]
        logs = _log_choose(pool, some) + special.xlogy(some, probability) + special.xlog1py(pool - some, -probability)
        found = float(special.logsumexp(logs - rate * (some - size) ** 2)) if len(some) else -math.inf
        return found - math.log1p(-((1 - probability) ** pool)) if least else found

    pools = [_top(partial(log_mean, least=least), last=records) for least in (0, 1)]
    found = max(log_mean(pool, least) for least, pool in enumerate(pools))
    return min(0.0, float(np.logaddexp(found, -LEFT_OUT) + ROUND_OFF * (1 + special.gammaln(max(pools) + 1))))


def _top(values: Callable[[int], float], *, last: int) -> int:
    """Return where, from 1 to `last`, numbers that rise and then fall are largest, by thirds."""
    low, high = 1, last
    while high - low > 2:
        third = (high - low) // 3
        left, right = low + third, high - third
        if values(left) <= values(right):
            low = left
        else:
            high = right
    return max(range(low, high + 1), key=values)


def _average(logs: Logs) -> float:
    return float(np.logaddexp.reduce(logs)) - math.log(len(logs))


def _log_choose(whole: int, parts: NDArray[np.int64]) -> Logs:
    found: Logs = special.gammaln(whole + 1) - special.gammaln(parts + 1) - special.gammaln(whole - parts + 1)
    return found
