"""A row's timings held against its bars, as JSON and as a table."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks import peers
from tests.benchmarks.measure import Timing
from tests.benchmarks.rows import MOST_MEGABYTES, Row

OURS = "dp-calipers"
IMPORT_MILLISECONDS = 500.0
Found = dict[str, Any]


def judged(row: Row, timings: dict[str, Timing]) -> Found:
    """Return what everybody answered and took, and for every bar whether it was met."""
    ours = timings[OURS]
    found: Found = {"row": row.name, "milliseconds": ours.milliseconds, "note": ours.note, "peers": {}, "bars": {}}
    lower, upper = row.bracket(ours.answer) if ours.answer is not None else (0.0, math.inf)
    width = upper - lower
    found |= {"answer": ours.answer if isinstance(ours.answer, float) else None, "lower": lower, "upper": upper}
    found |= {"method": getattr(ours.answer, "method", "")}
    for name, timing in timings.items():
        if name != OURS:
            found["peers"][name] = _peer(timing, ours, found)
    _bar(found, "milliseconds", ours.milliseconds, most=row.bars.milliseconds)
    if math.isfinite(row.bars.relative):
        _bar(found, "relative width", width / upper if 0 < upper < math.inf else width, most=row.bars.relative)
    if math.isfinite(row.bars.absolute):
        _bar(found, "width", width, most=row.bars.absolute)
    if row.bars.speedup and row.bars.against in found["peers"]:
        ratio = found["peers"][row.bars.against]["ratio"]
        _bar(found, f"× faster than {row.bars.against}", ratio, least=row.bars.speedup)
    return found


def remembered(found: Found, megabytes: float) -> Found:
    """Return the row with its peak memory."""
    _bar(found, "megabytes", megabytes, most=MOST_MEGABYTES)
    return found


def imported(times: dict[str, tuple[float, list[str]]]) -> Found:
    """Return the row of the import, the peers' beside it."""
    ours, loaded = times["accountant"]
    found: Found = {"row": "import accountant", "milliseconds": ours, "note": " ".join(loaded), "bars": {}}
    found["peers"] = {
        module: {"milliseconds": taken, "ratio": taken / ours, "note": ""}
        for module, (taken, _) in times.items()
        if module != "accountant"
    }
    _bar(found, "milliseconds", ours, most=IMPORT_MILLISECONDS)
    _bar(found, "heavy modules", float(len(loaded)), most=0.0)
    return found


def _peer(timing: Timing, ours: Timing, found: Found) -> Found:
    taken, own = timing.milliseconds, ours.milliseconds
    row: Found = {"milliseconds": taken, "note": timing.note, "answer": timing.answer}
    row["ratio"] = taken / own if taken and own else None
    if timing.answer is not None and found["answer"] is not None:
        row["off"] = timing.answer - found["answer"]
    elif timing.answer is not None:
        below = timing.answer < found["lower"]
        row["off"] = timing.answer - (found["lower"] if below else found["upper"])
        row["note"] = row["note"] or ("below our lower end: UNSOUND" if below else "")
    return row


def _bar(found: Found, name: str, value: float | None, *, most: float = math.inf, least: float = -math.inf) -> None:
    bar = most if math.isfinite(most) else least
    met = value is not None and max(0.0, least) <= value <= most
    found["bars"][name] = {"bar": bar, "is": value, "met": met}


def show(rows: list[Found], console: Console) -> None:
    """Print the rows, the bars that were met and those that were not, and the peers beside them."""
    table = Table("question", "bar", "is", "met", "peer", "× our time", "answer − ours", "note", show_lines=True)
    for column in table.columns[1:]:
        column.no_wrap = True  # the lines of a row belong together
    for row in rows:
        bars = [(name, f"{bar['bar']:g}", bar["is"], bar["met"]) for name, bar in row["bars"].items()]
        others = row["peers"].items()
        table.add_row(
            row["row"],
            "\n".join(f"{name} {bar}" for name, bar, _, _ in bars),
            "\n".join("–" if value is None else f"{float(value):.3g}" for _, _, value, _ in bars),
            "\n".join("[green]yes[/green]" if met else "[red]NO[/red]" for *_, met in bars),
            "\n".join(name for name, _ in others),
            "\n".join(f"{peer['ratio']:.3g}" if peer["ratio"] else "–" for _, peer in others),
            "\n".join(f"{float(peer['off']):+.2g}" if "off" in peer else "–" for _, peer in others),
            "\n".join(note[:40] for note in (*(peer["note"] for _, peer in others), row["note"])),
        )
    console.print(table)
    bars = [bar["met"] for row in rows for bar in row["bars"].values()]
    console.print(f"{sum(bars)} of {len(bars)} bars met; peers here: {', '.join(peers.available()) or 'none'}")
