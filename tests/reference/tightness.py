"""Writes tightness.json: the bracket that the default accountant gives, so that it can never get wider unseen.

python -m tests.reference.tightness        (rows whose mechanism this version lacks are left out)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mechanisms
from accountant import dp_sgd, epsilon_bounds
from mechanisms import Compose, Gaussian, Poisson, Process, RandomizedResponse, Repeat, Sampled, from_json, to_json

TARGET = Path(__file__).with_suffix(".json")
SCHEMA = "dp-calipers/tightness/1"
Setting = tuple[Process, str, float]
"""A process, its adjacency and δ."""

DP_SGD = (
    *((1.0, 10.0 ** (-k / 2), 10**k) for k in range(2, 10)),
    (1.1, 0.01, 10_000),
    (0.8, 256 / 60_000, 14_062),
    (4.0, 0.01, 10_000),
    (2.0, 0.01, 1_500),
    (1.0, 0.001, 100_000),
    (0.3, 0.01, 100),
    (0.5, 0.01, 1_000),
    (50.0, 0.5, 1_000),
    (1.1, 0.01, 1),
    (10.0, 0.1, 1_000_000),
    (20.0, 0.05, 10_000_000),
    (0.1, 0.01, 10),
    (100.0, 0.01, 10_000),
    (0.7, 0.9, 100),
    (2.5, 16_384 / 1_281_167, 18_000),
    (1.0, 1e-5, 1_000_000),
    (1.0, 1e-6, 1_000_000_000),
)
GAUSSIANS = ((0.02, 1), (1.0, 1), (5.0, 1_000), (100.0, 1), (2.0, 100), (1_000.0, 10**9))
RESPONSES = ((math.log(3), 2, 10), (0.5, 2, 10**6), (0.9, 10, 1_000), (0.01, 2, 10**8))
LAPLACES = ((1.0, 1), (10.0, 100), (50.0, 10_000), (0.3, 1), (1.0, 10), (200.0, 10**6))
DELTAS = (1e-5, 1e-10, 1e-30)


def settings() -> Iterator[Setting]:
    """Yield every setting."""
    for delta in DELTAS:
        for noise, rate, times in DP_SGD:
            yield dp_sgd(noise_multiplier=noise, sample_rate=rate, steps=times), "add_remove", delta
        for noise, times in GAUSSIANS:
            for adjacency in ("add_remove", "replace_one"):
                yield Repeat(Gaussian(noise_multiplier=noise), times), adjacency, delta
        for epsilon, categories, times in RESPONSES:
            response = RandomizedResponse(epsilon=epsilon, categories=categories)
            yield Repeat(response, times), "replace_one", delta
        yield from ((process, "zero_out", delta) for process in _mixtures())
        if hasattr(mechanisms, "Laplace"):
            yield from ((process, "add_remove", delta) for process in _laplaces())


def rows() -> Iterator[dict[str, Any]]:
    """Yield every setting with its bracket."""
    for process, adjacency, delta in settings():
        bounds = epsilon_bounds(process, delta=delta, adjacency=adjacency)
        node = json.loads(to_json(process))["process"]
        row = {"process": node, "adjacency": adjacency, "delta": delta, "method": bounds.method}
        yield row | {"lower": _number(bounds.lower), "upper": _number(bounds.upper)}


def process_of(row: dict[str, Any]) -> Process:
    """Return the process of a row."""
    return from_json(json.dumps(json.loads(to_json(Compose(()))) | {"process": row["process"]}))


def _number(end: Any) -> float | str:
    """Return an end of a bracket as JSON has it: infinity as a string."""
    return float(end) if math.isfinite(end) else repr(float(end))


def _sampled(noise: float, rate: float, times: int) -> Process:
    return Repeat(Sampled(Gaussian(noise_multiplier=noise), Poisson(probability=rate)), times)


def _mixtures() -> Iterator[Process]:
    """Yield heterogeneous compositions."""
    yield Compose((_sampled(1.0, 0.01, 1_000), _sampled(2.0, 0.05, 500), _sampled(0.8, 0.001, 5_000)))
    yield Compose((Repeat(Gaussian(noise_multiplier=2.0), 10), _sampled(1.0, 0.01, 1_000)))
    yield Compose(tuple(_sampled(1.0 + i / 10, 0.01, 100) for i in range(10)))
    yield Sampled(Repeat(Gaussian(noise_multiplier=3.0), 4), Poisson(probability=0.1))


def _laplaces() -> Iterator[Process]:
    """Yield Laplace mechanisms, alone, sampled and beside Gaussians."""
    for noise, times in LAPLACES:
        yield Repeat(mechanisms.Laplace(noise_multiplier=noise), times)
    laplace = mechanisms.Laplace(noise_multiplier=5.0)
    yield Repeat(Sampled(laplace, Poisson(probability=0.01)), 10_000)
    yield Compose((Repeat(Gaussian(noise_multiplier=2.0), 10), Repeat(laplace, 20), _sampled(1.0, 0.01, 1_000)))


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(row) for row in rows())
    TARGET.write_text(f'{{"schema": "{SCHEMA}", "rows": [\n{lines}\n]}}\n', encoding="utf-8")
