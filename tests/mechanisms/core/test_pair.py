"""Every kind of pair against its definition in 40 digits: δ(ε), masses on bins, moments, reversal."""

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms import DiscretePair, Gaussian, InvalidParameter, Laplace, Poisson, RandomizedResponse, Sampled
from mechanisms.core.bounds import Bounds
from tests.reference.truth import (
    Normal,
    SampledAdd,
    SampledRemove,
    Table,
    delta,
    delta_by_integration,
    gaussian_densities,
    sampled_gaussian,
    sampled_laplace,
)
from tests.strategies import ADD_REMOVE, REPLACE_ONE, Tabulated, tables

P, Q = (0.5, 0.25, 0.125, 0.125, 0.0), (0.125, 0.25, 0.5, 0.0, 0.125)
DISCRETE = Tabulated(p=P, q=Q)


@pytest.fixture(autouse=True)
def forty_digits():
    with mp.workdps(40):
        yield


def response(epsilon, categories):
    weight = mp.exp(mp.mpf(epsilon))
    own, other = weight / (weight + categories - 1), 1 / (weight + categories - 1)
    rest = [other] * (categories - 2)
    return Table([own, other, *rest], [other, own, *rest])


def in_both_directions():
    """(name, pair, its law in mpmath)."""
    for sigma, chance in itertools.product((0.3, 1.0, 7.0), (1.0, 0.9, 0.2, 1e-3)):
        pairs = Sampled(Gaussian(noise_multiplier=sigma), Poisson(probability=chance)).pairs(ADD_REMOVE)
        for direction, pair in pairs.items():
            yield f"gaussian-{sigma}-{chance}-{direction}", pair, sampled_gaussian(sigma, chance, direction)
    for scale, chance in itertools.product((0.05, 0.4, 1.0, 30.0), (1.0, 0.9, 0.2, 1e-3)):
        pairs = Sampled(Laplace(noise_multiplier=scale), Poisson(probability=chance)).pairs(ADD_REMOVE)
        for direction, pair in pairs.items():
            yield f"laplace-{scale}-{chance}-{direction}", pair, sampled_laplace(scale, chance, direction)
    for epsilon, categories in ((0.1, 2), (1.0, 2), (1.0, 5), (6.0, 3)):
        mechanism = RandomizedResponse(epsilon=epsilon, categories=categories)
        yield f"response-{epsilon}-{categories}", mechanism.pairs(REPLACE_ONE)["replace"], response(epsilon, categories)
    table, mirrored = Table([mp.mpf(x) for x in P], [mp.mpf(x) for x in Q]), Table([*map(mp.mpf, Q)], [*map(mp.mpf, P)])
    yield "table-remove", DISCRETE.pairs(ADD_REMOVE)["remove"], table
    yield "table-add", DISCRETE.pairs(ADD_REMOVE)["add"], mirrored
    sampled = Sampled(DISCRETE, Poisson(probability=0.25)).pairs(ADD_REMOVE)
    yield "table-sampled-remove", sampled["remove"], SampledRemove(table, mp.mpf(0.25))
    yield "table-sampled-add", sampled["add"], SampledAdd(mirrored, mp.mpf(0.25))
    silent = Sampled(Gaussian(noise_multiplier=0.0), Poisson(probability=0.25)).pairs(ADD_REMOVE)
    tell_all = Table([mp.mpf(1), mp.mpf(0)], [mp.mpf(0), mp.mpf(1)])
    yield "no-noise-remove", silent["remove"], SampledRemove(tell_all, mp.mpf(0.25))
    yield "no-noise-add", silent["add"], SampledAdd(tell_all, mp.mpf(0.25))


with mp.workdps(260):
    PAIRS = {name: (pair, law) for name, pair, law in in_both_directions()}
over_all_pairs = pytest.mark.parametrize("name", PAIRS)
EPSILONS = (0.0, 1e-9, 0.003, 0.1, 0.27, 1.0, 2.7, 9.0, 30.0)


def holds(found, value):
    return mp.mpf(found.lower) <= value <= mp.mpf(found.upper)


@over_all_pairs
def test_delta_encloses_its_definition(name):
    pair, law = PAIRS[name]
    for epsilon in EPSILONS:
        found = pair.delta(Bounds.exact(epsilon))
        truth = max(delta(law, mp.mpf(epsilon)), mp.mpf(0))
        assert holds(found, truth), (epsilon, found, mp.nstr(truth, 20))


@pytest.mark.thinned(3)
@over_all_pairs
def test_delta_of_an_array_is_that_of_its_elements(name):
    pair, _ = PAIRS[name]
    together = pair.delta(Bounds.exact(np.array(EPSILONS)))
    for k, epsilon in enumerate(EPSILONS):
        alone = pair.delta(Bounds.exact(epsilon))
        assert together[k].overlaps(alone) and abs(together[k].upper - alone.upper) <= 1e-15


@pytest.mark.parametrize("direction", ["remove", "add"])
@pytest.mark.parametrize(("sigma", "chance"), [(1.0, 1.0), (0.7, 0.2), (3.0, 0.01)])
def test_delta_of_a_sampled_gaussian_is_the_integral_of_its_densities(sigma, chance, direction):
    pair = Sampled(Gaussian(noise_multiplier=sigma), Poisson(probability=chance)).pairs(ADD_REMOVE)[direction]
    p, q = gaussian_densities(sigma, chance, direction)
    for epsilon in (0.0, 0.05, 0.5):
        split = mp.findroot(lambda z, e=epsilon: mp.log(p(z) / q(z)) - e, (0, 1)) if crosses(p, q, epsilon) else 0
        truth = delta_by_integration(p, q, epsilon, sorted([-20, 25, split, 0, 1 / sigma]))
        found = pair.delta(Bounds.exact(epsilon))
        assert mp.mpf(found.lower) * (1 - mp.mpf("1e-25")) <= truth <= mp.mpf(found.upper) + mp.mpf("1e-25")


def crosses(p, q, epsilon):
    signs = {mp.sign(p(z) - mp.exp(epsilon) * q(z)) for z in (mp.mpf(-20), mp.mpf(25))}
    return len(signs) == 2


@pytest.mark.thinned(3)
@over_all_pairs
def test_delta_is_enclosed_to_eleven_digits(name):
    pair, _ = PAIRS[name]
    for epsilon in EPSILONS:
        found = pair.delta(Bounds.exact(epsilon))
        assert found.upper - found.lower <= 1e-11 * found.upper + 1e-14


# Bins


def grids():
    """Edges of every kind: fine and coarse, about the middle and in the tails, with and without ends at infinity."""
    yield np.linspace(-0.01, 0.01, 9)
    yield np.linspace(-3.0, 3.0, 13)
    yield np.array([-math.inf, -40.0, -2.0, -1e-3, 0.0, 1e-12, 0.7, 5.0, 60.0, math.inf])
    yield np.linspace(7.99, 8.01, 5)


def masses(law, low, high):
    """P and Q of (low, high], infinite losses left out."""
    above, beyond = law.above(low), law.above(high)
    return above[0] - beyond[0], above[1] - beyond[1]


@pytest.mark.thinned(5)
@over_all_pairs
@pytest.mark.parametrize("edges", list(grids()), ids=["fine", "coarse", "tails", "far"])
def test_masses_on_bins_are_those_of_the_definition(name, edges):
    """Between the bins with every edge moved inwards and outwards by the declared error, as the guarantee says."""
    pair, law = PAIRS[name]
    scale = np.clip(edges[:-1], -50.0, 50.0)
    found = pair.loss_bins(edges, scale)
    with mp.workdps(250):  # masses of 1e-200 are differences of numbers near 1
        edge = [mp.mpf(float(x)) for x in np.clip(edges, -1e4, 1e4)]
        error = [mp.mpf(float(e)) for e in found.edge_error]
        for k in range(len(scale)):
            inner = masses(law, edge[k] + error[k], max(edge[k + 1] - error[k + 1], edge[k] + error[k]))
            outer = masses(law, edge[k] - error[k], edge[k + 1] + error[k + 1])
            weight = mp.exp(mp.mpf(float(scale[k])))
            assert mp.mpf(float(found.p.lower[k])) <= outer[0] and inner[0] <= mp.mpf(float(found.p.upper[k])), k
            assert mp.mpf(float(found.q.lower[k])) <= weight * outer[1], k
            assert weight * inner[1] <= mp.mpf(float(found.q.upper[k])), k


@pytest.mark.thinned(3)
@over_all_pairs
def test_masses_on_all_bins_sum_to_one_but_for_infinite_losses(name):
    pair, _ = PAIRS[name]
    edges = np.concatenate([[-math.inf], np.linspace(-20, 20, 4001), [math.inf]])
    bins = pair.loss_bins(edges, np.zeros(len(edges) - 1))
    for part, missing in ((bins.p, pair.infinite_mass), (bins.q, pair.missing_mass)):
        lower, upper = math.fsum(part.lower), math.fsum(part.upper)
        assert lower <= 1 - missing.lower + 1e-15 and upper >= 1 - missing.upper - 1e-15
        assert upper - lower < 1e-9


@pytest.mark.thinned(3)
@over_all_pairs
def test_masses_on_bins_are_enclosed_to_ten_digits(name):
    pair, _ = PAIRS[name]
    bins = pair.loss_bins(np.linspace(-3, 3, 7), np.zeros(6))
    for part in (bins.p, bins.q):
        assert (part.upper - part.lower <= 1e-10 * part.upper + 1e-300).all()


@pytest.mark.thinned(3)
@over_all_pairs
def test_the_loss_range_leaves_out_little(name):
    pair, law = PAIRS[name]
    low, high = pair.loss_range(1e-20)
    assert math.isfinite(low) and math.isfinite(high) and low <= high
    left_out = law.above(mp.mpf(high) + mp.mpf("1e-9"))[0] - law.above(mp.mpf("1e6"))[0]
    if not name.startswith("no-noise"):  # whose finite loss is that of outcomes which are infinite in the base
        assert left_out <= mp.mpf("1e-19") or "table" in name


# Reversal


@pytest.mark.thinned(3)
@over_all_pairs
def test_reversing_exchanges_infinite_and_missing_mass(name):
    pair, _ = PAIRS[name]
    assert pair.reverse().infinite_mass.overlaps(pair.missing_mass)
    assert pair.reverse().missing_mass.overlaps(pair.infinite_mass)


@pytest.mark.thinned(3)
@over_all_pairs
def test_reversing_twice_gives_the_same_pair_but_for_rounding(name):
    pair, _ = PAIRS[name]
    twice = pair.reverse().reverse()
    assert type(twice) is type(pair) and twice.attained == pair.attained
    for epsilon in EPSILONS:
        assert twice.delta(Bounds.exact(epsilon)).overlaps(pair.delta(Bounds.exact(epsilon)))


@pytest.mark.thinned(3)
@over_all_pairs
def test_the_total_variation_distance_is_the_same_in_reverse(name):
    pair, _ = PAIRS[name]
    assert pair.delta(Bounds.exact(0.0)).overlaps(pair.reverse().delta(Bounds.exact(0.0)))


# Moments


@pytest.mark.thinned(5)
@over_all_pairs
@pytest.mark.parametrize("power", [-1.5, 0.5, 2.0, 7.3])
def test_moments_agree_with_the_masses_on_bins(name, power):
    """Σ q_k e^{t x_k} and Σ q_k e^{t x_{k+1}} lie on either side of E_Q[e^{tL}]."""
    pair, _ = PAIRS[name]
    low, high = pair.loss_range(1e-300)
    if "gaussian" not in name:  # atoms, also outside the range of the base's
        low, high = min(low, -2.5) - 0.5, max(high, 2.5) + 0.5
    edges = np.linspace(low, high + 1e-6, 20_001)
    q = pair.loss_bins(edges, power * edges[:-1]).q
    moment, step = pair.log_mixture_moment(1.0, power), (edges[1] - edges[0]) * abs(power)
    if power < 0 and pair.missing_mass.upper > 0:
        return  # then it is infinite, see below
    assert moment.lower <= math.log(math.fsum(q.upper)) + step + 1e-9
    assert moment.upper >= math.log(math.fsum(q.lower)) - step - 1e-9


@pytest.mark.parametrize(
    "name",
    [
        "table-remove",
        "table-add",
        "table-sampled-add",
    ],
)
def test_moments_of_negative_order_are_infinite_where_the_loss_may_be_minus_infinity(name):
    assert PAIRS[name][0].log_mixture_moment(1.0, -1.5).upper == math.inf


@given(tables(), st.floats(0.01, 0.99), st.floats(0.1, 8.0))
def test_moments_of_tables_enclose_the_sum(table, chance, power):
    pair = table.pairs(ADD_REMOVE)["remove"]
    found = pair.log_mixture_moment(chance, power)
    share, seen = mp.mpf(chance), [(p, q) for p, q in zip(table.p, table.q, strict=True) if q]
    terms = [mp.mpf(q) * (1 - share + share * p / q) ** power for p, q in seen]
    assert holds(found, mp.log(mp.fsum(terms)))


@given(tables())
def test_moments_of_order_zero_and_one_are_what_q_and_p_share(table):
    pair = table.pairs(ADD_REMOVE)["remove"]
    shared_q = mp.fsum(q for p, q in zip(table.p, table.q, strict=True) if p)
    shared_p = mp.fsum(p for p, q in zip(table.p, table.q, strict=True) if q)
    if shared_q:
        assert holds(pair.log_mixture_moment(1.0, 1.0), mp.log(shared_p))


# Tables


def test_a_table_whose_outcomes_never_coincide_has_all_its_mass_at_infinity():
    pair = DiscretePair.from_probabilities((1.0, 0.0), (0.0, 1.0), attained=True)
    assert pair.losses == () and pair.infinite_mass.contains(1.0) and pair.delta(Bounds.exact(9.0)).contains(1.0)


@pytest.mark.parametrize(
    ("p", "q"), [((1.0,), (0.5, 0.5)), ((0.5, 0.6), (0.5, 0.5)), ((1.5, -0.5), (0.5, 0.5)), ((), ())]
)
def test_what_is_no_pair_of_probability_vectors_is_refused(p, q):
    with pytest.raises(InvalidParameter, match="must be a probability vector"):
        DiscretePair.from_probabilities(p, q, attained=True)


@given(tables(), tables())
def test_equal_tables_give_equal_pairs_with_equal_hashes(one, other):
    a, b = one.pairs(ADD_REMOVE)["remove"], Tabulated(p=one.p, q=one.q).pairs(ADD_REMOVE)["remove"]
    assert a == b and hash(a) == hash(b)


def test_the_supremum_of_nearly_equal_tables_encloses_the_largest_loss():
    p, q = (0.25, 0.75), (0.25 + 2.0**-40, 0.75 - 2.0**-40)
    pair = DiscretePair.from_probabilities(p, q, attained=True)
    assert holds(pair.supremum, mp.log(mp.mpf(p[1]) / mp.mpf(q[1])))


def test_the_mass_of_the_largest_loss_is_that_of_all_outcomes_that_have_it():
    pair = DiscretePair.from_probabilities((0.375, 0.5, 0.125), (0.1875, 0.25, 0.5625), attained=True)
    assert pair.supremum_mass.contains(0.875) and pair.reverse().supremum_mass.contains(0.5625)


def test_infinite_masses_of_several_outcomes_are_enclosed():
    pair = DiscretePair.from_probabilities((0.1, 0.2, 0.7), (0.0, 0.0, 1.0), attained=True)
    assert holds(pair.infinite_mass, mp.mpf(0.1) + mp.mpf(0.2))


def test_a_normal_law_has_the_tails_that_it_should():
    """The reference checks itself against a published value."""
    assert abs(delta(Normal(mp.mpf(1)), mp.mpf(1)) - mp.mpf("0.12693673750664394")) < mp.mpf("1e-16")


@given(st.integers(2, 200), st.integers(0, 2**32))
def test_many_atoms_add_up_as_one_by_one(atoms, seed):
    rng = np.random.default_rng(seed)
    p, q = (tuple((x / np.sum(x)).tolist()) for x in rng.exponential(size=(2, atoms)))
    pair = DiscretePair.from_probabilities(p, q, attained=True)
    for epsilon in (0.0, 0.7, 3.0):
        truth = math.fsum(max(0.0, a - math.exp(epsilon) * b) for a, b in zip(p, q, strict=True))
        assert math.isclose(pair.delta(Bounds.exact(epsilon)).upper, truth, rel_tol=1e-12, abs_tol=1e-15)
        assert pair.delta(Bounds.exact(epsilon)).width < 1e-13
    together = pair.delta(Bounds.exact(np.array([0.0, 0.7, 3.0])))
    assert together.lower.tolist() == [pair.delta(Bounds.exact(at)).lower for at in (0.0, 0.7, 3.0)]
