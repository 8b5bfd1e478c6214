"""The attack on a canary that initial weights were crafted for, by one who may ask the trained model about it alone.

[ADC24] M. S. M. S. Annamalai, E. De Cristofaro. Nearly Tight Black-Box Auditing of Differentially Private Machine
Learning. NeurIPS 2024. arXiv:2405.14106.
[NHSBT23] M. Nasr, J. Hayes, T. Steinke, B. Balle, F. Tramèr, M. Jagielski, N. Carlini, A. Terzis. Tight Auditing of
Differentially Private Machine Learning. USENIX Security 2023. arXiv:2302.07956.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from audit.attack import Attack, FinalModel, Public, Sees
from audit.canaries import InputCanaries
from audit.core.asked import Asked
from audit.scores import Scores
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsedLoss(Attack):
    """score = (L_out − L) / (L_out − L_in), L the final model's loss on the canary, on a scale known before the run.

    L_out and L_in are the losses after training without noise, without and with the canary: whoever knows all records
    but the canary's coin can rehearse both (`audit.crafted.rehearsed`). An out-score is about 0, an in-score about 1,
    and `Threshold(value=0.5)` is fixed without a look at the scores.

    How a final model can tell as much as all steps. A general one does not: known records' gradients answer the noise
    and blur it [NHSBT23]. DP holds for any initial weights, however, so that the adversary may choose them [ADC24].
    Where known records have no gradient in what the loss depends on, and the canary has the same clipped gradient C u
    in every step, the loss is linear along the way:

        L − L_out  ∝  ⟨u, Σ_t noise_t⟩ + T C [in],

    the very sum that a white-box adversary takes. `audit.crafted.detector` makes such weights; on others this attack is
    as valid, and weaker.

    Args:
        without: L_out, finite.
        within: L_in, finite and below it.

    Raises:
        InvalidParameter: if a loss breaks its rule.

    >>> RehearsedLoss(without=5.0, within=1.0).name
    'crafted'
    """

    without: float
    within: float

    threat_model: ClassVar[str] = (
        "black box on crafted weights: sees the final model's loss on the canary, chooses canary and initial weights, "
        "and knows every other record"
    )
    sees: ClassVar[Sees] = "final model"
    takes: ClassVar[type] = InputCanaries

    def __post_init__(self) -> None:
        for name in ("without", "within"):
            object.__setattr__(self, name, validate.finite("crafted", name, getattr(self, name)))
        if not self.within < self.without:
            raise InvalidParameter(
                f"crafted: within must be below without, {self.without}, got {self.within}.\n"
                "Training with the canary must lower its loss: is its gradient zero at these weights?"
            )

    def start(self, canaries: InputCanaries, public: Public) -> Asked[InputCanaries]:
        """Return the question, not yet answered."""
        return Asked(canaries=canaries, public=public)

    def observe(self, state: Asked[InputCanaries], release: FinalModel) -> Asked[InputCanaries]:
        """Return the losses on the scale of the rehearsals."""
        losses = np.asarray(release.losses(state.canaries.features, state.canaries.targets), dtype=np.float64)
        return state.answered((self.without - losses) / (self.without - self.within))

    def finish(self, state: Asked[InputCanaries]) -> Scores:
        """Return the answers as scores."""
        return state.scores()
