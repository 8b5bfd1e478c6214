"""The normal integral and its inverse: their enclosures hold what mpmath says, and are as narrow as they should be."""

from fractions import Fraction

import mpmath as mp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechanisms.core.exact_normal import psi, psi_inverse

PRECISIONS = st.sampled_from((20, 60, 112, 300))
PLACES = st.floats(-40, 40) | st.floats(-1e-6, 1e-6) | st.sampled_from((0.0, 1e-300, -1e300, 12.0, 15.0))
FARTHEST = Fraction(10**6)


@pytest.fixture(autouse=True)
def many_digits():
    with mp.workdps(140):
        yield


def integral(t):
    return mp.sqrt(mp.pi / 2) * mp.erf(mp.mpf(t) / mp.sqrt(2))


def real(fraction):
    return mp.mpf(fraction.numerator) / fraction.denominator


@given(PLACES, PRECISIONS)
def test_the_integral_is_enclosed_by_integers_few_units_apart(t, precision):
    low, high = psi(Fraction(t), precision)
    assert low <= integral(t) * 2**precision <= high <= low + 4


@given(st.floats(-8, 8), PRECISIONS)
def test_the_inverse_is_enclosed_as_narrowly_as_the_density_allows(t, precision):
    value = integral(t) * 2**precision
    low, high = psi_inverse(int(mp.floor(value)), int(mp.ceil(value)), precision, -FARTHEST, FARTHEST)
    assert real(low) <= mp.mpf(t) <= real(high)
    if precision > 100:
        assert real(high - low) <= 64 * mp.exp(mp.mpf(t) ** 2 / 2) / 2**precision


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("end", [Fraction(2), Fraction(10) ** 300])
def test_what_no_place_has_is_enclosed_by_the_end(sign, end):
    whole = sign * (2 << 112)  # more than half of all there is
    low, high = psi_inverse(whole, whole, 112, -end, end)
    assert (high if sign > 0 else low) == sign * end
