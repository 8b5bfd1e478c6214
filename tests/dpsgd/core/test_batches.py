import dataclasses
from collections import Counter
from fractions import Fraction
from itertools import combinations, permutations, product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpsgd.core.batches import AHEAD, LARGE, STEP, check_records, drawn_rows, poisson_mask
from dpsgd.core.runs import RUN
from mechanisms import (
    BallsInBins,
    FixedSize,
    InvalidParameter,
    KeyedSource,
    Poisson,
    Shuffled,
    TruncatedPoisson,
    WithReplacement,
)
from tests.dpsgd.schemes import EVERY_SCHEME, config_of

SOURCE = KeyedSource("tests of batches")
MANY = 10**9


class Coarse(KeyedSource):
    """Keys of eight values, so that most orders have ties."""

    def words(self, stream, counter, n):
        words = super().words(stream, counter, n).copy()
        words[counter % 2 :: 2] &= 0xE0000000
        words[1 - counter % 2 :: 2] = 0
        return words


class Wasteful(KeyedSource):
    """Words of 64 bits of which those below 11 are as likely as those of the last period modulo 11, incomplete."""

    def words(self, stream, counter, n):
        drawn = (super().words(stream, counter, n)[1::2] >> np.uint32(28)).astype(np.uint64)
        large = drawn >= 11
        drawn[large] = (drawn[large] - np.uint64(11)) + np.uint64(2**64 - 2**64 % 11)
        return np.stack([drawn >> np.uint64(32), drawn & np.uint64(0xFFFFFFFF)], axis=1).astype(np.uint32).ravel()


class Tied(KeyedSource):
    """Coins whose first 64 bits are 0."""

    def words(self, stream, counter, n):
        return super().words(stream, counter, n) * np.uint32(stream != "sampling")


def _long(config, steps=MANY):
    return dataclasses.replace(config, steps=steps * (config.steps_per_epoch or 1))


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
    for together in (centred[1:] * centred[:-1], centred[:, 1:] * centred[:, :-1]):
        assert abs(together.mean()) / (0.25 / np.sqrt(together.size)) < 4


@settings(deadline=None)
@given(step=st.integers(0, 10**9), records=st.integers(0, 200), more=st.integers(1, 200))
def test_one_record_more_changes_no_others_part(step, records, more):
    sampling = Poisson(probability=0.5)
    few = poisson_mask(SOURCE, sampling, run=0, step=step, records=records)
    many = poisson_mask(SOURCE, sampling, run=0, step=step, records=records + more)
    assert np.array_equal(few, many[:records])


class Counted(KeyedSource):
    """Notes of which steps it was asked for draws of 64 bits."""

    def __init__(self, key):
        super().__init__(key)
        self.steps = set()

    def words(self, stream, counter, n):
        self.steps.add(counter // 2 // STEP)
        return super().words(stream, counter, n)


def test_steps_are_drawn_ahead_up_to_the_last_and_are_what_each_is_alone():
    source = Counted(0)
    config = dataclasses.replace(EVERY_SCHEME["Poisson"], steps=11)
    rows = drawn_rows(source, config, run=0, records=40)
    for step in (9, 0, 1, 10, 7, 8):
        alone = poisson_mask(KeyedSource(0), config.sampling, run=0, step=step, records=40)
        assert np.array_equal(rows(step), np.flatnonzero(alone))
    assert source.steps == set(range(11))


@pytest.mark.parametrize(("expected", "drawn"), [(LARGE, AHEAD), (LARGE + 1, 1)])
def test_no_step_of_a_large_batch_is_held_beside_another(expected, drawn):
    source, config = Counted(0), dataclasses.replace(EVERY_SCHEME["Poisson"], expected_batch_size=expected)
    drawn_rows(source, config, run=0, records=40)(0)
    assert source.steps == set(range(drawn))


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_certainty_is_certain(probability):
    assert (_masks(probability, 50, 50) == bool(probability)).all()


def _law(config, records):
    """Return the probability of everything an epoch, or a step, may draw, by enumeration."""
    sampling, everyone = config.sampling, range(records)
    law = Counter()
    if isinstance(sampling, (Poisson, TruncatedPoisson)):
        rate = Fraction(sampling.probability)
        for taken in product((False, True), repeat=records):
            rows = tuple(row for row in everyone if taken[row])
            chance = rate ** len(rows) * (1 - rate) ** (records - len(rows))
            largest = getattr(sampling, "largest_batch", records)
            parts = list(combinations(rows, min(len(rows), largest)))
            for part in parts:
                law[(part,)] += chance / len(parts)
    elif isinstance(sampling, FixedSize):
        law.update({(rows,): Fraction(1, comb(records, sampling.batch_size))
                    for rows in combinations(everyone, sampling.batch_size)})  # fmt: skip
    elif isinstance(sampling, WithReplacement):
        for places in product(everyone, repeat=sampling.batch_size):
            law[(tuple(sorted(places)),)] += Fraction(1, records**sampling.batch_size)
    elif isinstance(sampling, Shuffled):
        size, orders = int(config.expected_batch_size), list(permutations(everyone))
        for order in orders:
            cut = (tuple(sorted(order[t * size : (t + 1) * size])) for t in range(config.steps_per_epoch))
            law[tuple(cut)] += Fraction(1, len(orders))
    else:
        bins = range(config.steps_per_epoch)
        for places in product(bins, repeat=records):
            held = tuple(tuple(row for row in everyone if places[row] == t) for t in bins)
            law[held] += Fraction(1, len(bins) ** records)
    assert sum(law.values()) == 1
    return law


def _drawn(source, config, records, times):
    width = config.steps_per_epoch or 1
    rows = drawn_rows(source, _long(config), run=0, records=records)
    return Counter(
        tuple(tuple(rows(epoch * width + place).tolist()) for place in range(width)) for epoch in range(times)
    )


SMALL = {
    "Poisson": (config_of(Poisson(probability=0.3)), 3),
    "TruncatedPoisson": (config_of(TruncatedPoisson(probability=0.6, largest_batch=2)), 4),
    "one of a cut sample": (config_of(TruncatedPoisson(probability=1.0, largest_batch=1), expected_batch_size=1), 5),
    "FixedSize": (config_of(FixedSize(batch_size=2, records=5)), 5),
    "all but one": (config_of(FixedSize(batch_size=3, records=4)), 4),
    "WithReplacement": (config_of(WithReplacement(batch_size=3, records=3)), 3),
    "permutations": (config_of(Shuffled(), expected_batch_size=1, steps_per_epoch=4), 4),
    "left over": (config_of(Shuffled()), 5),
    "BallsInBins": (config_of(BallsInBins(), steps_per_epoch=3), 3),
}


def _p_value(source, config, records, times=4000):
    law, drawn = _law(config, records), _drawn(source, config, records, times)
    assert set(drawn) <= set(law)
    outcomes = [outcome for outcome in law if law[outcome]]
    if len(outcomes) == 1:
        return 1.0
    expected = np.array([times * float(law[outcome]) for outcome in outcomes])
    return stats.chisquare([drawn[outcome] for outcome in outcomes], expected).pvalue


@pytest.mark.parametrize(("config", "records"), SMALL.values(), ids=SMALL)
def test_batches_have_the_joint_law_of_their_scheme(config, records):
    assert _p_value(SOURCE, config, records) > 1e-3


@pytest.mark.parametrize("name", ["FixedSize", "one of a cut sample", "all but one", "permutations", "left over"])
def test_orders_are_uniform_although_most_have_ties(name):
    assert _p_value(Coarse(name), *SMALL[name]) > 1e-3


@pytest.mark.parametrize(
    ("config", "records"),
    [
        (config_of(WithReplacement(batch_size=1, records=11)), 11),
        (config_of(BallsInBins(), steps=11, steps_per_epoch=11), 1),
    ],
)
def test_places_are_uniform_although_many_words_are_drawn_again(config, records):
    assert _p_value(Wasteful("places"), config, records, times=1000) > 1e-3


def test_a_coin_whose_first_bits_are_tied_is_decided_by_later_ones():
    sampling = Poisson(probability=3 * 2.0**-66)  # 64 bits of 0, then 11, then 0
    taken = poisson_mask(Tied("ties"), sampling, run=0, step=3, records=4000)
    assert stats.binomtest(int(taken.sum()), 4000, 0.75).pvalue > 1e-3
    assert np.array_equal(taken[:50], poisson_mask(Tied("ties"), sampling, run=0, step=3, records=50))
    assert not poisson_mask(Tied("ties"), Poisson(probability=5e-324), run=0, step=3, records=50).any()


@pytest.mark.parametrize("name", ["FixedSize", "WithReplacement", "TruncatedPoisson with records", "BallsInBins"])
def test_records_take_part_equally_often_and_steps_independently(name):
    larger = {
        "FixedSize": config_of(FixedSize(batch_size=60, records=200)),
        "WithReplacement": config_of(WithReplacement(batch_size=90, records=200)),
        "TruncatedPoisson with records": config_of(
            TruncatedPoisson(probability=0.5, largest_batch=95, records=200), expected_batch_size=95
        ),
        "BallsInBins": config_of(BallsInBins(), steps_per_epoch=3),
    }[name]
    rows, times = drawn_rows(SOURCE, _long(larger), run=5 * RUN, records=200), 400
    counts = np.array([np.bincount(rows(step * (larger.steps_per_epoch or 1)), minlength=200) for step in range(times)])
    centred = counts - counts.mean()
    variance = centred.var()
    assert 1e-4 < stats.chi2.sf((centred.sum(0) ** 2).sum() / (times * variance), 200) < 1 - 1e-4
    together = centred[1:] * centred[:-1]
    assert abs(together.mean()) / (variance / np.sqrt(together.size)) < 4


@pytest.mark.parametrize("config", EVERY_SCHEME.values(), ids=EVERY_SCHEME)
def test_any_step_can_be_had_alone(config):
    rows = drawn_rows(SOURCE, config, run=RUN, records=7)
    forward = [rows(step).tolist() for step in range(12)]
    for step in reversed(range(12)):
        alone = drawn_rows(SOURCE, dataclasses.replace(config, steps=24), run=RUN, records=7)
        assert alone(step).tolist() == forward[step]
    assert len({tuple(batch) for batch in forward}) > 4
    assert [drawn_rows(SOURCE, config, run=0, records=7)(step).tolist() for step in range(12)] != forward


@pytest.mark.parametrize("config", [EVERY_SCHEME["Poisson"], EVERY_SCHEME["BallsInBins"]])
@settings(deadline=None, max_examples=30)
@given(step=st.integers(0, 10**9), records=st.integers(0, 50), more=st.integers(1, 50))
def test_records_more_change_no_others_part(config, step, records, more):
    few, many = (drawn_rows(SOURCE, _long(config), run=0, records=n)(step) for n in (records, records + more))
    assert np.array_equal(few, many[many < records])


def test_one_record_more_takes_at_most_one_others_place_in_a_cut_sample():
    config, seen = _long(EVERY_SCHEME["TruncatedPoisson"]), Counter()
    few, many = (drawn_rows(SOURCE, config, run=0, records=n) for n in (6, 7))
    for step in range(200):
        without, with_ = set(few(step).tolist()), set(many(step).tolist())
        assert with_ <= without | {6} and len(without - with_) <= 1
        seen[len(with_ - without), len(without - with_)] += 1
    assert set(seen) == {(0, 0), (1, 0), (1, 1)}


@pytest.mark.parametrize("sampling", [Poisson(probability=0.5), TruncatedPoisson(probability=0.5, largest_batch=2)])
def test_no_records_give_empty_batches(sampling):
    assert len(drawn_rows(SOURCE, config_of(sampling), run=0, records=0)(0)) == 0
    assert len(drawn_rows(SOURCE, config_of(BallsInBins()), run=0, records=0)(1)) == 0


def test_a_batch_of_everyone_needs_no_draw_and_one_record_may_fill_a_batch():
    everyone = drawn_rows(SOURCE, config_of(FixedSize(batch_size=4, records=4)), run=0, records=4)
    assert everyone(3).tolist() == [0, 1, 2, 3]
    again = drawn_rows(SOURCE, config_of(WithReplacement(batch_size=3, records=1)), run=0, records=1)
    assert again(3).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "sampling",
    [
        FixedSize(batch_size=2, records=5),
        WithReplacement(batch_size=2, records=5),
        TruncatedPoisson(probability=0.5, largest_batch=2, records=5),
    ],
)
@pytest.mark.parametrize("records", [0, 1, 4, 6, 5000])
def test_another_number_of_records_than_declared_is_refused_and_not_told(sampling, records):
    with pytest.raises(InvalidParameter, match=r"must hold as many records as .*records=5\) declares") as refusal:
        check_records(config_of(sampling), records)
    assert records < 6 or str(records) not in str(refusal.value)


@pytest.mark.parametrize("records", [0, 5])
def test_too_few_records_for_shuffled_batches_are_refused(records):
    with pytest.raises(InvalidParameter, match=r"must hold at least 6 records, expected_batch_size · steps_per_epoch"):
        check_records(config_of(Shuffled(), steps_per_epoch=3), records)
    check_records(config_of(Shuffled(), steps_per_epoch=3), 6)
