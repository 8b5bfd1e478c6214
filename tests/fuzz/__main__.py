"""Random questions to every accountant: no two answers may exclude each other.

python -m tests.fuzz --configs 1000 --seed 0 [--slow 100]
python -m tests.fuzz --replay SEED INDEX
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.fuzz.asking import accountants
from tests.fuzz.running import Run, replayed, rows, write
from tests.fuzz.summary import Budget, show, summary

RESULTS = Path(__file__).with_name("results")


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments ask for and return the exit status: 1 if anything is unsound or missed too often."""
    given = _parsed(arguments)
    chosen = accountants()
    if given.accountants:
        chosen = {name: chosen[name] for name in given.accountants.split(",")}
    if given.replay:
        seed, index = given.replay
        row = replayed(Run(accountants=chosen, seed=seed, configs=index + 1), index)
        print(json.dumps(row, indent=1, ensure_ascii=False))
        return 1 if row["faults"] else 0
    run = Run(
        accountants=chosen, seed=given.seed, configs=given.configs, slow=given.slow, chunk=given.chunk,
        workers=given.workers, deadline=given.deadline, folder=given.folder,
    )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 160)
    with Progress(console=console) as progress:
        bar = progress.add_task(f"seed {run.seed}", total=run.configs)
        found = summary(
            rows(run, lambda count: progress.advance(bar, count)),
            run.settings,
            Budget(relative=given.relative_width, absolute=given.absolute_width),
        )
    write(run.chunks / "summary.json", found)
    if given.record:
        write(RESULTS / f"summary-{run.seed}.json", found)
    show(found, console)
    return 0 if found["passed"] else 1


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    defaults, budget = Run(accountants={}, seed=0, configs=1000), Budget()
    parser.add_argument("--configs", type=int, default=defaults.configs, help="number of questions")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--slow", type=int, default=defaults.slow, help="how many of them slow accountants are asked")
    parser.add_argument("--accountants", default="", help="names between commas; all by default")
    parser.add_argument("--chunk", type=int, default=defaults.chunk, help="questions a file")
    parser.add_argument("--workers", type=int, default=defaults.workers)
    parser.add_argument("--deadline", type=float, default=defaults.deadline, help="seconds before a question hangs")
    parser.add_argument("--folder", type=Path, default=defaults.folder, help="where chunks are written")
    parser.add_argument("--relative-width", type=float, default=budget.relative)
    parser.add_argument("--absolute-width", type=float, default=budget.absolute)
    parser.add_argument("--record", action="store_true", help="keep the summary in tests/fuzz/results")
    parser.add_argument("--replay", type=int, nargs=2, metavar=("SEED", "INDEX"), help="ask everybody one question")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
