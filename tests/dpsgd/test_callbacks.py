import io

import pytest
import torch
from rich.console import Console

from dpsgd.callbacks import STOP, asked_to_stop, shown_by
from dpsgd.core.progress import ProgressBar
from dpsgd.descent import Release
from mechanisms import InvalidParameter

RELEASE = Release(step=3, weights_before=torch.zeros(1), noisy_sum=torch.zeros(1), max_grad_norm=1.0)


def test_every_callback_sees_a_release_even_if_one_before_it_stops_the_run():
    seen = []
    callbacks = [lambda release: STOP, seen.append]
    assert asked_to_stop(callbacks, RELEASE) and seen == [RELEASE]
    assert not asked_to_stop([seen.append], RELEASE) and not asked_to_stop([], RELEASE)


@pytest.mark.parametrize("answer", [True, False, 0, "stop", torch.tensor(True)])
def test_an_answer_that_may_or_may_not_mean_to_stop_is_refused(answer):
    with pytest.raises(InvalidParameter, match="train: callbacks must return None or STOP, got"):
        asked_to_stop([lambda release: answer], RELEASE)


class Watching:
    def __init__(self, shown):
        self.shown = shown

    def __call__(self, release):
        return None


def test_lines_that_callbacks_show_stand_under_the_bar_in_a_terminal(monkeypatch):
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr("dpsgd.core.progress.Console", lambda **_: screen)
    callbacks = [Watching("first [line]"), lambda release: None, Watching("second line")]
    with ProgressBar(3, None) as bar:
        bar.advance(1, epsilon=None, report=True)
        bar.tell(shown_by(callbacks), report=True)
    last = screen.file.getvalue().rsplit("private steps", 1)[1]
    assert "1/3" in last and last.index("1/3") < last.index("first [line]") < last.index("second line")
