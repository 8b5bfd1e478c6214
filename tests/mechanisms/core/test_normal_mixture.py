"""Transforms of sampled normals against mpmath at complex powers, and the envelope against the transform itself."""

import math

import mpmath as mp
import numpy as np
import pytest

from mechanisms import NumericalFailure
from mechanisms.core.bounds import Bounds
from mechanisms.core.loss_transform import LOG_UNKNOWN, sinc_bound
from mechanisms.core.normal_mixture import SampledNormals
from tests.reference.truth import sampled_excess


def drawn(seed, count, largest_frequency):
    """Random (μ, q, θ, y, reverse): q from 1e-9 to 1 − 1e-9, μ from 1e-3 to 20 where it can be afforded."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        mu = float(np.exp(rng.uniform(math.log(1e-3), math.log(6))))
        side = rng.uniform(-9, 9)
        q = float(10**side if side < -0.3 else 1 - 10**-side if side > 0.3 else 0.5 + side)
        theta = (1 + float(np.exp(rng.uniform(math.log(1e-6), math.log(12 / mu))))) - 1
        y = float(rng.choice([0.0, np.exp(rng.uniform(math.log(1e-3), math.log(largest_frequency / mu)))]))
        yield mu, q, theta, y, bool(rng.integers(2))


def pairs(mu, q, reverse):
    return SampledNormals(shift=Bounds.exact([mu]), probability=np.array([q]), reverse=reverse)


def exact_log(mu, q, theta, y, reverse):
    """log E_Q[e^{(1 + θ + iy) L}] and E_Q[…] − 1."""
    power = mp.mpc(-theta, -y) if reverse else mp.mpc(1 + mp.mpf(theta), y)
    excess = sampled_excess(mu, q, power)
    return mp.log1p(excess) if abs(excess) < 0.1 else mp.log(1 + excess), excess


@pytest.mark.thinned(4)
@pytest.mark.parametrize("seed", range(4))
def test_the_transform_is_right_to_within_its_error_and_the_error_is_small(seed):
    with mp.workdps(40):
        for mu, q, theta, y, reverse in drawn(seed, 12, 20.0):
            exact, excess = exact_log(mu, q, theta, y, reverse)
            found = pairs(mu, q, reverse).transform(1 + theta, np.array([y]))
            value, error = mp.mpc(float(found.log_modulus[0, 0]), float(found.angle[0, 0])), float(found.error[0, 0])
            if error >= LOG_UNKNOWN:
                assert exact.real <= value.real + math.log(3) and value.real < math.log(1e-11)
                continue
            turns = mp.nint((exact - value).imag / (2 * mp.pi))
            assert abs(exact - value - 2j * mp.pi * turns) <= error
            at_rest = abs(exact_log(mu, q, theta, 0.0, reverse)[1])
            assert error <= 4e-12 * (abs(excess) + at_rest) / abs(1 + excess)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("mu", "q", "theta", "y", "reverse"),
    [
        (12.0, 1e-20, 0.25, 0.2, False),
        (5.0, 1e-16, 0.5, 1.0, False),
        (16.0, 0.5, 0.001953125, 0.0, False),
        (12.0, 1e-3, 0.03125, 0.1, True),
        (1e-3, 1 - 1e-9, 512.0, 100.0, False),
    ],
)
def test_transforms_at_the_edges_of_the_range_are_right(mu, q, theta, y, reverse):
    """Where powers nearly leave the floats, and where q e^x is about 1 far out, at x = −log q."""
    with mp.workdps(40):
        exact, excess = exact_log(mu, q, theta, y, reverse)
        found = pairs(mu, q, reverse).transform(1 + theta, np.array([y]))
        value = mp.mpc(float(found.log_modulus[0, 0]), float(found.angle[0, 0]))
        assert abs(exact - value) <= found.error[0, 0] <= 1e-9 * min(1, abs(excess))


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_and_columns_are_those_of_one_pair_and_one_frequency(reverse):
    shifts, chances, y = np.array([0.1, 1.0, 3.0]), np.array([0.9, 1e-4, 0.3]), np.linspace(0.0, 8.0, 700)
    together = SampledNormals(shift=Bounds.exact(shifts), probability=chances, reverse=reverse).transform(1.25, y)
    for k in range(3):
        alone = pairs(shifts[k], chances[k], reverse).transform(1.25, y[[0, 300, 699]])
        for one, other in [(alone.log_modulus, together.log_modulus), (alone.angle, together.angle)]:
            gap = np.abs(one[0] - other[k, [0, 300, 699]])
            assert np.all(gap <= alone.error[0] + together.error[k, [0, 300, 699]])


def test_the_log_moment_encloses_the_truth():
    with mp.workdps(40):
        for mu, q, theta, _, reverse in drawn(9, 12, 1.0):
            value, error = pairs(mu, q, reverse).log_moment(1 + theta)
            exact, _ = exact_log(mu, q, theta, 0.0, reverse)
            assert abs(exact - mp.mpf(float(value[0]))) <= error[0] <= 4e-12 * abs(exact)


def test_rough_cumulants_are_good_to_three_digits():
    for mu, q, theta, _, reverse in drawn(10, 30, 1.0):
        one, h = pairs(mu, q, reverse), 1e-3 * theta
        found = [float(part[0, 0]) for part in one.cumulants(np.array([1 + theta]))]
        if not math.isfinite(found[0]):
            continue
        below, here, above = (float(one.log_moment(1 + theta + step)[0][0]) for step in (-h, 0.0, h))
        assert found[0] == pytest.approx(here, rel=1e-3)
        assert found[1] == pytest.approx((above - below) / (2 * h), rel=2e-3, abs=1e-9 * abs(here) / h)


def test_cumulants_are_infinite_where_powers_leave_the_floats():
    found = pairs(3.0, 0.5, False).cumulants(np.array([2.0, 1e6]))
    assert all(math.isfinite(part[0, 0]) and math.isinf(part[1, 0]) for part in found)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("mu", "q"), [(0.2, 0.01), (1.0, 1e-2), (1.0, 0.5), (3.0, 0.2), (0.05, 1 - 1e-9), (5.0, 0.9)])
def test_the_envelope_lies_above_the_transform_and_never_rises(mu, q, reverse):
    one, rng = pairs(mu, q, reverse), np.random.default_rng(5)
    for theta in (2.0**-10, 0.25, 2.0):
        spread = math.sqrt(one.cumulants(np.array([1 + theta]))[2][0, 0])
        y = np.sort(np.append(np.exp(rng.uniform(math.log(0.01), math.log(30.0), 65)) / spread, 0.0))
        found = one.transform(1 + theta, y)
        size = np.exp(found.log_modulus[0] - found.log_modulus[0, 0])
        slack = found.error[0, 0] + np.where(found.error[0] >= LOG_UNKNOWN, 2.0, found.error[0])
        envelope = np.array([one.envelope(1 + theta, value)[0] for value in y])
        assert np.all(size * (1 - 3 * slack) <= envelope)
        assert np.all(np.diff(envelope) <= 0) and envelope[0] == 1.0
        assert mu > 1 or one.envelope(1 + theta, 1e12 / spread)[0] <= 0.4  # skew laws have poor stairs


def test_the_staircase_lies_below_the_density_of_the_loss():
    """At both ends of every stair and between: density φ(z) r^{s+1} / (μ q e^x E[r^s]), in 30 digits."""
    rng = np.random.default_rng(6)
    with mp.workdps(30):
        for mu, q, theta, _, reverse in drawn(11, 10, 1.0):
            one = pairs(mu, q, reverse)
            s = -theta if reverse else 1 + theta
            loss, stairs = (part[0] for part in one._staircase(s))
            log_moment, highest = exact_log(mu, q, theta, 0.0, reverse)[0].real, np.max(stairs)
            for k in rng.integers(0, len(stairs), 8):
                for at in (loss[k], loss[k + 1], loss[k] + (loss[k + 1] - loss[k]) * rng.random()):
                    x = mp.log1p(mp.expm1(mp.mpf(at)) / mp.mpf(q)) if mp.expm1(mp.mpf(at)) > -q else -mp.inf
                    z = x / mp.mpf(mu) + mp.mpf(mu) / 2
                    log_density = -z * z / 2 + (s + 1) * mp.mpf(at) - x - log_moment - mp.log(2 * mp.pi) / 2
                    density = mp.exp(log_density) / mp.mpf(mu) / mp.mpf(q)
                    assert stairs[k] * (1 - 1e-7) <= density or abs(at - math.log1p(-q)) < 1e-6 * abs(at)
            assert highest > 0


def test_the_layers_are_a_part_of_the_tilted_law():
    """Their weights sum to less than 1, yet to most of it; stacked, they lie below the density of the loss."""
    for mu, q, theta, _, reverse in drawn(11, 25, 1.0):
        one = pairs(mu, q, reverse)
        one.envelope(1 + theta, 1.0)
        ((weight, width),) = one._layers.values()
        assert np.all(weight >= 0) and np.all(width >= 0)
        assert 0.6 <= float(np.sum(weight)) < 1.0


def test_the_sinc_bound_lies_above_the_sinc_and_never_rises():
    u = np.concatenate([np.linspace(0.0, 12.0, 20_001), np.geomspace(12, 1e6, 500)])
    bound, v = sinc_bound(u), np.maximum(u, 1e-300)
    assert np.all(np.diff(bound) <= 0)
    assert np.all(np.abs(np.sin(v) / v) <= bound) and bound[-1] == 1e-6
    with mp.workdps(30):
        lobe = mp.findroot(lambda x: x * mp.cos(x) - mp.sin(x), 4.49)
        assert abs(mp.sin(lobe) / lobe) < mp.sin(mp.mpf("2.5")) / mp.mpf("2.5") < mp.mpf("0.2394")


def test_shifts_and_powers_out_of_range_are_refused():
    with pytest.raises(NumericalFailure, match="pld"):
        pairs(20.0, 0.5, False).transform(1.5, np.array([0.0]))
    with pytest.raises(NumericalFailure, match="pld"):
        pairs(1.0, 0.5, False).log_moment(60.0)
    with pytest.raises(NumericalFailure, match="pld"):
        pairs(1.0, 1 - 1e-9, True).log_moment(60.0)
    with pytest.raises(NumericalFailure, match="terms"):
        pairs(1.0, 0.5, False).transform(1.5, np.linspace(0.0, 50.0, 2**20))
