"""Unary encoding: a category as one bit for each there is, of which every one is told with noise.

[EPK14] Ú. Erlingsson, V. Pihur, A. Korolova. RAPPOR: Randomized Aggregatable Privacy-Preserving Ordinal Response.
CCS 2014. arXiv:1407.6981.
[WBLJ17] see `mechanisms.core.frequencies`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, exp
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.exact_coins import AT_ONCE, logistic_coins
from mechanisms.core.frequencies import YesProbabilities
from mechanisms.core.local import checked_categories, only_replace_one, only_unit_sensitivity
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source

MOST_CATEGORIES = 2**31
STREAM = "unary_encoding"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnaryEncoding(Mechanism):
    """Answer with k bits, that of the record's own category more probably 1 than the others.

    | encoding | P(own bit is 1) = p | P(another bit is 1) = q | |
    |---|---|---|---|
    | "symmetric" | e^{ε/2} / (e^{ε/2} + 1) | 1 / (e^{ε/2} + 1) | RAPPOR's permanent answer to one category [EPK14] |
    | "optimised" | 1/2 | 1 / (e^ε + 1) | the least variance of rare categories [WBLJ17] |

    The laws of two records of different categories differ in two bits alone, whose losses add to ε, 0 or −ε:
    ε-differentially private under replace-one, the only adjacency it has, as everybody answers.

    Args:
        epsilon: ε >= 0 of one answer.
        categories: k >= 2.
        encoding: "symmetric" or "optimised".

    Raises:
        InvalidParameter: if ε is negative, NaN or infinite, k not in [2, 2^31], or the encoding unknown.

    >>> UnaryEncoding(epsilon=1.0, categories=4, encoding="optimised")
    UnaryEncoding(epsilon=1.0, categories=4, encoding='optimised')
    """

    epsilon: float
    categories: int
    encoding: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", validate.non_negative("UnaryEncoding", "epsilon", self.epsilon))
        categories = validate.count("UnaryEncoding", "categories", self.categories, least=2)
        if categories > MOST_CATEGORIES:
            raise InvalidParameter(
                "UnaryEncoding: categories must be at most 2^31, as each is a bit of every answer. "
                "Use RandomizedResponse(...) for more."
            )
        object.__setattr__(self, "categories", categories)
        encoding = validate.choice("UnaryEncoding", "encoding", self.encoding, ("symmetric", "optimised"))
        object.__setattr__(self, "encoding", str(encoding))

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the law of the loss of the two bits that differ: own ones 1 and 0, 1 and 1 or 0 and 0, 0 and 1.

            loss                 ε                      0                 −ε
            symmetric            p²                  2 p (1 − p)       (1 − p)²
            optimised      e^ε/(e^ε + 1)/2              1/2          1/(e^ε + 1)/2

        Raises:
            UnsupportedProcess: under any adjacency but replace-one.
        """
        only_replace_one("UnaryEncoding", adjacency)
        half, none = Bounds.exact(0.5), Bounds.exact(0.0)
        if self.encoding == "symmetric":
            exponent = Bounds.exact(self.epsilon) * 0.5
            true, false = 1.0 / (1.0 + exp(-exponent)), 1.0 / (1.0 + exp(exponent))
            masses = false * false, 2.0 * true * false, true * true
        else:
            exponent = Bounds.exact(self.epsilon)
            masses = half / (1.0 + exp(exponent)), half, half / (1.0 + exp(-exponent))
        pair = DiscretePair(
            losses=(-self.epsilon, 0.0, self.epsilon),
            masses=tuple(mass.clip(0.0, 1.0) for mass in masses),
            infinite_mass=none,
            missing_mass=none,
            attained=True,
        )
        return {"replace": pair}

    def release(self, value: Any, *, sensitivity: float = 1.0, randomness: Source) -> NDArray[np.uint8]:
        """Return the bits: uint8, of the shape of `value` and one more axis of length k.

        Guarantees: the law above, exactly: coins whose binary digits are certain (`mechanisms.core.exact_coins`), as
        many for every record, whatever its category. How long it takes is no part of the guarantee.

        Args:
            value: category or categories, whole numbers in [0, k); each is a record of its own.
            sensitivity: must be 1: a category has no other.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if a category lies outside [0, k) or is no whole number.

        >>> from mechanisms import KeyedSource
        >>> encoding = UnaryEncoding(epsilon=20.0, categories=4, encoding="symmetric")
        >>> encoding.release([3, 0], randomness=KeyedSource(1)).tolist()
        [[0, 0, 0, 1], [1, 0, 0, 0]]
        """
        only_unit_sensitivity("UnaryEncoding", "category", sensitivity)
        data = checked_categories("UnaryEncoding", "value", value, self.categories)
        own = data.astype(np.int64).ravel()
        bits = np.empty((own.size, self.categories), dtype=np.uint8)
        rows = max(1, AT_ONCE // self.categories)
        for start in range(0, own.size, rows):
            bits[start : start + rows] = self._bits(own[start : start + rows], randomness)
        return bits.reshape(*data.shape, self.categories)

    def _bits(self, own: NDArray[np.int64], randomness: Source) -> NDArray[np.bool_]:
        symmetric = self.encoding == "symmetric"
        exponent = Fraction(self.epsilon) / (2 if symmetric else 1)
        bits = logistic_coins(randomness, STREAM, own.size * self.categories, exponent=exponent)
        bits = bits.reshape(own.size, self.categories)
        row = np.arange(own.size)
        bits[row, own] = ~bits[row, own] if symmetric else logistic_coins(randomness, STREAM, own.size, exponent=0.0)
        return bits

    def frequencies(self, answers: Any) -> NDArray[np.float64]:
        """Return unbiased estimates of the shares of records of every category, shape (k,).

            f̂ = (Y − q)/(p − q),  Y the share of answers whose bit is 1.

        Args:
            answers: released bits, shape (…, k), of one record at least.

        Raises:
            InvalidParameter: if ε = 0, so that answers tell nothing, or the answers are not such bits.

        >>> encoding = UnaryEncoding(epsilon=100.0, categories=2, encoding="symmetric")
        >>> encoding.frequencies([[0, 1], [0, 1], [1, 0], [0, 1]]).round(6).tolist()
        [0.25, 0.75]
        """
        bits = np.asarray(answers)
        shaped = bits.ndim > 0 and bits.shape[-1] == self.categories and bits.dtype.kind in "biuf"
        if not shaped or not np.isin(bits, (0, 1)).all():
            raise InvalidParameter(
                f"UnaryEncoding: answers must be bits, the last axis of length {self.categories}, got an array of "
                f"shape {bits.shape}. Use what release returned."
            )
        rows = bits.reshape(-1, self.categories)
        return self._yes_probabilities().frequencies(rows.sum(axis=0, dtype=np.int64), len(rows))

    def frequency_variance(self, frequency: float, *, records: int) -> float:
        """Return the variance of the estimate of a frequency f from n records.

            (f p (1 − p) + (1 − f) q (1 − q)) / (n (p − q)²)          (`mechanisms.core.frequencies`)

        At f = 0 it is 4 e^ε / (n (e^ε − 1)²) for "optimised", e^{ε/2} / (n (e^{ε/2} − 1)²) for "symmetric" [WBLJ17].

        >>> encoding = UnaryEncoding(epsilon=1.0, categories=9, encoding="optimised")
        >>> round(encoding.frequency_variance(0.0, records=100), 6)
        0.036827
        """
        return self._yes_probabilities().variance(frequency, records)

    def _yes_probabilities(self) -> YesProbabilities:
        exponent = self.epsilon / 2.0 if self.encoding == "symmetric" else self.epsilon
        other = math.exp(-exponent) / (1.0 + math.exp(-exponent))
        apart = math.tanh(exponent / 2.0)  # 1 − 2q
        if self.encoding == "symmetric":
            return YesProbabilities(own=1.0 / (1.0 + math.exp(-exponent)), other=other, difference=apart)
        return YesProbabilities(own=0.5, other=other, difference=apart / 2.0)
