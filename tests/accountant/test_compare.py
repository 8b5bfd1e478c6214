"""All accountants side by side: order, refusals, estimates, JSON and the picture."""

import json
import math

import pytest

from accountant import __main__ as command
from accountant import available, compute_epsilon, dp_sgd, estimate_epsilon
from accountant.compare import compare
from mechanisms import ApproximateDP, Gaussian, InvalidParameter, Repeat, to_json
from mechanisms.core.command_line import run

ABADI = dp_sgd(noise_multiplier=4.0, sample_rate=0.01, steps=10_000)


@pytest.fixture(scope="module")
def compared():
    return compare(ABADI, delta=1e-5).rows


@pytest.fixture(scope="module")
def ten():
    """Ten steps of a Gaussian, compared once for the picture and for the command."""
    return compare(Repeat(Gaussian(noise_multiplier=2.0), 10), delta=1e-5)


def test_every_accountant_has_a_row_the_smallest_upper_end_first(compared):
    assert {row.accountant for row in compared} == set(available())
    uppers = [row.claim.upper for row in compared if row.claim is not None]
    assert uppers == sorted(uppers) and uppers[0] == pytest.approx(0.946866801, abs=1e-9)


def test_an_estimate_stands_below_all_claims_and_says_that_it_is_no_bound(compared):
    (gdp,) = (row for row in compared if row.accountant == "gdp")
    assert gdp.claim is None and "no bound" in gdp.reason
    assert gdp.estimate.value == estimate_epsilon(ABADI, delta=1e-5).value
    assert all(row.claim is None for row in compared[compared.index(gdp) :])


def test_who_refuses_fails_or_says_nothing_gives_a_reason():
    for row in compare(dp_sgd(noise_multiplier=1.0, sample_rate=1e-3, steps=2), delta=1e-9).rows:
        assert row.claim is not None or row.reason
        assert row.claim is None or row.claim.lower > 0 or row.claim.upper < math.inf


def test_infinite_ends_are_words_in_json():
    process = ApproximateDP(epsilon=1.0, delta=0.1, adjacency="add_remove")
    document = json.loads(json.dumps(compare(process, delta=0.01).document(), allow_nan=False))
    assert document["accountants"]["closed_form"] == {"lower": "inf", "upper": "inf"}
    assert document["schema"] == "dp-calipers/comparison/1" and document["adjacency"] == "add_remove"


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_delta_must_lie_inside_the_unit_interval(delta):
    with pytest.raises(InvalidParameter, match="delta"):
        compare(ABADI, delta=delta)


def test_the_picture_names_whoever_answers(ten, monkeypatch):
    monkeypatch.setattr("accountant.compare.POINTS", 3)
    figure = ten.plot()
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {"gdp", "rdp", "basic"} <= set(names)
    assert {line.get_label() for line in figure.axes[1].get_lines()} >= {"gdp", "rdp", "basic"}


def test_the_command_reads_a_process_and_saves_the_picture(ten, tmp_path, capsys, monkeypatch):
    def compared(process, *, delta, adjacency):
        assert (process, delta, adjacency) == (ten.process, ten.delta, "add_remove")
        return ten

    monkeypatch.setattr(command, "compared", compared)
    monkeypatch.setattr("accountant.compare.POINTS", 2)
    (tmp_path / "process.json").write_text(to_json(ten.process), encoding="utf-8")
    arguments = ["compare", "--process", str(tmp_path / "process.json"), "--delta", "1e-5"]
    assert run(command.app, [*arguments, "--plot", str(tmp_path / "picture.png"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["accountants"]["gdp"]
    assert found["upper"] == compute_epsilon(ten.process, delta=1e-5)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert run(command.app, arguments) == 0
    table = capsys.readouterr().out
    assert "+0 %" in table and "closed_form" in table


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "missing: noise_multiplier"),
        (["--noise-multiplier", "1", "--sample-rate", "2", "--steps", "3"], "sample_rate"),
        (["--process", "nowhere.json"], "nowhere.json"),
        (["--noise-multiplier", "1", "--sample-rate", "1", "--steps", "3", "--plot", "a.doc"], ".png"),
    ],
)
def test_wrong_input_is_one_line(arguments, words, capsys):
    assert run(command.app, ["compare", "--delta", "1e-5", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
