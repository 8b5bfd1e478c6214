import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from dpsgd.core.ranks import Ranks, joined
from dpsgd.core.saved import Saved
from mechanisms import InvalidParameter
from tests.conftest import ROOT
from tests.dpsgd.schemes import EVERY_SCHEME

COMPARED = [*EVERY_SCHEME, "buffered noise", "canaries"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the folder in which two processes have left what they computed, and one beside them."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.dpsgd.several", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


def _left(folder, name, rank):
    return load_file(folder / f"{name} {rank}")


@pytest.mark.parametrize("name", [*COMPARED, "secret", "secret and kept", "unseeded", "given up alone", "forms"])
def test_ranks_agree_bit_for_bit(runs, name):
    one, other = (_left(runs, name, rank) for rank in range(2))
    assert torch.equal(one["weights"], other["weights"]) and torch.equal(one["shown"], other["shown"])


@pytest.mark.parametrize("name", COMPARED)
def test_two_ranks_are_one_up_to_rounding_with_the_noise_once(runs, name):
    two, one = _left(runs, name, 0), _left(runs, name, "alone")
    torch.testing.assert_close(two["shown"], one["shown"], rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-5, atol=2e-6)


def test_sums_of_whole_numbers_are_the_same_by_however_many_ranks(runs):
    two, one = _left(runs, "exact noise", 0), _left(runs, "exact noise", "alone")
    assert torch.equal(two["shown"], one["shown"]) and torch.equal(two["weights"], one["weights"])


def test_secret_runs_have_noise_of_their_own(runs):
    secret, kept = _left(runs, "secret", 0), _left(runs, "secret and kept", 0)
    assert not torch.isclose(secret["shown"], kept["shown"], atol=1e-7).all(1).any()
    assert not (runs / "secret.safetensors.key").exists()


@pytest.mark.parametrize("name", ["forms", "forms left"])
def test_all_ranks_go_by_the_forms_that_the_first_has_chosen_and_so_do_those_that_go_on(runs, name):
    """The clocks of the others, and of all that go on, may not be looked at."""
    kept = Saved.from_bytes((runs / f"{name}.safetensors").read_bytes(), name=name)
    assert kept.complete and kept.forms == {"0": "grouped"}


@pytest.mark.parametrize(("name", "rank"), [("given up together", "alone"), ("given up alone", 0)])
def test_a_run_goes_on_with_another_number_of_ranks(runs, name, rank):
    rest, whole = _left(runs, name, rank), _left(runs, "Poisson", "alone")
    torch.testing.assert_close(rest["shown"], whole["shown"][-len(rest["shown"]) :], rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(rest["weights"], whole["weights"], rtol=1e-5, atol=2e-6)
    assert len(rest["shown"]) == 8  # of 12, the first four of them kept


def test_layers_that_draw_resume_on_as_many_ranks_bit_for_bit(runs):
    for rank in range(2):
        whole, resumed = _left(runs, "masks", rank), _left(runs, "masks resumed", rank)
        assert torch.equal(resumed["weights"], whole["weights"])
        assert torch.equal(resumed["shown"], whole["shown"][3:])


def test_a_rank_that_asks_to_stop_stops_all_of_them(runs):
    left = [_left(runs, "stopped", rank) for rank in range(2)]
    assert [len(one["shown"]) for one in left] == [6, 6]
    assert torch.equal(left[0]["weights"], left[1]["weights"])


def test_a_process_of_torchrun_without_a_group_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "is_torchelastic_launched", lambda: True)
    with pytest.raises(InvalidParameter, match=r"the process group must be initialised(.|\n)*init_process_group"):
        Ranks.present(device=torch.device("cpu"))


def test_one_process_is_alone():
    alone = Ranks.present(device=torch.device("cpu"))
    assert (alone.rank, alone.count, alone.first) == (0, 1, True)


def _group(monkeypatch, *, backends, count=2):
    """Let torch look like a process in a group of these backends, as far as the calls go."""
    for name, value in {"is_initialized": True, "get_rank": 0, "get_world_size": count}.items():
        monkeypatch.setattr(distributed, name, lambda value=value: value)
    monkeypatch.setattr(distributed, "get_backend_config", lambda: backends)


@pytest.mark.parametrize("backends", ["cpu:gloo,cuda:gloo", "cpu:gloo,cuda:nccl"])
def test_a_group_that_sends_what_lies_there_serves(monkeypatch, backends):
    _group(monkeypatch, backends=backends)
    assert [Ranks.present(device=torch.device(kind)).count for kind in ("cpu", "cuda")] == [2, 2]


def test_a_group_of_nccl_is_refused_for_a_model_on_the_cpu_unless_it_has_nobody_to_talk_to(monkeypatch):
    _group(monkeypatch, backends="cuda:nccl")
    with pytest.raises(InvalidParameter, match=r"must send tensors of cpu(.|\n)*model\.to\("):
        Ranks.present(device=torch.device("cpu"))
    _group(monkeypatch, backends="cuda:nccl", count=1)
    assert Ranks.present(device=torch.device("cpu")).count == 1


def test_this_torch_tells_which_devices_a_group_serves(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        assert "cpu:gloo" in distributed.get_backend_config().split(",")
    finally:
        distributed.destroy_process_group()


@pytest.fixture
def machine(monkeypatch):
    """Let torch look like a process that torchrun started, the third on a machine of two CUDA devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "2")
    return monkeypatch


def test_a_process_without_a_cuda_device_of_its_own_is_refused(machine):
    with pytest.raises(InvalidParameter, match=r"got number 2 of 2(.|\n)*--nproc-per-node=2"), joined("cuda"):
        pass


def test_ranks_on_cuda_without_nccl_are_refused(machine):
    machine.setenv("LOCAL_RANK", "1")
    machine.setattr(distributed, "is_nccl_available", lambda: False)
    with pytest.raises(InvalidParameter, match="built without nccl"), joined("cuda"):
        pass


def test_a_process_takes_the_device_of_its_number_and_talks_by_nccl(machine):
    machine.setenv("LOCAL_RANK", "1")
    done = []
    machine.setattr(distributed, "is_nccl_available", lambda: True)
    machine.setattr(torch.cuda, "set_device", done.append)
    machine.setattr(distributed, "init_process_group", done.append)
    machine.setattr(distributed, "destroy_process_group", lambda: done.append("left"))
    with joined("cuda") as device:
        assert done == [device, "nccl"] and device == torch.device("cuda", 1)
    assert done[2:] == ["left"]
