"""What a fuzz run found: counts, widths, times and faults, as JSON and as a table; and whether it passed."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

SCHEMA = "dp-calipers/fuzz-summary/1"
DECIDING = "tightest"
MOST_MISSED = 0.01
LEVELS = (1e-12, 1e-9, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
KEPT = 50
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The width that a bracket may have: it is wide if it is wider than both.

    Args:
        relative: width ÷ upper end.
        absolute: width.
    """

    relative: float = 1e-3
    absolute: float = 1e-6

    def broken(self, answer: Row) -> bool:
        """Tell whether this bracket is wide."""
        return float(answer["relative_width"]) > self.relative and float(answer["width"]) > self.absolute


@dataclass(slots=True)
class Tally:
    """What one accountant did."""

    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    wide: int = 0
    seconds: list[float] = field(default_factory=list)
    widths: collections.Counter[str] = field(default_factory=collections.Counter)

    def add(self, answer: Row, budget: Budget) -> None:
        """Count an answer."""
        self.statuses[answer["status"]] += 1
        self.seconds.append(answer["seconds"])
        if answer["status"] == "answered":
            self.wide += budget.broken(answer)
            level = next((f"<={level:g}" for level in LEVELS if float(answer["relative_width"]) <= level), "more")
            self.widths[level] += 1

    @property
    def row(self) -> Row:
        """The counts as JSON."""
        ordered = sorted(self.seconds)
        at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3 for share in (0.5, 0.99, 1.0)]
        return {
            "asked": len(ordered),
            "statuses": dict(sorted(self.statuses.items())),
            "wide": self.wide,
            "relative_widths": {k: self.widths[k] for k in (*(f"<={x:g}" for x in LEVELS), "more") if self.widths[k]},
            "milliseconds": {"median": at[0], "p99": at[1], "largest": at[2]},
        }


def summary(rows: Iterable[Row], settings: Row, budget: Budget) -> Row:
    """Return what the rows say, and whether they pass."""
    tallies: dict[str, Tally] = collections.defaultdict(Tally)
    strata: dict[str, Row] = {}
    missed, slowest, unsound, megabytes = [], [], [], 0.0  # type: list[Row], list[Row], list[Row], float
    for row in rows:
        for name, answer in row["answers"].items():
            tallies[name].add(answer, budget)
        deciding = row["answers"].get(DECIDING)
        if deciding:
            _widest(strata, row, deciding)
            if deciding["status"] == "failed" or (deciding["status"] == "answered" and budget.broken(deciding)):
                missed.append({"index": row["index"], "stratum": row["stratum"]} | deciding)
        if row["faults"]:
            unsound.append({name: row[name] for name in ("index", "stratum", "faults", "question")})
        times = {name: answer["seconds"] for name, answer in row["answers"].items()}
        slowest = sorted([*slowest, {"index": row["index"], "seconds": times}], key=_total)[:10]
        megabytes = max(megabytes, row["megabytes"])
    return {
        "schema": SCHEMA,
        "settings": settings,
        "budget": {"relative": budget.relative, "absolute": budget.absolute},
        "accountants": {name: tally.row for name, tally in sorted(tallies.items())},
        "unsound": unsound,
        "missed": {"count": len(missed), "share": _share(missed, tallies), "first": missed[:KEPT]},
        "worst": dict(sorted(strata.items(), key=lambda item: -float(item[1]["relative_width"]))),
        "slowest": slowest,
        "megabytes": round(megabytes, 1),
        "passed": not unsound and _share(missed, tallies) <= MOST_MISSED,
    }


def _total(row: Row) -> float:
    return -sum(row["seconds"].values())


def _share(missed: list[Row], tallies: dict[str, Tally]) -> float:
    """Return the share of the domain where the default accountant has no bracket within its budget."""
    return len(missed) / max(1, len(tallies[DECIDING].seconds) - tallies[DECIDING].statuses["refused"])


def _widest(strata: dict[str, Row], row: Row, answer: Row) -> None:
    """Keep the widest bracket of a stratum, and how many there were."""
    kept = strata.setdefault(row["stratum"], {"count": 0, "index": row["index"], "relative_width": 0.0, "width": 0.0})
    kept["count"] += 1
    if answer["status"] == "answered" and float(answer["relative_width"]) > float(kept["relative_width"]):
        kept |= {"index": row["index"], "relative_width": answer["relative_width"], "width": answer["width"]}


def show(found: Row, console: Console) -> None:
    """Print the tables of a summary."""
    table = Table(
        "accountant", "asked", "answered", "refused", "failed", "other", "wide", "median ms", "p99", "largest"
    )
    for name, row in found["accountants"].items():
        counts = dict(row["statuses"])
        known = [counts.pop(status, 0) for status in ("answered", "refused", "failed")]
        times = [f"{row['milliseconds'][name]:.2f}" for name in ("median", "p99", "largest")]
        table.add_row(name, *map(str, (row["asked"], *known, sum(counts.values()), row["wide"])), *times)
    console.print(table)
    worst = Table(
        "stratum", "questions", "widest relative", "absolute", "index", title=f"widest brackets of {DECIDING}"
    )
    for stratum, row in list(found["worst"].items())[:12]:
        worst.add_row(
            stratum, str(row["count"]), f"{float(row['relative_width']):.2g}", str(row["width"])[:9], str(row["index"])
        )
    console.print(worst)
    for row in found["unsound"][:KEPT]:
        console.print(
            f"[red]question {row['index']}[/red]: {'; '.join(row['faults'])}\n  {row['question']}", highlight=False
        )
    slow = ", ".join(f"{row['index']} ({-_total(row):.2f} s)" for row in found["slowest"][:5])
    console.print(f"slowest: {slow}; peak memory of a worker {found['megabytes']} MB")
    missed = found["missed"]
    console.print(f"{DECIDING}: failed or wide {missed['count']} ({missed['share']:.2%}, at most {MOST_MISSED:.0%})")
    console.print("[green]passed[/green]" if found["passed"] else "[red]FAILED[/red]")
