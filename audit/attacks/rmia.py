"""The robust membership inference attack: against how many people's records does a canary look more like a member?

[Z24] S. Zarifzadeh, P. Liu, R. Shokri. Low-Cost High-Power Membership Inference Attacks. ICML 2024. arXiv:2312.03262.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from audit.attack import Attack, FinalModel, Public, Sees
from audit.canaries import InputCanaries
from audit.core.asked import Asked
from audit.core.confidences import logit_confidences
from audit.core.references import Array, Coins, References, check_finite
from audit.scores import Scores
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

MODES = ("online", "offline")


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationRatio(Attack):
    """score_i = share of a population that canary i dominates under the final model: see `dominated_shares`.

    Args:
        references: of models trained as the audited one, on the same canaries in their order, with a population.
        population: the records of that population, in its order.
        mode: "online" or "offline".
        gamma: γ > 0.
        offline_slope: a in [0, 1].

    Guarantees: the references' coins are their own; the coins of the audited run are never seen.

    Raises:
        InvalidParameter: if a choice breaks its rule, or the references have no such population.
    """

    references: References
    population: InputCanaries
    mode: str = "online"
    gamma: float = 1.0
    offline_slope: float = 0.3

    threat_model: ClassVar[str] = (
        "black box: sees the final model's outputs on every canary and on a population of public records, chooses the "
        "canaries, and trains models of its own as the audited one is trained, on the same known records"
    )
    sees: ClassVar[Sees] = "final model"
    takes: ClassVar[type] = InputCanaries

    def __post_init__(self) -> None:
        self._shares(self.references.confidences[0], np.zeros(len(self.population)))

    def start(self, canaries: InputCanaries, public: Public) -> Asked[InputCanaries]:
        """Return the questions, not yet answered.

        Raises:
            InvalidParameter: if the references were asked about another number of canaries.
        """
        self.references.check_canaries("rmia", len(canaries))
        return Asked(canaries=canaries, public=public)

    def observe(self, state: Asked[InputCanaries], release: FinalModel) -> Asked[InputCanaries]:
        """Return the shares."""
        seen, others = (
            logit_confidences(release.outputs(records.features), records.targets)
            for records in (state.canaries, self.population)
        )
        return state.answered(self._shares(seen, others))

    def finish(self, state: Asked[InputCanaries]) -> Scores:
        """Return the answers as scores."""
        return state.scores()

    def _shares(self, seen: Array, others: Array) -> Array:
        return dominated_shares(
            seen, others, self.references, mode=self.mode, gamma=self.gamma, offline_slope=self.offline_slope
        )


def dominated_shares(
    confidences: ArrayLike,
    population: ArrayLike,
    references: References,
    *,
    mode: str = "online",
    gamma: float = 1.0,
    offline_slope: float = 0.3,
) -> Array:
    """Return for every canary x the share of population records z that it dominates [Z24].

        Pr_z[(p(x)/P(x)) / (p(z)/P(z)) >= γ],    P(x) = (P_in(x) + P_out(x))/2 online,
                                                 P(x) = ((1 + a) P_out(x) + 1 − a)/2 offline, and so for z

    p is the audited model's probability of the right class, P_in and P_out its mean over the references with and
    without x. No model is trained on any z: online P(z) is the mean over all references. For one audited model this
    only ranks p(x)/P(x), up to ties; the population makes ranks of different models comparable.

    Args:
        confidences: φ of the audited model on the canaries, (m,): see `audit.core.confidences`.
        population: its φ on the z population records, (z,).
        references: on the same canaries and population records, in their order.
        mode: "online" or "offline"; the latter needs no models trained on canaries.
        gamma: γ > 0.
        offline_slope: a in [0, 1]: P_in is taken for a P_out + 1 − a. The authors' code tunes it by attacking one
            reference with the others: none is the best everywhere.

    Raises:
        InvalidParameter: if the shapes do not fit, the references have no population, or a number breaks its rule or
            is not finite.

    >>> references = References(confidences=[[1.0], [-1.0]], included=[[True], [False]], population=[[0.0, 1.0]] * 2)
    >>> dominated_shares([0.0], [0.0, -2.0], references)
    array([1.])
    """
    validate.choice("rmia", "mode", mode, MODES)
    level = np.log(validate.positive("rmia", "gamma", gamma))
    slope = validate.probability("rmia", "offline_slope", offline_slope)
    canaries, others = np.asarray(confidences, dtype=np.float64), np.asarray(population, dtype=np.float64)
    asked = () if references.population is None else references.population.shape[1:]
    if len(asked) != 1 or others.shape != asked:
        raise InvalidParameter(
            f"rmia: population must be the records that the references were asked about, of shape {asked}, "
            f"got {others.shape}.\nHave the references asked about a population: shadow_references(population=...)."
        )
    references.check_canaries("rmia", *canaries.shape)
    for name, given in (("confidences", canaries), ("population", others)):
        check_finite("rmia", name, given)
    of_canaries, of_population = _usual(references, mode, slope)
    ratios = np.sort(special.log_expit(others) - of_population)
    reached = special.log_expit(canaries) - of_canaries - level
    shares: Array = np.searchsorted(ratios, reached, side="right") / len(ratios)
    return shares


def _usual(references: References, mode: str, slope: float) -> tuple[Array, Array]:
    """Return log P of the canaries, (m,), and of the population, (z,): in logarithms, where no p underflows."""
    assert references.population is not None
    own, everyone = special.log_expit(references.confidences), special.log_expit(references.population)
    without = _log_mean(own, ~references.included)
    of_population = _log_mean(everyone, np.ones_like(everyone, dtype=bool))
    if mode == "online":
        return np.logaddexp(_log_mean(own, references.included), without) - np.log(2), of_population
    constant = np.log1p(-slope) if slope < 1 else -np.inf
    canaries, population = (np.logaddexp(np.log1p(slope) + mean, constant) for mean in (without, of_population))
    return canaries - np.log(2), population - np.log(2)


def _log_mean(logs: Array, chosen: Coins) -> Array:
    if not np.all(np.any(chosen, axis=0)):
        raise InvalidParameter(
            'rmia: references must be one model or more with each canary for mode="online". Use mode="offline".'
        )
    means: Array = special.logsumexp(np.where(chosen, logs, -np.inf), axis=0) - np.log(np.sum(chosen, axis=0))
    return means
