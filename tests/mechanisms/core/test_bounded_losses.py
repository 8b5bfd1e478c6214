"""Transforms of bounded losses against mpmath at complex powers, and the envelope against the transform itself."""

import math

import mpmath as mp
import numpy as np
import pytest

from mechanisms import (
    Adjacency,
    ApproximateDP,
    DiscretePair,
    Gaussian,
    Laplace,
    NumericalFailure,
    Poisson,
    PureDP,
    RandomizedResponse,
    Sampled,
)
from mechanisms.core.bounded_losses import BoundedLosses
from mechanisms.core.bounds import Bounds
from mechanisms.core.loss_transform import LOG_UNKNOWN
from mechanisms.core.mixtures import BoundedMixture

ADD_REMOVE, REPLACE_ONE = Adjacency.ADD_REMOVE, Adjacency.REPLACE_ONE


def laplace(shift, q, reverse):
    """A Laplace step, of exactly this shift."""
    rare = Bounds.exact(math.exp(-shift) / 2).inflate(1e-15)
    mixture = BoundedMixture(
        losses=Bounds.exact([-shift, shift]),
        masses=Bounds(lower=np.array([0.5, rare.lower]), upper=np.array([0.5, rare.upper])),
        reach=Bounds.exact(shift),
        probability=q,
        reverse=reverse,
    )
    return BoundedLosses(mixtures=(mixture,), reverse=reverse)


def of(pair):
    return BoundedLosses(mixtures=(pair.mixture,), reverse=pair.mixture.reverse)


def exact_excess(shift, q, power, reverse):
    """E_Q[e^{power L}] − 1 of a Laplace step, by a quadrature that shares no nodes with the library."""
    s, chance, exponent = mp.mpf(shift), mp.mpf(q), 1 - power if reverse else power

    def ratio(loss):
        return mp.exp(exponent * mp.log(1 - chance + chance * mp.exp(loss)))

    def inner(loss):
        return mp.exp(-(s + loss) / 2) / 4 * ratio(loss)

    if q == 1.0:
        a = exponent - mp.mpf(1) / 2
        density = mp.exp(-s / 2) * mp.sinh(a * s) / (2 * a)
    else:
        steep = 1 + int(shift * (2 + abs(exponent)) / 4)
        density = mp.quad(inner, mp.linspace(-s, s, 2 * steep + 1))
    return mp.exp(-s) / 2 * ratio(s) + ratio(-s) / 2 + density - 1


def exact_log(shift, q, theta, y, reverse):
    excess = exact_excess(shift, q, mp.mpc(1 + mp.mpf(theta), y), reverse)
    return mp.log1p(excess) if abs(excess) < 0.1 else mp.log(1 + excess), excess


def drawn(seed, count):
    """Random (s, q, θ, y, reverse): s from 1e-4 to 20, q from 1e-9 to 1, powers and frequencies up to 20 / s."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        shift = float(np.exp(rng.uniform(math.log(1e-4), math.log(20))))
        side = rng.uniform(-9, 4)
        q = float(10**side if side < -0.3 else 1.0 if side > 2 else 1 - 10**-side if side > 0.3 else 0.5 + side)
        theta = (1 + float(np.exp(rng.uniform(math.log(1e-6), math.log(20 / shift))))) - 1
        y = float(rng.choice([0.0, np.exp(rng.uniform(math.log(1e-3), math.log(20 / shift)))]))
        yield shift, q, theta, y, bool(rng.integers(2)) and q < 1


def assert_right(found, exact, excess, at_rest):
    """That the first entry is the exact logarithm on some branch to within its error, and the error small."""
    value, error = mp.mpc(float(found.log_modulus[0, 0]), float(found.angle[0, 0])), float(found.error[0, 0])
    if error >= LOG_UNKNOWN:
        assert exact.real <= value.real + math.log(3) and value.real < math.log(1e-9)
        return
    turns = mp.nint((exact - value).imag / (2 * mp.pi))
    assert abs(exact - value - 2j * mp.pi * turns) <= error
    assert error <= 2e-11 * (abs(excess) + at_rest) / abs(1 + excess)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("seed", range(3))
def test_the_transform_is_right_to_within_its_error_and_the_error_is_small(seed):
    with mp.workdps(40):
        for shift, q, theta, y, reverse in drawn(seed, 8):
            exact, excess = exact_log(shift, q, theta, y, reverse)
            at_rest = abs(exact_excess(shift, q, 1 + mp.mpf(theta), reverse))
            assert_right(laplace(shift, q, reverse).transform(1 + theta, np.array([y])), exact, excess, at_rest)


def test_the_log_moment_encloses_the_truth():
    with mp.workdps(40):
        for shift, q, theta, _, reverse in drawn(9, 10):
            value, error = laplace(shift, q, reverse).log_moment(1 + theta)
            exact, _ = exact_log(shift, q, theta, 0.0, reverse)
            assert abs(exact - mp.mpf(float(value[0]))) <= error[0] <= 2e-11 * abs(exact)


def test_moments_are_enclosed_as_by_the_pairs_themselves():
    pairs = [
        Sampled(Laplace(noise_multiplier=0.18), Poisson(probability=1.3e-5)).pairs(ADD_REMOVE)["remove"],
        Sampled(Laplace(noise_multiplier=2.0), Poisson(probability=0.3)).pairs(ADD_REMOVE)["add"],
        Laplace(noise_multiplier=3.0).pairs(REPLACE_ONE)["replace"],
        RandomizedResponse(epsilon=1.1, categories=5).pairs(REPLACE_ONE)["replace"],
        RandomizedResponse(epsilon=1.1, categories=2).pairs(REPLACE_ONE)["replace"],
        Sampled(PureDP(epsilon=2.0, adjacency=ADD_REMOVE), Poisson(probability=1e-3)).pairs(ADD_REMOVE)["add"],
        DiscretePair.from_probabilities((0.1, 0.2, 0.7), (0.5, 0.25, 0.25), attained=True).reverse(),
    ]
    for pair in pairs:
        for power in (1.001, 1.5, 3.0, 20.0):
            value, error = of(pair).log_moment(power)
            assert Bounds(lower=value[0] - error[0], upper=value[0] + error[0]).overlaps(
                pair.log_mixture_moment(1.0, power)
            )
            assert error[0] <= 1e-11 * value[0]


def test_transforms_of_tables_are_those_of_their_definition():
    p, q = (0.125, 0.25, 0.5, 0.125), (0.25, 0.25, 0.375, 0.125)
    pair = DiscretePair.from_probabilities(p, q, attained=True)
    with mp.workdps(40):
        for chance, reverse in ((1.0, False), (1e-6, False), (1e-6, True), (0.4, True)):
            for power, y in ((1.25, 0.0), (1.25, 3.0), (4.0, 40.0)):
                sampled = Poisson(probability=chance).amplify(pair.reverse() if reverse else pair, reverse=reverse)
                t = mp.mpc(power, y)
                ratios = [(b, 1 - mp.mpf(chance) + mp.mpf(chance) * mp.mpf(a) / b) for a, b in zip(p, q, strict=True)]
                moments = [mp.fsum(b * r ** ((1 - u) if reverse else u) for b, r in ratios) for u in (t, t.real)]
                found = of(sampled).transform(power, np.array([y]))
                assert_right(found, mp.log(moments[0]), moments[0] - 1, abs(moments[1] - 1))


def test_rows_and_columns_are_those_of_one_pair_and_one_frequency():
    ones = [laplace(0.1, 0.9, False), laplace(8.0, 1e-4, False), laplace(3.0, 0.3, False), laplace(1.0, 1.0, False)]
    y = np.linspace(0.0, 8.0, 700)
    together = BoundedLosses(mixtures=tuple(one.mixtures[0] for one in ones), reverse=False).transform(1.25, y)
    for k, one in enumerate(ones):
        alone = one.transform(1.25, y[[0, 300, 699]])
        for mine, ours in [(alone.log_modulus, together.log_modulus), (alone.angle, together.angle)]:
            gap = np.abs(mine[0] - ours[k, [0, 300, 699]])
            assert np.all(gap <= alone.error[0] + together.error[k, [0, 300, 699]])


def test_rough_cumulants_are_good_to_three_digits():
    for shift, q, theta, _, reverse in drawn(10, 40):
        one, h = laplace(shift, q, reverse), 1e-3 * theta
        found = [float(part[0, 0]) for part in one.cumulants(np.array([1 + theta]))]
        below, here, above = (float(one.log_moment(1 + theta + step)[0][0]) for step in (-h, 0.0, h))
        assert found[0] == pytest.approx(here, rel=1e-3)
        assert found[1] == pytest.approx((above - below) / (2 * h), rel=2e-3, abs=1e-9 * abs(here) / h)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("shift", "q"), [(0.1, 0.01), (1.0, 1e-3), (1.0, 1.0), (6.0, 1e-4), (6.0, 0.9), (15.0, 0.5)])
def test_the_envelope_lies_above_the_transform_and_never_rises(shift, q, reverse):
    one, rng = laplace(shift, q, reverse and q < 1), np.random.default_rng(5)
    for theta in (2.0**-10, 0.25, 2.0):
        spread = math.sqrt(one.cumulants(np.array([1 + theta]))[2][0, 0])
        y = np.sort(np.append(np.exp(rng.uniform(math.log(0.01), math.log(30.0), 65)) / spread, 0.0))
        y = np.minimum(y, 40.0)
        found = one.transform(1 + theta, y)
        size = np.exp(found.log_modulus[0] - found.log_modulus[0, 0])
        slack = found.error[0, 0] + np.where(found.error[0] >= LOG_UNKNOWN, 2.0, found.error[0])
        envelope = np.array([one.envelope(1 + theta, value)[0] for value in y])
        assert np.all(size * (1 - 3 * slack) <= envelope)
        assert np.all(np.diff(envelope) <= 0) and envelope[0] == 1.0


def test_the_layers_are_a_part_of_the_density():
    """Their weights sum to less than what the atoms leave, yet to most of it."""
    for shift, q, theta, _, reverse in drawn(11, 25):
        one = laplace(shift, q, reverse)
        one.envelope(1 + theta, 1.0)
        ((weight, width),) = one._layers.values()
        exponent = -theta if reverse else 1 + theta
        with mp.workdps(30):
            log_ratio = [mp.log(1 - mp.mpf(q) + mp.mpf(q) * mp.exp(mp.mpf(end))) for end in (shift, -shift)]
            atoms = mp.exp(-mp.mpf(shift) + exponent * log_ratio[0]) / 2 + mp.exp(exponent * log_ratio[1]) / 2
            left = 1 - float(atoms / (1 + exact_excess(shift, q, 1 + mp.mpf(theta), reverse)))
        assert np.all(weight >= 0) and np.all(width >= 0)
        assert 0.6 * left <= float(np.sum(weight)) < left


def test_discrete_losses_have_no_envelope_but_one():
    one = of(RandomizedResponse(epsilon=1.0).pairs(REPLACE_ONE)["replace"])
    assert one.envelope(1.5, 1e6)[0] == 1.0


def test_infinite_losses_are_set_apart_and_the_rest_is_a_law():
    told = ApproximateDP(epsilon=1.0, delta=1e-6, adjacency=ADD_REMOVE).pairs(ADD_REMOVE)["add"].mixture
    assert told.lost.contains(1e-6) and told.offset == Bounds.exact(0.0)
    assert told.masses[1].contains(1 / (1 + math.e))
    one_way = DiscretePair.from_probabilities((0.25, 0.75, 0.0), (0.0, 0.5, 0.5), attained=True).mixture
    assert one_way.lost.contains(0.25) and one_way.masses.contains(1.0) and one_way.losses.contains(0.0)
    assert one_way.offset.contains(math.log(0.5 / 0.75))
    assert not isinstance(Gaussian(noise_multiplier=1.0).pairs(ADD_REMOVE)["add"].mixture, BoundedMixture)
    nothing_shared = DiscretePair.from_probabilities((0.0, 1.0), (1.0, 0.0), attained=True)
    assert nothing_shared.mixture is None


def test_a_whole_enclosure_of_the_shift_is_meant():
    """The moments at both of its ends differ by less than the error, which is not much more."""
    shift = Bounds(lower=2.0, upper=2.0 * (1 + 1e-11))
    ends = Bounds(lower=np.array([-shift.upper, shift.lower]), upper=np.array([-shift.lower, shift.upper]))
    rare = Bounds(lower=math.exp(-2.0) / 2 * (1 - 3e-11), upper=math.exp(-2.0) / 2 * (1 + 1e-15))
    masses = Bounds(lower=np.array([0.5, rare.lower]), upper=np.array([0.5, rare.upper]))
    for q, reverse in ((1.0, False), (0.3, True), (1e-4, False)):
        mixture = BoundedMixture(losses=ends, masses=masses, reach=shift, probability=q, reverse=reverse)
        value, error = BoundedLosses(mixtures=(mixture,), reverse=reverse).log_moment(4.0)
        with mp.workdps(40):
            truths = [exact_log(end, q, 3.0, 0.0, reverse)[0].real for end in (shift.lower, shift.upper)]
            assert all(abs(truth - mp.mpf(float(value[0]))) <= error[0] for truth in truths)
            assert error[0] <= 500 * abs(truths[1] - truths[0])


def test_what_leaves_the_floats_or_sums_to_no_law_is_refused():
    with pytest.raises(NumericalFailure, match="pld"):
        laplace(700.0, 0.5, False).log_moment(1.5)
    with pytest.raises(NumericalFailure, match="pld"):
        laplace(100.0, 1.0, False).log_moment(20.0)
    with pytest.raises(NumericalFailure, match="pld"):
        laplace(1.0, 1.0, False).transform(1.5, np.array([1e9]))
    off = DiscretePair.from_probabilities((0.5, 0.5 + 1e-13), (0.25, 0.75), attained=True)
    with pytest.raises(NumericalFailure, match="sum to 1"):
        of(off).log_moment(1.5)
