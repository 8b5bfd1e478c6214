import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dpsgd import DPSGD
from dpsgd import __main__ as cli
from dpsgd.card import PrivacyCard
from dpsgd.checkpoint import Checkpoint
from dpsgd.core import compiled, compiled_noise, job
from mechanisms import FixedSize, NumericalFailure, Poisson, UnsupportedProcess
from mechanisms.core import command_line
from tests.conftest import ROOT
from tests.dpsgd.schemes import config_of

QUICK = ["train", "--model", "linear", "--steps", "12"]


def _run(*arguments):
    return command_line.run(cli.app, [*QUICK, *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --epsilon 0", "for_budget: epsilon must be above 0, got 0.0"),
        ("train --epsilon nan", "epsilon must be a number, got nan"),
        ("train --epsilon=-1", "for_budget: epsilon must be above 0, got -1.0"),
        ("train --delta 2", "delta must lie in [0, 1], got 2"),
        ("train --steps 0", "steps must be at least 1, got 0"),
        ("train --steps 3 --epochs 2", "one of steps and epochs must be left out, got 3 and 2.0"),
        ("train --epochs 0", "epochs must be above 0, got 0.0"),
        ("train --expected-batch-size 2000", "expected_batch_size must be at most 1438 for digits, got 2000"),
        ("train --max-grad-norm 0", "max_grad_norm must be above 0, got 0.0"),
        ("train --learning-rate 0", "learning_rate must be above 0, got 0.0"),
        ("train --model cnn", "model must be one of 'linear', 'mlp', got 'cnn'"),
        ("train --hidden 0", "hidden must be at least 1, got 0"),
        ("train --data cifar", "data must be one of 'digits', 'fashion_mnist', 'mnist', got 'cifar'"),
        ("train --data mnist --data-dir nowhere", "mnist must have the file train-images-idx3-ubyte.gz"),
        ("train --seed=-1", "seed must be at least 0, got -1"),
        ("train --sed 3", "No such option: --sed"),
        ("train --checkpoint-every 0", "every must be at least 1, got 0"),
        ("train --config nowhere.json", "nowhere.json: No such file or directory"),
        ("train --config file", "JSON must be well formed"),
        ("train --config file --steps 3 --epsilon 1", "with --config --epsilon, --steps must be left out"),
        ("train --config binary", "train: binary must be JSON text, and is none"),
        ("train --out file/inside", "the output directory must be writable, got file/inside"),
        ("train --device tpu", "device must be one of 'cpu', 'cuda', got 'tpu'"),
        ("walk", "No such command 'walk'"),
        ("", "Missing command"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert command_line.run(cli.app, arguments.split()) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert message in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["binary", "file"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there_is_refused(tmp_path, capsys):
    assert _run("--device", "cuda", "--out", tmp_path) == 2
    assert "device must be 'cpu' where torch finds no CUDA" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [(UnsupportedProcess("x"), 2), (NumericalFailure("x"), 4), (KeyboardInterrupt(), 130)],
)
def test_the_exit_code_says_what_kind_of_error_it_was(error, code, monkeypatch, tmp_path, capsys):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(job, "run", failing)
    assert _run("--out", tmp_path) == code
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1


def test_a_run_prints_what_it_cost_and_leaves_weights_and_configuration(tmp_path, capsys):
    assert _run("--seed", 0, "--out", tmp_path / "a" / "b", "--epsilon", 2.5, "--delta", 1e-6) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^ε +at most 2\.(4999\d+|500000) at δ = 1e-06, add_remove neighbours$", shown, re.M)
    assert float(re.search(r"^accuracy +(0\.\d+) on public test records$", shown, re.M)[1]) > 0.6
    assert "reproducible: not private" in shown
    folder = tmp_path / "a" / "b"
    assert {path.name for path in folder.iterdir()} == {"weights.safetensors", "config.json", "card.md", "card.json"}
    assert f"card        {folder / 'card.md'}" in shown.splitlines()
    config = DPSGD.from_json((folder / "config.json").read_text())
    assert (
        config.steps == 12 and config.sampling == Poisson(probability=256 / 1438) and config.expected_batch_size == 256
    )
    assert config.process().times == 12
    card = PrivacyCard.from_json((folder / "card.json").read_text())
    assert card.config == config and card.claim.delta == 1e-6 and card.reproducible and card.circumstances.fresh
    assert (folder / "card.md").read_text() == card.markdown
    with safe_open(folder / "weights.safetensors", "pt") as weights:
        assert weights.metadata() == {"config": config.to_json(), "randomness": "reproducible: not private"}
        assert {name: tuple(weights.get_tensor(name).shape) for name in weights.keys()} == {  # noqa: SIM118
            "0.bias": (10,),
            "0.weight": (10, 64),
        }


def test_sums_are_compiled_where_that_is_asked_for(tmp_path, monkeypatch):
    functions = []
    monkeypatch.setattr(compiled, "Once", lambda function: functions.append(function) or function)
    monkeypatch.setattr(compiled_noise, "kernel", lambda size: lambda given: [compiled_noise.add_noise(*given)])
    assert _run("--seed", 0, "--out", tmp_path / "a") == 0 and not functions
    assert _run("--seed", 0, "--compiled", "--out", tmp_path / "b") == 0 and len(functions) == 1
    first, second = (load_file(tmp_path / name / "weights.safetensors")["0.weight"] for name in ("a", "b"))
    torch.testing.assert_close(first, second)


def test_a_run_without_a_seed_has_noise_that_nobody_knows(tmp_path, capsys):
    runs = []
    for name in ("a", "b"):
        assert _run("--out", tmp_path / name) == 0
        assert "drawn by the operating system, known to nobody" in capsys.readouterr().out
        runs.append(load_file(tmp_path / name / "weights.safetensors")["0.weight"])
    assert not torch.equal(*runs)


def test_a_configuration_that_was_written_gives_the_same_run_again(tmp_path):
    assert _run("--seed", 3, "--out", tmp_path / "a") == 0
    again = ["train", "--model", "linear", "--config", str(tmp_path / "a" / "config.json"), "--seed", "3"]
    assert command_line.run(cli.app, [*again, "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a" / "config.json").read_bytes() == (tmp_path / "b" / "config.json").read_bytes()
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in ("a", "b"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("sampling", "adjacency"),
    [(FixedSize(batch_size=1438, records=1438), "replace_one"), (Poisson(probability=1.0), "add_remove")],
)
def test_the_card_names_neighbours_for_which_there_is_an_epsilon(sampling, adjacency, tmp_path, capsys):
    (tmp_path / "config.json").write_text(config_of(sampling, steps=3).to_json())
    arguments = ["train", "--model", "linear", "--config", str(tmp_path / "config.json"), "--out", str(tmp_path)]
    assert command_line.run(cli.app, arguments) == 0
    assert f"{adjacency} neighbours" in capsys.readouterr().out
    assert f"neighbours by {adjacency}:" in (tmp_path / "card.md").read_text()


@pytest.mark.parametrize("seed", [["--seed", 3], []])
def test_an_interrupted_run_is_resumed_and_never_by_accident(seed, tmp_path, monkeypatch, capsys):
    write, written = Checkpoint.write, []

    def interrupted(self, content):
        written.append(content)
        if len(written) == 4:
            raise KeyboardInterrupt
        write(self, content)

    monkeypatch.setattr(Checkpoint, "write", interrupted)
    assert _run(*seed, "--out", tmp_path / "a", "--checkpoint-every", 2) == 130
    kept = tmp_path / "a" / "checkpoint.safetensors"
    assert capsys.readouterr().err == (
        f"error: train: interrupted: {kept} holds the run after 4 of 12 steps. With --resume it goes on.\n"
    )
    assert _run(*seed, "--out", tmp_path / "a", "--checkpoint-every", 2) == 2
    assert "--resume must be given to go on from the checkpoint in" in capsys.readouterr().err
    assert len(written) == 4 and not (tmp_path / "a" / "weights.safetensors").exists()
    assert _run(*seed, "--out", tmp_path / "a", "--resume") == 0
    assert _run("--seed", 3, "--out", tmp_path / "whole") == 0
    resumed, whole = (load_file(tmp_path / name / "weights.safetensors")["0.weight"] for name in ("a", "whole"))
    assert torch.equal(resumed, whole) == bool(seed)
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert _run(*seed, "--out", tmp_path / "a", "--resume", "--learning-rate", 1) == 2
    assert "learning_rate must be 2.0, as it was when the run was begun, got 1.0" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


@pytest.mark.parametrize("left", ["weights.safetensors", "card.json", "card.md"])
def test_files_of_two_runs_never_stand_side_by_side(left, tmp_path, capsys):
    (tmp_path / left).write_text("of another run")
    for more in ([], ["--resume"], ["--checkpoint-every", 2]):
        assert _run("--out", tmp_path, *more) == 2
        assert f"--out must hold no other run, got {tmp_path} with {left}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [left]


@pytest.mark.parametrize("more", [[], ["--resume"]])
@pytest.mark.parametrize("content", ['{"schema": "dp-calipers/audit-setting/1"}', "", "\xe9", "of another run"])
def test_a_config_file_that_another_command_left_is_not_written_over(content, more, tmp_path, capsys):
    if content == "of another run":
        content = config_of(Poisson(probability=0.1)).to_json()
    elif more:
        (tmp_path / "checkpoint.safetensors").write_text("of a run")
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert _run("--seed", 0, "--out", tmp_path, *more) == 2
    errors = capsys.readouterr().err
    assert f"--out must hold no other config.json than of this run, got {tmp_path / 'config.json'}: name" in errors
    assert errors.count("\n") == 1 and {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([], "the run kept nothing to go on from. With --checkpoint-every one does."),
        (["--checkpoint-every", 2], "no step was taken. The same command begins anew."),
    ],
)
def test_a_run_that_is_interrupted_says_what_is_left_of_it(more, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(job, "train", interrupted)
    assert _run("--out", tmp_path, *more) == 130
    assert capsys.readouterr().err == f"error: train: interrupted: {told}\n"


@pytest.mark.slow
def test_a_signal_from_the_keyboard_leaves_one_line_and_a_run_that_goes_on(tmp_path):
    command = [sys.executable, "-m", "dpsgd", "train", "--model", "linear", "--steps", "5000", "--out", "."]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, "--checkpoint-every", "1"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as running:
        while not (tmp_path / "checkpoint.safetensors").exists() and running.poll() is None:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        errors = running.communicate()[1]
    assert running.returncode == 130
    assert re.fullmatch(
        r"error: train: interrupted: checkpoint.safetensors holds the run after \d+ of 5000 steps. .*\n", errors
    )


def test_a_run_that_was_killed_while_its_files_were_written_is_run_again(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(job, "write_weights", interrupted)
        assert _run("--seed", 0, "--out", tmp_path) == 130
    assert _run("--seed", 0, "--out", tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 4


def test_the_card_is_written_after_all_that_it_speaks_of(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "write_weights", interrupted)
    assert _run("--out", tmp_path) == 130
    assert {path.name for path in tmp_path.iterdir()} == {"config.json"}


@pytest.mark.slow
def test_torchrun_trains_one_model_by_two_processes(tmp_path):
    def trained(*launcher, out):
        command = [sys.executable, *launcher, "-m", "dpsgd", *QUICK, "--seed", "0", "--out", str(tmp_path / out)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, load_file(tmp_path / out / "weights.safetensors")

    shown, two = trained("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", out="two")
    alone, one = trained(out="one")
    assert shown.count("accuracy") == 1 and shown.splitlines()[0] == alone.splitlines()[0]
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=1e-5, atol=1e-6)
