import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpsgd.batches import poisson_mask
from mechanisms import KeyedSource, Poisson

SOURCE = KeyedSource("tests of batches")


def _masks(probability, steps, records):
    sampling = Poisson(probability=probability)
    return np.array([poisson_mask(SOURCE, sampling, run=0, step=step, records=records) for step in range(steps)])


@pytest.mark.parametrize("probability", [0.02, 0.3, 0.9])
def test_inclusion_follows_the_binomial_law_over_steps_and_over_records(probability):
    steps, records = 400, 300
    masks = _masks(probability, steps, records)
    for counts, trials in ((masks.sum(0), steps), (masks.sum(1), records)):
        deviations = (counts - trials * probability) ** 2 / (trials * probability * (1 - probability))
        p_value = stats.chi2.sf(deviations.sum(), len(counts))
        assert 1e-4 < p_value < 1 - 1e-4


def test_records_and_steps_are_uncorrelated():
    centred = _masks(0.5, 400, 300) - 0.5
    for product in (centred[1:] * centred[:-1], centred[:, 1:] * centred[:, :-1]):
        assert abs(product.mean()) / (0.25 / np.sqrt(product.size)) < 4


@settings(deadline=None)
@given(step=st.integers(0, 10**9), records=st.integers(0, 200), more=st.integers(1, 200))
def test_one_record_more_changes_no_others_part(step, records, more):
    sampling = Poisson(probability=0.5)
    few = poisson_mask(SOURCE, sampling, run=0, step=step, records=records)
    many = poisson_mask(SOURCE, sampling, run=0, step=step, records=records + more)
    assert np.array_equal(few, many[:records])


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_certainty_is_certain(probability):
    assert (_masks(probability, 50, 50) == bool(probability)).all()
