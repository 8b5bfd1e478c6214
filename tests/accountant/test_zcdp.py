"""Zero-concentrated differential privacy: published values, the ρ of each kind of step, and who is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from accountant import epsilon_bounds
from accountant.core.concentrated import concentration_of
from accountant.core.renyi_steps import divergences, renyi_steps
from accountant.zcdp import ZeroConcentrated
from mechanisms import (
    ZCDP,
    ApproximateDP,
    Compose,
    Gaussian,
    InvalidParameter,
    Laplace,
    Poisson,
    PureDP,
    RandomizedResponse,
    Repeat,
    Sampled,
    UnsupportedProcess,
)
from tests.strategies import ADD_REMOVE, REPLACE_ONE, processes


def epsilon(process, delta, adjacency="add_remove", accountant="zcdp"):
    return epsilon_bounds(process, delta=delta, adjacency=adjacency, accountant=accountant).upper


# ρ, ε by the conversion of [CKS20] at δ = 1e-6, and by ρ + 2 √(ρ log 1/δ) [BS16, Prop 1.3]
PUBLISHED = [
    (0.01, 0.6216926560997242, 0.7533844377699678),
    (0.1, 2.1419389410099443, 2.4507880004767997),
    (0.5, 5.2215348095554415, 5.756521769756932),
    (1.0, 7.766217, 8.433844),
]


@pytest.mark.parametrize(("rho", "value", "older"), PUBLISHED)
def test_published_values_are_met_by_guarantees_and_by_gaussians(rho, value, older):
    stated = epsilon(ZCDP(rho=rho, adjacency="add_remove"), 1e-6)
    assert stated == pytest.approx(value, abs=1e-6)
    assert stated < older == pytest.approx(rho + 2 * math.sqrt(rho * math.log(1e6)), abs=1e-6)
    assert epsilon(Gaussian(noise_multiplier=1 / math.sqrt(2 * rho)), 1e-6) == pytest.approx(stated, rel=1e-9)


def test_the_keyboards_of_2022_are_met():
    # DP-FTRL of Gboard: 79 unit steps of σ = 7 in the worst case, ρ = 79/98, published .81 and ε = 8.9 at δ = 1e-10.
    trained = Repeat(Gaussian(noise_multiplier=7.0), 79)
    assert epsilon(trained, 1e-10, "zero_out") == pytest.approx(8.9, abs=5e-3)
    assert epsilon(ZCDP(rho=79 / 98, adjacency="zero_out"), 1e-10, "zero_out") == pytest.approx(8.89861, abs=2e-4)


@given(st.floats(0.01, 30.0))
def test_rho_is_at_least_the_largest_divergence_by_order_and_tight(strength):
    steps = {
        ADD_REMOVE: (Gaussian(noise_multiplier=1 / strength), Laplace(noise_multiplier=1 / strength)),
        REPLACE_ONE: (
            RandomizedResponse(epsilon=strength),
            PureDP(epsilon=strength, adjacency="replace_one"),
            RandomizedResponse(epsilon=strength, categories=30),
        ),
    }
    orders = 1.0 + 2.0 ** np.arange(-9.0, 14.0)
    for adjacency, kinds in steps.items():
        for step in kinds:
            seen = renyi_steps(step, adjacency)[adjacency.directions[0]]
            largest = float(np.max(np.array(divergences(seen, tuple(orders.tolist()))) / orders))
            rho = concentration_of(step, adjacency)
            assert rho >= largest * (1 - 1e-7)
            if getattr(step, "categories", 2) == 2:  # more categories show less
                assert rho <= largest * (1 + 0.01)


@given(st.floats(1e-3, 50.0))
def test_rho_of_a_pure_guarantee_is_the_relative_entropy_of_an_answer(strength):
    with mp.workdps(30):
        exact = strength * mp.tanh(mp.mpf(strength) / 2)
        rho = concentration_of(PureDP(epsilon=strength, adjacency="replace_one"), REPLACE_ONE)
        assert exact <= rho <= min(exact * (1 + mp.mpf("1e-9")), mp.mpf(strength) ** 2 / 2 * (1 + mp.mpf("1e-9")))


@given(processes(ADD_REMOVE, most=2), st.sampled_from((1e-3, 1e-6)))
def test_it_is_never_below_rdp(process, delta):
    if ZeroConcentrated().supports(process, ADD_REMOVE):
        assert epsilon(process, delta) * (1 + 1e-12) >= epsilon(process, delta, accountant="rdp")


def test_what_has_no_rho_is_refused_by_name():
    sampled = Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.1))
    approximate = ApproximateDP(epsilon=1.0, delta=1e-6, adjacency="add_remove")
    shown = Gaussian(noise_multiplier=0.0)
    for process in (sampled, approximate, shown, Compose((Gaussian(noise_multiplier=1.0), Repeat(sampled, 2)))):
        with pytest.raises(UnsupportedProcess, match=r"zcdp: no ρ is known for (.|\n)*Use accountant='rdp'"):
            ZeroConcentrated().profile(process, adjacency=ADD_REMOVE)
    with pytest.raises(UnsupportedProcess, match="about replace_one neighbours"):
        ZeroConcentrated().profile(ZCDP(rho=1.0, adjacency="replace_one"), adjacency=ADD_REMOVE)


def test_steps_beyond_what_floats_count_are_refused():
    with pytest.raises(InvalidParameter, match="at most 2"):
        ZeroConcentrated().profile(Repeat(Gaussian(noise_multiplier=1.0), 2**60), adjacency=ADD_REMOVE)
