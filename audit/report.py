"""The report of an audit: claim, evidence and verdict side by side. It holds numbers and computes none."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from accountant import Claim
from audit.candidates import Risk
from audit.core.cost import Cost
from audit.evidence import LowerBound
from audit.pictures import Pictures
from mechanisms import Bounds, DPError, InvalidParameter, Process
from mechanisms.core import validate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Verdict = Literal["consistent", "violated", "description refuted", "none"]
VERDICTS = ("consistent", "violated", "description refuted", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountantAnswer:
    """What one accountant says of the claimed process.

    Args:
        name: of the accountant.
        claim: its bounds of ε, or None if it refuses.
        refusal: why it refuses, else empty.
    """

    name: str
    claim: Claim | None
    refusal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEstimator:
    """An exploratory estimator that was to give a bound and gave none.

    Args:
        method: the estimator's name.
        reason: the error's type, and its text if it is one of the library's, which hold no data.

    Raises:
        InvalidParameter: if one is no text.
    """

    method: str
    reason: str

    def __post_init__(self) -> None:
        for name in ("method", "reason"):
            if not isinstance(getattr(self, name), str):
                raise InvalidParameter(
                    f"FailedEstimator: {name} must be text, got {type(getattr(self, name)).__name__}."
                )

    @classmethod
    def of(cls, method: str, error: Exception) -> FailedEstimator:
        """Return what may be told of an error."""
        told = f": {' '.join(str(error).split())}" if isinstance(error, DPError) else ""
        return cls(method=method, reason=f"{type(error).__name__}{told}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What was claimed, what was shown, and what follows.

    Args:
        process: the description claimed.
        claim: tightest certified bounds of its ε, with δ, adjacency and accountant.
        accountants: what every accountant says of the same process.
        evidence: of the primary estimator, named before the run; only it can show a violation, and only if it is
            about any computation. If it is about the claimed family, it can refute the description.
        refutation: of the refuter, named before the run, or None; it can refute the description, see `decides`.
        exploratory: further bounds; they decide nothing.
        verdict: "violated" if frequentist evidence about any computation, "description refuted" if other such evidence
            or the refutation lies above the claim's upper end or refutes by itself, or candidates are guessed more
            often than the claim allows; "none" if nothing was learnt; else "consistent".
        multiplicity: how primary and refuter share the error, in words.
        ceiling: the largest ε that the primary could have shown with every guess right.
        guesses: number of guesses of the primary, fixed before the run.
        correct: how many of them were right.
        noise_ratio: variance of the out-scores ÷ the claim's, T σ² if noise is drawn anew, 1 if the described noise was
            added; None where scores are no sums of it alone.
        reproducible: whether the randomness had a key that others may know: then the run is not private.
        data: name of the dataset, or None.
        seed: the seed that everything was derived from, or None.
        accuracy: of the audited model on test records, in [0, 1], or None.
        pictures: small arrays to draw, which decide nothing; None where there are none.
        faults: what the trainer did that no trainer may, in words without data: with any, nothing was learnt.
        risk: how well candidates were guessed, against what the claim allows; None where none were.
        failed: exploratory estimators that were named and gave no bound.
        cost: what the audit took. It is no part of what was found: reports that differ in it alone are equal, and their
            JSON is the same, so that a sweep that is resumed gives the same bytes. `Cost.to_json` writes it by itself.

    Raises:
        InvalidParameter: if a number breaks its rule, claim and evidence are about different δ or neighbours, there are
            faults and a verdict, or the verdict is not the one that follows from claim, evidence, refutation and risk.
    """

    process: Process
    claim: Claim
    accountants: tuple[AccountantAnswer, ...]
    evidence: LowerBound
    refutation: LowerBound | None
    exploratory: tuple[LowerBound, ...]
    verdict: Verdict
    multiplicity: str
    ceiling: float
    guesses: int
    correct: int
    noise_ratio: float | None
    reproducible: bool
    data: str | None = None
    seed: int | None = None
    accuracy: float | None = None
    pictures: Pictures | None = None
    faults: tuple[str, ...] = ()
    risk: Risk | None = None
    failed: tuple[FailedEstimator, ...] = ()
    cost: Cost | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        validate.choice("AuditReport", "verdict", self.verdict, VERDICTS)
        for name in ("guesses", "correct"):
            object.__setattr__(self, name, validate.count("AuditReport", name, getattr(self, name)))
        if self.correct > self.guesses:
            raise InvalidParameter(
                f"AuditReport: correct must be at most the {self.guesses} guesses, got {self.correct}."
            )
        if validate.real("AuditReport", "ceiling", self.ceiling) < 0:
            raise InvalidParameter(f"AuditReport: ceiling must be at least 0, got {self.ceiling}.")
        if self.noise_ratio is not None:
            validate.non_negative("AuditReport", "noise_ratio", self.noise_ratio)
        if self.faults and self.verdict != "none":
            raise InvalidParameter(
                f"AuditReport: verdict must be 'none' where the trainer is at fault, got {self.verdict!r}."
            )
        if self.verdict == "violated" and self.evidence.about != "any computation":
            raise InvalidParameter(
                f"AuditReport: verdict must rest on evidence about any computation to be 'violated', got "
                f"{self.evidence.method}, about {self.evidence.about}.\n"
                "That refutes the description, whose ε may hold at this δ all the same."
            )
        follows = "none" if self.faults else verdict(self.claim, self.evidence, self.refutation, self.risk)
        if self.verdict != follows:
            raise InvalidParameter(
                f"AuditReport: verdict must be {follows!r}, which is what claim and evidence say, got {self.verdict!r}."
            )
        if self.accuracy is not None:
            validate.probability("AuditReport", "accuracy", self.accuracy)
        for shown in (self.evidence, self.refutation, *self.exploratory):
            if shown is not None and (shown.delta, shown.adjacency) != (self.claim.delta, self.claim.adjacency):
                raise InvalidParameter(
                    f"AuditReport: claim and evidence must be about the same δ and neighbours, got {self.claim.delta} "
                    f"{self.claim.adjacency} and {shown.delta} {shown.adjacency} ({shown.method})."
                )

    def to_json(self) -> str:
        """Return the report as JSON text; the same report gives the same bytes."""
        from audit.core.serialise import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, text: str) -> AuditReport:
        """Return the report that `to_json` wrote.

        Raises:
            InvalidParameter: if the text is no JSON, or a schema, type or field is not known: it is named.
        """
        from audit.core.serialise import from_json

        return from_json(text)

    def to_markdown(self, *, seconds: float | None = None) -> str:
        """Return the report as Markdown text; `seconds` is what the run took, mentioned if given."""
        from audit.core.markdown import markdown

        return markdown(self, seconds=seconds)

    def plot(self) -> Figure:
        """Return the figure of both jaws on one ε axis."""
        from audit.plots import bracket

        return bracket(self)

    def save(self, path: str | Path, *, seconds: float | None = None) -> None:
        """Write the report to `path`, whole or not at all, in the format of its ending: .html, .md, .json or .png.

        Args:
            path: where to; its directory must exist.
            seconds: what the run took; page and Markdown mention it, the JSON never does.

        Raises:
            InvalidParameter: if the ending is none of these, or there is no such directory.
            OSError: if the file cannot be written.
        """
        from mechanisms.core.files import write_atomically

        endings = (".html", ".md", ".json", ".png")
        ending = validate.choice("AuditReport", "the ending of path", Path(path).suffix, endings)
        if not Path(path).parent.is_dir():
            raise InvalidParameter(
                f"AuditReport: the directory of path must exist, got {path}.\nMake it: Path(...).mkdir(parents=True)."
            )
        if ending == ".json":
            content = self.to_json().encode()
        elif ending == ".md":
            content = self.to_markdown(seconds=seconds).encode()
        elif ending == ".png":
            from audit.plots import png

            content = png(self, scheme="light")
        else:
            from audit.core.page import page

            content = page(self, seconds=seconds).encode()
        write_atomically(Path(path), content)


def verdict(claim: Bounds, evidence: LowerBound, refutation: LowerBound | None, risk: Risk | None = None) -> Verdict:
    """Return what the two deciding bounds say about the claim's upper end, and guesses about its curve.

    Frequentist evidence about any computation violates the claim. Evidence about the claimed family refutes the
    description: the claimed curve fails, its ε at this δ need not. So does what refutes the described process by
    itself, without an ε above the claim's. Other evidence decides nothing, see `decides`. Guesses of candidates that
    are right more often than the curve allows refute it.

    >>> from audit.scores import OneRun
    >>> from mechanisms import Adjacency
    >>> shown = LowerBound(epsilon=1.8, delta=1e-5, confidence=0.95, adjacency=Adjacency.ADD_REMOVE, method="one_run",
    ...                    guarantee="frequentist", threat_model="white box", design=OneRun(canaries=1000))
    >>> verdict(Bounds(lower=3.9, upper=4.0), shown, None)
    'consistent'
    """
    deciding = [bound for bound in (evidence, refutation) if bound is not None and decides(bound)]
    if evidence.guarantee == "frequentist" and evidence.about == "any computation" and evidence.epsilon > claim.upper:
        return "violated"
    if any(bound.epsilon > claim.upper or bound.description_refuted for bound in deciding) or (
        risk and risk.verdict == "description refuted"
    ):
        return "description refuted"
    return "consistent" if any(bound.epsilon > 0 for bound in deciding) else "none"


def decides(bound: LowerBound) -> bool:
    """Tell whether a bound may decide at all: credible and approximate ones never do.

    Nor does a parametric one about any computation: what it assumes of the scores, that they be normal, no claim says,
    so an honest run may break it. One about the claimed family assumes what is claimed.
    """
    return bound.guarantee == "frequentist" or (bound.guarantee == "parametric" and bound.about == "the claimed family")
