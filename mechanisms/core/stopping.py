"""How many runs a selection takes: laws of a random number K, and what the best of K runs shows of the records.

With f(x) = E x^K, Q(y) the law of one run and Q(<= y) its cdf in the order of scores, the best of K runs has the law
A(y) = f(Q(<= y)) − f(Q(< y)) = Q(y) ∫ f'(q_t) dt, where q_t runs from Q(< y) to Q(<= y). As (a, b) -> a^λ b^{1 − λ} is
convex, for neighbours A, A' with runs Q, Q'

    e^{(λ − 1) D_λ(A‖A')} <= P(K = 0) + e^{(λ − 1) D_λ(Q‖Q')} sup f'(q)^λ f'(q')^{1 − λ},                            (1)

over all probabilities q, q' of one event for Q and Q'. What is known of those bounds the supremum              [PS22].

[PS22] N. Papernot, T. Steinke. Hyperparameter Tuning with Rényi Differential Privacy. ICLR 2022. arXiv:2110.03620.
[LT19] J. Liu, K. Talwar. Private Selection from Private Candidates. STOC 2019. arXiv:1811.07971.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from mechanisms.core import inverted_counts, validate
from mechanisms.core.bounds import Array, Bounds, exp, expm1, log, log1p, where
from mechanisms.core.errors import InvalidParameter, NumericalFailure
from mechanisms.core.randomness import Source

STREAM = "selection"
MOST_RUNS = 1e7  # on average, that are drawn
MOST_BITS = 2**14  # of the first probability of a law that is drawn
SMALL = 1e-8


class Run(Protocol):
    """What is known of one run, under neighbours in either order."""

    def divergences(self, orders: Array) -> Array:
        """Bound D_α from above at every finite α > 1."""

    def delta(self, epsilons: Array) -> Array:
        """Bound δ(ε) from above at every ε >= 0."""

    def least_mean(self, price: float) -> float:
        """Bound min (1 − 1/α) D_α + price/α over α >= 1 from above."""


class Stopping(ABC):
    """The law of the number K of runs: public, drawn without the records and never shown."""

    __slots__ = ()

    @property
    @abstractmethod
    def log_mean(self) -> Bounds:
        """log E[K]."""

    @abstractmethod
    def divergences(self, run: Run, orders: Array) -> Array:
        """Bound D_λ of the best of K runs from above at every finite λ > 1, shape (n,)."""

    @abstractmethod
    def pure(self, epsilon: float) -> float:
        """Bound the ε of the best of K runs that are ε-differentially private, rounded up."""

    @abstractmethod
    def draw(self, randomness: Source) -> int:
        """Return K, exactly of this law.

        Raises:
            NumericalFailure: if it asks for more than 10^7 runs on average.
        """

    def _check_drawn(self, bits: float) -> None:
        if self.log_mean.upper > math.log(MOST_RUNS) or bits > MOST_BITS:
            raise NumericalFailure(
                f"{type(self).__name__}: a law of at most 1e7 runs on average, and of moderate parameters, can be "
                f"drawn, got {self!r}. Ask for fewer runs."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncatedNegativeBinomial(Stopping):
    """K >= 1 with P(K = k) ∝ (1 − γ)^k Π_{l<k} (l + η)/(l + 1)                                      [PS22].

    η = 1 is the geometric law of [LT19], η = 0 the logarithmic one, P(k) ∝ (1 − γ)^k / k; the smaller η, the longer
    its tail for the same mean, and the less it costs. Its best of K runs has, for every λ̂ >= 1,

        D'_λ <= D_λ + (1 + η)(1 − 1/λ̂) D_λ̂ + (1 + η) log(1/γ)/λ̂ + log E[K]/(λ − 1)                  [PS22, Thm 2]

    and is (2 + η)ε-differentially private where one run is ε-differentially private.

    Args:
        eta: η > −1.
        gamma: γ in (0, 1); about one over the number of runs.

    Raises:
        InvalidParameter: if a parameter breaks its rule.

    >>> TruncatedNegativeBinomial(eta=1.0, gamma=0.125).mean.contains(8.0)
    True
    """

    eta: float
    gamma: float

    def __post_init__(self) -> None:
        eta = validate.finite("TruncatedNegativeBinomial", "eta", self.eta)
        if eta <= -1.0:
            raise InvalidParameter(f"TruncatedNegativeBinomial: eta must be above -1, got {eta}.")
        gamma = validate.finite("TruncatedNegativeBinomial", "gamma", self.gamma)
        if not 0.0 < gamma < 1.0:
            raise InvalidParameter(
                f"TruncatedNegativeBinomial: gamma must lie strictly between 0 and 1, got {gamma}.\n"
                "It is about one over the number of runs; TruncatedNegativeBinomial.of_mean(10, eta=0) finds it."
            )
        object.__setattr__(self, "eta", eta)
        object.__setattr__(self, "gamma", gamma)

    @classmethod
    def of_mean(cls, mean: float, *, eta: float) -> TruncatedNegativeBinomial:
        """Return the law of this η whose mean is `mean`, in (1, 10^300), to the rounding of floats.

        >>> round(TruncatedNegativeBinomial.of_mean(10, eta=0.0).gamma, 12)
        0.026918259601
        """
        wanted = validate.finite("TruncatedNegativeBinomial", "mean", mean)
        if not 1.0 < wanted < 1e300:
            raise InvalidParameter(f"TruncatedNegativeBinomial: mean must lie between 1 and 1e300, got {wanted}.")
        low, high = math.log(5e-324), -(2.0**-53)
        for _ in range(100):
            middle = 0.5 * (low + high)
            more = cls(eta=eta, gamma=math.exp(middle)).log_mean.upper > math.log(wanted)
            low, high = (middle, high) if more else (low, middle)
        return cls(eta=eta, gamma=math.exp(low))

    @property
    def log_mean(self) -> Bounds:
        """log of η (1 − γ)/(γ (1 − γ^η)), (1/γ − 1)/log(1/γ) for η = 0: with y = |η| log(1/γ), y/(1 − e^−y) near 1."""
        gamma, size = Bounds.exact(self.gamma), self._log_inverse
        y = abs(self.eta) * size
        growth = 1.0 + Bounds(lower=0.0, upper=float(y.upper)) if y.upper < SMALL else y / -expm1(-y)
        found = log1p(-gamma) + size - log(size) + log(growth)
        return (found if self.eta >= 0.0 else found - y).clip(0.0, math.inf)

    @property
    def mean(self) -> Bounds:
        """E[K]."""
        return exp(self.log_mean)

    @property
    def _log_inverse(self) -> Bounds:
        """log(1/γ), from 1 − γ where that is small and exact."""
        return -log(Bounds.exact(self.gamma)) if self.gamma < 0.5 else -log1p(Bounds.exact(self.gamma - 1.0))

    def divergences(self, run: Run, orders: Array) -> Array:
        """Return the bound above at the best λ̂ that is found."""
        weight = 1.0 + Bounds.exact(self.eta)
        later = weight * run.least_mean(float(self._log_inverse.upper))
        found = Bounds.exact(run.divergences(orders)) + later + self.log_mean / (Bounds.exact(orders) - 1.0)
        return np.asarray(found.upper)

    def pure(self, epsilon: float) -> float:
        """Return (2 + η)ε: in (1), f'(q)/f'(q') = ((γ + (1 − γ)(1 − q'))/(γ + (1 − γ)(1 − q)))^{1 + η}."""
        return float(((2.0 + Bounds.exact(self.eta)) * epsilon).upper)

    def draw(self, randomness: Source) -> int:
        """Return K, see `mechanisms.core.inverted_counts`."""
        self._check_drawn(self.eta * float(self._log_inverse.upper) / math.log(2.0))
        return inverted_counts.truncated_negative_binomial(randomness, STREAM, Fraction(self.eta), Fraction(self.gamma))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoissonRuns(Stopping):
    """K Poisson-distributed, possibly 0.

    With δ̂ that of one run at ε̂ = log(1 + 1/(λ − 1)), its best of K runs has

        e^{(λ − 1) D'_λ} <= e^−μ + μ e^{(λ − 1)(D_λ + μ δ̂)},

    as f'(q)^λ f'(q')^{1 − λ} = μ e^{μ (q − 1) + μ (λ − 1)(q − q')} and q − q' <= (e^ε̂ − 1)(1 − q) + δ̂. Without e^−μ it
    is the bound D_λ + μ δ̂ + log(μ)/(λ − 1) of [PS22] as it is quoted, which would be below 0 for few runs.

    Args:
        runs: μ >= 0, the mean number of runs.

    Raises:
        InvalidParameter: if μ is negative, infinite or NaN.

    >>> PoissonRuns(runs=10.0)
    PoissonRuns(runs=10.0)
    """

    runs: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", validate.non_negative("PoissonRuns", "runs", self.runs))

    @property
    def log_mean(self) -> Bounds:
        """log μ."""
        return log(Bounds.exact(self.runs))

    @property
    def mean(self) -> Bounds:
        """μ."""
        return Bounds.exact(self.runs)

    def divergences(self, run: Run, orders: Array) -> Array:
        """Return the bound above."""
        if self.runs == 0.0:
            return np.zeros(len(orders))
        further = Bounds.exact(orders) - 1.0
        lost = run.delta(np.maximum(np.asarray(log1p(1.0 / further).lower), 0.0))
        worth = Bounds.exact(run.divergences(orders)) + self.runs * Bounds.exact(lost)
        some, none = self.log_mean + further * worth, Bounds.exact(np.full(len(orders), -self.runs))
        finite = np.isfinite(some.upper)
        kept = where(finite, some, Bounds.exact(np.zeros(len(orders))))
        first = kept.lower >= none.upper
        largest, least = where(first, kept, none), where(first, none, kept)
        total = largest + log1p(exp(least - largest))
        return np.where(finite, np.maximum(np.asarray((total / further).upper), 0.0), np.inf)

    def pure(self, epsilon: float) -> float:
        """Return ε + μ tanh(ε/2): in (1), f'(q)/f'(q') = e^{μ (q − q')}, and q − q' is at most tanh(ε/2)."""
        one = Bounds.exact(epsilon)
        if self.runs == 0.0:
            return 0.0
        return float((one + self.runs * (1.0 - 2.0 / (1.0 + exp(one))).clip(0.0, 1.0)).upper) if epsilon else 0.0

    def draw(self, randomness: Source) -> int:
        """Return K, see `mechanisms.core.inverted_counts`."""
        self._check_drawn(0.0)
        return inverted_counts.poisson(randomness, STREAM, Fraction(self.runs))
