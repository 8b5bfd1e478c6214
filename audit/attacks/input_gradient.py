"""The white-box attack on input canaries: what their clipped gradients have in common with the noisy sums.

[N23] M. Nasr, J. Hayes, T. Steinke, B. Balle, F. Tramèr, M. Jagielski, N. Carlini, A. Terzis. Tight Auditing of
Differentially Private Machine Learning. USENIX Security 2023. arXiv:2302.07956.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Products:
    """The fold's state.

    Args:
        gradients: gives the canaries' clipped gradients at any weights.
        replaced: those of the records that stand in for canaries that are out, or None.
        probability: q, with which a record takes part in a step.
        sums: products summed over the steps seen, float64 (m,), in the unit of the gradients squared.
        public: see `Public`.
    """

    gradients: ExampleGradients
    replaced: ExampleGradients | None
    probability: float
    sums: Tensor
    public: Public


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GradientProduct(Attack):
    """score_i = Σ_t ⟨ḡ_i(w_t), noisy sum_t − E[what all records but for the coins contribute | w_t]⟩ / C²      [N23].

    ḡ_i(w) is canary i's gradient at w, clipped to C; of a canary that replaces a record, less that record's. The
    expectation is that of the known records plus q/2 Σ_j ḡ_j of the canaries, of which only the coins are secret. Where
    canaries are at right angles, a step adds N(−q/2 ‖ḡ_i‖²/C², σ² ‖ḡ_i‖²/C²) to an out-score, and to an in-score on
    average q ‖ḡ_i‖²/C² more. At other angles, which gradients of records have, scores share noise and each other's
    parts: they say of themselves that no canary measures the noise, and estimators that want them independent refuse.

    Args:
        model: of the audited model's kind; its trainable weights do not matter and are left alone.
        loss: what the audited model is trained by, one value for each example.

    Guarantees: memory and cost of a step do not depend on the number of steps; the coins are never seen.
    """

    model: nn.Module
    loss: Loss

    threat_model: ClassVar[str] = (
        "white box: sees the weights and the noisy gradient sum of every step, knows every record but which canaries "
        "are in, and chooses the canaries, which are records"
    )
    sees: ClassVar[Sees] = "steps"
    takes: ClassVar[type] = InputCanaries
    needs: ClassVar[tuple[str, ...]] = ("max_grad_norm", "expected_sum", "process")

    def start(self, canaries: InputCanaries, public: Public) -> Products:
        """Return sums of zero.

        Raises:
            UnsupportedProcess: if the claim is not about a Gaussian on Poisson samples.
        """
        assert public.max_grad_norm is not None and public.process is not None
        bound = public.max_grad_norm

        def gradients(records: InputCanaries) -> ExampleGradients:
            rows = records_of(records, public.known)
            return ExampleGradients.of(self.model, rows, loss=self.loss, max_grad_norm=bound)

        return Products(
            gradients=gradients(canaries),
            replaced=None if canaries.replaced is None else gradients(canaries.replaced),
            probability=SampledGaussianRun.of(public.process).probability,
            sums=torch.zeros(len(canaries), dtype=torch.float64),
            public=public,
        )

    def observe(self, state: Products, release: Release) -> Products:
        """Return the state with one more step's products added."""
        assert state.public.expected_sum is not None
        weights = release.weights_before
        noise = release.noisy_sum - state.public.expected_sum(weights)
        noise = noise - state.probability / 2 * state.gradients.total(weights)
        if state.replaced is not None:
            noise = noise - state.probability / 2 * state.replaced.total(weights)
        seen = state.gradients.products(weights, noise)
        if state.replaced is not None:
            seen = seen - state.replaced.products(weights, noise)
        return Products(
            gradients=state.gradients,
            replaced=state.replaced,
            probability=state.probability,
            sums=state.sums + seen,
            public=state.public,
        )

    def finish(self, state: Products) -> Scores:
        """Return the sums in units of the clip norm squared."""
        assert state.public.max_grad_norm is not None
        return Scores(
            values=state.sums.numpy() / np.float64(state.public.max_grad_norm) ** 2,
            design=state.public.design,
            guessing_rule=state.public.guessing_rule,
            measuring=np.zeros(len(state.sums), dtype=np.bool_),
        )
