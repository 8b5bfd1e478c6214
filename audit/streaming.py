"""Streaming audits: watch the steps of a training run while it takes place, and stop it once they are refuted.

At every step each canary that the sampling draws is in by a coin tossed for that step alone: a record that takes part
once, or not at all. When the step's noisy sum is released, its coin is told, and the pair is one look. In units of C,
on the canary's coordinate,

    score  =  coin + σ Z + rest,

Z the step's noise there and `rest` what the records add, less what is expected of them.

Validity. Let the past be all releases, draws and coins before the look, those of other canaries in the same step
included. Given the past, the coin is fair: it is fresh, and nothing in the past was made with it, as canaries share no
coordinate. If the step is as described, Z is N(0, 1) given the past and independent of coin and rest, and the rest is
independent of the coin. So every look is 1/σ-GDP given the earlier ones, which is what `audit.estimators.anytime_gdp`
asks for: its bounds hold together at all looks, and so whenever one stops, whatever records, model, learning rate and
earlier releases are. What a look is conditioned on is that its canary was drawn, so nothing rests on the sampling, and
nothing is said of it: ε is that of **one step for a record that takes part in it**. Were a canary in or out for the
whole run, its coin would no longer be fresh at its second look, and told at its first.

What it sees. Half the noise takes 34 looks at σ = 1, 118 at σ = 2 and 636 at σ = 5 (medians of 40 simulated streams at
δ = 1e-5 and 95 %, without a rest): m canaries at sampling probability q give m q looks a step.

What stays private. The records' own: coins, and which canaries are drawn, are independent of them, and known to the
adversary of the accountants, who knows every other record. The coins stay with the auditor and the sum; whoever reads
the bounds learns of them what the bounds say, and of the records what the releases say.

What stopping does. The rule reads releases, coins and the canaries' draws: it is post-processing of the run. A record's
guarantee is that of all the steps planned, not of those taken, see `dpsgd.callbacks`; and if the run was stopped
because its description was refuted, it is no guarantee at all, for that is what was refuted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from accountant import Claim, epsilon_bounds
from audit.attack import ExpectedSum, Release
from audit.canaries import SignedCoordinates
from audit.core.claims import accountant_answers
from audit.core.faults import TrainerFault
from audit.core.paths import ThinnedPath, stream_pictures
from audit.core.picturing import whatever_succeeds
from audit.core.tosses import TossedCanaries, Tosses
from audit.core.watching import guarded_sum
from audit.estimators.anytime_gdp import GDPConfidenceSequence
from audit.evidence import LowerBound
from audit.pictures import Pictures
from audit.report import AuditReport, Verdict, verdict
from audit.scores import Stream
from dpsgd import DPSGD
from dpsgd.callbacks import STOP, Answer
from dpsgd.clipping import check_flat_clipping
from dpsgd.independent_laws import IndependentGaussian
from dpsgd.prescribed import Prescribed, check_independent
from mechanisms import Adjacency, Gaussian, InvalidParameter, Source
from mechanisms.core import validate
from mechanisms.core.command_line import at_least, at_most

DIGITS = 3
THREAT_MODEL = (
    "white box: sees the noisy gradient sum of every step, knows every record, which canaries are drawn and all "
    "earlier coins, and chooses the canaries' gradients"
)


@dataclass(slots=True, kw_only=True, eq=False)
class StreamingAudit:
    """A callback for `dpsgd.train`, beside `prescribed=`, that holds every step against the noise that is claimed.

    Another loop calls `prescribed.placed(...).add_to(total, drawn)` with every clipped sum before its noise, and then
    the audit with whatever has the fields of `audit.attack.Release`.

    Args:
        canaries: whose coordinates are looked at; they add up to C each on these to about half of the sums, which the
            model has to bear.
        config: what is claimed, its noise and clip norm alone: the audit never sees what runs.
        delta: δ of the bounds, in (0, 1).
        confidence: of all bounds together, in (0, 1).
        randomness: of the coins; it may be the run's own.
        expected_sum: what the records contribute to a step on average, see `Observations`; None to leave it in the
            scores, which costs looks and no validity.
        stop_on_violation: whether to answer `STOP` once a bound lies above the claim. It is the description that is
            then refuted: this noise on sums of this clip norm.

    Guarantees: if every step is as described, P(some bound, after whichever step, lies above the claim) <=
    1 − confidence. Memory and cost of a step do not grow with steps. A run that goes on from a checkpoint, which has
    every=1, is watched from there on by a new audit, whose error is its own, and whose coins must be new as well. If
    something raises meanwhile, what was seen up to there stands, as a run may end whenever it likes.

    Raises:
        InvalidParameter: if a value breaks its rule, canaries share coordinates, or the noise is not of independent
            floats, the clip norm not fixed or the sampling not of each record by itself.

    >>> from audit.canaries import signed_coordinates
    >>> from mechanisms import KeyedSource, Poisson
    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.1),
    ...                expected_batch_size=60, steps=100, learning_rate=0.5)
    >>> canaries = signed_coordinates(canaries=20, dimension=50, rng=np.random.default_rng(0))
    >>> StreamingAudit(canaries=canaries, config=config, delta=1e-5, randomness=KeyedSource(0)).shown
    'audit of one step: epsilon >= 0 of 4.38 claimed, 0 looks'
    """

    canaries: SignedCoordinates
    config: DPSGD
    delta: float
    confidence: float = 0.95
    randomness: Source
    expected_sum: ExpectedSum | None = None
    stop_on_violation: bool = False
    claim: Claim = field(init=False)
    _tosses: Tosses = field(init=False, repr=False)
    prescribed: Prescribed = field(init=False, repr=False)
    _sequence: GDPConfidenceSequence = field(init=False, repr=False)
    _path: ThinnedPath = field(default_factory=ThinnedPath, init=False, repr=False)
    _steps: int = field(default=0, init=False, repr=False)
    _due: int | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.canaries, SignedCoordinates):
            raise InvalidParameter(
                f"StreamingAudit: canaries must be SignedCoordinates, got {type(self.canaries).__name__}.\n"
                "Others may add to each other's scores."
            )
        if not (self.expected_sum is None or callable(self.expected_sum)):
            raise InvalidParameter(
                "StreamingAudit: expected_sum must be a function of the weights, or None, got "
                f"{type(self.expected_sum).__name__}."
            )
        if not isinstance(self.config.noise, IndependentGaussian):
            raise InvalidParameter(
                f"StreamingAudit: config.noise must be IndependentGaussian(), got {self.config.noise!r}."
            )
        check_flat_clipping("StreamingAudit", self.config.clipping)
        check_independent(self.config.sampling)
        noise = validate.positive("StreamingAudit", "config.noise_multiplier", self.config.noise_multiplier)
        self._sequence = GDPConfidenceSequence(delta=self.delta, confidence=self.confidence)
        self.claim = epsilon_bounds(Gaussian(noise_multiplier=noise), delta=self.delta, adjacency="add_remove")
        self._tosses = Tosses(canaries=self.canaries, randomness=self.randomness)
        self.prescribed = TossedCanaries(self._tosses, max_grad_norm=self.config.max_grad_norm)

    def __call__(self, release: Release) -> Literal[Answer.STOP] | None:
        """Take in the looks of one step, and answer `STOP` if asked to and there is reason.

        Raises:
            InvalidParameter: if no sum was made for this release: the run was not given `prescribed`; if it is not
                the step after the last; or if a run goes on and the coins have a key that was given.
            TrainerFault: if the noisy sum or what is expected of it has another shape, or numbers that are not finite.
        """
        if self._tosses.untold is None:
            raise InvalidParameter(
                "StreamingAudit: every release must be of a sum with its canaries in it, and this one is not.\n"
                "Give the run both: train(..., prescribed=watch.prescribed, callbacks=[watch])."
            )
        if self._due not in (None, release.step):
            raise InvalidParameter(
                f"StreamingAudit: release.step must be {self._due}, which follows what was seen, got {release.step}.\n"
                "Give a run that begins, or goes on, an audit of its own: noise that this one has seen may come again."
            )
        if self._due is None and release.step > 0 and self.randomness.reproducible:
            raise InvalidParameter(
                "StreamingAudit: randomness must be a SystemSource where a run goes on, got a source with a key that "
                "was given.\nUnder the key of the earlier part its coins would be tossed again, which are told already."
            )
        self._due = release.step + 1
        (drawn, tossed), self._tosses.untold = self._tosses.untold, None
        scores = self._scores(release)
        for index in np.flatnonzero(drawn):
            self._sequence.update(float(scores[index]), bool(tossed[index]))
        self._steps += 1
        against = self._sequence.wealth_against(self.claim.upper) or (0.0, 0.0)
        self._path.add((self._steps, self.looks, self.epsilon, against[1]))
        return STOP if self.stop_on_violation and self.verdict == "description refuted" else None

    def _scores(self, release: Release) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        noisy = release.noisy_sum
        if tuple(noisy.shape) != (self.canaries.dimension,) or not bool(torch.isfinite(noisy).all()):
            raise TrainerFault(
                f"the run released a noisy sum that is not finite, or not of shape ({self.canaries.dimension},)"
            )
        if self.expected_sum is not None:
            noisy = noisy - guarded_sum(self.expected_sum)(release.weights_before)
            if not bool(torch.isfinite(noisy).all()):
                raise TrainerFault("the run's expected_sum has numbers that are not finite")
        unit = self.config.max_grad_norm
        return self.canaries.projections(noisy.detach().to("cpu", torch.float64).numpy()) / unit

    @property
    def epsilon(self) -> float:
        """The bound after the last look; it never falls."""
        return self._sequence.epsilon

    @property
    def looks(self) -> int:
        """Their number so far."""
        return self._sequence.looks

    @property
    def evidence(self) -> LowerBound:
        """The bound after the last look, with what it rests on.

        Raises:
            InvalidParameter: before the first look.
        """
        return LowerBound(
            epsilon=self.epsilon,
            delta=self.delta,
            confidence=self.confidence,
            adjacency=Adjacency.ADD_REMOVE,
            method="anytime_gdp",
            guarantee="frequentist",
            threat_model=THREAT_MODEL,
            design=Stream(looks=self.looks),
            about="the claimed family",
        )

    @property
    def verdict(self) -> Verdict:
        """What the bound says of the claim for one step, "none" before the first look."""
        return verdict(self.claim, self.evidence, None) if self.looks else "none"

    @property
    def pictures(self) -> Pictures:
        """Both jaws of one step after each step, and the wealth of the bets against the claim; of long runs a part."""
        against = self._sequence.wealth_against(self.claim.upper)
        return stream_pictures(
            self._path.rows,
            claimed=self.claim.upper,
            against=None if against is None else against[0],
            confidence=self.confidence,
        )

    def report(self) -> AuditReport:
        """Return the report on one step for a record that takes part in it, after the last look.

        Raises:
            InvalidParameter: before the first look.
        """
        process = Gaussian(noise_multiplier=self.config.noise_multiplier)
        evidence = self.evidence
        return AuditReport(
            process=process,
            claim=self.claim,
            accountants=accountant_answers(process, delta=self.delta, adjacency=evidence.adjacency),
            evidence=evidence,
            refutation=None,
            exploratory=(),
            verdict=self.verdict,
            multiplicity=f"error {1 - self.confidence:.4g} = that of all looks together ({evidence.method})",
            ceiling=math.inf,
            guesses=0,
            correct=0,
            noise_ratio=None,
            reproducible=self.randomness.reproducible,
            pictures=whatever_succeeds(stream=lambda: self.pictures),
        )

    @property
    def shown(self) -> str:
        """What the progress bar shows, the bound rounded down and the claim up."""
        bound, claim = at_least(self.epsilon, DIGITS) if self.epsilon else "0", at_most(self.claim.upper, DIGITS)
        return f"audit of one step: epsilon >= {bound} of {claim} claimed, {self.looks} looks"
