import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from dpsgd import Dataset, train
from dpsgd.checkpoint import Checkpoint
from dpsgd.core import generators
from dpsgd.core.batches import STEP
from dpsgd.core.parameters import flatten
from dpsgd.core.parts import STEPS, WORDS, LayerDraws
from dpsgd.core.population import Population
from dpsgd.core.ranks import Ranks
from dpsgd.core.saved import Saved
from mechanisms import InvalidParameter, KeyedSource
from tests.dpsgd.schemes import EVERY_SCHEME

ZEROS = torch.zeros(4)


def _draws(*, rank=0, count=1, run=0, key=0, pass_of_zeros=lambda: None):
    ranks = Ranks(rank=rank, count=count, device=torch.device("cpu"))
    return LayerDraws(source=KeyedSource(key), run=run, ranks=ranks, pass_of_zeros=pass_of_zeros)


def _drawn(draws, step):
    with draws.of(step):
        return torch.rand(4)


def test_a_step_draws_the_same_whichever_came_before():
    draws = _draws()
    some = {step: _drawn(draws, step) for step in (5, 0, STEPS + 3, 5)}
    assert all(torch.equal(_drawn(_draws(), step), drawn) for step, drawn in some.items())


def test_a_step_draws_what_a_twister_with_all_its_words_from_the_key_gives():
    """One record more gives others other masks: with 2^32 seeds whoever tries them all could tell it."""
    for step in (0, 1, STEPS):
        twister = np.random.MT19937()
        words = KeyedSource(0).words("layers 0", step * WORDS, WORDS)
        twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": WORDS}}
        raw = twister.random_raw(2 * WORDS).astype(np.uint32)
        with _draws().of(step):
            drawn = torch.empty(2 * WORDS).uniform_().double().numpy()
        assert np.array_equal(drawn, (raw % 2**24) / 2.0**24)


def test_a_torch_that_keeps_its_generator_otherwise_is_refused(monkeypatch):
    monkeypatch.setattr(generators, "HEAD", 32)
    with pytest.raises(InvalidParameter, match=r"torch must keep the state of its generators as versions up to 2\.13"):
        generators._seeded.__wrapped__(0)


def test_steps_ranks_runs_and_keys_draw_different_numbers():
    others = [(_draws(), 1), (_draws(rank=1, count=2), 0), (_draws(run=2**80), 0), (_draws(key=1), 0)]
    first = [_drawn(_draws(), 0)]
    assert len({tuple(drawn.tolist()) for drawn in first + [_drawn(*other) for other in others]}) == 5


@pytest.mark.parametrize("expected", [False, True])
def test_a_layer_that_drew_for_no_record_of_zeros_draws_what_any_other_does(expected):
    """Whether it draws is then private, and so must change nothing that is seen."""
    state, forgotten = torch.get_rng_state(), []
    draws = dataclasses.replace(_draws(run=2**80), expected=expected, forget=lambda: forgotten.append(1))
    sums = draws.over(Population(units=9, clipped_sum=lambda rows, position: torch.rand(4) if len(rows) else ZEROS))
    for step in (0, 3):
        drawn = sums.clipped_sum(np.arange(2), 2**80 + step * STEP)
        assert torch.equal(drawn, _drawn(_draws(run=2**80), step)) and torch.equal(torch.get_rng_state(), state)
    assert sums.clipped_sum(np.arange(0), 2**80) is ZEROS and len(forgotten) == 2 * (not expected)


@pytest.mark.parametrize("expected", [False, True])
def test_a_sum_that_fails_after_a_draw_leaves_torchs_generator_where_it_was(expected):
    def failing(rows, position):
        torch.rand(1)
        raise ZeroDivisionError

    state, draws = torch.get_rng_state(), dataclasses.replace(_draws(), expected=expected)
    with pytest.raises(ZeroDivisionError):
        draws.over(Population(units=1, clipped_sum=failing)).clipped_sum(np.arange(1), 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_torchs_generator_is_left_where_it_was_after_an_error_too():
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), _draws().of(3):
        torch.rand(1)
        _ = 1 / 0
    assert torch.equal(torch.get_rng_state(), state)


def test_training_neither_reads_nor_moves_torchs_generator():
    data = Dataset(features=torch.ones(7, 5), targets=torch.arange(7) % 3)
    model = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 3))

    def trained(observer):
        return train(
            model,
            data,
            EVERY_SCHEME["Poisson"],
            loss=nn.CrossEntropyLoss(reduction="none"),
            randomness=KeyedSource(0),
            callbacks=[observer],
        )

    state = torch.get_rng_state()
    quiet = trained(lambda release: None)
    assert torch.equal(torch.get_rng_state(), state)
    drawing = trained(lambda release: (torch.rand(3), None)[1])
    assert torch.equal(flatten(quiet.model.parameters()), flatten(drawing.model.parameters()))


def _hidden_mask(rows):
    with torch.random.fork_rng(devices=()):
        return torch.bernoulli(torch.full_like(rows, 0.5))


class _Hiding(nn.Linear):
    def forward(self, rows):
        return super().forward(rows * _hidden_mask(rows))


LOSS = nn.CrossEntropyLoss(reduction="none")
HIDING = {
    "layer": (lambda: nn.Sequential(_Hiding(5, 3)), LOSS),
    "loss": (lambda: nn.Linear(5, 3), lambda o, t: LOSS(o * (1 + _hidden_mask(o)), t)),
}


@pytest.mark.parametrize(("model", "loss"), HIDING.values(), ids=HIDING)
def test_masks_of_code_that_sets_torchs_generator_back_are_functions_of_the_key(model, loss):
    """Where generators stand does not show them; the state that they find, and 2^32 seeds of it, would be anybody's."""
    data = Dataset(features=torch.arange(35.0).view(7, 5), targets=torch.arange(7) % 3)
    model, weights = model(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        trained = train(model, data, EVERY_SCHEME["Poisson"], loss=loss, randomness=KeyedSource(0)).model
        weights.append(flatten(trained.parameters()))
    assert torch.equal(*weights)


def test_another_number_of_ranks_is_refused_where_layers_draw_or_might():
    before, generator = _draws(count=2).state_dict(), torch.get_rng_state()
    for passing in (lambda: torch.rand(1), lambda: 1 / 0):
        _draws(count=2, pass_of_zeros=passing).load_state_dict(before)
        with pytest.raises(InvalidParameter, match="there must be 2 ranks, as when the run was begun, got 1"):
            _draws(count=1, pass_of_zeros=passing).load_state_dict(before)
    _draws(count=1).load_state_dict(before)
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("records", [0, 7])
def test_a_state_does_not_tell_whether_any_record_was_drawn(records, tmp_path):
    """Layers draw for records alone, so that whether they have drawn shows whether there were any."""
    path = tmp_path / "run"
    train(
        nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 3)),
        Dataset(features=torch.ones(records, 5), targets=torch.arange(records) % 3),
        EVERY_SCHEME["Poisson"],
        loss=nn.CrossEntropyLoss(reduction="none"),
        randomness=KeyedSource(0),
        checkpoint=Checkpoint(path=path),
    )
    assert Saved.from_bytes(path.read_bytes(), name="run").states["layers"] == {"ranks": 1}


def test_a_run_that_ends_while_generators_are_seeded_leaves_them_as_they_were(monkeypatch):
    class Ended(torch.Generator):
        def set_state(self, state):
            raise KeyboardInterrupt

    monkeypatch.setattr(generators, "_generators", lambda _: [torch.default_generator, Ended()])
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt), _draws().of(0):
        raise AssertionError
    assert torch.equal(torch.get_rng_state(), before)
