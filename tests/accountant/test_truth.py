"""Every certified bracket holds the truth, found in many digits by routes that share no code with the package.

The rows of `tests/reference/truth.json` were written by `tests/reference/make.py`: ε at a δ, and δ at an ε near it, in
every direction, in as many digits as two routes agree on. The only tolerance is half a unit of the last of them.
"""

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from accountant import available
from mechanisms import Adjacency, Compose, NumericalFailure, Repeat, UnsupportedProcess
from mechanisms.core.discover import implementations
from mechanisms.core.process import Mechanism
from mechanisms.core.serialise import SCHEMA, from_json
from tests.strategies import Tabulated

SLOW = frozenset({"advanced", "optimal", "pld", "prv", "tightest"})  # asked about cheap rows only
QUICK = frozenset(available()) - SLOW - {"jumps"}
ALWAYS = frozenset({"pld", "tightest"})  # those that may neither refuse nor give up
CHEAP = (
    "gaussian 1 x1 add_remove 1e-100",
    "gaussian 0.02 x1 add_remove 1e-05",
    "gaussian 5 x1000 add_remove 1e-06",
    "gaussian 20 x100 replace_one 1e-12",
    "laplace 10 x100 add_remove 1e-06",
    "laplace 1 x10 add_remove 1e-15",
    "one sampled laplace 1 0.1 add_remove 0.001",
    "response 1.1 of 2 x10 1e-05",
    "response 0.2 of 5 x200 1e-30",
    "stated approximate add_remove 1e-05",
    "coin x12 add_remove 0.001",
    "telling table x1 zero_out 0.2",
    "rare coin x60 add_remove 1e-12",
    "one sampled gaussian 1.1 0.01 add_remove 1e-05",
    "one sampled gaussian 1 1e-06 add_remove 1e-08",
    "one sampled gaussian 1+2 0.25 zero_out 1e-05",
    "two sampled add_remove 0.001",
    "two sampled add_remove 1e-05",
    "sampled twice add_remove 1e-06",
    "sampled 0.1 0.01 x10 remove 1e-05",
    "sampled 0.3 0.01 x100 remove 1e-05",
    "sampled 1 0.1 x100 add_remove 1e-30",
    "sampled 0.5 0.01 x1000 add_remove 1e-05",
    "sampled 50 0.5 x1000 add_remove 1e-06",
    "sampled 0.7 0.9 x100 add_remove 0.5",
    "gaussian, rare sampled add_remove 1e-05",
)


def types_in(node):
    """The kinds of node in a process."""
    nodes = [node]
    while nodes:
        node = nodes.pop()
        yield node["type"]
        nodes.extend(child for child in (node.get("part"), *node.get("parts", ())) if child)


KNOWN = {"Compose", "Repeat", "Sampled", "Tabulated"} | {
    kind.__name__ for kind in implementations("mechanisms", Mechanism).values()
}
ALL_ROWS = json.loads((Path(__file__).resolve().parents[1] / "reference" / "truth.json").read_text())
ROWS = {row["name"]: row for row in ALL_ROWS if set(types_in(row["process"])) <= KNOWN}


def built(node):
    """The process of a row: as the library reads it, but for the tables, which exist in tests only."""
    if node["type"] == "Compose":
        return Compose(tuple(built(part) for part in node["parts"]))
    if node["type"] == "Repeat":
        return Repeat(built(node["part"]), node["times"])
    if node["type"] == "Tabulated":
        return Tabulated(p=tuple(node["p"]), q=tuple(node["q"]))
    return from_json(json.dumps({"schema": SCHEMA, "process": node}))


def holds(bounds, truths, digits):
    """Whether the bounds hold the largest of the truths, which are rounded to so many digits."""
    truth = max(map(Decimal, truths))
    half = truth * 5 * Decimal(10) ** -digits
    return Decimal(float(bounds.lower)) <= truth + half and truth - half <= Decimal(float(bounds.upper))


@pytest.mark.thinned(11)
@pytest.mark.parametrize("name", ROWS)
def test_every_bracket_holds_the_truth(name):
    all_hold(QUICK, ROWS[name])


@pytest.mark.thinned(21)
@pytest.mark.parametrize("name", ROWS)
def test_every_bracket_of_jumps_holds_the_truth(name):
    all_hold({"jumps"}, ROWS[name])


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", [name for name in CHEAP if name in ROWS])
def test_every_bracket_that_takes_long_holds_the_truth(name):
    all_hold(SLOW, ROWS[name])


def all_hold(accountants, row):
    process, adjacency = built(row["process"]), Adjacency.parse(row["adjacency"])
    for accountant in sorted(accountants):
        try:
            assert_holds(available()[accountant]().profile(process, adjacency=adjacency), row, accountant)
        except (UnsupportedProcess, NumericalFailure):
            assert accountant not in ALWAYS


def assert_holds(profile, row, accountant):
    digits, near = row["digits"], row["near_epsilon"]
    epsilon, delta = profile.epsilon(row["delta"]), profile.delta(near)
    assert holds(epsilon, row["epsilon"].values(), digits), (accountant, epsilon)
    assert holds(delta, row["near_delta"].values(), digits), (accountant, delta)
    for direction, truth in row["near_delta"].items():
        one = dict(profile.curves)[direction].delta(np.array([near]))[0]
        assert holds(one, [truth], digits), (accountant, direction, one)


def test_no_row_is_refused_by_the_accountant_that_takes_any_pair():
    """So that no row goes untested because all who know its mechanisms refuse it."""
    for name, row in ROWS.items():
        process, adjacency = built(row["process"]), Adjacency.parse(row["adjacency"])
        assert available()["pld"]().supports(process, adjacency), name


def test_the_truth_spans_what_accountants_are_asked_about():
    deltas = [row["delta"] for row in ALL_ROWS]
    assert len(ALL_ROWS) >= 100 and min(deltas) <= 1e-100 and max(deltas) >= 0.5
    assert {row["adjacency"] for row in ALL_ROWS} == {adjacency.value for adjacency in Adjacency}
    assert min(row["digits"] for row in ALL_ROWS) >= 14
    assert set(CHEAP) <= {row["name"] for row in ALL_ROWS}
