import dataclasses
import io
import math

import pytest
import torch
from rich.console import Console

from accountant import compute_epsilon
from dpsgd.core import progress
from dpsgd.core.progress import ProgressBar
from dpsgd.core.reporting import Reporting
from dpsgd.descent import Release
from dpsgd.logs import Log
from dpsgd.meter import ANSWERS, Meter, is_due
from mechanisms import FixedSize, InvalidParameter, NumericalFailure, Poisson, WithReplacement
from tests.dpsgd.schemes import config_of


class Kept(Log):
    def __init__(self):
        self.rows, self.calls = [], []

    def begin(self, meter):
        self.calls.append(meter)

    def write(self, row):
        self.rows.append(row)

    def end(self):
        self.calls.append("end")


def _reported(config, *, steps=None, **options):
    """Return the rows of a log of a run on sums (step, 0)."""
    log = Kept()
    defaults = {"steps": steps or config.steps, "schedule": None, "meter": None, "logs": [log], "progress": False}
    with Reporting(config=config, **{**defaults, **options}) as reporting:
        for step in range(steps or config.steps):
            sums = torch.tensor([step * 1.0, 0.0])
            reporting.report(Release(step=step, weights_before=torch.zeros(2), noisy_sum=sums, max_grad_norm=1.0))
    return log.rows


@pytest.mark.parametrize("steps", [1, 3, 10, 11, 99, 1000])
def test_about_ten_answers_are_given_in_a_run_the_last_one_at_its_end(steps):
    due = [executed for executed in range(1, steps + 1) if is_due(executed, every=None, steps=steps)]
    assert due[-1] == steps and len(due) <= ANSWERS + 1 and len(due) >= min(steps, ANSWERS // 2)


def test_a_row_says_the_epsilon_of_the_steps_up_to_it(config):
    config = dataclasses.replace(config, sampling=Poisson(probability=1))
    rows = _reported(config, meter=Meter(delta=1e-5, every=8))
    for row in rows:
        if row.step + 1 in (8, 16, 20):
            assert row.epsilon == compute_epsilon(config.process_after(row.step + 1), delta=1e-5)
        else:
            assert row.epsilon is None
    assert [(row.step, row.noisy_norm) for row in rows] == [(step, step) for step in range(20)]


def test_a_row_says_the_scheduled_learning_rate(config):
    assert [row.learning_rate for row in _reported(config, steps=2, schedule=lambda step: 1 / (1 + step))] == [
        0.1,
        0.05,
    ]


def test_without_a_meter_nothing_is_said_of_epsilon(config):
    assert all(row.epsilon is None for row in _reported(config))


def test_an_answer_that_is_not_found_ends_no_run(config, monkeypatch):
    def fail(*args, **options):
        raise NumericalFailure("too hard")

    monkeypatch.setattr("dpsgd.meter.compute_epsilon", fail)
    assert all(row.epsilon is None for row in _reported(config, meter=Meter(delta=1e-5)))


def test_neighbours_that_the_scheme_has_not_are_refused_on_entering():
    config = config_of(FixedSize(batch_size=7, records=7))
    with pytest.raises(InvalidParameter, match="Meter: adjacency must be 'replace_one' or 'zero_out'"):
        _reported(config, meter=Meter(delta=1e-5))
    assert _reported(config, meter=Meter(delta=1e-5, adjacency="zero_out"))[-1].epsilon > 0


def test_schemes_that_are_dear_to_price_are_priced_once_at_the_end(monkeypatch):
    config = config_of(FixedSize(batch_size=3, records=7), steps=20)
    asked = []
    monkeypatch.setattr("dpsgd.meter.compute_epsilon", lambda process, **_: asked.append(process) or 1.25)
    rows = _reported(config, meter=Meter(delta=1e-5, adjacency="zero_out", every=10))
    assert asked == [config.process()] and rows[-1].epsilon == 1.25
    assert [row.step for row in rows if row.epsilon is not None] == [9, 19]


@pytest.mark.parametrize("probability", [0.01, 0.5, 1.0])
def test_quick_answers_hold_and_rise(probability, monkeypatch):
    """On a scheme whose exact price is had at once, asked as if it were not."""
    monkeypatch.setattr("dpsgd.meter.QUICK", ())
    config = config_of(Poisson(probability=probability), steps=1000)
    for executed, before in ((1000, 100), (100, 10)):
        quick = [Meter(delta=1e-5).quick_epsilon(config, n) for n in (before, executed)]
        assert quick[0] < quick[1] and quick[1] >= compute_epsilon(config.process_after(executed), delta=1e-5)


def test_an_answer_that_divergences_do_not_give_waits_for_the_end():
    config = config_of(WithReplacement(batch_size=256, records=60_000))
    assert Meter(delta=1e-5, adjacency="replace_one").quick_epsilon(config, 6) is None


def test_logs_are_closed_whatever_ends_the_run(config):
    class Refusing(Kept):
        def begin(self, meter):
            raise InvalidParameter("no room")

    first, second = Kept(), Refusing()
    options = {"config": config, "steps": 20, "schedule": None, "meter": None, "progress": False}
    with pytest.raises(InvalidParameter, match="no room"), Reporting(logs=[first, second], **options):
        pass
    assert first.calls == [None, "end"]
    third = Kept()
    with pytest.raises(KeyboardInterrupt), Reporting(logs=[third], **options):
        raise KeyboardInterrupt
    assert third.calls == [None, "end"]


def _shown(monkeypatch, *, terminal, meter):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80)
    monkeypatch.setattr(progress, "Console", lambda **options: console)
    with ProgressBar(40, meter) as bar:
        for executed in range(1, 41):
            due = is_due(executed, every=20, steps=40)
            bar.advance(executed, epsilon=executed / 40 if due and meter else None, report=due)
    return stream.getvalue()


def test_where_there_is_no_terminal_a_line_is_written_whenever_the_meter_is_asked(monkeypatch):
    assert _shown(monkeypatch, terminal=False, meter=Meter(delta=1e-5)).splitlines() == [
        "private steps 20/40, epsilon 0.5 of 20 at delta=1e-05 add_remove",
        "private steps 40/40, epsilon 1 of 40 at delta=1e-05 add_remove",
    ]
    assert _shown(monkeypatch, terminal=False, meter=None).splitlines() == [
        "private steps 20/40",
        "private steps 40/40",
    ]


def test_in_a_terminal_a_bar_says_steps_and_epsilon(monkeypatch):
    shown = _shown(monkeypatch, terminal=True, meter=Meter(delta=1e-5))
    assert shown.startswith("private steps: epsilon at delta=1e-05 add_remove")
    assert "40/40" in shown and "epsilon 1 of 40" in shown
    assert "private steps 20/40" not in shown


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"delta": 0.0}, "Meter: delta must be above 0"),
        ({"delta": float("nan")}, "Meter: delta must be a number"),
        ({"every": 0}, "Meter: every must be at least 1, got 0"),
        ({"adjacency": "both"}, "Adjacency: name must be one of"),
    ],
)
def test_a_meter_checks_its_numbers(fields, text):
    with pytest.raises(InvalidParameter, match=text):
        Meter(**{"delta": 1e-5, **fields})


@pytest.mark.parametrize(("epsilon", "shown"), [(5.7780093, "5.779"), (0.00012341, "0.0001235"), (math.inf, "inf")])
def test_the_bar_rounds_epsilon_up(epsilon, shown, capsys):
    with ProgressBar(4, Meter(delta=1e-5)) as bar:
        bar.advance(4, epsilon=epsilon, report=True)
    assert f"epsilon {shown} of 4" in capsys.readouterr().err
