"""Lower bounds of ε from an upper confidence bound on the noise, pushed through the accountant.

Scores of a run with noise multiplier σ, sampling probability q and T steps are, in units of the clip norm C,

    out:  N(0, T σ²)                    in:  K + N(0, T σ²),  K ~ Bin(T, q)

as long as records are drawn by Poisson samples. Two tests of "the noise is at least σ" share the error, 49 parts to
one:

- *Squares* trust C. They measure what is noise alone, the best first that is had: every step, where a canary is out
  (n_out T squares); all scores less K, where the trainer reveals its samples (m); the out-scores (n_out).
- *Gap* knows no scale: the gap of the two means over the standard deviation of the out-scores, see `GapLaw`.

Squares count only where the gap refutes that there is no signal at all, and where it is within three of its standard
errors of the q T described: noise without canaries shows nothing. Both conditions can only lower the bound.

Squares ask nothing of how records are drawn: where a canary is out, the noise of a step stands by itself, or with what
was fixed before it was drawn, which makes squares no smaller in law [And55]. So on other samples, FixedSize,
WithReplacement, TruncatedPoisson, Shuffled and BallsInBins, where K has laws of its own, the squares alone bound the
noise, at the whole error; the gap has still to be there, seen at the level of a hundredth, with q T the mean number of
times that a record takes part. How records are drawn enters where the accountant pushes the bound through the
description, with this noise in its place, for the neighbours asked about. For such schemes it may know ε within a wide
bracket alone: where fixed batches claim ε in [2.86, 12.48], half their noise gives ε >= 12.26. So the described noise
is compared by itself too, and where it is refuted `refutes_description` says so, whatever is known of ε.

What is assumed is the law above: q and T as described, white noise of one σ, canaries of norm exactly C, each alone on
its coordinate. Where it fails (each is a test; what the gap refutes on Poisson samples is not seen on others):

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
| other samples than described                      | not seen by the squares: σ is right, ε is that of the described  |
| records that a shuffle leaves over                | less: they take part less often than is described                |

[And55] see `audit.core.noise_bounds`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core.counts import check_enough
from audit.core.described import GaussianRun, described_poisson
from audit.core.noise_bounds import GapLaw, bound_from_squares
from audit.evidence import About, Estimator, Guarantee, LowerBound, Null, check_level
from audit.scores import Design, LabelledScores, OneRun
from mechanisms.core import validate
from mechanisms.core.errors import DPError, InvalidParameter, UnsupportedProcess
from mechanisms.core.process import Adjacency, Process

OWNER = "accountant_inversion"
Samples = Literal["poisson", "other"]
Array = NDArray[np.float64]
GAP_SHARE = 0.02  # of the error where C is trusted: the bugs that only the gap sees move it by many standard errors
TOLD = "; and is told afterwards by the trainer, as no adversary is, how often each canary took part"
SIGNAL = 0.01  # level of "there is no signal at all" on other samples, where no bound's validity rests on it
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
    samples: Samples = "poisson",
) -> float:
    """Return the least noise multiplier that is refuted as being at least that large, inf if none is.

    Args:
        gap: mean in-score − mean out-score; in units of C, or in any unit if there are no squares.
        deviation: standard deviation of the out-scores, with n_out − 1 in the denominator, in the same unit, >= 0;
            0 refutes every noise, if there is a gap.
        included: n_in >= 1.
        excluded: n_out >= 2.
        probability: q in (0, 1]; on other samples the mean number of times that a record takes part in a step.
        steps: T >= 1.
        confidence: in (0, 1), one-sided; below 1/2 it is answered at 1/2.
        squares: V >= 0, in units of C²; None where C is not trusted, then the gap has all of the error.
        degrees: n, of V; at least 1 if there are squares.
        samples: "poisson", or "other": then the gap bounds nothing, and there must be squares, which have all of the
            error.

    Guarantees: at least the true σ with probability `confidence`, if the scores have the law above, for any numbers of
    canaries and steps: the law of K is bounded, not approximated. On other samples, if the squares are of such noise.

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
    for_squares, for_gap = _levels(confidence, shared=squares is not None, samples=samples)
    contrast = float(law.contrast(gap, deviation))
    by_gap = law.bound(contrast, level=for_gap) if samples == "poisson" else np.inf
    if squares is None:
        return by_gap
    squares = validate.non_negative(OWNER, "squares", squares)
    degrees = validate.count(OWNER, "degrees", degrees, least=1)
    if contrast < law.critical(np.inf, level=for_gap) or not law.reached(gap, deviation):
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
    samples: Samples = "poisson",
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether a noise at least so large is refuted: the test that the upper bound inverts.

    Arguments are those of `noise_multiplier_upper_bound`; gap, deviation, squares and noise multiplier, which may be
    inf, are arrays that broadcast.
    """
    law = _law(included, excluded, probability, steps)
    for_squares, for_gap = _levels(confidence, shared=squares is not None, samples=samples)
    tested = np.asarray(noise_multiplier, dtype=np.float64)
    contrast = law.contrast(gap, deviation)
    refuted: NDArray[np.bool_] = np.zeros(np.broadcast_shapes(contrast.shape, tested.shape), dtype=np.bool_)
    if samples == "poisson":
        distinct, back = np.unique(tested, return_inverse=True)
        critical = np.array([law.critical(float(noise), level=for_gap) for noise in distinct])
        refuted = contrast >= critical[back].reshape(tested.shape)
    if squares is None:
        return refuted
    trusted = (contrast >= law.critical(np.inf, level=for_gap)) & law.reached(gap, deviation)
    return refuted | (trusted & (tested >= bound_from_squares(squares, degrees=degrees, level=for_squares)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountantInversion(Estimator):
    """The accountant's lower end of ε at `noise_multiplier_upper_bound`, with all else as described.

    It refutes a description rather than measures a loss: noise that is too small, samples drawn in another way, or
    contributions that are too large show as an ε above the claim's, and less noise in `refutes_description` too.

    Args:
        norm: "described": the canaries stand at exactly the C described; "measured": at some common scale, which only
            the gap tells, and most of the precision is lost; for Poisson samples alone.
        adjacency: the neighbours that ε is for, add_remove or zero_out: a canary that is out contributes nothing.

    >>> AccountantInversion().guarantee
    'parametric'
    """

    designs: ClassVar[tuple[type[Design], ...]] = (OneRun,)
    guarantee: ClassVar[Guarantee] = "parametric"
    about: ClassVar[About] = "the claimed family"
    null: ClassVar[Null] = "mechanism"

    norm: Literal["described", "measured"] = "described"
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    def __post_init__(self) -> None:
        validate.choice("AccountantInversion", "norm", self.norm, ("described", "measured"))
        object.__setattr__(self, "adjacency", Adjacency.parse(self.adjacency))
        if self.adjacency is Adjacency.REPLACE_ONE:
            raise InvalidParameter(
                "AccountantInversion: adjacency must be 'add_remove' or 'zero_out', got 'replace_one': a record that "
                "replaces a canary contributes to what is to be noise alone."
            )

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound; 0 if no noise is refuted, or no accountant has an answer at the noise that is.

        Raises:
            InvalidParameter: if fewer than one canary was in or fewer than two were out.
            UnsupportedProcess: if the process is no Gaussian steps of one noise on records that are drawn.
        """
        noise_multiplier = self.noise_multiplier(data, process=process, confidence=confidence)
        if noise_multiplier in (0.0, np.inf):
            return 0.0 if noise_multiplier else np.inf
        from accountant import epsilon_bounds

        run = GaussianRun.of(process)
        noise_multiplier = max(noise_multiplier, min(LEAST_NOISE, LEAST_NOISE * run.noise_multiplier))
        try:
            bounds = epsilon_bounds(run.with_noise(noise_multiplier), delta=delta, adjacency=self.adjacency)
        except DPError:  # a run is not to be lost for an ε that nobody knows, and 0 is a bound of any
            return 0.0
        return float(bounds.lower)

    def refutes_description(self, data: LabelledScores, *, process: Process, confidence: float) -> bool:
        """Tell whether the described noise is refuted, as more than there was."""
        found = self.noise_multiplier(data, process=process, confidence=confidence)
        return found < GaussianRun.of(process).noise_multiplier

    def noise_multiplier(self, data: LabelledScores, *, process: Process, confidence: float) -> float:
        """Return the upper bound of the noise multiplier that `epsilon` is computed from.

        Raises:
            InvalidParameter, UnsupportedProcess: as `epsilon`.
        """
        run, poisson = GaussianRun.of(process), described_poisson(process)
        if poisson is None and self.norm == "measured":
            raise UnsupportedProcess(
                f"{OWNER}: the process must be one Gaussian step on Poisson samples, repeated, where the norm is "
                f"measured, got {process!r}.\nOnly then does the gap tell the noise without a scale."
            )
        squares, degrees = _squares(data, run.steps) if self.norm == "described" else (None, 0)
        inside, outside = (data.scores.measured[world] for world in (data.membership, ~data.membership))
        return noise_multiplier_upper_bound(
            gap=_mean(inside) - _mean(outside),
            deviation=float(np.std(outside, ddof=1)) if len(outside) > 1 else 0.0,
            included=len(inside),
            excluded=len(outside),
            probability=min(1.0, run.participations / run.steps) if poisson is None else poisson.probability,
            steps=run.steps,
            confidence=confidence,
            squares=squares,
            degrees=degrees,
            samples="other" if poisson is None else "poisson",
        )

    def lower_bound(
        self, data: LabelledScores, *, process: Process, delta: float, confidence: float, threat_model: str
    ) -> LowerBound:
        """Return the bound; where samples were revealed and used, the threat model says so."""
        used = self.norm == "described" and data.scores.squares is None and data.participations is not None
        bound = Estimator.lower_bound(
            self,
            data,
            process=process,
            delta=delta,
            confidence=confidence,
            threat_model=threat_model + TOLD if used else threat_model,
        )
        return dataclasses.replace(bound, adjacency=self.adjacency)

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


def _levels(confidence: float, *, shared: bool, samples: Samples) -> tuple[float, float]:
    """Return the errors of squares and gap; on other samples the second is the level at which a signal is seen."""
    error = min(1 - confidence, 0.5)
    if validate.choice(OWNER, "samples", samples, ("poisson", "other")) == "other":
        if not shared:
            raise InvalidParameter(f"{OWNER}: squares must be given on other samples than Poisson's, got none.")
        return error, SIGNAL
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
