"""Published values of numerical composition: Gopi et al., Koskela et al., Alghamdi et al.

[V] tests and data files of their programs.
"""

import numpy as np
import pytest

from accountant import delta_bounds, epsilon_bounds
from accountant.pld import PLD
from accountant.prv import PRV
from mechanisms import Compose
from tests.accountant.published.entries import Entry, check, parts, sampled

# Gopi, Lee, Wutschitz, NeurIPS 2021: reference values in the tests of Opacus, at ε_error = .01 and δ_error = δ/1000

OWN_GRID = "their rounded losses alone are 1.3e-4 off here, as ε is not much above ε_error"
UPPER_ENDS = [
    Entry(
        paper="Gopi21 (MSR reference values via Opacus)",
        quantity="PRV eps upper with eps_error=0.01",
        params=f"s={noise} q={rate} n={steps} delta=1e-6",
        value=value,
        tolerance=1e-4,
        truth={"": 0.0392421399} if value == 0.03936941930952033 else {},
        why=OWN_GRID,
    )
    for noise, rate, steps, value in (
        (0.8, 0.001, 100, 0.2704033640580187),
        (1.5, 0.001, 100, 0.03936941930952033),
        (0.8, 0.05, 100, 6.7410519394141),
        (1.5, 0.05, 100, 1.9538531356842002),
        (2.0, 0.05, 100, 1.2836373796240652),
        (3.0, 0.05, 100, 0.7679337896668256),
        (1.5, 0.2, 100, 8.49897785912163),
        (2.0, 0.2, 100, 5.6720556088237295),
        (3.0, 0.2, 100, 3.3812205102218442),
        (1.5, 0.001, 1000, 0.09982066023084749),
        (2.0, 0.001, 1000, 0.07121878253811523),
        (0.8, 0.05, 1000, 19.525842805383736),
        (1.5, 0.05, 1000, 6.209969246577267),
        (2.0, 0.05, 1000, 4.172799866689319),
        (3.0, 0.05, 1000, 2.5275743260597383),
        (1.5, 0.001, 20000, 0.4370051086548608),
        (2.0, 0.001, 20000, 0.30583793976245344),
        (3.0, 0.001, 20000, 0.1940310306860547),
        (0.8, 0.05, 20000, 140.65520976007423),
        (1.5, 0.05, 20000, 38.306617914087234),
        (2.0, 0.05, 20000, 24.421718570322586),
        (3.0, 0.05, 20000, 13.961114699236706),
    )
]


@pytest.mark.parametrize("entry", UPPER_ENDS, ids=str)
def test_published_upper_ends_are_the_truth_and_both_errors(entry):
    """T1: they are no ε, but certified upper ends: ε(δ − δ_error) + ε_error. Ours counts what errors really are."""
    noise, rate, steps, delta = (float(word.partition("=")[2]) for word in entry.params.split())
    process, exact = (
        sampled(noise, rate, int(steps)),
        PLD(relative_width=1e-3) if (noise, steps) == (0.8, 100) else "contour",
    )
    check(entry, epsilon_bounds(process, delta=delta * (1 - 1e-3), accountant=exact) + 0.01)
    truth = epsilon_bounds(process, delta=delta, accountant=exact)
    assert 0.01 <= entry.value - truth.upper < 0.0129
    if entry.value < 20.0:  # more takes long
        ours = epsilon_bounds(process, delta=delta, accountant=PRV(eps_error=0.01, delta_error=1e-9))
        assert truth.upper < ours.upper <= entry.value + entry.tolerance
        assert ours.lower < truth.lower < ours.upper < truth.upper + 0.0102


# Koskela, Jälkö, Honkela, AISTATS 2020, and for unequal steps 2021

REMOVE, REPLACE = "remove/add", "substitution"
WINDOW = (
    "losses above their window's end, L = 20, are left out: δ without what those add is the δ asked for, and "
    "in truth 1.9 times that under replace-one, where ε is .43 larger"
)


def koskela(of, noise, rate, steps, value, truth=None, **asked):
    poisson = " Poisson" if of == REMOVE else " (both Poisson)"
    return Entry(
        paper="Koskela20",
        quantity=f"eps {of}{poisson}" if "delta" in asked else f"delta {of}",
        params={**asked, "sigma": noise, "q": rate, "T": steps},
        value=value,
        tolerance=1e-4 if "delta" in asked else 5e-6,
        truth={"": truth} if truth else {},
        why=WINDOW,
    )


def asked(of, noise, rate, steps, **question):
    """Return the ends for a question, by the line or, under replace-one, by tilted transforms."""
    route = ("replace_one", PLD(relative_width=3e-6)) if of == REPLACE else ("add_remove", "contour")
    ask = epsilon_bounds if "delta" in question else delta_bounds
    return ask(sampled(noise, rate, steps), **question, adjacency=route[0], accountant=route[1])


KOSKELA = [
    koskela(REMOVE, 2, 0.01, 10_000, 2.446734047007243, delta=1e-6),
    koskela(REPLACE, 2, 0.01, 10_000, 4.907397768991888, delta=1e-6),
    koskela(REPLACE, 2, 0.01, 10_000, 4.396030629364786, delta=1e-5),
    koskela(REMOVE, 1, 0.01, 10_000, 6.907422808389587, delta=1e-6),
    koskela(REPLACE, 1, 0.01, 10_000, 11.956857696159513, delta=1e-6),
    koskela(REPLACE, 2, 0.005, 10_000, 2.26528666506213, delta=1e-6),
    koskela(REMOVE, 2, 0.01, 100_000, 8.984848512304165, delta=1e-6),
    koskela(REPLACE, 2, 0.01, 100_000, 19.0867527960459, delta=1e-6, truth=19.5139),
    koskela(REMOVE, 1, 0.02, 10_000, 15.64135722007042, delta=1e-6, truth=15.641746063),
    koskela(REMOVE, 2, 0.01, 10_000, 0.010224911209191894, eps=1),
    koskela(REPLACE, 2, 0.01, 10_000, 0.1282093857106282, eps=1),
    koskela(REPLACE, 2, 0.01, 10_000, 0.16803207353601804, eps=0.8),
    koskela(REPLACE, 1, 0.01, 10_000, 0.556809673151891, eps=1),
    koskela(REMOVE, 2, 0.02, 10_000, 0.14991732969314892, eps=1),
    koskela(REMOVE, 2, 0.01, 100_000, 0.39205728853284305, eps=1),
    koskela(REPLACE, 2, 0.01, 100_000, 0.8205538014405241, eps=1),
]


@pytest.mark.thinned(3)
@pytest.mark.parametrize("entry", KOSKELA, ids=str)
def test_koskela_et_al_are_reproduced_where_their_window_is_wide_enough(entry):
    of = dict(entry.params)
    noise, rate, steps = of.pop("sigma"), of.pop("q"), of.pop("T")
    if "eps" in of:
        of["epsilon"] = of.pop("eps")
    check(entry, asked(REPLACE if REPLACE in entry.quantity else REMOVE, noise, rate, steps, **of))


@pytest.mark.parametrize(("of", "case"), [(REPLACE, (2, 0.01, 100_000)), (REMOVE, (1, 0.02, 10_000))])
def test_what_is_off_is_the_truth_without_the_losses_above_20(of, case):
    """E_P[(1 − e^(ε−L))₊; L <= 20], as δ'(ε) = −e^ε Q(L > ε): the slope and δ at 20 say what was left out."""
    (published,) = (entry.value for entry in KOSKELA if entry.truth and of in entry.quantity)
    below, end, above, here = (asked(of, *case, epsilon=epsilon).upper for epsilon in (19.99, 20.0, 20.01, published))
    slope = (above - below) / 0.02
    left_out = end - slope + np.exp(published - 20.0) * slope
    assert here - left_out == pytest.approx(1e-6, rel=3e-4) != here


UNEQUAL = Entry(
    paper="Koskela20 heterogeneous",
    quantity="delta/eps; sigma=linspace(1.6,1.8,10), q=linspace(.05,.06,10), 10 each",
    value={
        "delta_R_eps1": 0.0007824006722393885,
        "delta_R_eps08": 0.0030814519279194538,
        "delta_S_eps1": 0.026891238748125684,
        "eps_R_d1e3": 0.9658229984720059,
        "eps_R_d1e4": 1.2658081375076573,
        "eps_S_d1e3": 1.849343750228688,
    },
    tolerance=1e-6,
)


@pytest.mark.slow
@pytest.mark.parametrize("entry", [UNEQUAL], ids=str)
def test_unequal_steps_cost_the_published_values(entry):
    pairs = zip(np.linspace(1.6, 1.8, 10).tolist(), np.linspace(0.05, 0.06, 10).tolist(), strict=True)
    process, found = Compose(tuple(sampled(noise, rate, 10) for noise, rate in pairs)), {}
    questions = {"eps1": 1.0, "eps08": 0.8, "d1e3": 1e-3, "d1e4": 1e-4}
    for name in entry.value:
        kind, order, at = name.split("_")
        ask = delta_bounds if kind == "delta" else epsilon_bounds
        where = {"epsilon" if kind == "delta" else "delta": questions[at]}
        route = (
            ("add_remove", "contour")
            if order == "R"
            else ("replace_one", PLD(relative_width=1e-4 if kind == "delta" else 1e-5))
        )
        found[name] = ask(process, **where, adjacency=route[0], accountant=route[1])
    check(entry, found)


BRACKET = Entry(
    paper="Koskela21",
    quantity="README rigorous bracket sigma=4 q=.01 T=1e4",
    value={
        "delta_at_eps1": [1.2282282018518088e-07, 0.00010514221537608886],
        "eps_at_1e5": [0.6980780002786826, 1.1339061240664539],
    },
)


@pytest.mark.parametrize("entry", [BRACKET], ids=str)
def test_their_rigorous_bracket_encloses_a_much_narrower_one(entry):
    process = sampled(4.0, 0.01, 10_000)
    found = {"delta_at_eps1": delta_bounds(process, epsilon=1.0), "eps_at_1e5": epsilon_bounds(process, delta=1e-5)}
    assert set(found) == set(entry.value) and len(parts(entry.value)) == 4
    for name, bounds in found.items():
        low, high = entry.value[name]
        assert low < bounds.lower <= bounds.upper < high and bounds.width < 1e-8 * (high - low)


# Alghamdi et al., ICML 2023: 20 digits of a contour integral. T7: plain transforms say inf or 2.438 for the first

TRUE = [
    Entry(
        paper="Alghamdi23",
        quantity="TRUE eps (20-digit contour integral)",
        params={"sigma": 2, "q": 0.01, "T": steps, "delta": 1e-15},
        value=value,
        tolerance=1e-6,
    )
    for steps, value in (
        (1500, 1.6553534717241247),
        (1596, 1.7061031097704178),
        (1693, 1.755923500463308),
        (1790, 1.8044010469245162),
        (1887, 1.8516424842948518),
        (1983, 1.897271396602194),
        (2080, 1.9423198259869658),
        (2370, 2.0713536012439198),
        (2467, 2.112817877771173),
        (2564, 2.15351510171432),
        (2661, 2.1934880594897574),
        (2758, 2.2327756952997895),
        (2854, 2.271018451176031),
        (2951, 2.309045375027054),
        (3048, 2.3464847866931366),
        (3145, 2.3833643066578603),
        (3241, 2.4193374054297143),
        (3532, 2.52540943776458),
        (3822, 2.627083696521767),
        (3919, 2.660273644921438),
        (4016, 2.693078534373453),
        (4209, 2.7572585371714586),
        (4306, 2.788991244871058),
        (4403, 2.8203892985752583),
        (4500, 2.8514636235029527),
    )
]


@pytest.mark.parametrize("entry", TRUE, ids=str)
def test_true_epsilons_at_a_delta_of_1e_15_are_reproduced_to_all_digits(entry):
    found = epsilon_bounds(sampled(2.0, 0.01, entry.params["T"]), delta=1e-15, accountant="contour")
    check(entry, found)
    assert found.lower - 1e-14 <= entry.value <= found.upper + 1e-14 and found.width < 1e-11
