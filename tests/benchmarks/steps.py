"""What privacy costs a training step: CPU seconds and memory of the private step beside those of the plain one.

    python -m tests.benchmarks.steps [--json FILE] [--rounds N] [--cases TEXT] [--no-peers]

The private step fetches its batch, sums clipped gradients, adds Gaussian noise and moves the weights; the plain one
fetches the same batch and does backward and `torch.optim.SGD`. They take turns on one thread; times are medians of
process CPU seconds, of short steps those of means of several in a row: small models' noise is made for several at once.
A step of a whole run takes turns too, without a bar: it draws a sample, looks at the model and copies weights as well.
Opacus, where installed, takes turns with another plain step, its own noise included; otherwise it is left out. Peak
memory is how far four steps lift the resident memory of a process of their own above what it held before the first
(VmHWM of Linux, set back before; elsewhere what `ru_maxrss` gains). Of the models of linear layers it is told too what
tensors torch holds at once in two steps on batches of several sizes: the same at every measurement.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from dpsgd.core.parameters import flatten
from mechanisms import __version__
from tests.benchmarks.measure import ROOT, megabytes
from tests.benchmarks.training_steps import AVAILABLE, CASES, COMPILED, OURS, PEERS, RECORDS, Case

SCHEMA = "dp-calipers/step-benchmarks/1"
WARM = 2
MEMORY_STEPS = 4
BATCHES, LINEAR = (64, 256, 1024, 4096), ("logreg", "MLP")
"""Batches for which tensors are counted, and the cases."""
PATIENCE, MOST_ROUNDS = 5.0, 400
"""Seconds for which short steps are repeated beyond the rounds asked for, and how often at most."""
GROUP, FEWEST_GROUPS = 16, 5
"""Turns of which the mean is taken, more than a block of noise serves steps of 7,850 parameters, and how many such."""


def milliseconds(case: Case, names: list[str], *, rounds: int) -> dict[str, float]:
    """Return the typical times of contestants that take turns."""
    torch.manual_seed(0)
    model, (features, targets) = case.make(), case.data()
    made = {name: AVAILABLE[name](case, features, targets, copy.deepcopy(model)) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in made}
    begun = time.process_time()
    for turn in range(MOST_ROUNDS):
        if turn >= rounds + WARM and time.process_time() - begun > PATIENCE:
            break
        rows = torch.randperm(RECORDS)[: case.batch]
        for name, step in made.items():
            start = time.process_time()
            step(rows, turn)
            seconds[name].append(time.process_time() - start)
    return {name: 1e3 * typical(taken[WARM:]) for name, taken in seconds.items()}


def typical(seconds: list[float]) -> float:
    """Return the median of the means of GROUP turns in a row, or of single turns where there are few.

    A median of single turns would leave out what happens in one of several.

    >>> typical([1.0, 1.0, 1.0, 9.0] * 40)
    3.0
    """
    size = GROUP if len(seconds) >= FEWEST_GROUPS * GROUP else 1
    whole = len(seconds) - len(seconds) % size
    return statistics.median(statistics.fmean(seconds[start : start + size]) for start in range(0, whole, size))


def memory(name: str, contestant: str) -> float:
    """Return the MiB by which steps lift the peak memory of this process."""
    torch.manual_seed(0)
    case = CASES[name]
    features, targets = case.data()
    step = AVAILABLE[contestant](case, features, targets, case.make())
    step(torch.arange(1), 0)  # what is loaded once, whatever the batch
    before = _peak(afresh=True)
    for turn in range(MEMORY_STEPS):
        step(torch.randperm(RECORDS)[: case.batch], turn)
    return _peak() - before


def held(name: str, contestant: str) -> list[float]:
    """Return the MiB of tensors that are held at once in two steps on batches of every size."""
    found = []
    for batch in BATCHES:
        torch.manual_seed(0)
        case = CASES[name]
        step = AVAILABLE[contestant](case, *case.data(batch), case.make())
        step(torch.arange(1), 0)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
            for turn in range(2):
                step(torch.arange(batch), turn)
        taken = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
        changes = [event.nbytes() for event in sorted(taken, key=lambda event: event.start_ns())]
        found.append(max(itertools.accumulate(changes)) / 2**20)
    return found


def _peak(*, afresh: bool = False) -> float:
    """Return the peak of the resident memory in MiB: since the last time that it was asked for afresh, on Linux."""
    status, marks = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not marks.exists():
        return megabytes()
    if afresh:
        marks.write_text("5")
    [kilobytes] = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return float(kilobytes) / 2**10


def measured(name: str, *, rounds: int, peers: bool, compiled: bool) -> dict[str, Any]:
    """Return one row of the table."""
    case = CASES[name]
    contestants = [*OURS, *COMPILED] if compiled and case.compiled < float("inf") else [*OURS]
    times = milliseconds(case, contestants, rounds=rounds)
    entries = len(flatten(case.make().parameters()))
    ratios = {other: taken / times["plain"] for other, taken in times.items() if other not in ("plain", "noise")}
    if peers and set(PEERS) & set(AVAILABLE):
        theirs = milliseconds(case, ["plain", *PEERS], rounds=rounds)
        ratios |= {peer: theirs[peer] / theirs["plain"] for peer in PEERS}
        times |= {peer: theirs[peer] for peer in PEERS}
    peaks = {one: _alone("--memory", name, one)[0] for one in times if one not in ("noise", "private without noise")}
    bars = {"private": case.bar, "private without noise": case.quiet, "private compiled": case.compiled}
    row: dict[str, Any] = {
        "case": name,
        "parameters": entries,
        "milliseconds": times,
        "noise ns/entry": 1e6 * times["noise"] / entries,
        "ratio to plain": ratios,
        "bars": {
            one: {"limit": bar, "met": ratios[one] <= bar}
            for one, bar in bars.items()
            if one in ratios and bar < float("inf")
        },
        "peak MiB": peaks,
    }
    if name.startswith(LINEAR):
        tensors = {one: _alone("--held", name, one) for one in ("plain", "private", *COMPILED) if one in times}
        row["MiB of tensors"] = {"batches": BATCHES} | tensors
    return row


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    model = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        names = [
            line.split(":")[1].strip() for line in listed.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": model,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _alone(measure: str, name: str, contestant: str) -> list[float]:
    command = [sys.executable, "-m", "tests.benchmarks.steps", measure, name, contestant]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}  # the profiler writes to it
    done = subprocess.run(command, text=True, check=True, cwd=ROOT, **quiet)
    return [float(found) for found in done.stdout.splitlines()[-1].split()]


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="one training step, CPU ms on one thread")
    for column in ("case", "contestant", "ms", "ratio", "bar", "peak MiB", "noise ns/entry"):
        table.add_column(column, justify="left" if column in ("case", "contestant") else "right")
    for row in rows:
        for name, taken in row["milliseconds"].items():
            bar = row["bars"].get(name)
            ratio, peak = row["ratio to plain"].get(name), row["peak MiB"].get(name)
            table.add_row(
                row["case"] if name == "plain" else "",
                name,
                f"{taken:.2f}",
                f"{ratio:.2f}" if ratio else "",
                f"{bar['limit']} {'met' if bar['met'] else 'missed'}" if bar else "",
                f"{peak:.0f}" if peak is not None else "",
                f"{row['noise ns/entry']:.1f}" if name == "noise" else "",
            )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    grown = Table(title="MiB of tensors held in a private step, and above those of the plain one, by size of the batch")
    for column in ("case", *map(str, BATCHES)):
        grown.add_column(column, justify="left" if column == "case" else "right")
    for row in rows:
        found = row.get("MiB of tensors", {})
        for name in [name for name in found if name not in ("batches", "plain")]:
            pairs = zip(found[name], found["plain"], strict=True)
            cells = (f"{private:.2f} ({private - plain:+.2f}, {private / plain - 1:+.0%})" for private, plain in pairs)
            grown.add_row(f"{row['case']}, {name}", *cells)
    console.print(grown)


def _write(target: Path, rows: list[dict[str, Any]], *, rounds: int) -> None:
    document = {"schema": SCHEMA, "library": __version__, "machine": machine(), "rounds": rounds, "rows": rows}
    target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, write it if asked, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.steps", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cases", default="", help="only those whose name holds this text")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-compiled", action="store_true", help="leaves out the steps that are compiled")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--held", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # the peers'
    torch.set_num_threads(1)
    if given.memory:
        print(memory(*given.memory))
        return 0
    if given.held:
        print(*held(*given.held))
        return 0
    rows: list[dict[str, Any]] = []
    for name in [name for name in CASES if given.cases in name]:
        taken = measured(name, rounds=given.rounds, peers=not given.no_peers, compiled=not given.no_compiled)
        rows.append(taken)
        if given.json:  # after every row, so that a run that is stopped keeps what it has
            _write(given.json, rows, rounds=given.rounds)
    _show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
