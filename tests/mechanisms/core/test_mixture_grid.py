"""Every inequality behind the nodes, against mpmath: the integrand, its majorant in the strip, the rule's error."""

import math

import mpmath as mp
import numpy as np
import pytest

from mechanisms import NumericalFailure
from mechanisms.core.bounds import Bounds
from mechanisms.core.likelihood_ratio import SMALL, log_mixture, second_order
from mechanisms.core.mixture_grid import CELLS, LARGEST_STRIP, LARGEST_TURN, MOST_NODES, REACH, STRIPS, Cells, grid
from mechanisms.core.pair import UNIT_ROUNDOFF
from tests.reference.truth import sampled_excess

PROBABILITIES = (1e-290, 1e-20, 1e-9, 1e-3, 0.1, 0.4, 0.5, 0.6, 0.9, 1 - 1e-3, 1 - 1e-9, 1 - 2.0**-52)
POWERS = (-40.0, -3.0, -1.0, -0.3, -1e-8, 1 + 2.0**-30, 1.2, 1.9, 2.0, 2.5, 7.0, 60.0)
BEYOND = {"sin": 1e9, "cos": 3e16, "exp": 700.0, "expm1": 700.0, "log1p": 1e280}
COUNTED = 4.0  # ulps; half of it may be seen


@pytest.mark.parametrize("name", BEYOND)
def test_special_functions_err_by_less_than_the_ulps_that_are_counted(name):
    """`validated`: 4 ulps are counted for each, also where arguments are huge or near a zero; .51 to .70 were seen."""
    rng = np.random.default_rng(1)
    sizes = np.exp(rng.uniform(math.log(1e-8), math.log(BEYOND[name]), 1500))
    x = np.concatenate([sizes, -sizes if name in ("sin", "cos", "exp") else -np.minimum(sizes, 1 - 1e-9)])
    x = np.concatenate(
        [x, np.pi * np.arange(1, 200), np.pi * (np.arange(200) + 0.5)] if name in ("sin", "cos") else [x]
    )
    found, exact = getattr(np, name)(x), getattr(mp, name)
    with mp.workprec(160):
        ulps = [
            abs(float((exact(mp.mpf(a)) - mp.mpf(b)) / mp.mpf(np.spacing(abs(b)))))
            for a, b in zip(x, found, strict=True)
        ]
    assert max(ulps) <= COUNTED / 2, (max(ulps), x[int(np.argmax(ulps))])


@pytest.mark.parametrize("q", PROBABILITIES)
def test_the_loss_keeps_its_digits(q):
    """Where r is near 1 as well: for tiny q at x near −log q, and for q near 1 everywhere."""
    x = np.concatenate([np.linspace(-60, 60, 301), np.linspace(60, 690, 64), [1e-9, -1e-9, -0.5, -1.5, 0.0]])
    found = log_mixture(x, np.array(q))
    with mp.workdps(60):
        exact = [mp.log1p(mp.mpf(q) * mp.expm1(mp.mpf(a))) for a in x]
        wrong = max(abs(float((mp.mpf(b) - a) / a)) for a, b in zip(exact, found, strict=True) if a != 0)
    assert wrong <= 12 * UNIT_ROUNDOFF


@pytest.mark.parametrize("s", POWERS)
def test_the_integrand_and_its_slope_err_by_ulps_of_their_sizes(s):
    """On both sides of the switch to the series at |w| (|s| + 2) = .06, and far from it."""
    at = SMALL / (abs(s) + 2)
    w = np.concatenate([at * np.array([0.999999, 1.000001, -0.999999, -1.000001]), 10.0 ** -np.arange(0.5, 12)])
    w = np.concatenate([w, -w[4:], [-0.9, 1.7, 9.0, 300.0]])
    parts = second_order(w, np.log1p(w), s)
    with mp.workdps(60):
        for k, value in enumerate(w):
            r, exact_s = 1 + mp.mpf(value), mp.mpf(s)
            f, g = r**exact_s - 1 - exact_s * (r - 1), r**exact_s * mp.log(r) - (r - 1)
            ulps = UNIT_ROUNDOFF * (32 + 8 * abs(s * math.log1p(value)))
            assert abs(parts.f0[k] - f) <= ulps * parts.f_size[k]
            assert abs(parts.g0[k] - g) <= ulps * parts.g_size[k]
            assert abs(value) * (abs(s) + 2) > SMALL or parts.f_size[k] <= 3 * abs(f) or abs(s - 1) < 1e-6


@pytest.mark.thinned(5)
@pytest.mark.parametrize("y", [1e-9, 0.7, 30.0, 400.0])
@pytest.mark.parametrize("part", [1.0, 0.7, 0.35])
def test_the_majorant_lies_above_the_integrand_all_over_the_strip(part, y):
    """arg r does not rise with Im z everywhere: at q e^x = (1 − q)/2 it is largest at 2π/3, and turns reach .8π."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        mu, s = float(np.exp(rng.uniform(math.log(0.05), math.log(6)))), float(rng.choice(POWERS[1:-1]))
        q = float(rng.choice(PROBABILITIES[2:-2]))
        cells = Cells.around(np.array([[mu]]), np.array([[q]]), s, y)
        height = part * min(LARGEST_TURN / mu, LARGEST_STRIP)
        terms = cells._log_terms(np.array([[height]]))[0]
        for cell, share, b in zip(rng.integers(0, CELLS, 8), rng.random(8), height * rng.random(8), strict=True):
            u = cells.edges[0, cell] + share * float(cells.width[0])
            assert log_size(mu, q, complex(s, rng.choice([-y, y])), complex(u, b)) <= terms[cell]


def log_size(mu, q, s, z):
    """log |φ f| at complex z."""
    with mp.workdps(50):
        s, z, mu = mp.mpc(s), mp.mpc(z), mp.mpf(mu)
        w = mp.mpf(q) * mp.expm1(mu * z - mu * mu / 2)
        f = mp.exp(s * mp.log1p(w)) - 1 - s * w
        return float((-z * z / 2).real - mp.log(2 * mp.pi) / 2 + mp.log(abs(f) + mp.mpf("1e-900")))


@pytest.mark.parametrize("powers", [POWERS[1:-1], [-1e3, -1e5, -1e7]])
def test_the_majorant_falls_by_e_to_the_14_a_unit_beyond_the_cells(powers):
    """Where q is small, beyond the cells steep powers of |r| < 1 rise by far more than φ falls before they vanish."""
    rng = np.random.default_rng(4)
    for _ in range(100):
        mu, s = float(np.exp(rng.uniform(math.log(0.05), math.log(6)))), float(rng.choice(powers))
        q, y = float(rng.choice(PROBABILITIES[1:-2])), float(rng.choice([0.1, 20.0]))
        cells = Cells.around(np.array([[mu]]), np.array([[q]]), s, y)
        height = min(LARGEST_TURN / mu, LARGEST_STRIP)
        terms, most = (part(np.array([[height]]))[0] for part in (cells._log_terms, cells._log_beyond))
        for distance in (0.01, 0.3, 1.0, 3.0, 20.0, 60.0):
            b = height * float(rng.choice([1.0, rng.random()]))
            left, right = cells.edges[0, 0] - distance, cells.edges[0, -1] + distance
            assert log_size(mu, q, complex(s, y), complex(left, b)) <= terms[0] - REACH * distance
            assert log_size(mu, q, complex(s, -y), complex(right, b)) <= most - REACH * distance


def on_nodes(mu, q, s, y):
    """The rule itself in 50 digits, on the grid's nodes; its bound; and the number of nodes."""
    nodes = grid(Bounds.exact([mu]), np.array([q]), s, y)
    x = mu * nodes.z[0] - 0.5 * mu * mu
    mantissa, exponent = np.frexp((x[-1] - x[0]) / (len(x) - 1))
    spacing = float(np.ldexp(np.round(mantissa * 2**20), exponent - 20))
    first = round(float(x[0]) / spacing)
    power, total = mp.mpc(s, y), mp.mpc(0)
    for k in range(first, first + len(x)):
        w = mp.mpf(q) * mp.expm1(mp.mpf(k * spacing))
        z = mp.mpf(k * spacing) / mp.mpf(mu) + mp.mpf(mu) / 2
        total += mp.exp(-z * z / 2) * (mp.exp(power * mp.log1p(w)) - 1 - power * w)
    return total * mp.mpf(spacing) / mp.mpf(mu) / mp.sqrt(2 * mp.pi), float(nodes.error[0]), len(x)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("mu", "q", "s", "y"),
    [
        (0.01, 1e-9, 1.7, 300.0),
        (0.01, 1 - 1e-9, 1 + 2.0**-20, 0.0),
        (0.3, 0.02, -0.4, 3.0),
        (0.3, 1 - 1e-3, 1.7, 10.0),
        (1.0, 1e-9, 1 + 2.0**-20, 0.0),
        (1.0, 0.5, -0.01, 0.0),
        (1.0, 0.5, 3.0, 4.0),
        (1.0, 1 - 1e-9, -0.4, 1.0),
        (3.0, 0.02, -0.01, 0.0),
        (3.0, 1 - 1e-3, 1.7, 1.0),
        (8.0, 0.5, 1.2, 0.2),
    ],
)
def test_the_rule_errs_by_no_more_than_its_bound(mu, q, s, y):
    with mp.workdps(60):
        found, bound, count = on_nodes(mu, q, s, y)
        exact, size = sampled_excess(mu, q, mp.mpc(s, y)), sampled_excess(mu, q, mp.mpf(s))
        assert abs(found - exact) <= bound
        assert bound <= 3e-17 * abs(size) and count <= 800


ALL_KINDS = [
    (1.0, 0.5, 1.2, 0.0),
    (0.3, 0.9, 1.7, 2.0),
    (2.0, 0.1, -0.4, 0.5),
    (1.0, 1e-3, 3.0, 1.0),
    (1.0, 0.9, -3.0, 0.0),
]


def cells_of(mu, q, s, y):
    return Cells.around(np.array([[mu]]), np.array([[q]]), s, max(y, 1e-9))


def terms_at(mu, q, s, y, points):
    """φ f at real points, in 30 digits."""
    for u in points:
        w = mp.mpf(q) * mp.expm1(mp.mpf(mu) * u - mp.mpf(mu) ** 2 / 2)
        power = mp.mpc(s, y)
        yield mp.exp(-(mp.mpf(u) ** 2) / 2) / mp.sqrt(2 * mp.pi) * (mp.exp(power * mp.log1p(w)) - 1 - power * w)


@pytest.mark.parametrize(("mu", "q", "s", "y"), ALL_KINDS)
def test_aliases_are_bounded_from_every_strip(mu, q, s, y):
    """|rule − integral| <= 2 M / (e^{2πa/h} − 1), with steps so wide that aliases are seen."""
    cells, nearest = cells_of(mu, q, s, y), 0.0
    with mp.workdps(30):
        exact = sampled_excess(mu, q, mp.mpc(s, y))
        for step in (0.5, 1.0, 2.0):
            points = [mp.mpf("0.3") + step * k for k in range(-math.ceil(22 / step), math.ceil((22 + 4 * mu) / step))]
            error = abs(step * mp.fsum(terms_at(mu, q, s, y, points)) - exact)
            for part in (1.0, 0.5, 0.2):
                height = part * min(LARGEST_TURN / mu, LARGEST_STRIP)
                largest = math.exp(cells._log_majorant(np.array([[height]]))[0])
                bound = 2 * largest / math.expm1(2 * math.pi * height / step)
                assert error <= bound
                nearest = max(nearest, float(error) / bound)
    assert nearest >= 1e-2


@pytest.mark.parametrize("share", [1e-2, 1e-9, 1e-40, 1e-200])
@pytest.mark.parametrize(("mu", "q", "s", "y"), ALL_KINDS)
def test_terms_left_out_sum_to_what_is_counted_for_them(mu, q, s, y, share):
    """Also where no cell is left out, and only what lies beyond them is lost."""
    cells, step = cells_of(mu, q, s, y), 0.25
    first, last, lost = (float(part[0]) for part in cells._kept(np.array([step]), np.array([share])))
    assert first < last and lost <= 2 * share + 1e-40
    with mp.workdps(30):
        outside = [first - step * k for k in range(1, 60)] + [last + step * k for k in range(1, 60)]
        assert step * mp.fsum(abs(term) for term in terms_at(mu, q, s, y, outside)) <= lost


@pytest.mark.parametrize(("mu", "q", "s", "y"), ALL_KINDS)
def test_the_error_counts_aliases_at_the_step_used_and_what_is_left_out(mu, q, s, y):
    cells = cells_of(mu, q, s, y)
    step, first, last, error = cells.layout()
    heights = np.array(STRIPS) * min(LARGEST_TURN / mu, LARGEST_STRIP)
    sizes = [math.exp(cells._log_majorant(np.array([[height]]))[0]) for height in heights]
    used = float(step[0]) * (1 + 2.0**-19)  # as spacings keep 20 binary digits, rounded up
    aliased = min(2 * size / math.expm1(2 * math.pi * a / used) for a, size in zip(heights, sizes, strict=True))
    beyond = mp.fsum(abs(t) for t in terms_at(mu, q, s, y, [float(first[0]), float(last[0])]))
    assert error[0] >= aliased + float(beyond) * float(step[0])
    nodes = grid(Bounds.exact([mu]), np.array([q]), s, y)
    assert np.max(np.diff(nodes.z[0])) <= used * (1 + 1e-12)
    assert nodes.z[0, 0] <= first[0] * (1 - 1e-12) + 1e-12 and nodes.z[0, -1] >= last[0] * (1 - 1e-12) - 1e-12


def test_nodes_are_exact_multiples_so_that_losses_are():
    nodes = grid(Bounds.exact([0.3, 2.0]), np.array([0.1, 0.7]), 1.5, 4.0)
    assert nodes.z.shape == nodes.w.shape == nodes.loss.shape == nodes.weight.shape
    assert np.all(np.diff(nodes.z, axis=1) > 0)
    steps = np.diff(nodes.z, axis=1) * np.array([[0.3], [2.0]])
    assert np.ptp(steps, axis=1).max() <= 1e-13


@pytest.mark.parametrize("q", [1e-300, 1e-200, 1e-140, 1e-20])
@pytest.mark.parametrize("s", [-0.5, 1.5])
def test_probabilities_too_small_to_square_still_have_a_grid(q, s):
    nodes = grid(Bounds.exact([1.0]), np.array([q]), s, 0.0)
    assert 0 <= nodes.error[0] <= max(1e-16 * q * q, 1e-290)


def test_a_grid_out_of_budget_or_out_of_floats_is_refused():
    with pytest.raises(NumericalFailure, match="pld"):
        grid(Bounds.exact([1.0]), np.array([0.5]), 1.5, 1e3 * MOST_NODES)
    with pytest.raises(NumericalFailure, match="pld"):
        grid(Bounds.exact([40.0]), np.array([0.5]), 1.5, 0.0)
    with pytest.raises(NumericalFailure, match="pld"):
        grid(Bounds.exact([1.0]), np.array([0.5]), 80.0, 0.0)
    with pytest.raises(NumericalFailure, match="not known"):
        grid(Bounds(lower=np.array([1.0]), upper=np.array([1.001])), np.array([0.5]), 1.5, 0.0)
