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
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from audit.attack import Attack, Public
from audit.attacks.gradient import GradientProjection, Projections
from audit.canaries import SignedCoordinates
from audit.core.described import SampledGaussianRun
from audit.scores import Scores
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Process

if TYPE_CHECKING:
    from dpsgd import Release


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weighed:
    """The fold's state.

    Args:
        projections: the state of `GradientProjection`, which sees the same steps.
        log_odds: log-likelihood ratios of in to out, summed over the steps seen, float64 (m,).
    """

    projections: Projections
    log_odds: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodRatio(Attack):
    """score_i = Σ_t log(1 − q + q exp((2 x_it − 1) / 2σ²)),    x_it the projection of step t in units of C.

    The sums Σ_t x_it and their squares are handed on as well: they measure the noise. With q = 1 the score is a rising
    function of the sum and nothing is gained by it; with q = .1 much is.

    Args:
        claim: the process that the run is said to be: q, σ and T are public. If the run is another, scores are worse
            than they could be, and what frequentist estimators make of them is as true as before.

    Raises:
        UnsupportedProcess: if the claim is no repeated Gaussian on Poisson samples.
        InvalidParameter: if it has no noise.
    """

    threat_model: ClassVar[str] = GradientProjection.threat_model

    claim: Process

    def __post_init__(self) -> None:
        if SampledGaussianRun.of(self.claim).noise_multiplier == 0:
            raise InvalidParameter(
                "LikelihoodRatio: claim must have noise, got noise_multiplier 0: there is no ratio of likelihoods."
            )

    @classmethod
    def of(cls, claim: Process) -> Self:
        """Return the attack that weighs steps by this claim."""
        return cls(claim=claim)

    def start(self, canaries: SignedCoordinates, public: Public) -> Weighed:
        """Return sums of zero."""
        projections = GradientProjection().start(canaries, public)
        return Weighed(projections=projections, log_odds=torch.zeros_like(projections.sums))

    def observe(self, state: Weighed, release: Release) -> Weighed:
        """Return the state with one more step's log-likelihood ratios added."""
        projections = GradientProjection().observe(state.projections, release)
        seen = (projections.sums - state.projections.sums) / state.projections.public.max_grad_norm
        return Weighed(projections=projections, log_odds=state.log_odds + self._log_odds(seen))

    def finish(self, state: Weighed) -> Scores:
        """Return the log-likelihood ratios, with sums and squares in units of the clip norm."""
        plain = GradientProjection().finish(state.projections)
        return Scores(
            values=state.log_odds.numpy(),
            design=plain.design,
            guessing_rule=plain.guessing_rule,
            squares=plain.squares,
            sums=plain.values,
        )

    def _log_odds(self, seen: Tensor) -> Tensor:
        run = SampledGaussianRun.of(self.claim)
        logs = torch.from_numpy(np.log(np.array([run.probability, max(1.0 - run.probability, 1e-300)])))
        return torch.logaddexp(logs[1], logs[0] + (2 * seen - 1) / (2 * run.noise_multiplier**2))
