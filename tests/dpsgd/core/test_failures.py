"""What a run says when model or loss end with an error: what is public in full, of the records nothing."""

import functools
import re
import traceback
import warnings

import pytest
import torch
from torch import nn

from dpsgd import Augmentation, Dataset, mlp, steps, train, train_together
from dpsgd.core.failures import told_without_records
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import config_of

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
CPU = torch.device("cpu")
CONFIG = config_of(Poisson(probability=1.0))
EMPTY = config_of(Poisson(probability=0.0))
SECRET = 7713  # a class that there is not, a word beyond the table
COPIES = Augmentation(make=lambda x, u: x + 0.1 * u, copies=2, draws=5)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, rows):
        return self.last(2 * torch.tanh(self.first(rows)))


MODELS = {
    "book-keeping": lambda: mlp(5, (4,), 3),
    "own code": Own,
    "vmap": lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, 3)),
}


def _run(model, features, targets, loss=CROSS_ENTROPY, **options):
    data = Dataset(features=features, targets=targets)
    return train(model, data, CONFIG, loss=loss, randomness=KeyedSource(0), **options)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(
    "options", [{}, {"augmentation": COPIES}, {"largest_physical_batch": 3}], ids=["plain", "copies", "parts"]
)
def test_an_error_on_some_record_says_nothing_of_it_and_not_how_many_were_drawn(make, options):
    targets = torch.arange(17) % 3
    targets[11] = SECRET
    with pytest.raises(InvalidParameter, match="model and loss must take every record, but ended with") as caught:
        _run(make(), torch.randn(17, 5), targets, **options)
    told = "".join(traceback.format_exception(caught.value))
    assert str(SECRET) not in told and not re.search(r"\b17\b|\b34\b", str(caught.value))


def test_a_word_beyond_the_table_ends_a_run_without_its_number():
    words = torch.zeros(9, 2, dtype=torch.int64)
    words[4, 1] = SECRET
    model = nn.Sequential(nn.Embedding(6, 4), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(InvalidParameter, match="largest_physical_batch") as caught:
        _run(model, words, torch.zeros(9, dtype=torch.int64))
    assert str(SECRET) not in str(caught.value)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_what_fails_on_every_record_is_told_in_full_and_for_one_of_zeros(make):
    with pytest.raises(InvalidParameter, match=r"but on zeros of it: mat1 and mat2 shapes cannot be \w+ \(1x6 and 5x4"):
        _run(make(), torch.randn(17, 6), torch.zeros(17, dtype=torch.int64))


@pytest.mark.parametrize("records", [0, 17])
def test_what_fails_on_every_record_ends_a_run_before_any_is_drawn(records):
    data = Dataset(features=torch.randn(records, 6), targets=torch.zeros(records, dtype=torch.int64))
    for model, loss, said in [
        (mlp(5, (4,), 3), CROSS_ENTROPY, "but on zeros of it"),
        (mlp(6, (4,), 3), nn.CrossEntropyLoss(), "one value per example"),
    ]:
        with pytest.raises(InvalidParameter, match=said):
            next(iter(steps(model, data, EMPTY, loss=loss, randomness=KeyedSource(0))), None)


class OnlyAlone(nn.Linear):
    """Calls a function that no vmap within another can run, as it takes units of several rows."""

    def __init__(self):
        super().__init__(5, 3)
        self.held = nn.LSTM(3, 3, batch_first=True).requires_grad_(False)._flat_weights

    def forward(self, rows):
        features = super().forward(rows).unsqueeze(1)
        start = features.new_zeros(1, len(rows), 3)
        return torch._VF.lstm(features, (start, start), self.held, True, 1, 0.0, False, False, True)[0][:, 0]


@pytest.mark.parametrize("owners", [[], [0, 1], [0, 0]])
def test_what_fails_for_a_user_of_several_records_ends_a_run_before_any_is_drawn(owners):
    """Whether and when a user of several is drawn is private: it may not decide on whether the run goes on."""
    data = Dataset(
        features=torch.ones(len(owners), 5),
        targets=torch.zeros(len(owners), dtype=torch.int64),
        owners=torch.tensor(owners, dtype=torch.int64),
    )
    config = config_of(Poisson(probability=1.0), unit="user", examples_per_user=2)
    with pytest.raises(InvalidParameter, match=r"but on zeros of it: Batching rule not implemented for aten::lstm"):
        next(steps(OnlyAlone(), data, config, loss=CROSS_ENTROPY, randomness=KeyedSource(0)))


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_warnings_on_records_which_name_the_size_of_a_batch_are_dropped(make):
    def warning(outputs, targets):
        warnings.warn(f"{len(outputs)} rows of {tuple(outputs.shape)}", stacklevel=1)
        return outputs[:, 0]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _run(make(), torch.randn(17, 5), torch.zeros(17), warning)
    assert caught and not any("17" in str(one.message) for one in caught)


def test_models_trained_together_say_nothing_of_records_either():
    features, targets = torch.randn(17, 5), torch.arange(17) % 3
    everyone = torch.ones(2, 17, dtype=torch.bool)
    together = functools.partial(train_together, mlp(5, (4,), 3), config=CONFIG, membership=everyone)
    with pytest.raises(InvalidParameter, match="one value per example"):
        together(Dataset(features=features, targets=targets), loss=nn.CrossEntropyLoss(), randomness=KeyedSource(0))
    targets[11] = SECRET
    with pytest.raises(InvalidParameter, match="model and loss must take every record, but ended with") as caught:
        together(Dataset(features=features, targets=targets), loss=CROSS_ENTROPY, randomness=KeyedSource(0))
    assert str(SECRET) not in "".join(traceback.format_exception(caught.value))


class _Quoting(torch.autograd.Function):
    """The first output, from code that reads the targets, also under `vmap`."""

    @staticmethod
    def forward(outputs, targets):
        if bool((targets.detach() == SECRET).any()):
            raise ValueError(f"{targets}")
        return outputs[..., 0].clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.like = inputs[0]

    @staticmethod
    def backward(ctx, given):
        return torch.nn.functional.pad(given.unsqueeze(-1), (0, ctx.like.shape[-1] - 1)), None

    @staticmethod
    def vmap(info, dimensions, outputs, targets):
        return _Quoting.apply(outputs.movedim(dimensions[0], 0), targets), 0


def test_a_loss_that_quotes_its_targets_is_not_quoted():
    def loss(outputs, targets):
        return _Quoting.apply(outputs, targets)

    targets = torch.zeros(17, dtype=torch.int64)
    targets[3] = SECRET
    with pytest.raises(InvalidParameter, match="ended with") as caught:
        _run(mlp(5, (), 3), torch.randn(17, 5), targets, loss)
    assert str(SECRET) not in "".join(traceback.format_exception(caught.value))


def test_errors_of_the_library_and_interruptions_pass():
    for error in (InvalidParameter("as it is"), KeyboardInterrupt("as it is")):
        with pytest.raises(type(error), match="as it is"), told_without_records(lambda: None, device=CPU):
            raise error


def test_runs_of_several_threads_that_overlap_stay_silent_and_leave_the_filters_as_they_were():
    before = warnings.filters
    first, second = (told_without_records(lambda: None, device=CPU) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    warnings.warn(f"a batch of {SECRET}", stacklevel=1)  # an error here, unless it is dropped
    second.__exit__(None, None, None)
    assert warnings.filters is before
