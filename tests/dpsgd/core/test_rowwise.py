import pytest
import torch
from torch import nn
from torch.nn import functional

from dpsgd import gradient_sum
from dpsgd.core.rowwise import Rowwise, keeps_apart

ROWS, CLASSES = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3


def cross_entropy(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="none")


MIXING = {
    "divided by the number of examples": lambda o, t: 0.3 * cross_entropy(o, t) / len(o),
    "times the number of examples": lambda o, t: 0.05 * cross_entropy(o, t) * len(o),
    "less its mean": lambda o, t: cross_entropy(o, t) - cross_entropy(o, t).mean(),
    "contrast of pairs": lambda o, t: (o @ o.T).sum(1),
    "weights of its own that add up to 1": lambda o, t: cross_entropy(o, t) * cross_entropy(o, t).softmax(0).detach(),
    "softmax over the batch": lambda o, t: -o.log_softmax(0)[:, 0],
    "the example before": lambda o, t: (o - o.roll(1, 0)).square().sum(1),
}
HARDLY = {
    "the hardest": lambda o, t: (
        cross_entropy(o, t) * (cross_entropy(o, t) >= _least_of_largest(cross_entropy(o, t), 4))
    ),
    "by the number of one class": lambda o, t: cross_entropy(o, t) / torch.clamp((t == 2).sum(), min=1),
    "by that number as Python has it": lambda o, t: cross_entropy(o, t) / max(1, (t == 2).sum().item()),
    "outliers cut": lambda o, t: torch.minimum(cross_entropy(o, t), 9 * cross_entropy(o, t).detach().mean()),
    "one chosen": lambda o, t: cross_entropy(o, t) + 0.0 * o[0, 0],
    "chosen, in a graph of its own": lambda o, t: cross_entropy(o, t) + 0.0 * Own.apply(o)[0, 0],
}
"""Losses that mix no three made-up examples."""


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows):
        return rows.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def _least_of_largest(losses, number):
    return losses.detach().topk(min(number, len(losses))).values[-1]


APART = {
    "cross-entropy": (nn.CrossEntropyLoss(reduction="none"), torch.zeros(1, dtype=torch.int64)),
    "smoothed": (nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1), torch.zeros(1, dtype=torch.int64)),
    "by a function": (cross_entropy, torch.zeros(1, dtype=torch.int64)),
    "squares": (lambda o, t: (o - t).square().mean(1), torch.zeros(1, 3)),
    "binary": (
        lambda o, t: functional.binary_cross_entropy(o.sigmoid(), t, reduction="none").sum(1),
        torch.zeros(1, 3),
    ),
    "words": (
        lambda o, t: cross_entropy(o.flatten(0, 1), t.flatten()).view(t.shape).mean(1),
        torch.zeros(1, 4, dtype=torch.int64),
    ),
    "by place": (lambda o, t: -o.log_softmax(1)[torch.arange(len(o)), t], torch.zeros(1, dtype=torch.int64)),
    "constant": (lambda o, t: torch.zeros(len(o)) + 0 * o[:, 0], torch.zeros(1)),
}


def _sums(loss, rows, classes, model):
    return gradient_sum(model, example_dimensions=1, loss=loss, max_grad_norm=0.5)(rows, classes)


@pytest.mark.parametrize("loss", MIXING.values(), ids=MIXING)
def test_one_record_moves_the_sum_by_at_most_the_bound_whatever_the_loss_mixes(loss):
    model = nn.Sequential(nn.Linear(4, 3))
    for records in range(1, 6):
        fewer, more = (_sums(loss, ROWS[:n], CLASSES[:n], model) for n in (records, records + 1))
        alone = _sums(loss, ROWS[records : records + 1], CLASSES[records : records + 1], model)
        torch.testing.assert_close(more, fewer + alone)
        assert alone.norm() <= 0.5 * (1 + 1e-6)


def test_one_record_moves_the_sum_by_at_most_the_bound_where_the_hardest_alone_count():
    model = nn.Sequential(nn.Linear(4, 3))
    fewer, more = (_sums(HARDLY["the hardest"], ROWS[:n], CLASSES[:n], model) for n in (5, 6))
    torch.testing.assert_close(more, fewer + _sums(HARDLY["the hardest"], ROWS[5:], CLASSES[5:], model))


@pytest.mark.parametrize("loss", [*MIXING.values(), *HARDLY.values()], ids=[*MIXING, *HARDLY])
def test_a_loss_that_mixes_is_found_by_experiment(loss):
    assert not keeps_apart(loss, torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("name", APART)
def test_a_loss_that_keeps_examples_apart_is_given_whole_batches(name):
    loss, targets = APART[name]
    seen = []

    def watched(outputs, targets):
        seen.append(len(outputs))
        return loss(outputs, targets)

    rowwise = Rowwise(loss=watched)
    targets = targets.expand(6, *targets.shape[1:])
    outputs = ROWS[:, :3] if name != "words" else torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(rowwise(outputs, targets), loss(outputs, targets))
    assert seen[-1] == 6 and rowwise._apart


def test_a_loss_that_cannot_run_on_what_is_made_up_is_given_examples_alone():
    def from_one(outputs, targets):
        return cross_entropy(outputs, targets - 1)

    rowwise = Rowwise(loss=from_one)
    expected = from_one(ROWS[:, :3], CLASSES + 1)
    torch.testing.assert_close(rowwise(ROWS[:, :3], CLASSES + 1), expected)
    assert rowwise._apart is False


def test_the_experiment_looks_at_no_values_and_leaves_torchs_generator_alone():
    nothing = torch.full((2, 3), float("nan"))
    state = torch.get_rng_state()
    assert keeps_apart(lambda o, t: functional.dropout(o, 0.0).sum(1), nothing, torch.full((2,), float("nan")))
    assert torch.equal(torch.get_rng_state(), state)
