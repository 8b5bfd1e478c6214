"""The merged pair against its definition in many digits: the losses above 0 of a pair, and their mirror images."""

from dataclasses import dataclass

import mpmath as mp
import numpy as np
import pytest

from mechanisms import DiscretePair, Gaussian, Laplace, UnsupportedProcess
from mechanisms.core.bounds import Bounds
from mechanisms.core.merged import Merged
from mechanisms.core.poisson_pairs import PoissonRemove
from mechanisms.gaussian import GaussianPair
from mechanisms.laplace import LaplacePair
from tests.reference.laws import assert_bins, assert_delta, assert_edges_near, assert_totals, edges
from tests.reference.truth import Laplacian, Normal, SampledRemove, Table
from tests.strategies import ADD_REMOVE


@pytest.fixture(autouse=True)
def many_digits():
    with mp.workdps(60):
        yield


@dataclass(frozen=True)
class Mirrored:
    """The losses above 0 of a law, their mirror images with P and Q exchanged, and the rest at 0."""

    half: object

    def above(self, x):
        if x >= 0:
            return self.half.above(x)
        p, q = self.half.above(-x)
        return 1 - q, 1 - p


def sampled(base, chance):
    return PoissonRemove(base=base, probability=chance, attained=True)


def gaussian(mu):
    return GaussianPair(shift=Bounds.exact(mu), attained=True)


TABLE = (0.5, 0.25, 0.125, 0.125), (0.125, 0.25, 0.5, 0.125)
with mp.workdps(810):
    PAIRS = {
        f"gaussian-{mu}-{chance}": (sampled(gaussian(mu), chance), SampledRemove(Normal(mp.mpf(mu)), mp.mpf(chance)))
        for mu, chance in ((2.0, 0.2), (0.25, 0.001), (3.5, 1e-6), (1.0, 0.9))
    }
    PAIRS["laplace"] = (
        sampled(LaplacePair(shift=Bounds.exact(2.0), attained=True), 0.125),
        SampledRemove(Laplacian(mp.mpf(2)), mp.mpf(0.125)),
    )
    PAIRS["table"] = (
        sampled(DiscretePair.from_probabilities(*TABLE, attained=True), 0.25),
        SampledRemove(Table(*([mp.mpf(x) for x in row] for row in TABLE)), mp.mpf(0.25)),
    )
    no_noise = Table([mp.mpf(1), mp.mpf(0)], [mp.mpf(0), mp.mpf(1)])
    PAIRS["no-noise"] = (
        sampled(Gaussian(noise_multiplier=0.0).pairs(ADD_REMOVE)["remove"], 0.25),
        SampledRemove(no_noise, mp.mpf(0.25)),
    )
over_all_pairs = pytest.mark.parametrize("name", PAIRS)


@over_all_pairs
def test_delta_encloses_its_definition(name):
    half, law = PAIRS[name]
    assert_delta(Merged.of(half), Mirrored(law))


@pytest.mark.thinned(9)
@over_all_pairs
@pytest.mark.parametrize("asked", edges().values(), ids=edges())
def test_masses_on_bins_are_those_of_the_definition(name, asked):
    half, law = PAIRS[name]
    assert_bins(Merged.of(half), Mirrored(law), asked, digits=800)  # masses of 1e-340 beside 1


@over_all_pairs
def test_masses_on_all_bins_sum_to_one_but_for_infinite_losses(name):
    assert_totals(Merged.of(PAIRS[name][0]))
    assert_edges_near(Merged.of(PAIRS[name][0]), 1e-9 if "1e-06" in name else 1e-12)


@over_all_pairs
def test_a_merged_pair_is_its_own_reverse_and_not_attained(name):
    merged = Merged.of(PAIRS[name][0])
    assert merged.reverse() is merged and not merged.attained
    assert merged.missing_mass == merged.infinite_mass == PAIRS[name][0].infinite_mass
    assert merged.supremum.overlaps(PAIRS[name][0].supremum)
    low, high = merged.loss_range(1e-20)
    assert low == -high and high == PAIRS[name][0].loss_range(1e-20)[1]


def moment(mu, chance, p, power):
    """E_Q[(1 − p + p e^L)^t] by quadrature over z, where the loss is above 0 and mirrored."""
    mu, chance, p, power = (mp.mpf(x) for x in (mu, chance, p, power))

    def ratio(z):
        return 1 - chance + chance * mp.exp(mu * z - mu**2 / 2)

    def seen(z):
        y = ratio(z)
        both = (1 - p + p * y) ** power + y * (1 - p + p / y) ** power - 1 - y
        return mp.npdf(z) * both

    return 1 + mp.quad(seen, [mu / 2 + k for k in range(int(abs(power) * mu) + 14)])


@pytest.mark.thinned(11)
@pytest.mark.parametrize("power", [-1.5, 0.3, 0.7, 1.01, 2.0, 7.3])
@pytest.mark.parametrize("p", [1.0, 0.3])
@pytest.mark.parametrize(("mu", "chance"), [(2.0, 0.2), (0.25, 0.001), (2 / 0.7, 0.001)])
def test_moments_are_enclosed_to_one_part_in_ten_thousand(mu, chance, p, power):
    with mp.workdps(30):
        truth = mp.log(moment(mu, chance, p, power))
        found = Merged.of(sampled(gaussian(mu), chance)).log_mixture_moment(p, power)
        assert mp.mpf(found.lower) <= truth <= mp.mpf(found.upper)
        assert found.upper - found.lower <= 1e-4 * abs(truth)


def test_moments_of_a_pair_with_infinite_losses_leave_them_out():
    tell_all = Gaussian(noise_multiplier=0.0).pairs(ADD_REMOVE)["remove"]
    merged = Merged.of(sampled(tell_all, 0.25))  # losses 0 and ±∞ of masses .75, .25 under P and Q
    assert merged.log_mixture_moment(1.0, 2.0).contains(np.log(0.75))
    assert merged.log_mixture_moment(0.5, 2.0).contains(np.log(0.75 + 0.25 * 0.5**2))
    assert merged.log_mixture_moment(1.0, -1.0).upper == np.inf


def test_plans_know_the_cumulants_to_a_part_in_a_thousand():
    merged = Merged.of(sampled(gaussian(2.0), 0.2))
    powers = np.array([-0.7, 1.5, 2.0, 6.0])
    value, slope, bend = merged.cumulants(powers)
    truth = np.array([merged.log_mixture_moment(1.0, float(power)).upper for power in powers])
    assert np.allclose(value, truth, rtol=1e-3)
    step = 1e-4
    ahead, behind = merged.cumulants(powers + step), merged.cumulants(powers - step)
    assert np.allclose(slope, (ahead[0] - behind[0]) / (2 * step), rtol=1e-6)
    assert np.allclose(bend, (ahead[1] - behind[1]) / (2 * step), rtol=1e-6)


def test_a_half_whose_mirror_image_is_the_larger_one_is_refused():
    half = DiscretePair.from_probabilities((0.99, 0.01), (0.9, 0.1), attained=True)
    with pytest.raises(UnsupportedProcess, match="its own mirror image"):
        Merged.of(half).loss_bins(np.array([-1.0, 0.0, 1.0]), np.zeros(2))


def test_a_merged_laplace_pair_has_the_largest_loss_of_its_half():
    half = sampled(Laplace(noise_multiplier=1.0).pairs(ADD_REMOVE)["remove"], 0.5)
    merged = Merged.of(half)
    assert merged.supremum == half.supremum and merged.supremum_mass == half.supremum_mass
    assert merged.delta(merged.supremum * (1 + 1e-9)).upper == 0.0
