"""Published values of composition theorems: [KOV15], [DRV10], [MV16], filters [WRRW23] and the first PATE.

Tables by [C] closed forms and sums over all outcomes; the integers 22 and 20 by [V] a test of Google's library.
"""

import ast
import math

import pytest

from accountant import ApproximateDPFilter, compute_epsilon, delta_bounds, epsilon_bounds
from accountant.advanced import Advanced
from mechanisms import ApproximateDP, Compose, PureDP, Repeat
from tests.accountant.published.entries import Entry, check


def repeated(epsilon, times, lost=0.0):
    return Repeat(ApproximateDP(epsilon=epsilon, delta=lost, adjacency="add_remove"), times)


def kov(name, total, value, tolerance, **more):
    params = {"eps": 1, "delta": 0.001, "k": 30, "total_delta": total}
    return Entry(paper="KOV15", quantity=name, params=params, value=value, tolerance=tolerance, **more)


GRID, EXACT = "optimal composition eps (grid frontier (k-2i)eps)", "optimal composition eps (exact, off-grid)"
T8 = "T8: only ε in steps of 2 are looked at; the optimum lies .29 and .18 below"
OPTIMAL = [
    kov(EXACT, 0.06, 21.709612624528212, 1e-9),
    kov(EXACT, 0.1, 19.81737917005211, 1e-9),
    *(
        Entry(
            paper="KOV15",
            quantity="optimal homogeneous eps",
            params={"eps": epsilon, "k": times, "delta": 0.0, "total_delta": total},
            value=value,
            tolerance=1e-9,
        )
        for epsilon, times, total, value in (
            (0.1, 100, 1e-6, 4.774567588111484),
            (0.1, 1_000, 1e-6, 19.344671448008853),
            (0.01, 10_000, 1e-5, 4.376384509259982),
            (1.0, 10, 1e-6, 9.999977065820735),
            (0.5, 50, 1e-5, 18.933283338329066),
        )
    ),
]
ON_THE_GRID = [
    kov(GRID, 0.06, 22, 0, truth={"": 21.709612624528212}, why=T8),
    kov(GRID, 0.1, 20, 0, truth={"": 19.81737917005211}, why=T8),
]


@pytest.mark.parametrize("entry", OPTIMAL, ids=str)
def test_equal_steps_cost_the_published_optimum(entry):
    of = entry.params
    check(
        entry, epsilon_bounds(repeated(of["eps"], of["k"], of["delta"]), delta=of["total_delta"], accountant="optimal")
    )


@pytest.mark.parametrize("entry", ON_THE_GRID, ids=str)
def test_the_published_integers_are_the_next_multiples_above_the_optimum(entry):
    found = epsilon_bounds(repeated(1.0, 30, 1e-3), delta=entry.params["total_delta"], accountant="optimal")
    check(entry, found, tolerance=1e-9)
    assert entry.value == 30 - 2 * math.floor((30 - found.upper) / 2)


def frontier(name, epsilon, times, lost, deltas):
    value = [[(times - 2 * i) * epsilon, delta] for i, delta in enumerate(deltas)]
    paper, quantity = "KOV15 Thm3.3", "frontier [(eps_g,delta_g)]"
    return pytest.param(
        Entry(paper=paper, quantity=quantity, params=f"KOV optimal frontier {name}", value=value, tolerance=1e-12),
        repeated(epsilon, times, lost),
        id=name,
    )


FRONTIERS = [
    frontier("eps=0.1 k=10 delta=0.0", 0.1, 10, 0.0, [
        0.0, 0.0002882338576186694, 0.0031322675761114027, 0.01608013199321301, 0.05230441400313113, 0.12253622356149252
    ]),
    frontier("eps=0.1 k=30 delta=0.0", 0.1, 30, 0.0, [
        0.0, 7.287637160402483e-10, 2.1107804393238894e-08, 2.9734039053153083e-07, 2.7154190468392514e-06,
        1.8082651332629318e-05, 9.365442528730394e-05, 0.00039301004044989263, 0.0013748441393761635,
        0.004095269303991955, 0.010561676338629922, 0.023910906321817582, 0.04809205987014875, 0.08687512517719764,
        0.14241366971535574, 0.2140188255911184
    ]),
    frontier("eps=0.5 k=20 delta=1e-06", 0.5, 20, 1e-6, [
        1.9999810001669616e-05, 6.819579549011134e-05, 0.0006705729651735881, 0.0042609344612840605,
        0.01784128951708508, 0.05443930399183572, 0.12923938051301442, 0.24976283818340783, 0.4069229789160145,
        0.5759377549827431, 0.7280421180296441
    ]),
    frontier("eps=1 k=30 delta=0.001", 1.0, 30, 1e-3, [
        0.029569032736914247, 0.029638595642847765, 0.030415732847257848, 0.03461613420704557, 0.04924572931831506,
        0.08614204054621144, 0.15792956773642275, 0.27002910396235436, 0.41433735233913627, 0.5704497751802724,
        0.7144005227453629, 0.8287688334121293, 0.9077139275025682, 0.9553659899800864, 0.9806454451773662,
        0.9924784117706373
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "process"), FRONTIERS)
def test_the_frontier_at_multiples_of_epsilon_is_the_published_one(entry, process):
    found = {}
    for i, (epsilon, _) in enumerate(entry.value):
        found[f"{i}/0"] = epsilon  # asked at
        found[f"{i}/1"] = delta_bounds(process, epsilon=epsilon, accountant="optimal")
    check(entry, found)


# Advanced composition

T_BASIC = (
    "above k ε, what basic composition says. Ours is never above that, and at this δ even a little below, as ε-private "
    "steps have no larger loss and lose at most the δ of that one"
)


def advanced(epsilon, times, delta, basic, drv, drift, least, *off):
    return Entry(
        paper="DRV10/KOV15",
        quantity="advanced composition formulas",
        params={"eps": epsilon, "k": times, "delta_prime": delta},
        value={"basic": basic, "drv": drv, "drv_tight": drift, "kov33": least},
        tolerance=1e-12,
        truth=dict(off),
        why=T_BASIC,
    )


ADVANCED = [
    advanced(0.1, 100, 1e-6, 10.0, 6.308230950513409, 5.7561055193357324, 5.7561055193357324),
    advanced(0.1, 1_000, 1e-6, 100.0, 27.139673170255872, 21.618418858479103, 21.618418858479103),
    advanced(0.01, 10_000, 1e-5, 100.0, 5.803542620604876, 5.298521745563075, 5.298521745563075),
    advanced(1.0, 10, 1e-6, 10.0, 33.80539964728155, 21.243752935291198, 10.0,
             *((name, 9.999998632131337) for name in ("drv", "drv_tight", "kov33"))),
    advanced(0.5, 50, 1e-5, 25.0, 33.183382828540985, 23.088317621130507, 23.088317621130507,
             ("drv", 24.999983934719694)),
    advanced(0.1, 30, 1e-6, 3.0, 3.194628301539792, 3.028990672186489, 2.9655664203110406,
             ("drv", 2.99999809516612), ("drv_tight", 2.99999809516612)),
]  # fmt: skip


@pytest.mark.parametrize("entry", ADVANCED, ids=str)
def test_advanced_composition_is_the_published_formula_or_basic_composition(entry):
    of = entry.params
    steps = Repeat(PureDP(epsilon=of["eps"], adjacency="add_remove"), of["k"])
    found = {
        name: compute_epsilon(steps, delta=of["delta_prime"], accountant=Advanced(theorem=theorem))
        for name, theorem in (("drv", "drv"), ("drv_tight", "drift"), ("kov33", "kov"))
    }
    check(entry, {"basic": compute_epsilon(steps, delta=0.0, accountant="basic"), **found})


# Unequal steps

MV16 = [
    Entry(
        paper="MV16",
        quantity="heterogeneous optimal composition",
        params=f"murtagh_vadhan_{asked} {steps}",
        value=value,
        tolerance=1e-10,
    )
    for asked, steps, value in (
        ("delta", [0.1, 0.2, 0.3, 0.4, 0.5], {
            "0": 0.2978310078256585, "0.25": 0.21301171390647933, "0.5": 0.13787458056365876,
            "1.0": 0.04361885468990012, "1.5": 0.0,
        }),
        ("eps", [0.1, 0.2, 0.3, 0.4, 0.5], {"0.01": 1.323461474717297, "0.001": 1.483684268180843}),
        ("eps", [0.1] * 5 + [0.2] * 5, {"0.01": 0.8790187224359922, "0.001": 1.2386836634599854}),
        ("delta", [0.3, 0.7, 1.1], {
            "0": 0.5005202111902352, "0.25": 0.4467325521222144, "0.5": 0.3906128383639451,
            "1.0": 0.2760594457816281, "1.5": 0.12993161741401638,
        }),
        ("eps", [0.3, 0.7, 1.1], {"0.01": 2.0646576902785156, "0.001": 2.0965214505261764}),
    )
]  # fmt: skip


@pytest.mark.parametrize("entry", MV16, ids=str)
def test_unequal_steps_cost_the_published_optimum(entry):
    asked, _, steps = entry.params.removeprefix("murtagh_vadhan_").partition(" ")
    process = Compose(tuple(PureDP(epsilon=one, adjacency="add_remove") for one in ast.literal_eval(steps)))
    if asked == "delta":
        check(entry, {x: delta_bounds(process, epsilon=float(x), accountant="optimal") for x in entry.value})
    else:
        check(entry, {x: epsilon_bounds(process, delta=float(x), accountant="optimal") for x in entry.value})


# Filters

FILTERS = [
    Entry(
        paper="Whitehouse23",
        quantity="filter eps (zCDP-type) vs tight advanced comp",
        params=f"Whitehouse filter eps={epsilon} k={times} d=1e-06",
        value={"whitehouse": 5.756521769756932, "drv": drift},
        tolerance=1e-12,
    )
    for epsilon, times, drift in ((0.1, 100, 5.7561055193357324), (0.01, 10_000, 5.756517603131925))
]


def allowed(budget, step):
    left = ApproximateDPFilter(epsilon=budget, delta=1e-6, slack=1e-6, adjacency="add_remove", conversion="bun_steinke")
    times = 0
    while left.allows((step, 0.0)):
        left.spend((step, 0.0))
        times += 1
    return times


@pytest.mark.parametrize("entry", FILTERS, ids=str)
def test_a_filter_of_the_published_budget_allows_the_published_number_of_steps(entry):
    step, times = (
        kind(word.partition("=")[2]) for kind, word in zip((float, int), entry.params.split()[2:4], strict=True)
    )
    budget = entry.value["whitehouse"]
    assert allowed(budget - entry.tolerance, step) == times - 1
    assert allowed(budget + entry.tolerance, step) == times
    steps = Repeat(PureDP(epsilon=step, adjacency="add_remove"), times)
    fixed = compute_epsilon(steps, delta=1e-6, accountant=Advanced(theorem="drift"))
    check(entry, {"whitehouse": budget, "drv": fixed})


# The first PATE: the noisiest vote of T queries, each 2γ-private

PATE = Entry(
    paper="PATE17",
    quantity="data-independent LNMax eps gamma=.05",
    params={"T100_d1e5": 5.798525912188081, "T1000_d1e6": 26.6225813626911},
    tolerance=1e-9,
    truth={"T100_d1e5": 4.306791372514, "T1000_d1e6": 19.344671448008853},
    why="a moment bound of 2γ-private answers, 4 T γ² + 2 γ √(2 T log 1/δ): their optimal composition is 1.49 and 7.28 "
    "below; the paper's 5.80 is from memory",
)


@pytest.mark.parametrize("entry", [PATE], ids=str)
def test_noisy_votes_cost_a_quarter_less_than_published(entry):
    found = {}
    for name, times, delta in (("T100_d1e5", 100, 1e-5), ("T1000_d1e6", 1_000, 1e-6)):
        votes = Repeat(PureDP(epsilon=2 * 0.05, adjacency="replace_one"), times)
        found[name] = epsilon_bounds(votes, delta=delta, adjacency="replace_one", accountant="optimal")
        moments = compute_epsilon(votes, delta=delta, adjacency="replace_one", accountant="moments")
        assert found[name].upper < moments < entry.params[name]
    check(entry, found)
