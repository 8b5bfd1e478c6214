"""The conversion that is best for one order: published values, and pairs on two points, at 50 digits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from accountant.core.renyi_conversions import epsilon, log_delta
from accountant.core.two_points import certified_epsilon, certified_log_delta

# (α, D, δ, ε, tolerance): grids over p, published_values.json "Asoodeh20" and papers.md §2
PUBLISHED = [
    (2.0, 0.5, 1e-3, 5.0948, 1e-4),
    (5.0, 1.0, 1e-5, 3.248107740971607, 1e-6),
    (10.0, 0.5, 1e-6, 1.6726122904698926, 1e-6),
    (17.0, 0.5, 1e-5, 0.9818363218567914, 1e-6),
]
orders = st.sampled_from((1.05, 1.3, 2.0, 3.7, 12.0, 60.0, 400.0))
divergences = st.sampled_from((1e-3, 0.03, 0.5, 2.0, 9.0))
deltas = st.sampled_from((1e-2, 1e-4, 1e-8, 1e-15, 1e-40))


def one(value):
    return np.array([value], dtype=np.float64)


def least(alpha, eps, delta):
    """The least log g / (α − 1) over p: golden sections in log (p − δ), at 50 digits."""
    alpha, eps, delta = mp.mpf(alpha), mp.mpf(eps), mp.mpf(delta)

    def value(y):
        p = delta + (1 - delta) / (1 + mp.exp(-y))
        other = (p - delta) * mp.exp(-eps)
        return mp.log(p**alpha * other ** (1 - alpha) + (1 - p) ** alpha * (1 - other) ** (1 - alpha)) / (alpha - 1)

    low, high, ratio = mp.log(delta) - 20, mp.mpf(40), (mp.sqrt(5) - 1) / 2
    for _ in range(160):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if value(a) < value(b) else (a, high)
    return value((low + high) / 2)


@pytest.mark.parametrize(("alpha", "divergence", "delta", "expected", "tolerance"), PUBLISHED)
def test_published_values_are_met(alpha, divergence, delta, expected, tolerance):
    found = epsilon("asoodeh", one(alpha), one(divergence), one(delta))[0]
    assert found == pytest.approx(expected, abs=tolerance)


@given(orders, divergences, deltas)
def test_no_two_points_with_this_divergence_show_more(alpha, divergence, delta):
    eps = epsilon("asoodeh", one(alpha), one(divergence), one(delta))[0]
    if eps > 0:
        with mp.workdps(50):
            assert least(alpha, eps, delta) >= divergence


@given(orders, divergences, deltas)
def test_where_a_solution_is_certified_hardly_less_would_be(alpha, divergence, delta):
    start = epsilon("cks", one(alpha), one(divergence), one(delta))
    eps = certified_epsilon(one(alpha), one(divergence), one(delta), start)[0]
    if np.isfinite(eps) and eps > 1e-3:
        with mp.workdps(50):
            assert least(alpha, eps * (1 - 1e-5), delta) < divergence


@given(orders, divergences, st.sampled_from((0.02, 0.3, 1.0, 4.0, 20.0)))
def test_both_directions_of_the_conversion_agree(alpha, divergence, eps):
    start = log_delta("cks", one(alpha), one(divergence), one(eps))
    back = certified_log_delta(one(alpha), one(divergence), one(eps), start)[0]
    if np.isfinite(back) and -90 < back < -1:
        again = epsilon("asoodeh", one(alpha), one(divergence), one(np.exp(back)))[0]
        assert again == pytest.approx(eps, rel=1e-5, abs=1e-7)


def test_most_ordinary_questions_are_certified():
    alpha = 1.0 + 2.0 ** np.arange(-2.0, 8.0)
    start = epsilon("cks", alpha, 0.02 * alpha, one(1e-5))
    found = certified_epsilon(*np.broadcast_arrays(alpha, 0.02 * alpha, 1e-5, start))
    gained = start > (1 + 1e-9) * found
    assert np.all(gained[alpha < 20])  # beyond, both are the same to nine digits


@given(orders, divergences, deltas)
def test_the_conversions_are_ordered(alpha, divergence, delta):
    best, middle, most = (
        epsilon(kind, one(alpha), one(divergence), one(delta))[0] for kind in ("asoodeh", "cks", "mironov")
    )
    assert best <= middle <= most


def test_infinite_divergences_stay_infinite():
    for kind in ("mironov", "cks", "asoodeh"):
        assert epsilon(kind, one(2.0), one(np.inf), one(1e-5))[0] == np.inf
        assert log_delta(kind, one(2.0), one(np.inf), one(1.0))[0] == np.inf
