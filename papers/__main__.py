"""`python -m papers`: every claim of every paper here, published and ours, with a verdict."""

from __future__ import annotations

import importlib
import sys

import typer
from rich.console import Console
from rich.table import Table

from mechanisms.core.command_line import BAD_INPUT, run
from mechanisms.core.discover import modules

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def check(only: str = typer.Option("", help="The name of one paper, e.g. abadi2016.")) -> int:
    """Compare the published numbers with ours; exit 3 if one is not had again."""
    names = modules("papers")
    if only and only not in names:
        print(f"error: papers: only must be one of {', '.join(names)}, got {only!r}.", file=sys.stderr)
        return BAD_INPUT
    table = Table("paper", "claim", "published", "ours", "certified", "verdict", show_lines=True)
    missed = False
    for name in [only] if only else names:
        for claim in importlib.import_module(f"papers.{name}").CLAIMS:
            checked = claim.check()
            missed |= not checked.verdict.startswith("reproduced")
            table.add_row(name, *checked.row())
    Console().print(table)
    return 3 if missed else 0


if __name__ == "__main__":
    sys.exit(run(app))
