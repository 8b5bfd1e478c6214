"""A budget that ends a run whose steps are not priced one by one: what is executed, told and priced, by brute force.

The strategy of so many steps is written down as a matrix, and a record of every place moves it by unit vectors at the
steps that are its own, of all signs.
"""

import contextlib
import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import log_ndtr
from torch import nn

from accountant import compute_epsilon
from dpsgd import (
    Budget,
    BufferedGaussian,
    Checkpoint,
    Cyclic,
    CyclicPoisson,
    Dataset,
    IndependentGaussian,
    MatrixGaussian,
    TreeGaussian,
    train,
)
from mechanisms import Compose, Gaussian, KeyedSource, Poisson, Sampled
from tests.dpsgd.schemes import config_of

DELTA, NOISE, PLANNED = 1e-5, 3.0, 10
LAWS = {
    "independent": IndependentGaussian(),
    "few bands": MatrixGaussian(coefficients=(1.0, 0.5)),
    "many bands": MatrixGaussian(coefficients=(1.0, 0.5, 0.375, 0.3, 0.2, 0.1)),
    "rising": MatrixGaussian(coefficients=(0.5, 1.0, -0.25)),
    "buffered": BufferedGaussian(weights=(0.5, 0.5), decays=(0.9, 0.2)),
    "tree": TreeGaussian(),
}


class Killed(Exception):
    """Ends a run without warning."""


def strategy(law, steps):
    """Return the matrix of what is shown under white noise: rows of C, or the complete nodes of the tree."""
    if isinstance(law, TreeGaussian):
        nodes = [(j << level, (j + 1) << level) for level in range(steps.bit_length()) for j in range(steps >> level)]
        return np.array([[float(a <= t < b) for t in range(steps)] for a, b in nodes])
    if isinstance(law, BufferedGaussian):
        down = [sum(w * d**m for w, d in zip(law.weights, law.decays, strict=True)) for m in range(steps)]
    else:
        down = getattr(law, "coefficients", (1.0,))
    return sum(c * np.eye(steps, k=-m) for m, c in enumerate(down) if m < steps)


def moved(law, steps, per_epoch):
    """Return the largest move of the strategy by a record of any place, and what no move exceeds."""
    matrix, largest, most = strategy(law, steps), 0.0, 0.0
    for place in range(min(per_epoch, steps)):
        columns = matrix[:, place::per_epoch]
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=columns.shape[1])))
        largest = max(largest, np.linalg.norm(columns @ signs.T, axis=0).max())
        most = max(most, np.abs(columns.T @ columns).sum() ** 0.5)
    return largest, most


def epsilon_of(sensitivity):
    """Return the exact ε of a Gaussian release that moves by so many bounds."""
    mu = sensitivity / NOISE

    def excess(epsilon):
        p, q = log_ndtr(mu / 2 - epsilon / mu), log_ndtr(-mu / 2 - epsilon / mu)
        return np.exp(p) - np.exp(epsilon + q) - DELTA

    return brentq(excess, 0.0, 40.0, xtol=1e-13)


def planned(law, per_epoch, **changes):
    fields = {"steps": PLANNED, "steps_per_epoch": per_epoch, "noise": law, "noise_multiplier": NOISE}
    return config_of(Cyclic(), **{**fields, **changes})


def run(config, shown, *, budget=None, path=None, killed_at=None):
    """Train on seven records and keep the noisy sums by their steps; a step shown twice must be shown the same."""
    data = Dataset(features=torch.linspace(-2, 2, 21).reshape(7, 3), targets=torch.arange(7) % 2)
    model = nn.Linear(3, 2)
    nn.init.ones_(model.weight), nn.init.zeros_(model.bias)

    def seen(release):
        assert torch.equal(shown.setdefault(release.step, release.noisy_sum), release.noisy_sum)
        if release.step == killed_at:
            raise Killed

    return train(
        model,
        data,
        config,
        loss=nn.CrossEntropyLoss(reduction="none"),
        randomness=KeyedSource("stopped"),
        budget=budget,
        checkpoint=None if path is None else Checkpoint(path=path, every=2),
        callbacks=[seen],
    )


@pytest.mark.thinned(2)
@pytest.mark.parametrize("per_epoch", [4, 1, 12, 3])  # of ten steps: epochs and a part of one left over, whole, or less
@pytest.mark.parametrize("name", LAWS)
def test_no_step_beyond_the_budget_is_taken_and_the_price_is_that_of_the_steps_before(name, per_epoch, tmp_path):
    law, within = LAWS[name], 5
    config, path = planned(law, per_epoch), tmp_path / "run"
    most = moved(law, within, per_epoch)[1]
    budget = Budget(epsilon=epsilon_of(most) * (1 + 1e-9), delta=DELTA, adjacency="zero_out")
    whole, shown = {}, {}
    run(config, whole)
    with contextlib.suppress(Killed):
        run(config, shown, budget=budget, path=path, killed_at=2)
    result = run(config, shown, budget=budget, path=path)
    executed = result.executed
    assert sorted(shown) == list(range(executed)) and all(torch.equal(shown[t], whole[t]) for t in shown)
    assert result.config.steps == executed and result.process == config.process_after(executed)
    exact = epsilon_of(moved(law, executed, per_epoch)[0])
    found = result.epsilon(delta=DELTA, adjacency="zero_out")
    assert exact * (1 - 1e-9) <= found <= budget.epsilon
    if name not in ("tree", "rising"):  # which are priced at what no record of Cyclic may reach
        assert executed >= within and found <= exact * (1 + 1e-9)
        assert executed == PLANNED or epsilon_of(moved(law, executed + 1, per_epoch)[0]) > budget.epsilon
    again = run(config, shown, budget=budget, path=path)  # is complete: nothing is taken, and it costs as much
    assert again.executed == executed and again.process == result.process


def test_a_budget_for_less_than_an_epoch_of_cyclic_batches_is_kept():
    config = planned(TreeGaussian(), 12)  # a tree of one node, of two and of four steps, each the record's own
    for squared, executed in ((1, 1), (2, 3), (3, 7)):
        budget = Budget(epsilon=epsilon_of(squared**0.5) * (1 + 1e-9), delta=DELTA, adjacency="zero_out")
        assert budget.steps_within(config) == executed


@pytest.mark.slow  # some ten prices of composed rounds
def test_sampled_rounds_are_stopped_within_a_round_and_priced_as_such():
    config = config_of(
        CyclicPoisson(probability=0.2, groups=3),
        steps=PLANNED,
        noise=MatrixGaussian(coefficients=(1.0, 0.5, 0.25)),
        noise_multiplier=NOISE,
    )

    def rounds(full, rest):
        """Return what a record of the first group goes through: full columns, and one that is cut."""
        squares = [*[1.3125] * full, *[[1.0, 1.25][rest - 1]] * bool(rest)]
        return Compose(tuple(Sampled(Gaussian(noise_multiplier=NOISE / square**0.5), within) for square in squares))

    within = Poisson(probability=0.2 * 3)
    for executed in (1, 7):  # the first round counts as a whole
        taken = max(executed, 3)
        assert config.process_after(executed) == config.of_first(taken).process()
        exact = compute_epsilon(rounds(*divmod(taken, 3)), delta=DELTA)
        budget = Budget(epsilon=exact * (1 + 1e-6), delta=DELTA)
        result = run(config, {}, budget=budget)
        assert result.executed == taken and exact * (1 - 1e-6) <= result.epsilon(delta=DELTA) <= budget.epsilon
