"""Every accounting entry of the collection that these values were copied from is a row of a test here, and one only.

Left out, as they are no accounting: what auditors estimate (lower bounds from guesses and from counts, intervals,
success of attacks); accuracies of trained models; settings without a value; ε that hang on votes of teachers that are
not part of the collection, and are quoted from memory. They are listed below. The collection is not part of the
repository: without it this test says so and is skipped.
"""

import importlib
import json
import math
from pathlib import Path

import pytest

from tests.accountant.published.entries import Entry, parts

HERE = Path(__file__).resolve()
ROOT = HERE.parents[3]
PLACES = [folder / "shared" / "reference" / "published_values.json" for folder in (ROOT, ROOT.parent)]
COLLECTION = next((place for place in PLACES if place.exists()), None)

AUDITING = "an auditor's estimate"
MEMORY = "depends on data that are not given, and is quoted from memory"
LEFT_OUT = {
    ("Steinke23 one-run", None): AUDITING,
    ("Mahloujifar24 f-DP one-run", None): AUDITING,
    ("Jagielski20", None): AUDITING,
    ("CP", None): AUDITING,
    ("Zanella-Beguelin22", None): AUDITING,
    ("Carlini22 LiRA", None): AUDITING,
    ("Abadi16", "MNIST accuracies"): "accuracies, and quoted from memory",
    ("PATE17", "student eps/acc"): MEMORY,
    ("PATE18", "Confident-GNMax eps/acc"): MEMORY,
    ("PATE18", "Table 2 configs [T,sigma1,sigma2,queries,delta]"): "settings, without a value",
}


def rows():
    """Return the entries that tests are parametrised with, by key, with the names of those tests."""
    found = {}
    for path in sorted(HERE.parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.accountant.published.{path.stem}")
        for name, test in vars(module).items():
            if name.startswith("test_"):
                for mark in getattr(test, "pytestmark", ()):
                    for entry in _entries(mark.args[1] if mark.name == "parametrize" else ()):
                        found.setdefault(entry.key, (entry, set()))[1].add(name)
    return found


def _entries(arguments):
    for row in arguments:
        values = getattr(row, "values", row)  # of a pytest.param
        yield from (one for one in (values if isinstance(values, tuple) else (values,)) if isinstance(one, Entry))


def kind(of):
    """Tell why an entry of the collection is not a row: empty where it must be one."""
    names = (of["paper"], of["quantity"])
    return LEFT_OUT.get((names[0], None)) or LEFT_OUT.get(names) or ""


def test_an_entry_belongs_to_one_test():
    found = rows()
    assert len(found) > 200
    assert {key: names for key, (_, names) in found.items() if len(names) != 1} == {}


@pytest.mark.skipif(COLLECTION is None, reason="shared/reference/published_values.json is not part of the repository")
def test_every_accounting_entry_of_the_collection_is_covered():
    published = json.loads(COLLECTION.read_text())["values"]
    found, needed = rows(), [of for of in published if not kind(of)]
    keys = {Entry(paper=of["paper"], quantity=of["quantity"], params=of.get("params")).key: of for of in needed}
    assert len(keys) == len(needed)
    assert set(keys) == set(found)
    for key, of in keys.items():
        entry, _ = found[key]
        assert entry.tolerance == of.get("suggested_tol"), key
        here, there = parts(entry.published), parts(of.get("value", of.get("params")))
        assert here.keys() == there.keys(), key
        for part, value in there.items():
            same = math.isclose(here[part], value, rel_tol=1e-14) if _number(value) else here[part] == value
            assert same, (key, part)


def _number(value):
    return isinstance(value, int | float)
