"""Pairs that users supply: against all events, mpmath's laws and adversaries who choose the order in every step."""

import itertools
import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from accountant import delta_bounds
from mechanisms import (
    Adjacency,
    InvalidParameter,
    KeyedSource,
    RandomizedResponse,
    Repeat,
    UnsupportedProcess,
    from_json,
    to_json,
)
from mechanisms.core.bounds import Bounds
from mechanisms.core.roc_curves import curve_of, mirrored
from mechanisms.user_supplied import UserSupplied

ADD_REMOVE, REPLACE_ONE = Adjacency.ADD_REMOVE, Adjacency.REPLACE_ONE
DIGITS = mp.mpf("1e-50")


def table_of(**fields):
    return UserSupplied(**{"p": (3, 1), "q": (1, 3), "adjacency": "add_remove", "attained": True} | fields)


def exact(weights):
    total = sum(map(Fraction, weights))
    return [mp.mpf(x.numerator) / x.denominator for x in (Fraction(w) / total for w in weights)]


def truth_of(p, q, epsilon):
    """δ(ε), the best event taken outcome by outcome."""
    return mp.fsum(max(a - mp.exp(mp.mpf(epsilon)) * b, 0) for a, b in zip(exact(p), exact(q), strict=True))


def holds(found, truth):
    return mp.mpf(found.lower) <= truth + DIGITS and truth <= mp.mpf(found.upper) + DIGITS


@pytest.fixture(autouse=True)
def sixty_digits():
    with mp.workdps(60):
        yield


@st.composite
def tables(draw, least=2, most=7):
    size = draw(st.integers(least, most))
    vectors = st.lists(st.integers(0, 50), min_size=size, max_size=size).filter(any)
    return tuple(draw(vectors)), tuple(draw(vectors))


# Tables of probabilities


@given(tables(), st.floats(0.0, 4.0))
def test_delta_of_both_directions_is_that_of_the_best_event(laws, epsilon):
    pairs = table_of(p=laws[0], q=laws[1]).pairs(ADD_REMOVE)
    for direction, (p, q) in (("remove", laws), ("add", laws[::-1])):
        found = pairs[direction].delta(Bounds.exact(epsilon))
        assert holds(found, truth_of(p, q, epsilon)) and found.width <= 1e-14 * (1 + epsilon)
        assert pairs[direction].attained


@given(st.lists(st.floats(1e-9, 1.0), min_size=2, max_size=6), st.floats(0.0, 2.0))
def test_floats_are_taken_as_they_are_but_for_their_sum(weights, epsilon):
    p = np.array(weights) / sum(weights)
    table = table_of(p=p, q=p[::-1])
    assert table.p == tuple(p.tolist())
    assert holds(table.pairs(ADD_REMOVE)["remove"].delta(Bounds.exact(epsilon)), truth_of(p, p[::-1], epsilon))


@given(tables(), st.floats(0.0, 4.0))
def test_under_replace_one_the_larger_order_counts(laws, epsilon):
    pairs = table_of(p=laws[0], q=laws[1], adjacency="replace_one").pairs(REPLACE_ONE)
    truth = max(truth_of(*laws, epsilon), truth_of(*laws[::-1], epsilon))
    for pair in (pairs["replace"], pairs["replace"].reverse()):
        assert holds(pair.delta(Bounds.exact(epsilon)), truth)
    symmetric = curve_of(*map(tuple, map(fractions, laws))) == mirrored(curve_of(*map(tuple, map(fractions, laws))))
    assert pairs["replace"].attained == symmetric == ("witness" not in pairs)
    if not symmetric:
        for name, (p, q) in (("witness", laws), ("witness_reversed", laws[::-1])):
            assert pairs[name].attained and holds(pairs[name].delta(Bounds.exact(epsilon)), truth_of(p, q, epsilon))


def fractions(weights):
    return [Fraction(weight, sum(weights)) for weight in weights]


@given(tables(2, 4), st.sampled_from((0.0, 0.3, 1.0, 2.0)))
def test_an_adversary_who_turns_the_neighbours_round_in_a_step_is_covered(laws, epsilon):
    """(P, Q) in one step, (Q, P) in the next: more than either twice, which a maximum afterwards would miss."""
    p, q = (exact(law) for law in laws)
    turned = [(a * d, b * c) for a, b in zip(p, q, strict=True) for c, d in zip(p, q, strict=True)]
    truth = mp.fsum(max(a - mp.exp(mp.mpf(epsilon)) * b, 0) for a, b in turned)
    table = table_of(p=laws[0], q=laws[1], adjacency="replace_one")
    found = delta_bounds(Repeat(table, 2), epsilon=epsilon, adjacency="replace_one", accountant="pld")
    assert truth <= mp.mpf(found.upper) + DIGITS


def test_randomised_response_supplied_is_randomised_response():
    response = RandomizedResponse(epsilon=math.log(3), categories=4)
    for p, q in (((3, 1, 1, 1), (1, 3, 1, 1)), ((0.5, 1 / 6, 1 / 6, 1 / 6), (1 / 6, 0.5, 1 / 6, 1 / 6))):
        table = table_of(p=p, q=q, adjacency="replace_one")
        for epsilon in (0.0, 1.0, 2.0):
            found = delta_bounds(Repeat(table, 3), epsilon=epsilon, adjacency="replace_one")
            truth = delta_bounds(Repeat(response, 3), epsilon=epsilon, adjacency="replace_one")
            assert found.lower - 1e-15 <= truth.upper and truth.lower <= found.upper + 1e-15


def test_fractions_become_the_least_weights():
    table = table_of(p=(Fraction(1, 3), Fraction(2, 3)), q=(Fraction(1, 2), Fraction(1, 2)))
    assert (table.p, table.q) == ((1, 2), (1, 1)) and table == table_of(p=(np.int64(10), 20), q=(7, 7))


@st.composite
def enclosed(draw):
    p, q = (np.array(law) / sum(law) for law in draw(tables()))
    wide = draw(st.sampled_from((0.0, 1e-6, 0.03)))
    return [[Bounds(lower=max(0.0, x - wide * 0.7), upper=x + wide) for x in law] for law in (p, q)], (p, q)


@given(enclosed(), st.floats(0.0, 2.0), st.sampled_from(("add_remove", "replace_one")))
def test_laws_within_enclosures_are_dominated(case, epsilon, adjacency):
    bounds, laws = case
    for ends in bounds:  # the sums of floats are 1 but for rounding
        ends[0] = Bounds(lower=max(0.0, ends[0].lower - 1e-15), upper=ends[0].upper + 1e-15)
    pairs = UserSupplied.from_enclosures(*bounds, adjacency=adjacency).pairs(Adjacency(adjacency))
    for pair, (p, q) in zip(itertools.cycle(pairs.values()), (laws, laws[::-1]), strict=False):
        assert truth_of(p, q, epsilon) <= mp.mpf(pair.delta(Bounds.exact(epsilon)).upper) + mp.mpf("4e-15")
        assert not pair.attained


# Distribution functions


def normal(shift=0.0, scale=1.0):
    return lambda t: special.ndtr((t - shift) / scale), lambda t: mp.ncdf((mp.mpf(t) - shift) / scale)


def logistic(shift=0.0):
    return lambda t: special.expit(t - shift), lambda t: 1 / (1 + mp.exp(shift - mp.mpf(t)))


def laplace(shift=0.0):
    def exactly(t):
        t = mp.mpf(t) - shift
        return mp.exp(t) / 2 if t < 0 else 1 - mp.exp(-t) / 2

    return lambda t: np.array([float(exactly(one)) for one in t]), exactly


def mixed(share, one, other):
    return (
        lambda t: (1 - share) * other[0](t) + share * one[0](t),
        lambda t: (1 - mp.mpf(share)) * other[1](t) + mp.mpf(share) * one[1](t),
    )


LAWS = {
    "normal": (normal(1.0), normal(), 0.5, lambda e: mp.mpf(e) + 0.5),
    "narrower-steps": (normal(0.3), normal(), 0.1, lambda e: (mp.mpf(e) + mp.mpf(0.3) ** 2 / 2) / mp.mpf(0.3)),
    "sampled-normal": (
        mixed(0.2, normal(2.0), normal()),
        normal(),
        0.5,
        lambda e: (mp.log((mp.exp(mp.mpf(e)) - 1 + mp.mpf(0.2)) / mp.mpf(0.2)) + 2) / 2,
    ),
    "laplace": (laplace(1.0), laplace(), 0.5, lambda e: (mp.mpf(e) + 1) / 2),
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("accuracy", [1e-15, 1e-6])
def test_distribution_functions_bracket_delta(name, accuracy):
    """Against δ = P(X > t) − e^ε Q(X > t) at the t where the loss is ε, with errors as large as stated."""
    p, q, step, where = LAWS[name]
    rng = np.random.default_rng(0)

    def noisy(cdf):
        return lambda t: np.clip(cdf(t) + (accuracy - 1e-15) * rng.uniform(-1, 1, len(t)), 0.0, 1.0)

    table = UserSupplied.from_cdfs(
        noisy(p[0]),
        noisy(q[0]),
        thresholds=np.arange(-8, 10, step / 4),
        accuracy=accuracy,
        loss="increasing",
        adjacency="add_remove",
        attained=True,
    )
    pairs = table.pairs(ADD_REMOVE)
    for epsilon in (0.0, 0.05, 0.3, 0.9):
        t = where(epsilon)
        truth = 1 - p[1](t) - mp.exp(mp.mpf(epsilon)) * (1 - q[1](t))
        upper, lower = (pairs[one].delta(Bounds.exact(epsilon)) for one in ("remove", "witness"))
        assert mp.mpf(lower.lower) <= truth + DIGITS and truth <= mp.mpf(upper.upper) + DIGITS
        assert upper.upper - lower.lower <= 0.02 * step + 500 * accuracy
    assert not pairs["remove"].attained and pairs["witness"].attained


def test_symmetric_laws_are_bracketed_under_replace_one():
    table = UserSupplied.from_cdfs(
        normal(0.5)[0], normal()[0], thresholds=np.linspace(-8, 8.5, 331), accuracy=1e-15, loss="increasing",
        adjacency="replace_one", attained=True,
    )  # fmt: skip
    pairs = table.pairs(REPLACE_ONE)
    assert set(pairs) == {"replace", "witness", "witness_reversed"}
    for epsilon in (0.0, 0.3, 1.0):
        near, far = mp.mpf(1) / 4 - 2 * mp.mpf(epsilon), -mp.mpf(1) / 4 - 2 * mp.mpf(epsilon)
        truth = mp.ncdf(near) - mp.exp(mp.mpf(epsilon)) * mp.ncdf(far)
        upper = pairs["replace"].delta(Bounds.exact(epsilon)).upper
        for name in ("witness", "witness_reversed"):
            lower = pairs[name].delta(Bounds.exact(epsilon)).lower
            assert mp.mpf(lower) <= truth <= mp.mpf(upper) and upper - lower < 1e-3


def test_a_loss_that_falls_is_one_that_rises_from_behind():
    p, q, at = logistic(-1.0)[0], logistic()[0], np.linspace(-20, 20, 200)
    fields = {"accuracy": 1e-15, "adjacency": "add_remove", "attained": True}
    one = UserSupplied.from_cdfs(p, q, thresholds=at, loss="decreasing", **fields)
    other = UserSupplied.from_cdfs(logistic(1.0)[0], q, thresholds=at, loss="increasing", **fields)
    for epsilon in (0.0, 0.4):
        ends = [
            table.pairs(ADD_REMOVE)[name].delta(Bounds.exact(epsilon))
            for table in (one, other)
            for name in ("witness", "remove")
        ]
        assert max(ends[0].lower, ends[2].lower) <= min(ends[1].upper, ends[3].upper)
        assert abs(ends[1].upper - ends[3].upper) < 1e-9 and ends[1].upper - ends[0].lower < 0.01


def test_without_named_neighbours_there_is_no_lower_end():
    table = UserSupplied.from_cdfs(
        normal(1.0)[0], normal()[0], thresholds=[-2, 0, 1, 3], accuracy=0, loss="increasing",
        adjacency="zero_out", attained=False,
    )  # fmt: skip
    pairs = table.pairs(Adjacency.ZERO_OUT)
    assert set(pairs) == {"remove", "add"} and not pairs["remove"].attained and table.lower_p == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "decreasing"}, "the loss must be monotone in the outcome as stated"),
        ({"loss": "rising"}, "loss must be one of 'increasing', 'decreasing'"),
        ({"p_cdf": normal(scale=2.0)[0]}, "the loss must be monotone in the outcome as stated"),
        ({"p_cdf": lambda t: 1 - special.ndtr(t)}, "p_cdf must rise from 0 to 1"),
        ({"q_cdf": lambda t: special.ndtr(t) + 1e-9}, "q_cdf must rise from 0 to 1"),
        ({"q_cdf": lambda t: 0.5}, r"q_cdf must return one finite number for each of 9 thresholds, got shape \(\)"),
        ({"q_cdf": lambda t: t * math.nan}, "q_cdf must return one finite number"),
        ({"q_cdf": lambda t: t.astype(str)}, "q_cdf must return one finite number"),
        ({"q_cdf": 0.5}, "q_cdf must be a function"),
        ({"thresholds": []}, "thresholds must increase, and be from 1 to 4000, got 0"),
        ({"thresholds": [0, 0]}, "thresholds must increase"),
        ({"thresholds": [0, math.inf]}, "thresholds must be finite"),
        ({"thresholds": range(4001)}, "from 1 to 4000, got 4001"),
        ({"accuracy": -1.0}, "accuracy must be at least 0"),
        ({"accuracy": math.nan}, "accuracy must be a number"),
    ],
)
def test_functions_that_contradict_what_is_stated_are_refused(fields, message):
    given_fields = {
        "p_cdf": normal(1.0)[0], "q_cdf": normal()[0], "thresholds": range(-12, 15, 3), "accuracy": 1e-15,
        "loss": "increasing", "adjacency": "add_remove", "attained": True,
    } | fields  # fmt: skip
    with pytest.raises(InvalidParameter, match=message):
        UserSupplied.from_cdfs(given_fields.pop("p_cdf"), given_fields.pop("q_cdf"), **given_fields)


# Descriptions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"p": (0.5, 0.4)}, r"p must add to 1, got 0\.9\. Give every outcome its probability"),
        ({"p": (2, 0.5)}, r"p must add to 1, got 2\.5"),
        ({"q": (-1, 2)}, "q must be at least 0"),
        ({"q": (0, 0)}, "q must be at least 0, and above 0 somewhere"),
        ({"p": (1,)}, "p and q must be about the same outcomes, got 1 and 2"),
        ({"p": ()}, "p must hold from 1 to 10000 probabilities, got 0"),
        ({"p": (1,) * 10_001}, "from 1 to 10000 probabilities, got 10001. Merge"),
        ({"p": "ab"}, "p must be a sequence of probabilities"),
        ({"p": 0.5}, "p must be a sequence of probabilities"),
        ({"p": (math.nan, 1.0)}, "p must be a number"),
        ({"p": (True, False)}, "p must be a real number"),
        ({"p": ("0.5", "0.5")}, "p must be a real number"),
        ({"lower_p": (1, 2)}, "lower_p and lower_q must be about the same outcomes, got 2 and 0"),
        ({"p": (Fraction(1, 2**13_100), 1 - Fraction(1, 2**13_100))}, "a common denominator of 13000 bits at most"),
        ({"attained": 1}, "attained must be True or False, got 1"),
        ({"adjacency": "neighbour"}, "name must be one of"),
    ],
)
def test_bad_tables_are_refused(fields, message):
    with pytest.raises(InvalidParameter, match=message):
        table_of(**fields)


def test_bounds_that_hold_no_law_are_refused():
    half = Bounds.exact(0.5)
    for p in ((half,), (half, half, half), (Bounds(lower=-0.1, upper=0.5), half)):
        with pytest.raises(InvalidParameter, match="p must enclose probabilities that add to 1"):
            UserSupplied.from_enclosures(p, (half,) * len(p), adjacency="add_remove")


def test_other_neighbours_and_releases_are_refused():
    with pytest.raises(UnsupportedProcess, match="its laws are about add_remove neighbours, got replace_one"):
        table_of().pairs(REPLACE_ONE)
    with pytest.raises(UnsupportedProcess, match="it states a guarantee and runs nothing"):
        table_of().release(1.0, sensitivity=1.0, randomness=KeyedSource(0))


def test_json_brings_it_back():
    cdfs = normal(1.0)[0], normal()[0]
    for table in (
        table_of(),
        table_of(p=(0.1, 0.9), q=(0.3, 0.7), attained=False),
        UserSupplied.from_cdfs(
            *cdfs, thresholds=[-40, -37.5, 0, 1, 3], accuracy=0, loss="increasing", adjacency="zero_out", attained=True
        ),
    ):
        assert from_json(to_json(table)) == table


def test_pairs_that_give_all_away_or_nothing():
    nothing, everything = table_of(p=(1, 1), q=(2, 2)), table_of(p=(1, 0), q=(0, 1))
    for epsilon in (0.0, 5.0):
        at = Bounds.exact(epsilon)
        assert nothing.pairs(ADD_REMOVE)["remove"].delta(at).upper < 1e-300
        assert everything.pairs(ADD_REMOVE)["add"].delta(at).lower >= 1 - 1e-15
