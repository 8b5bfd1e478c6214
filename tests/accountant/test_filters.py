"""Filters: formulas, the very boundary, and adversaries whose runs are priced exactly."""

import copy
import math
import pickle
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from scipy import optimize

from accountant import ApproximateDPFilter, GDPFilter, Odometer, RenyiFilter, ZCDPFilter, available, epsilon_bounds
from accountant.core.adaptive import concentration, gaussian_squares, upward, whole
from accountant.core.gaussian_shifts import gaussian_square
from accountant.core.renyi_steps import divergences, renyi_steps
from mechanisms import (
    ZCDP,
    Adjacency,
    Allocated,
    ApproximateDP,
    BallsInBins,
    BudgetExceeded,
    Compose,
    FixedSize,
    Gaussian,
    InvalidParameter,
    Laplace,
    Mechanism,
    Poisson,
    PureDP,
    RandomizedResponse,
    Repeat,
    Sampled,
    UnsupportedProcess,
)
from mechanisms.core.renyi import PairDivergence
from tests.adversaries import LARGE, SMALL, answers, strategies

WHOLE_RUN = {"epsilon": 1.0, "delta": 0.05}


def steps_allowed(budget, step, most=10**4):
    for taken in range(most):
        if not budget.allows(step):
            return taken
        budget.spend(step)
    return most


@pytest.mark.parametrize(
    ("one", "steps", "slack", "epsilon"), [(0.1, 100, 1e-6, 5.756521769757), (0.5, 20, 1e-5, 13.229830131447)]
)
def test_as_many_steps_as_the_theorem_of_whitehouse_et_al_allows(one, steps, slack, epsilon):
    """(2 log(1/δ') Σ ε²)^½ + Σ ε² / 2 <= ε, at 13 digits of its values on either side of the boundary."""
    given = {"delta": slack, "slack": slack, "adjacency": "add_remove"}
    old = {**given, "conversion": "bun_steinke"}
    assert steps_allowed(ApproximateDPFilter(epsilon=epsilon + 1e-11, **old), (one, 0.0)) == steps
    assert steps_allowed(ApproximateDPFilter(epsilon=epsilon - 1e-11, **old), (one, 0.0)) == steps - 1
    assert steps_allowed(ApproximateDPFilter(epsilon=epsilon, **given), (one, 0.0)) >= 1.1 * steps


@given(st.floats(0.01, 20.0), st.floats(1e-12, 0.5))
def test_the_better_conversion_allows_more_and_keeps_the_target(epsilon, delta):
    old = concentration(epsilon=epsilon, delta=delta, conversion="bun_steinke")
    new = concentration(epsilon=epsilon, delta=delta)
    assert old + 2 * math.sqrt(old * -math.log(delta)) == pytest.approx(epsilon, rel=1e-9)
    assert new >= old * (1 - 1e-6)

    def kept(log_order):
        alpha = 1 + math.exp(log_order)
        return alpha * new + math.log1p(-1 / alpha) - (math.log(delta) + math.log(alpha)) / (alpha - 1)

    coarse = min(np.linspace(-7, 14, 400), key=kept)
    best = optimize.minimize_scalar(
        kept, bounds=(coarse - 0.1, coarse + 0.1), method="bounded", options={"xatol": 1e-9}
    )
    assert epsilon * (1 - 1e-4) <= best.fun <= epsilon * (1 + 1e-9)


@pytest.mark.parametrize("step", [0.25, 0.1, 1e-3, 3e-320])
def test_a_budget_is_spent_to_the_last_unit_and_no_further(step):
    """Ten steps fit a budget of ten times the step, computed exactly and rounded up; below it only nine do."""
    ten = Fraction(step) * 10
    budget = upward(10 * whole(step))
    below = budget if Fraction(budget) < ten else math.nextafter(budget, 0)
    below = below if Fraction(below) < ten else math.nextafter(below, 0)
    assert Fraction(budget) >= ten > Fraction(below)
    assert steps_allowed(RenyiFilter(budget=budget, order=2.0, adjacency="add_remove"), step) == 10
    assert steps_allowed(RenyiFilter(budget=below, order=2.0, adjacency="add_remove"), step) == 9


def test_a_refused_step_costs_nothing_and_names_what_is_left():
    budget = RenyiFilter(budget=1.0, order=2.0, adjacency="add_remove")
    budget.spend(0.75)
    with pytest.raises(BudgetExceeded, match=r"RenyiFilter: 0.5 would exceed the budget; left are 0.25"):
        budget.spend(0.5)
    budget.spend(0.25)
    assert budget.left == (0.0,) and not budget.allows(5e-324) and budget.allows(0.0)
    with pytest.raises(BudgetExceeded):
        budget.spend(Gaussian(noise_multiplier=0.0))
    assert pickle.loads(pickle.dumps(budget)).left == (0.0,)


def test_prices_are_those_of_the_theory():
    gaussian, order = Gaussian(noise_multiplier=2.0), 5.0
    renyi = RenyiFilter(budget=1.0, order=order, adjacency="add_remove")
    assert renyi.price(gaussian) == pytest.approx((order / 8,), rel=1e-14)
    assert renyi.price(Repeat(gaussian, 7)) == pytest.approx((7 * order / 8,), rel=1e-14)
    assert RenyiFilter(budget=1.0, order=order, adjacency="replace_one").price(gaussian) == pytest.approx((order / 2,))
    sampled = Sampled(gaussian, Poisson(probability=0.01))
    moments = [pair.log_mixture_moment(1.0, order) for pair in sampled.pairs(Adjacency.ADD_REMOVE).values()]
    assert renyi.price(sampled) == pytest.approx((max(m.upper for m in moments) / (order - 1.0),), rel=1e-9)
    assert renyi.price(Compose(())) == (0.0,)
    concentrated = ZCDPFilter(**WHOLE_RUN, adjacency="add_remove")
    mixed = Compose((gaussian, Laplace(noise_multiplier=4.0)))
    assert concentrated.price(mixed) == pytest.approx((1 / 8 + 0.25 - 1 + math.exp(-0.25),), rel=1e-14)
    stated = ZCDP(rho=0.125, adjacency="add_remove")
    assert concentrated.price(Repeat(stated, 3)) == pytest.approx((0.375,), rel=1e-14)
    assert concentrated.price(Repeat(stated, 3))[0] >= 0.375
    approximate = ApproximateDPFilter(**WHOLE_RUN, slack=0.01, adjacency="add_remove")
    stated = ApproximateDP(epsilon=0.5, delta=1e-3, adjacency="add_remove")
    assert approximate.price(Repeat(stated, 3)) == pytest.approx((0.75, 3e-3), rel=1e-14)
    assert approximate.price(Repeat(stated, 3))[1] >= 3e-3 and approximate.price((0.5, 1e-3))[0] >= 0.25


@given(st.floats(0.0, 30.0), st.floats(1e-9, 0.9))
def test_a_gaussian_budget_is_the_largest_that_keeps_the_target(epsilon, delta):
    with mp.workdps(40):
        mu = mp.sqrt(gaussian_square(epsilon=epsilon, delta=delta))

        def spent(shift):
            return mp.ncdf(shift / 2 - epsilon / shift) - mp.exp(epsilon) * mp.ncdf(-shift / 2 - epsilon / shift)

        assert spent(mu) <= delta < spent(mu * (1 + mp.mpf("1e-3")))


@given(st.floats(0.0, 700.0))
def test_bounded_losses_are_priced_as_the_gaussian_whose_trade_off_meets_the_kink_of_an_answer(epsilon):
    price = gaussian_squares(PureDP(epsilon=epsilon, adjacency="add_remove"), Adjacency.ADD_REMOVE)
    with mp.workdps(400):
        assert mp.ncdf(-mp.sqrt(price) / 2) <= 1 / (1 + mp.exp(epsilon)) * (1 + mp.mpf(10) ** -300)
        assert mp.ncdf(-mp.sqrt(price) / 2 * (1 - mp.mpf("1e-9")) + mp.mpf("1e-8")) >= 1 / (1 + mp.exp(epsilon))


def test_a_gaussian_filter_allows_what_one_gaussian_costs_whatever_the_order_of_the_steps():
    budget, steps = GDPFilter(epsilon=0.7, delta=1e-5, adjacency="replace_one"), []
    for noise in (30.0, 20.0, 40.0, 25.0) * 3:
        step = Gaussian(noise_multiplier=noise)
        if budget.allows(step):
            budget.spend(step)
            steps.append(step)
        else:
            assert epsilon_bounds(Compose((*steps, step)), delta=1e-5, adjacency="replace_one").lower > 0.7
    assert 4 <= len(steps) < 12
    assert epsilon_bounds(Compose(tuple(steps)), delta=1e-5, adjacency="replace_one").upper <= 0.7
    assert budget.price(0.5) == pytest.approx((0.25,)) and budget.price(0.0) == (0.0,)


def test_steps_that_lose_no_delta_are_allowed_where_all_of_it_is_slack():
    """Sums of exact zeros are exact zeros: rounded up to 5e-324 they exceeded what was left, which is 0."""
    given = {"epsilon": 1.0, "delta": 1e-5, "slack": 1e-5, "adjacency": "add_remove"}
    squares, lost = ApproximateDPFilter(**given).price(PureDP(epsilon=0.5, adjacency="add_remove"))
    assert squares == pytest.approx(0.25) and squares >= 0.25 and lost == 0.0
    for step in (Laplace(noise_multiplier=10.0), PureDP(epsilon=0.1, adjacency="add_remove"), (0.1, 0.0)):
        assert steps_allowed(ApproximateDPFilter(**given), step) >= 3


@pytest.mark.parametrize("times", [2**60, 10**400])
def test_more_steps_than_floats_count_are_priced_and_refused(times):
    many = Repeat(Gaussian(noise_multiplier=1.0), times)
    pure = Repeat(PureDP(epsilon=1.0, adjacency="add_remove"), times)
    for budget in (
        RenyiFilter(budget=1.0, order=2.0, adjacency="add_remove"),
        ZCDPFilter(**WHOLE_RUN, adjacency="add_remove"),
        GDPFilter(**WHOLE_RUN, adjacency="add_remove"),
    ):
        price = budget.price(many)[0]
        assert math.isinf(price) if times > 10**308 else price == pytest.approx(times, rel=0.51)
        with pytest.raises(BudgetExceeded):
            budget.spend(many)
    with pytest.raises(BudgetExceeded):
        ApproximateDPFilter(**WHOLE_RUN, slack=0.01, adjacency="add_remove").spend(pure)


def test_a_renyi_budget_keeps_the_target_it_was_made_for():
    made = RenyiFilter.within(epsilon=2.0, delta=1e-5, order=12.0, adjacency="add_remove")
    assert made.epsilon(1e-5) == pytest.approx(2.0, rel=1e-12) and made.epsilon(1e-3) < 2.0
    truth = made.budget + math.log(11 / 12) - (math.log(1e-5) + math.log(12)) / 11
    assert made.epsilon(1e-5) == pytest.approx(truth, rel=1e-12) and made.epsilon(1e-5) >= truth
    with pytest.raises(InvalidParameter, match=r"order must be large enough for epsilon=0\.1 and delta=1e-05, got 2"):
        RenyiFilter.within(epsilon=0.1, delta=1e-5, order=2.0, adjacency="add_remove")


def runs(budget, strategy, depth, seen=(), p=1.0, q=1.0):
    """The probabilities, with the record and without, of all runs of an adversary, who turns to small when refused."""
    choice = strategy(seen) if depth else None
    wanted = () if choice is None else (LARGE, SMALL)[choice:]
    step = next((one for one in map(response, wanted) if budget.allows(one)), None)
    if step is None:
        return [(p, q)]
    after = copy.copy(budget)
    after.spend(step)
    found = []
    for outcome, (with_it, without) in enumerate(answers(step.epsilon)):
        found += runs(after, strategy, depth - 1, (*seen, outcome), p * with_it, q * without)
    return found


def response(epsilon):
    return RandomizedResponse(epsilon=epsilon)


def moment(found, order):
    """E_Q[(P/Q)^α] over all runs, both ways, the larger."""
    return max(math.fsum(b * (a / b) ** order for a, b in ends) for ends in (found, [(q, p) for p, q in found]))


@settings(max_examples=30, deadline=None)
@given(strategies)
def test_no_adaptive_adversary_exceeds_a_renyi_budget(strategy):
    """Summed exactly over all outcomes, for answers whose ε depends on those before."""
    budget = RenyiFilter(budget=0.5, order=3.0, adjacency="replace_one")
    found = runs(budget, strategy, 10)
    assert math.fsum(p for p, _ in found) == pytest.approx(1.0)
    assert moment(found, 3.0) <= math.exp(2.0 * 0.5) * (1 + 1e-12)


def test_an_adversary_who_spends_all_reaches_the_budget_but_for_one_small_step():
    budget = RenyiFilter(budget=0.5, order=3.0, adjacency="replace_one")
    reached = math.log(moment(runs(budget, lambda seen: 0, 12), 3.0)) / 2.0
    assert 0.5 - budget.price(response(SMALL))[0] < reached <= 0.5


def kept_by_targets(epsilon):
    """Filters by each theorem."""
    given = {"epsilon": epsilon, "delta": 0.2, "adjacency": "replace_one"}
    return ZCDPFilter(**given), ApproximateDPFilter(**given, slack=0.2), GDPFilter(**given)


def spent(found, epsilon):
    """δ(ε) of all runs, both ways, the larger."""
    return max(
        math.fsum(max(a - math.exp(epsilon) * b, 0.0) for a, b in ends) for ends in (found, [(q, p) for p, q in found])
    )


@settings(max_examples=20, deadline=None)
@given(strategies, st.sampled_from([1.0, 1.5]))
def test_no_adaptive_adversary_exceeds_a_target(strategy, epsilon):
    """δ(ε) of the whole run against the δ that was promised."""
    for budget in kept_by_targets(epsilon):
        assert spent(runs(budget, strategy, 10), epsilon) <= 0.2


def test_every_filter_leaves_room_for_a_run_that_loses_something():
    for budget in kept_by_targets(1.0):
        assert 0.02 < spent(runs(budget, lambda seen: 0, 10), 1.0) <= 0.2


@dataclass(frozen=True, slots=True)
class Counted(Mechanism):
    """A mechanism that counts how often it is asked for its pair."""

    asked: list[int] = field(compare=False)
    noise: float = 30.0

    def pairs(self, adjacency: Adjacency) -> Any:
        self.asked.append(1)
        return Gaussian(noise_multiplier=self.noise).pairs(adjacency)

    def release(self, value: Any, *, sensitivity: float, randomness: Any) -> Any:
        raise NotImplementedError


@pytest.mark.thinned(4)
@pytest.mark.parametrize(
    "ledger",
    [
        RenyiFilter(budget=1e9, order=7.25, adjacency="add_remove"),
        ZCDPFilter(epsilon=1e6, delta=1e-5, adjacency="add_remove"),
        GDPFilter(epsilon=1e6, delta=1e-5, adjacency="add_remove"),
        Odometer(adjacency="add_remove"),
    ],
    ids=lambda ledger: type(ledger).__name__,
)
def test_very_many_steps_price_an_equal_step_once_and_lose_nothing(ledger):
    step = Counted(asked=[], noise=30.0 + len(type(ledger).__name__))
    price, once = ledger.price(step), len(step.asked)
    for _ in range(100_000):
        ledger.spend(step)
    assert len(step.asked) == once > 0
    assert ledger._spent == tuple(100_000 * whole(one) for one in price)


def test_they_are_no_accountants():
    assert not {"filters", "odometer", "risk"} & set(available())


MISTAKES = [
    (lambda: RenyiFilter(budget=-1.0, order=2.0, adjacency="add_remove"), "budget must be at least 0, got -1"),
    (lambda: RenyiFilter(budget=1.0, order=1.0, adjacency="add_remove"), "order must be above 1, got 1"),
    (lambda: RenyiFilter(budget=1.0, order=math.inf, adjacency="add_remove"), "order must be finite"),
    (lambda: RenyiFilter(budget=1.0, order=2.0, adjacency="both"), "name must be one of"),
    (lambda: ZCDPFilter(epsilon=1.0, delta=0.0, adjacency="add_remove"), "delta must be above 0, got 0"),
    (lambda: ZCDPFilter(epsilon=1.0, delta=1.0, adjacency="add_remove"), "delta must be below 1, got 1"),
    (lambda: ZCDPFilter(epsilon=math.nan, delta=0.1, adjacency="add_remove"), "epsilon must be a number, got nan"),
    (lambda: GDPFilter(epsilon=1.0, delta=0.0, adjacency="add_remove"), "delta must be above 0, got 0"),
    (lambda: GDPFilter(**WHOLE_RUN, adjacency="add_remove").spend(-1.0), "step must be at least 0"),
    (lambda: ApproximateDPFilter(**WHOLE_RUN, slack=0.06, adjacency="add_remove"), "slack must be at most delta=0.05"),
    (lambda: ApproximateDPFilter(**WHOLE_RUN, slack=0.0, adjacency="add_remove"), "slack must be above 0"),
    (lambda: ApproximateDPFilter(**WHOLE_RUN, slack=0.01, adjacency="add_remove", conversion="x"), "conversion must"),
    (lambda: Odometer(adjacency="add_remove", orders=()), "orders must name at least one"),
    (lambda: Odometer(adjacency="add_remove", orders=(0.5,)), "order must be above 1, got 0.5"),
    (lambda: Odometer(adjacency="add_remove").epsilon(0.0), "delta must be above 0"),
    (lambda: Odometer(adjacency="add_remove").spend(0.5), "Odometer: step must be a process, got 0.5"),
    (lambda: RenyiFilter(budget=1.0, order=2.0, adjacency="add_remove").allows(-0.1), "step must be at least 0"),
    (lambda: RenyiFilter(budget=1.0, order=2.0, adjacency="add_remove").spend("0.1"), "step must be a real number"),
    (lambda: ZCDPFilter(**WHOLE_RUN, adjacency="add_remove").spend(math.inf), "step must be finite"),
    (lambda: ApproximateDPFilter(**WHOLE_RUN, slack=0.01, adjacency="add_remove").spend(0.1), "or a pair"),
    (lambda: ApproximateDPFilter(**WHOLE_RUN, slack=0.01, adjacency="add_remove").spend((0.1, 2)), "delta must lie in"),
]


@pytest.mark.parametrize(("ask", "message"), MISTAKES)
def test_mistakes_are_named(ask, message):
    with pytest.raises(InvalidParameter, match=message):
        ask()


@pytest.mark.parametrize(
    ("budget", "step", "why"),
    [
        (
            ZCDPFilter(**WHOLE_RUN, adjacency="add_remove"),
            Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.1)),
            "no ρ is known for Sampled",
        ),
        (
            ZCDPFilter(**WHOLE_RUN, adjacency="add_remove"),
            ApproximateDP(epsilon=1.0, delta=0.1, adjacency="add_remove"),
            "no ρ is known for ApproximateDP",
        ),
        (ApproximateDPFilter(**WHOLE_RUN, slack=0.01, adjacency="add_remove"), Gaussian(noise_multiplier=1.0), "no b"),
        (
            GDPFilter(**WHOLE_RUN, adjacency="add_remove"),
            Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.1)),
            "its loss has no bound",
        ),
        (
            GDPFilter(**WHOLE_RUN, adjacency="add_remove"),
            ApproximateDP(epsilon=1.0, delta=0.1, adjacency="add_remove"),
            "lose everything",
        ),
        (
            RenyiFilter(budget=1.0, order=2.0, adjacency="add_remove"),
            PureDP(epsilon=1.0, adjacency="replace_one"),
            "replace_one",
        ),
    ],
)
def test_what_has_no_price_is_refused_by_name(budget, step, why):
    with pytest.raises(UnsupportedProcess, match=why):
        budget.allows(step)


OWN_BOUNDS = [
    # a step, the neighbours, an order, and its divergence by closed form or by another route
    (ZCDP(rho=0.3, adjacency="replace_one"), "replace_one", 4.0, 1.2),
    (Repeat(ZCDP(rho=0.3, adjacency="add_remove"), 5), "add_remove", 2.5, 3.75),
    # [WBK19]: log(1 + γ² 2 e) at order 2, γ = .01, ρ = 1/2
    (
        Sampled(ZCDP(rho=0.5, adjacency="replace_one"), FixedSize(batch_size=1, records=100)),
        "replace_one",
        2.0,
        math.log1p(2e-4 * math.e),
    ),
    # E X² = 1 + (e^{1/σ²} − 1)/T for balls in bins, the larger of the two directions
    (
        Allocated(Repeat(Gaussian(noise_multiplier=1.0), 10), BallsInBins()),
        "add_remove",
        2.0,
        math.log1p(0.1 * math.expm1(1.0)),
    ),
]


@pytest.mark.parametrize(("step", "adjacency", "order", "known"), OWN_BOUNDS, ids=[repr(row[0]) for row in OWN_BOUNDS])
def test_steps_that_bound_their_own_divergences_are_priced_by_them_and_refused_in_time(step, adjacency, order, known):
    budget = RenyiFilter(budget=10.5 * known, order=order, adjacency=adjacency)
    assert budget.price(step)[0] >= known * (1 - 1e-15)
    assert budget.price(step)[0] == pytest.approx(known, rel=1e-9)
    assert steps_allowed(budget, step) == 10
    bounds = renyi_steps(step, Adjacency(adjacency))
    assert budget.price(step)[0] == pytest.approx(max(divergences(parts, (order,))[0] for parts in bounds.values()))


@pytest.mark.parametrize("order", [1.5, 3.0, 20.0])
def test_the_smaller_of_a_steps_own_bound_and_that_of_its_pairs_is_its_price(order):
    """Balls in bins have both, but the moments of their pairs, which move rare outcomes to infinity, are infinite."""
    step, adjacency = Allocated(Repeat(Laplace(noise_multiplier=2.0), 4), BallsInBins()), Adjacency.ADD_REMOVE
    own = step.renyi(adjacency).divergence(order)
    pairs = step.pairs(adjacency)
    by_pairs = max(PairDivergence(pair=pairs[direction]).divergence(order) for direction in adjacency.directions)
    price = RenyiFilter(budget=1.0, order=order, adjacency=adjacency).price(step)[0]
    assert price == pytest.approx(min(own, by_pairs), rel=1e-9)
    assert Odometer(adjacency=adjacency, orders=(order,)).price(step)[0] == price
