import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accountant import compute_epsilon
from dpsgd import DPSGD
from dpsgd.budget import Budget, _last_kept
from dpsgd.core.calibration import excess_of
from mechanisms import (
    BallsInBins,
    BudgetExceeded,
    FixedSize,
    InvalidParameter,
    Poisson,
    Shuffled,
)
from tests.dpsgd.schemes import config_of

DELTA = 1e-5
CHEAP = {  # whose epsilon takes milliseconds
    "Poisson": (config_of(Poisson(probability=0.01), steps=1000), "add_remove"),
    "every record": (config_of(Poisson(probability=1.0), noise_multiplier=3.0), "replace_one"),
    "fixed size": (config_of(FixedSize(batch_size=5, records=5), noise_multiplier=3.0), "replace_one"),
    "shuffled": (config_of(Shuffled(), noise_multiplier=3.0, steps_per_epoch=1), "replace_one"),
    "balls in bins": (config_of(BallsInBins(), noise_multiplier=3.0, steps_per_epoch=1), "add_remove"),
}


@pytest.mark.parametrize("name", CHEAP)
def test_the_last_step_within_the_budget_is_taken_and_the_next_is_not(name):
    config, adjacency = CHEAP[name]

    def spent(executed):
        return compute_epsilon(config.process_after(executed), delta=DELTA, adjacency=adjacency)

    for executed in (800,) if name == "Poisson" else (1, 2, 11):
        for epsilon in (spent(executed), math.nextafter(spent(executed), math.inf)):
            assert Budget(epsilon=epsilon, delta=DELTA, adjacency=adjacency).steps_within(config) == executed
            assert spent(executed) <= epsilon < spent(executed + 1)
        short = Budget(epsilon=math.nextafter(spent(executed), 0), delta=DELTA, adjacency=adjacency)
        if executed == 1:
            with pytest.raises(BudgetExceeded, match=r"epsilon must be at least(.|\n)*No step can be taken"):
                short.steps_within(config)
        else:
            assert short.steps_within(config) == executed - 1
    whole = Budget(epsilon=spent(config.steps), delta=DELTA, adjacency=adjacency)
    assert whole.steps_within(config) == config.steps


@pytest.mark.parametrize("scheme", [Shuffled(), BallsInBins()], ids=str)
def test_an_epoch_is_taken_as_a_whole_or_not_at_all(monkeypatch, scheme):
    priced = []

    def one_per_epoch(process, epsilon, delta, adjacency):  # exact prices of these take minutes
        priced.append(process.times)
        assert (epsilon, delta, adjacency) == (2.5, DELTA, "replace_one")
        return math.log(process.times / epsilon)

    monkeypatch.setattr("dpsgd.budget.excess_of", one_per_epoch)
    config = config_of(scheme, steps=30, steps_per_epoch=3)
    budget = Budget(epsilon=2.5, delta=DELTA, adjacency="replace_one")
    assert budget.steps_within(config) == 6
    assert {2, 3} <= set(priced) <= set(range(1, 11))
    assert config.process_after(6).times == 2 and config.process_after(7).times == 3


def test_a_long_run_is_searched_as_well_as_the_calibration_of_steps_does():
    long = config_of(Poisson(probability=0.01), steps=10**6)
    assert Budget(epsilon=3.0, delta=DELTA).steps_within(long) == 2666  # calibrate_steps has the same doctest


def test_a_run_made_for_a_budget_fits_it():
    config = DPSGD.for_budget(
        epsilon=2.0,
        delta=DELTA,
        max_grad_norm=1.0,
        sampling=Poisson(probability=0.01),
        expected_batch_size=10,
        steps=500,
        learning_rate=0.1,
    )
    assert Budget(epsilon=2.0, delta=DELTA).steps_within(config) == 500
    less = dataclasses.replace(config, noise_multiplier=config.noise_multiplier * 0.999)
    assert Budget(epsilon=2.0, delta=DELTA).steps_within(less) < 500


@given(st.integers(2, 10**9), st.floats(0, 1), st.floats(0.05, 3), st.floats(-2, 2))
def test_the_search_finds_the_last_one_of_any_rising_cost_in_few_calls(total, where, power, bend):
    last = min(max(1, round(total**where)), total - 1)
    calls = []

    def excess(n):
        calls.append(n)
        straight = power * math.log(n / (last + 0.5))
        return max(-3.0, min(3.0, straight + bend * straight * abs(straight)) if bend > 0 else straight)

    assert _last_kept(excess, total) == last
    assert len(calls) <= 40


def test_a_cost_of_one_rounding_above_the_budget_exceeds_it():
    process = config_of(Poisson(probability=0.3)).process()
    epsilon = compute_epsilon(process, delta=DELTA)
    for _ in range(5):
        assert excess_of(process, epsilon, DELTA, "add_remove") <= 0
        short = math.nextafter(epsilon, 0)
        assert excess_of(process, short, DELTA, "add_remove") > 0
        process = dataclasses.replace(process, times=process.times + 1)
        epsilon = compute_epsilon(process, delta=DELTA)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"epsilon": 0.0}, "Budget: epsilon must be above 0, got 0.0"),
        ({"epsilon": math.inf}, "Budget: epsilon must be finite, got inf"),
        ({"delta": 0.0}, "Budget: delta must be above 0, got 0.0"),
        ({"delta": 1.5}, r"Budget: delta must lie in \[0, 1\], got 1.5"),
        ({"adjacency": "both"}, "Adjacency: name must be one of"),
    ],
)
def test_a_budget_checks_its_numbers(fields, text):
    with pytest.raises(InvalidParameter, match=text):
        Budget(**{"epsilon": 1.0, "delta": DELTA, **fields})


def test_a_budget_is_about_neighbours_that_the_scheme_has():
    with pytest.raises(InvalidParameter, match="Budget: adjacency must be 'replace_one' or 'zero_out'"):
        Budget(epsilon=1.0, delta=DELTA).steps_within(config_of(FixedSize(batch_size=3, records=7)))
