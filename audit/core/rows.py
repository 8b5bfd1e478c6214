"""The report in words: the same lines for the table on the terminal and for the page."""

from __future__ import annotations

from dataclasses import dataclass

from audit.candidates import Risk
from audit.core.printed import DIGITS, confidently, quotient
from audit.evidence import LowerBound
from audit.report import AuditReport, decides
from audit.scores import Design, IndependentRuns, OneRun, Stream
from mechanisms.core.command_line import at_least, at_most, outward

MEANINGS = {
    "consistent": "The evidence lies below the claim. That proves nothing beyond the attack that was tried.",
    "violated": "The evidence lies above the claim: the computation loses more privacy than is claimed.",
    "description refuted": "What ran is not what is described: too little or other noise, or another way of sampling.",
    "none": "Nothing was learnt: no estimator could show any loss.",
}
NOT_AS_PRIVATE = (
    "What ran is not the process described, nor anything as private: somewhere on its trade-off curve it loses more "
    "than is claimed, though perhaps not at this ε and δ."
)

FAULTY = "Nothing was learnt: the trainer did not do what every trainer must."

ONE_STEP = (
    "Claim and evidence are about one step, for a record that takes part in it: the ε of the whole run is another."
)

RULE = (
    "The verdict follows from the primary evidence and the refuter, both named before the run. Only a primary about "
    "any computation can show a violation. A bound for the family is the least ε that the described process, with "
    "some amount of noise, could honestly claim for the run: it can refute the description. Exploratory bounds "
    "decide nothing."
)

REFUTES = "refutes the process described, by more than ε alone shows"

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
        rests_on: the kind of guarantee, and whether it is for the claimed family alone.
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


def was_asked(report: AuditReport, role: str) -> bool:
    """Tell whether an estimator was asked about scores: those that decide are not where the trainer is at fault."""
    return role == "exploratory" or not report.faults


def summary(report: AuditReport, *, seconds: float | None = None) -> tuple[tuple[str, str], ...]:
    """Return (what, value) for what a reader must know before anything else; `seconds` is what the run took.

    Where a claim is violated or a description refuted, the evidence that shows it stands before all other evidence.
    """
    claim, refutation = report.claim, report.refutation
    exploring = "; ".join(_told(bound) for bound in report.exploratory)
    failing = "".join(f"; failed: {one.method}" for one in report.failed)
    took = "" if seconds is None else f"; the whole run {seconds:.0f} s of processor time"
    designs = "; ".join(dict.fromkeys(_design(bound.design) for _, bound in roles(report)))
    measured = "" if report.cost is None else f"; the audit by itself {report.cost}"
    primary = (
        ("primary evidence", f"{_told(report.evidence)}, {report.evidence.guarantee}, about {report.evidence.about}"),
        ("ratio of evidence to claim", quotient(report.evidence.epsilon, report.claim.upper)),
    )
    return (
        *(("fault", fault) for fault in report.faults),
        ("claim", f"ε in {outward(claim, DIGITS)} ({claim.method}, proof)"),
        *((("shown by, fewest runs first", showing(report)),) if showing(report) else ()),
        *(primary if was_asked(report, "primary") else ()),
        *((("guesses of candidates", guessed(report.risk)),) if report.risk is not None else ()),
        *(_refuter(refutation, report) if was_asked(report, "refuter") else ()),
        ("exploratory, decides nothing", (exploring or "none") + failing),
        ("cost", designs + measured + took),
    )


def guessed(risk: Risk) -> str:
    """Return how often candidates were guessed, against what is allowed, in words."""
    return (
        f"right with probability at least {at_least(risk.success, DIGITS)} and at most {at_most(risk.most, DIGITS)}, "
        f"each at {confidently(risk.confidence)}; the claim allows {at_most(risk.allowed, DIGITS)}, a blind guess has "
        f"{risk.blind:.4g}"
    )


def cheapest(report: AuditReport) -> tuple[tuple[str, LowerBound], ...]:
    """Return (role, bound) of all that shows what the verdict says, cheapest first; nothing where it shows nothing.

    Fewer runs are cheaper, then fewer coins, then what stands first in the report. Bounds that could not
    decide show nothing; exploratory ones stand here as ways to see it again, not as reasons for the verdict.
    """
    if report.verdict not in ("violated", "description refuted"):
        return ()
    found = [
        (role, bound)
        for role, bound in roles(report)
        if (bound.epsilon > report.claim.upper or bound.description_refuted)
        and decides(bound)
        and (report.verdict != "violated" or bound.about == "any computation")
    ]
    return tuple(sorted(found, key=lambda one: _cost(one[1].design)))


def showing(report: AuditReport) -> str:
    """Return what shows the verdict, cheapest first, in words; nothing where it accuses nobody."""
    return "; ".join(f"{_told(bound)}, {role}, {_design(bound.design)}" for role, bound in cheapest(report))


def warnings(report: AuditReport) -> tuple[str, ...]:
    """Return what a reader must be warned of, as sentences."""
    stamp = ("reproducible: not private. Noise and coins were made with a key that others may know.",)
    return (
        *(f"No verdict, for {fault}." for fault in report.faults),
        *notes(report),
        *(stamp if report.reproducible else ()),
    )


def notes(report: AuditReport) -> tuple[str, ...]:
    """Return what claim and evidence are not about, and what the primary could not have shown, as sentences."""
    about = ONE_STEP if isinstance(report.evidence.design, Stream) else ""
    return tuple(note for note in (about, "" if report.faults else ceiling_note(report)) if note)


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
        ("δ and neighbours", f"{report.claim.delta}, {report.claim.adjacency}"),
        *((("accountants that refuse", refusing),) if refusing else ()),
        *(("exploratory that failed", f"{one.method}: {one.reason}") for one in report.failed),
        *(("picture that failed", one) for one in (report.pictures.missing if report.pictures else ())),
        ("sharing of the error", report.multiplicity),
        *((("right guesses", _guesses(report)),) if report.guesses else ()),
        *(
            (
                (
                    "out-score variance ÷ that of the claim",
                    f"{report.noise_ratio:.3f}, which the described noise makes 1 up to chance",
                ),
            )
            if report.noise_ratio is not None
            else ()
        ),
        ("designs", "; ".join(f"{bound.method}: {_design(bound.design)}" for _, bound in roles(report))),
        ("bounds are about", "; ".join(f"{bound.method}: {bound.about}" for _, bound in roles(report))),
        ("threat model", _threat_model(report)),
        ("randomness", stamp + seed),
    )


def _guesses(report: AuditReport) -> str:
    return f"{report.correct} of {report.guesses}, their number fixed before the run"


def meaning(report: AuditReport) -> str:
    """Return what the verdict says, by the strongest bound that it rests on."""
    if report.faults:
        return FAULTY
    seen = report.risk is not None or report.evidence.epsilon > report.claim.upper
    if report.verdict == "description refuted" and seen:
        return NOT_AS_PRIVATE
    return MEANINGS[report.verdict]


def shown(report: AuditReport) -> str:
    """Return what the primary evidence says, as a sentence."""
    if report.faults:
        return "Nothing was shown of it."
    least = at_least(report.evidence.epsilon, DIGITS)
    if report.evidence.about == "any computation":
        return f"Shown by the primary evidence: ε is at least {least}."
    return f"Shown by the primary evidence: a process of the claimed family must claim an ε of at least {least}."


def ceiling_note(report: AuditReport) -> str:
    """Return a warning where the primary could not have shown a violation, else nothing."""
    if report.evidence.about != "any computation":
        return (
            f"No violation can be shown by {report.evidence.method}, which is about the claimed family: it can refute "
            "the description, whose trade-off curve may fail where its ε at this δ holds."
        )
    if report.ceiling > report.claim.upper:
        return ""
    most = f"{report.evidence.method} would give {at_most(report.ceiling, DIGITS)}, which is not above the claim."
    if not report.guesses:
        return f"No violation can be shown with so few runs: were the two worlds told apart in all of them, {most}"
    return f"No violation can be shown with {report.guesses} guesses: were all of them right, {most}"


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
            epsilon=f"≥ {at_least(bound.epsilon, DIGITS)}" if was_asked(report, role) else "not asked",
            ratio=quotient(bound.epsilon, report.claim.upper) if was_asked(report, role) else "",
            level=confidently(bound.confidence),
            rests_on=bound.guarantee if bound.about == "any computation" else f"{bound.guarantee}, for the family",
        )
        for role, bound in roles(report)
    )


def _threat_model(report: AuditReport) -> str:
    """Return what the attack saw, by estimator where not all saw the same."""
    models = {bound.threat_model for _, bound in roles(report)}
    if len(models) == 1:
        return report.evidence.threat_model
    return " | ".join(f"{bound.method}: {bound.threat_model}" for _, bound in roles(report))


def _refuter(refutation: LowerBound | None, report: AuditReport) -> tuple[tuple[str, str], ...]:
    return (("refuter", "none was named" if refutation is None else _refuting(refutation, report)),)


def _refuting(bound: LowerBound, report: AuditReport) -> str:
    """Return what the refuter says: besides ε, that the description is refuted, where ε does not say it."""
    alone = bound.description_refuted and not bound.epsilon > report.claim.upper
    return f"{_told(bound)}, {bound.guarantee}{'; ' + REFUTES if alone else ''}"


def _told(bound: LowerBound) -> str:
    return f"ε ≥ {at_least(bound.epsilon, DIGITS)} at {confidently(bound.confidence)} ({bound.method})"


def _cost(design: Design) -> tuple[int, int]:
    """Return how many runs the design takes, and how many coins."""
    return design.size if isinstance(design, IndependentRuns) else 1, design.size


def _design(design: Design) -> str:
    if isinstance(design, OneRun):
        return f"one run, {design.canaries:,} canaries"
    if isinstance(design, IndependentRuns):
        return f"{design.runs:,} independent runs"
    if isinstance(design, Stream):
        return f"a stream of {design.looks:,} scores"
    return repr(design)
