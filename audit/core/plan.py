"""Who decides, at which share of the error, and by which attack: settled before the first step."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit.attack import Attack, attacks
from audit.core.correlated import CorrelatedRun, correlated_run
from audit.core.described import GaussianRun, SampledGaussianRun, described_poisson, gaussian_run
from audit.estimators.accountant_inversion import AccountantInversion
from audit.evidence import Estimator, Guarantee, LowerBound, estimators
from audit.report import FailedEstimator
from audit.scores import (
    Design,
    GuessExtremes,
    GuessingRule,
    IndependentRuns,
    LabelledScores,
    OneRun,
    Scores,
    Threshold,
)
from mechanisms import Adjacency, Gaussian, InvalidParameter, Process, leaves
from mechanisms.core import validate

WHERE_IT_APPLIES = "where it applies"
"""The refuter that is `REFUTER` if claim, design and attack are such that it holds, and none else."""
REFUTER = "accountant_inversion"
REFUTER_SHARE = 0.2  # of the error; the primary, which needs no description to hold, gets the rest
PRIMARIES: dict[type[Design], str] = {OneRun: "one_run", IndependentRuns: "calibrated"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The deciding estimators with their confidences, whose errors add up to 1 − `confidence`.

    Args:
        primary: alone can show a violation.
        refuter: alone can refute the description; or None.
        others: exploratory ones.
        claim: the process they are told of.
        adjacency: the neighbours that a coin makes.
        delta: δ of all bounds.
        confidence: of everything that decides, and of each exploratory bound.
    """

    primary: Estimator
    refuter: Estimator | None
    others: tuple[Estimator, ...]
    claim: Process
    adjacency: Adjacency
    delta: float
    confidence: float

    @property
    def primary_confidence(self) -> float:
        """The level of the primary: all of the error without a refuter."""
        return self.confidence if self.refuter is None else self.confidence + self._share

    @property
    def refuter_confidence(self) -> float:
        """The level of the refuter."""
        return 1 - self._share

    @property
    def _share(self) -> float:
        return REFUTER_SHARE * (1 - self.confidence)

    @property
    def multiplicity(self) -> str:
        """How the error is shared, in words."""
        told = [(self.primary, self.primary_confidence)]
        if self.refuter is not None:
            told.append((self.refuter, self.refuter_confidence))
        shares = " + ".join(f"{1 - level:.4g} ({estimator.name})" for estimator, level in told)
        return f"error {1 - self.confidence:.4g} = {shares}, by the union bound"

    def evidence(self, data: LabelledScores, threat_model: str) -> LowerBound:
        """Return the primary's bound."""
        return self._bound(self.primary, data, self.primary_confidence, threat_model)

    def refutation(self, data: LabelledScores, threat_model: str) -> LowerBound | None:
        """Return the refuter's bound, if there is one."""
        return None if self.refuter is None else self._bound(self.refuter, data, self.refuter_confidence, threat_model)

    def exploratory(
        self, data: LabelledScores, threat_model: str
    ) -> tuple[tuple[LowerBound, ...], tuple[FailedEstimator, ...]]:
        """Return the other bounds, each at the whole confidence: together they prove nothing; and who gave none.

        What fails here fails after the run, which is not to be lost for it.
        """
        bounds, failed = [], []
        for other in self.others:
            try:
                bounds.append(self._bound(other, data, self.confidence, threat_model))
            except Exception as error:
                failed.append(FailedEstimator.of(other.name, error))
        return tuple(bounds), tuple(failed)

    def ceiling(self, data: LabelledScores) -> float:
        """Return the largest ε that the primary could have shown."""
        if not told_apart(data):
            return 0.0
        return self.primary.ceiling(data, delta=self.delta, confidence=self.primary_confidence)

    def nothing(self, design: Design, threat_model: str) -> tuple[LowerBound, LowerBound | None]:
        """Return the deciding bounds where nothing was learnt."""
        primary = self._empty(self.primary, design, self.primary_confidence, threat_model)
        if self.refuter is None:
            return primary, None
        return primary, self._empty(self.refuter, design, self.refuter_confidence, threat_model)

    def _bound(self, estimator: Estimator, data: LabelledScores, level: float, threat_model: str) -> LowerBound:
        if not told_apart(data):
            return self._empty(estimator, data.scores.design, level, threat_model)
        bound = estimator.lower_bound(
            data, process=self.claim, delta=self.delta, confidence=level, threat_model=threat_model
        )
        return replace(bound, adjacency=self.adjacency)

    def _empty(self, estimator: Estimator, design: Design, level: float, threat_model: str) -> LowerBound:
        return LowerBound(
            epsilon=0.0,
            delta=self.delta,
            confidence=level,
            adjacency=self.adjacency,
            method=estimator.name,
            guarantee=estimator.guarantee,
            about=estimator.about,
            threat_model=threat_model,
            design=design,
        )


def planned(
    *,
    primary: str | None,
    refuter: str | None,
    exploratory: Sequence[str],
    attack: Attack,
    design: Design,
    claim: Process,
    adjacency: Adjacency,
    delta: float,
    confidence: float,
) -> Plan:
    """Return the plan of an audit.

    Raises:
        InvalidParameter: if a name is not known, or its estimator does not hold here.
        UnsupportedProcess: if an estimator is for another kind of claim.
    """
    chosen = _named("primary", PRIMARIES[type(design)] if primary is None else primary, design, "frequentist")
    others = tuple(_named("exploratory", name, design) for name in exploratory)
    for role, estimator in (("primary", chosen), *(("exploratory", other) for other in others)):
        check_neighbours(role, estimator, claim, adjacency)
        _check_claim(estimator, design, claim, delta=delta, confidence=confidence)
    return Plan(
        primary=chosen,
        refuter=_refuter(refuter, attack, design, claim, adjacency),
        others=others,
        claim=claim,
        adjacency=adjacency,
        delta=delta,
        confidence=confidence,
    )


def told_apart(data: LabelledScores) -> bool:
    """Tell whether the coins left two in and two out: without, nothing is compared, and every bound is 0."""
    return min(len(data.included), len(data.excluded)) >= 2


def check_rule(design: Design, rule: GuessingRule | None) -> None:
    """Refuse to guess by rank over independent runs.

    Raises:
        InvalidParameter: if the runs would choose the threshold.
    """
    if isinstance(design, IndependentRuns) and isinstance(rule, GuessExtremes):
        raise InvalidParameter(
            f"audit: guessing_rule must be a Threshold for independent runs, got {rule!r}: to guess by rank would let "
            "the runs choose the threshold."
        )


def check_neighbours(role: str, estimator: Estimator, claim: Process | None, adjacency: Adjacency) -> None:
    """Refuse an estimator about the claimed family for neighbours that lose something else than the family says.

    It holds a run against the family's curves for one record more or less. A Gaussian step on Poisson samples loses the
    same where a contribution is set to zero. Where a record is replaced its curves are others, and one of those below
    them may have a far larger ε: only those of Gaussians that are not sampled make the same family, in other units.

    Raises:
        InvalidParameter: if it says nothing about such neighbours.
    """
    if estimator.about == "any computation" or adjacency is Adjacency.ADD_REMOVE:
        return
    gaussian = claim is not None and all(isinstance(leaf, Gaussian) for leaf, _ in leaves(claim))
    zeroed = adjacency is Adjacency.ZERO_OUT and claim is not None and described_noise(claim) is not None
    if not gaussian and not zeroed:
        raise InvalidParameter(
            f"audit: {role} must be about any computation under {adjacency.value} neighbours of this claim, got "
            f"{estimator.name!r}, about the claimed family for one record more or less."
        )


def chosen_attack(attack: str | Attack) -> Attack:
    """Return the attack of that name, or the one given.

    Raises:
        InvalidParameter: if there is none; the message lists them.
    """
    if isinstance(attack, Attack):
        return attack
    kinds = attacks()
    kind = kinds[validate.choice("audit", "attack", attack, tuple(kinds))]
    taken = [name for name, one in inspect.signature(kind).parameters.items() if one.default is inspect.Parameter.empty]
    if taken:
        raise InvalidParameter(
            f"audit: attack {attack!r} must be given itself, as it takes {' and '.join(taken)}: "
            f"attack={kind.__name__}({'=..., '.join(taken)}=...)."
        )
    return kind()


def described_noise(claim: Process) -> SampledGaussianRun | None:
    """Return the claimed run where it is one of Gaussian steps on Poisson samples, else None."""
    return described_poisson(claim)


def _refuter(
    name: str | None, attack: Attack, design: Design, claim: Process, adjacency: Adjacency
) -> Estimator | None:
    """Return the refuter, which holds for scores that are sums of the described noise and nothing else.

    Where a canary that is out leaves nothing behind, that is so however records are drawn; which estimator it is
    depends on no more than claim, design, attack and neighbours.
    """
    if name is None:
        return None
    if name == WHERE_IT_APPLIES:
        known = correlated_run(claim) if attack.follows_turns else gaussian_run(claim)
        applies = attack.measures_noise and adjacency is not Adjacency.REPLACE_ONE and known is not None
        if not applies or not isinstance(design, OneRun):
            return None
        return _for_neighbours(_named("refuter", REFUTER, design, "parametric"), adjacency)
    found = _named("refuter", name, design, "parametric")
    if found.about == "any computation":
        raise InvalidParameter(
            f"audit: refuter must be about the claimed family, got {name!r}: it assumes of scores what no claim says.\n"
            "An honest run may break that: samples, say, make the scores of DP-SGD no normals. Name it as exploratory."
        )
    if not attack.measures_noise:
        raise InvalidParameter(
            f"audit: refuter must be None with attack {attack.name!r}, whose scores are no sums of the noise, "
            f"got {name!r}."
        )
    if adjacency is Adjacency.REPLACE_ONE:
        raise InvalidParameter(f"audit: refuter must be None under {adjacency.value} neighbours, got {name!r}.")
    (CorrelatedRun if attack.follows_turns else GaussianRun).of(claim)
    return _for_neighbours(found, adjacency)


def _for_neighbours(estimator: Estimator, adjacency: Adjacency) -> Estimator:
    """Return the estimator, told of the neighbours where it asks for them."""
    if isinstance(estimator, AccountantInversion):
        return replace(estimator, adjacency=adjacency)
    return estimator


def _check_claim(estimator: Estimator, design: Design, claim: Process, *, delta: float, confidence: float) -> None:
    """Have an estimator that makes something of the claim refuse it now: asked of scores that show nothing.

    Raises:
        UnsupportedProcess: if it is for another kind of claim.
    """
    if estimator.about != "any computation":
        few = OneRun(canaries=4) if isinstance(design, OneRun) else IndependentRuns(runs=4)
        scores = Scores(values=np.arange(4.0), design=few, guessing_rule=Threshold(value=0.0))
        nothing = LabelledScores(scores=scores, membership=np.array([True, False, True, False]))
        estimator.epsilon(nothing, process=claim, delta=delta, confidence=confidence)


def _named(role: str, name: str, design: Design, guarantee: Guarantee | None = None) -> Estimator:
    kinds = estimators()
    kind = kinds[validate.choice("audit", role, name, tuple(kinds))]
    if guarantee not in (None, kind.guarantee) or not isinstance(design, kind.designs):
        wanted = "an" if guarantee is None else f"a {guarantee}"
        raise InvalidParameter(
            f"audit: {role} must be {wanted} estimator for {type(design).__name__}, got {name!r}: "
            f"{kind.guarantee}, for {' or '.join(design.__name__ for design in kind.designs)}."
        )
    return kind()
