"""What a reader may look at beside the verdict: small arrays of numbers, counted once; they decide nothing.

No point of these pictures is evidence. A ROC curve of few scores crosses the certified one by chance, and the bound at
each threshold holds for one threshold fixed beforehand: estimators give evidence, and the report lists it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

MOST = 1_000  # numbers in an array: a report is a page, no store of scores


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreHistogram:
    """How many scores of canaries in and out fall into each bin, beside how many the described law has there.

    Args:
        edges: of n bins, n + 1 rising finite numbers.
        included: (n,), counts of canaries that were in.
        excluded: (n,), of those that were out.
        expected_included: (n,), what the described run has on average, or () where it fixes no law of the scores.
        expected_excluded: likewise.
        unit: of the scores; empty where they have none.

    Raises:
        InvalidParameter: if a number breaks its rule or the lengths do not fit.
    """

    edges: tuple[float, ...]
    included: tuple[int, ...]
    excluded: tuple[int, ...]
    expected_included: tuple[float, ...] = ()
    expected_excluded: tuple[float, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        _clean(self, "edges", validate.finite)
        for name in ("included", "excluded"):
            _clean(self, name, validate.count, len(self.edges) - 1)
        for name in ("expected_included", "expected_excluded"):
            _clean(self, name, validate.non_negative, *([len(self.edges) - 1] if getattr(self, name) else [0]))
        if len(self.edges) < 2 or any(low >= high for low, high in _steps(self.edges)):
            raise InvalidParameter("ScoreHistogram: edges must be two or more numbers that rise.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RocCurve:
    """The rates of true and false alarms over all thresholds, and the most that the claimed process allows.

    Args:
        false_positive_rate: (n,), in [0, 1], not falling.
        true_positive_rate: (n,), in [0, 1], not falling.
        alpha: (k,), rates of false alarms at which the claimed curve is known; () where it is not.
        allowed: (k,), 1 − f(α) for its certified trade-off curve f: at most this share of members can be found.

    Raises:
        InvalidParameter: if a number breaks its rule or the lengths do not fit.
    """

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    alpha: tuple[float, ...] = ()
    allowed: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _clean(self, "false_positive_rate", validate.probability)
        _clean(self, "true_positive_rate", validate.probability, len(self.false_positive_rate))
        _clean(self, "alpha", validate.probability)
        _clean(self, "allowed", validate.probability, len(self.alpha))
        for name in ("false_positive_rate", "true_positive_rate", "alpha", "allowed"):
            if any(low > high for low, high in _steps(getattr(self, name))):
                raise InvalidParameter(f"RocCurve: {name} must not fall.")


@dataclass(frozen=True, slots=True, kw_only=True)
class JawsPath:
    """Both jaws after some steps: what was claimed for the run up to there, and what had been shown.

    Args:
        steps: (n,), rising, >= 1.
        claimed: (n,), upper ends of ε, >= 0; may be infinite.
        evidence: (n,), lower bounds of ε, >= 0; may be infinite.
        unit: what is counted, "steps" or "looks".

    Raises:
        InvalidParameter: if a number breaks its rule or the lengths do not fit.
    """

    steps: tuple[int, ...]
    claimed: tuple[float, ...]
    evidence: tuple[float, ...]
    unit: str = "steps"

    def __post_init__(self) -> None:
        _clean_looks(self, "steps")
        _clean(self, "claimed", _epsilon, len(self.steps))
        _clean(self, "evidence", _epsilon, len(self.steps))
        validate.choice("JawsPath", "unit", self.unit, ("steps", "looks"))


@dataclass(frozen=True, slots=True, kw_only=True)
class WealthPath:
    """The wealth of bets against one ε after some looks; it refutes that ε where it reaches 1/(1 − confidence).

    Args:
        looks: (n,), rising, >= 1.
        log_wealth: (n,), natural logarithms; −inf where all is lost.
        epsilon: the ε bet against, >= 0.
        confidence: in (0, 1).

    Raises:
        InvalidParameter: if a number breaks its rule or the lengths do not fit.
    """

    looks: tuple[int, ...]
    log_wealth: tuple[float, ...]
    epsilon: float
    confidence: float

    def __post_init__(self) -> None:
        _clean_looks(self, "looks")
        _clean(self, "log_wealth", validate.real, len(self.looks))
        object.__setattr__(self, "epsilon", validate.non_negative("WealthPath", "epsilon", self.epsilon))
        if not 0 < validate.finite("WealthPath", "confidence", self.confidence) < 1:
            raise InvalidParameter(f"WealthPath: confidence must lie in (0, 1), got {self.confidence}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskCurve:
    """How often candidates were guessed right, beside the most that the claimed process allows any attack.

    Args:
        blind: (n,), κ, chances of a blind guess in [0, 1], not falling; () where no curve is known.
        allowed: (n,), 1 − f(κ) for the certified trade-off curve f of the claim, not falling.
        at: κ of the candidates.
        limit: what the claim allows at these, by the same curve or by one for these alone.
        success: lower limit of the probability of a right guess.
        share: of right guesses among those made.
        most: upper limit.

    Raises:
        InvalidParameter: if a number breaks its rule or the lengths do not fit.
    """

    blind: tuple[float, ...]
    allowed: tuple[float, ...]
    at: float
    limit: float
    success: float
    share: float
    most: float

    def __post_init__(self) -> None:
        _clean(self, "blind", validate.probability)
        _clean(self, "allowed", validate.probability, len(self.blind))
        for name in ("blind", "allowed"):
            if any(low > high for low, high in _steps(getattr(self, name))):
                raise InvalidParameter(f"RiskCurve: {name} must not fall.")
        for name in ("at", "limit", "success", "share", "most"):
            object.__setattr__(self, name, validate.probability("RiskCurve", name, getattr(self, name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What a report can show beside its bounds; None for what it cannot.

    Args:
        histogram: of the scores.
        roc: of the scores.
        jaws: over steps or looks.
        wealth: of an e-process.
        risk: of candidates.
        missing: what could not be made, and why, in words without data.
    """

    histogram: ScoreHistogram | None = None
    roc: RocCurve | None = None
    jaws: JawsPath | None = None
    wealth: WealthPath | None = None
    risk: RiskCurve | None = None
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kinds = {
            "histogram": ScoreHistogram,
            "roc": RocCurve,
            "jaws": JawsPath,
            "wealth": WealthPath,
            "risk": RiskCurve,
        }
        for name, kind in kinds.items():
            found = getattr(self, name)
            if found is not None and not isinstance(found, kind):
                raise InvalidParameter(f"Pictures: {name} must be {kind.__name__} or None, got {type(found).__name__}.")
        for one in validate.sequence("Pictures", "missing", self.missing):
            if not isinstance(one, str):
                raise InvalidParameter(f"Pictures: missing must hold texts, got {type(one).__name__}.")


def _clean(owner: Any, name: str, check: Callable[[str, str, object], object], length: int | None = None) -> None:
    """Make a field a tuple of plain numbers, each of them checked."""
    kind = type(owner).__name__
    given: Iterable[object] = validate.sequence(kind, name, getattr(owner, name))
    cleaned = tuple(check(kind, name, one) for one in given)
    if len(cleaned) > MOST:
        raise InvalidParameter(
            f"{kind}: {name} must have at most {MOST} numbers, got {len(cleaned)}.\nThin them: a report is no store."
        )
    if length is not None and len(cleaned) != length:
        raise InvalidParameter(f"{kind}: {name} must have {length} numbers, got {len(cleaned)}.")
    object.__setattr__(owner, name, cleaned)


def _clean_looks(owner: Any, name: str) -> None:
    _clean(owner, name, validate.count)
    looks = getattr(owner, name)
    if not looks or looks[0] < 1 or any(low >= high for low, high in _steps(looks)):
        raise InvalidParameter(f"{type(owner).__name__}: {name} must be one or more numbers that rise from 1 or above.")


def _epsilon(owner: str, name: str, value: object) -> float:
    number = validate.real(owner, name, value)
    if number < 0:
        raise InvalidParameter(f"{owner}: {name} must be at least 0, got {number}.")
    return number


def _steps(numbers: tuple[Any, ...]) -> Iterable[tuple[Any, Any]]:
    return pairwise(numbers)
