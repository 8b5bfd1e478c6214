"""The command line: what it prints, its exit status, and one line for every mistake."""

import json
import math
import subprocess
import sys

import pytest

from accountant import __main__ as command
from accountant import available, compute_epsilon
from mechanisms.core.command_line import run

QUICK = ["--noise-multiplier", "2", "--sample-rate", "1", "--steps", "10"]


def asked(capsys, *arguments):
    status = run(command.app, list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "accountant", "epsilon", *QUICK, "--delta", "1e-5", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    claim = json.loads(done.stdout)["claims"]["tightest"]
    assert claim["upper"] == compute_epsilon(noise_multiplier=2, sample_rate=1, steps=10, delta=1e-5)
    assert done.stderr == ""


def test_help_says_the_exit_codes(capsys):
    status, out, _ = asked(capsys, "--help")
    assert status == 0 and "2 bad input or an unsupported process; 4 a numerical failure" in " ".join(out.split())


def test_json_is_strict_and_complete(capsys):
    def refuse(constant):
        raise AssertionError(constant)

    status, out, _ = asked(capsys, "epsilon", *QUICK, "--delta", "1e-5", "--json", "--accountant", "all")
    document = json.loads(out, parse_constant=refuse)
    assert status == 0 and document["schema"] == "dp-calipers/claims/1"
    assert set(document["claims"]) == set(available())
    for claim in document["claims"].values():
        if set(claim) == {"refused"}:
            continue
        assert claim["quantity"] == "epsilon" and claim["at"] == 1e-5 and claim["adjacency"] == "add_remove"
        assert float(claim["lower"]) <= 7.511276 and float(claim["upper"]) >= 7.511275


def test_an_option_given_twice_is_refused_and_a_flag_is_not(capsys):
    arguments = ["epsilon", *QUICK, "--delta", "1e-5"]
    status, out, error = asked(capsys, *arguments, "--steps", "20")
    assert status == 2 and not out and error.startswith("error: epsilon: --steps must be given once, got it 2 times.")
    assert asked(capsys, *arguments, "--json", "--json") == asked(capsys, *arguments, "--json")


def test_infinities_are_words_in_json(capsys):
    arguments = ["--noise-multiplier", "0", "--sample-rate", "1", "--steps", "1", "--delta", "1e-5", "--json"]
    status, out, _ = asked(capsys, "epsilon", *arguments)
    assert status == 0 and json.loads(out)["claims"]["tightest"]["upper"] == "inf"


def test_all_shows_every_accountant_and_why_one_refuses(capsys):
    arguments = ["--noise-multiplier", "2", "--sample-rate", "0.5", "--steps", "2", "--delta", "1e-5"]
    status, out, _ = asked(capsys, "epsilon", *arguments, "--accountant", "all", "--json")
    claims = json.loads(out)["claims"]
    assert status == 0 and "exact only for Gaussian mechanisms without sampling" in claims["gdp"]["refused"]
    assert max(claims[name]["lower"] for name in ("pld", "tightest")) <= claims["rdp"]["upper"]
    assert "more nodes than its budget" in claims["contour"]["failed"]


def test_the_table_names_the_quantity_the_neighbours_and_the_delta(capsys):
    status, out, _ = asked(capsys, "epsilon", *QUICK, "--delta", "1e-5")
    assert status == 0
    for word in ("ε", "tightest", "gdp", "δ = 1e-05", "add_remove"):
        assert word in out


def test_the_table_says_that_it_shows_a_lower_and_an_upper_end(capsys):
    assert "ε [lower, upper]" in asked(capsys, "epsilon", *QUICK, "--delta", "1e-5")[1]


def test_printed_ends_are_rounded_outward(capsys):
    _, out, _ = asked(capsys, "epsilon", *QUICK, "--delta", "1e-5")
    lower, upper = (float(end) for end in out.rpartition("[")[2].split("]")[0].split(","))
    exact = compute_epsilon(noise_multiplier=2, sample_rate=1, steps=10, delta=1e-5)
    assert lower <= exact <= upper and upper - lower < 1e-4


def test_delta_is_bounded_at_an_epsilon(capsys):
    status, out, _ = asked(capsys, "delta", *QUICK, "--epsilon", "3", "--json")
    claim = json.loads(out)["claims"]["tightest"]
    assert status == 0 and claim["quantity"] == "delta" and 0 < claim["lower"] <= claim["upper"] < 1


def test_the_noise_of_a_promise_is_calibrated(capsys):
    arguments = ["--epsilon", "1", "--delta", "1e-5", "--sample-rate", "1", "--steps", "1"]
    status, out, _ = asked(capsys, "calibrate", *arguments, "--json")
    assert status == 0 and math.isclose(json.loads(out)["noise_multiplier"], 3.730631634816, rel_tol=1e-5)
    status, out, _ = asked(capsys, "calibrate", *arguments)
    assert status == 0 and "noise multiplier 3.73063" in out and "add_remove" in out


def test_an_explanation_names_the_process_the_theorem_and_the_errors(capsys):
    arguments = ["--noise-multiplier", "2", "--sample-rate", "0.5", "--steps", "2", "--delta", "1e-5"]
    status, out, _ = asked(capsys, "explain", *arguments)
    assert status == 0
    for word in ("Repeat(part=Sampled(", "add_remove", "aliasing", "round-off", "proved", "validated"):
        assert word in out


def test_an_explanation_of_a_closed_form_names_the_rounding_of_floats(capsys):
    arguments = ["--noise-multiplier", "2", "--steps", "1", "--delta", "1e-5", "--sample-rate"]
    for rate, name in (("0.5", "closed_form"), ("1", "gdp")):
        status, out, _ = asked(capsys, "explain", *arguments, rate)
        assert status == 0
        for word in (f"accountant  {name}:", "rounding of floats", "relative", "validated"):
            assert word in out


def test_risks_are_a_table_and_strict_json(capsys):
    status, out, err = asked(capsys, "risk", "--noise-multiplier", "1", "--sample-rate", "1", "--steps", "1")
    assert status == 0 and err == ""
    for cell in (
        "[0.382924, 0.382925]",
        "[0.308537, 0.308538]",
        "TPR at FPR 0.001",
        "reconstruction at prior success 0.01",
        "tightest, add_remove",
    ):
        assert cell in out
    status, out, _ = asked(capsys, "risk", *QUICK, "--json", "--adjacency", "replace_one", "--accountant", "gdp")
    document = json.loads(out)
    assert status == 0 and document["schema"] == "dp-calipers/risks/1" and document["adjacency"] == "replace_one"
    advantage, *rest = document["risks"]
    assert advantage["lower"] <= math.erf(math.sqrt(10) / 2 / math.sqrt(2)) <= advantage["upper"] and len(rest) == 5
    assert all(entry["lower"] <= entry["upper"] for entry in rest)


MISTAKES = [
    (["risk", *QUICK, "--accountant", "all"], "name must be one of"),
    (["risk", *QUICK, "--delta", "1e-5"], "No such option"),
    (["epsilon", *QUICK, "--delta", "2"], "delta must lie in [0, 1], got 2."),
    (["epsilon", *QUICK, "--delta", "nan"], "delta must be a number, got nan."),
    (["epsilon", *QUICK, "--delta", "x"], "Invalid value for '--delta'"),
    (["epsilon", *QUICK], "Missing option '--delta'"),
    (["epsilon", *QUICK, "--delta", "1e-5", "--accountant", "best"], "name must be one of"),
    (["epsilon", *QUICK, "--delta", "1e-5", "--adjacency", "both"], "Adjacency: name must be one of"),
    (["epsilon", *QUICK, "--delta", "1e-5", "--sigma", "2"], "No such option"),
    (
        ["epsilon", "--noise-multiplier", "2", "--sample-rate", "256", "--steps", "10", "--delta", "1e-5"],
        "divide it by",
    ),
    (["epsilon", "--noise-multiplier", "-2", "--sample-rate", "1", "--steps", "1", "--delta", "1e-5"], "at least 0"),
    (["epsilon", "--noise-multiplier", "2", "--sample-rate", "1", "--steps", "1.5", "--delta", "1e-5"], "integer"),
    (["calibrate", "--epsilon", "1", "--delta", "0", "--sample-rate", "1", "--steps", "1"], "delta must be above 0"),
    (["epsilon", *QUICK[:2], "--sample-rate", "0.5", "--steps", "1", "--delta", "1e-5", "--accountant", "gdp"], "gdp"),
    (
        [
            "epsilon",
            *QUICK[:2],
            "--sample-rate",
            "0.5",
            "--steps",
            "1",
            "--delta",
            "1e-5",
            "--adjacency",
            "replace_one",
            "--accountant",
            "contour",
        ],
        "Use accountant='pld', which brackets any pair",
    ),
    (["nonsense"], "No such command"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_costs_one_line_and_status_two(capsys, arguments, message):
    status, out, err = asked(capsys, *arguments)
    assert status == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


def test_a_numerical_failure_has_a_status_of_its_own(capsys):
    arguments = ["--epsilon", "0", "--delta", "1e-300", "--sample-rate", "1", "--steps", "1"]
    status, out, err = asked(capsys, "calibrate", *arguments, "--accountant", "rdp")
    assert status == 4 and out == "" and err.startswith("error: calibrate: no noise multiplier up to 1e+09")


def test_a_bug_keeps_its_traceback():
    import typer

    app = typer.Typer()

    @app.command()
    def broken() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run(app, [])


@pytest.mark.parametrize("words", [["epsilon"], ["epsilon", "--accountant", "all"], ["compare"]])
def test_infinite_brackets_are_printed_and_not_taken_for_markup(capsys, words):
    arguments = ["--noise-multiplier", "0", "--sample-rate", "0.5", "--steps", "3", "--delta", "1e-5"]
    status, out, _ = asked(capsys, *words, *arguments)
    assert status == 0 and "[inf, inf]" in out
