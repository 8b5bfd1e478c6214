"""The report in words: the same lines for the table on the terminal and for the page."""

from __future__ import annotations

import math
from dataclasses import dataclass

from audit.evidence import LowerBound
from audit.report import AuditReport
from audit.scores import IndependentRuns, OneRun, Stream
from mechanisms.core.command_line import at_least, at_most, outward

DIGITS = 5  # of every ε that is shown, rounded outward

MEANINGS = {
    "consistent": "The evidence lies below the claim. That proves nothing beyond the attack that was tried.",
    "violated": "The evidence lies above the claim: the computation loses more privacy than is claimed.",
    "description refuted": "What ran is not the process described: too little noise, or another way of sampling.",
    "none": "Nothing was learnt: no estimator could show any loss.",
}


FAULTY = "Nothing was learnt: the trainer did not do what every trainer must."

HEADINGS = ("name", "role", "ε", "ratio", "level", "rests on")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table, in words.

    Args:
        name: of the accountant or estimator.
        role: "claim" for the accountant that gave it, "accountant" for the others; "primary", "refuter", "exploratory".
        epsilon: the bounds.
        ratio: lower bound ÷ the claim's upper end; empty for claims.
        level: confidence of an estimator; empty for accountants, whose bounds hold always.
        rests_on: the kind of guarantee.
    """

    name: str
    role: str
    epsilon: str
    ratio: str
    level: str
    rests_on: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts in the order of `HEADINGS`."""
        return (self.name, self.role, self.epsilon, self.ratio, self.level, self.rests_on)


def rows(report: AuditReport) -> tuple[Row, ...]:
    """Return one row for every accountant and every estimator."""
    return (*_claims(report), *_evidence(report))


def roles(report: AuditReport) -> tuple[tuple[str, LowerBound], ...]:
    """Return (role, bound) for every bound of the report, those that decide first."""
    refuting = (("refuter", report.refutation),) if report.refutation is not None else ()
    return (("primary", report.evidence), *refuting, *(("exploratory", bound) for bound in report.exploratory))


def facts(report: AuditReport) -> tuple[tuple[str, str], ...]:
    """Return (what, value) for everything that the rows do not say."""
    optional = (
        ("data", report.data),
        ("accuracy on test records", None if report.accuracy is None else f"{report.accuracy:.1%}"),
    )
    refusing = ", ".join(answer.name for answer in report.accountants if answer.claim is None)
    stamp = "reproducible: not private" if report.reproducible else "drawn by the operating system, known to nobody"
    seed = "" if report.seed is None else f" (seed {report.seed})"
    return (
        *(("fault", fault) for fault in report.faults),
        *((name, value) for name, value in optional if value),
        ("claimed process", repr(report.process)),
        ("δ and neighbours", f"{report.claim.delta:g}, {report.claim.adjacency}"),
        *((("accountants that refuse", refusing),) if refusing else ()),
        ("sharing of the error", report.multiplicity),
        ("right guesses", f"{report.correct} of {report.guesses}, their number fixed before the run"),
        *(
            (
                (
                    "out-score variance ÷ (T σ²)",
                    f"{report.noise_ratio:.3f}, which the described noise makes 1 up to chance",
                ),
            )
            if report.noise_ratio is not None
            else ()
        ),
        ("designs", "; ".join(f"{bound.method}: {_design(bound)}" for _, bound in roles(report))),
        ("threat model", report.evidence.threat_model),
        ("randomness", stamp + seed),
    )


def meaning(report: AuditReport) -> str:
    """Return what the verdict means, in words."""
    return FAULTY if report.faults else MEANINGS[report.verdict]


def ceiling_note(report: AuditReport) -> str:
    """Return a warning where the primary could not have shown a violation, else nothing."""
    if report.ceiling > report.claim.upper:
        return ""
    return (
        f"No violation can be shown with {report.guesses} guesses: were all of them right, "
        f"{report.evidence.method} would give {at_most(report.ceiling, DIGITS)}, which is not above the claim."
    )


def _claims(report: AuditReport) -> tuple[Row, ...]:
    return tuple(
        Row(
            name=answer.name,
            role="claim" if answer.name == report.claim.method else "accountant",
            epsilon=outward(answer.claim, DIGITS),
            ratio="",
            level="",
            rests_on="proof",
        )
        for answer in report.accountants
        if answer.claim is not None
    )


def _evidence(report: AuditReport) -> tuple[Row, ...]:
    return tuple(
        Row(
            name=bound.method,
            role=role,
            epsilon=f"≥ {at_least(bound.epsilon, DIGITS)}",
            ratio=_ratio(bound, report),
            level=f"{bound.confidence:.4g}",
            rests_on=bound.guarantee,
        )
        for role, bound in roles(report)
    )


def _ratio(bound: LowerBound, report: AuditReport) -> str:
    claimed = report.claim.upper
    return f"{bound.epsilon / claimed:.2f}" if 0 < claimed < math.inf else "–"


def _design(bound: LowerBound) -> str:
    if isinstance(bound.design, OneRun):
        return f"one run, {bound.design.canaries:,} canaries"
    if isinstance(bound.design, IndependentRuns):
        return f"{bound.design.runs:,} independent runs"
    if isinstance(bound.design, Stream):
        return f"a stream of {bound.design.looks:,} scores"
    return repr(bound.design)
