"""A claim of a paper: a published number, how it is had again, and what is certified about the same thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mechanisms import Bounds
from mechanisms.core.command_line import outward


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperClaim:
    """A published ε, to be had again and set beside the truth.

    Args:
        statement: what the number is, in words, with where the paper has it.
        published: the number as printed.
        tolerance: how far ours may lie from it: half of its last digit, or more with the reason in `note`.
        reproduced: computes the number by the paper's own method.
        certified: computes bounds of the quantity itself.
        note: a correction, or what remains unexplained.
    """

    statement: str
    published: float
    tolerance: float
    reproduced: Callable[[], float]
    certified: Callable[[], Bounds]
    note: str = ""

    def check(self) -> CheckedClaim:
        """Compute both numbers and judge the published one."""
        ours, bounds = self.reproduced(), self.certified()
        verdict = "reproduced" if abs(ours - self.published) <= self.tolerance else "not reproduced"
        if self.published + self.tolerance < bounds.lower:
            verdict += "; too small: no such guarantee holds"
        return CheckedClaim(claim=self, ours=ours, certified=bounds, verdict=verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedClaim:
    """A claim with what was found.

    Args:
        claim: the claim.
        ours: the number by the paper's method.
        certified: bounds of the quantity itself.
        verdict: "reproduced" or "not reproduced", and whether the published number is too small to be true.
    """

    claim: PaperClaim
    ours: float
    certified: Bounds
    verdict: str

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table: statement, published, ours, certified, verdict and note."""
        verdict = f"{self.verdict}. {self.claim.note}" if self.claim.note else self.verdict
        return self.claim.statement, f"{self.claim.published:g}", f"{self.ours:.4f}", outward(self.certified), verdict
