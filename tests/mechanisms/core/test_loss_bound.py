"""Pairs made from a bound of the loss: profile, masses and moments against integrals of the law at 22 digits."""

import itertools
import math

import mpmath as mp
import numpy as np
import pytest

from mechanisms.core.bounds import Bounds
from mechanisms.core.loss_bound import LAWS, LossBoundPair

SHIFTS, OFFSETS = (0.05, 2.0), (0.0, 0.4)
cases = pytest.mark.parametrize(("law", "shift", "offset"), [*itertools.product(LAWS, SHIFTS, OFFSETS)])


@pytest.fixture(autouse=True)
def twenty_two_digits():
    with mp.workdps(22):
        yield


def pair_of(law, shift, offset):
    return LossBoundPair(shift=Bounds.exact(shift), offset=Bounds.exact(offset), law=law)


def law_of(law, shift, offset):
    """Return the least loss, the mass of P there, and the density of R beyond, for quadrature."""
    mu, k = mp.mpf(shift), mp.mpf(offset)
    if law == "one_signed":
        return k, mp.ncdf(-mu / 2), lambda r: mp.npdf(r - mu / 2)
    base = k + mu * mu / 2
    return base, mp.mpf(0), (lambda r: 2 * mp.npdf(r)) if law == "two_signed" else lambda r: r * mp.exp(-r * r / 2)


def expected(law, shift, offset, function, start=0, stop=None, centre=0.0):
    """E_P[function(X); start < R <= stop], the atom at R = 0 with it where start is 0 and stop is none.

    Where function(X) is as e^{centre R}, what is left out beyond has a share of e^{−70}.
    """
    base, atom, density = law_of(law, shift, offset)
    mu = mp.mpf(shift)
    end = stop if stop is not None else start + 12 + mu + centre
    panels = math.ceil(end - start)
    points = [start + (end - start) * mp.mpf(i) / panels for i in range(panels + 1)]
    found = mp.quad(lambda r: density(r) * function(base + mu * r), points, maxdegree=5)
    return found + (atom * function(base) if start == 0 and stop is None else 0)


def holds(bounds, value, width=1e-9):
    assert mp.mpf(bounds.lower) <= value <= mp.mpf(bounds.upper)
    assert mp.mpf(bounds.upper) - mp.mpf(bounds.lower) <= width * abs(value) + mp.mpf("1e-13")
    return True


@pytest.mark.thinned(3)
@cases
def test_delta_is_the_mean_of_what_exceeds_epsilon(law, shift, offset):
    pair, (base, _, _) = pair_of(law, shift, offset), law_of(law, shift, offset)
    for epsilon in (0.0, offset / 2, float(base) + shift, float(base) + 5 * shift):
        kink = max(mp.mpf(0), (mp.mpf(epsilon) - base) / mp.mpf(shift))
        gain = expected(law, shift, offset, lambda x, e=epsilon: 1 - mp.exp(e - x), start=kink)
        assert holds(pair.delta(Bounds.exact(epsilon)), gain)


@cases
def test_the_rest_of_q_is_what_the_loss_bound_leaves(law, shift, offset):
    pair = pair_of(law, shift, offset)
    rest = 1 - expected(law, shift, offset, lambda x: mp.exp(-x))
    assert holds(pair.missing_mass, rest) and holds(pair.reverse().infinite_mass, rest)
    assert pair.infinite_mass.upper == 0 == pair.reverse().missing_mass.upper
    assert holds(pair.reverse().delta(Bounds.exact(0.0)), rest) and pair.reverse().reverse() == pair


@pytest.mark.thinned(3)
@pytest.mark.parametrize("power", [1.5, 3.0])
@cases
def test_moments_are_those_of_the_loss(law, shift, offset, power):
    pair = pair_of(law, shift, offset)
    if power * shift < 8:  # steeper ones are beyond this quadrature
        grown = expected(law, shift, offset, lambda x: mp.exp((mp.mpf(power) - 1) * x), centre=power * shift)
        assert holds(pair.log_mixture_moment(1.0, power), mp.log(grown))
        turned = expected(law, shift, offset, lambda x: mp.exp(-mp.mpf(power) * x))
        assert holds(pair.reverse().log_mixture_moment(1.0, power), mp.log(turned))
    assert pair.log_mixture_moment(1.0, 1.0).upper == 0 and pair.log_mixture_moment(1.0, -1.0).upper == np.inf


@pytest.mark.parametrize("power", [-2.0, 0.5, 3.0])
@pytest.mark.parametrize("law", LAWS)
def test_moments_of_samples_are_those_of_the_mixture(law, power):
    shift, offset, q, t = 0.7, 0.2, mp.mpf(0.25), mp.mpf(power)
    pair = pair_of(law, shift, offset)
    rest = 1 - expected(law, shift, offset, lambda x: mp.exp(-x))
    forth = (
        expected(law, shift, offset, lambda x: mp.exp(-x) * (1 - q + q * mp.exp(x)) ** t, centre=3.0)
        + rest * (1 - q) ** t
    )
    back = expected(law, shift, offset, lambda x: (1 - q + q * mp.exp(-x)) ** t)
    assert holds(pair.log_mixture_moment(0.25, power), mp.log(forth), width=1e-3)
    assert holds(pair.reverse().log_mixture_moment(0.25, power), mp.log(back), width=1e-3)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("step", [0.01, 0.9])
def test_bins_hold_the_masses_of_the_loss_and_lose_none(law, step):
    shift, offset = 0.7, 0.2
    pair, (base, atom, _) = pair_of(law, shift, offset), law_of(law, shift, offset)
    edges = np.concatenate([[-np.inf], 0.05 + step * np.arange(7), [np.inf]])
    scale = np.linspace(0.0, 3.0, 8)
    for one, swap in ((pair, False), (pair.reverse(), True)):
        at = -edges[::-1] if swap else edges
        bins = one.loss_bins(at, scale)
        own, other = 0, 0
        for k in range(8):
            low, high = (-at[k + 1], -at[k]) if swap else (at[k], at[k + 1])
            start = max(mp.mpf(0), (mp.mpf(low) - base) / mp.mpf(shift)) if np.isfinite(low) else mp.mpf(0)
            stop = (mp.mpf(high) - base) / mp.mpf(shift) if np.isfinite(high) else start + 14
            p = q = mp.mpf(0)
            if stop > start:
                p = expected(law, shift, offset, lambda x: 1, start, stop)
                q = expected(law, shift, offset, lambda x: mp.exp(-x), start, stop)
            if low < base <= high:
                p, q = p + atom, q + atom * mp.exp(-base)
            p, q = (q, p) if swap else (p, q)
            q *= mp.exp(mp.mpf(scale[k]))
            for found, truth in ((bins.p[k], p), (bins.q[k], q)):
                assert found.lower - 1e-14 <= truth <= found.upper + 1e-14
                assert found.upper - found.lower <= truth * (0.7 if law == "plane" and step > 0.1 else 1e-10) + 1e-13
            own, other = own + bins.p[k].upper, other + bins.q[k].upper / np.exp(scale[k])
        assert own + one.infinite_mass.upper >= 1 and other + one.missing_mass.upper >= 1


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shift", [5e-324, 1e-300, 1e-9, 1e3, 1e300])
def test_extreme_shifts_give_numbers_in_range(law, shift):
    pair = pair_of(law, shift, 0.0)
    found = pair.delta(Bounds.exact(np.array([0.0, 1.0, 1e300])))
    assert np.all(found.lower >= 0) and np.all(found.upper <= 1)
    low, high = pair.loss_range(1e-20)
    assert -1e-300 < low < high


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shift", [2.0, 33.0, 2000.0])
def test_the_power_zero_of_a_sampled_ratio_is_one(law, shift):
    """All of Q counts, also what P never shows, as a sample leaves P a part of it."""
    for pair in (pair_of(law, shift, 0.4), pair_of(law, shift, 0.4).reverse()):
        assert pair.log_mixture_moment(0.01, 0.0) == Bounds.exact(0.0)
