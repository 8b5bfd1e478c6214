"""The table of speed, width and memory, against the bars and against the peers that are installed.

python -m tests.benchmarks [--rows TEXT] [--smoke] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from mechanisms import __version__
from tests.benchmarks import judge, measure, peers
from tests.benchmarks.rows import SMOKE, rows

SCHEMA = "dp-calipers/benchmarks/1"
IMPORT = "import accountant"


def main(arguments: list[str] | None = None) -> int:
    """Run the rows asked for, each in processes of its own, and return 0: no time fails a build."""
    given = _parsed(arguments)
    if given.child:
        print(_strict(_child(given.child, given)))
        return 0
    names = [name for name in (*rows(), IMPORT) if given.rows in name and (not given.smoke or name in (*SMOKE, IMPORT))]
    console = Console(width=None if sys.stdout.isatty() else 160)
    found: list[dict[str, Any]] = []
    for name in track(names, console=console, description="benchmarks"):
        found.append(_row(name, given))
        if given.json:  # after every row, so that a run that is stopped keeps what it has
            document = {"schema": SCHEMA, "library": __version__, "machine": _machine(), "rows": found}
            given.json.write_text(_strict(document, indent=1) + "\n", encoding="utf-8")
    judge.show(found, console)
    return 0


def _row(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return a row: times from one process, peak memory from another in which no peer is."""
    if name == IMPORT:
        modules = ["accountant", *(peers.MODULES[peer] for peer in peers.available() if not given.smoke)]
        return judge.imported(measure.imports(modules, 1 if given.smoke else 5))
    found = _asked(name, given, [])
    return judge.remembered(found, _asked(name, given, ["--alone"])["megabytes"])


def _asked(name: str, given: argparse.Namespace, more: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks", "--child", name, "--limit", str(given.limit), *more]
    command += ["--rounds", str(1 if given.smoke else given.rounds)] + (["--smoke"] if given.smoke else [])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=measure.ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1], parse_constant=float)
    return found


def _child(name: str, given: argparse.Namespace) -> dict[str, Any]:
    row = rows()[name]
    if given.alone:
        measure.interleaved({judge.OURS: row.ours}, rounds=1, patience=0.0, limit=given.limit)
        return {"megabytes": measure.megabytes()}
    contestants = {judge.OURS: row.ours} | ({} if given.smoke else peers.installed(row.peers))
    timings = measure.interleaved(contestants, rounds=given.rounds, patience=given.patience, limit=given.limit)
    return judge.judged(row, timings)


def _strict(document: Any, indent: int | None = None) -> str:
    """Return JSON with infinities as strings."""
    return json.dumps(_plain(document), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    parser.add_argument("--smoke", action="store_true", help="two rows and the import, once, without peers")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--rounds", type=int, default=15, help="timed calls each, at most")
    parser.add_argument("--patience", type=float, default=3.0, help="seconds after which one is timed enough")
    parser.add_argument("--limit", type=float, default=45.0, help="seconds a call may take")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
