"""Where theory puts one accountant above another, on processes of every kind."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accountant.rdp import RDP
from mechanisms import Adjacency, UnsupportedProcess
from tests.contracts.budgets import BUDGETS, HOMES, Case, assert_within, boundless, certified
from tests.contracts.coarse import ROUTES
from tests.contracts.test_budgets import Vacuous
from tests.strategies import all_processes, deltas

WHOLE = tuple(map(float, range(2, 34)))  # the orders of `moments`
COMPOSITIONS = ("basic", "advanced", "optimal")
ROUND = 1 + 1e-9
CONVERSIONS = tuple(RDP(orders=WHOLE, conversion=kind) for kind in ("mironov", "cks", "asoodeh"))


@st.composite
def cases(draw):
    adjacency = draw(st.sampled_from(Adjacency))
    return Case(process=draw(all_processes(adjacency)), adjacency=adjacency, delta=draw(deltas))


def falling(accountants, case):
    """Assert that upper ends fall along the accountants, within their budgets, none below what is certified."""
    ends = []
    for accountant in accountants:
        try:
            claim = accountant.profile(case.process, adjacency=case.adjacency).epsilon(case.delta)
        except UnsupportedProcess:  # `moments` and `basic` where no pair is known
            assert not ends
            continue
        if not any(boundless(name, case) for name in (accountant.name, "moments")):
            least = "moments" if accountant.name == "rdp" else accountant.name  # at whole orders
            assert_within(claim, certified(case), BUDGETS[least])
        ends.append(claim.upper)
    assert all(later <= earlier * ROUND for earlier, later in itertools.pairwise(ends)), ends
    assert not ends or certified(case).lower <= ends[-1] * ROUND


@given(cases())
def test_moments_are_above_mironov_above_cks_above_asoodeh_above_what_is_certified(case):
    falling((ROUTES["moments"], *CONVERSIONS), case)


@settings(max_examples=settings.default.max_examples // 3)  # each takes a second
@given(cases())
def test_basic_is_above_advanced_above_optimal_above_what_is_certified(case):
    falling([ROUTES[name] for name in COMPOSITIONS], case)


@pytest.mark.parametrize("names", [("moments", "rdp"), COMPOSITIONS])
def test_no_order_holds_with_an_accountant_that_always_answers_anything(names):
    for name in names:
        routes = ROUTES | {name: Vacuous(pretended=name)}
        with pytest.raises(AssertionError):
            falling([routes[each] for each in names], HOMES[name])
