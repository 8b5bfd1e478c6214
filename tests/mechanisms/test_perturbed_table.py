"""Local noise, local categories and tables of both: what they are worth, what comes out, and what they refuse."""

import math
from fractions import Fraction
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from accountant import delta_bounds, epsilon_bounds
from mechanisms import (
    Adjacency,
    Compose,
    Gaussian,
    InvalidParameter,
    KeyedSource,
    Laplace,
    PureDP,
    RandomizedResponse,
    Repeat,
    UnsupportedProcess,
    from_json,
    to_json,
)
from mechanisms.core.bounds import Bounds
from mechanisms.core.local import half_width
from mechanisms.local_categories import LocalCategories
from mechanisms.local_noise import LocalNoise
from mechanisms.perturbed_table import PerturbedTable
from mechanisms.sparse_vector import SparseVector
from mechanisms.unary_encoding import UnaryEncoding
from mechanisms.user_supplied import UserSupplied

GOLDEN = Path(__file__).parents[1] / "reference" / "process_v1_local.json"
REPLACE_ONE = Adjacency.REPLACE_ONE
QUIET, CERTAIN = Laplace(noise_multiplier=1e-9), RandomizedResponse(epsilon=60.0, categories=3)
AGE = LocalNoise(low=0.0, high=120.0, mechanism=QUIET, missing=60.0)
CITY = LocalCategories(labels=("a", "b", "other"), mechanism=CERTAIN, unknown="other")
CODE = LocalCategories(labels=(7, -1), mechanism=UnaryEncoding(epsilon=120.0, categories=2, encoding="symmetric"))
TABLE = PerturbedTable(names=("age", "city", "code"), columns=(AGE, CITY, CODE))


def noise_of(**fields):
    return LocalNoise(**{"low": 0.0, "high": 1.0, "mechanism": Laplace(noise_multiplier=2.0)} | fields)


# Local noise


@given(st.floats(0.05, 50.0), st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.floats(0.0, 1.0))
def test_delta_is_that_of_laplace_noise_on_both_ends(multiplier, low, width, share):
    """Two Laplace laws of the scale run, half the rounded width times the multiplier, as far apart as the ends."""
    high = low + width
    half, exact = half_width(low, high)
    pair = noise_of(low=low, high=high, mechanism=Laplace(noise_multiplier=multiplier)).pairs(REPLACE_ONE)["replace"]
    with mp.workdps(60):
        apart = (mp.mpf(high) - mp.mpf(low)) / (mp.mpf(multiplier) * mp.mpf(half))
        level = share * 2.0 / multiplier
        truth = max(-mp.expm1((mp.mpf(level) - apart) / 2), 0)
        found = pair.delta(Bounds.exact(level))
        assert truth <= mp.mpf(found.upper) and (not pair.attained or mp.mpf(found.lower) <= truth)
        assert mp.mpf(found.upper) <= truth + mp.mpf("1e-14") * (1 + apart)
    assert pair.attained == exact


@given(st.floats(-1e308, 1e308), st.floats(-1e308, 1e308))
def test_half_the_width_is_rounded_up(low, high):
    low, high = min(low, high), max(low, high)
    half, exact = half_width(low, high)
    truth = (Fraction(high) - Fraction(low)) / 2
    assert Fraction(half) >= truth and exact == (Fraction(half) == truth)
    assert half == 0.0 or Fraction(half) - truth <= Fraction(math.ulp(half))


def test_releases_show_the_delta_that_is_described():
    """Of records at both ends: δ(ε) estimated from 100,000 released numbers each, on the event that tells most."""
    noise, level, n = noise_of(low=-1.0, high=2.0, mechanism=Laplace(noise_multiplier=2.0)), 0.3, 100_000
    one, other = (noise.release(np.full(n, end), randomness=KeyedSource(k)) for k, end in enumerate((-5.0, 2.0)))
    cut = 0.5 * (-1.0 + 2.0 - level * 3.0)  # where the loss is ε: scale 3, ends 3 apart
    found = np.mean(one <= cut) - math.exp(level) * np.mean(other <= cut)
    truth = noise.pairs(REPLACE_ONE)["replace"].delta(Bounds.exact(level)).upper
    assert abs(found - truth) <= 4 * math.sqrt((1 + math.exp(2 * level)) / 4 / n)


@pytest.mark.parametrize("mechanism", [Laplace(noise_multiplier=0.5), Gaussian(noise_multiplier=0.5)])
def test_noise_has_the_scale_of_half_the_interval(mechanism):
    noise = noise_of(low=10.0, high=14.0, mechanism=mechanism)
    law = stats.laplace if isinstance(mechanism, Laplace) else stats.norm
    drawn = noise.release(np.full(5_000, 11.0), randomness=KeyedSource(3))
    assert stats.kstest(drawn, law(loc=11.0, scale=1.0).cdf).pvalue > 1e-4


def test_epsilon_is_two_over_the_multiplier():
    found = epsilon_bounds(
        noise_of(high=4.0, mechanism=Laplace(noise_multiplier=4.0)), delta=0.0, adjacency="replace_one"
    )
    assert found.lower <= 0.5 <= found.upper <= 0.5 + 1e-12


def test_numbers_are_clamped_and_missing_ones_replaced():
    released = AGE.release([-math.inf, -3, 20, 500, math.inf, math.nan], randomness=KeyedSource(0))
    assert released.round(3).tolist() == [0.0, 0.0, 20.0, 120.0, 120.0, 60.0]
    assert type(AGE.release(np.float32(7.0), randomness=KeyedSource(0))) is float
    for shape in ((0,), (2, 3)):
        assert AGE.release(np.zeros(shape, dtype=np.uint8), randomness=KeyedSource(0)).shape == shape


@pytest.mark.parametrize("value", ["20.25", None, True, [20.25, None], [[1.0], [1.0, 2.0]], 20.25j, {"x": 20.25}, b"1"])
def test_what_is_no_number_is_refused_and_not_shown(value):
    with pytest.raises(InvalidParameter, match="value must be a number or an array of real numbers") as caught:
        AGE.release(value, randomness=KeyedSource(0))
    assert "20.25" not in str(caught.value)


def test_a_missing_number_is_refused_where_none_is_declared():
    with pytest.raises(InvalidParameter, match=r"value must not be NaN\. Declare missing"):
        noise_of().release([0.5, math.nan], randomness=KeyedSource(0))
    assert 0.4 < noise_of(missing=0.0, low=-1.0, mechanism=QUIET).release([0.5], randomness=KeyedSource(0))[0] < 0.6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"low": 1.0}, "low must lie below high"),
        ({"low": math.nan}, "low must be a number"),
        ({"high": math.inf}, "high must be finite"),
        ({"mechanism": RandomizedResponse(epsilon=1.0)}, r"Use Laplace\(\.\.\.\) or Gaussian"),
        ({"mechanism": PureDP(epsilon=1.0, adjacency="replace_one")}, "mechanism must add noise to a number"),
        ({"mechanism": 1.0}, "mechanism must add noise to a number"),
        ({"missing": 2.0}, r"missing must lie in \[low, high\], got 2\.0"),
        ({"missing": math.nan}, "missing must be a number"),
    ],
)
def test_bad_noise_is_refused(fields, message):
    with pytest.raises(InvalidParameter, match=message):
        noise_of(**fields)


def test_the_widest_interval_has_half_a_width():
    assert noise_of(low=-1.7e308, high=1.7e308).pairs(REPLACE_ONE)["replace"].attained


# Local categories


def test_labels_follow_the_law_of_their_mechanism():
    labels = LocalCategories(labels=(5, 3, 9), mechanism=RandomizedResponse(epsilon=1.0, categories=3))
    drawn = labels.release([3] * 20_000, randomness=KeyedSource(0))
    weights = np.array([1.0, math.e, 1.0])
    counts = [np.sum(drawn == label) for label in (5, 3, 9)]
    assert stats.chisquare(counts, 20_000 * weights / weights.sum()).pvalue > 1e-4
    assert labels.pairs(REPLACE_ONE) == labels.mechanism.pairs(REPLACE_ONE)


@pytest.mark.parametrize("value", [["b", "z", None, 3.5, True, b"a"], np.array(["b", "z", "b "], dtype="U2")])
def test_labels_that_are_not_declared_become_the_one_that_is(value):
    assert CITY.release(value, randomness=KeyedSource(0)).tolist() == ["b"] + ["other"] * (len(value) - 1)


@pytest.mark.parametrize("value", [[True], [1.0], ["1"], [math.nan], [None], [[1]], 2, [2**70], np.array([1.5])])
def test_only_whole_numbers_are_whole_number_labels(value):
    labels = LocalCategories(labels=(0, 1), mechanism=RandomizedResponse(epsilon=1.0))
    with pytest.raises(InvalidParameter, match=r"value must hold declared labels alone\. Declare all"):
        labels.release(value, randomness=KeyedSource(0))


def test_one_label_comes_back_as_one_and_many_as_an_array():
    source = KeyedSource(0)
    for value in ("a", np.str_("a"), np.array("a")):
        assert CITY.release(value, randomness=source) == "a"
    assert CITY.release(np.array([], dtype="U1"), randomness=source).shape == (0,)
    assert CITY.release((label for label in "ab"), randomness=source).tolist() == ["a", "b"]
    assert CODE.release(-1, randomness=source).tolist() == [0, 1]
    assert CODE.release(np.array([7, -1], dtype=np.int8), randomness=source).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(InvalidParameter, match=r"value must be one-dimensional, got shape \(1, 1\)"):
        CITY.release(np.array([["a"]]), randomness=source)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": "ab"}, "labels must be a sequence"),
        ({"labels": 3}, "labels must be a sequence"),
        ({"labels": ("a", 1)}, "labels must be texts, or whole numbers"),
        ({"labels": ("a", "a")}, "all different"),
        ({"labels": (1.0, 2.0)}, "labels must be texts, or whole numbers"),
        ({"labels": ()}, "labels must be texts, or whole numbers"),
        ({"labels": ("a", "inf")}, "labels must not be 'inf'"),
        ({"labels": ("a", "b", "c")}, r"as many categories as there are labels, 3, got 2\. Use Randomized"),
        ({"mechanism": QUIET}, "mechanism must release categories"),
        ({"unknown": "z"}, "unknown must be one of the labels, got 'z'"),
    ],
)
def test_bad_categories_are_refused(fields, message):
    with pytest.raises(InvalidParameter, match=message):
        LocalCategories(**{"labels": ("a", "b"), "mechanism": RandomizedResponse(epsilon=1.0)} | fields)


# Tables


def test_a_table_costs_what_its_columns_cost_together():
    columns = (
        noise_of(),
        noise_of(high=3.0),
        LocalCategories(labels=(0, 1), mechanism=RandomizedResponse(epsilon=0.7)),
    )
    table = PerturbedTable(names=("x", "y", "z"), columns=columns)
    whole = epsilon_bounds(table, delta=0.0, adjacency="replace_one", accountant="basic")
    assert whole.upper == pytest.approx(2.7, rel=1e-12)
    listed = Compose((Repeat(Laplace(noise_multiplier=2.0), 2), RandomizedResponse(epsilon=0.7)))
    for process in (table, Repeat(table, 2)):
        found = delta_bounds(process, epsilon=1.0, adjacency="replace_one")
        truth = delta_bounds(Repeat(listed, 1 + (process is not table)), epsilon=1.0, adjacency="replace_one")
        assert found.overlaps(truth) and found.lower > 0


@pytest.mark.parametrize("process", [noise_of(), CITY, TABLE], ids=["noise", "categories", "table"])
@pytest.mark.parametrize("adjacency", ["add_remove", "zero_out"])
def test_rows_that_are_missing_are_refused(process, adjacency):
    with pytest.raises(UnsupportedProcess, match=f"its neighbours are replace_one, got {adjacency}"):
        process.pairs(Adjacency(adjacency))
    with pytest.raises(UnsupportedProcess, match="its neighbours are replace_one"):
        epsilon_bounds(process, delta=1e-5, adjacency=adjacency)


EXPECTED = [
    {"age": 20.0, "city": "a", "code": [1, 0]},
    {"age": 120.0, "city": "other", "code": [0, 1]},
    {"age": 60.0, "city": "b", "code": [1, 0]},
]


def assert_expected(rows):
    assert [row | {"age": round(row["age"], 3)} for row in rows] == EXPECTED


def test_a_list_of_rows_comes_back_as_one():
    rows = [
        {"age": 20, "city": "a", "code": 7},
        {"city": "nowhere", "age": 500.5, "code": -1},
        {"age": math.nan, "city": "b", "code": 7},
    ]
    assert_expected(TABLE.release(rows, randomness=KeyedSource(0)))
    assert TABLE.release([], randomness=KeyedSource(0)) == []


def test_a_dict_of_columns_comes_back_as_one():
    table = {"age": (20, 500, math.nan), "city": np.array(["a", "nowhere", "b"]), "code": [7, -1, 7]}
    released = TABLE.release(table, randomness=KeyedSource(0))
    assert list(released) == ["age", "city", "code"] and released["code"].shape == (3, 2)
    assert_expected([{name: released[name][i].tolist() for name in released} for i in range(3)])
    empty = TABLE.release({"age": [], "city": [], "code": []}, randomness=KeyedSource(0))
    assert [len(cells) for cells in empty.values()] == [0, 0, 0]


def test_a_structured_array_comes_back_as_one():
    kinds = [("code", "i2"), ("city", "U9"), ("age", "f4")]
    table = np.array([(7, "a", 20), (-1, "nowhere", 500), (7, "b", math.nan)], dtype=kinds)
    released = TABLE.release(table, randomness=KeyedSource(0))
    assert released.dtype.names == ("age", "city", "code") and released.shape == (3,)
    assert_expected([{name: row[name].tolist() for name in released.dtype.names} for row in released])
    assert TABLE.release(table[:0], randomness=KeyedSource(0)).shape == (0,)


def test_the_input_is_left_as_it_is():
    table = {"age": np.array([500.0]), "city": ["zzz"], "code": [7]}
    TABLE.release(table, randomness=KeyedSource(0))
    assert table["age"].tolist() == [500.0] and table["city"] == ["zzz"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"age": 1, "city": "a"}], "columns must be those declared, 'age', 'city', 'code'"),
        ([{"age": 1, "city": "a", "code": 7, "secret77": 3}], "and no others"),
        ({"age": [1], "city": ["a"], "code": [7, 7]}, "sequences of the same length"),
        ({"age": [1], "city": "a", "code": [7]}, "sequences of the same length"),
        ({"age": [[1, 2]], "city": ["a"], "code": [7]}, "column 'age' must hold one number a row"),
        ({"age": np.zeros((1, 1)), "city": ["a"], "code": [7]}, "column 'age' must hold one number a row"),
        ({"age": ["77"], "city": ["a"], "code": [7]}, "column 'age' is refused"),
        ({"age": [1], "city": ["a"], "code": [77]}, r"column 'code' is refused\.\nLocalCategories: value must hold"),
        ({"age": [1], "city": ["a"], "code": np.array([[7]])}, "column 'code' is refused"),
        (np.zeros((2, 3)), "value must be a dict from name to cells"),
        ("77", "value must be a dict"),
        (None, "got NoneType"),
        ([1, 2], "got list"),
    ],
)
def test_tables_that_are_none_are_refused_and_not_shown(value, message):
    with pytest.raises(InvalidParameter, match=message) as caught:
        TABLE.release(value, randomness=KeyedSource(0))
    assert "77" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"names": "a"}, "names must be a sequence"),
        ({"names": ("a", "a")}, "all different"),
        ({"names": ("a", "")}, "names must be texts"),
        ({"names": ("a", 1)}, "names must be texts"),
        ({"names": ("a", "inf")}, "names must be texts"),
        ({"names": (), "columns": ()}, "one for each name"),
        ({"columns": (AGE,)}, "columns must be one for each name, 2, got 1"),
        ({"columns": (AGE, QUIET)}, r"column 'b' must be LocalNoise\(\.\.\.\) or LocalCategories"),
        ({"columns": AGE}, "columns must be a sequence"),
    ],
)
def test_bad_tables_are_refused(fields, message):
    with pytest.raises(InvalidParameter, match=message):
        PerturbedTable(**{"names": ("a", "b"), "columns": (AGE, CITY)} | fields)


def test_the_golden_file_of_local_and_supplied_processes_loads_for_ever():
    assert from_json(GOLDEN.read_text()) == Compose(
        (
            TABLE,
            UnaryEncoding(epsilon=0.1, categories=5, encoding="optimised"),
            SparseVector(epsilon=0.3, hits=4, adjacency="replace_one", monotonic=True, numeric_share=0.25),
            UserSupplied(p=(0.1, 0.9), q=(2, 1), adjacency="replace_one", attained=True),
            UserSupplied(p=(3, 0, 1), q=(0, 3, 1), adjacency="zero_out", attained=True, lower_p=(1, 2), lower_q=(2, 1)),
        )
    )


@pytest.mark.parametrize("process", [AGE, noise_of(low=0.1), CITY, CODE, TABLE], ids=repr)
def test_json_brings_it_back_and_sensitivities_are_refused(process):
    assert from_json(to_json(process)) == process
    with pytest.raises(InvalidParameter, match="sensitivity must be 1 for a"):
        process.release([7] if process is CODE else [], sensitivity=2.0, randomness=KeyedSource(0))


def test_labels_that_arrays_of_texts_do_not_tell_apart_are_refused():
    with pytest.raises(InvalidParameter, match="must not end in a NUL character"):
        LocalCategories(labels=("a", "a\0"), mechanism=RandomizedResponse(epsilon=1.0))
