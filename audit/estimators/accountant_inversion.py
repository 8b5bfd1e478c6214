"""Lower bounds of ε from an upper confidence bound on the noise, pushed through the accountant.

Scores of a run with noise multiplier σ, sampling probability q and T steps are, in units of the clip norm C,

    out:  N(0, T σ²)                    in:  K + N(0, T σ²),  K ~ Bin(T, q)

Two tests of "the noise is at least σ" share the error, 49 parts to one:

- *Squares* trust C. They measure what is noise alone, the best first that is had: every step, where a canary is out
  (n_out T squares); all scores less K, where the trainer reveals its samples (m); the out-scores (n_out).
- *Gap* knows no scale: the gap of the two means over the standard deviation of the out-scores, see `GapLaw`.

Squares count only where the gap refutes that there is no signal at all, and where it is within three of its standard
errors of the q T described: noise without canaries shows nothing. Both conditions can only lower the bound.

What is assumed is the law above: q and T as described, white noise of one σ, canaries of norm exactly C, each alone on
its coordinate. Where it fails (each is a test):

| what ran                                          | what is shown                                                    |
|---------------------------------------------------|------------------------------------------------------------------|
| less noise, on the canaries' coordinates at least | refuted, by the squares                                          |
| less noise elsewhere                              | not seen                                                         |
| a larger q, or contributions above C              | refuted, by the gap                                              |
| more steps                                        | refuted, by the gap, which grows like √T; the squares only lose  |
| noise that cancels over the steps                 | refuted, by the gap: its S is of sums                            |
| one noise in every step                           | mostly nothing: it buries the gap                                |
| fewer steps                                       | less if the gap shows it, or they look like less noise           |
| further variance, such as unsubtracted gradients  | less                                                             |
| gradients, unsubtracted, that answer the noise    | less from steps; too much from sums: the noise cancels in them   |
| canaries that share coordinates                   | less: they are such a variance                                   |
| canaries far below C                              | less: squares are ignored, and the gap sees their own scale      |
| canaries just below C                             | the ε of records at C, more than these canaries lose             |
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core.counts import check_enough
from audit.core.described import SampledGaussianRun
from audit.core.noise_bounds import GapLaw, bound_from_squares
from audit.evidence import About, Estimator, Guarantee, LowerBound, Null, check_level
from audit.scores import Design, LabelledScores, OneRun
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Process

OWNER = "accountant_inversion"
Array = NDArray[np.float64]
GAP_SHARE = 0.02  # of the error where C is trusted: the bugs that only the gap sees move it by many standard errors
TOLD = "; and is told afterwards by the trainer, as no adversary is, how often each canary took part"
LEAST_NOISE = 0.1  # at which ε is taken for any less: larger noise loses less, and accountants know little below


def noise_multiplier_upper_bound(
    *,
    gap: float,
    deviation: float,
    included: int,
    excluded: int,
    probability: float,
    steps: int,
    confidence: float,
    squares: float | None = None,
    degrees: int = 0,
) -> float:
    """Return the least noise multiplier that is refuted as being at least that large, inf if none is.

    Args:
        gap: mean in-score − mean out-score; in units of C, or in any unit if there are no squares.
        deviation: standard deviation of the out-scores, with n_out − 1 in the denominator, in the same unit, >= 0;
            0 refutes every noise, if there is a gap.
        included: n_in >= 1.
        excluded: n_out >= 2.
        probability: q in (0, 1].
        steps: T >= 1.
        confidence: in (0, 1), one-sided; below 1/2 it is answered at 1/2.
        squares: V >= 0, in units of C²; None where C is not trusted, then the gap has all of the error.
        degrees: n, of V; at least 1 if there are squares.

    Guarantees: at least the true σ with probability `confidence`, if the scores have the law above, for any numbers of
    canaries and steps: the law of K is bounded, not approximated.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> seen = dict(gap=50.0, deviation=50.0, included=2500, excluded=2500, probability=0.5, steps=100)
    >>> round(noise_multiplier_upper_bound(**seen, confidence=0.99), 3)
    5.401
    >>> round(noise_multiplier_upper_bound(**seen, confidence=0.99, squares=25.0 * 250_000, degrees=250_000), 3)
    5.017
    """
    gap, deviation = validate.finite(OWNER, "gap", gap), validate.non_negative(OWNER, "deviation", deviation)
    law = _law(included, excluded, probability, steps)
    check_level(OWNER, delta=0.0, confidence=confidence)
    for_squares, for_gap = _levels(confidence, shared=squares is not None)
    by_gap = law.bound(float(law.contrast(gap, deviation)), level=for_gap)
    if squares is None:
        return by_gap
    squares = validate.non_negative(OWNER, "squares", squares)
    degrees = validate.count(OWNER, "degrees", degrees, least=1)
    if by_gap == np.inf or not law.reached(gap, deviation):
        return by_gap
    return min(by_gap, float(bound_from_squares(squares, degrees=degrees, level=for_squares)))


def rejects(
    *,
    gap: ArrayLike,
    deviation: ArrayLike,
    included: int,
    excluded: int,
    probability: float,
    steps: int,
    noise_multiplier: ArrayLike,
    confidence: float,
    squares: ArrayLike | None = None,
    degrees: int = 0,
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether a noise at least so large is refuted: the test that the upper bound inverts.

    Arguments are those of `noise_multiplier_upper_bound`; gap, deviation, squares and noise multiplier, which may be
    inf, are arrays that broadcast.
    """
    law = _law(included, excluded, probability, steps)
    for_squares, for_gap = _levels(confidence, shared=squares is not None)
    tested = np.asarray(noise_multiplier, dtype=np.float64)
    contrast = law.contrast(gap, deviation)
    distinct, back = np.unique(tested, return_inverse=True)
    critical = np.array([law.critical(float(noise), level=for_gap) for noise in distinct])
    refuted: NDArray[np.bool_] = contrast >= critical[back].reshape(tested.shape)
    if squares is None:
        return refuted
    trusted = (contrast >= law.critical(np.inf, level=for_gap)) & law.reached(gap, deviation)
    return refuted | (trusted & (tested >= bound_from_squares(squares, degrees=degrees, level=for_squares)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountantInversion(Estimator):
    """The accountant's lower end of ε at `noise_multiplier_upper_bound`, with q and T as described.

    It refutes a description rather than measures a loss: noise that is too small, samples drawn in another way, or
    contributions that are too large show as an ε above the claim's.

    Args:
        norm: "described": the canaries stand at exactly the C described; "measured": at some common scale, which only
            the gap tells, and most of the precision is lost.

    >>> AccountantInversion().guarantee
    'parametric'
    """

    designs: ClassVar[tuple[type[Design], ...]] = (OneRun,)
    guarantee: ClassVar[Guarantee] = "parametric"
    about: ClassVar[About] = "the claimed family"
    null: ClassVar[Null] = "mechanism"

    norm: Literal["described", "measured"] = "described"

    def __post_init__(self) -> None:
        validate.choice("AccountantInversion", "norm", self.norm, ("described", "measured"))

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound; 0 if no noise is refuted.

        Raises:
            InvalidParameter: if fewer than one canary was in or fewer than two were out.
            UnsupportedProcess: if the process is no repeated Gaussian on Poisson samples.
        """
        noise_multiplier = self.noise_multiplier(data, process=process, confidence=confidence)
        if noise_multiplier in (0.0, np.inf):
            return 0.0 if noise_multiplier else np.inf
        from accountant import epsilon_bounds

        run = SampledGaussianRun.of(process)
        noise_multiplier = max(noise_multiplier, min(LEAST_NOISE, LEAST_NOISE * run.noise_multiplier))
        noisiest = dataclasses.replace(run, noise_multiplier=noise_multiplier).process()
        return float(epsilon_bounds(noisiest, delta=delta, adjacency="add_remove").lower)

    def noise_multiplier(self, data: LabelledScores, *, process: Process, confidence: float) -> float:
        """Return the upper bound of the noise multiplier that `epsilon` is computed from.

        Raises:
            InvalidParameter, UnsupportedProcess: as `epsilon`.
        """
        run = SampledGaussianRun.of(process)
        squares, degrees = _squares(data, run.steps) if self.norm == "described" else (None, 0)
        inside, outside = (data.scores.measured[world] for world in (data.membership, ~data.membership))
        return noise_multiplier_upper_bound(
            gap=_mean(inside) - _mean(outside),
            deviation=float(np.std(outside, ddof=1)) if len(outside) > 1 else 0.0,
            included=len(inside),
            excluded=len(outside),
            probability=run.probability,
            steps=run.steps,
            confidence=confidence,
            squares=squares,
            degrees=degrees,
        )

    def lower_bound(
        self, data: LabelledScores, *, process: Process, delta: float, confidence: float, threat_model: str
    ) -> LowerBound:
        """Return the bound; where samples were revealed and used, the threat model says so."""
        used = self.norm == "described" and data.scores.squares is None and data.participations is not None
        return Estimator.lower_bound(
            self,
            data,
            process=process,
            delta=delta,
            confidence=confidence,
            threat_model=threat_model + TOLD if used else threat_model,
        )

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether every noise whose certified ε may be at most this one is refuted."""
        found = self.epsilon(data, process=process, delta=delta, confidence=confidence)
        refuted: NDArray[np.bool_] = np.asarray(epsilon, dtype=np.float64) < found
        return refuted


def _law(included: int, excluded: int, probability: float, steps: int) -> GapLaw:
    probability = validate.probability(OWNER, "probability", probability)
    if probability == 0:
        raise InvalidParameter(f"{OWNER}: probability must be above 0, got 0: no canary ever takes part.")
    check_enough(OWNER, included, excluded, least=(1, 2))
    return GapLaw(
        included=included,
        excluded=excluded,
        probability=probability,
        steps=validate.count(OWNER, "steps", steps, least=1),
    )


def _levels(confidence: float, *, shared: bool) -> tuple[float, float]:
    """Return the errors of squares and gap."""
    error = min(1 - confidence, 0.5)
    return ((1 - GAP_SHARE) * error, GAP_SHARE * error) if shared else (0.0, error)


def _squares(data: LabelledScores, steps: int) -> tuple[float, int]:
    """Return V and its degrees, of the most numbers that are noise alone."""
    scores, out = data.scores, ~data.membership
    if scores.squares is not None:
        return float(np.sum(scores.squares[out])), max(1, int(np.count_nonzero(out))) * steps
    if data.participations is not None:
        return float(np.sum(np.square(scores.measured - data.participations))) / steps, len(out)
    return float(np.sum(np.square(scores.measured[out]))) / steps, max(1, int(np.count_nonzero(out)))


def _mean(values: Array) -> float:
    return float(np.mean(values)) if len(values) else 0.0
