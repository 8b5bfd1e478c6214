"""Published values of one Gaussian: exact, and through Rényi and concentrated divergences.

[BW18] analytic Gaussians; [Mir17], [CKS20], [BS16], [ALCKS20] conversions. [C] unless the row says otherwise.
"""

import math

import pytest

from accountant import (
    calibrate_noise_multiplier,
    compute_epsilon,
    delta_bounds,
    epsilon_bounds,
)
from accountant.rdp import RDP
from mechanisms import ZCDP, Gaussian
from tests.accountant.published.entries import Entry, check

# The analytic Gaussian mechanism

NOISE = [
    Entry(
        paper="BW18",
        quantity="sigma analytic gaussian (sens 1)",
        params={"eps": epsilon, "delta": delta},
        value=noise,
        tolerance=1e-9,
    )
    for epsilon, delta, noise in (
        (0.1, 1e-05, 30.749566131977872),
        (0.1, 1e-06, 36.30469042619587),
        (0.5, 0.001, 4.610127950728123),
        (0.5, 1e-06, 8.057618480725061),
        (1.0, 0.001, 2.5746570186372058),
        (1.0, 1e-06, 4.2246788893268405),
        (1.0, 1e-08, 5.100308787529928),
        (2.0, 1e-05, 1.9938124456435349),
        (2.0, 1e-08, 2.6529267680558215),
        (4.0, 1e-06, 1.193518587157985),
        (4.0, 1e-08, 1.395582683911303),
        (8.0, 1e-05, 0.6002290721989513),
        (8.0, 1e-06, 0.6529353843582155),
        (8.0, 1e-08, 0.7483942247137372),
        (10.0, 0.001, 0.4060595580241385),
        (10.0, 1e-05, 0.49988861970900833),
        (10.0, 1e-06, 0.5410868318183661),
        (10.0, 1e-08, 0.6158463557601223),
    )
]


@pytest.mark.parametrize("entry", NOISE, ids=str)
def test_the_least_noise_of_a_gaussian_is_the_published_one(entry):
    """Calibration stays on the safe side by a relative 2e-6 at most; the exact accountant tells 1e-9 apart."""
    epsilon, delta = entry.params["eps"], entry.params["delta"]
    below, above = (
        epsilon_bounds(Gaussian(noise_multiplier=entry.value + step), delta=delta, accountant="gdp")
        for step in (-entry.tolerance, entry.tolerance)
    )
    assert below.lower > epsilon > above.upper
    found = calibrate_noise_multiplier(target_epsilon=epsilon, delta=delta)
    assert entry.value <= found <= entry.value * (1 + 2e-6)
    assert delta_bounds(Gaussian(noise_multiplier=found), epsilon=epsilon).upper <= delta


def profile(params, value, tolerance):
    return Entry(paper="BW18", quantity="delta(eps) gaussian", params=params, value=value, tolerance=tolerance)


DELTAS = [
    *(
        profile({"eps": epsilon, "sigma": noise}, delta, 1e-12)
        for epsilon, noise, delta in (
            (0.0, 1.0, 0.3829249225480263),
            (0.0, 2.0, 0.1974126513658474),
            (0.1, 0.5, 0.666639515528846),
            (0.1, 1.0, 0.3523251716813667),
            (0.1, 2.0, 0.15926050741399173),
            (0.1, 4.0, 0.06033716635810338),
            (0.5, 1.0, 0.23842170813487656),
            (0.5, 2.0, 0.05244032328766968),
            (0.5, 4.0, 0.0027088802183181937),
            (1.0, 0.5, 0.5098616600546702),
            (1.0, 2.0, 0.006829594983114584),
            (1.0, 4.0, 2.9242721048563415e-06),
            (2.0, 0.5, 0.33189799877682935),
            (2.0, 2.0, 9.43916863494733e-06),
            (2.0, 4.0, 5.09213089386273e-17),
            (4.0, 0.5, 0.08495331867107113),
            (4.0, 1.0, 4.712241200793165e-05),
            (4.0, 2.0, 2.706033802956669e-16),
            (4.0, 4.0, 7.263011664584392e-59),
        )
    ),
    profile({"sigma": 1, "sens": 3, "eps": 1}, 0.78760074, 1e-7),  # [V] a test of Google's library
    profile({"sigma": 1, "sens": 1, "eps": 2}, 0.02092364, 1e-7),
]


@pytest.mark.parametrize("entry", DELTAS, ids=str)
def test_the_delta_of_a_gaussian_is_the_published_one(entry):
    noise = entry.params["sigma"] / entry.params.get("sens", 1)
    found = delta_bounds(Gaussian(noise_multiplier=noise), epsilon=entry.params["eps"], accountant="gdp")
    check(entry, found)
    if entry.tolerance == 1e-12:  # says little of a δ of 1e-59
        assert all(end == pytest.approx(entry.value, rel=1e-10) for end in (found.lower, found.upper))


# From Rényi and concentrated divergences to (ε, δ)

CONVERSIONS = [
    Entry(
        paper="Mironov17/CKS20",
        quantity="RDP->DP conversion, continuous alpha",
        params=f"RDP conv gaussian s={noise} d={delta}",
        value=dict(zip(("mironov", "mironov_closed", "cks", "exact"), values, strict=True)),
        tolerance=1e-4,
    )
    for noise, delta, values in (
        ("1.0", "1e-05", (5.2985259143948555, 5.298525912188081, 4.728386986804709, 4.377178095681137)),
        ("4.530877117", "1e-06", (1.1845114179858423, 1.1845114179738787, 1.0000000000101255, 0.9273923379974423)),
    )
]


@pytest.mark.parametrize("entry", CONVERSIONS, ids=str)
def test_conversions_of_a_gaussian_are_the_published_ones(entry):
    noise, delta = (float(word.partition("=")[2]) for word in entry.params.split()[3:])
    step = Gaussian(noise_multiplier=noise)
    mironov = compute_epsilon(step, delta=delta, accountant=RDP(conversion="mironov"))
    cks = compute_epsilon(step, delta=delta, accountant="rdp")
    exact = epsilon_bounds(step, delta=delta, accountant="gdp")
    check(entry, {"mironov": mironov, "mironov_closed": mironov, "cks": cks, "exact": exact})


ZERO_CONCENTRATED = [
    Entry(
        paper="BS16/CKS20",
        quantity="zCDP->DP",
        params=f"zCDP rho={rho} d=1e-6",
        value={"bs": bs, "opt_cks": cks, "gauss_exact": exact},
        tolerance=1e-4,
    )
    for rho, bs, cks, exact in (
        (0.01, 0.7533844377699678, 0.6216926560997242, 0.5750551857799983),
        (0.1, 2.4507880004767997, 2.1419389410099443, 1.9945269006963395),
        (0.5, 5.756521769756932, 5.2215348095554415, 4.886554117462159),
    )
]


@pytest.mark.parametrize("entry", ZERO_CONCENTRATED, ids=str)
def test_concentrated_privacy_costs_what_was_published(entry):
    rho = float(entry.params.split()[1].partition("=")[2])
    stated, normal = ZCDP(rho=rho, adjacency="add_remove"), Gaussian(noise_multiplier=math.sqrt(0.5 / rho))
    found = {
        "bs": compute_epsilon(stated, delta=1e-6, accountant=RDP(conversion="mironov")),
        "opt_cks": compute_epsilon(stated, delta=1e-6, accountant="zcdp"),
        "gauss_exact": epsilon_bounds(normal, delta=1e-6, accountant="gdp"),
    }
    check(entry, found)


SINGLE_ORDERS = [
    Entry(
        paper="Asoodeh20",
        quantity="optimal single-order RDP->DP",
        params=f"Asoodeh optimal (alpha,gamma,delta)=({order},{divergence},{delta})",
        value=dict(zip(("opt", "cks", "mironov"), values, strict=True)),
        tolerance=1e-3,
    )
    for order, divergence, delta, values in (
        (5, "1.0", "1e-05", (3.248107740971607, 3.252728336819822, 3.878231366242557)),
        (10, "0.5", "1e-06", (1.6726122904698926, 1.6738534248944212, 2.0350567286626973)),
        (17, "0.5", "1e-05", (0.9818363218567914, 0.9818573857406909, 1.2195578415606394)),
    )
]


@pytest.mark.parametrize("entry", SINGLE_ORDERS, ids=str)
def test_one_order_alone_converts_to_the_published_epsilons(entry):
    order, divergence, delta = map(float, entry.params.partition("=(")[2][:-1].split(","))
    stated = ZCDP(rho=divergence / order, adjacency="add_remove")  # whose divergence of this order is the given one
    found = {
        part: compute_epsilon(stated, delta=delta, accountant=RDP(orders=(order,), conversion=conversion))
        for part, conversion in (("opt", "asoodeh"), ("cks", "cks"), ("mironov", "mironov"))
    }
    check(entry, found)


EXACTLY_ONE = Entry(  # [V] a test of Google's library
    paper="CKS20",
    quantity="gaussian sigma giving exactly (1,1e-6) via RDP",
    params={"orders": "0.001*i"},
    value=4.530877117,
    tolerance=1e-7,
)


@pytest.mark.parametrize("entry", [EXACTLY_ONE], ids=str)
def test_the_noise_that_gives_exactly_one_is_the_published_one(entry):
    orders = RDP(orders=tuple(0.001 * i for i in range(1_001, 60_001)))
    below, above = (
        compute_epsilon(Gaussian(noise_multiplier=entry.value + step), delta=1e-6, accountant=orders)
        for step in (-entry.tolerance, entry.tolerance)
    )
    assert above < 1 < below
