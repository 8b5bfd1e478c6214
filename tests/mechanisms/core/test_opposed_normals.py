"""Opposed normals against their definition in many digits; that no records show more by grids and whole datasets."""

import itertools
import math
from dataclasses import dataclass

import mpmath as mp
import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm

from accountant import delta_bounds, epsilon_bounds
from accountant.pld import PLD
from accountant.prv import PRV
from accountant.rdp import RDP
from mechanisms import FixedSize, Gaussian, Repeat, Sampled
from mechanisms.core.bounds import Bounds
from mechanisms.core.merged import Merged
from mechanisms.core.opposed_normals import OpposedNormals
from mechanisms.core.poisson_pairs import PoissonRemove
from tests.reference.laws import assert_bins, assert_delta, assert_edges_near, assert_totals, edges
from tests.reference.truth import normal_cdf
from tests.strategies import ZERO_OUT

ROUGH = PLD(relative_width=1e-4, most_points=2**16)


@dataclass(frozen=True)
class Opposed:
    """(1 − γ) N(0, 1) + γ N(2μ, 1) against (1 − γ) N(0, 1) + γ N(μ, 1): its ratio is one of quadratics in e^{μz}."""

    mu: float
    share: float
    backward: bool = False

    def above(self, x):
        if self.backward:
            p, q = Opposed(self.mu, self.share).above(-x)
            return 1 - q, 1 - p
        mu, share, ratio = mp.mpf(self.mu), mp.mpf(self.share), mp.exp(x)
        square, line = share * mp.exp(-2 * mu * mu), -ratio * share * mp.exp(-mu * mu / 2)
        inner = line * line - 4 * square * (1 - share) * (1 - ratio)
        if inner < 0:
            return mp.mpf(1), mp.mpf(1)
        roots = [(-line + sign * mp.sqrt(inner)) / (2 * square) for sign in (-1, 1)]
        left, right = (mp.log(root) / mu if root > 0 else -mp.inf for root in roots)
        return tuple(self._mass(right, at) + 1 - self._mass(left, at) for at in (2, 1))

    def _mass(self, z, at):
        """P(Z > z) for the mixture with its second part at `at` μ."""
        share = mp.mpf(self.share)
        return (1 - share) * normal_cdf(-z) + share * normal_cdf(at * mp.mpf(self.mu) - z)


CASES = [(1.0, 0.1), (0.25, 0.01), (3.5, 1e-6), (8.0, 0.5), (0.01, 0.9)]  # μ and γ
both_ways = pytest.mark.parametrize("backward", [False, True])
over_all = pytest.mark.parametrize(("mu", "share"), CASES)


def pair_of(mu, share, backward=False):
    return OpposedNormals(shift=Bounds.exact(mu), probability=share, attained=True, backward=backward)


@pytest.mark.thinned(4)
@both_ways
@over_all
def test_delta_encloses_its_definition(mu, share, backward):
    with mp.workdps(320):
        assert_delta(pair_of(mu, share, backward), Opposed(mu, share, backward), width=1e-6 if backward else 1e-11)


@pytest.mark.thinned(11)
@pytest.mark.parametrize("asked", edges().values(), ids=edges())
@both_ways
@pytest.mark.parametrize(("mu", "share"), CASES[:4])
def test_masses_on_bins_are_those_of_the_definition(mu, share, backward, asked):
    assert_bins(pair_of(mu, share, backward), Opposed(mu, share, backward), asked)


@both_ways
@over_all
def test_masses_on_all_bins_sum_to_one(mu, share, backward):
    assert_totals(pair_of(mu, share, backward))
    assert_edges_near(pair_of(mu, share, backward))


@pytest.mark.parametrize("epsilon", [400.0, 709.0, 710.0, 800.0])
def test_delta_encloses_its_definition_where_e_to_epsilon_leaves_the_floats(epsilon):
    with mp.workdps(700):
        found, (p, q) = pair_of(20.0, 0.25).delta(Bounds.exact(epsilon)), Opposed(20.0, 0.25).above(mp.mpf(epsilon))
        assert mp.mpf(found.lower) <= p - mp.exp(mp.mpf(epsilon)) * q <= mp.mpf(found.upper)
        assert found.upper - found.lower <= 1e-8 * found.upper


def test_delta_never_rises_up_to_an_infinite_epsilon_and_covers_an_interval():
    asked = np.array([0.0, 0.5, 5.0, 100.0, 709.0, 710.0, 1e5, 1e17, 1e300, math.inf])
    for pair in (pair_of(mu, share, backward) for mu, share in (*CASES, (30.0, 0.3)) for backward in (False, True)):
        found = pair.delta(Bounds.exact(asked))
        assert np.all(np.diff(found.upper) <= 1e-12) and np.all(found.lower <= found.upper) and found.upper[-1] < 1e-320
        wide = pair.delta(Bounds(lower=0.1, upper=0.2))
        assert wide.lower <= pair.delta(Bounds.exact(0.2)).lower and wide.upper >= pair.delta(Bounds.exact(0.1)).upper


def spliced(mu, share):
    ahead = pair_of(mu, share)
    gaussian = Gaussian(noise_multiplier=1.0 / mu).pairs(ZERO_OUT)["remove"]
    return Merged(ahead=ahead, behind=PoissonRemove(base=gaussian, probability=share, attained=False).reverse())


@pytest.mark.parametrize("pair", [spliced(1.0, 0.25), spliced(1.0, 0.25).reverse(), spliced(0.125, 0.5)])
def test_the_merged_pair_has_the_masses_of_laws_and_is_reversed_twice(pair):
    assert_totals(pair)
    assert_edges_near(pair)
    assert pair.reverse().reverse() == pair


@pytest.mark.parametrize("power", [-1.5, 0.3, 1.01, 2.0, 7.3])
@pytest.mark.parametrize("probability", [1.0, 0.3])
def test_moments_are_enclosed_to_one_part_in_a_thousand(power, probability):
    """By sums over z: of the pair itself, of the pair reversed, of the one that dominates."""
    mu, share, h = 1.0, 0.25, 1e-3
    z = np.arange(-14, 24, h)
    plain = norm.pdf(z)
    near, far, back = (1 - share + share * np.exp(k * mu * z - (k * mu) ** 2 / 2) for k in (1, 2, -1))

    def moment(p, q):
        return float(np.sum(plain * q * (1 - probability + probability * p / q) ** power) * h)

    up, down = z > 1.5 * mu, z < -0.5 * mu
    rest = 1 - h * float(np.sum((plain * far)[up]) + np.sum(plain[down]))
    excess = moment(np.where(up, far, 1.0), np.where(up, near, 1.0)) - h * float(np.sum(plain[~up]))
    behind = h * float(np.sum((plain * back * (1 - probability + probability / back) ** power)[down]))
    truths = [(pair_of(mu, share), moment(far, near)), (pair_of(mu, share, True), moment(near, far))]
    for pair, truth in (*truths, (spliced(mu, share), excess + behind + rest)):
        found = pair.log_mixture_moment(probability, power)
        assert found.lower <= math.log(truth) + 1e-9 and math.log(truth) - 1e-9 <= found.upper
        assert found.upper - found.lower <= 1e-3 * abs(math.log(truth)) + 1e-9


@pytest.mark.thinned(3)
@pytest.mark.parametrize("ratio", [0.2, 0.8, 1.0, 1.3, 4.0, 30.0])
@pytest.mark.parametrize("mu", [0.5, 2.0])
def test_no_place_of_the_record_left_out_shows_more(mu, ratio):
    """x = (1, 0), y anywhere in the disc: H_α of the two mixtures, summed over the plane."""
    share, h, k = 0.25, 0.02, 0.2
    one, two = np.meshgrid(np.arange(-6 - mu, 6 + 2 * mu, h), np.arange(-6, 6, k))

    def at(a, b):
        return np.exp(-((one - mu * a) ** 2 + (two - mu * b) ** 2) / 2) * h * k / (2 * math.pi)

    pair = spliced(mu, share)
    loss = Bounds.exact(abs(math.log(ratio)))
    bound = pair.delta(loss).upper if ratio >= 1 else 1 - ratio + ratio * pair.reverse().delta(loss).upper
    worst = 0.0
    for radius, angle in itertools.product((0.0, 0.6, 1.0), np.linspace(0, math.pi, 5)):
        a, b = radius * math.cos(angle), radius * math.sin(angle)
        p = (1 - share) * at(0, 0) + share * at(1 - a, -b)
        q = (1 - share) * at(0, 0) + share * at(-a, -b)
        found = float(np.maximum(p - ratio * q, 0).sum())
        assert found <= bound * (1 + 2e-3) + 1e-7
        worst = max(worst, found)
    assert worst == pytest.approx(bound, rel=2e-3, abs=1e-7)


@pytest.mark.parametrize("ratio", [0.5, 1.5, 4.0])
def test_no_dataset_of_four_records_shows_more_and_all_opposed_or_all_alike_show_it(ratio):
    """Batches of 2 out of 4, σ = 1, contributions −1, 0 and 1."""
    z, share = np.linspace(-11, 11, 4001), 0.5
    pair = spliced(1.0, share)
    loss = Bounds.exact(abs(math.log(ratio)))
    bound = pair.delta(loss).upper if ratio >= 1 else 1 - ratio + ratio * pair.reverse().delta(loss).upper

    def law(dataset):
        return sum(norm.pdf(z - sum(batch)) for batch in itertools.combinations(dataset, 2)) / 6 * (z[1] - z[0])

    shown = {}
    for rest, x in itertools.product(itertools.combinations_with_replacement((-1, 0, 1), 3), (-1, 1)):
        shown[rest, x] = float(np.maximum(law((*rest, x)) - ratio * law((*rest, 0)), 0).sum())
    assert max(shown.values()) <= bound * (1 + 1e-5)
    attained = shown[(-1, -1, -1), 1] if ratio > 1 else shown[(1, 1, 1), 1]
    assert attained == pytest.approx(bound, rel=1e-5)


def composed(loss, mass, times, epsilon, h):
    """δ of `times` steps whose losses are rounded to multiples of h, by powers of a transform."""
    size = 2**15
    bins = np.zeros(size)
    np.add.at(bins, np.rint(loss / h).astype(int) % size, mass)
    total = np.fft.irfft(np.fft.rfft(bins) ** times, size)
    losses = h * (np.arange(size) - size * (np.arange(size) > size // 2))
    return float(np.sum(total[losses > epsilon] * -np.expm1(epsilon - losses[losses > epsilon])))


def test_brackets_of_several_steps_lie_where_sums_of_rounded_losses_lie():
    """Between the neighbours that are opposed in all steps and the pair that takes the worse of two in each."""
    mu, share, times, h, epsilon = 1.0, 0.125, 5, 2e-3, 2.0
    z = np.linspace(-12, 16, 280_001)
    step = z[1] - z[0]
    near, far, back = (1 - share + share * np.exp(k * mu * z - (k * mu) ** 2 / 2) for k in (1, 2, -1))
    up, down = z > 1.5 * mu, z < -0.5 * mu
    lower = composed(np.log(far / near), norm.pdf(z) * far * step, times, epsilon, h)
    ends = np.log(far / near)[up], -np.log(back)[down]
    masses = (norm.pdf(z) * far * step)[up], norm.pdf(z)[down] * step
    rest = 1 - float(masses[0].sum() + masses[1].sum())
    upper = composed(np.concatenate([*ends, [0.0]]), np.concatenate([*masses, [rest]]), times, epsilon, h)
    process = Repeat(Sampled(Gaussian(noise_multiplier=1.0), FixedSize(batch_size=1, records=8)), times)
    found = delta_bounds(process, epsilon=epsilon, adjacency="zero_out", accountant=ROUGH)
    assert found.lower == pytest.approx(lower, rel=1e-3) and found.upper == pytest.approx(upper, rel=1e-3)
    assert 1.01 * lower < upper
    assert RDP(orders=(2.0, 4.0, 8.0)).profile(process, adjacency=ZERO_OUT).delta(epsilon).upper >= upper


@pytest.mark.slow
def test_accountants_agree_about_several_steps():
    process = Repeat(Sampled(Gaussian(noise_multiplier=1.0), FixedSize(batch_size=1, records=8)), 5)
    found, other = (
        delta_bounds(process, epsilon=2.0, adjacency="zero_out", accountant=accountant) for accountant in (ROUGH, PRV())
    )
    assert found.overlaps(other) and other.upper < 1.05 * found.upper and other.lower > 0.95 * found.lower


BEFORE = [(0.1, 1.0, 1e-5, 3.7471, (1.6845, 6.5755)), (0.5, 0.644, 4.76e-5, 6.4936, (5.802, 15.0643))]


@pytest.mark.parametrize(("share", "sigma", "delta", "exact", "before"), BEFORE)
def test_one_step_is_known_exactly(share, sigma, delta, exact, before):
    """ε solved from γ ((1 − β) G_α(2μ) + β G_α(μ)) <= exact, a coarser bound, and H of the two mixtures themselves."""
    process = Sampled(Gaussian(noise_multiplier=sigma), FixedSize(batch_size=round(100 * share), records=100))
    found = epsilon_bounds(process, delta=delta, adjacency="zero_out")
    assert found.lower == pytest.approx(exact, abs=1e-4) and found.upper - found.lower < 1e-9
    assert before[0] < found.lower <= found.upper < before[1]
    mu, z = 1 / sigma, np.linspace(-10, 20, 300_001)
    p, q = ((1 - share) * ndtr(-z) + share * ndtr(k * mu - z) for k in (2, 1))
    assert float(np.max(p - math.exp(found.upper) * q)) == pytest.approx(delta, rel=1e-5)
