"""A public choice among pairs against its definition in many digits."""

from dataclasses import dataclass

import mpmath as mp
import numpy as np
import pytest

from mechanisms.core.bounds import Bounds
from mechanisms.core.pair import DominatingPair
from mechanisms.core.public_mixture import PublicMixture
from mechanisms.gaussian import GaussianPair
from mechanisms.laplace import LaplacePair
from tests.reference.laws import assert_bins, assert_delta, assert_totals, edges
from tests.reference.truth import Laplacian, Normal


@dataclass(frozen=True)
class Choice:
    """Laws of weights that sum to 1, or to less where the rest is an infinite loss."""

    parts: tuple

    def above(self, x):
        seen = [(w, law.above(x)) for w, law in self.parts]
        lost = 1 - mp.fsum(w for w, _ in seen)
        return mp.fsum(w * p for w, (p, _) in seen) + lost, mp.fsum(w * q for w, (_, q) in seen)


def pair(*parts: tuple[float, DominatingPair], lost=0.0):
    return PublicMixture(
        parts=tuple((one, Bounds.exact(weight)) for weight, one in parts), attained=False, lost=Bounds.exact(lost)
    )


def gaussian(mu):
    return GaussianPair(shift=Bounds.exact(mu), attained=True)


LAPLACE = LaplacePair(shift=Bounds.exact(1.5), attained=True)
with mp.workdps(260):
    CASES = {
        "normals": (
            pair((0.75, gaussian(0.5)), (0.25, gaussian(2.0))),
            Choice(((mp.mpf(0.75), Normal(mp.mpf(0.5))), (mp.mpf(0.25), Normal(mp.mpf(2))))),
        ),
        "both-and-lost": (
            pair((0.5, gaussian(1.0)), (0.4375, LAPLACE), lost=0.0625),
            Choice(((mp.mpf(0.5), Normal(mp.mpf(1))), (mp.mpf(0.4375), Laplacian(mp.mpf(1.5))))),
        ),
    }
over_all_cases = pytest.mark.parametrize("name", CASES)


@over_all_cases
def test_delta_and_masses_are_those_of_the_definition(name):
    found, law = CASES[name]
    with mp.workdps(60):
        assert_delta(found, law)
        assert_totals(found)
        for asked in edges().values():
            assert_bins(found, law, asked)


@over_all_cases
@pytest.mark.parametrize("power", [-1.0, 0.5, 3.0])
def test_moments_are_the_mean_of_those_of_the_parts(name, power):
    found, _ = CASES[name]
    for p in (1.0, 0.5):
        value = found.log_mixture_moment(p, power)
        if p == 1.0 and power < 0 and found.lost.upper > 0:
            assert value.upper == np.inf
            continue
        rest = found.lost.upper * (1 - p) ** power if found.lost.upper else 0.0
        parts = sum(w.upper * np.exp(one.log_mixture_moment(p, power).upper) for one, w in found.parts)
        assert value.upper == pytest.approx(np.log(parts + rest), rel=1e-9)
        assert value.lower <= value.upper <= value.lower + 1e-9


@over_all_cases
def test_reverse_infinite_losses_and_range_are_those_of_the_parts(name):
    found, _ = CASES[name]
    assert found.reverse().reverse() == found
    assert found.infinite_mass.contains(float(found.lost.upper)) and found.missing_mass.overlaps(found.infinite_mass)
    low, high = found.loss_range(1e-10)
    for one, _ in found.parts:
        assert low <= one.loss_range(1e-9)[0] and one.loss_range(1e-9)[1] <= high
    assert found.supremum.lower == np.inf and not found.attained
    assert np.allclose(found.cumulants(np.array([2.0]))[0], found.log_mixture_moment(1.0, 2.0).upper, rtol=1e-3)


def test_moments_beyond_the_floats_of_every_part_are_infinite():
    found = pair((0.5, gaussian(1e150)), (0.5, gaussian(2e150))).log_mixture_moment(1.0, 1e100)
    assert found.upper == np.inf
