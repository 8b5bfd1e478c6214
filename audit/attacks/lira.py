"""The likelihood ratio attack: is a confidence more like those of models with, or of models without the canary?

[C22] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis, F. Tramèr. Membership Inference Attacks From First Principles.
IEEE S&P 2022. arXiv:2112.03570.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from audit.attack import Attack, FinalModel, Public, Sees
from audit.canaries import InputCanaries
from audit.core.asked import Asked
from audit.core.confidences import logit_confidences
from audit.core.references import Array, Coins, References
from audit.scores import Scores
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

MODES = ("online", "offline")
VARIANCES = ("per_canary", "pooled")


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodRatio(Attack):
    """score_i = log-likelihood ratio of the final model's confidence in canary i's class: see `likelihood_ratios`.

    Args:
        references: of models trained as the audited one, on the same canaries in their order.
        mode: "online" or "offline".
        variance: "per_canary" or "pooled".

    Guarantees: the references' coins are their own; the coins of the audited run are never seen.

    Raises:
        InvalidParameter: if a choice is none of these, or there are too few references for it.
    """

    references: References
    mode: str = "online"
    variance: str = "pooled"

    threat_model: ClassVar[str] = (
        "black box: sees the final model's outputs on every canary, chooses the canaries, and trains models of its own "
        "as the audited one is trained, on the same known records"
    )
    sees: ClassVar[Sees] = "final model"
    takes: ClassVar[type] = InputCanaries

    def __post_init__(self) -> None:
        likelihood_ratios(self.references.confidences[:1], self.references, mode=self.mode, variance=self.variance)

    def start(self, canaries: InputCanaries, public: Public) -> Asked[InputCanaries]:
        """Return the questions, not yet answered.

        Raises:
            InvalidParameter: if the references were asked about another number of canaries.
        """
        self.references.check_canaries("lira", len(canaries))
        return Asked(canaries=canaries, public=public)

    def observe(self, state: Asked[InputCanaries], release: FinalModel) -> Asked[InputCanaries]:
        """Return the likelihood ratios."""
        seen = logit_confidences(release.outputs(state.canaries.features), state.canaries.targets)
        return state.answered(likelihood_ratios(seen, self.references, mode=self.mode, variance=self.variance))

    def finish(self, state: Asked[InputCanaries]) -> Scores:
        """Return the answers as scores."""
        return state.scores()


def likelihood_ratios(
    confidences: ArrayLike, references: References, *, mode: str = "online", variance: str = "pooled"
) -> Array:
    """Return the score of every canary under normal laws fitted to the references' confidences φ [C22].

        online     log N(φ; μ_in, σ_in²) − log N(φ; μ_out, σ_out²)
        offline    (φ − μ_out) / σ_out, which rises with Pr[N(μ_out, σ_out²) < φ] and stays apart where that rounds to 1

    μ is each canary's own mean over the models with it, or without. σ² is each canary's own variance too, or pooled:
    the mean of squares about each one's own mean, over all canaries. Own variances need many models (64 or so), else
    pooled ones are better. The authors' code has, for the pooled one, the variance of all confidences about their
    common mean, which is larger by what canaries differ.

    Args:
        confidences: φ of the audited model, (…, m).
        references: on the same canaries, in their order.
        mode: "online" or "offline"; the latter needs no models trained on canaries.
        variance: "per_canary" or "pooled".

    Raises:
        InvalidParameter: if there are too few models for the means or variances asked for, a variance is 0, or a
            confidence is not finite.

    >>> references = References(confidences=[[3.0], [5.0], [-1.0], [1.0]], included=[[True], [True], [False], [False]])
    >>> likelihood_ratios([2.0], references)  # in the middle of 4 and 0
    array([0.])
    """
    observed = np.asarray(confidences, dtype=np.float64)
    validate.choice("lira", "mode", mode, MODES)
    validate.choice("lira", "variance", variance, VARIANCES)
    references.check_confidences("lira", observed)
    without = _deviation(observed, references, ~references.included, references.excluded_means, variance)
    if mode == "offline":
        return without[0]
    within = _deviation(observed, references, references.included, references.included_means, variance)
    ratios: Array = np.log(without[1] / within[1]) + (without[0] ** 2 - within[0] ** 2) / 2
    return ratios


def _deviation(
    observed: Array, references: References, chosen: Coins, means: Array, variance: str
) -> tuple[Array, Array]:
    """Return (φ − μ) / σ and σ under the law of the chosen models."""
    squares, freedom = references.squares(means, chosen), np.sum(chosen, axis=0) - 1
    differ = references.differ(chosen)
    if variance == "pooled":
        squares, freedom = np.sum(squares, keepdims=True), np.sum(freedom, keepdims=True)
        differ = np.any(differ, keepdims=True)
    if not np.all(differ & (squares > 0)):
        raise InvalidParameter(
            "lira: references must be two models or more with each canary, and without it, that differ.\n"
            'Train more of them, or use variance="pooled", mode="offline", or rmia, which needs the fewest.'
        )
    spread = np.sqrt(squares / freedom)
    deviation: Array = (observed - means) / spread
    return deviation, spread
