import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from dpsgd.logs import CsvLog, Row, TensorBoardLog
from dpsgd.meter import Meter
from mechanisms import InvalidParameter

METER = Meter(delta=1e-5, adjacency="replace_one")
HEADER = "step,learning_rate,noisy_norm,epsilon at delta=1e-05 replace_one"


def _row(step, *, norm=2.5):
    return Row(step=step, learning_rate=0.1, noisy_norm=norm, epsilon=0.5 if step % 2 else None)


def _written(path, steps, *, meter=METER, norm=2.5):
    log = CsvLog(path=path)
    log.begin(meter)
    for step in steps:
        log.write(_row(step, norm=norm))
    log.end()
    return path.read_text().splitlines()


def test_a_line_says_step_rate_norm_and_epsilon_where_it_was_asked_for(tmp_path):
    assert _written(tmp_path / "run.csv", range(3)) == [HEADER, "0,0.1,2.5,", "1,0.1,2.5,0.5", "2,0.1,2.5,"]


def test_without_a_meter_there_is_no_column_of_epsilon(tmp_path):
    assert _written(tmp_path / "run.csv", range(1), meter=None) == ["step,learning_rate,noisy_norm", "0,0.1,2.5"]


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path):
    log = CsvLog(path=tmp_path / "run.csv")
    log.begin(None)
    for step in range(3):
        log.write(_row(step))
        assert len((tmp_path / "run.csv").read_text().splitlines()) == step + 2
    log.end()


def test_a_run_that_goes_on_replaces_what_was_written_after_its_checkpoint(tmp_path):
    path = tmp_path / "run.csv"
    _written(path, range(5))
    with path.open("a") as file:
        file.write("5,0.1,2")  # killed in the middle of a line
    resumed = _written(path, range(3, 7), norm=9.0)
    assert [line.split(",")[0] for line in resumed[1:]] == list("0123456")
    assert [line.split(",")[2] for line in resumed[1:]] == ["2.5"] * 3 + ["9.0"] * 4
    assert [file.name for file in tmp_path.iterdir()] == ["run.csv"]


def test_a_run_from_the_beginning_replaces_all(tmp_path):
    _written(tmp_path / "run.csv", range(5))
    assert len(_written(tmp_path / "run.csv", range(2))) == 3


def test_a_run_without_a_step_leaves_an_older_log_alone(tmp_path):
    _written(tmp_path / "run.csv", range(5))
    assert len(_written(tmp_path / "run.csv", range(0))) == 6


OTHERS = {
    "columns": b"name,salary\nAda,3\n",
    "meter": (HEADER.replace("1e-05", "1e-06") + "\n0,0.1,1.0,\n").encode(),
    "one line without an end": b"my only copy",
    "no text": b"\xff\xfe\x00",
    "rows of something else": (HEADER + "\nAda,0.1,1.0,\n").encode(),
}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_a_file_that_is_no_log_of_these_columns_is_left_alone(tmp_path, content):
    path = tmp_path / "people.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidParameter, match=r"CsvLog: path must hold no file but a log(.|\n)*a path of its own"):
        CsvLog(path=path).begin(METER)
    assert path.read_bytes() == content


def test_the_beginning_of_a_header_is_a_log_and_a_folder_is_none(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text(HEADER[:7])
    assert len(_written(path, range(2))) == 3
    with pytest.raises(InvalidParameter, match="CsvLog: path must hold no file but a log"):
        CsvLog(path=tmp_path).begin(METER)


def test_a_log_lies_in_a_folder(tmp_path):
    with pytest.raises(InvalidParameter, match="CsvLog: path must lie in a folder that exists"):
        CsvLog(path=tmp_path / "none" / "run.csv").begin(METER)


def test_curves_need_tensorboard(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InvalidParameter, match=r'must be installed, and is not: pip install "dp-calipers\[tracking\]"'):
        TensorBoardLog(directory="runs").begin(None)


def test_curves_are_of_step_rate_norm_and_epsilon_where_it_was_asked_for(monkeypatch):
    drawn, times, began = [], [], time.time()

    class Writer:
        def __init__(self, directory, purge_step):
            drawn.append((directory, purge_step))

        def add_scalar(self, tag, value, step, walltime):
            drawn.append((tag, value, step))
            times.append(walltime)

        def flush(self):
            drawn.append("on disk")

        def close(self):
            drawn.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    log = TensorBoardLog(directory="runs")
    log.begin(METER)
    log.write(_row(4))
    log.write(_row(5))
    log.end()
    assert drawn == [
        ("runs", 4),
        ("training/learning_rate", 0.1, 4),
        ("training/noisy_norm", 2.5, 4),
        "on disk",
        ("training/learning_rate", 0.1, 5),
        ("training/noisy_norm", 2.5, 5),
        ("privacy/epsilon at delta=1e-05 replace_one", 0.5, 5),
        "on disk",
        "closed",
    ]
    assert len(set(times)) == 1 and began <= times[0] <= time.time()


@pytest.mark.slow
def test_every_point_outlives_a_run_that_is_killed_and_one_that_goes_on_shows_each_step_once(tmp_path):
    pytest.importorskip("tensorboard")
    import torch.utils.tensorboard  # noqa: F401
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps in (range(20), range(14, 30), range(30, 31)):
        child = os.fork()
        if child == 0:
            log = TensorBoardLog(directory=tmp_path)
            log.begin(METER)
            for step in steps:
                log.write(_row(step, norm=float(steps.start)))
            os.kill(os.getpid(), signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    events = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    events.Reload()
    drawn = [(event.step, event.value) for event in events.Scalars("training/noisy_norm")]
    assert drawn == [(step, 0.0 if step < 14 else 14.0 if step < 30 else 30.0) for step in range(31)]
    assert len({event.wall_time for event in events.Scalars("training/noisy_norm")}) == 3  # of three processes
    assert [event.step for event in events.Scalars(f"privacy/{HEADER.split(',')[-1]}")] == list(range(1, 31, 2))
