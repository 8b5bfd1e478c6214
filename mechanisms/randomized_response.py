"""Randomised response: tell the true category with a bounded advantage over any other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, exp
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.exact_coins import logistic_coins
from mechanisms.core.exact_uniforms import uniform_integers
from mechanisms.core.frequencies import YesProbabilities
from mechanisms.core.local import checked_categories, only_replace_one, only_unit_sensitivity
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source

MOST_CATEGORIES = 10**300
MOST_FREQUENCIES = 2**31
STREAM = "randomized_response"


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
        only_replace_one("RandomizedResponse", adjacency)
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

        Guarantees: the law above, exactly: with probability (k − 1)/(e^ε + k − 1), a coin whose binary digits are
        certain, the answer is another category, all of them as probable (`mechanisms.core.exact_coins`). How long it
        takes is no part of the guarantee.

        Args:
            value: category or categories, whole numbers in [0, k); each is a record of its own.
            sensitivity: must be 1: a category has no other.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if a category lies outside [0, k) or is no whole number, or k beyond 2^63.

        >>> from mechanisms import KeyedSource
        >>> RandomizedResponse(epsilon=2.0, categories=4).release(3, randomness=KeyedSource(1)) in range(4)
        True
        """
        only_unit_sensitivity("RandomizedResponse", "category", sensitivity)
        if self.categories > 2**63:
            raise InvalidParameter("RandomizedResponse: categories must be at most 2^63 to be answered in int64.")
        data = checked_categories("RandomizedResponse", "value", value, self.categories)
        answers = data.astype(np.int64).ravel()
        others = self.categories - 1
        lies = logistic_coins(randomness, STREAM, answers.size, exponent=self.epsilon, weight=others)
        drawn = uniform_integers(randomness, STREAM, others, int(np.count_nonzero(lies)))
        answers[lies] = drawn + (drawn >= answers[lies])  # the k − 1 categories that are not the record's own
        return int(answers[0]) if data.ndim == 0 else answers.reshape(data.shape)

    def frequencies(self, answers: Any) -> NDArray[np.float64]:
        """Return unbiased estimates of the shares of records of every category, shape (k,).

            f̂ = (Y − q)/(p − q),  Y the share of answers that are the category, p = e^ε q, q = 1/(e^ε + k − 1).

        Args:
            answers: released categories, in any shape, one at least.

        Raises:
            InvalidParameter: if ε = 0, so that answers tell nothing, if there are none, or one is no category.

        >>> RandomizedResponse(epsilon=50.0, categories=3).frequencies([0, 1, 1, 2]).round(6).tolist()
        [0.25, 0.5, 0.25]
        """
        if self.categories > MOST_FREQUENCIES:
            raise InvalidParameter("RandomizedResponse: categories must be at most 2^31 for a table of frequencies.")
        data = checked_categories("RandomizedResponse", "answers", answers, self.categories).ravel()
        yes = np.bincount(data.astype(np.int64), minlength=self.categories)
        return self._yes_probabilities().frequencies(yes, data.size)

    def frequency_variance(self, frequency: float, *, records: int) -> float:
        """Return the variance of the estimate of a frequency f from n records.

            (f p (1 − p) + (1 − f) q (1 − q)) / (n (p − q)²)          (`mechanisms.core.frequencies`)

        >>> round(RandomizedResponse(epsilon=1.0, categories=2).frequency_variance(0.5, records=100), 6)
        0.009207
        """
        return self._yes_probabilities().variance(frequency, records)

    def _yes_probabilities(self) -> YesProbabilities:
        own = 1.0 / (1.0 + (self.categories - 1) * math.exp(-self.epsilon))
        return YesProbabilities(
            own=own, other=own * math.exp(-self.epsilon), difference=own * -math.expm1(-self.epsilon)
        )
