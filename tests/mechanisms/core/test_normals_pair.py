"""Mixtures of normals against their definition in many digits, and the theorem that they dominate by random search."""

import math
from dataclasses import dataclass

import mpmath as mp
import numpy as np
import pytest

from mechanisms.core.bounds import Bounds
from mechanisms.core.normals_pair import NormalsPair
from tests.reference.laws import assert_bins, assert_delta, assert_edges_near, assert_totals, edges
from tests.reference.truth import normal_cdf


@pytest.fixture(autouse=True)
def many_digits():
    with mp.workdps(60):
        yield


def part(weights):
    """(multiple, weight) of exact weights, the first taking the rest of 1."""
    rest = 1.0 - sum((Bounds.exact(w) for _, w in weights), start=Bounds.exact(0.0))
    return ((0.0, rest), *((float(k), Bounds.exact(w)) for k, w in weights))


@dataclass(frozen=True)
class Mixtures:
    """Σ a_i N(iν, 1) against Σ b_j N(−jν, 1), the weight left over at 0."""

    unit: float
    up: tuple
    down: tuple

    def parts(self):
        nu = mp.mpf(self.unit)
        for given, sign in ((self.up, 1), (self.down, -1)):
            rest = 1 - mp.fsum(mp.mpf(w) for _, w in given)
            yield [(mp.mpf(0), rest), *((sign * k * nu, mp.mpf(w)) for k, w in given)]

    def loss(self, z):
        p, q = (mp.fsum(w * mp.exp(s * z - s * s / 2) for s, w in one) for one in self.parts())
        return mp.log(p / q)

    def solve(self, x):
        """The z with L(z) = x, by sections and then by secants; ± ∞ beyond the losses."""
        low, high = mp.mpf(-4000), mp.mpf(4000)
        if not self.loss(low) < x < self.loss(high):
            return mp.inf if x > 0 else -mp.inf
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.loss(middle) < x else (low, middle)
        return mp.findroot(
            lambda z: self.loss(z) - x, (low, high), solver="secant", tol=mp.mpf(10) ** (-2 * mp.mp.dps + 20)
        )

    def above(self, x):
        z = self.solve(x)
        return tuple(mp.fsum(w * normal_cdf(s - z) for s, w in one) for one in self.parts())


COPIES = ((1, 0.25), (2, 0.0625), (3, 0.0078125))
CASES = {
    "both": Mixtures(0.5, ((1, 0.01),), ((1, 0.01),)),
    "both-strong": Mixtures(3.0, ((1, 0.25),), ((1, 0.25),)),
    "both-rare": Mixtures(1.0, ((1, 1e-9),), ((1, 1e-9),)),
    "copies": Mixtures(2.0, COPIES, ()),
    "copies-reversed": Mixtures(2.0, (), COPIES),
    "copies-both": Mixtures(0.125, COPIES, COPIES),
    "often": Mixtures(1.0, ((1, 0.5), (2, 0.4375)), ((3, 0.03125),)),
}
over_all_cases = pytest.mark.parametrize("name", CASES)


def pair_of(law):
    return NormalsPair(unit=Bounds.exact(law.unit), above=part(law.up), below=part(law.down), attained=True)


@over_all_cases
def test_delta_encloses_its_definition(name):
    assert_delta(pair_of(CASES[name]), CASES[name], width=1e-10)


APART = Mixtures(20.0, ((1, 0.01), (5, 1e-5)), ((3, 1e-9),))


@pytest.mark.parametrize("law", [APART, Mixtures(20.0, APART.down, APART.up), Mixtures(2.0, COPIES, COPIES)])
def test_delta_encloses_its_definition_where_e_to_epsilon_leaves_the_floats(law):
    for epsilon in (400.0, 600.0, 701.0, 709.0, 710.0, 800.0, 1500.0):
        found, (p, q) = pair_of(law).delta(Bounds.exact(epsilon)), law.above(mp.mpf(epsilon))
        truth = p - mp.exp(epsilon) * q
        assert mp.mpf(found.lower) <= truth <= mp.mpf(found.upper), epsilon
        assert found.upper - found.lower <= 1e-8 * found.upper + 1e-300


@pytest.mark.parametrize("law", [*CASES.values(), APART, Mixtures(1e-3, ((1, 0.01),), ((1, 0.01),))])
def test_delta_never_rises_up_to_an_infinite_epsilon(law):
    asked = np.array([0.5, 5.0, 100.0, 400.0, 709.0, 710.0, 800.0, 1e5, 1e15, 1e17, 1e100, 1e300, math.inf])
    for pair in (pair_of(law), pair_of(law).reverse()):
        found = pair.delta(Bounds.exact(asked))
        assert np.all(np.diff(found.upper) <= 1e-320) and np.all(found.lower <= found.upper)
        assert found.upper[-1] == 0.0 and found.upper[-2] <= 1e-320


def test_delta_asked_at_an_interval_covers_it_also_across_the_largest_loss():
    pair = pair_of(CASES["copies-reversed"])
    whole = pair.delta(pair.supremum + Bounds(lower=-1e-3, upper=1.0))
    assert whole.upper >= pair.delta(pair.supremum - 1e-3).lower > 0.0 == whole.lower
    wide = pair_of(APART).delta(Bounds(lower=0.5, upper=800.0))
    for epsilon in (0.5, 400.0, 800.0):
        one = pair_of(APART).delta(Bounds.exact(epsilon))
        assert wide.lower <= one.lower and one.upper <= wide.upper


@pytest.mark.thinned(5)
@over_all_cases
@pytest.mark.parametrize("asked", ["fine", "coarse", "far"])
def test_masses_on_bins_are_those_of_the_definition(name, asked):
    assert_bins(pair_of(CASES[name]), CASES[name], edges()[asked])


@over_all_cases
def test_masses_on_all_bins_sum_to_one(name):
    assert_totals(pair_of(CASES[name]), width=1e-11)
    assert_edges_near(pair_of(CASES[name]), 2e-13)


@over_all_cases
def test_the_loss_range_leaves_out_little(name):
    low, high = pair_of(CASES[name]).loss_range(1e-20)
    law = CASES[name]
    assert -math.inf < low < 0 < high < math.inf
    beyond, before = law.above(mp.mpf(high) + mp.mpf("1e-9")), law.above(mp.mpf(low) - mp.mpf("1e-9"))
    assert beyond[0] <= 1.1e-20 and 1 - before[1] <= 1.1e-20


@over_all_cases
def test_reversing_exchanges_the_laws(name):
    law, pair = CASES[name], pair_of(CASES[name])
    assert pair.reverse().reverse() == pair
    assert_delta(pair.reverse(), Mixtures(law.unit, law.down, law.up), width=1e-10)


@over_all_cases
def test_losses_end_only_where_p_has_one_normal(name):
    pair, law = pair_of(CASES[name]), CASES[name]
    if law.up:
        assert pair.supremum.lower == math.inf
    else:
        assert pair.supremum.contains(float(-mp.log(1 - mp.fsum(w for _, w in law.down))))
        assert pair.delta(pair.supremum * (1 + 1e-9)).upper == 0.0


def moment(law, p, power):
    up, down = law.parts()
    reach = 12 + float(abs(power) + 1) * 3 * law.unit

    def seen(z):
        a, b = (mp.fsum(w * mp.npdf(z - s) for s, w in one) for one in (up, down))
        return b * (1 - p + p * a / b) ** power - b

    return mp.log(1 + mp.quad(seen, mp.linspace(-reach, reach, 41)))


@pytest.mark.thinned(13)
@pytest.mark.parametrize("power", [-1.5, 0.3, 1.01, 2.0, 5.5])
@pytest.mark.parametrize("p", [1.0, 0.25])
@pytest.mark.parametrize("name", ["both", "copies", "copies-both", "copies-reversed"])
def test_moments_are_enclosed_to_a_part_in_a_thousand(name, p, power):
    with mp.workdps(30):
        truth = moment(CASES[name], mp.mpf(p), mp.mpf(power))
        found = pair_of(CASES[name]).log_mixture_moment(p, power)
        assert mp.mpf(found.lower) <= truth <= mp.mpf(found.upper)
        assert found.upper - found.lower <= 1e-3 * abs(truth)


def test_moments_of_high_orders_stay_upper_bounds():
    with mp.workdps(30):
        law = CASES["both"]
        truth = moment(law, mp.mpf(1), mp.mpf(40))
        found = pair_of(law).log_mixture_moment(1.0, 40.0)
        assert mp.mpf(found.lower) <= truth <= mp.mpf(found.upper) <= 1.01 * truth


def test_what_weights_leave_is_lost_above_and_not_seen_below():
    lost = Bounds(lower=0.0, upper=2.0**-20)
    parts = ((0.0, Bounds.exact(0.5)), (1.0, Bounds.exact(0.5 - 2.0**-20)))
    pair = NormalsPair(unit=Bounds.exact(1.0), above=parts, below=part(()), attained=True, lost=lost)
    whole = Mixtures(1.0, ((1, 0.5 - 2.0**-20), (3, 2.0**-20)), ())
    for epsilon in (0.0, 0.3, 2.0):
        found, (p, q) = pair.delta(Bounds.exact(epsilon)), whole.above(mp.mpf(epsilon))
        assert found.lower <= p - mp.exp(epsilon) * q <= found.upper
    assert pair.infinite_mass == pair.reverse().missing_mass == lost


def divergence(means, weights, alpha, z):
    """sup_S P(S) − α Q(S) for mixtures of planar normals of these means, by a fine grid."""
    (u, v), (a, b) = means, weights
    p, q = (
        sum(w * np.exp(-0.5 * ((z[0] - m[0]) ** 2 + (z[1] - m[1]) ** 2)) for m, w in zip(side, share, strict=True))
        for side, share in ((u, a), (v, b))
    )
    cell = (z[0][1, 0] - z[0][0, 0]) ** 2 / (2 * math.pi)
    return float(np.sum(np.maximum(p - alpha * q, 0.0)) * cell)


@pytest.mark.parametrize("alpha", [0.3, 0.95, 1.0, 1.1, 2.0])
def test_no_two_records_of_a_ball_show_more_than_opposite_ones(alpha):
    """Any x, x' of norm up to μ in the plane, against the pair on the line."""
    rng, mu, q = np.random.default_rng(5), 1.3, 0.2
    z = np.meshgrid(np.linspace(-7, 7, 281), np.linspace(-7, 7, 281), indexing="ij")
    weights = ((1 - q, q), (1 - q, q))
    worst = divergence((((0, 0), (mu, 0)), ((0, 0), (-mu, 0))), weights, alpha, z)
    for _ in range(60):
        length, angle = mu * rng.uniform(0, 1, 2) ** 0.3, rng.uniform(0, 2 * math.pi, 2)
        x, y = (r * np.array([math.cos(t), math.sin(t)]) for r, t in zip(length, angle, strict=True))
        assert divergence((((0, 0), x), ((0, 0), y)), weights, alpha, z) <= worst + 1e-9
    pair = pair_of(Mixtures(mu, ((1, q),), ((1, q),)))
    if alpha >= 1:
        assert pair.delta(Bounds.exact(math.log(alpha))).upper == pytest.approx(worst, abs=2e-4)
