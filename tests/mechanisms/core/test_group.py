"""Groups of records: closed forms, every group of a small sampled step, group privacy, refusals."""

import itertools
import math

import numpy as np
import pytest

from accountant import epsilon_bounds
from accountant.pld import PLD
from mechanisms import (
    Allocated,
    ApproximateDP,
    BallsInBins,
    Compose,
    FixedSize,
    Gaussian,
    Group,
    InvalidParameter,
    Laplace,
    Poisson,
    PureDP,
    Repeat,
    Sampled,
    Shuffled,
    UnsupportedProcess,
    from_json,
    leaves,
    to_json,
)
from mechanisms.core.bounds import Bounds
from mechanisms.sum import Sum
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

G = Gaussian(noise_multiplier=1.0)
RATIOS = np.exp(np.linspace(0.0, 2.0, 9))


@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one", "zero_out"])
def test_a_group_of_gaussian_steps_is_a_gaussian_of_less_noise(adjacency):
    group, alone = Group(Repeat(G, 5), 4), Repeat(Gaussian(noise_multiplier=0.25), 5)
    found, expected = (epsilon_bounds(one, delta=1e-6, adjacency=adjacency) for one in (group, alone))
    assert found.overlaps(expected) and found.width <= 1e-6 * found.upper


def test_groups_are_asked_of_every_step():
    step = Sampled(G, Poisson(probability=0.1))
    assert leaves(Group(Compose((Repeat(step, 3), G)), 2)) == leaves(Compose((Repeat(Group(step, 2), 3), Group(G, 2))))
    assert leaves(Group(Group(step, 2), 3)) == ((Group(step, 6), 1),)
    assert leaves(Group(step, 1)) == ((step, 1),)


def shown(group, chance, z, others=(1,)):
    """The density of a sum of a Poisson sample with standard normal noise."""
    records, law = (*others, *group), 0.0
    for kept in itertools.product((0, 1), repeat=len(records)):
        weight = math.prod(chance if one else 1 - chance for one in kept)
        total = sum(record for record, one in zip(records, kept, strict=True) if one)
        law = law + weight * np.exp(-0.5 * (z - total) ** 2)
    return law * (z[1] - z[0]) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize("adjacency", [ADD_REMOVE, REPLACE_ONE, ZERO_OUT])
def test_no_group_of_a_sampled_gaussian_shows_more_than_its_pair_and_equal_records_show_it(adjacency):
    chance, size, z = 0.25, 3, np.linspace(-14, 14, 5601)  # sums of (p − r q)₊ err by h²/8 times its kink, 1e-6
    pairs = Group(Sampled(G, Poisson(probability=chance)), size).pairs(adjacency)
    bounds = {d: pairs[d].delta(Bounds.exact(np.log(RATIOS))) for d in adjacency.directions}
    replaced = itertools.product((-1, 0.5), repeat=size) if adjacency is REPLACE_ONE else [()]
    worst = dict.fromkeys(adjacency.directions, np.zeros(len(RATIOS)))
    for after, before in itertools.product(replaced, itertools.product((1, -1, 0), repeat=size)):
        p, q = shown(before, chance, z, ()), shown(after, chance, z, ())
        for direction, (a, b) in zip(
            (adjacency.directions[0], adjacency.directions[-1]), ((p, q), (q, p)), strict=True
        ):
            truth = np.array([np.maximum(a - ratio * b, 0.0).sum() for ratio in RATIOS])
            assert (truth <= bounds[direction].upper + 1e-6).all()
            worst[direction] = np.maximum(worst[direction], truth)
    for direction, found in bounds.items():
        assert np.allclose(worst[direction], found.lower, rtol=1e-4, atol=1e-6) and pairs[direction].attained


def test_groups_of_guarantees_follow_group_privacy():
    guarantee = ApproximateDP(epsilon=0.5, delta=1e-7, adjacency=ADD_REMOVE)
    found = epsilon_bounds(Group(guarantee, 3), delta=1e-7 * sum(math.exp(0.5 * i) for i in range(3)) * 1.001)
    assert found.lower == 0.0 and found.upper == pytest.approx(1.5, rel=1e-3)


@pytest.mark.thinned(4)
@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
@pytest.mark.parametrize("sizes", [(1, 2), (2, 4)])
def test_groups_of_sampled_laplace_steps_have_an_upper_end_that_grows(sizes, adjacency):
    step, rough = Sampled(Laplace(noise_multiplier=2.0), Poisson(probability=0.25)), PLD(most_points=2**12)
    less, more = (
        epsilon_bounds(Group(step, k), delta=1e-4, adjacency=adjacency, accountant=rough).upper for k in sizes
    )
    assert 0 < less < more < sizes[1] * (1.0 if adjacency == "replace_one" else 0.5) + 1e-9


def test_larger_groups_show_no_less():
    step = Sampled(G, Poisson(probability=0.1))
    for epsilon in (0.0, 0.5, 2.0):
        deltas = [Group(step, k).pairs(ADD_REMOVE)["remove"].delta(Bounds.exact(epsilon)) for k in (1, 2, 5)]
        assert deltas[0].upper < deltas[1].lower < deltas[2].upper


def test_groups_come_back_from_json():
    process = Group(Repeat(Sampled(G, Poisson(probability=0.1)), 3), 2)
    assert from_json(to_json(process)) == process


def test_groups_in_batches_of_fixed_size_are_refused_by_name():
    with pytest.raises(UnsupportedProcess, match="Group: no proved bound for groups in FixedSize"):
        Group(Sampled(G, FixedSize(batch_size=1, records=5)), 2).pairs(ADD_REMOVE)
    with pytest.raises(UnsupportedProcess, match=r"Group: of 1000 chances of 0\.5 at most 250 may come true"):
        Group(Sampled(G, Poisson(probability=0.5)), 1000).pairs(ADD_REMOVE)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Group(G, 0), "Group: size must be at least 1, got 0"),
        (lambda: Group("x", 2), "Group: every part must be a process"),
        (lambda: Group(PureDP(epsilon=1.0, adjacency="zero_out"), 1.5), "Group: size must be a whole number"),
    ],
)
def test_what_is_no_group_is_refused(build, message):
    with pytest.raises(InvalidParameter, match=message):
        build()


@pytest.mark.parametrize("step", [G, Laplace(noise_multiplier=1.0)])
@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one", "zero_out"])
def test_samples_of_nothing_and_of_everything_are_looked_through(step, adjacency):
    """Their weights are 0 ÷ 0, and there is nothing to spread over one step or none."""

    def asked(part):
        return leaves(Group(part, 3)), epsilon_bounds(Group(part, 3), delta=1e-3, adjacency=adjacency)

    for same in (
        Sampled(step, Poisson(probability=1.0)),
        Allocated(Repeat(step, 1), Shuffled()),
        Allocated(Repeat(Sampled(step, Poisson(probability=1.0)), 1), BallsInBins()),
    ):
        assert asked(same) == asked(step)
    for nothing in (Sampled(step, Poisson(probability=0.0)), Allocated(Repeat(step, 0), Shuffled())):
        assert asked(nothing) == asked(Compose(()))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("around", [Shuffled(), BallsInBins()])
def test_a_step_that_is_spread_is_asked_without_what_samples_nothing(around):
    step = Group(Sampled(G, Poisson(probability=1.0)), 2)
    spread, same = (Allocated(Repeat(one, 3), around) for one in (step, Group(G, 2)))
    assert leaves(spread) == leaves(same) == ((same, 1),)
    assert epsilon_bounds(spread, delta=1e-3, adjacency="replace_one").upper < math.inf


def test_records_that_cannot_be_opposite_attain_no_pair_of_opposite_ones():
    """Two records that add 0 or 1 each move a sum by 2 at most, as if nothing were sampled: Gaussian of μ = 2."""
    for lower, opposite in ((0.0, False), (-1.0, True)):
        step = Sampled(Sum(lower=lower, upper=1.0, noise=G), Poisson(probability=0.9))
        found = epsilon_bounds(Group(step, 2), delta=1e-3, adjacency="replace_one")
        unsampled = epsilon_bounds(Gaussian(noise_multiplier=0.5), delta=1e-3).upper
        assert (found.lower > unsampled) == opposite and found.upper > unsampled
