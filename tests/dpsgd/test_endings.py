"""How runs end: after all steps, by a budget, by a callback; and what they say then that they have spent."""

import dataclasses

import pytest
import torch
from torch import nn

from accountant import compute_epsilon
from dpsgd import Dataset, mlp, train
from dpsgd.averaging import ExponentialAverage, TailAverage
from dpsgd.budget import Budget
from dpsgd.callbacks import STOP
from dpsgd.core.parameters import flatten
from dpsgd.logs import CsvLog
from dpsgd.meter import Meter
from dpsgd.optimizers import DPAdam
from dpsgd.schedules import Cosine
from mechanisms import (
    BallsInBins,
    BudgetExceeded,
    InvalidParameter,
    KeyedSource,
    Poisson,
    Shuffled,
    TruncatedPoisson,
)
from tests.dpsgd.schemes import config_of

DATA = Dataset(features=torch.linspace(-1, 1, 40).reshape(8, 5), targets=torch.arange(8) % 3)
DELTA = 1e-5


def _train(config, **options):
    torch.manual_seed(0)
    loss = nn.CrossEntropyLoss(reduction="none")
    return train(mlp(5, (4,), 3), DATA, config, loss=loss, randomness=KeyedSource("endings"), **options)


def _weights(model):
    return flatten(model.parameters())


@pytest.fixture
def full(config):
    """Steps on all records, whose epsilon is had at once."""
    return dataclasses.replace(config, sampling=Poisson(probability=1), noise_multiplier=4.0)


def test_the_step_that_would_exceed_the_budget_is_not_taken(full):
    budget = Budget(epsilon=compute_epsilon(full.process_after(7), delta=DELTA), delta=DELTA)
    seen = []
    result = _train(full, budget=budget, callbacks=[seen.append])
    assert result.executed == len(seen) == 7 and result.process == full.process_after(7)
    assert result.epsilon(delta=DELTA) <= budget.epsilon < compute_epsilon(full.process_after(8), delta=DELTA)
    plain = []
    _train(full, callbacks=[lambda release: plain.append(release) or (STOP if release.step == 6 else None)])
    assert all(torch.equal(a.noisy_sum, b.noisy_sum) for a, b in zip(seen, plain, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampling", "adjacency", "epoch"),
    [
        (BallsInBins(), "zero_out", 2),
        (Shuffled(), "zero_out", 2),
        (TruncatedPoisson(probability=0.4, largest_batch=4), "add_remove", None),
    ],
    ids=str,
)
def test_budgets_of_other_schemes_end_runs_where_their_own_price_exceeds_them(sampling, adjacency, epoch):
    unit = epoch or 1
    config = config_of(sampling, noise_multiplier=3.0, steps=3 * unit, steps_per_epoch=epoch)
    one, two = (compute_epsilon(config.process_after(n * unit), delta=DELTA, adjacency=adjacency) for n in (1, 2))
    result = _train(config, budget=Budget(epsilon=0.5 * (one + two), delta=DELTA, adjacency=adjacency))
    assert result.executed == unit and result.process == config.process_after(unit)
    assert result.epsilon(delta=DELTA, adjacency=adjacency) == one < 0.5 * (one + two) < two


def test_a_budget_that_is_not_used_up_changes_nothing(full):
    free, kept = _train(full), _train(full, budget=Budget(epsilon=1000.0, delta=DELTA))
    assert kept.executed == 20 and kept.process == free.process == full.process()
    assert torch.equal(_weights(kept.model), _weights(free.model))


def test_a_budget_below_one_step_is_refused_and_nothing_is_drawn(full):
    randomness = KeyedSource(0)
    with pytest.raises(BudgetExceeded, match="Budget: epsilon must be at least that of the first step"):
        train(
            mlp(5, (4,), 3),
            DATA,
            full,
            loss=None,
            randomness=randomness,
            budget=Budget(epsilon=0.01, delta=DELTA),
        )
    assert randomness.reserve("runs", 0) == 0


def test_a_run_stopped_by_what_it_showed_has_spent_what_was_planned(config):
    result = _train(config, callbacks=[lambda release: STOP if release.step == 4 else None])
    assert result.executed == 5
    assert result.process == config.process() != config.process_after(5)


def test_a_run_of_epochs_stopped_within_its_first_has_spent_all():
    config = config_of(Shuffled(), steps_per_epoch=3)
    result = _train(config, callbacks=[lambda release: STOP])
    assert result.executed == 1 and result.process == config.process()


def test_a_stopped_run_within_a_budget_has_spent_the_steps_that_fit(full):
    budget = Budget(epsilon=compute_epsilon(full.process_after(7), delta=DELTA), delta=DELTA)
    result = _train(full, budget=budget, callbacks=[lambda release: STOP if release.step == 2 else None])
    assert result.executed == 3 and result.process == full.process_after(7)


def test_the_tail_that_is_averaged_ends_where_the_budget_does(full):
    budget = Budget(epsilon=compute_epsilon(full.process_after(7), delta=DELTA), delta=DELTA)
    seen = []
    result = _train(full, budget=budget, average=TailAverage(steps=3), callbacks=[seen.append])
    after = [*(release.weights_before for release in seen[-2:]), _weights(result.model)]
    torch.testing.assert_close(_weights(result.averaged_model), torch.stack(after).mean(0))


def test_the_average_is_a_model_of_its_own_beside_the_last_one(config):
    plain, averaged = _train(config), _train(config, average=ExponentialAverage(decay=0.5))
    assert plain.averaged_model is None
    assert torch.equal(_weights(plain.model), _weights(averaged.model))
    assert not torch.equal(_weights(averaged.averaged_model), _weights(averaged.model))
    before = _weights(averaged.averaged_model)
    with torch.no_grad():
        averaged.model[0].weight += 1
    assert torch.equal(_weights(averaged.averaged_model), before)


def test_a_run_stopped_before_its_tail_has_no_average(config):
    result = _train(config, average=TailAverage(steps=3), callbacks=[lambda release: STOP])
    assert result.averaged_model is None


def test_optimizer_and_schedule_reach_the_steps(config):
    plain = _train(config)
    adam = _train(config, optimizer=DPAdam)
    scheduled = _train(config, optimizer=DPAdam, schedule=Cosine(steps=20))
    assert len({tuple(_weights(result.model).tolist()) for result in (plain, adam, scheduled)}) == 3
    assert adam.process == scheduled.process == config.process()


def test_a_log_says_what_was_released_and_spent_and_nothing_else(full, tmp_path):
    seen, path = [], tmp_path / "run.csv"
    _train(full, callbacks=[seen.append], logs=[CsvLog(path=path)], meter=Meter(delta=DELTA), schedule=Cosine(steps=20))
    header, *lines = path.read_text().splitlines()
    assert header == "step,learning_rate,noisy_norm,epsilon at delta=1e-05 add_remove"
    for line, release in zip(lines, seen, strict=True):
        step, rate, norm, epsilon = line.split(",")
        assert int(step) == release.step
        assert float(rate) == 0.1 * Cosine(steps=20)(release.step)
        assert float(norm) == float(release.noisy_sum.norm())
        executed = release.step + 1
        expected = compute_epsilon(full.process_after(executed), delta=DELTA) if executed % 2 == 0 else None
        assert epsilon == ("" if expected is None else repr(expected))


def test_the_meter_of_a_budget_is_its_own(full, tmp_path):
    path, budget = tmp_path / "run.csv", Budget(epsilon=1000.0, delta=1e-6)
    _train(full, logs=[CsvLog(path=path)], budget=budget)
    assert path.read_text().startswith("step,learning_rate,noisy_norm,epsilon at delta=1e-06 add_remove\n")


def test_the_bar_says_steps_within_the_budget_and_epsilon(full, capsys):
    budget = Budget(epsilon=compute_epsilon(full.process_after(7), delta=DELTA), delta=DELTA)
    _train(full, budget=budget, progress=True)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"private steps 7/7, epsilon {budget.epsilon:.3f} of 7 at delta=1e-05 add_remove"


def test_an_answer_that_is_no_answer_is_refused_at_the_first_step(config):
    with pytest.raises(InvalidParameter, match="callbacks must return None or STOP, got True"):
        _train(config, callbacks=[lambda release: True])
