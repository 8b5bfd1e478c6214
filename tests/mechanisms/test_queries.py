"""What holds for every query: round trips, doors that give nothing away, and prices by every accountant."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from accountant import epsilon_bounds
from mechanisms import (
    Adjacency,
    Compose,
    Gaussian,
    InvalidParameter,
    KeyedSource,
    Laplace,
    NumericalFailure,
    UnsupportedProcess,
    from_json,
    to_json,
)
from mechanisms.core.query import Query
from mechanisms.count import Count
from mechanisms.covariance import Covariance
from mechanisms.histogram import Histogram
from mechanisms.mean import Mean
from mechanisms.quantile import Quantile
from mechanisms.sum import Sum
from mechanisms.vector_sum import VectorSum
from tests.contracts.coarse import ACCOUNTANTS

NOISE, LAPLACE = Gaussian(noise_multiplier=2.0), Laplace(noise_multiplier=2.0)
QUERIES = {
    "count": Count(noise=LAPLACE),
    "sum": Sum(lower=-1, upper=np.float32(3), noise=NOISE, nan=0.5),
    "mean": Mean(lower=0, upper=8, noise=NOISE),
    "mean of many": Mean(lower=0, upper=8, records=np.int64(10), noise=LAPLACE, nan="reject"),
    "histogram": Histogram(categories=[1, 2], noise=NOISE),
    "histogram of texts": Histogram(categories=("a", "b"), noise=LAPLACE, outside="count"),
    "histogram of edges": Histogram(edges=np.array([-np.inf, 0.0, np.inf]), noise=NOISE),
    "quantile": Quantile(quantile=0.3, lower=0, upper=1, epsilon=1.0),
    "vector sum": VectorSum(max_norm=2, dimensions=3, noise=NOISE),
    "covariance": Covariance(max_norm=0.1, dimensions=3, noise=NOISE, nan=-1),
}
QUERIES_FILE = Path(__file__).resolve().parents[1] / "reference" / "process_v1_queries.json"
every = pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)


def some(query, count):
    """Records that the query takes."""
    if isinstance(query, (VectorSum, Covariance)):
        return np.full((count, query.dimensions), 0.5)
    if isinstance(query, Count):
        return np.full(count, True)
    return np.full(count, "a") if getattr(query, "categories", None) == ("a", "b") else np.full(count, 0.5)


@every
def test_it_survives_the_round_trip_and_is_a_key(query):
    again = from_json(to_json(query))
    assert again == query and hash(again) == hash(query) and eval(repr(query), {**globals(), "inf": np.inf}) == query
    assert all(type(one) in (int, float, str, bool) for one in dataclasses.astuple(query) if np.isscalar(one))


def test_the_golden_file_of_queries_loads_for_ever():
    assert from_json(QUERIES_FILE.read_text()) == Compose(tuple(QUERIES.values()))


@every
def test_the_same_key_gives_the_same_result_and_the_next_release_another(query):
    source, again = KeyedSource(0), KeyedSource(0)
    values = some(query, 4 if isinstance(query, Quantile) else 400)  # noise clips a mean of few to a bound
    first, second = (query.release(values, randomness=source) for _ in range(2))
    assert np.array_equal(first, query.release(values, randomness=again)) and not np.array_equal(first, second)


@every
def test_no_records_are_as_good_as_some(query):
    for empty in (some(query, 0), [], ()):
        assert np.all(np.isfinite(query.release(empty, randomness=KeyedSource(0))))


@every
def test_the_sensitivity_is_no_parameter(query):
    for given_ in (1.0, 0, "1"):
        with pytest.raises(InvalidParameter, match=r"sensitivity must be left out, got .* it follows from the query"):
            query.release(some(query, 2), sensitivity=given_, randomness=KeyedSource(0))


SECRET = 123456789
odd = {
    "an object": np.array([SECRET, None], dtype=object),
    "complex numbers": np.array([SECRET * 1j]),
    "dates": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "ragged": [[SECRET], [SECRET, SECRET]],
    "a number": SECRET,
    "three dimensions": np.full((2, 2, 2), SECRET),
    "nothing": None,
    "a masked array": np.ma.masked_array([[SECRET * 1.0] * 3], mask=[[True] * 3]),
    "a dictionary": {SECRET: SECRET},
    "bytes": np.array([b"123456789"]),
    "another kind": np.full((2, 3), "123456789"),
}


@every
def test_what_is_no_array_of_records_is_refused_without_telling_any(query):
    for name, value in odd.items():
        source = KeyedSource(0)
        with pytest.raises(InvalidParameter, match=f"^{type(query).__name__}: value must be an array of") as caught:
            query.release(value, randomness=source)
        assert str(SECRET) not in str(caught.value), name
        assert all(source.reserve(stream, 1) == 0 for stream in ("gaussian", "laplace", "quantile"))


@every
def test_values_of_the_wrong_kind_are_refused(query):
    wrong = np.full(2, 0.5) if isinstance(query, Count) or some(query, 1).dtype.kind == "U" else np.array(["0.5"])
    with pytest.raises(InvalidParameter, match="value must be an array of"):
        query.release(wrong, randomness=KeyedSource(0))


@every
@pytest.mark.parametrize("adjacency", Adjacency)
def test_accountants_enclose_the_same_price_or_refuse(query, adjacency):
    found = {}
    for name in ("tightest", "basic", "rdp", "zcdp", "gdp", "closed_form", "pure"):
        try:
            found[name] = ACCOUNTANTS[name].profile(query, adjacency=adjacency).epsilon(1e-4)
        except (UnsupportedProcess, NumericalFailure) as error:
            assert "Use " in str(error), error
    if isinstance(query, Mean) and query.records is None and adjacency is Adjacency.ZERO_OUT:
        assert not found
        return
    assert "tightest" in found and len(found) >= 4
    assert max(one.lower for one in found.values()) <= min(one.upper for one in found.values())
    assert 0 < found["tightest"].upper < 10


def test_queries_are_composed_with_each_other():
    run = Compose(tuple(one for one in QUERIES.values() if isinstance(one, Query)))
    for adjacency in ("add_remove", "replace_one"):
        found = epsilon_bounds(run, delta=1e-5, adjacency=adjacency)
        assert 0 < found.lower < found.upper < 20


# Counts


@given(st.lists(st.booleans(), max_size=30))
def test_a_count_is_of_what_is_true(values):
    silent = Count(noise=Gaussian(noise_multiplier=0.0))
    assert silent.release(values, randomness=KeyedSource(0)) == sum(values)
    assert silent.release(np.array(values, dtype=bool), randomness=KeyedSource(0)) == sum(values)


def test_a_count_has_the_same_price_under_every_adjacency():
    for noise in (NOISE, LAPLACE):
        found = [epsilon_bounds(Count(noise=noise), delta=1e-6, adjacency=adjacency) for adjacency in Adjacency]
        plain = epsilon_bounds(noise, delta=1e-6, adjacency="add_remove")
        assert all(one.overlaps(plain) and one.width < 1e-9 for one in found)


def test_the_noise_of_a_count_has_the_scale_of_the_multiplier():
    source = KeyedSource(0)
    found = [Count(noise=NOISE).release([True] * 5, randomness=source) - 5 for _ in range(500)]
    assert stats.kstest(found, stats.norm(0, 2).cdf).pvalue > 1e-3
