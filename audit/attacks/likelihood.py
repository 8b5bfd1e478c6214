"""The white-box attack on gradient canaries that weighs every step by what the claimed process makes of it.

Seen from one canary, a step of the claimed process draws x ~ N(0, σ²) if the canary is out and, if it is in, with
probability q from N(1, σ²) and else from N(0, σ²): that is the pair of laws which dominates the step [ZDW22]. Of all
scores the likelihood ratio of this pair finds the most canaries at every rate of false alarms [NP33]; over the steps
its logarithms add up.

[NP33] J. Neyman, E. S. Pearson. On the Problem of the Most Efficient Tests of Statistical Hypotheses. Phil. Trans. R.
Soc. A 231 (1933).
[ZDW22] Y. Zhu, J. Dong, Y.-X. Wang. Optimal Accounting of Differential Privacy via Characteristic Function. AISTATS
2022. arXiv:2106.08567.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from audit.attack import Attack, Public, Release, Sees
from audit.attacks.gradient import GradientProjection, Projections
from audit.canaries import GradientCanaries
from audit.core.described import SampledGaussianRun
from audit.scores import Scores, Values
from mechanisms.core.errors import InvalidParameter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weighed:
    """The fold's state.

    Args:
        projections: the state of `GradientProjection`, which sees the same steps.
        log_odds: log-likelihood ratios of in to out, summed over the steps seen, float64 (m,).
    """

    projections: Projections
    log_odds: Values


@dataclass(frozen=True, slots=True)
class StepLikelihoodRatio(Attack):
    """score_i = Σ_t log(1 − q + q exp((2 x_it − 1) / 2σ²)),    x_it the projection of step t in units of C.

    q and σ are those of the claimed process, which is public. If the run is another, scores are worse than they could
    be, and what frequentist estimators make of them is as true as before. The sums Σ_t x_it and their squares are
    handed on as well: they measure the noise. With q = 1 the score is a rising function of the sum and nothing is
    gained by it; with q = .1 much is.
    """

    threat_model: ClassVar[str] = GradientProjection.threat_model
    sees: ClassVar[Sees] = "steps"
    takes: ClassVar[type] = GradientCanaries
    needs: ClassVar[tuple[str, ...]] = (*GradientProjection.needs, "process")
    follows_bound: ClassVar[bool] = True
    measures_noise: ClassVar[bool] = True

    def start(self, canaries: GradientCanaries, public: Public) -> Weighed:
        """Return sums of zero.

        Raises:
            UnsupportedProcess: if the claim is no repeated Gaussian on Poisson samples.
            InvalidParameter: if it has no noise.
        """
        if _described(public).noise_multiplier == 0:
            raise InvalidParameter(
                "StepLikelihoodRatio: process must have noise, got noise_multiplier 0: no ratio of likelihoods is left."
            )
        return Weighed(projections=GradientProjection().start(canaries, public), log_odds=np.zeros(len(canaries)))

    def observe(self, state: Weighed, release: Release) -> Weighed:
        """Return the state with one more step's log-likelihood ratios added."""
        public = state.projections.public
        projections = GradientProjection().observe(state.projections, release)
        seen = projections.sums - state.projections.sums
        return Weighed(projections=projections, log_odds=state.log_odds + log_odds(_described(public), seen))

    def finish(self, state: Weighed) -> Scores:
        """Return the log-likelihood ratios, with sums and squares in units of the clip norm."""
        plain = GradientProjection().finish(state.projections)
        return Scores(
            values=state.log_odds,
            design=plain.design,
            guessing_rule=plain.guessing_rule,
            squares=plain.squares,
            sums=plain.values,
            measuring=plain.measuring,
        )


def log_odds(run: SampledGaussianRun, seen: Values) -> Values:
    """Return log(1 − q + q exp((2x − 1) / 2σ²)) of projections x in units of the clip norm, elementwise.

    >>> log_odds(SampledGaussianRun(noise_multiplier=1.0, probability=1.0, steps=1), np.array([0.5, 1.5])).tolist()
    [0.0, 1.0]
    """
    if run.probability == 0:
        return np.zeros_like(seen)
    never = np.log1p(-run.probability) if run.probability < 1 else -np.inf
    odds: Values = np.logaddexp(never, np.log(run.probability) + (2 * seen - 1) / (2 * run.noise_multiplier**2))
    return odds


def _described(public: Public) -> SampledGaussianRun:
    assert public.process is not None
    return SampledGaussianRun.of(public.process)
