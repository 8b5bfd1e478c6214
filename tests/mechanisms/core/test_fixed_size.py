"""Batches of a fixed size: every dataset and neighbour of a small mechanism, published values, refusals."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from accountant import delta_bounds, epsilon_bounds
from accountant.pld import PLD
from mechanisms import Compose, FixedSize, Gaussian, Laplace, Poisson, PureDP, Repeat, Sampled, UnsupportedProcess
from mechanisms.core.bounds import Bounds
from mechanisms.core.fixed_size import ratio
from tests.strategies import ADD_REMOVE, REPLACE_ONE, ZERO_OUT

G = Gaussian(noise_multiplier=1.0)
ROUGH = PLD(relative_width=1e-4, most_points=2**16)  # no grid closes the gap between a pair and its witness
EPSILON, RECORDS = 1.3, 6
RATIOS = np.exp(np.linspace(0.0, 1.3, 14))


def noisy_count(ones):
    """A table of answers, each at most e^EPSILON times as probable for one more or less of the ones."""
    weights = np.exp(-0.5 * EPSILON * np.abs(np.arange(-1, RECORDS + 2) - ones))
    return weights / weights.sum()


def flipped_parity(ones):
    """Randomised response to whether the ones are even: it attains its ε under replace-one."""
    yes = 1 / (1 + math.exp(EPSILON))
    return np.array([yes, 1 - yes]) if ones % 2 else np.array([1 - yes, yes])


def batches(dataset, size):
    """Every batch of `size` without replacement, each as likely."""
    return [(1 / math.comb(len(dataset), size), batch) for batch in itertools.combinations(dataset, size)]


def shown(mechanism, dataset, drawn):
    """The law of the answers, over all batches."""
    return sum(chance * mechanism(sum(batch)) for chance, batch in drawn(dataset))


def divergence(p, q, alpha):
    """sup over S of P(S) − α Q(S)."""
    return float(np.maximum(p - alpha * q, 0.0).sum())


def neighbours(adjacency):
    """Every ordered pair of neighbouring datasets of zeros and ones, the larger one of RECORDS records."""
    for rest in itertools.product((0, 1), repeat=RECORDS - 1):
        both = (((*rest, 0), (*rest, 1)),) if adjacency is REPLACE_ONE else (((*rest, 0), rest), ((*rest, 1), rest))
        for one, other in both:
            yield "remove" if adjacency is ADD_REMOVE else "replace", one, other
            yield "add" if adjacency is ADD_REMOVE else "replace", other, one


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("adjacency", [ADD_REMOVE, REPLACE_ONE])
@pytest.mark.parametrize("mechanism", [noisy_count, flipped_parity])
def test_no_neighbours_of_a_small_mechanism_show_more_than_the_pair(mechanism, adjacency, size):
    process = Sampled(PureDP(epsilon=EPSILON, adjacency=REPLACE_ONE), FixedSize(batch_size=size, records=RECORDS))
    bounds = {d: pair.delta(Bounds.exact(np.log(RATIOS))) for d, pair in process.pairs(adjacency).items()}
    worst = dict.fromkeys(adjacency.directions, np.zeros(len(RATIOS)))
    for direction, one, other in neighbours(adjacency):
        p, q = (shown(mechanism, data, lambda data: batches(data, size)) for data in (one, other))
        truth = np.array([divergence(p, q, alpha) for alpha in RATIOS])
        assert (truth <= bounds[direction].upper + 1e-12).all()
        worst[direction] = np.maximum(worst[direction], truth)
    if mechanism is flipped_parity and size == 1:  # others hold 0, and so does x'
        witness = bounds["witness"] if adjacency is REPLACE_ONE else bounds["remove"]
        assert np.allclose(worst[adjacency.directions[0]], witness.lower, rtol=1e-9, atol=1e-12)


def test_an_adversary_that_takes_a_pair_and_then_its_reverse_shows_no_more_than_the_merged_pair():
    size = 2
    step = Sampled(PureDP(epsilon=EPSILON, adjacency=REPLACE_ONE), FixedSize(batch_size=size, records=RECORDS))
    bound = delta_bounds(Repeat(step, 2), epsilon=0.4, adjacency="replace_one", accountant=ROUGH)
    x, y = (0,) * RECORDS, (1,) + (0,) * (RECORDS - 1)
    forth, back = (
        [shown(flipped_parity, data, lambda d: batches(d, size)) for data in order] for order in ((y, x), (x, y))
    )
    worst = 0.0
    for first, second in itertools.product((forth, back), repeat=2):
        p, q = (np.multiply.outer(first[k], second[k]).ravel() for k in (0, 1))
        worst = max(worst, divergence(p, q, math.exp(0.4)))
    assert 0 < worst <= bound.upper


def test_an_adversary_that_turns_a_gaussian_pair_round_shows_no_more_than_the_merged_pair():
    """(A, B) in one step, (B, A) in the next, on a grid of both answers: others at −1, the record at 1 or −1."""
    mu, share = 2.0, 0.25
    z = np.linspace(-9, 12, 1401)
    base = np.exp(-0.5 * z**2) * (z[1] - z[0]) / math.sqrt(2 * math.pi)
    mixed = base * (1 - share + share * np.exp(mu * z - mu**2 / 2))
    process = Repeat(Sampled(G, FixedSize(batch_size=1, records=4)), 2)
    for epsilon in (0.1, 0.5, 1.5):
        bound = delta_bounds(process, epsilon=epsilon, adjacency="replace_one", accountant=ROUGH)
        same = divergence(np.multiply.outer(mixed, mixed), np.multiply.outer(base, base), math.exp(epsilon))
        turned = divergence(np.multiply.outer(mixed, base), np.multiply.outer(base, mixed), math.exp(epsilon))
        assert max(same, turned) <= bound.upper * (1 + 1e-6)
        assert bound.lower == pytest.approx(same, rel=1e-3)


FINER = PLD(relative_width=1e-4, most_points=2**18)  # the rough grid takes up to 3.3e-3 off the lower end
LEBEDA = [
    ((0.7, 1000, 1000), 13.2928, 0.97835),
    ((0.8, 1000, 10_000), 15.2516, 0.94720),
    ((0.6, 10_000, 10_000), 14.5386, 0.53275),
]


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("setting", "published", "poisson"), LEBEDA)
def test_replacing_a_record_of_fixed_batches_costs_what_was_published(setting, published, poisson):
    """Lebeda et al., arXiv:2405.20769, computed with an accountant whose own error is up to 1e-3 there: (σ, 1/γ, T)."""
    sigma, records, times = setting
    step = Sampled(Gaussian(noise_multiplier=sigma), FixedSize(batch_size=1, records=records))
    found = epsilon_bounds(Repeat(step, times), delta=1e-6, adjacency="replace_one", accountant=FINER)
    assert found.lower == pytest.approx(published, abs=1e-3)
    assert poisson < found.lower < found.upper < found.lower * 1.08


def test_under_add_remove_the_bracket_closes_around_the_published_value():
    step = Sampled(Gaussian(noise_multiplier=0.7), FixedSize(batch_size=1, records=1000))
    found = epsilon_bounds(Repeat(step, 1000), delta=1e-6, adjacency="add_remove", accountant=ROUGH)
    assert found.lower == pytest.approx(13.2928, abs=2e-3) and found.width < 1e-2


def test_under_add_remove_a_batch_shares_the_noise_of_poisson_samples_at_half_the_noise():
    fixed = Sampled(Gaussian(noise_multiplier=1.0), FixedSize(batch_size=1, records=8))
    poisson = Sampled(Gaussian(noise_multiplier=0.5), Poisson(probability=0.125))
    assert fixed.pairs(ADD_REMOVE) == poisson.pairs(ADD_REMOVE)


def test_a_share_that_is_no_float_is_dominated_above_and_witnessed_below():
    pairs = Sampled(G, FixedSize(batch_size=1, records=3)).pairs(ADD_REMOVE)
    assert not pairs["remove"].attained and pairs["witness"].attained
    assert Fraction(pairs["witness"].probability) < Fraction(1, 3) < Fraction(pairs["remove"].probability)
    assert pairs["witness_reversed"] == pairs["witness"].reverse()


@pytest.mark.parametrize(("part", "whole"), [(1, 3), (1, 4), (256, 60_000), (1, 10**300), (10**20, 10**20 + 1), (2, 7)])
def test_ratios_are_enclosed_between_neighbouring_floats(part, whole):
    found = ratio(part, whole)
    (a, b), (c, d) = found.lower.as_integer_ratio(), found.upper.as_integer_ratio()
    assert a * whole <= part * b and c * whole >= part * d
    assert 0 < found.lower <= found.upper <= 1 and found.upper - found.lower <= 4e-16 * found.upper


@pytest.mark.parametrize("adjacency", [ADD_REMOVE, REPLACE_ONE, ZERO_OUT])
@pytest.mark.parametrize("mechanism", [G, Laplace(noise_multiplier=1.0)])
def test_fixed_size_batches_never_hurt(mechanism, adjacency):
    whole = mechanism.pairs(REPLACE_ONE)["replace"]
    for size in (1, 2, 6):
        sampled = Sampled(mechanism, FixedSize(batch_size=size, records=7)).pairs(adjacency)
        for pair in sampled.values():
            for epsilon in (0.0, 0.3, 1.0):
                assert pair.delta(Bounds.exact(epsilon)).lower <= whole.delta(Bounds.exact(epsilon)).upper


@pytest.mark.parametrize("adjacency", ["replace_one", "zero_out"])
def test_a_batch_of_all_records_is_no_sample(adjacency):
    everything = Sampled(G, FixedSize(batch_size=5, records=5))
    assert epsilon_bounds(everything, delta=1e-5, adjacency=adjacency).overlaps(
        epsilon_bounds(G, delta=1e-5, adjacency=adjacency)
    )


def test_a_batch_of_all_records_cannot_lose_one():
    with pytest.raises(UnsupportedProcess, match="batch_size must be less than records under add_remove, got 5 of 5"):
        Sampled(G, FixedSize(batch_size=5, records=5)).pairs(ADD_REMOVE)


def test_batches_of_nothing_cost_nothing():
    nothing = Compose((Sampled(G, FixedSize(batch_size=0, records=5)),))
    assert epsilon_bounds(nothing, delta=1e-5, adjacency="add_remove").upper == 0.0


def test_a_batch_of_a_batch_is_witnessed_by_the_product_of_their_shares():
    inner = Sampled(G, FixedSize(batch_size=1, records=4))
    pairs = Sampled(inner, FixedSize(batch_size=4, records=16)).pairs(REPLACE_ONE)
    assert pairs["witness"].probability == pytest.approx(1 / 16, rel=1e-15) and pairs["witness"].attained
    assert pairs["replace"].delta(Bounds.exact(0.1)).upper >= pairs["witness"].delta(Bounds.exact(0.1)).lower > 0


@pytest.mark.slow
@pytest.mark.parametrize("adjacency", [ADD_REMOVE, REPLACE_ONE])
def test_a_batch_around_a_poisson_sample_shows_no_less_than_its_lower_end(adjacency):
    """Opposite records attain the Poisson pair where others contribute nothing, not where they hold what x' does.

    Each of a batch of 2 out of 4 records takes part with probability 1/2, σ = 1/2; all others hold −1 or 0.
    """
    step = Sampled(Gaussian(noise_multiplier=0.5), Poisson(probability=0.5))
    process = Sampled(step, FixedSize(batch_size=2, records=4))
    z = np.linspace(-11.0, 11.0, 40001)

    def law(dataset):
        sums = [(w / 4, sum(kept)) for w, (a, b) in batches(dataset, 2) for kept in ((), (a,), (b,), (a, b))]
        return sum(w * np.exp(-2.0 * (z - total) ** 2) for w, total in sums) * math.sqrt(2 / math.pi) * (z[1] - z[0])

    for epsilon in (0.5, 1.0, 2.0):
        worst = 0.0
        for other, x in itertools.product((-1, 0), (-1, 1)):
            rest = (other,) * 3
            for last in ((),) if adjacency is ADD_REMOVE else ((-1,), (0,), (1,)):
                p, q = law((*rest, x)), law((*rest, *last))
                worst = max(worst, divergence(p, q, math.exp(epsilon)), divergence(q, p, math.exp(epsilon)))
        found = delta_bounds(process, epsilon=epsilon, adjacency=adjacency, accountant=ROUGH)
        assert 0 < found.lower <= worst * (1 + 1e-6) and worst <= found.upper


def test_a_step_without_a_pair_under_replace_one_is_refused_by_name():
    removed = PureDP(epsilon=1.0, adjacency=ADD_REMOVE)
    with pytest.raises(UnsupportedProcess, match="its guarantee is about add_remove neighbours, got replace_one"):
        Sampled(removed, FixedSize(batch_size=1, records=2)).pairs(ADD_REMOVE)
