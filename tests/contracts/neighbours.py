"""Neighbours of every mechanism that runs, as far as known the worst ones, and a fixed rule that sorts its outputs.

Where the description says that it is shown, a rule loses nothing but the width of its cells: it follows the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mechanisms import (
    Adjacency,
    BoundedGaussian,
    BoundedLaplace,
    Covariance,
    DiscreteGaussian,
    DiscreteLaplace,
    Gaussian,
    KeyedSource,
    Laplace,
    Mean,
    Mechanism,
    Staircase,
    TruncatedLaplace,
)
from tests.contracts.examples import EXAMPLES, ONE

TELLING = Gaussian(noise_multiplier=0.5)
ADD, ZERO = Adjacency.ADD_REMOVE, Adjacency.ZERO_OUT
Cells = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Two inputs of a mechanism that differ by one record.

    Args:
        mechanism: what is run and described.
        sensitivity: the keyword that it takes, if any.
        adjacencies: under which they are neighbours.
        one: an input, with the record.
        other: that without it, or with another one.
        cell: from outputs to whole numbers from 0 on, by a rule that no output decides.
        shown: the pair that they have, by its direction; None where none of those described is theirs.
        many: whether an array of inputs is released one by one, each with noise of its own.
    """

    mechanism: Mechanism
    sensitivity: float | None
    adjacencies: tuple[Adjacency, ...]
    one: Any
    other: Any
    cell: Callable[[Any], Cells]
    shown: str | None = None
    many: bool = False

    def outputs(self, value: Any, n: int, source: KeyedSource) -> Any:
        """Return n releases of one of the two inputs."""
        given = {} if self.sensitivity is None else {"sensitivity": self.sensitivity}
        if self.many:
            return self.mechanism.release(repeated(value, n), randomness=source, **given)
        return [self.mechanism.release(value, randomness=source, **given) for _ in range(n)]


def repeated(value: Any, n: int) -> Any:
    """Return an input that holds the same record, number or row n times."""
    if isinstance(value, dict):
        return {name: repeated(cell, n) for name, cell in value.items()}
    if isinstance(value, str):
        return [value] * n
    return np.tile(value, (n, 1)) if isinstance(value, list) else np.full(n, value)


def _line(unit: float, middle: float = 0.0) -> Callable[[Any], Cells]:
    """Return the rule that cuts (x − middle)/unit at every fifth of 1, up to 5."""
    edges = np.arange(-25, 26) / 5
    return lambda x: np.digitize((np.asarray(x, dtype=np.float64) - middle) / unit, edges)


def _whole(low: int, high: int, unit: float = 1.0) -> Callable[[Any], Cells]:
    """Return the rule that tells whole numbers of units apart, those beyond the ends merged."""
    return lambda x: np.clip(np.floor(np.asarray(x, dtype=np.float64) / unit), low, high).astype(np.int64) - low


def _along(direction: Any, unit: float) -> Callable[[Any], Cells]:
    """Return the rule that looks at Σ direction · x, in units of its noise."""
    weights, line = np.asarray(direction, dtype=np.float64).ravel(), _line(unit)
    return lambda rows: line(np.reshape(rows, (len(rows), -1)) @ weights / np.linalg.norm(weights))


def _answers(rows: Any) -> Cells:
    """Tell which of four queries were hits, and whether the first number is large."""
    found = []
    for row in rows:
        hits = [answer is not None for answer in row] + [False] * (4 - len(row))
        number = next((answer for answer in row if answer is not None), -1e9)
        found.append(2 * sum(1 << i for i, hit in enumerate(hits) if hit) + (number > 1.0))
    return np.array(found)


def _of(name: str, *adjacencies: Adjacency, mechanism: Mechanism | None = None, **fields: Any) -> Neighbours:
    example = EXAMPLES[name]
    return Neighbours(
        mechanism=mechanism or example.mechanism, sensitivity=example.sensitivity, adjacencies=adjacencies, **fields
    )


def _streams() -> dict[str, Neighbours]:
    """Return streams in which a record takes part at the steps 0 and 2, in contributions of norm 2."""
    record, none, sigma = np.array([2.0, 0.0, 2.0, 0.0]), [0.0] * 4, 2.0  # the noise multiplier is 1
    differences = np.eye(4) - np.eye(4, k=-1)  # of prefix sums: the values, under noise
    bands = np.eye(4) + 0.5 * np.eye(4, k=-1)
    whitened = (bands @ record) @ bands @ differences / np.linalg.norm(bands @ record)
    nodes = np.array(  # from the leaves, the pairs and the root to prefix sums, the best estimates of each
        [
            [1, 0, 0, 0, 0, 0, 0],
            [1 / 3, 1 / 3, 0, 0, 2 / 3, 0, 0],
            [1 / 3, 1 / 3, 1, 0, 2 / 3, 0, 0],
            [1 / 7, 1 / 7, 1 / 7, 1 / 7, 2 / 7, 2 / 7, 4 / 7],
        ]
    )
    best = np.linalg.solve(nodes @ nodes.T, np.cumsum(record))
    rules = {
        "matrix": (_along(whitened, sigma / np.linalg.norm(whitened)), True),
        "tree": (_along(best, sigma * np.linalg.norm(nodes.T @ best) / np.linalg.norm(best)), False),
    }
    found = {}
    for name, (cell, shown) in rules.items():  # a tree shows prefix sums alone, which tell less than its nodes
        for adjacency, direction, other in ((ZERO, "remove", none), (ONE, "replace", (-record).tolist())):
            key = f"{name}, {adjacency.value}"
            shows = direction if shown else None
            mechanism = replace(EXAMPLES[name].mechanism, noise_multiplier=1.0)
            found[key] = _of(
                name, adjacency, mechanism=mechanism, one=record.tolist(), other=other, cell=cell, shown=shows
            )
    return found


def _noise() -> dict[str, Neighbours]:
    found = {}
    normal, double, geometric = _line(3.0), _line(3.0), _whole(-12, 14)
    discrete, stairs, cut = DiscreteGaussian(noise_multiplier=0.5, sensitivity=2), _whole(-20, 24, 0.5), _whole(-12, 12)
    telling: dict[str, Mechanism] = {
        "staircase": Staircase(epsilon=2.5, fraction=0.25),
        "truncated_laplace": TruncatedLaplace(noise_multiplier=0.5, bound=1.5),
    }
    for name, cell, many in (
        ("gaussian", normal, True),
        ("laplace", double, True),
        ("discrete_laplace", geometric, True),
        ("staircase", stairs, False),
        ("truncated_laplace", cut, False),
    ):
        number = int if name == "discrete_laplace" else float
        fields = {"mechanism": telling.get(name), "one": number(2), "cell": cell, "many": many}
        found[name] = _of(name, ADD, ZERO, other=number(0), shown="remove", **fields)
        found[f"{name}, replaced"] = _of(name, ONE, other=number(-2), shown="replace", **fields)
    for name, kind, scale in (("bounded_laplace", BoundedLaplace, 0.75), ("bounded_gaussian", BoundedGaussian, 0.5)):
        kept, cells = {"lower": -4.0, "upper": 5.0, "sensitivity": 2.0}, _whole(-16, 20, 0.25)
        fields = {"mechanism": kind(noise_multiplier=scale, **kept), "cell": cells}
        found[name] = _of(name, ADD, ZERO, one=1.5, other=-0.5, shown="witness", **fields)
        found[f"{name}, replaced"] = _of(name, ONE, one=2.5, other=-1.5, shown="witness", **fields)
        found[f"{name}, at the end"] = _of(name, ADD, ZERO, one=-4.0, other=-2.0, **fields)
    narrow = BoundedGaussian(noise_multiplier=0.55, lower=0.0, upper=4.0, sensitivity=4.0)
    name, cells = "bounded_gaussian", _whole(0, 40, 0.1)
    found[f"{name}, narrow"] = replace(
        _of(name, ADD, mechanism=narrow, one=0.0, other=4.0, cell=cells, shown="witness_reversed"), sensitivity=4.0
    )
    name, first = "discrete_gaussian", _whole(-12, 14)
    found[name] = _of(name, ADD, ZERO, mechanism=discrete, one=2, other=0, cell=first, shown="remove")
    found[f"{name}, replaced"] = _of(name, ONE, mechanism=discrete, one=2, other=-2, cell=first, shown="replace")
    for adjacencies, other in (((ADD, ZERO), 0), ((ONE,), -2)):
        found[f"{name} of vectors, {other}"] = _of(
            name, *adjacencies, one=[2, 0, 0], other=[other, 0, 0], cell=lambda rows: first([row[0] for row in rows])
        )
    return found


def _choices() -> dict[str, Neighbours]:
    """Return choices of ε = 3 between two candidates; scores that are monotonic move one of them."""

    def of(name: str, one: list[float], other: list[float], shown: str | None, **changed: Any) -> Neighbours:
        mechanism = replace(EXAMPLES[name].mechanism, epsilon=3.0, **changed)
        return _of(name, ONE, mechanism=mechanism, one=one, other=other, cell=np.asarray, shown=shown)

    lower = float(np.log(-np.expm1(-0.75) / np.expm1(2.25))) / 3.0  # where the loss is 3/4 of ε
    single, either, swapped = ([1.0, 0.5], [0.0, 0.5]), ([1.0, 1.0], [0.0, 1.0]), ([1.0, 0.0], [0.0, 1.0])
    return {
        "exponential": of("exponential", [0.5, 0.0], [-0.5, 0.0], "witness"),
        "exponential, reversed": of("exponential", [lower + 1.0, 0.0], [lower, 0.0], "witness_reversed"),
        "exponential, apart": of("exponential", [0.5, -0.5], [-0.5, 0.5], "witness", monotonic=False),
        "noisy_max": of("noisy_max", *single, "witness"),
        "noisy_max, apart": of("noisy_max", *swapped, "witness", monotonic=False),
        "noisy_max, gumbel": of("noisy_max", [0.5, 0.0], [-0.5, 0.0], "witness", noise="gumbel"),
        "noisy_max, exponential": of("noisy_max", *either, "witness", noise="exponential"),
        "permute_and_flip": of("permute_and_flip", *either, "witness"),
        "permute_and_flip, reversed": of("permute_and_flip", *single, "witness_reversed"),
        "permute_and_flip, apart": of("permute_and_flip", *swapped, "witness_reversed", monotonic=False),
    }


def _several() -> dict[str, Neighbours]:
    """Return mechanisms of several answers, or of many candidates; none of their neighbours is known as the worst."""
    return {
        "top_k": _of("top_k", ONE, one=[0.0] * 3, other=[1.0, 1.0, 0.0], cell=lambda rows: np.asarray(rows) @ [3, 1]),
        "sparse_vector": _of("sparse_vector", ONE, one=[0.0, 0.0, 0.0, 1.0], other=[1.0] * 4, cell=_answers),
        "quantile": _of("quantile", ADD, ZERO, one=[1.0, -1.0], other=[1.0], cell=_whole(-1, 1)),
        "quantile, replaced": _of("quantile", ONE, one=[1.0, -1.0], other=[1.0, 3.0], cell=_whole(-1, 1)),
    }


def _votes() -> dict[str, Neighbours]:
    every = (ADD, ONE, ZERO)
    moved = {"one": [5, 5, 0], "other": [4, 6, 0], "many": True}
    largest = {"one": [5, 4, 0], "other": [4, 4, 1], "many": True}
    kinds = {"pate.GNMax": moved, "pate.LNMax": moved, "pate.ConfidentGNMax": moved, "pate.VoteThreshold": largest}
    return {name: _of(name, *every, cell=lambda found: np.asarray(found) + 1, **kinds[name]) for name in kinds}


def _local() -> dict[str, Neighbours]:
    def table(released: Any) -> Cells:
        return 2 * _line(3.0)(released["x"]) + (released["member"] == "yes")

    def of(name: str, one: Any, other: Any, cell: Callable[[Any], Cells], shown: str | None = "replace") -> Neighbours:
        return _of(name, ONE, one=one, other=other, cell=cell, shown=shown, many=True)

    rows = {"x": -1.0, "member": "no"}, {"x": 2.0, "member": "yes"}
    return {
        "randomized_response": of("randomized_response", 0, 1, np.asarray),
        "unary_encoding": of("unary_encoding", 0, 1, lambda bits: bits.astype(np.int64) @ [2, 1, 0]),
        "local_categories": of("local_categories", "no", "yes", lambda labels: (labels == "yes").astype(np.int64)),
        "local_noise": of("local_noise", -1.0, 2.0, _line(3.0)),
        "perturbed_table": of("perturbed_table", *rows, table, None),
    }


def _queries() -> dict[str, Neighbours]:
    found, sigma, root = {}, 0.5, np.sqrt(2.0)
    kinds: dict[str, tuple[Any, Any, Any, Callable[[Any], Cells], Callable[[Any], Cells]]] = {
        "count": ([True], [False], [False], _whole(-9, 10), _whole(-9, 10)),
        "sum": ([3.0], [0.0], [-1.0], _line(3.0 * sigma), _line(3.0 * sigma)),
        "mean": ([3.0], [1.0], [-1.0], _line(sigma * 2 / 3, 1.0), _line(sigma * 2 / 3, 1.0)),
        "vector_sum": ([[3.0, 0.0]], [[0.0, 0.0]], [[-3.0, 0.0]], _along([1, 0], 3 * sigma), _along([1, 0], 3 * sigma)),
        "vector_mean": (
            [[3.0, 0.0]],
            [[0.0, 0.0]],
            [[-3.0, 0.0]],
            _along([1, 0], 1.5 * sigma),
            _along([1, 0], 1.5 * sigma),
        ),
        "histogram": ([0.5], [], [2.0], _along([1, 0, 0], sigma), _along([1, -1, 0], sigma)),
        "covariance": (
            [[3.0, 0.0]],
            [[0.0, 0.0]],
            [[0.0, 3.0]],
            _along([1, 0, 0, 0], 9 * sigma),
            _along([1, 0, 0, -1], 9 * sigma),
        ),
    }
    for name, (one, zeroed, replaced, cell, difference) in kinds.items():
        opposite = name in ("mean", "vector_sum", "vector_mean")  # the noise's own pairs then
        shows = {ADD: "remove", ZERO: "remove" if opposite else "witness", ONE: "replace" if opposite else "witness"}
        for adjacency, other, rule in ((ADD, [], cell), (ZERO, zeroed, cell), (ONE, replaced, difference)):
            key = f"{name}, {adjacency.value}"
            noise = DiscreteLaplace(noise_multiplier=0.5) if name == "count" else TELLING
            mechanism = replace(EXAMPLES[name].mechanism, noise=noise)
            found[key] = _of(
                name, adjacency, mechanism=mechanism, one=one, other=other, cell=rule, shown=shows[adjacency]
            )
    corner = 3.0 / root  # of records that differ off the diagonal alone
    found["covariance, off the diagonal"] = _of(
        "covariance",
        ONE,
        mechanism=Covariance(max_norm=3.0, dimensions=2, noise=TELLING),
        one=[[corner, corner]],
        other=[[corner, -corner]],
        cell=_along([0, 1, 1, 0], 9 * sigma),
        shown="witness",
    )
    counting, others = Mean(lower=-1.0, upper=3.0, noise=TELLING), 1000
    for key, around, one, other, unit, shown in (
        ("add_remove", 2.9, [-1.0], [], sigma * root * np.hypot(2.0, 1.9), "remove"),
        ("replace_one", 1.0, [3.0], [-1.0], sigma * root * 2.0, "witness"),
    ):  # a private number of records: shown in the limit of many others, which these come near
        crowd = [around] * others
        found[f"mean that counts, {key}"] = _of(
            "mean",
            Adjacency(key),
            mechanism=counting,
            one=np.array(crowd + one),
            other=np.array(crowd + other),
            cell=_line(unit / others, around),
            shown=shown,
        )
    double = Mean(lower=-1.0, upper=3.0, noise=Laplace(noise_multiplier=0.5))
    found["mean that counts, Laplace"] = _of(
        "mean",
        ONE,
        mechanism=double,
        one=np.array([1.0] * others + [3.0]),
        other=np.array([1.0] * others + [-1.0]),
        cell=_line(0.5 * 4.0 / others, 1.0),
        shown="witness",
    )
    return found


NEIGHBOURS = _noise() | _local() | _votes() | _choices() | _several() | _queries() | _streams()
