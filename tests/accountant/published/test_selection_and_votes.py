"""Published values of selection among runs, of votes of teachers, and of laws whose loss has a bounded range.

Papernot and Steinke (2022), [C] by another program and in closed form; PATE (2018) and the exponential mechanism's
relative entropy, [V] in the authors' and in Google's tests.
"""

import math

import numpy as np
import pytest

from accountant import compute_epsilon
from mechanisms import ZCDP, Compose, DiscretePair, Gaussian
from mechanisms.core.stopping import PoissonRuns, Stopping, TruncatedNegativeBinomial
from mechanisms.core.vote_walk import Walk
from mechanisms.selection import Selection
from tests.accountant.published.entries import Entry, check, words

# Selection

DIVERGENCES_ONLY = (
    "from the divergences of the base alone; its exact δ at ε̂ gives 2.03937 for the Poisson number of runs"
)
SELECTION = [
    Entry(
        paper="Papernot-Steinke22",
        quantity=f"PapernotSteinke sigma={noise} mean={mean} eta={eta} d=1e-6",
        value={"eps": epsilon, "base": base},
        tolerance=1e-3,
        truth={"eps": 2.03937} if eta == "inf" else {},
        why=DIVERGENCES_ONLY if eta == "inf" else "",
    )
    for noise, mean, eta, epsilon, base in (
        (4.0, 10, "0", 1.9021061286702192, 1.1431687205814116),
        (4.0, 10, "inf", 2.5011131418046464, 1.1431687205814116),
        (2.0, 100, "0.5", 5.099319530862065, 2.4191024886939205),
    )
]
OWN = [
    Entry(
        paper="Papernot-Steinke22",
        quantity=f"PS own sigma=4.0 mean=10 eta={eta}",
        value=[epsilon, gamma],
        tolerance=1e-3,
    )
    for eta, epsilon, gamma in ((1, 2.2713113310597697, 0.1), (0, 1.9017901478264925, 0.026918259600680217))
]


def law(mean: float, eta: float) -> Stopping:
    """Return the law of K of this mean."""
    return PoissonRuns(runs=mean) if math.isinf(eta) else TruncatedNegativeBinomial.of_mean(mean, eta=eta)


@pytest.mark.parametrize("entry", SELECTION, ids=str)
def test_the_best_of_several_runs_costs_what_was_published(entry):
    noise, mean, eta, delta = words(entry.quantity)
    step = Gaussian(noise_multiplier=noise)
    tuned = compute_epsilon(Selection(step, law(mean, eta)), delta=delta, accountant="rdp")
    check(entry, {"eps": tuned, "base": compute_epsilon(step, delta=delta, accountant="rdp")})
    no_pair = Selection(Compose((step, ZCDP(rho=0.0, adjacency="add_remove"))), law(mean, eta))
    published = entry.value["eps"]
    assert compute_epsilon(no_pair, delta=delta, accountant="rdp") == pytest.approx(published, abs=1.1e-3)


@pytest.mark.parametrize("entry", OWN, ids=str)
def test_the_best_order_is_found(entry):
    noise, mean, eta = words(entry.quantity)
    chosen = TruncatedNegativeBinomial.of_mean(mean, eta=eta)
    tuned = Selection(Gaussian(noise_multiplier=noise), chosen)
    found = compute_epsilon(tuned, delta=1e-6, accountant="rdp")
    check(entry, {"0": found, "1": chosen.gamma})
    assert found == pytest.approx(entry.value[0], abs=1e-6) and chosen.gamma == pytest.approx(entry.value[1], rel=1e-12)


# Votes

WALK = Entry(  # [V] the authors' test
    paper="PATE18",
    quantity="smooth-sensitivity unit values",
    params={
        "counts": [10, 0, 0],
        "teachers": 10,
        "sigma": 0.5,
        "order": 1.5,
        "ls": [3.13503646e-17, 1.6017828e-08, 0.00590681786, *(7 * [5.99981308])],
    },
    tolerance=1e-8,
    without=dict.fromkeys(
        ("counts/0", "counts/1", "counts/2", "teachers", "sigma", "order"), "what was asked, not an answer"
    ),
)


@pytest.mark.parametrize("entry", [WALK], ids=str)
def test_local_sensitivities_of_ten_agreeing_teachers_are_the_published_ones(entry):
    asked = entry.params
    walk = Walk(sigma=asked["sigma"], classes=3, order=asked["order"])
    found = walk.local_sensitivities(np.array(asked["counts"]))[: asked["teachers"]].tolist()
    check(entry, {f"ls/{d}": one for d, one in enumerate(found)})
    assert found == pytest.approx(asked["ls"], rel=1e-8)


# Bounded range

RANGE = Entry(
    paper="Exponential mechanism RDP",
    quantity="order 1, eps=1",
    value=0.123301561,
    tolerance=1e-8,
)


@pytest.mark.parametrize("entry", [RANGE], ids=str)
def test_losses_in_a_range_of_one_have_the_published_relative_entropy(entry):
    """The largest for losses t − ε and t, ε = 1: x − 1 − log x, x = ε/(1 − e^−ε), at e^t = (e^ε − 1)/ε."""
    epsilon = 1.0

    def entropy(t: float) -> float:
        above = -math.expm1(t - epsilon) / -math.expm1(-epsilon)  # P(loss t)
        p, q = (above, 1.0 - above), (above * math.exp(-t), (1.0 - above) * math.exp(epsilon - t))
        pair = DiscretePair.from_probabilities(p, q, attained=True)
        assert pair.supremum.contains(t) or abs(pair.supremum.upper - t) < 1e-14
        return float(pair.cumulants(np.array([1.0]))[1][0])  # E_P of the loss

    best = math.log(math.expm1(epsilon) / epsilon)
    check(entry, entropy(best))
    assert all(entropy(t) <= entropy(best) for t in np.linspace(0.01, 0.99, 99))
