"""The attack of an informed adversary who knows all but which of some candidates was in: how likely each one is.

[BCH22] B. Balle, G. Cherubin, J. Hayes. Reconstructing Training Data with Informed Adversaries. IEEE S&P 2022.
arXiv:2201.04845.
[HMB23] J. Hayes, S. Mahloujifar, B. Balle. Bounding Training Data Reconstruction in DP-SGD. NeurIPS 2023.
arXiv:2302.07225.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from audit.attack import Attack, Public, Release, Sees
from audit.canaries import InputCanaries
from audit.core.described import SampledGaussianRun
from audit.core.example_gradients import ExampleGradients, records_of
from audit.scores import Scores
from dpsgd.losses import Loss
from mechanisms import InvalidParameter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Likelihoods:
    """The fold's state.

    Args:
        gradients: gives the candidates' clipped gradients at any weights.
        run: as described.
        sums: log-likelihood ratios summed over the steps seen, float64 (k,).
        public: see `Public`.
    """

    gradients: ExampleGradients
    run: SampledGaussianRun
    sums: Tensor
    public: Public


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CandidateLikelihood(Attack):
    """score_z = the log-likelihood of candidate z having been in, less that of no candidate.

        Σ_t log(1 − q + q exp((⟨ḡ_z(w_t), r_t⟩ − ‖ḡ_z(w_t)‖²/2) / (σ C)²)),

    r_t being what the noisy sum of step t has above the known records' expected sum, plus the logarithm of its share
    where exactly one candidate is in. The likeliest candidate is the best guess, no attack is right more often, if the
    known records are all in every step (q = 1), as in the attacks on DP-SGD of [BCH22] and [HMB23]; else up to their
    own sampling. The prior-aware attack of [HMB23] sums the products ⟨ḡ_z(w_t), noisy sum⟩ alone.

    Args:
        model: of the audited model's kind; its trainable weights do not matter and are left alone.
        loss: what the audited model is trained by, one value for each example.

    Guarantees: memory and cost of a step do not depend on the number of steps.
    """

    model: nn.Module
    loss: Loss

    threat_model: ClassVar[str] = (
        "informed white box: sees the weights and the noisy gradient sum of every step, knows every record but one, "
        "and of this one the candidates"
    )
    sees: ClassVar[Sees] = "steps"
    takes: ClassVar[type] = InputCanaries
    needs: ClassVar[tuple[str, ...]] = ("max_grad_norm", "expected_sum", "process")

    def start(self, canaries: InputCanaries, public: Public) -> Likelihoods:
        """Return sums of zero.

        Raises:
            InvalidParameter: if the run described has no noise, or candidates replace records.
            UnsupportedProcess: if it is not a Gaussian on Poisson samples.
        """
        assert public.max_grad_norm is not None and public.process is not None
        run = SampledGaussianRun.of(public.process)
        if run.noise_multiplier == 0 or canaries.replaced is not None:
            raise InvalidParameter(
                "candidate_likelihood: the process must have noise, and candidates replace nothing: one of them is in."
            )
        records = records_of(canaries, public.known)
        return Likelihoods(
            gradients=ExampleGradients.of(self.model, records, loss=self.loss, max_grad_norm=public.max_grad_norm),
            run=run,
            sums=torch.zeros(len(canaries), dtype=torch.float64),
            public=public,
        )

    def observe(self, state: Likelihoods, release: Release) -> Likelihoods:
        """Return the state with one more step's likelihoods added."""
        public, run, weights = state.public, state.run, release.weights_before
        assert public.expected_sum is not None and public.max_grad_norm is not None
        excess = release.noisy_sum - public.expected_sum(weights)
        ratio = state.gradients.fits(weights, excess) / (run.noise_multiplier * public.max_grad_norm) ** 2
        if run.probability < 1:
            without = torch.tensor(np.log1p(-run.probability), dtype=torch.float64)
            ratio = torch.logaddexp(without, np.log(run.probability) + ratio)
        return replace(state, sums=state.sums + ratio)

    def finish(self, state: Likelihoods) -> Scores:
        """Return the log-likelihood ratios, with the logarithms of shares added where there are some."""
        public, sums = state.public, state.sums.numpy()
        shares = np.log(np.array(public.weights, dtype=np.float64)) if public.weights else 0.0
        return Scores(values=sums + shares, design=public.design, guessing_rule=public.guessing_rule)
