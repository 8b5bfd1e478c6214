import math

import numpy as np
import pytest
from scipy import stats

from dpsgd.core.batches import drawn_rows
from dpsgd.core.noise_laws import MatrixGaussian
from dpsgd.cyclic import Cyclic, CyclicPoisson
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import config_of

SOURCE = KeyedSource("tests of cyclic schemes")


def _grouped(*, probability=0.1, groups=4, steps=12):
    noise = MatrixGaussian(coefficients=(1.0,) * groups)
    return config_of(CyclicPoisson(probability=probability, groups=groups), noise=noise, steps=steps)


def _masks(config, records, *, run=0):
    rows, found = drawn_rows(SOURCE, config, run=run, records=records), np.zeros((config.steps, records), dtype=bool)
    for step in range(config.steps):
        found[step, rows(step)] = True
    return found


@pytest.mark.parametrize("records", [0, 1, 7, 12])
@pytest.mark.parametrize("per_epoch", [1, 3, 5])
def test_a_cyclic_record_takes_part_once_an_epoch_always_at_its_place(records, per_epoch):
    masks = _masks(config_of(Cyclic(), steps_per_epoch=per_epoch, steps=12), records)
    step, row = np.indices(masks.shape)
    assert np.array_equal(masks, step % per_epoch == row % per_epoch)


def test_a_grouped_record_is_drawn_in_the_steps_of_one_group_alone():
    masks = _masks(_grouped(probability=0.2), records=300)
    seen = masks.reshape(3, 4, 300).any(0)
    assert (seen.sum(0) <= 1).all() and (seen.sum(0) == 1).sum() > 200


def test_groups_and_draws_within_them_follow_their_laws():
    records, rounds = 2000, 100
    masks = _masks(_grouped(probability=0.1, steps=4 * rounds), records).reshape(rounds, 4, records)
    drawn = masks.sum(0)  # of each group's turn, each record
    group = drawn.argmax(0)  # all records are drawn in a hundred rounds of .4
    assert (drawn.max(0) > 0).all() and drawn.sum() == drawn.max(0).sum()
    assert stats.chisquare(np.bincount(group, minlength=4)).pvalue > 1e-4
    deviations = (drawn.max(0) - 0.4 * rounds) ** 2 / (rounds * 0.4 * 0.6)
    assert 1e-4 < stats.chi2.sf(deviations.sum(), records) < 1 - 1e-4


def test_one_record_more_changes_no_others_group_or_draws():
    config = _grouped(probability=0.2)
    assert np.array_equal(_masks(config, 50), _masks(config, 51)[:, :50])


def test_another_run_has_other_groups():
    config = _grouped(probability=0.25)  # all of the group whose turn it is
    first, second = _masks(config, 300), _masks(config, 300, run=2**80)
    assert (first.sum(0) == 3).all() and 150 < (first != second).any(0).sum() < 290


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"probability": 0.3, "groups": 4}, "probability must be at most 1/groups, got 0.3 for 4 groups"),
        ({"probability": math.nan, "groups": 4}, "probability must be a number, got nan"),
        ({"probability": -0.1, "groups": 4}, r"probability must lie in \[0, 1\]"),
        ({"probability": 0.1, "groups": 0}, "groups must be at least 1, got 0"),
        ({"probability": 0.1, "groups": 1.5}, "groups must be a whole number, got 1.5"),
    ],
)
def test_groups_that_cannot_be_drawn_are_refused(fields, text):
    with pytest.raises(InvalidParameter, match=f"CyclicPoisson: {text}"):
        CyclicPoisson(**fields)


def test_numbers_of_numpy_are_taken():
    assert CyclicPoisson(probability=np.float32(0.25), groups=np.int64(2)).within == Poisson(probability=0.5)


@pytest.mark.parametrize(
    ("sampling", "changes", "text"),
    [
        (Cyclic(), {"steps_per_epoch": None}, r"steps_per_epoch must be given for Cyclic\(\)"),
        (Cyclic(), {"steps_per_epoch": 0}, "steps_per_epoch must be at least 1"),
        (CyclicPoisson(probability=0.1, groups=1), {"steps_per_epoch": 3}, "steps_per_epoch must be None for CyclicP"),
    ],
)
def test_an_epoch_goes_with_cyclic_batches_alone(sampling, changes, text):
    with pytest.raises(InvalidParameter, match=f"DPSGD: {text}"):
        config_of(sampling, **changes)
