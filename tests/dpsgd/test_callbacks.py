import pytest
import torch

from dpsgd.callbacks import STOP, asked_to_stop
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
