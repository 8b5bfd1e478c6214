"""The attack on gradient canaries by one who sees the trained weights only: how far they moved along each gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from audit.attack import Attack, FinalModel, Public, Sees
from audit.canaries import GradientCanaries, Vector
from audit.core.asked import Asked
from audit.scores import Scores
from mechanisms.core.errors import InvalidParameter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightProjection(Attack):
    """score_i = ⟨g_i, w_0 − w_T⟩.

    With steps w ← w − (learning rate / expected batch size) · noisy sum it is the projection of all noisy sums that
    `gradient` sums, but for what the known records contribute: that can't be subtracted without the weights between.

    Args:
        initial: w_0, public, in the order of the trained weights, (d,), finite.

    Raises:
        InvalidParameter: if it has another shape.
    """

    initial: Vector

    threat_model: ClassVar[str] = (
        "final weights: sees the weights before and after training, and chooses the canaries' gradients"
    )
    sees: ClassVar[Sees] = "final model"
    takes: ClassVar[type] = GradientCanaries

    def __post_init__(self) -> None:
        initial = np.array(self.initial, dtype=np.float64)
        if initial.ndim != 1 or not np.all(np.isfinite(initial)):
            raise InvalidParameter(f"final_weights: initial must be finite of shape (d,), got shape {initial.shape}.")
        initial.flags.writeable = False
        object.__setattr__(self, "initial", initial)

    def start(self, canaries: GradientCanaries, public: Public) -> Asked[GradientCanaries]:
        """Return the question, not yet answered.

        Raises:
            InvalidParameter: if the canaries are gradients of another model.
        """
        if canaries.dimension != len(self.initial):
            raise InvalidParameter(
                f"final_weights: initial must have the {canaries.dimension} numbers of the canaries' gradients, "
                f"got {len(self.initial)}."
            )
        return Asked(canaries=canaries, public=public)

    def observe(self, state: Asked[GradientCanaries], release: FinalModel) -> Asked[GradientCanaries]:
        """Return the projections.

        Raises:
            InvalidParameter: if the trainer does not show its weights.
        """
        if release.weights is None:
            raise InvalidParameter(
                "final_weights: the trainer must show the final weights, and does not. Use an attack on outputs."
            )
        moved = self.initial - np.asarray(release.weights, dtype=np.float64)
        return state.answered(state.canaries.projections(moved))

    def finish(self, state: Asked[GradientCanaries]) -> Scores:
        """Return the answers as scores."""
        return state.scores()
