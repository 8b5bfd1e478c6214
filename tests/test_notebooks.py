"""Notebooks: what is committed is the source, executed, with its picture and without an error."""

import json
from pathlib import Path

import jupytext
import pytest

SOURCES = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("[0-9]*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=[path.stem for path in SOURCES])
def test_the_executed_notebook_is_its_source_with_outputs(source):
    executed = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    assert ["".join(cell["source"]) for cell in executed["cells"]] == [c.source for c in jupytext.read(source).cells]
    code = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("source", SOURCES, ids=[path.stem for path in SOURCES])
def test_a_notebook_begins_with_its_question_and_has_at_most_fifteen_cells(source):
    cells = jupytext.read(source).cells
    assert cells[0].cell_type == "markdown"
    assert "?" in cells[0].source
    assert len(cells) <= 15
