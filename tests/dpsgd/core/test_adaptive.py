import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from dpsgd import Dataset, mlp, steps, train
from dpsgd.clipping import AdaptiveQuantile
from dpsgd.core.adaptive import AdaptiveClipper
from dpsgd.core.noise import Noise
from dpsgd.core.ranks import Ranks
from dpsgd.core.run_clipping import run_clipping
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import config_of

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
ADAPTIVE = AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=4.0)
STILL = dataclasses.replace(ADAPTIVE, learning_rate=1e-30)  # leaves the bound where it is
CONFIG = config_of(Poisson(probability=0.5), clipping=ADAPTIVE, expected_batch_size=4, steps=20)


def _linear_loss(outputs, targets):
    return outputs[:, 0]  # the gradient is the row of features


def _run(rows, config, *, key="tests of adaptive clipping"):
    data = Dataset(features=torch.tensor(rows).view(len(rows), -1), targets=torch.zeros(len(rows)))
    model = nn.Linear(data.features.shape[1], 1, bias=False)
    return list(steps(model, data, config, loss=_linear_loss, randomness=KeyedSource(key)))


def _moves(rows, others, config):
    """The moves of sums and counts in every step, in units of their noise over the noise multiplier."""
    z, m = config.clipping.sum_noise_multiplier(config.noise_multiplier), config.clipping.count_noise_multiplier
    found = []
    for a, b in zip(_run(rows, config), _run(others, config), strict=True):
        assert a.max_grad_norm == b.max_grad_norm
        by_sum = float((b.noisy_sum - a.noisy_sum).double().norm()) / (z * a.max_grad_norm)
        by_count = (b.noisy_count - a.noisy_count) / (m / 2)
        found.append((by_sum, by_count, config.noise_multiplier * math.hypot(by_sum, by_count)))
    return np.array(found)


ROWS = [[3.0, 4.0], [0.1, 0.0], [0.0, -0.7], [30.0, 1.0]]
LOUD = dataclasses.replace(CONFIG, clipping=STILL, learning_rate=1e-30, noise_multiplier=3.5, max_grad_norm=0.7)


@pytest.mark.parametrize("record", [[0.7, 0.0], [0.0, 70.0], [1e-3, 0.0], [0.0, 0.0], [math.nan, 0.0], [1e38, 1e38]])
def test_one_record_more_moves_sum_and_count_together_by_no_more_than_is_described(record):
    moves = _moves(ROWS, [*ROWS, record], LOUD)
    assert moves[:, 2].max() <= 1 + 1e-6
    if math.isfinite(math.hypot(*record)) and math.hypot(*record) < 1e30:
        expected = min(0.7, math.hypot(*record)) / 0.7, (record != [0.0, 0.0]) / 2
        z = STILL.sum_noise_multiplier(3.5)
        drawn = moves[np.abs(moves[:, 0]) + np.abs(moves[:, 1]) > 1e-6]
        np.testing.assert_allclose(drawn[:, 0], expected[0] / z, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(np.abs(drawn[:, 1]), expected[1] / 2.0, atol=1e-9)
        assert len(drawn) in range(5, 16) or record == [0.0, 0.0]
    else:
        assert not moves.any()


def test_the_longest_move_is_that_of_a_gradient_at_the_bound():
    assert _moves(ROWS, [*ROWS, [0.0, 70.0]], LOUD)[:, 2].max() == pytest.approx(1, rel=1e-5)


def test_a_replaced_record_moves_both_by_twice_that_at_most_and_that_is_attained():
    one, other = [0.6999, 0.0], [-70.0, 0.0]  # within the bound; beyond it, the other way
    moves = _moves([*ROWS, one], [*ROWS, other], LOUD)
    assert moves[:, 2].max() <= 2 + 1e-6
    assert moves[:, 2].max() == pytest.approx(2, rel=1e-3)


def test_a_record_that_adds_nothing_changes_no_bit():
    for record in ([0.0, 0.0], [math.nan, 1.0], [math.inf, 0.0]):
        with_, without = _run([*ROWS, record], CONFIG), _run(ROWS, CONFIG)
        assert [release.noisy_count for release in with_] == [release.noisy_count for release in without]
        assert [release.max_grad_norm for release in with_] == [release.max_grad_norm for release in without]


def test_the_bound_is_a_function_of_what_was_released():
    releases, log_ratio = _run(ROWS, CONFIG), 0.0
    assert releases[0].max_grad_norm == 1.0
    for release in releases:
        assert release.max_grad_norm == pytest.approx(math.exp(log_ratio), rel=1e-12)
        log_ratio -= 0.2 * (release.noisy_count / 4 + 0.5 - 0.5)
    assert len({release.max_grad_norm for release in releases}) == 20


def test_the_noise_of_the_sum_follows_the_bound():
    empty = _run([[0.0, 0.0]], dataclasses.replace(CONFIG, sampling=Poisson(probability=0)))
    noise = Noise(source=KeyedSource("tests of adaptive clipping"), run=0, steps=20, like=torch.zeros(2))
    for release in empty:
        expected = torch.zeros(2)
        noise.add_to(expected, step=release.step, scale=ADAPTIVE.sum_noise_multiplier(1.0) * release.max_grad_norm)
        assert torch.equal(release.noisy_sum, expected)


def _clipper(config=CONFIG):
    return run_clipping(config, nn.Linear(2, 1)).clip


def _seen(norms, factors=None):
    squares = torch.as_tensor(norms, dtype=torch.float64).square()
    return [([squares], [torch.ones(len(squares)) if factors is None else factors])]


def test_the_count_is_of_those_within_the_bound_less_half_of_all():
    quiet = dataclasses.replace(ADAPTIVE, count_noise_multiplier=1e-9)
    clip = _clipper(dataclasses.replace(CONFIG, clipping=quiet, noise_multiplier=0.0))
    seen = _seen([0.5, 1.0, 1.0 + 1e-9, 7.0, 0.0]) + _seen([0.2, 0.3, math.nan], torch.tensor([1.0, 1.0, 0.0]))
    counted = clip.noisy_count(clip.count(seen), source=KeyedSource(0), run=0, step=0)  # 4 of 6
    assert counted == pytest.approx(1.0, abs=1e-7)


def test_the_noise_of_counts_has_the_variance_told_and_is_its_own_in_every_step():
    source, clip = KeyedSource(3), _clipper(dataclasses.replace(CONFIG, clipping=STILL))
    drawn = np.array([clip.noisy_count(0.0, source=source, run=0, step=step) for step in range(4000)])
    assert len(set(drawn)) == 4000
    assert abs(drawn.mean()) < 4 * 2.0 / math.sqrt(4000)
    assert abs(drawn.var() / 4.0 - 1) < 4 * math.sqrt(2 / 4000)
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 4 / math.sqrt(4000)


def test_the_noise_of_a_count_is_a_function_of_run_and_step_and_no_part_of_other_noise():
    source = KeyedSource(3)

    def drawn(run, step):
        return _clipper().noisy_count(0.0, source=source, run=run, step=step)

    assert drawn(0, 5) == drawn(0, 5) != drawn(0, 6)
    assert drawn(2**80, 5) != drawn(0, 5)
    for stream in ("noise", "sampling", "clipping count", "clipping count digits"):
        assert source.reserve(stream, 0) == 0


def test_a_bound_comes_to_the_quantile():
    rng, source = np.random.default_rng(0), KeyedSource(5)
    for quantile in (0.2, 0.5, 0.9):
        ours = AdaptiveQuantile(quantile=quantile, learning_rate=0.2, count_noise_multiplier=10.0)
        config = dataclasses.replace(CONFIG, clipping=ours, expected_batch_size=100, max_grad_norm=0.1)
        clip, bounds = _clipper(config), []
        for step in range(300):
            norms = np.exp(rng.normal(1.0, 0.5, size=rng.poisson(100)))
            clip.noisy_count(clip.count(_seen(norms)), source=source, run=0, step=step)
            bounds.append(clip.max_grad_norm)
        within = 0.5 * (1 + math.erf((np.log(bounds[120:]).mean() - 1.0) / (0.5 * math.sqrt(2))))
        assert within == pytest.approx(quantile, abs=0.03)


def test_whatever_is_counted_the_bound_keeps_its_range():
    wild = dataclasses.replace(ADAPTIVE, learning_rate=1e300)
    clip = _clipper(dataclasses.replace(CONFIG, clipping=wild, expected_batch_size=1e-300, max_grad_norm=1e30))
    for step in range(20):
        clip.noisy_count(clip.count(_seen([5.0] * 3)), source=KeyedSource(1), run=0, step=step)
        assert clip.max_grad_norm in (pytest.approx(1e30 * 2**20), pytest.approx(1e30 / 2**20))


def test_a_state_goes_on_as_if_nothing_had_been():
    whole, source = _clipper(), KeyedSource(2)
    counts = [whole.noisy_count(whole.count(_seen([0.5, 2.0])), source=source, run=0, step=step) for step in range(6)]
    first, second = run_clipping(CONFIG, nn.Linear(2, 1)), run_clipping(CONFIG, nn.Linear(2, 1))
    for step in range(3):
        first.clip.noisy_count(first.clip.count(_seen([0.5, 2.0])), source=source, run=0, step=step)
    second.load_state_dict(first.state_dict())
    assert second.bound == first.bound
    later = [
        second.clip.noisy_count(second.clip.count(_seen([0.5, 2.0])), source=source, run=0, step=step)
        for step in range(3, 6)
    ]
    assert later == counts[3:] and second.bound == whole.max_grad_norm


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({}, r"state must have just log_ratio, got \[\]"),
        ({"log_ratio": 1.0, "more": 1.0}, "state must have just log_ratio"),
        ({"log_ratio": math.nan}, "log_ratio must be a number, got nan"),
        ({"log_ratio": 14.0}, "log_ratio must lie within ±20 log 2, got 14"),
    ],
)
def test_what_is_no_state_is_refused(state, text):
    clip = _clipper()
    with pytest.raises(InvalidParameter, match=f"AdaptiveClipper: {text}"):
        clip.load_state_dict(state)
    assert clip.max_grad_norm == 1.0


def test_a_fixed_bound_has_no_state():
    fixed = run_clipping(config_of(Poisson(probability=0.5)), nn.Linear(2, 1))
    assert fixed.state_dict() == {}
    fixed.load_state_dict({})
    with pytest.raises(InvalidParameter, match=r"state must be empty for a fixed bound, got \['log_ratio'\]"):
        fixed.load_state_dict({"log_ratio": 1.0})


def test_training_keeps_no_example_of_a_step_after_it():
    data = Dataset(features=torch.randn(8, 5), targets=torch.arange(8) % 3)
    seen = []
    result = train(
        mlp(5, (4,), 3), data, CONFIG, loss=CROSS_ENTROPY, randomness=KeyedSource(0), callbacks=[seen.append]
    )
    assert result.process == CONFIG.process()
    assert all(math.isfinite(release.noisy_count) for release in seen)
    clipping = run_clipping(CONFIG, nn.Linear(2, 1))
    clipping.clip.seen = _seen([1.0])
    clipping.end_step(0, source=KeyedSource(0), run=0, ranks=Ranks.present(device=torch.device("cpu")))
    assert clipping.clip.seen == [] and isinstance(clipping.clip, AdaptiveClipper)
