"""A million draws of every sampler that takes arrays: χ² where outcomes are few, Kolmogorov–Smirnov where not."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from mechanisms import (
    DiscreteGaussian,
    DiscreteLaplace,
    Gaussian,
    KeyedSource,
    Laplace,
    RandomizedResponse,
    UnaryEncoding,
)
from mechanisms.core.exact_coins import exp_coins, geometrics, logistic_coins
from mechanisms.core.exact_uniforms import signs, uniform_integers

MANY = 10**6
pytestmark = pytest.mark.slow


def fits(found, masses):
    """Tell whether whole numbers from 0 on have these probabilities, what is beyond either end counting as the end."""
    seen = np.bincount(np.clip(found, 0, len(masses) - 1), minlength=len(masses))
    return stats.chisquare(seen, MANY * np.array(masses)).pvalue > 1e-4


def spread(weight, most):
    """Return probabilities of −most, …, most, the ends of all beyond them, from weights of whole numbers."""
    k = np.arange(-50 * most, 50 * most + 1)
    masses = weight(k) / np.sum(weight(k))
    return np.bincount(np.clip(k, -most, most) + most, masses)


def release(mechanism, value=0, sensitivity=1):
    return mechanism.release(np.full(MANY, value), sensitivity=sensitivity, randomness=KeyedSource("a million"))


def test_discrete_laplace_noise():
    masses = spread(lambda k: np.exp(-np.abs(k) / 3.0), 30)
    assert fits(release(DiscreteLaplace(noise_multiplier=1.5, sensitivity=2), 4, 2) - 4 + 30, masses)


def test_discrete_gaussian_noise():
    mechanism = DiscreteGaussian(noise_multiplier=10.0, dimension=MANY)
    assert fits(release(mechanism, 4) - 4 + 40, spread(lambda k: np.exp(-((k / 10.0) ** 2) / 2), 40))


def test_gaussian_noise():
    assert stats.kstest(release(Gaussian(noise_multiplier=2.0), 0.3, 1.5), stats.norm(0.3, 3.0).cdf).pvalue > 1e-4


def test_laplace_noise():
    assert stats.kstest(release(Laplace(noise_multiplier=2.0), 0.3, 1.5), stats.laplace(0.3, 3.0).cdf).pvalue > 1e-4


@pytest.mark.parametrize("categories", [2, 3, 10])
def test_answers_of_randomised_response(categories):
    other = 1 / (math.e + categories - 1)
    masses = [other, math.e * other] + [other] * (categories - 2)
    assert fits(release(RandomizedResponse(epsilon=1.0, categories=categories), 1), masses)


@pytest.mark.parametrize("encoding", ["symmetric", "optimised"])
def test_bits_of_unary_encoding(encoding):
    symmetric = encoding == "symmetric"
    other = 1 / (1 + math.exp(0.5 if symmetric else 1.0))
    one = [other, 1 - other if symmetric else 0.5, other]
    bits = release(UnaryEncoding(epsilon=1.0, categories=3, encoding=encoding), 1)
    masses = [math.prod(p if k >> i & 1 else 1 - p for i, p in enumerate(one)) for k in range(8)]
    assert fits(bits.astype(np.int64) @ [1, 2, 4], masses)


def test_coins_trials_signs_and_whole_numbers():
    source = KeyedSource("primitives")
    assert fits(logistic_coins(source, "a", MANY, exponent=1.0, weight=2).astype(int), odds(2 / math.e))
    fallen = exp_coins(source, "b", np.full(MANY, 0.7), lambda _: Fraction(0.7))
    assert fits(fallen.astype(int), [-math.expm1(-0.7), math.exp(-0.7)])
    assert fits(geometrics(source, "c", MANY), [math.exp(-k) * -math.expm1(-1) for k in range(9)] + [math.exp(-9)])
    assert fits(signs(source, "d", MANY).astype(int), [0.5, 0.5])
    assert fits(uniform_integers(source, "e", 13, MANY), [1 / 13] * 13)


def odds(ratio):
    return [1 / (1 + ratio), ratio / (1 + ratio)]


def test_a_law_that_is_off_by_a_hundredth_does_not_fit():
    answers = release(RandomizedResponse(epsilon=1.01), 1)
    assert not fits(answers, odds(math.e))
    assert stats.kstest(release(Laplace(noise_multiplier=1.01), 0.0), stats.laplace(0.0, 1.0).cdf).pvalue < 1e-4
