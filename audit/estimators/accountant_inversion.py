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
bracket alone: where cut samples claim ε in [2.58, 9.26], half their noise gives ε >= 11.45, and where draws are with
replacement claims are wider still. So the described noise is compared by itself too, and where it is refuted
`refutes_description` says so, whatever is known of ε.

Canaries that share directions share noise: their scores are dependent, and the gap bounds nothing. Squares are then of
projections made independent, see `audit.core.shared_directions`: what other canaries add to these is fixed before the
noise is drawn, so the squares bound it as on other samples, at the whole error. If an attack makes none, nothing does.
Whoever makes scores elsewhere says by `Scores.measuring` that canaries share directions, or they are taken not to.

Where noise is correlated over the steps and turns are public, scores are of `audit.attacks.whitened`, and
`audit.core.whitened_noise` says what bounds the noise and what refutes its law: half of the error each.

What is assumed is the law above: q and T as described, white noise of one σ, canaries of norm exactly C, each alone in
its direction or known to share it. Where it fails (each is a test; what the gap refutes on Poisson samples is not seen
on others, nor where canaries share directions):

| what ran                                          | what is shown                                                    |
|---------------------------------------------------|------------------------------------------------------------------|
| less noise, on the canaries' coordinates at least | refuted, by the squares                                          |
| less noise elsewhere                              | not seen                                                         |
| a larger q, or contributions above C              | refuted, by the gap                                              |
| more steps                                        | refuted, by the gap, which grows like √T; the squares only lose  |
| noise that cancels over the steps                 | refuted, by the gap: its S is of sums                            |
| one noise in every step                           | mostly nothing: it buries the gap                                |
| one noise on every coordinate of a step           | refuted: out-scores are equal, and a difference has none         |
| less noise on some coordinates, more on others    | its mean square: less than where there is least                  |
| noise of the same variance that is not normal     | heavy tails pass for less noise or more, light ones for as much  |
| fewer steps                                       | less if the gap shows it, or they look like less noise           |
| further variance, such as unsubtracted gradients  | less                                                             |
| gradients, unsubtracted, that answer the noise    | less from steps; too much from sums: the noise cancels in them   |
| canaries that share directions, untold            | too much: squares that share noise scatter more than χ² does     |
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

from audit.core.correlated import CorrelatedRun, correlated_mechanism
from audit.core.described import GaussianRun, described_poisson
from audit.core.deviations import deviation
from audit.core.noise_tests import OWNER, noise_multiplier_upper_bound, rejects
from audit.core.whitened_noise import law_refuted, noise_bound
from audit.evidence import About, Estimator, Guarantee, LowerBound, Null
from audit.scores import Design, LabelledScores, OneRun
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter, NumericalFailure, UnsupportedProcess
from mechanisms.core.process import Adjacency, Process

__all__ = ["AccountantInversion", "noise_multiplier_upper_bound", "rejects"]

Array = NDArray[np.float64]
TOLD = "; and is told afterwards by the trainer, as no adversary is, how often each canary took part"
LEAST_NOISE = 0.1  # at which ε is taken for any less: larger noise loses less, and accountants know little below


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
            UnsupportedProcess: if the process is no Gaussian steps of one noise on records that are drawn, and no
                matrix mechanism or tree whose noise can be whitened.
        """
        noise_multiplier = self.noise_multiplier(data, process=process, confidence=confidence)
        if noise_multiplier in (0.0, np.inf):
            return 0.0 if noise_multiplier else np.inf
        from accountant import epsilon_bounds

        run = described_run(process)
        noise_multiplier = max(noise_multiplier, min(LEAST_NOISE, LEAST_NOISE * run.noise_multiplier))
        try:
            bounds = epsilon_bounds(run.with_noise(noise_multiplier), delta=delta, adjacency=self.adjacency)
        except (UnsupportedProcess, NumericalFailure):  # no answer, and 0 is a bound of any ε
            return 0.0
        return float(bounds.lower)

    def refutes_description(self, data: LabelledScores, *, process: Process, confidence: float) -> bool:
        """Tell whether the described noise is refuted, as more than there was, or as correlated in another way."""
        run = described_run(process)
        found = self.noise_multiplier(data, process=process, confidence=confidence)
        other = isinstance(run, CorrelatedRun) and law_refuted(data, run, confidence=confidence)
        return found < run.noise_multiplier or other

    def noise_multiplier(self, data: LabelledScores, *, process: Process, confidence: float) -> float:
        """Return the upper bound of the noise multiplier that `epsilon` is computed from.

        Raises:
            InvalidParameter, UnsupportedProcess: as `epsilon`.
        """
        run, poisson = described_run(process), described_poisson(process)
        if poisson is None and self.norm == "measured":
            raise UnsupportedProcess(
                f"{OWNER}: the process must be one Gaussian step on Poisson samples, repeated, where the norm is "
                f"measured, got {process!r}.\nOnly then does the gap tell the noise without a scale."
            )
        if isinstance(run, CorrelatedRun):
            return noise_bound(data, run, confidence=confidence)
        apart = data.scores.measuring is None
        if not apart and (self.norm == "measured" or data.scores.squares is None):
            return np.inf
        squares, degrees = _squares(data, run.steps) if self.norm == "described" else (None, 0)
        if squares is not None and not degrees:
            return np.inf
        inside, outside = (data.scores.measured[world] for world in (data.membership, ~data.membership))
        return noise_multiplier_upper_bound(
            gap=_mean(inside) - _mean(outside),
            deviation=deviation(outside) if len(outside) > 1 else 0.0,
            included=len(inside),
            excluded=len(outside),
            probability=min(1.0, run.participations / run.steps) if poisson is None else poisson.probability,
            steps=run.steps,
            confidence=confidence,
            squares=squares,
            degrees=degrees,
            samples="poisson" if poisson is not None and apart else "other",
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


def described_run(process: Process) -> GaussianRun | CorrelatedRun:
    """Return the run that `process` describes, of noise that is correlated over the steps or drawn anew.

    Raises:
        UnsupportedProcess: if it is neither, or noise cannot be whitened.
    """
    return GaussianRun.of(process) if correlated_mechanism(process) is None else CorrelatedRun.of(process)


def _squares(data: LabelledScores, steps: int) -> tuple[float, int]:
    """Return V and its degrees, of the most numbers that are noise alone; no degree where canaries measure nothing."""
    scores, out = data.scores, ~data.membership
    if scores.measuring is not None and scores.squares is not None:
        measuring = out & scores.measuring
        return float(np.sum(scores.squares[measuring])), int(np.count_nonzero(measuring)) * steps
    if scores.squares is not None:
        return float(np.sum(scores.squares[out])), max(1, int(np.count_nonzero(out))) * steps
    if data.participations is not None:
        return float(np.sum(np.square(scores.measured - data.participations))) / steps, len(out)
    return float(np.sum(np.square(scores.measured[out]))) / steps, max(1, int(np.count_nonzero(out)))


def _mean(values: Array) -> float:
    return float(np.mean(values)) if len(values) else 0.0
