"""PATE: pairs and prices, what these very votes show against the exact law of the answers, releases."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from accountant import compute_epsilon, epsilon_bounds
from mechanisms import Adjacency, Compose, Gaussian, InvalidParameter, KeyedSource, Repeat, from_json, to_json
from mechanisms.core.process import Process
from mechanisms.core.votes import DataDependentRenyi
from mechanisms.pate import ConfidentGNMax, GNMax, LNMax, VoteThreshold
from tests.strategies import ADD_REMOVE, NO_REALS, REPLACE_ONE

ALL = (
    GNMax(noise_multiplier=40.0),
    VoteThreshold(threshold=200.0, noise_multiplier=150.0),
    ConfidentGNMax(threshold=200.0, threshold_noise_multiplier=150.0, noise_multiplier=40.0),
    LNMax(noise_multiplier=20.0),
)


def named_classes(counts, noise):
    """The exact law of the noisiest class: Simpson's rule on panels between whole numbers, where kinks are."""
    reach = math.ceil(noise.isf(1e-16)) + 1
    x = np.linspace(-reach, reach, 2 * reach * 32 + 1)
    weights = np.tile((4.0, 2.0), reach * 32)[: len(x) - 2]
    weights = np.concatenate([[1.0], weights, [1.0]]) / 96.0
    found = []
    for i in range(len(counts)):
        below = [noise.cdf(x + counts[i] - count) for j, count in enumerate(counts) if j != i]
        found.append(np.sum(weights * noise.pdf(x) * np.prod(below, axis=0)))
    return np.array(found)


def neighbours(counts):
    """The histograms after one teacher has changed its vote."""
    for i, j in itertools.permutations(range(len(counts)), 2):
        if counts[i]:
            yield tuple(count - (k == i) + (k == j) for k, count in enumerate(counts))


def divergence(p, q, order):
    return math.log(np.sum(p**order * q ** (1 - order))) / (order - 1)


# Pairs


def test_every_adjacency_changes_one_vote():
    for mechanism in ALL:
        shown = {adjacency: mechanism.pairs(adjacency) for adjacency in Adjacency}
        assert len({pair for pairs in shown.values() for pair in pairs.values()}) == 1
        assert not shown[REPLACE_ONE]["replace"].attained


def test_noisy_votes_are_gaussians_and_laplacians_of_the_movement():
    assert GNMax(noise_multiplier=40.0).pairs(ADD_REMOVE)["add"].shift.contains(math.sqrt(2) / 40)
    assert ALL[1].pairs(ADD_REMOVE)["add"].shift.contains(1 / 150)
    both = Compose((ALL[1], ALL[0]))
    assert ALL[2].pairs(ADD_REMOVE)["add"].shift.overlaps(both.pairs(ADD_REMOVE)["add"].shift)
    assert LNMax(noise_multiplier=20.0).pairs(ADD_REMOVE)["add"].shift.contains(0.1)


@pytest.mark.parametrize("scale", [0.0, 5e-324, 1e-309])
def test_without_noise_nothing_is_protected(scale):
    for mechanism in (
        GNMax(noise_multiplier=scale),
        LNMax(noise_multiplier=scale),
        VoteThreshold(threshold=1.0, noise_multiplier=scale),
        ConfidentGNMax(threshold=1.0, threshold_noise_multiplier=1.0, noise_multiplier=scale),
        ConfidentGNMax(threshold=1.0, threshold_noise_multiplier=scale, noise_multiplier=1.0),
    ):
        assert compute_epsilon(mechanism, delta=1e-5) == math.inf


@pytest.mark.parametrize("kind", [GNMax, LNMax])
def test_no_answer_tells_neighbours_apart_more_than_the_pair(kind):
    """δ(ε) of the exact law of the named class, against the pair's."""
    for scale, counts in ((0.7, (2, 1, 0)), (2.0, (3, 3, 2)), (1.0, (1, 0))):
        pair = kind(noise_multiplier=scale).pairs(ADD_REMOVE)["remove"]
        noise = stats.norm(scale=scale) if kind is GNMax else stats.laplace(scale=scale)
        here = named_classes(counts, noise)
        for other in neighbours(counts):
            there = named_classes(other, noise)
            for epsilon in (0.0, 0.1, 0.5, 1.0):
                shown = np.sum(np.maximum(here - math.exp(epsilon) * there, 0.0))
                assert shown <= compute_delta_of(pair, epsilon) + 1e-9


def compute_delta_of(pair, epsilon):
    from mechanisms.core.bounds import Bounds

    return pair.delta(Bounds.exact(epsilon)).upper


# Prices of the settings in print


@pytest.mark.parametrize(
    ("scales", "queries", "delta"),
    [((150, 40), 640, 1e-5), ((200, 40), 8_500, 1e-6), ((200, 40), 1_500, 1e-5), ((500, 100), 12_000, 1e-8)],
)
def test_settings_in_print_cost_what_their_gaussians_cost(scales, queries, delta):
    """Data-independently: the teachers' agreement is what makes the ε in print (1.97, 4.96, 1.66, 2.03) smaller."""
    one = ConfidentGNMax(threshold=200.0, threshold_noise_multiplier=scales[0], noise_multiplier=scales[1])
    all_answered = compute_epsilon(Repeat(one, queries), delta=delta)
    shift = math.sqrt(queries * (1 / scales[0] ** 2 + 2 / scales[1] ** 2))
    assert all_answered == pytest.approx(compute_epsilon(Gaussian(noise_multiplier=1 / shift), delta=delta), rel=1e-6)
    few = Compose(
        (
            Repeat(VoteThreshold(threshold=200.0, noise_multiplier=scales[0]), queries),
            Repeat(GNMax(noise_multiplier=scales[1]), queries // 4),
        )
    )
    assert compute_epsilon(few, delta=delta) < all_answered


def test_laplace_votes_cost_less_than_the_moment_bound_in_print():
    """γ = .05, 100 queries, δ = 1e-5: 5.7985 by 4 T γ² + 2 γ √(2 T log 1/δ), 4.3068 as 2γ-private answers."""
    votes = Repeat(LNMax(noise_multiplier=20.0), 100)
    assert epsilon_bounds(votes, delta=1e-5, accountant="pld").upper < 4.3068 < 5.7985


# What these very votes show


@pytest.mark.parametrize("sigma", [1.0, 2.5, 6.0])
@pytest.mark.parametrize("counts", [(12, 0), (30, 2), (14, 1, 0), (25, 20, 3), (60, 1, 1)])
def test_gaussian_votes_show_no_more_than_their_own_bound(counts, sigma):
    found = GNMax(noise_multiplier=sigma).data_dependent(np.array(counts))
    noise = stats.norm(scale=sigma)
    here = named_classes(counts, noise)
    for other in neighbours(counts):
        there = named_classes(other, noise)
        for order in (1.5, 2.0, 4.0, 10.0):
            if min(here.min(), there.min()) > 1e-9:  # where quadrature keeps digits
                assert divergence(here, there, order) <= found.divergence(order) * (1 + 1e-6) + 1e-9


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("counts", [(6, 0), (15, 2), (9, 1, 0), (8, 7, 3)])
def test_laplace_votes_show_no_more_than_their_own_bound(counts, scale):
    found = LNMax(noise_multiplier=scale).data_dependent(np.array(counts))
    noise = stats.laplace(scale=scale)
    here = named_classes(counts, noise)
    for other in neighbours(counts):
        there = named_classes(other, noise)
        for order in (1.5, 2.0, 4.0, 10.0):
            assert divergence(here, there, order) <= found.divergence(order) * (1 + 1e-6) + 1e-9


@pytest.mark.parametrize("threshold", [5.0, 10.0, 25.0])
def test_confident_votes_show_no_more_than_their_own_bound(threshold):
    counts, first, second = (14, 1, 0), 3.0, 2.0
    whole = ConfidentGNMax(threshold=threshold, threshold_noise_multiplier=first, noise_multiplier=second)
    found = whole.data_dependent(np.array(counts))

    def law(votes):
        reached = stats.norm(scale=first).sf(threshold - max(votes))
        return np.append(reached * named_classes(votes, stats.norm(scale=second)), 1.0 - reached)

    for other in neighbours(counts):
        for order in (1.5, 2.0, 4.0):
            shown = divergence(law(counts), law(other), order)
            assert shown <= found.divergence(order) * (1 + 1e-6) + 1e-9


def test_agreement_makes_votes_cheaper_and_never_dearer():
    for mechanism, worst in ((ALL[0], 20.0 / 40**2), (ALL[3], 0.1)):
        costs = [mechanism.data_dependent([250 - k, k]).divergence(20.0) for k in (0, 40, 80, 125)]
        assert costs == sorted(costs) and costs[-1] <= worst * (1 + 1e-12) and costs[0] < worst / 50
    every = ALL[0].data_dependent([[250, 0]] * 640)
    assert every.divergence(20.0) == pytest.approx(640 * ALL[0].data_dependent([250, 0]).divergence(20.0), rel=1e-9)
    assert every.epsilon(1e-5) < compute_epsilon(Repeat(ALL[0], 640), delta=1e-5)


def test_what_depends_on_the_votes_is_no_process_and_shows_none():
    for mechanism in (ALL[0], ALL[2], ALL[3]):
        found = mechanism.data_dependent([[123, 45]])
        assert isinstance(found, DataDependentRenyi) and not isinstance(found, Process)
        assert "123" not in repr(found) and "not private" in repr(found)
        with pytest.raises(InvalidParameter, match="process"):
            Compose((found,))


def test_extreme_votes_have_finite_bounds():
    for mechanism in (ALL[0], ALL[2], ALL[3], GNMax(noise_multiplier=1e-3), LNMax(noise_multiplier=1e-3)):
        for votes in ([0, 0], [2**53, 0], [2**53, 2**53], [1, 0, 0, 0, 0]):
            for order in (1.0 + 1e-9, 2.0, 1e9):
                assert 0.0 <= mechanism.data_dependent(votes).divergence(order) < math.inf
    assert ALL[0].data_dependent(np.zeros((0, 3), dtype=int)).divergence(2.0) == 0.0
    for order in (1.0, 0.5, math.inf, math.nan):
        with pytest.raises(InvalidParameter, match="DataDependentRenyi: order must"):
            ALL[0].data_dependent([1, 0]).divergence(order)
    with pytest.raises(InvalidParameter, match="delta must be above 0"):
        ALL[0].data_dependent([1, 0]).epsilon(0.0)


# Releases


def test_answers_have_the_law_of_the_noisiest_class():
    counts = (3, 1, 2)
    for mechanism, noise in (
        (GNMax(noise_multiplier=2.0), stats.norm(scale=2.0)),
        (LNMax(noise_multiplier=2.0), stats.laplace(scale=2.0)),
    ):
        answers = mechanism.release(np.tile(counts, (4000, 1)), randomness=KeyedSource(1))
        seen = np.bincount(answers, minlength=3)
        assert stats.chisquare(seen, 4000 * named_classes(counts, noise)).pvalue > 1e-3


def test_confident_answers_are_given_as_often_as_the_threshold_is_reached():
    mechanism = ConfidentGNMax(threshold=4.0, threshold_noise_multiplier=2.0, noise_multiplier=1e-3)
    answers = mechanism.release(np.tile((1, 3, 0), (4000, 1)), randomness=KeyedSource(2))
    assert set(answers.tolist()) == {-1, 1}
    chance = stats.norm.sf(0.5)
    assert (
        stats.chisquare(np.bincount(answers + 1, minlength=3)[[0, 2]], [4000 * (1 - chance), 4000 * chance]).pvalue
        > 1e-3
    )


@pytest.mark.parametrize("mechanism", ALL, ids=repr)
def test_one_query_has_one_answer_and_several_have_as_many(mechanism):
    source = KeyedSource(0)
    one = mechanism.release([9, 1, 0], randomness=source)
    assert type(one) is (bool if isinstance(mechanism, VoteThreshold) else int)
    for queries in (0, 1, 5):
        many = mechanism.release(np.full((queries, 3), 7, dtype=np.uint8), randomness=source)
        assert many.shape == (queries,)


def test_without_noise_the_first_of_equals_is_named():
    for kind in (GNMax, LNMax):
        mechanism = kind(noise_multiplier=0.0)
        assert mechanism.release([[2, 5, 5], [4, 4, 4]], randomness=KeyedSource(0)).tolist() == [1, 0]


@pytest.mark.parametrize("mechanism", ALL, ids=repr)
@pytest.mark.parametrize(
    "votes",
    [7, [], [3], [[3]], [1.0, 2.0], [True, False], ["a", "b"], np.zeros((2, 2, 2), dtype=int), [[1, 2], [3, 4]] * 0],
    ids=repr,
)
def test_what_is_no_histogram_is_refused(mechanism, votes):
    with pytest.raises(InvalidParameter, match=r"value must hold whole numbers of shape .*\n?.*bincount"):
        mechanism.release(votes, randomness=KeyedSource(0))


@pytest.mark.parametrize("mechanism", ALL, ids=repr)
def test_impossible_counts_are_refused_without_naming_them(mechanism):
    for votes in ([-7, 3], [2**53 + 1, 0]):
        with pytest.raises(InvalidParameter, match=r"from 0 to 2\*\*53") as error:
            mechanism.release(votes, randomness=KeyedSource(0))
        assert "-7" not in str(error.value) and "9007199254740993" not in str(error.value)
    for sensitivity in (2.0, 0.5, math.nan):
        with pytest.raises(InvalidParameter, match="a teacher has one vote"):
            mechanism.release([1, 2], sensitivity=sensitivity, randomness=KeyedSource(0))


@pytest.mark.parametrize("mechanism", ALL, ids=repr)
def test_it_goes_to_json_and_back(mechanism):
    assert from_json(to_json(Repeat(mechanism, 3))) == Repeat(mechanism, 3)
    assert eval(repr(mechanism), {kind.__name__: kind for kind in map(type, ALL)}) == mechanism


def test_their_golden_file_loads_for_ever():
    golden = Path(__file__).resolve().parents[1] / "reference" / "process_v1_votes.json"
    votes, threshold, confident, laplace = ALL
    assert from_json(golden.read_text()) == Compose((Repeat(confident, 640), threshold, votes, laplace))


@pytest.mark.parametrize("scale", [-1e-9, math.inf, *NO_REALS], ids=repr)
def test_what_is_no_scale_is_refused(scale):
    for build in (
        lambda: GNMax(noise_multiplier=scale),
        lambda: LNMax(noise_multiplier=scale),
        lambda: VoteThreshold(threshold=1.0, noise_multiplier=scale),
        lambda: ConfidentGNMax(threshold=1.0, threshold_noise_multiplier=scale, noise_multiplier=1.0),
        lambda: ConfidentGNMax(threshold=1.0, threshold_noise_multiplier=1.0, noise_multiplier=scale),
    ):
        with pytest.raises(InvalidParameter, match="noise_multiplier must"):
            build()
    with pytest.raises(InvalidParameter, match="threshold must"):
        VoteThreshold(threshold=scale if scale != -1e-9 else math.inf, noise_multiplier=1.0)
