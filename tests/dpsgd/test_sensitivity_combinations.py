"""Whatever a run is made of, one unit moves no sum by more than the bound: neighbours replayed under the same key."""

import math

import pytest
import torch

from dpsgd import AdaptiveQuantile, steps
from mechanisms import KeyedSource, TruncatedPoisson, WithReplacement
from tests.dpsgd.combinations import at_random, covering, pairs_of, pairs_that_meet

LOSS = torch.nn.CrossEntropyLoss(reduction="none")
ROUNDING = {torch.float32: 4e-6, torch.float64: 2e-12}
"""Of a sum of a few contributions, each of which is within the bound exactly, ÷ the size of the sum."""


def most(case):
    """Return by how many bounds one unit may move a sum."""
    sampling = case["scheme"][0]
    counted = case["odd"] is None or math.isfinite(case["odd"])  # what is not finite counts as zero
    copies = 2 if case["change"] == "replaced" and counted else 1
    if isinstance(sampling, WithReplacement):
        return copies * sampling.batch_size
    return 2 if isinstance(sampling, TruncatedPoisson) else copies


def replayed(case):
    """Return the largest move of a sum ÷ what it may be, and of that the excess that rounding does not explain."""
    config, largest, excess = case.config(), 0.0, 0.0

    def run(data):
        return steps(case.model(), data, config, loss=LOSS, randomness=KeyedSource(case.seed), **case.options())

    for one, other in zip(*map(run, case.neighbours()), strict=True):
        if isinstance(config.clipping, AdaptiveQuantile) and one.max_grad_norm != other.max_grad_norm:
            break  # by noisy counts, whose price is part of the step's
        sums = torch.stack([one.noisy_sum, other.noisy_sum]).double() / (most(case) * one.max_grad_norm)
        move = float((sums[0] - sums[1]).norm())
        largest = max(largest, move)
        excess = max(excess, move - 1.0 - ROUNDING[case["dtype"]] * (1.0 + float(sums.norm(dim=1).max())))
    return largest, excess


def check(cases):
    """Fail with the case of any excess; return the largest move of each."""
    found = {case: replayed(case) for case in cases}
    assert not {case: moved for case, moved in found.items() if not moved[1] <= 0.0}
    return [moved for moved, _ in found.values()]


@pytest.mark.thinned(2)  # nearly all pairs meet in the first half
@pytest.mark.parametrize("half", range(2))
def test_one_unit_moves_no_sum_by_more_than_the_bound_whatever_two_choices_meet(half):
    cases = covering()
    moves = check(cases[half * (len(cases) // 2) :][: len(cases) // 2 + half])
    assert max(moves) > 0.8 and sum(move > 0.1 for move in moves) > len(moves) / 2


def test_every_two_choices_that_go_together_meet():
    cases = covering()
    assert set().union(*map(pairs_of, cases)) == pairs_that_meet()
    assert len(cases) < 100 < len(pairs_that_meet())
    assert all(case.config() == case.config() and len(case.neighbours()[0]) >= 12 for case in cases)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(8))
def test_one_unit_moves_no_sum_by_more_than_the_bound_in_a_hundred_cases_at_random(block):
    assert max(check(at_random(range(100 * block, 100 * block + 100)))) > 0.99
