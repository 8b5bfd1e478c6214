import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from dpsgd.core.ranks import Ranks
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
