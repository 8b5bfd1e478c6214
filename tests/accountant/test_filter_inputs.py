"""Filters and the odometer with bad input: a table of every number that they take, and what each says to which value.

Refused steps cost nothing, and refused budgets are none: nothing is charged by a mistake.
"""

import copy
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from accountant import ApproximateDPFilter, GDPFilter, Odometer, RenyiFilter, ZCDPFilter
from mechanisms import Adjacency, Gaussian, InvalidParameter
from tests.strategies import NO_REALS

LEDGERS = {
    RenyiFilter: {"budget": 1.0, "order": 8.0, "adjacency": "add_remove"},
    ZCDPFilter: {"epsilon": 1.0, "delta": 1e-5, "adjacency": "add_remove"},
    GDPFilter: {"epsilon": 1.0, "delta": 1e-5, "adjacency": "add_remove"},
    ApproximateDPFilter: {"epsilon": 1.0, "delta": 1e-5, "slack": 5e-6, "adjacency": "add_remove"},
    Odometer: {"adjacency": "add_remove", "orders": (2.0, 4.0)},
}
EVERY = list(LEDGERS)
HUGE = 10**400
LOW, INFINITE = (-1.0, "must be at least 0, got -1.0"), (math.inf, "must be finite, got inf")
BEYOND = (HUGE, "must fit a double, got an integer beyond 1.8e308")
LEVEL = [
    (0.0, "must be above 0, got 0"),
    (-0.1, "must be above 0, got -0.1"),
    (1.0, "must be below 1, got 1"),
    (1.5, "must be below 1, got 1.5"),
    INFINITE,
    BEYOND,
]
ORDER = [(1.0, "must be above 1, got 1"), (0.0, "must be above 1, got 0"), (-2.0, "must be above 1"), INFINITE, BEYOND]
ADJACENCY = [(bad, "name must be one of 'add_remove'") for bad in ("both", "", None, 1, ("add_remove",))]
FIELDS = {
    (RenyiFilter, "budget"): [LOW, INFINITE, (-math.inf, "must be finite, got -inf"), BEYOND],
    (RenyiFilter, "order"): ORDER,
    (ZCDPFilter, "epsilon"): [LOW, INFINITE, BEYOND],
    (ZCDPFilter, "delta"): LEVEL,
    (GDPFilter, "epsilon"): [LOW, INFINITE, BEYOND],
    (GDPFilter, "delta"): LEVEL,
    (ApproximateDPFilter, "epsilon"): [LOW, INFINITE, BEYOND],
    (ApproximateDPFilter, "delta"): LEVEL,
    (ApproximateDPFilter, "slack"): [*LEVEL, (2e-5, "must be at most delta=1e-05, got 2e-05")],
}
STEPS = [LOW, INFINITE, (-5e-324, "must be at least 0"), BEYOND]
PAIRS = [
    ((0.1,), r"must be a process or a pair \(ε, δ\), got \(0.1,\)"),
    ((0.1, 0.1, 0.1), r"must be a process or a pair"),
    ([0.1, 0.1], r"must be a process or a pair"),
    (0.1, r"must be a process or a pair"),
    ((-0.1, 0.1), "the step's epsilon must be at least 0, got -0.1"),
    ((math.inf, 0.1), "the step's epsilon must be finite"),
    ((HUGE, 0.1), "the step's epsilon must fit a double"),
    ((0.1, -0.1), r"the step's delta must lie in \[0, 1\], got -0.1"),
    ((0.1, 1.1), r"the step's delta must lie in \[0, 1\], got 1.1"),
]


def made(kind, **changed):
    return kind(**LEDGERS[kind] | changed)


def refused(kind, message, ask):
    with pytest.raises(InvalidParameter, match=message) as caught:
        ask()
    assert str(caught.value).startswith((f"{kind.__name__}: ", "Adjacency: "))


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
def test_every_number_of_a_budget_is_checked_and_named(kind, field):
    for bad, message in FIELDS[kind, field]:
        refused(kind, f"{field} {message}", lambda bad=bad: made(kind, **{field: bad}))
    for bad in NO_REALS:
        refused(kind, rf"{field} must be a (real |single real |)number", lambda bad=bad: made(kind, **{field: bad}))


@pytest.mark.parametrize("kind", EVERY)
def test_neighbours_are_named_by_those_there_are(kind):
    for bad, message in ADJACENCY:
        refused(kind, message, lambda bad=bad: made(kind, adjacency=bad))
    for good in ("zero_out", Adjacency.ZERO_OUT):
        assert made(kind, adjacency=good).adjacency is Adjacency.ZERO_OUT


@pytest.mark.parametrize("kind", EVERY)
def test_a_step_that_is_no_price_is_refused_and_costs_nothing(kind):
    ledger = made(kind)
    ledger.spend(Gaussian(noise_multiplier=50.0) if kind is not ApproximateDPFilter else (0.01, 1e-9))
    before = copy.copy(ledger._spent)
    table = PAIRS if kind is ApproximateDPFilter else [] if kind is Odometer else STEPS
    others = [(bad, "step must be ") for bad in (*NO_REALS, (), np.array([1.0, 2.0]), Adjacency.ADD_REMOVE)]
    if kind is ApproximateDPFilter:
        others += [((0.1, bad), "the step's delta must be a ") for bad in NO_REALS]
        others += [((bad, 0.1), "the step's epsilon must be a ") for bad in NO_REALS]
    asks = [ledger.spend] if kind is Odometer else [ledger.spend, ledger.allows]
    for bad, message in table + others:
        for ask in asks:
            refused(kind, message, lambda bad=bad, ask=ask: ask(bad))
            assert ledger._spent == before


@pytest.mark.parametrize("kind", [RenyiFilter, Odometer])
def test_a_level_that_is_none_is_refused(kind):
    ledger = made(kind)
    for bad, message in LEVEL:
        refused(kind, f"delta {message}", lambda bad=bad: ledger.epsilon(bad))
    for bad in NO_REALS:
        refused(kind, "delta must be a ", lambda bad=bad: ledger.epsilon(bad))


def test_orders_of_an_odometer_are_a_sequence_of_them():
    for bad in (2.0, None, "24", b"24", {2.0, 4.0}, {2.0: 4.0}, np.array(2.0), Gaussian(noise_multiplier=1.0)):
        refused(Odometer, "orders must be a sequence, got", lambda bad=bad: made(Odometer, orders=bad))
    refused(Odometer, "orders must name at least one", lambda: made(Odometer, orders=()))
    for bad, message in ORDER:
        refused(Odometer, f"order {message}", lambda bad=bad: made(Odometer, orders=(2.0, bad)))
    for bad in NO_REALS:
        refused(Odometer, "order must be a ", lambda bad=bad: made(Odometer, orders=(bad,)))
    assert made(Odometer, orders=np.array([2, 4])).orders == (2.0, 4.0)


def test_a_target_of_a_renyi_filter_is_checked_like_its_fields():
    target = {"epsilon": 2.0, "delta": 1e-5, "order": 16.0, "adjacency": "add_remove"}
    for field, table in {"epsilon": [LOW, INFINITE, BEYOND], "delta": LEVEL, "order": ORDER}.items():
        for bad, message in table:
            refused(RenyiFilter, f"{field} {message}", lambda bad=bad, f=field: RenyiFilter.within(**target | {f: bad}))
    for bad, message in ADJACENCY:
        refused(RenyiFilter, message, lambda bad=bad: RenyiFilter.within(**target | {"adjacency": bad}))


@pytest.mark.parametrize("kind", [RenyiFilter, ZCDPFilter, GDPFilter])
def test_numbers_of_any_kind_are_taken(kind):
    for quarter in (0.25, np.float32(0.25), Fraction(1, 4), Decimal("0.25"), np.array(0.25)):
        budget, same = made(kind), made(kind)
        budget.spend(Gaussian(noise_multiplier=1e9))
        same.spend(Gaussian(noise_multiplier=1e9))
        assert budget.allows(quarter) is same.allows(0.25)
