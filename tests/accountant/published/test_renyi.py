"""Published Rényi divergences: sampled Gaussians, noise and answers, fixed-size batches, balls in bins.

[MTZ19], [Mir17], [WBK19], Feldman and Shenfeld. [C] unless the row says otherwise; by a filter's price of one step.
"""

import math

import pytest

from accountant import RenyiFilter, compute_epsilon
from mechanisms import (
    ZCDP,
    Adjacency,
    FixedSize,
    Gaussian,
    Laplace,
    RandomizedResponse,
    Sampled,
)
from mechanisms.core.balls_in_bins_renyi import with_against_without
from tests.accountant.published.entries import Entry, check, distance, label, sampled
from tests.accountant.published.table import DIVERGENCES, orders
from tests.strategies import Tabulated


def divergence(process, order, adjacency="add_remove"):
    (found,) = RenyiFilter(budget=1.0, order=order, adjacency=adjacency).price(process)
    return found


# Sampled Gaussians

FIFTY = Entry(  # [V] a test of Google's library
    paper="MTZ19",
    quantity="RDP x50 steps",
    params={"sigma": 2.5, "q": 0.01, "steps": 50, "orders": [1.5, 2.5, 5, 50, 100]},
    value=[0.000670579741, 0.0010854871, 0.00218075656, 0.0238460375, 167.416308],
    tolerance=1e-4,
    truth={"0": 6.5007089718804e-4},
    why="orders between whole ones are interpolated there: 3.2 % above quadrature in 50 digits at 1.5, 6e-5 at 2.5",
)


@pytest.mark.parametrize("entry", [FIFTY], ids=str)
def test_fifty_sampled_gaussians_have_the_published_divergences(entry):
    found = [divergence(sampled(2.5, 0.01, 50), order) for order in entry.params["orders"]]
    check(entry, {str(i): one for i, one in enumerate(found)}, tolerance=1e-5)
    assert all(one <= published * (1 + 1e-8) for one, published in zip(found, entry.value, strict=True))


QUADRATURE = [
    Entry(
        paper="MTZ19",
        quantity="per-step RDP of SGM (mpmath quad, 30 digits)",
        params=params,
        value=value,
        tolerance=1e-10,
    )
    for params, value in (
        ("q=0.01,s=1.0,a=2", 0.0001718134220745306),
        ("q=0.01,s=1.0,a=1.5", 0.00012725374332742383),
        ("q=0.01,s=1.0,a=10.5", 0.18833969137955361),
        ("q=0.1,s=1.0,a=2", 0.017036863236176605),
        ("q=0.1,s=2.0,a=8", 0.01372543010321995),
        ("q=0.01,s=4.0,a=20", 6.526312957279474e-05),
        ("q=0.04,s=1.5,a=3.9", 0.001833202199583812),
    )
]


@pytest.mark.parametrize("entry", QUADRATURE, ids=str)
def test_one_sampled_gaussian_has_the_divergence_of_quadrature(entry):
    rate, noise, order = (float(word.partition("=")[2]) for word in entry.params.split(","))
    found = divergence(sampled(noise, rate, 1), order)
    check(entry, found)
    assert found == pytest.approx(entry.value, rel=1e-10)


TABLE = Entry(
    paper="MTZ19",
    quantity="TFP RDP table (order,q,sigma,steps=1) 240 rows",
    params="see rows",
    value=[
        {"order": order, "q": rate, "sigma": noise, "steps": 1, "rdp": value}
        for (rate, noise), values in DIVERGENCES.items()
        for order, value in zip(orders(rate), values, strict=True)
    ],
    tolerance=1e-6,
)


@pytest.mark.parametrize("entry", [TABLE], ids=str)
def test_the_table_of_240_divergences_is_reproduced(entry):
    assert len(entry.value) == 240
    for row in entry.value:
        found = divergence(sampled(row["sigma"], row["q"], 1), row["order"])
        assert distance(found, row["rdp"]) <= entry.tolerance
        assert found == pytest.approx(row["rdp"], rel=1e-8)


# Fixed-size batches under replace-one


def fixed_size(noise, order, *values):
    return Entry(
        paper="WBK19",
        quantity="WOR RDP upper bound",
        params=f"WBK wor q=0.01 s={noise} a={order}",
        value=dict(zip(("thm9_eps_j_sens1", "thm9_sens2", "dp_accounting"), values, strict=True)),
        why="T6: bounds for anything whose divergences are those of a Gaussian. Theirs refines them for Gaussians; the "
        "merged pair of a fixed-size batch is proved to be 2.9 to 3.5 times below that",
    )


FIXED_SIZE = [
    (fixed_size(2.0, 2, 0.00011360371352876478, 0.0005435086381093816, 0.00011360371352886809), 0.344),
    (fixed_size(2.0, 8, 0.0004883930419623885, 0.002684165012688916, 0.0004684162610720203), 0.334),
    (fixed_size(5.0, 16, 0.00021759916505064884, 0.0006790697906432655, 0.0001328534476173971), 0.284),
]


@pytest.mark.parametrize(("entry", "share"), FIXED_SIZE, ids=label)
def test_fixed_size_batches_of_stated_divergences_have_the_published_bound(entry, share):
    noise, order = (float(word.partition("=")[2]) for word in entry.params.split()[3:])
    batch = FixedSize(batch_size=10, records=1_000)

    def bound(part):
        return divergence(Sampled(part, batch), order, "replace_one")

    for part, sensitivity in (("thm9_eps_j_sens1", 1.0), ("thm9_sens2", 2.0)):
        stated = ZCDP(rho=sensitivity**2 / (2 * noise**2), adjacency="replace_one")
        assert bound(stated) == pytest.approx(entry.value[part], rel=1e-11)
    ours = bound(Gaussian(noise_multiplier=2 * noise))  # replacing a record moves it by 2, here by 1 as theirs
    assert ours / entry.value["dp_accounting"] == pytest.approx(share, abs=1e-3)


# Answers and Laplace noise

CATEGORIES = Entry(  # [V] a test of Google's library
    paper="RR RDP",
    quantity="REPLACE_SPECIAL / REPLACE_ONE; orders 1.5,2.5,5,50,100,inf",
    params={
        "p": 0.3,
        "k": 10,
        "special": [
            1.5030552584146897,
            1.7801182478869704,
            1.9091969256833639,
            1.9814516798923105,
            1.9846954517418232,
            1.9878743481543455,
        ],
        "replace": [
            2.6946320226546314,
            2.983865364028855,
            3.11316970070507,
            3.1854244842182466,
            3.1886682560677593,
            3.1918471524802814,
        ],
    },
    tolerance=1e-4,
)


@pytest.mark.parametrize("entry", [CATEGORIES], ids=str)
def test_answers_of_ten_categories_have_the_published_divergences(entry):
    """With probability .3 at random out of ten. A special record, for which others are replaced, answers at random."""
    answer = RandomizedResponse(epsilon=math.log(0.73 / 0.03), categories=10)
    zeroed = Tabulated(p=(0.73, *(0.03,) * 9), q=(0.1,) * 10)
    for name, process, adjacency in (("replace", answer, "replace_one"), ("special", zeroed, "zero_out")):
        found = [divergence(process, order, adjacency) for order in (1.5, 2.5, 5, 50, 100)]
        found.append(compute_epsilon(process, delta=0.0, adjacency=adjacency))  # of order ∞
        assert all(distance(*both) <= 1e-12 for both in zip(found, entry.params[name], strict=True))


SIMPLE = [
    pytest.param(
        Entry(paper="Mironov17", quantity=quantity, params={"alpha": order}, value=value, tolerance=1e-12),
        process,
        adjacency,
        id=f"{quantity}, {order}",
    )
    for quantity, process, adjacency, values in (
        (
            "Laplace RDP b=1",
            Laplace(noise_multiplier=1.0),
            "add_remove",
            (0.5128835112945087, 0.6191236299985928, 0.8530780145169694, 0.9286829020966803),
        ),
        (
            "binary RR RDP p=.75",
            RandomizedResponse(epsilon=math.log(3)),
            "replace_one",
            (0.7339691750802007, 0.8472978603872037, 1.0267044715483848, 1.0666476140468442),
        ),
    )
    for order, value in zip((1.5, 2.0, 5.0, 10.0), values, strict=True)
]


@pytest.mark.parametrize(("entry", "process", "adjacency"), SIMPLE)
def test_laplace_noise_and_answers_have_the_published_divergences(entry, process, adjacency):
    check(entry, divergence(process, entry.params["alpha"], adjacency))


# Balls in bins

ALLOCATED = Entry(
    paper="Chua24b/Feldman-Shenfeld25",
    quantity="random_alloc RDP a=2,3",
    value={
        "s=0.5,t=10": [1.8499992893998016, 3.702142424104457],
        "s=0.5,t=100": [0.4291695905978996, 1.4687136536339103],
        "s=0.5,t=1000": [0.05221111559226462, 0.1400973485930607],
        "s=1,t=10": [0.1585650787404291, 0.251837498304674],
        "s=1,t=100": [0.01703686323617655, 0.025793849421990058],
        "s=1,t=1000": [0.001716807271133098, 0.0025777319528138636],
        "s=2,t=10": [0.028006667885320143, 0.042104789867341674],
        "s=2,t=100": [0.002836228266263621, 0.004255466955306334],
        "s=2,t=1000": [0.0002839850891049374, 0.0004259890686820218],
    },
    tolerance=1e-7,
)


@pytest.mark.parametrize("entry", [ALLOCATED], ids=str)
def test_balls_in_bins_have_the_published_divergences(entry):
    """Of the remove order alone, as published: a run's bound is the larger one of both orders."""
    found = {}
    for name in entry.value:
        noise, bins = (float(word.partition("=")[2]) for word in name.split(","))
        removed = Gaussian(noise_multiplier=noise).pairs(Adjacency.ZERO_OUT)["remove"]
        found |= {f"{name}/{i}": with_against_without(removed, int(bins), order) for i, order in enumerate((2.0, 3.0))}
    check(entry, found)
