"""Execute every notebook: each `<nn>_<topic>.py` (jupytext, percent format) becomes an executed `.ipynb` beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import jupytext
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # tiny matrices; a kernel's threads waiting for each other cost ten times more


def build(source: Path) -> Path:
    """Execute one notebook and write it; a cell that raises stops the build."""
    notebook = jupytext.read(source)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3")
    client.execute(cwd=str(FOLDER.parent), env={**os.environ, **ONE_THREAD})
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02}"  # random ids would change the file at every build
        cell.get("metadata", {}).pop("execution", None)
    target = source.with_suffix(".ipynb")
    jupytext.write(notebook, target, fmt="ipynb")
    return target


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("[0-9]*.py")):
        print(build(path).name, file=sys.stderr)
