"""Randomised response: tell the true category with a bounded advantage over any other."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, exp
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source, bernoulli_exp, uniform_integer

MOST_CATEGORIES = 10**300


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomizedResponse(Mechanism):
    """Answer with one of k categories: the true one e^ε times as probable as each other one.

    P(own) = e^ε / (e^ε + k − 1), P(each other) = 1 / (e^ε + k − 1): ε-differentially private under replace-one, the
    only adjacency it has, as everybody answers.

    Args:
        epsilon: ε >= 0 of one answer.
        categories: k >= 2.

    Raises:
        InvalidParameter: if ε is negative, NaN or infinite, or k below 2.

    >>> RandomizedResponse(epsilon=1.0, categories=2)
    RandomizedResponse(epsilon=1.0, categories=2)
    """

    epsilon: float
    categories: int = 2

    def __post_init__(self) -> None:
        checked = validate.non_negative("RandomizedResponse", "epsilon", self.epsilon)
        object.__setattr__(self, "epsilon", checked)
        categories = validate.count("RandomizedResponse", "categories", self.categories, least=2)
        if categories > MOST_CATEGORIES:
            raise InvalidParameter(
                f"RandomizedResponse: categories must be at most 1e300, got {len(str(categories))} digits."
            )
        object.__setattr__(self, "categories", categories)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the answers' laws of two records of different categories: losses ε, 0 and −ε.

        Raises:
            UnsupportedProcess: under any adjacency but replace-one.
        """
        if adjacency is not Adjacency.REPLACE_ONE:
            raise UnsupportedProcess(
                f"RandomizedResponse: its neighbours are replace_one, got {adjacency.value}: "
                "every record answers, so none can be missing. Use adjacency='replace_one'."
            )
        rest = Bounds.exact(float(self.categories - 1))
        rest = rest if self.categories <= 2**53 else rest.inflate(2 * UNIT_ROUNDOFF)
        own = (1.0 / (1.0 + rest * exp(Bounds.exact(-self.epsilon)))).clip(0.0, 1.0)
        other = (1.0 / (rest + exp(Bounds.exact(self.epsilon)))).clip(0.0, 1.0)
        none = Bounds.exact(0.0)
        shared = rest - 1.0 if self.categories > 2 else none  # the categories that neither record has
        same = (shared * other).clip(0.0, 1.0)
        pair = DiscretePair(
            losses=(-self.epsilon, 0.0, self.epsilon),
            masses=(other, same, own),
            infinite_mass=none,
            missing_mass=none,
            attained=True,
        )
        return {"replace": pair}

    def clone_probability(self) -> Bounds:
        """2/(e^ε + 1): for any records, P(answer of y) >= (P(answer of x) + P(answer of x'))/(e^ε + 1).

        The least P(answer of y) is 1/(e^ε + k − 1), and x and x' differ, so that at most one of them has the answer as
        its own: the sum is at most (e^ε + 1)/(e^ε + k − 1). See `mechanisms.core.clones`.
        """
        return 2.0 / (exp(Bounds.exact(self.epsilon)) + 1.0)

    def release(self, value: Any, *, sensitivity: float = 1.0, randomness: Source) -> Any:
        """Return the answer: an int for a category, an int64 array of the same shape for an array of them.

        Guarantees: the law above, exactly: a candidate category is drawn uniformly; the true one is taken, another
        one with probability e^−ε by integer arithmetic alone, else drawing starts again.

        Args:
            value: category or categories, whole numbers in [0, k); each is a record of its own.
            sensitivity: must be 1: a category has no other.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if a category lies outside [0, k) or is no whole number.

        >>> from mechanisms import KeyedSource
        >>> RandomizedResponse(epsilon=2.0, categories=4).release(3, randomness=KeyedSource(1)) in range(4)
        True
        """
        if sensitivity != 1.0:
            raise InvalidParameter(f"RandomizedResponse: sensitivity must be 1 for a category, got {sensitivity!r}.")
        data = np.asarray(value)
        if data.dtype.kind not in "iu" or np.any(data < 0) or np.any(data >= self.categories):
            raise InvalidParameter(
                f"RandomizedResponse: value must hold whole numbers in [0, {self.categories}). "
                "Declare categories for all that may occur, not only for those that do."
            )
        answers = np.array([self._answer(int(one), randomness) for one in data.ravel()], dtype=np.int64)
        return int(answers[0]) if data.ndim == 0 else answers.reshape(data.shape)

    def _answer(self, own: int, randomness: Source) -> int:
        exponent = Fraction(self.epsilon)
        while True:
            candidate = uniform_integer(randomness, "randomized_response", self.categories)
            if candidate == own or bernoulli_exp(randomness, "randomized_response", exponent):
                return candidate
