"""The white-box attack on gradient canaries: their projections of the noisy sums, less what is known of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from audit.attack import Attack, Public
from audit.canaries import SignedCoordinates
from audit.scores import Scores

if TYPE_CHECKING:
    from dpsgd import Release


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Projections:
    """The fold's state.

    Args:
        coordinates: of the canaries, int64 (m,).
        signs: of the canaries, float64 (m,).
        sums: projections summed over the steps seen, float64 (m,), in the unit of the gradients.
        squares: their squares, summed likewise.
        public: see `Public`.
    """

    coordinates: Tensor
    signs: Tensor
    sums: Tensor
    squares: Tensor
    public: Public


@dataclass(frozen=True, slots=True)
class GradientProjection(Attack):
    """score_i = Σ_t ⟨sign_i e_i, noisy sum_t − E[clipped sum of the known records | w_t]⟩ / C.

    In units of the clip norm C an out-score is N(0, T σ²), an in-score that plus Bin(T, q), up to the known records'
    own sampling, which is small beside the noise. Without the subtraction the known records' gradients stay in the
    scores: on digits they hide even a quarter of the described noise from the guesses. The squares of the projections,
    summed over the steps too, are σ² χ² of T degrees where the canary is out: they measure the noise step by step.

    Guarantees: memory and cost of a step do not depend on the number of steps; the coins are never seen.
    """

    threat_model: ClassVar[str] = (
        "white box: sees the weights and the noisy gradient sum of every step, knows every record but which canaries "
        "are in, and chooses the canaries' gradients"
    )

    def start(self, canaries: SignedCoordinates, public: Public) -> Projections:
        """Return sums of zero."""
        return Projections(
            coordinates=torch.tensor(canaries.coordinates),
            signs=torch.tensor(canaries.signs),
            sums=torch.zeros(len(canaries), dtype=torch.float64),
            squares=torch.zeros(len(canaries), dtype=torch.float64),
            public=public,
        )

    def observe(self, state: Projections, release: Release) -> Projections:
        """Return the state with one more step's projections added."""
        noise = release.noisy_sum - state.public.expected_sum(release.weights_before)
        seen = noise[state.coordinates.to(noise.device)].to("cpu", torch.float64)
        return Projections(
            coordinates=state.coordinates,
            signs=state.signs,
            sums=state.sums + state.signs * seen,
            squares=state.squares + seen.square(),
            public=state.public,
        )

    def finish(self, state: Projections) -> Scores:
        """Return the sums, and the sums of squares, in units of the clip norm."""
        unit = np.float64(state.public.max_grad_norm)
        return Scores(
            values=state.sums.numpy() / unit,
            design=state.public.design,
            guessing_rule=state.public.guessing_rule,
            squares=state.squares.numpy() / unit**2,
        )
