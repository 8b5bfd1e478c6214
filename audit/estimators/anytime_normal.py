"""Lower bounds of ε from a stream of scores with a known normal out-law, valid at every look if the model holds.

Scores have known noise: out N(0, 1), in N(μ, 1) after centring and scaling. With S the sum of n in-scores, wealth

    E(μ₀)  =  Σ_h w_h exp(h (S − μ₀ n) − h² n / 2)

averages likelihood ratios of N(μ₀ + h, 1) to N(μ₀, 1); each has mean exp(h (μ − μ₀)) <= 1 a look wherever μ <= μ₀. It
falls as μ₀ rises. Out-scores say nothing, their law being known, so no run need be spent on them.

It is a parametric companion of `anytime_gdp`: quicker, and wrong as soon as the noise is not what it is said to be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors, e_processes
from audit.core.halving import last_refuted
from audit.core.thresholds import at_most
from audit.evidence import Estimator, Guarantee, Null
from audit.scores import Design, LabelledScores, Stream
from mechanisms.core.process import Process

Array = NDArray[np.float64]
EXCESSES = 0.0625 * 2.0 ** np.arange(8)  # h
SHARES = np.array([1, 1, 3, 1, 2, 4, 1, 1]) / 14
ROUND_OFF = 1e-12  # a look, taken from log wealth: sums of scores of some thousands err by less


def lower_bound_from_scores(
    *, values: ArrayLike, membership: ArrayLike, delta: float, confidence: float, centre: float, deviation: float
) -> float:
    """Return ε at `delta` of the largest μ refuted at any look, 0 if none is.

    Args:
        values: shape (n,), scores in the order of the looks.
        membership: bool (n,), True where the canary was in; it may be in always.
        delta: in (0, 1).
        confidence: in (0, 1), one-sided.
        centre: the known mean of out-scores.
        deviation: the known standard deviation of all scores, > 0.

    Guarantees: at most the ε of μ-GDP at the true μ with probability `confidence`, whenever one stops, if in-scores are
    independent and normal with this deviation and a mean of at most centre + μ deviation. A deviation stated too small
    by a factor raises μ by as much, and more.

    Raises:
        InvalidParameter: if there are no scores, one is not finite, or a number breaks its rule.

    >>> round(lower_bound_from_scores(values=np.full(20, 2.0), membership=np.ones(20, dtype=bool), delta=1e-5,
    ...                               confidence=0.95, centre=0.0, deviation=1.0), 2)
    5.92
    """
    total, count = _sums(values, membership, centre, deviation)
    e_processes.check_normal_level("anytime_normal", delta=delta, confidence=confidence)
    mu = _last_mu(total, count, confidence, 0.0)
    return e_processes.epsilon_of(mu, delta) if mu > 0 else 0.0


def rejects(
    *,
    values: ArrayLike,
    membership: ArrayLike,
    epsilon: float,
    delta: float,
    confidence: float,
    centre: float,
    deviation: float,
) -> NDArray[np.bool_]:
    """Tell for every stream, shape (…, n), whether GDP with δ(ε) = δ is refuted at any look.

    It is the test that `lower_bound_from_scores` inverts; arguments are as there.
    """
    total, count = _sums(values, membership, centre, deviation)
    e_processes.check_normal_level("anytime_normal", delta=delta, confidence=confidence)
    mu = e_processes.mu_of(doors.loss("anytime_normal", epsilon), float(delta))
    if mu > e_processes.LARGEST_MU:
        return np.zeros(total.shape[:-1], dtype=bool)
    looks = total.shape[-1]
    streams = zip(total.reshape(-1, looks), count.reshape(-1, looks), strict=True)
    required = e_processes.log_required(confidence)
    refuted = np.array([e_processes.reaches(_log_terms(*stream, mu), required) for stream in streams], dtype=bool)
    return refuted.reshape(total.shape[:-1])


@dataclass(slots=True, kw_only=True)
class NormalConfidenceSequence(e_processes.ConfidenceSequence):
    """The bound of `lower_bound_from_scores` after every look, from the sum and the number of in-scores.

    Args:
        delta: in (0, 1).
        confidence: in (0, 1), of all bounds together.
        centre: see there.
        deviation: see there.

    >>> watched = NormalConfidenceSequence(delta=1e-5, confidence=0.95, centre=0.0, deviation=1.0)
    >>> [round(watched.update(2.0, True), 2) for _ in range(20)][-1]
    5.92
    """

    centre: float
    deviation: float
    _sum: float = field(default=0.0, init=False, repr=False)
    _count: int = field(default=0, init=False, repr=False)
    _mu: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        e_processes.check_normal_level("NormalConfidenceSequence", delta=self.delta, confidence=self.confidence)
        _check_units("NormalConfidenceSequence", self.centre, self.deviation)

    def _bound(self, score: float, coin: bool) -> float:
        if coin:
            self._sum += (score - self.centre) / self.deviation
            self._count += 1
            self._mu = _last_mu(np.array(self._sum), np.array(float(self._count)), self.confidence, self._mu)
        return e_processes.epsilon_of(self._mu, self.delta) if self._mu > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnytimeNormal(Estimator):
    """The bound of `lower_bound_from_scores`: parametric, for scores in units of their known noise.

    Args:
        centre: see there; 0 unless out-scores are known to lie elsewhere.
        deviation: see there; 1 where scores are in units of their noise.

    >>> AnytimeNormal().guarantee
    'parametric'
    """

    designs: ClassVar[tuple[type[Design], ...]] = (Stream,)
    guarantee: ClassVar[Guarantee] = "parametric"
    null: ClassVar[Null] = "normal"

    centre: float = 0.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        _check_units("AnytimeNormal", self.centre, self.deviation)

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound; of the process only the normal law of its noise is used.

        Raises:
            InvalidParameter: if scores share noise: of 100 looks at one sum along directions all alike 42 % of honest
                runs would be accused at 5 %.
        """
        doors.check_apart("anytime_normal", data.scores)
        return lower_bound_from_scores(
            values=data.scores.measured,
            membership=data.membership,
            delta=delta,
            confidence=confidence,
            centre=self.centre,
            deviation=self.deviation,
        )

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether GDP with δ(ε) = δ is refuted."""
        return at_most(epsilon, self.epsilon(data, process=process, delta=delta, confidence=confidence))


def _check_units(owner: str, centre: float, deviation: float) -> None:
    e_processes.check_units(owner, centre, deviation=deviation)


def _sums(values: ArrayLike, membership: ArrayLike, centre: float, deviation: float) -> tuple[Array, Array]:
    """Return the sum and the number of standardised in-scores after every look."""
    scores, coins = e_processes.looks_of("anytime_normal", values, membership)
    _check_units("anytime_normal", centre, deviation)
    standardised = np.where(coins, (scores - centre) / deviation, 0.0)
    return np.cumsum(standardised, axis=-1), np.cumsum(coins, axis=-1).astype(np.float64)


def log_wealth(total: Array, count: Array, mu: float) -> Array:
    """Return the log of E(μ) for arrays of sums and numbers of standardised in-scores, rounded down."""
    wealth: Array = np.logaddexp.reduce(_log_terms(total, count, mu), axis=0)
    return wealth


def _log_terms(total: Array, count: Array, mu: float) -> Array:
    """Return the logs of what E(μ) sums over h, along the first axis."""
    excesses, shares = (constant.reshape(-1, *[1] * np.ndim(total)) for constant in (EXCESSES, SHARES))
    logs: Array = excesses * (total - mu * count) - (0.5 * excesses**2 + ROUND_OFF) * count + np.log(shares)
    return logs


def _last_mu(total: Array, count: Array, confidence: float, known: float) -> float:
    """Return the largest μ refuted, `known` if none above it is; never above `LARGEST_MU`."""
    required = e_processes.log_required(confidence)

    def refuted(mu: float) -> bool:
        return bool(np.max(log_wealth(total, count, mu)) >= required)

    return last_refuted(refuted, known, e_processes.LARGEST_MU)
