import pytest
import torch

from dpsgd.averaging import ExponentialAverage, RunningAverage, TailAverage
from mechanisms import InvalidParameter

STEPS = 30
WEIGHTS = [
    [torch.randn(shape, generator=torch.Generator().manual_seed(step), dtype=torch.float64) for shape in ((2, 3), (3,))]
    for step in range(STEPS)
]
AVERAGES = {
    "exponential": (ExponentialAverage(decay=0.8), [0.8 ** (STEPS - 1 - step) for step in range(STEPS)]),
    "forgetting": (ExponentialAverage(decay=0), [0.0] * (STEPS - 1) + [1.0]),
    "long memory": (ExponentialAverage(decay=1 - 1e-12), [1.0] * STEPS),
    "tail": (TailAverage(steps=7), [0.0] * (STEPS - 7) + [1.0] * 7),
    "last": (TailAverage(steps=1), [0.0] * (STEPS - 1) + [1.0]),
    "all": (TailAverage(steps=STEPS), [1.0] * STEPS),
    "more than all": (TailAverage(steps=STEPS + 1), [1.0] * STEPS),
}


def _taken(running, steps):
    for step in steps:
        running.add(step, WEIGHTS[step])
    return running


@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_is_the_weighted_mean_of_all_weights(name):
    average, counts = AVERAGES[name]
    found = _taken(RunningAverage(average=average, steps=STEPS), range(STEPS)).values
    for place, value in enumerate(found):
        all_of_them = torch.stack([weights[place] for weights in WEIGHTS])
        by = torch.tensor(counts, dtype=torch.float64) / sum(counts)
        tolerance = 1e-3 if name == "long memory" else 1e-12  # 1 − decay has four digits there
        torch.testing.assert_close(value, torch.tensordot(by, all_of_them, dims=1), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("stopped", [0, 5, STEPS - 1])
def test_an_average_goes_on_bit_for_bit_from_its_state(name, stopped):
    average, _ = AVERAGES[name]
    whole = _taken(RunningAverage(average=average, steps=STEPS), range(STEPS))
    begun = _taken(RunningAverage(average=average, steps=STEPS), range(stopped))
    resumed = RunningAverage(average=average, steps=STEPS)
    resumed.load_state_dict(begun.state_dict())
    kept = [value.clone() for value in begun.values]
    _taken(resumed, range(stopped, STEPS))
    assert all(map(torch.equal, resumed.values, whole.values)) and len(resumed.values) == 2
    assert all(map(torch.equal, begun.values, kept))  # what was loaded is a copy


def test_before_the_tail_there_is_no_average():
    assert _taken(RunningAverage(average=TailAverage(steps=3), steps=STEPS), range(STEPS - 3)).values == []


def test_an_average_keeps_no_hold_of_the_weights():
    weights = [torch.zeros(2)]
    running = RunningAverage(average=ExponentialAverage(decay=0.5), steps=3)
    running.add(0, weights)
    weights[0] += 3
    assert not running.values[0].any()
    running.add(1, weights)
    torch.testing.assert_close(running.values[0], torch.full((2,), 2.0))
    torch.testing.assert_close(weights[0], torch.full((2,), 3.0))


def test_the_state_of_something_else_is_refused():
    running = RunningAverage(average=TailAverage(steps=3), steps=STEPS)
    with pytest.raises(InvalidParameter, match=r"state must hold \['average.0'\], got \['parameter.0.step'\]"):
        running.load_state_dict({"parameter.0.step": 3})


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ExponentialAverage(decay=1), r"ExponentialAverage: decay must be below 1(.|\n)*TailAverage"),
        (lambda: ExponentialAverage(decay=-0.1), r"ExponentialAverage: decay must lie in \[0, 1\]"),
        (lambda: TailAverage(steps=0), "TailAverage: steps must be at least 1, got 0"),
        (lambda: TailAverage(steps=0.25), "TailAverage: steps must be a whole number, got 0.25"),
    ],
)
def test_averages_check_their_numbers(make, text):
    with pytest.raises(InvalidParameter, match=text):
        make()
