"""The sparse vector technique: tell which of many queries lie above a threshold, and pay for these alone.

Write q_i for the queries, Δ for their sensitivity, T for the threshold, c for the hits, ρ and ν_i for the noise of the
threshold and of query i, of rates r₁ = ε₁/Δ and r₂ = ε₂/(2cΔ), or ε₂/(cΔ) where the queries are monotonic. Query i is
answered "above" if q_i + ν_i >= T + ρ, until c have been; ρ is drawn once [LSL17, Alg 1].

*Guarantee.* All is done on integers: values are rounded down to multiples of a power of two, about 2^-20 Δ, that
depends on Δ alone, which moves neighbours' values apart by at most Δ rounded up, so that this, a whole number, is the Δ
below; noise is P(z) ∝ e^{−r|z|} on the integers. For answers a, with ⊥ the queries not above and ⊤ those above,

    P(a) = Σ_z P(ρ = z) f(z) g(z),    f(z) = Π_⊥ P(ν_i < T + z − q_i),    g(z) = Π_⊤ P(ν_i >= T + z − q_i).

For a neighbour, with primes, |q_i − q_i'| <= Δ. First, f(z) <= f'(z + Δ). Second, T + z + Δ − q_i' <= T + z − q_i + 2Δ,
and P(ν >= y) <= e^{r₂ k} P(ν >= y + k) for whole k >= 0, as this holds for every single integer: g(z) <= e^{2Δ r₂ c}
g'(z + Δ). Third, P(ρ = z) <= e^{ε₁} P(ρ = z + Δ), and z + Δ runs over the integers as z does. So P(a) <= e^{ε₁ + ε₂}
P'(a). Ties play no part: > and >= both will do, if every query is treated alike. Where the queries are monotonic, all
q_i >= q_i' or all q_i <= q_i'. If q_i >= q_i', f(z) <= f'(z) and g(z) <= e^{Δ r₂ c} g'(z); if q_i <= q_i',
f(z) <= f'(z + Δ) and g(z) <= e^{Δ r₂ c} g'(z + Δ), as there T + z + Δ − q_i' <= T + z − q_i + Δ. Queries may be chosen
adaptively: given the answers so far, which are a part of a, they are fixed.

*Split.* ε₁ : ε₂ = 1 : (2c)^{2/3}, monotonic 1 : c^{2/3}, has the least variance of ν − ρ [LSL17]. Numbers, where asked
for, are released with noise of their own at the rate ε₃/(cΔ), on each of the hits: ε₃ in all. To release the number
that was compared with the threshold, to spare the noise of the queries, or to scale it without c, costs more than ε or
is not private at all [LSL17].

[LSL17] M. Lyu, D. Su, N. Li. Understanding the Sparse Vector Technique for Differential Privacy. VLDB 2017.
arXiv:1603.01699.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from fractions import Fraction
from threading import Lock
from typing import Any, NoReturn, cast

import numpy as np

from mechanisms.approximate_dp import guaranteed
from mechanisms.core import validate
from mechanisms.core.discrete_noise import discrete_laplace
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import BudgetExceeded, InvalidParameter
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source

Answer = bool | float | None

RESOLUTION = 20  # bits of the sensitivity on the integers: what rounding it up adds is below 2^-20 of it
STREAM = "sparse_vector"
AHEAD = 256  # draws of noise at most


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseVector(Mechanism):
    """Answer "above" or "below" to any number of queries, until `hits` were above: ε-differentially private in all.

    Args:
        epsilon: ε > 0 of the whole run: ε₁ for the threshold, ε₂ for the comparisons, ε₃ for the numbers.
        hits: c >= 1, how many queries may be above.
        adjacency: the neighbours between which no query moves by more than the sensitivity.
        monotonic: whether one of two neighbours has all queries at least as large as the other, as counting queries
            have under add/remove, not under replace-one: half the noise on the comparisons will do.
        numeric_share: ε₃/ε in [0, 1): above 0, hits are answered by numbers, released with noise of their own.

    Raises:
        InvalidParameter: if a field breaks its rule.

    >>> mechanism = SparseVector(epsilon=1.0, hits=4, adjacency="add_remove")
    >>> [round(float(share), 9) for share in mechanism.shares]  # ε₁ : ε₂ = 1 : 8^{2/3}, no ε₃
    [0.2, 0.8, 0.0]
    """

    epsilon: float
    hits: int
    adjacency: Adjacency
    monotonic: bool = False
    numeric_share: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", validate.positive("SparseVector", "epsilon", self.epsilon))
        hits = validate.count("SparseVector", "hits", self.hits, least=1)
        if hits > sys.maxsize:
            raise InvalidParameter("SparseVector: hits must be at most 2^63 − 1. Use Laplace(...) for every query.")
        object.__setattr__(self, "hits", hits)
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency))
        if not isinstance(self.monotonic, (bool, np.bool_)):
            raise InvalidParameter(f"SparseVector: monotonic must be True or False, got {self.monotonic!r}.")
        object.__setattr__(self, "monotonic", bool(self.monotonic))
        share = validate.probability("SparseVector", "numeric_share", self.numeric_share)
        if share == 1.0:
            raise InvalidParameter(
                "SparseVector: numeric_share must be below 1, got 1: comparisons need a share too. "
                "Use Laplace(...) to release numbers alone."
            )
        object.__setattr__(self, "numeric_share", share)

    @property
    def shares(self) -> tuple[Fraction, Fraction, Fraction]:
        """ε₁, ε₂ and ε₃, exactly: they add to ε."""
        whole, numeric = Fraction(self.epsilon), Fraction(self.epsilon) * Fraction(self.numeric_share)
        ratio = Fraction(((1.0 if self.monotonic else 2.0) * self.hits) ** (2.0 / 3.0))
        threshold = (whole - numeric) / (1 + ratio)
        return threshold, whole - numeric - threshold, numeric

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return randomised response of ε, which dominates; no single run shows exactly that.

        Raises:
            UnsupportedProcess: under any adjacency but its own.
        """
        found = guaranteed(self, self.epsilon, 0.0, stated=self.adjacency, asked=adjacency)
        return {direction: replace(cast(DiscretePair, pair), attained=False) for direction, pair in found.items()}

    def run(self, threshold: float, sensitivity: float, randomness: Source) -> SparseVectorSession:
        """Return a session that answers queries one by one, each of which may depend on the answers before.

        Args:
            threshold: T, finite and public.
            sensitivity: Δ > 0, the most by which one record moves any query.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if the threshold is not finite or the sensitivity not above 0.

        >>> from mechanisms import KeyedSource
        >>> mechanism = SparseVector(epsilon=5.0, hits=1, adjacency="add_remove", numeric_share=0.5)
        >>> session = mechanism.run(1000.0, 1.0, KeyedSource(0))
        >>> session.ask(10.0), 1900 < session.ask(2000.0) < 2100, session.hits_left
        (None, True, 0)
        """
        return SparseVectorSession(self, threshold, sensitivity, randomness)

    def release(
        self, value: Any, *, sensitivity: float, randomness: Source, threshold: float = 0.0
    ) -> tuple[Answer, ...]:
        """Return the answers to these queries, in order, up to the one that is the last hit allowed.

        Args:
            value: queries' values, finite, shape (n,); what is above is what is at least the threshold, with noise.
                An iterator is asked for one after the other, and no further than to the last hit.
            sensitivity: Δ > 0, the most by which one record moves any query.
            randomness: a `SystemSource` for real releases.
            threshold: T, finite and public; 0 for values that are excesses over thresholds of their own.

        Raises:
            InvalidParameter: if a number is not finite, one after the last hit included, or the sensitivity not above
                0: before anything is drawn, but for iterators.

        >>> from mechanisms import KeyedSource
        >>> mechanism = SparseVector(epsilon=5.0, hits=2, adjacency="add_remove", monotonic=True)
        >>> mechanism.release([-90, 80, -70, 95, 85], sensitivity=1.0, randomness=KeyedSource(0))
        (False, True, False, True)
        """
        queries = _queries(value)
        session = self.run(threshold, sensitivity, randomness)
        answers: list[Answer] = []
        for query in queries:
            answers.append(session.ask(query))
            if not session.hits_left:
                break
        return tuple(answers)


class SparseVectorSession:
    """One run: a threshold with its noise, and the hits that are left. `SparseVector.run` makes it.

    Asking after the last hit is refused: whatever else is asked needs a run, and a budget, of its own. Threads are
    answered one after the other. How long an answer takes depends on the noise alone, but for the size of the numbers;
    no guarantee covers time. Noise is drawn ahead, in numbers that depend on those of questions alone.
    """

    __slots__ = ("_grid", "_lock", "_mechanism", "_noise", "_number_scale", "_randomness", "_threshold", "hits_left")

    def __init__(self, mechanism: SparseVector, threshold: float, sensitivity: float, randomness: Source) -> None:
        level = validate.finite("SparseVector", "threshold", threshold)
        most = Fraction(validate.positive("SparseVector", "sensitivity", sensitivity))
        first, second, third = mechanism.shares
        self.hits_left = mechanism.hits
        self._mechanism, self._randomness, self._lock = mechanism, randomness, Lock()
        self._grid = Fraction(2) ** (math.frexp(float(most))[1] - 1 - RESOLUTION)
        movement = math.ceil(most / self._grid)
        moved = movement * mechanism.hits
        self._noise = _Noise(randomness, (moved if mechanism.monotonic else 2 * moved) / second)
        self._number_scale = moved / third if third else None
        self._threshold = self._whole(Fraction(level)) + _Noise(randomness, movement / first).draw()

    def ask(self, value: float | Fraction) -> Answer:
        """Return whether the query is above: True or False, or, of a mechanism with numbers, its number or None.

        Args:
            value: the query's value, finite.

        Raises:
            BudgetExceeded: if all hits are used up.
            InvalidParameter: if the value is no finite number, which is not shown, or in a forked process.
        """
        self._randomness.check_process()  # before the lock, which may have been held when the process was forked
        with self._lock:
            return self._answer(value)

    def _answer(self, value: float | Fraction) -> Answer:
        if not self.hits_left:
            raise BudgetExceeded(
                f"SparseVector: all of its {self._mechanism.hits} hits are used up, so that nothing more can be asked "
                "under its epsilon. Declare more hits before the run, or pay for another one."
            )
        query = self._whole(_exactly(value))
        above = query + self._noise.draw() >= self._threshold
        self.hits_left -= above
        if self._number_scale is None:
            return above
        return self._number(query + _Noise(self._randomness, self._number_scale).draw()) if above else None

    def __reduce__(self) -> NoReturn:
        raise InvalidParameter("SparseVector: a session can't be copied: two would share one threshold and its noise.")

    def _whole(self, value: Fraction) -> int:
        """Return the value in steps of the grid, rounded down: neighbours' values stay within Δ rounded up."""
        return math.floor(value / self._grid)

    def _number(self, steps: int) -> float:
        """Return steps of the grid as the nearest float; beyond the largest, that one."""
        try:
            return float(steps * self._grid)
        except OverflowError:
            return -sys.float_info.max if steps < 0 else sys.float_info.max


def _queries(value: Any) -> Iterable[Any]:
    """Return the queries' values, all of them checked: whether one is refused must not hang on the noise before it."""
    none = isinstance(value, (str, bytes, Set, Mapping, np.ma.MaskedArray)) or not isinstance(value, Iterable)
    if none or (isinstance(value, np.ndarray) and value.ndim != 1):
        raise InvalidParameter("SparseVector: value must be a sequence of queries' values. For one, pass [value].")
    return value if isinstance(value, Iterator) else tuple(_exactly(query) for query in value)


class _Noise:
    """Discrete Laplace noise that is drawn ahead, the more, the more was asked for."""

    __slots__ = ("_ahead", "_randomness", "_scale", "_size")

    def __init__(self, randomness: Source, scale: Fraction) -> None:
        self._randomness, self._scale, self._size, self._ahead = randomness, scale, 1, list[int]()

    def draw(self) -> int:
        if not self._ahead:
            self._ahead = discrete_laplace(self._randomness, STREAM, self._scale, self._size).tolist()
            self._size = min(2 * self._size, AHEAD)
        return self._ahead.pop()


def _exactly(value: Any) -> Fraction:
    """Return a query's value as it is: rounding integers beyond 2^53 to floats would move neighbours further apart."""
    try:
        rounded = validate.finite("SparseVector", "value", value)
    except InvalidParameter:
        raise InvalidParameter(
            "SparseVector: value must be a finite number. Bound the query first, by a rule that no data decides."
        ) from None
    try:
        return Fraction(operator.index(value))
    except TypeError:
        ratio = getattr(value, "as_integer_ratio", rounded.as_integer_ratio)
        return Fraction(*map(int, ratio()))
