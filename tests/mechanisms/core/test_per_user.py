import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant import available, compute_epsilon, epsilon_bounds
from mechanisms import Adjacency, Compose, Gaussian, Group, InvalidParameter, Poisson, Repeat, Sampled
from mechanisms.core.per_user import PerUser
from mechanisms.core.process import leaves
from mechanisms.core.serialise import from_json, to_json
from tests.strategies import all_processes, any_processes

STEP = Sampled(Gaussian(noise_multiplier=1.1), Poisson(probability=0.1))
RUNS = {
    "sampled": Repeat(STEP, 3),
    "plain": Repeat(Gaussian(noise_multiplier=2.0), 3),
    "mixed steps": Compose((STEP, Gaussian(noise_multiplier=3.0))),
    "nothing": Compose(()),
    "groups": Group(Gaussian(noise_multiplier=2.0), 2),
}


@pytest.mark.thinned(5)
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one", "zero_out"])
def test_users_cost_what_records_would(run, adjacency):
    users, records = (epsilon_bounds(process, delta=1e-5, adjacency=adjacency) for process in (PerUser(run), run))
    assert (users.lower, users.upper) == (records.lower, records.upper)


@given(any_processes())
def test_the_steps_of_a_run_for_users_are_those_of_the_run(process):
    assert leaves(PerUser(process)) == leaves(process) and PerUser(process) != process


@given(st.data(), st.sampled_from(Adjacency))
def test_an_accountant_takes_a_run_for_users_where_it_takes_the_run(data, adjacency):
    process = data.draw(all_processes(adjacency))
    for accountant in available().values():
        assert accountant().supports(PerUser(process), adjacency) == accountant().supports(process, adjacency)


@pytest.mark.parametrize("accountant", ["rdp", "gdp", "pld", "prv", "zcdp"])
def test_every_accountant_looks_through(accountant):
    run = Repeat(Gaussian(noise_multiplier=2.0), 3)
    price = {process: compute_epsilon(process, delta=1e-5, accountant=accountant) for process in (run, PerUser(run))}
    assert price[run] == price[PerUser(run)]


def test_the_unit_is_the_users():
    assert PerUser(STEP).unit == "user"
    assert STEP.unit == Compose((STEP,)).unit == "record"
    assert "unit" not in {field.name for field in dataclasses.fields(PerUser)}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_json_gives_the_same_process_back(run):
    assert from_json(to_json(PerUser(run))) == PerUser(run) != run


def test_the_golden_file_loads_for_ever():
    path = Path(__file__).resolve().parents[2] / "reference" / "process_v1_users.json"
    step = Sampled(Gaussian(noise_multiplier=1.1), Poisson(probability=0.01))
    assert from_json(path.read_text()) == PerUser(Repeat(step, 1000))


@pytest.mark.parametrize(
    "around",
    [
        lambda run: Compose((run, STEP)),
        lambda run: Compose((run, run)),
        lambda run: Repeat(run, 2),
        lambda run: Sampled(run, Poisson(probability=0.5)),
        lambda run: Group(run, 2),
        PerUser,
    ],
)
def test_users_and_records_are_never_composed(around):
    with pytest.raises(InvalidParameter, match=r"no part must be PerUser, which stands around a(.|\n)*Use PerUser\("):
        around(PerUser(STEP))


@pytest.mark.parametrize("part", [None, 1.0, Gaussian])
def test_a_part_is_a_process(part):
    with pytest.raises(InvalidParameter, match="PerUser: every part must be a process"):
        PerUser(part)
