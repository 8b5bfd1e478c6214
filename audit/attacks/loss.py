"""The loss attack: records on which a model does well are taken for members.

[YGFJ18] S. Yeom, I. Giacomelli, M. Fredrikson, S. Jha. Privacy Risk in Machine Learning. CSF 2018. arXiv:1709.01604.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from audit.attack import Attack, FinalModel, Public, Sees
from audit.canaries import InputCanaries
from audit.core.asked import Asked
from audit.scores import Scores


@dataclass(frozen=True, slots=True)
class LossThreshold(Attack):
    """score_i = −loss of the final model on canary i [YGFJ18].

    Guarantees: no shadow models, one question to the model; the coins are never seen.
    """

    threat_model: ClassVar[str] = "black box: sees the final model's loss on every canary, and chooses the canaries"
    sees: ClassVar[Sees] = "final model"
    takes: ClassVar[type] = InputCanaries

    def start(self, canaries: InputCanaries, public: Public) -> Asked[InputCanaries]:
        """Return the questions, not yet answered."""
        return Asked(canaries=canaries, public=public)

    def observe(self, state: Asked[InputCanaries], release: FinalModel) -> Asked[InputCanaries]:
        """Return the losses, negated."""
        losses = release.losses(state.canaries.features, state.canaries.targets)
        return state.answered(-np.asarray(losses, dtype=np.float64))

    def finish(self, state: Asked[InputCanaries]) -> Scores:
        """Return the answers as scores."""
        return state.scores()
