"""Physical batches change how sums are computed, and nothing that privacy or the run is made of."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dpsgd import Dataset, mlp, steps, train
from dpsgd.core.physical import added, even_parts, uneven_parts
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import EVERY_SCHEME

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
counts = st.lists(st.integers(1, 40), max_size=30).map(lambda found: np.array(found, dtype=np.int64))


@pytest.fixture
def few(config):
    return dataclasses.replace(config, steps=6)


def _data(records, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = 3 * torch.randn(records, 5, generator=generator)
    return Dataset(features=features, targets=torch.randint(3, (records,), generator=generator))


def _releases(config, records=7, **others):
    torch.manual_seed(0)
    chosen = dict(loss=CROSS_ENTROPY, randomness=KeyedSource("parts"), **others)
    return list(steps(mlp(5, (4,), 3), _data(records), config, **chosen))


@pytest.mark.parametrize("name", EVERY_SCHEME)
@pytest.mark.parametrize("largest", [1, 2, 5, 10**9])
def test_every_part_size_gives_the_same_run_up_to_rounding(name, largest):
    whole = _releases(EVERY_SCHEME[name])
    parts = _releases(EVERY_SCHEME[name], largest_physical_batch=largest)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a.noisy_sum, b.noisy_sum, rtol=0, atol=1e-6)
    if largest == 10**9:
        assert all(torch.equal(a.noisy_sum, b.noisy_sum) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("largest", [1, 3])
def test_the_noise_is_the_same_bit_for_bit(few, largest):
    blind = Dataset(features=torch.zeros(9, 5), targets=torch.zeros(9, dtype=torch.int64))

    def run(**others):
        torch.manual_seed(0)
        model = nn.Linear(5, 3, bias=False)  # features of zeros give gradients of zeros: noise is all there is
        chosen = dict(loss=CROSS_ENTROPY, randomness=KeyedSource("parts"), **others)
        return list(steps(model, blind, few, **chosen))

    for a, b in zip(run(), run(largest_physical_batch=largest), strict=True):
        assert torch.equal(a.noisy_sum, b.noisy_sum)


def test_epsilon_does_not_depend_on_the_parts(few):
    results = [
        train(
            mlp(5, (), 3),
            _data(9),
            few,
            loss=CROSS_ENTROPY,
            randomness=KeyedSource(0),
            largest_physical_batch=largest,
        )
        for largest in (None, 1, 4)
    ]
    assert {result.process for result in results} == {few.process()}
    assert len({result.epsilon(delta=1e-5) for result in results}) == 1


@pytest.mark.parametrize("largest", [1, 2])
def test_without_records_there_is_noise_alone(few, largest):
    for a, b in zip(_releases(few, 0), _releases(few, 0, largest_physical_batch=largest), strict=True):
        assert torch.equal(a.noisy_sum, b.noisy_sum)


def test_no_more_rows_than_allowed_go_through_the_model_at_once(few, rows_at_once):
    for largest in (1, 2, 3):
        kept = dict(loss=CROSS_ENTROPY, randomness=KeyedSource(0), largest_physical_batch=largest)
        run = steps(mlp(5, (4,), 3), _data(40), few, **kept)
        rows_at_once.clear()  # of what is made up
        list(run)
        assert max(rows_at_once) == largest


@pytest.mark.parametrize("place", [0, 4, 9])
@pytest.mark.parametrize("largest", [1, 3, 4])
def test_one_record_more_moves_a_sum_by_at_most_the_bound_wherever_the_parts_begin(few, place, largest):
    everyone = dataclasses.replace(few, sampling=Poisson(probability=1), steps=1, max_grad_norm=0.7)
    data = _data(10)
    others = torch.arange(10) != place
    sums = []
    for chosen in (data, Dataset(features=data.features[others], targets=data.targets[others])):
        torch.manual_seed(0)
        run = dict(loss=CROSS_ENTROPY, randomness=KeyedSource("parts"), largest_physical_batch=largest)
        sums += [release.noisy_sum for release in steps(mlp(5, (4,), 3), chosen, everyone, **run)]
    assert 0.1 < (sums[0] - sums[1]).norm() <= 0.7 * (1 + 1e-5)


@pytest.mark.parametrize(
    ("largest", "text"),
    [
        (0, "steps: largest_physical_batch must be at least 1, got 0"),
        (2.5, r"steps: largest_physical_batch must be a whole number, got 2\.5"),
        (True, "steps: largest_physical_batch must be a whole number, got True"),
    ],
)
def test_a_bound_that_is_none_is_refused(few, largest, text):
    with pytest.raises(InvalidParameter, match=text):
        _releases(few, largest_physical_batch=largest)


def test_the_bound_may_be_a_numpy_integer(few):
    assert len(_releases(few, largest_physical_batch=np.int64(3))) == 6


def test_whole_numbers_are_added_to_the_last():
    parts = [torch.tensor([2**60]), torch.tensor([1]), torch.tensor([-(2**60)])]
    assert added(parts).tolist() == [1] and parts[0].item() == 2**60


def test_parts_are_added_without_the_rounding_of_each():
    parts = [torch.tensor([1.0])] + [torch.tensor([2.0**-24])] * 2**10
    assert added(parts).item() == 1.0 + 2.0**-14
    assert sum(parts).item() == 1.0  # what float32 makes of it


@given(st.integers(0, 50), st.integers(1, 60))
def test_even_parts_hold_every_unit_once_and_no_more_than_allowed(units, largest):
    parts = list(even_parts(np.arange(units), largest))
    assert np.concatenate(parts).tolist() == list(range(units))
    assert all(0 < len(part) <= largest for part in parts) or (units == 0 and len(parts) == 1)


@given(counts, st.none() | st.integers(40, 100))
def test_uneven_parts_hold_every_unit_once_and_waste_less_than_half(counts, largest):
    parts = list(uneven_parts(counts, largest))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(counts)))
    for part in parts if len(counts) else []:
        rectangle = len(part) * counts[part].max()
        assert largest is None or rectangle <= largest
        assert rectangle < 2 * counts[part].sum()
    assert parts if not len(counts) else all(map(len, parts))
