"""Transforms of sampled normals without their farthest outcomes, against mpmath integrals over what is left."""

import math

import mpmath as mp
import numpy as np
import pytest

from mechanisms import NumericalFailure
from mechanisms.core.bounds import Bounds
from mechanisms.core.cut_normals import CutNormals
from mechanisms.core.loss_transform import LOG_UNKNOWN
from mechanisms.core.normal_mixture import SampledNormals


def pairs(mu, q, last, reverse=False):
    return CutNormals(
        shift=Bounds.exact([mu]), probability=np.array([q]), last=np.array([float(last)]), reverse=reverse
    )


def exact_moment(mu, q, last, power, reverse):
    """∫ φ(z) r(z)^s dz up to Z, or over all z of the reversed pair, by panels of a third of a unit and less."""
    mu, q = mp.mpf(mu), mp.mpf(q)
    s = 1 - power if reverse else power
    top = mp.mpf(last) if not reverse else mp.mpf(14)
    turns = float(abs(s)) * math.log1p(float(q) * math.exp(min(float(mu * top - mu * mu / 2), 600.0))) / 6
    ends = mp.linspace(-13, top, int(3 * (13 + float(top)) + 2 * turns) + 2)

    def term(z):
        return mp.npdf(z) * mp.exp(s * mp.log1p(q * mp.expm1(mu * z - mu * mu / 2)))

    return mp.quad(term, ends, maxdegree=4)


def drawn(seed, count):
    """Random (μ, q, Z, θ, y, reverse): rare jumps at large exponents, as cuts are made for."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        mu = float(np.exp(rng.uniform(math.log(0.05), math.log(2.5))))
        q = float(10 ** rng.uniform(-6, -0.1))
        last = float(rng.uniform(max(6.0, mu + 1), 13.0))
        theta = (1 + float(np.exp(rng.uniform(0, math.log(0.5 / q + 2))))) - 1
        y = float(rng.choice([0.0, theta * np.exp(rng.uniform(-3, 0))]))
        yield mu, q, last, theta, y, bool(rng.integers(2))


@pytest.mark.thinned(16)
@pytest.mark.parametrize(
    ("mu", "q", "last", "theta", "y", "reverse"), [case for seed in range(4) for case in drawn(seed, 4)]
)
def test_the_transform_of_what_is_left_is_right_to_within_its_error(mu, q, last, theta, y, reverse):
    found = pairs(mu, q, last, reverse).transform(1 + theta, np.array([y]))
    value, error = mp.mpc(float(found.log_modulus[0, 0]), float(found.angle[0, 0])), float(found.error[0, 0])
    assert error < LOG_UNKNOWN
    with mp.workdps(25):
        exact = exact_moment(mu, q, last, mp.mpc(1 + mp.mpf(theta), y), reverse)
        log_exact = mp.log(exact)
        turns = mp.nint((log_exact - value).imag / (2 * mp.pi))
        assert abs(log_exact - value - 2j * mp.pi * turns) <= error
        at_rest = exact_moment(mu, q, last, mp.mpf(1 + mp.mpf(theta)), reverse)
        left_out = math.exp(-0.5 * (last - mu) ** 2) * (2 + (theta + y) * q)
        assert error <= 4e-11 * (abs(exact - 1) + abs(at_rest - 1)) / abs(exact) + 2 * left_out / abs(exact)


def test_far_from_the_cut_it_is_the_transform_of_the_whole():
    y = np.linspace(0.0, 8.0, 50)
    for mu, q, reverse in ((0.5, 0.01, False), (1.0, 1e-4, True), (2.0, 0.3, False)):
        whole = SampledNormals(shift=Bounds.exact([mu]), probability=np.array([q]), reverse=reverse).transform(2.5, y)
        cut = pairs(mu, q, 25.0, reverse).transform(2.5, y)
        gap = np.hypot(whole.log_modulus - cut.log_modulus, whole.angle - cut.angle)
        assert np.all(gap <= whole.error + cut.error) and np.all(cut.error < 1e-6)


def test_the_probability_left_out_is_bounded_and_not_by_much():
    for mu, q, last in ((0.5, 0.01, 8.0), (2.0, 1e-6, 9.0), (0.01, 0.9, 12.0), (3.0, 0.5, 3.0)):
        with mp.workdps(30):
            exact = (1 - mp.mpf(q)) * mp.ncdf(-mp.mpf(last)) + mp.mpf(q) * mp.ncdf(mp.mpf(mu) - mp.mpf(last))
            bound = float(pairs(mu, q, last).log_lost()[0])
            assert mp.log(exact) <= bound <= mp.log(exact) + math.log(10.0 * last)
    assert pairs(1.0, 0.1, 9.0, reverse=True).log_lost()[0] == -math.inf  # the reversed pair is whole


@pytest.mark.slow
def test_what_is_planned_is_about_the_moment_of_what_is_left():
    powers = np.array([3.0, 30.0, 300.0])
    for mu, q, last in ((0.3, 1e-4, 10.0), (1.0, 1e-5, 9.0)):
        value, slope, bend = (part[:, 0] for part in pairs(mu, q, last).cumulants(powers))
        for k, power in enumerate(powers):
            assert value[k] == pytest.approx(float(mp.log(exact_moment(mu, q, last, power, False))), rel=0.02, abs=1e-9)
        assert np.all(np.diff(slope) > 0) and np.all(bend > 0)


def test_rare_jumps_make_the_whole_explode_where_the_rest_stays_tame():
    """At θ = 10⁶ for q = 10⁻⁶: r^θ of the whole leaves the floats, of z <= 12 it hardly moves."""
    with pytest.raises(NumericalFailure):
        SampledNormals(shift=Bounds.exact([0.2]), probability=np.array([1e-6]), reverse=False).log_moment(1e6)
    value, error = pairs(0.2, 1e-6, 12.0).log_moment(1e6)
    assert 0 < value[0] < 0.1 and error[0] < 1e-12


@pytest.mark.parametrize(
    ("mu", "q", "last", "power"), [(60.0, 0.1, 80.0, 2.0), (1.0, 0.5, 40.0, 1e3), (1.0, 0.1, 9, 1e9)]
)
def test_what_leaves_the_floats_or_the_budget_is_refused(mu, q, last, power):
    with pytest.raises(NumericalFailure, match="pld"):
        pairs(mu, q, last).transform(power, np.array([0.0, 1.0]))


def test_a_shift_that_is_not_known_well_is_refused():
    wide = CutNormals(
        shift=Bounds(lower=np.array([1.0]), upper=np.array([1.0 + 1e-8])), probability=np.array([0.1]),
        last=np.array([9.0]), reverse=False,
    )  # fmt: skip
    with pytest.raises(NumericalFailure, match="not known to 1e-10"):
        wide.log_moment(3.0)
