"""Schemes that count records: a data set that shows why, what is refused, and what is not."""

import math

import numpy as np
import pytest

from accountant import delta_bounds
from mechanisms import (
    Allocated,
    BallsInBins,
    Compose,
    FixedSize,
    Gaussian,
    Group,
    Laplace,
    Poisson,
    RandomizedResponse,
    Repeat,
    Sampled,
    Shuffled,
    TruncatedPoisson,
    UnsupportedProcess,
    WithReplacement,
)
from mechanisms.core.bounds import Bounds
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

G = Gaussian(noise_multiplier=1.0)
HALF = Poisson(probability=0.5)
CUT = Sampled(G, TruncatedPoisson(probability=0.5, largest_batch=3))
FIXED = Sampled(G, FixedSize(batch_size=2, records=10))


def shuffled(step, times):
    return Allocated(Repeat(step, times), Shuffled())


def binned(step, times):
    return Allocated(Repeat(step, times), BallsInBins())


def two_records(sigma, chance, epsilon):
    """δ(ε) of two shuffled Gaussian steps on a Poisson sample of x and −1, x being 1 against 0.

    One of them alone makes batches of no record, both make batches of one; so zeroing x is not leaving it out.
    """
    axis = np.linspace(-1 - 9 * sigma, 1 + 9 * sigma, 1601)

    def seen(one, other):
        parts = [np.exp(-0.5 * ((axis - at) / sigma) ** 2) for at in (one, other)]
        area = (axis[1] - axis[0]) ** 2 / (2 * math.pi * sigma * sigma)
        return 0.5 * area * (np.outer(parts[0], parts[1]) + np.outer(parts[1], parts[0]))

    both = chance * chance
    p, q = (both * seen(x, -1.0) + (1 - both) * seen(0.0, 0.0) for x in (1.0, 0.0))
    return float(np.sum(np.maximum(p - math.exp(epsilon) * q, 0.0)))


def test_a_poisson_sample_that_is_shuffled_shows_more_than_the_poisson_pair():
    run = shuffled(Gaussian(noise_multiplier=0.4), 2)
    sampled = Poisson(probability=0.3).amplify(run.pairs(ZERO_OUT)["remove"], reverse=False)
    assert two_records(0.4, 0.3, 17.5) > 2.0 * sampled.delta(Bounds.exact(17.5)).upper
    with pytest.raises(UnsupportedProcess, match="Poisson: no proved bound under zero_out around Shuffled"):
        Sampled(run, Poisson(probability=0.3)).pairs(ZERO_OUT)


@pytest.mark.parametrize(
    "process",
    [
        Sampled(shuffled(G, 3), HALF),
        Sampled(Sampled(shuffled(G, 3), HALF), HALF),
        Sampled(shuffled(G, 3), TruncatedPoisson(probability=0.5, largest_batch=9)),
        Sampled(Compose((CUT,)), HALF),
        Sampled(CUT, TruncatedPoisson(probability=0.5, largest_batch=3)),
        Group(Sampled(shuffled(G, 3), HALF), 2),
        binned(CUT, 3),
        binned(shuffled(G, 3), 4),
        Sampled(binned(CUT, 3), HALF),
    ],
    ids=repr,
)
def test_zeroed_records_that_are_counted_are_refused_with_what_to_use(process):
    with pytest.raises(UnsupportedProcess, match=r"no proved bound under zero_out around .* Use FixedSize"):
        process.pairs(ZERO_OUT)


@pytest.mark.parametrize(
    "process", [Sampled(CUT, HALF), binned(CUT, 3), Sampled(binned(G, 3), HALF), binned(Sampled(G, HALF), 3)], ids=repr
)
def test_records_that_come_and_go_are_priced_as_before(process):
    found = delta_bounds(process, epsilon=0.5, adjacency="add_remove")
    assert 0 < found.upper < delta_bounds(G, epsilon=0.5).upper


@pytest.mark.parametrize("process", [Sampled(binned(G, 3), HALF), binned(Sampled(G, HALF), 3)], ids=repr)
def test_schemes_that_do_not_count_are_priced_under_zero_out(process):
    found = delta_bounds(process, epsilon=0.5, adjacency="zero_out")
    assert 0 < found.lower <= found.upper


@pytest.mark.parametrize("adjacency", [ADD_REMOVE, ZERO_OUT, REPLACE_ONE])
@pytest.mark.parametrize("step", [FIXED, Sampled(G, WithReplacement(batch_size=2, records=10))], ids=repr)
def test_the_number_of_records_in_a_bin_is_not_known(step, adjacency):
    for inside in (step, Repeat(step, 2), Group(step, 2)):
        with pytest.raises(UnsupportedProcess, match=r"BallsInBins: .*Use"):
            binned(inside, 5).pairs(adjacency)


def test_a_bound_of_moments_is_refused_as_the_pairs_are():
    with pytest.raises(UnsupportedProcess, match="no proved bound under zero_out"):
        binned(CUT, 3).renyi(ZERO_OUT)
    with pytest.raises(UnsupportedProcess, match="must count the records"):
        binned(FIXED, 3).renyi(ADD_REMOVE)


def test_batches_of_a_shuffle_hold_as_many_as_their_schemes_say():
    run = shuffled(FIXED, 5)
    assert Sampled(run, FixedSize(batch_size=50, records=90)).pairs(REPLACE_ONE)
    for batch in (10, 49, 60):
        with pytest.raises(UnsupportedProcess, match=r"records=10\) must count the records of the sample"):
            Sampled(run, FixedSize(batch_size=batch, records=90)).pairs(REPLACE_ONE)
    with pytest.raises(UnsupportedProcess, match=r"records=10\) must count the records of the sample"):
        Sampled(binned(FIXED, 5), FixedSize(batch_size=50, records=90)).pairs(REPLACE_ONE)


def test_fewer_records_than_batches_are_refused():
    with pytest.raises(UnsupportedProcess, match="batch_size must be at least 5"):
        Sampled(shuffled(G, 5), FixedSize(batch_size=4, records=10)).pairs(REPLACE_ONE)
    with pytest.raises(UnsupportedProcess, match="batch_size must be at least 10"):
        Sampled(shuffled(shuffled(G, 5), 2), FixedSize(batch_size=9, records=10)).pairs(REPLACE_ONE)


@pytest.mark.parametrize("step", [RandomizedResponse(epsilon=1.0), Laplace(noise_multiplier=1.0)], ids=repr)
def test_a_shuffled_sample_shows_a_lower_end_where_each_batch_holds_one_record(step):
    ends = [
        delta_bounds(
            Sampled(shuffled(step, 5), FixedSize(batch_size=m, records=20)), epsilon=0.05, adjacency="replace_one"
        )
        for m in (5, 10)
    ]
    assert 0 < ends[0].lower <= ends[0].upper <= ends[1].upper and ends[1].lower == 0.0


def everybody(local, records, epsilon):
    """δ(ε) of the number of answers 1 of `records` shuffled records, one of them 1 against 0, the others 0."""
    rest = 1.0 / (1.0 + math.exp(local))
    others = [
        math.comb(records - 1, k) * rest**k * (1 - rest) ** (records - 1 - k) if 0 <= k < records else 0.0
        for k in range(-1, records + 1)
    ]
    p, q = ([one * others[k] + (1 - one) * others[k + 1] for k in range(records + 1)] for one in (1.0 - rest, rest))
    return sum(max(0.0, a - math.exp(epsilon) * b) for a, b in zip(p, q, strict=True))


def test_all_records_of_a_shuffled_sample_answer():
    """Five batches of ten records: the witness of five batches of one would tell more than the ten answers do."""
    chance, at, local = 0.5, 0.2, 1.0
    truth = chance * everybody(local, 10, math.log1p(math.expm1(at) / chance))
    witness = shuffled(RandomizedResponse(epsilon=local), 5).pairs(REPLACE_ONE)["witness"]
    assert Poisson(probability=chance).amplify(witness, reverse=False).delta(Bounds.exact(at)).lower > 1.2 * truth
    run = Sampled(shuffled(RandomizedResponse(epsilon=local), 5), FixedSize(batch_size=10, records=20))
    assert delta_bounds(run, epsilon=at, adjacency="replace_one").lower <= truth
