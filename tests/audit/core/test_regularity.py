"""Bets that samples are more regular than Poisson ones: fair against every loop that draws such, and won by others."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from audit.core.faults import TrainerFault
from audit.core.regularity import CHANCE, RATES, Regularity, log_means_of_repeats, most_like


def wealth(samples, *, records, probability):
    """Return what either bet has come to, and the most that it ever had."""
    bets = Regularity(records=records, probability=probability)
    for sample in samples:
        bets.add(sample)
    average = [float(np.exp(logs).mean()) for logs in (bets._turns, bets._sizes)]
    return np.array([*average, *np.exp(bets._most)])


@pytest.mark.parametrize("probability", [0.5, 0.2])
@pytest.mark.parametrize("skipping", [False, True])
@pytest.mark.parametrize(("pool", "steps"), [(1, 4), (2, 3), (3, 2), pytest.param(4, 3, marks=pytest.mark.slow)])
def test_no_bet_gains_on_average_against_poisson_samples_of_any_pool(pool, steps, skipping, probability):
    subsets = [[i for i in range(pool) if number >> i & 1] for number in range(skipping, 2**pool)]
    masses = [probability ** len(one) * (1 - probability) ** (pool - len(one)) for one in subsets]
    total, mean = sum(masses), np.zeros(4)
    for chosen in itertools.product(range(len(subsets)), repeat=steps):
        chance = math.prod(masses[one] / total for one in chosen)
        mean += chance * wealth([subsets[one] for one in chosen], records=4, probability=probability)
    assert np.all(mean[:2] <= 1 + 1e-9)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("records", "pool", "probability", "steps", "skipping"),
    [
        (600, 600, 0.2, 15, False),
        (2000, 1000, 0.01, 25, False),  # half of the records for a quarter of an epoch
        (2000, 2000, 0.01, 10, False),
        (50, 50, 0.02, 150, True),
        (200, 20, 0.02, 150, True),
    ],
)
def test_poisson_loops_are_not_called_out(records, pool, probability, steps, skipping):
    rng, most = np.random.default_rng(0), []
    for _ in range(20):
        samples = [np.flatnonzero(rng.random(pool) < probability) for _ in range(steps)]
        kept = [one for one in samples if len(one) or not skipping]
        most.append(wealth(kept, records=records, probability=probability)[2:].max())
    assert max(most) < 1e4 and np.mean(np.array(most) >= 10) <= 0.25  # by Ville's inequality .002 and .2 at most


def in_turn(rng, records, size, epochs, *, keep_last=True):
    for _ in range(epochs):
        order = rng.permutation(records)
        for start in range(0, records if keep_last else records - size + 1, size):
            yield order[start : start + size]


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (lambda rng: in_turn(rng, 300, 75, 1), "came again too rarely for Poisson samples, as in a shuffle"),
        (lambda rng: in_turn(rng, 300, 64, 4, keep_last=False), "came again too rarely"),
        (lambda rng: list(in_turn(rng, 300, 15, 1))[:8], "came again too rarely"),  # for less than half an epoch
        (lambda rng: in_turn(rng, 200, 50, 1), "came again too rarely"),  # on two thirds of the records
        (lambda rng: np.array_split(rng.permutation(300), np.sort(rng.integers(0, 300, 5))), "came again too rarely"),
        (lambda rng: (rng.choice(300, 75, replace=False) for _ in range(20)), "batches are too equal in size"),
        (lambda rng: (rng.choice(200, 75, replace=False) for _ in range(20)), "batches are too equal in size"),
    ],
)
def test_shuffles_and_batches_of_one_size_are_told_apart(samples, told):
    bets = Regularity(records=300, probability=0.25)
    for sample in samples(np.random.default_rng(0)):
        bets.add(sample)
    with pytest.raises(TrainerFault, match=told):
        bets.check()


def test_steps_that_took_a_record_twice_or_nothing_at_all_are_no_evidence():
    bets = Regularity(records=10, probability=0.1)
    for _ in range(500):
        bets.add([])
        bets.add([*range(10), 3])  # a loop that tests on all records before each step
    bets.check()
    assert not bets._turns.any() and not bets._sizes.any()


def test_means_are_those_of_the_laws_written_out():
    for records, seen, size in [(9, 4, 3), (9, 8, 1), (30, 0, 7), (30, 12, 18)]:
        masses = stats.hypergeom(records, seen, size).pmf(np.arange(size + 1))
        exact = [float(masses @ np.exp(-rate * np.arange(size + 1))) for rate in RATES]
        np.testing.assert_allclose(np.exp(log_means_of_repeats(records, seen, size)), exact, rtol=1e-9)
    for size, probability, rate in [(1, 0.1, 0.5), (3, 0.5, 0.2), (7, 0.2, 50.0), (20, 0.3, 0.05)]:
        numbers = np.arange(151)
        masses = np.array([stats.binom.pmf(numbers, pool, probability) for pool in range(1, 151)])
        means = masses * np.exp(-rate * (numbers - size) ** 2)
        given = means[:, 1:].sum(axis=1) / (1 - masses[:, 0])
        most = max(means.sum(axis=1).max(), given.max())
        assert math.exp(most_like(size, probability, rate, records=150)) == pytest.approx(most, rel=1e-8)
    assert CHANCE == 1e-9
