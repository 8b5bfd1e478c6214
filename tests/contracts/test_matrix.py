"""The committed matrix accountant × process × adjacency is what the accountants do."""

import pytest

from mechanisms import Adjacency, available
from mechanisms.core.serialise import SCHEMES, to_json
from tests.contracts import matrix
from tests.contracts.coarse import ACCOUNTANTS
from tests.contracts.matrix import ANSWERS, PROCESSES, STATES, changes, committed, row

LONG = {  # a second each, and of mechanisms and schemes that are met in other rows
    ("DiscreteGaussian, Poisson", "add_remove"),
    ("Gaussian, WithReplacement", "add_remove"),
    ("Gaussian, BallsInBins", "add_remove"),
    ("Gaussian, Poisson, rare", "replace_one"),
    ("Gaussian, Poisson, PerUser", "replace_one"),
    ("Gaussian, Poisson, Group", "add_remove"),
    ("Exponential, Poisson", "add_remove"),
    ("composition", "replace_one"),
    ("RandomizedResponse, FixedSize", "replace_one"),
    ("Gaussian, FixedSize", "replace_one"),
}


def every_cell():
    """Yield every process with each of its neighbours; every day those only that no others are answered like."""
    for label, adjacencies in committed().items():
        met = []
        for adjacency, states in adjacencies.items():
            left = states in met or (label, adjacency) in LONG
            yield pytest.param(label, Adjacency(adjacency), marks=[pytest.mark.slow] if left else [])
            met.append(states)


@pytest.mark.thinned(5)
@pytest.mark.parametrize(("label", "adjacency"), list(every_cell()))
def test_every_cell_is_what_was_committed(label, adjacency):
    found = list(changes({label: row(label, [adjacency])}))
    assert not found, "python -m tests.contracts.matrix --write, if this is wanted:\n" + "\n".join(found)


def test_the_file_holds_every_cell_and_nothing_else():
    rows = committed()
    assert list(rows) == list(PROCESSES)
    for adjacencies in rows.values():
        assert list(adjacencies) == [adjacency.value for adjacency in Adjacency]
        for states in adjacencies.values():
            assert list(states) == list(ACCOUNTANTS) and set(states.values()) <= set(STATES)


def test_every_mechanism_and_every_scheme_has_a_row():
    text = "".join(to_json(build(Adjacency.ADD_REMOVE)) for build in PROCESSES.values())
    for kind in (*available().values(), *SCHEMES):
        assert f'"type": "{kind.__name__}"' in text, f"add a row with {kind.__name__}"


def test_every_accountant_answers_something_and_the_tightest_whatever_any_other_does():
    cells = [states for adjacencies in committed().values() for states in adjacencies.values()]
    for name in ACCOUNTANTS:
        assert any(states[name] in ANSWERS for states in cells)
    for states in cells:
        others = {state for name, state in states.items() if name != "tightest"}
        best = next((state for state in ANSWERS if state in others), "refused")
        assert states["tightest"] == best


def test_an_answer_that_became_a_refusal_is_named():
    label = "Gaussian"
    altered = {a: dict(states) for a, states in committed()[label].items()}
    altered["replace_one"]["gdp"] = "refused"
    assert list(changes({label: altered})) == ["Gaussian, replace_one, gdp: exact -> refused"]


def test_without_the_option_the_command_names_what_has_changed(monkeypatch, capsys):
    monkeypatch.setattr(matrix, "PROCESSES", {"Gaussian": PROCESSES["Laplace"]})
    assert matrix.main([]) == 1
    assert "Gaussian, add_remove, gdp: exact -> refused" in capsys.readouterr().out
