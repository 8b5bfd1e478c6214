"""What the laws are worth: each holds where an accountant is at home, and none for one that always answers [0, ∞]."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from accountant.core.base import Accountant
from accountant.core.curve import Curve
from accountant.core.profile import Profile
from mechanisms import Compose
from mechanisms.core.bounds import Bounds
from tests.contracts import test_laws as laws
from tests.contracts.budgets import BUDGETS, HOMES, answer, certified
from tests.contracts.coarse import ACCOUNTANTS, ROUTES
from tests.strategies import ADD_REMOVE, Tabulated

ONE = Tabulated(p=(0.5, 0.25, 0.25), q=(0.25, 0.25, 0.5))
OTHER = Tabulated(p=(0.25, 0.75), q=(0.125, 0.875))


def inner(law):
    return law.hypothesis.inner_test


LAWS = {
    "repeat": lambda one, home: inner(laws.test_repeating_is_composing_with_itself)(one, home, 1),
    "order": lambda one, home: laws.order_makes_no_difference(one, home, Compose(())),
    "convex": lambda one, home: inner(laws.test_delta_never_rises_with_epsilon_and_is_convex_in_its_exponential)(
        one, home
    ),
    "inverse": lambda one, home: inner(laws.test_epsilon_of_delta_of_epsilon_is_no_larger)(one, home, 0.7),
    "sampling": lambda one, home: inner(laws.test_poisson_and_fixed_size_sampling_never_hurt)(one, (home, home)),
    "processed": lambda one, home: inner(laws.test_post_processing_never_hurts)(one, ONE, 1, 1e-5),
    "directions": lambda one, home: inner(
        laws.test_the_worse_of_two_directions_that_are_fixed_for_the_whole_run_counts
    )(one, ONE, OTHER, 1),
    "json": lambda one, home: inner(laws.test_what_was_priced_comes_back_from_json_with_its_price)(one, home),
    "empty": lambda one, home: laws.test_the_empty_process_costs_nothing(one, ADD_REMOVE, Compose(())),
    "intersect": lambda one, home: laws.intersect({one.name: one}, home),
}
every_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)


class Nothing(Curve):
    """Any δ and any ε at all."""

    def delta(self, epsilon):
        return Bounds(lower=np.zeros_like(epsilon), upper=np.ones_like(epsilon))

    def epsilon(self, delta):
        return Bounds(lower=0.0, upper=math.inf)


@dataclass(frozen=True, slots=True)
class Vacuous(Accountant):
    """An accountant under the name of another that answers [0, ∞] to everything, which is sound."""

    pretended: str

    @property
    def name(self):
        return self.pretended

    def profile(self, process, *, adjacency):
        curves = tuple((direction, Nothing()) for direction in adjacency.directions)
        return Profile(curves=curves, adjacency=adjacency, method=self.name)


@pytest.mark.thinned(7)  # of 10 laws for 13 accountants: each of both is met
@every_law
@pytest.mark.parametrize("name", ROUTES)
def test_every_law_holds_where_an_accountant_is_at_home(name, law):
    law(ROUTES[name], HOMES[name])


@pytest.mark.thinned(3)
@every_law
@pytest.mark.parametrize("name", ROUTES)
def test_no_law_holds_for_an_accountant_that_always_answers_anything(name, law):
    with pytest.raises(AssertionError):
        law(Vacuous(pretended=name), HOMES[name])


def test_a_finer_grid_of_an_accountant_that_always_answers_anything_breaks_the_law():
    with pytest.raises(AssertionError):
        laws.finer_is_no_wider(lambda **settings: Vacuous(pretended="pld"), HOMES["pld"])


@pytest.mark.parametrize("name", ROUTES)
def test_two_sided_routes_are_asked_for_lower_ends(name):
    """An honest upper end with the lower end 0 breaks the budget of those that bracket."""
    home = HOMES[name]
    claim = ACCOUNTANTS[name].profile(home.process, adjacency=home.adjacency).epsilon(home.delta)
    budget = BUDGETS[name]
    assert not budget.lower or claim.lower >= certified(home).lower / budget.factor - budget.slack > 0


def test_every_accountant_has_a_budget_and_is_at_home_within_it():
    assert set(BUDGETS) == set(HOMES) == set(ROUTES)
    for name, home in HOMES.items():
        found = ROUTES[name].profile(home.process, adjacency=home.adjacency)
        assert answer(ROUTES[name], found, home).upper < math.inf
