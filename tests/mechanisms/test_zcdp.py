"""The guarantee of zero-concentrated differential privacy."""

import math

import pytest

from accountant import epsilon_bounds
from mechanisms import (
    ZCDP,
    Adjacency,
    FixedSize,
    InvalidParameter,
    Poisson,
    Repeat,
    Sampled,
    UnsupportedProcess,
    from_json,
    to_json,
)
from mechanisms.core.renyi import LinearDivergence
from tests.strategies import NO_REALS


@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_its_divergence_is_linear_in_the_order_under_its_own_adjacency_alone(adjacency):
    stated = ZCDP(rho=0.25, adjacency=adjacency)
    assert stated.renyi(adjacency) == LinearDivergence(rho=0.25)
    assert 0.75 <= stated.renyi(adjacency).divergence(3.0) <= 0.75 * (1 + 1e-15)
    for other in set(Adjacency) - {adjacency}:
        with pytest.raises(UnsupportedProcess, match=f"about {adjacency.value} neighbours, got {other.value}"):
            stated.renyi(other)


def test_it_has_no_pair_and_says_who_takes_it():
    with pytest.raises(UnsupportedProcess, match="accountant='rdp' or accountant='zcdp'"):
        ZCDP(rho=1.0, adjacency="add_remove").pairs(Adjacency.ADD_REMOVE)
    with pytest.raises(UnsupportedProcess, match="about add_remove"):
        ZCDP(rho=1.0, adjacency="add_remove").pairs(Adjacency.ZERO_OUT)


def test_it_does_not_run():
    with pytest.raises(UnsupportedProcess, match="states a guarantee and runs nothing"):
        ZCDP(rho=1.0, adjacency="add_remove").release(0.0, sensitivity=1.0, randomness=None)


@pytest.mark.parametrize("rho", [0.0, 5e-324, 0.1, 1e300])
def test_it_goes_to_json_and_back(rho):
    process = Repeat(ZCDP(rho=rho, adjacency="zero_out"), 3)
    assert from_json(to_json(process)) == process
    assert eval(repr(process.part), {"ZCDP": ZCDP, "Adjacency": Adjacency}) == process.part


@pytest.mark.parametrize("rho", [-1e-9, math.inf, *NO_REALS], ids=repr)
def test_a_rho_that_is_none_is_refused(rho):
    with pytest.raises(InvalidParameter, match="ZCDP: rho must"):
        ZCDP(rho=rho, adjacency="add_remove")


def test_a_fixed_size_batch_of_a_concentrated_step_is_priced_under_replace_one_alone():
    step = ZCDP(rho=0.5, adjacency="replace_one")
    batch = Sampled(step, FixedSize(batch_size=1, records=100))
    assert batch.renyi(Adjacency.REPLACE_ONE).divergence(2.0) == pytest.approx(0.000543509, rel=1e-6)
    sampled, whole = (epsilon_bounds(p, delta=1e-5, adjacency="replace_one").upper for p in (batch, step))
    assert 0 < sampled < whole
    for scheme, adjacency in (
        (FixedSize(batch_size=1, records=9), "add_remove"),
        (Poisson(probability=0.1), "replace_one"),
    ):
        with pytest.raises(UnsupportedProcess, match="only Rényi divergences are known"):
            Sampled(ZCDP(rho=0.5, adjacency=adjacency), scheme).renyi(Adjacency(adjacency))
