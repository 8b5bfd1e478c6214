"""Published ε of DP-SGD by the routes of their time: moments, Rényi divergences, the central limit; and noise for an ε.

Abadi et al., Opacus, TensorFlow Privacy, Bu et al., banded matrices, McMahan et al., riskcal. T2: numbers published
before 2020 are by the old conversion. Rényi orders are a peer's default list, which gives its numbers to 1e-6.
"""

import math

import numpy as np
import pytest

from accountant import calibrate_noise_multiplier, compute_epsilon, epsilon_bounds, estimate_epsilon
from accountant.moments import Moments
from accountant.pld import PLD
from accountant.prv import PRV
from accountant.rdp import RDP
from accountant.tightest import Tightest
from mechanisms import Gaussian
from tests.accountant.published.entries import Entry, check, distance, label, sampled
from tests.strategies import ADD_REMOVE

ORDERS = (*(1 + i / 10 for i in range(1, 100)), *range(11, 64), 128, 256, 512, 1024)
CKS, MIRONOV = RDP(orders=ORDERS), RDP(orders=ORDERS, conversion="mironov")


def at(process, delta, accountant="tightest"):
    return compute_epsilon(process, delta=delta, accountant=accountant)


# Abadi et al., CCS 2016: [V] the text, [C] the rest


def abadi(quantity, times, value, tolerance, **more):
    params = {"q": 0.01, "sigma": 4, "T": times, "delta": 1e-5}
    return Entry(paper="Abadi16", quantity=quantity, params=params, value=value, tolerance=tolerance, **more)


STRONG = (
    "a sample is taken for (q ε₀, q δ₀)-private at an ε₀ = 1.5, where neither that nor the Gaussian's formula is a "
    "theorem; a sound split, in each order of the neighbours apart, is 1.95 and 6.87 below"
)
BELOW = "1 % below what whole moments give, 2.5759; no order gives less than 2.5737 (tests/accountant/test_moments.py)"
ABADI = [
    (abadi("moments accountant eps", 10_000, 1.26, 0.005), Moments()),
    (abadi("moments accountant eps", 40_000, 2.55, 0.03, why=BELOW), Moments()),
    (abadi("strong composition eps", 10_000, 9.34, 0.03, truth={"": 7.394}, why=STRONG), "advanced"),
    (abadi("strong composition eps", 40_000, 24.22, 0.05, truth={"": 17.346}, why=STRONG), "advanced"),
    (abadi("RDP eps with CKS conversion (modern)", 10_000, 1.0354900660362436, 0.001), CKS),
    (abadi("RDP eps with CKS conversion (modern)", 40_000, 2.2097355966543573, 0.001), CKS),
    (abadi("PLD eps (tight)", 40_000, 2.033065388612098, 0.0005), "tightest"),
]


@pytest.mark.parametrize(("entry", "accountant"), ABADI, ids=label)
def test_abadis_case_costs_what_each_route_published(entry, accountant):
    process = sampled(4.0, 0.01, entry.params["T"])
    check(entry, at(process, 1e-5, accountant))
    assert epsilon_bounds(process, delta=1e-5).lower <= at(process, 1e-5, accountant)


# Opacus: [V] its tests


def opacus(quantity, value, tolerance):
    params = {"sigma": 1.5, "q": 0.04, "T": 2250, "delta": 1e-5}
    return Entry(paper="Opacus", quantity=quantity, params=params, value=value, tolerance=tolerance)


OPACUS = [
    (opacus("RDP eps", 7.32911117143, 0.001), CKS),
    (opacus("PRV eps (upper, eps_error .01)", 6.777395712150674, 0.012), PRV()),
]
LIMIT = opacus("GDP-CLT eps", "in (6.59,6.6) with T=int(90//.04)=2249", 0.01)


@pytest.mark.parametrize(("entry", "accountant"), OPACUS, ids=label)
def test_the_case_of_opacus_costs_what_each_of_its_routes_says(entry, accountant):
    check(entry, at(sampled(1.5, 0.04, 2250), 1e-5, accountant))


@pytest.mark.parametrize("entry", [LIMIT], ids=str)
def test_its_central_limit_is_for_one_step_less_than_it_says(entry):
    """T15: 90 // 0.04 is 2249 in floats. The estimate for 2250 is outside its bounds, and the truth .17 above both."""
    short, whole = (estimate_epsilon(sampled(1.5, 0.04, steps), delta=1e-5).value for steps in (int(90 // 0.04), 2250))
    assert 6.59 < short < 6.6 < whole < 6.6 + entry.tolerance
    assert epsilon_bounds(sampled(1.5, 0.04, 2250), delta=1e-5).lower - whole == pytest.approx(0.167, abs=1e-3)


NOISE = Entry(
    paper="Opacus",
    quantity="noise multiplier (eps=8,delta=1e-5,q=.04)",
    params={
        "rdp_epochs90": 1.416,
        "rdp_steps2000": 1.3562,
        "prv_epochs90": 1.34765625,
        "prv_steps2000": 1.2915,
        "gdp_epochs90": 1.3232421875,
    },
    tolerance=0.001,
)


@pytest.mark.parametrize("entry", [NOISE], ids=str)
def test_the_noise_for_an_epsilon_of_8_is_the_published_one(entry):
    """T3: that by the central limit is too little. It has no guarantee to calibrate, so its estimate is looked at."""
    found = {}
    for name, noise in entry.params.items():
        route, steps = name[:3], 2250 if name.endswith("90") else 2000
        if route == "gdp":
            more, less = (
                estimate_epsilon(sampled(noise + step, 0.04, steps), delta=1e-5).value
                for step in (-entry.tolerance, entry.tolerance)
            )
            assert less < 8 < more and at(sampled(noise, 0.04, steps), 1e-5) > 8.19
            found[name] = noise
        else:
            found[name] = calibrate_noise_multiplier(
                target_epsilon=8.0, delta=1e-5, sample_rate=0.04, steps=steps, accountant=route
            )
    check(entry, found)


# TensorFlow Privacy: [V] its tutorial and tests


def tutorial(records, batch, noise, epochs, delta, value):
    quantity = f"eps tfp n={records} b={batch} s={noise} E={epochs} d={delta}"
    return Entry(paper="TF-Privacy tutorials/tests", quantity=quantity, value=value, tolerance=0.005)


TUTORIAL = [
    (tutorial(60_000, 256, 1.3, 15, "1e-05", 1.19), 256 / 60_000, 3516, MIRONOV),
    (tutorial(60_000, 256, 1.1, 60, "1e-05", 3.01), 256 / 60_000, 14_063, MIRONOV),
    (tutorial(60_000, 150, 1.3, 15, "1e-05", 0.7242234026109595), 150 / 60_000, 6000, CKS),
    (tutorial(100_000, 100, 1.0, 30, "1e-07", 1.4154988495444842), 100 / 100_000, 30_000, CKS),
]


@pytest.mark.parametrize(("entry", "rate", "steps", "accountant"), TUTORIAL, ids=label)
def test_the_tutorials_epsilons_are_reproduced(entry, rate, steps, accountant):
    words = dict(word.split("=") for word in entry.quantity.split() if "=" in word)
    check(entry, at(sampled(float(words["s"]), rate, steps), float(words["d"]), accountant))


EXAMPLE = Entry(
    paper="TF-Privacy",
    quantity="example eps epochs=1.2 sigma=.7 delta=1e-5",
    value={
        "nosub_rdp": 10.8602036,
        "nosub_micro_rdp": 26.2880374,
        "sub_1e2_rdp": 3.2392676,
        "sub_micro_rdp": 22.6248601,
        "nosub_pld": 10.1224946,
        "nosub_micro_pld": 24.7160779,
        "sub_pld": 2.4612381,
        "sub_micro_pld": 18.6977407,
    },
    tolerance=1e-6,
    truth={"sub_1e2_rdp": 3.2391921939, "sub_micro_rdp": 22.5970358137},
    why="the best orders there are 4.4 and 1.6, whose divergences are interpolated from whole orders, not integrated: "
    "7.5e-5 and .028 too large",
)


@pytest.mark.parametrize("entry", [EXAMPLE], ids=str)
def test_the_examples_of_tensorflow_privacy_are_reproduced(entry):
    """T17: clipping microbatches of several examples halves the noise. 1.2 epochs are two passes, or 120 samples."""
    found = {}
    for name in entry.value:
        noise = 0.35 if "micro" in name else 0.7
        process, exact = (sampled(noise, 1.0, 2), "gdp") if "nosub" in name else (sampled(noise, 0.01, 120), "tightest")
        found[name] = at(process, 1e-5, CKS if name.endswith("rdp") else exact)
    check(entry, found)


# Bu et al., HDSR 2020: [V] the caption of its Figure 4 for σ~; MNIST with batches of 256


def bu(case, noise, *columns):
    names = ("mu", "eps_clt", "rdp_cks", "pld", "rdp_old")
    value = {which: dict(zip(names, column, strict=True)) for which, column in zip(noise, columns, strict=True)}
    entry = Entry(paper="Bu19/20 GDP", quantity=f"Bu GDP {case}", value=value, tolerance=0.02)
    return pytest.param(entry, noise, id=case)


BU = [
    bu("sigma=1.3 E=20 pub mu=0.35 eps=1.34", {"sigma": 1.3, "sigma_tilde": 1.06},
       (0.2624336034304505, 0.9770145244259868, 1.1064355762630087, 1.0073386222965022, 1.3496988203516882),
       (0.3499480777978719, 1.3411966651387117, 1.5647060888207247, 1.4076905582095836, 1.9026804277497944)),
    bu("sigma=0.7 E=70 pub mu=1.78 eps=8.68", {"sigma": 0.7, "sigma_tilde": 0.638},
       (1.4142622658818953, 6.57323942036795, 7.839280071954656, 7.09481063352465, 8.678270639537454),
       (1.7848757882082535, 8.697155970826866, 10.519089123799581, 9.476733774365933, 11.502320046720893)),
    bu("sigma=1.3 E=15 pub mu=0.23 eps=None", {"sigma": 1.3},
       (0.22727416737746117, 0.8344629030412837, 0.9544295087299243, 0.8644586715032611, 1.1921299645498726)),
    bu("sigma=1.1 E=60 pub mu=0.57 eps=None", {"sigma": 1.1},
       (0.5735912733047315, 2.324315268435515, 2.5965558697943036, 2.381686002234757, 3.0082720891050823)),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "noise"), BU)
def test_the_central_limit_of_bu_et_al_is_reproduced_and_below_the_truth(entry, noise):
    """T3. The μ of the limit is that of a Gaussian that costs as much, by the exact accountant."""
    epochs, found = int(entry.quantity.split()[3].partition("=")[2]), {}
    for which, one in noise.items():
        process = sampled(one, 256 / 60_000, math.ceil(epochs * 60_000 / 256))
        limit = estimate_epsilon(process, delta=1e-5).value
        bounds = epsilon_bounds(process, delta=1e-5)
        assert limit < 0.98 * bounds.lower
        mu = entry.value[which]["mu"]
        assert distance(at(Gaussian(noise_multiplier=1 / mu), 1e-5, "gdp"), limit) <= 1e-3
        values = (mu, limit, at(process, 1e-5, CKS), bounds, at(process, 1e-5, MIRONOV))
        found |= {f"{which}/{part}": value for part, value in zip(entry.value[which], values, strict=True)}
    check(entry, found)


@pytest.mark.parametrize(
    ("noise", "steps", "claimed", "short"), [(1.06, 4688, 1.34, 0.068), (0.638, 16_407, 8.68, 0.797)]
)
def test_what_bu_et_al_say_their_noise_gives_is_not_what_it_gives(noise, steps, claimed, short):
    assert epsilon_bounds(sampled(noise, 256 / 60_000, steps), delta=1e-5).lower - claimed == pytest.approx(
        short, abs=1e-3
    )


# Others: [C]

BANDED = [
    Entry(
        paper="BandMF",
        quantity="amplified eps sigma=1 delta=1e-6",
        params={"bands": bands, "q": 0.01, "n": 128, "q_eff": rate, "rounds": rounds},
        value=value,
        tolerance=0.001,
    )
    for bands, rate, rounds, value in ((16, 0.16, 8, 4.591426434038824), (1, 0.01, 128, 1.0152153557585233))
]


@pytest.mark.parametrize("entry", BANDED, ids=str)
def test_banded_noise_costs_as_many_fewer_steps_of_a_larger_rate(entry):
    process = sampled(1.0, entry.params["q_eff"], entry.params["rounds"])
    check(entry, epsilon_bounds(process, delta=1e-6, accountant=PLD(relative_width=1e-4)))


FEDERATED = Entry(
    paper="McMahan18 DP-FedAvg",
    quantity="eps K=763430 Ktilde=5000 z=1.0 delta=1e-9",
    value={
        "1000": {"mironov": 2.9508496356799694, "cks": 2.5716204987680458},
        "4000": {"mironov": 4.2116249597350714, "cks": 3.810226835660704},
        "4120": {"mironov": 4.258268839923483, "cks": 3.8558852561360357},
        "4980": {"mironov": 4.5844518266055205, "cks": 4.175969009750052},
        "5000": {"mironov": 4.591912494564332, "cks": 4.183291789654646},
    },
)


@pytest.mark.parametrize("entry", [FEDERATED], ids=str)
def test_federated_rounds_cost_what_was_published(entry):
    """No tolerance is stated; theirs is 5e-7 above quadrature. The paper's 4.634 is by whole moments, which give it."""
    found = {}
    for rounds in entry.value:
        process = sampled(1.0, 5000 / 763_430, int(rounds))
        found |= {f"{rounds}/mironov": at(process, 1e-9, MIRONOV), f"{rounds}/cks": at(process, 1e-9, CKS)}
    check(entry, found, tolerance=1e-6)
    assert at(sampled(1.0, 5000 / 763_430, 5000), 1e-9, Moments()) == pytest.approx(4.634, abs=5e-4)


RISK = Entry(
    paper="riskcal",
    quantity="beta(.01,.05,.1) DP-SGD sigma=.5 q=.002 T=1e4",
    value=[0.8428134147824098, 0.6502557554552566, 0.5223408706474927],
    tolerance=0.005,
)


@pytest.mark.parametrize("entry", [RISK], ids=str)
def test_the_trade_off_of_dp_sgd_is_the_published_one_within_its_tolerance(entry):
    """Theirs are .0034, .0013 and .0008 above the upper ends here: an attacker misses fewer members than they say."""
    profile = Tightest().profile(sampled(0.5, 0.002, 10_000), adjacency=ADD_REMOVE)
    curve = profile.tradeoff(np.array([0.01, 0.05, 0.1]))
    for i, published in enumerate(entry.value):
        found = curve[i]
        assert distance(found, published) <= entry.tolerance and found.width <= 1e-6
        assert published - found.upper == pytest.approx((0.0034, 0.0013, 0.0008)[i], abs=1e-4)
