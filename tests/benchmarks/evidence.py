"""How much of the claimed ε an audit shows: real training in one run, and many short runs with and without a canary.

    python -m tests.benchmarks.evidence [--json FILE] [--seeds N] [--rows NAME …]

Ratios are the bound ÷ the certified lower end of the claim's ε at δ = 1e-5. All coins, samples and noise come from the
seed. Bounds that decide are at the level the harness gives them, others at .95, each by itself. "cost" is of one seed,
claim and estimators included, in CPU seconds. Bars are held against the median over the seeds.

"one run": an MLP is trained on digits with m canaries of one coordinate each, seen at every step. The inversion of the
accountant has a fifth of the error, `one_run` the rest; accuracy lost is to the same training without canaries.

"two worlds": softmax regression takes 5 steps on 200 digits, all of them in every step, 1,000 times over, each run
with one canary or without it by a coin. What is trained is small, but all that is claimed of the Gaussian steps is run.
Every record in every step makes the scores normal and the claim's trade-off curve a normal's.

"crafted": an MLP with weights that the adversary pretrained on the public half of MNIST and crafted for a blank canary
takes 20 steps, or 100 of a fifth, on 200 other records, 1,000 times over; the adversary sees the last model's loss on
the canary. The threshold is fixed before any run. "200 models" are five disjoint parts of the runs; "uncorrected" is
the largest of the Gaussian bounds of all thresholds, each error rate at the whole .05, as published figures for 200
models were made.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from accountant import epsilon_bounds
from audit.canaries import signed_coordinates
from audit.core.thresholds import errors_at_thresholds
from audit.crafted import detector, rehearsed
from audit.demo import SETTINGS, accuracy, initialised
from audit.estimators import gdp
from audit.evidence import estimators
from audit.harness import audit
from audit.input_canaries import blank
from audit.report import AuditReport
from audit.runs import Setup, observe_independent_runs
from audit.scores import GuessExtremes, IndependentRuns, LabelledScores, Scores, Threshold
from audit.trainers import dpsgd_trainer
from dpsgd import DPSGD, Dataset, count_parameters, load, train
from mechanisms import KeyedSource, Poisson, __version__

SCHEMA = "dp-calipers/evidence-benchmark/2"
LOSS = nn.CrossEntropyLoss(reduction="none")
DELTA, CONFIDENCE = 1e-5, 0.95
ONE_RUN = ((8.0, 1_000, 50), (4.0, 1_000, 50), (8.0, 10_000, 150), (4.0, 10_000, 150))  # ε, m, guesses on each side
RUNS, RECORDS, STEPS = 1_000, 200, 5
CRAFTED_STEPS, CRAFTED_RATE, PUBLIC, PUBLIC_BATCH, PART = (20, 100), 10.0, 30_000, 200, 200
Values = dict[str, float]
SHORT = {"cost": 60.0}
REAL = {"accuracy lost": 0.02, **SHORT}
BARS: dict[str, tuple[Values, Values]] = {
    "one run, ε = 8, m = 1000": ({"accountant_inversion": 0.80}, REAL),
    "one run, ε = 4, m = 1000": ({"accountant_inversion": 0.75}, REAL),
    "one run, ε = 8, m = 10000": ({"accountant_inversion": 0.90}, REAL),
    "one run, ε = 4, m = 10000": ({"one_run": 0.45}, REAL),
    "two worlds, ε = 8": ({"tradeoff": 0.78, "gaussian_pair": 0.88}, SHORT),
    "crafted, ε = 10, 20 steps": ({"tradeoff": 0.65}, {"cost": 600.0}),
    "crafted, ε = 10, 100 steps": ({"tradeoff": 0.65}, {"cost": 600.0}),
}
"""Least and largest medians asked for, by row and figure; all other figures have no bar."""


def one_run(epsilon: float, canaries: int, guesses: int, *, seed: int) -> Values:
    """Return the figures of one audited training, and of its twin without canaries."""
    setting = SETTINGS["digits"]
    known, test = load("digits")
    ran = setting.calibrated(epsilon=epsilon, delta=DELTA)
    rng = np.random.default_rng(seed)
    model = initialised((known.features.shape[1], *setting.hidden), rng)
    alone = train(model, known, ran, loss=LOSS, randomness=KeyedSource(seed)).model
    plain = accuracy(alone, test)
    model = initialised((known.features.shape[1], *setting.hidden), np.random.default_rng(seed))
    start = time.process_time()
    report = audit(
        dpsgd_trainer(model, known, ran, loss=LOSS),
        delta=DELTA,
        confidence=CONFIDENCE,
        canaries=signed_coordinates(canaries=canaries, dimension=count_parameters(model), rng=rng),
        guessing_rule=GuessExtremes(included=guesses, excluded=guesses),
        randomness=KeyedSource(seed),
        primary="one_run",
        refuter="accountant_inversion",
        exploratory=("one_run_fdp", "gaussian_pair"),
    )
    found = accuracy(model, test)
    return _ratios(report) | {
        "accuracy": found,
        "accuracy lost": plain - found,
        "cost": time.process_time() - start,
    }


def two_worlds(epsilon: float, *, seed: int) -> Values:
    """Return the figures of 1,000 short runs."""
    records, _ = load("digits")
    known = Dataset(features=records.features[:RECORDS], targets=records.targets[:RECORDS])
    rng = np.random.default_rng(seed)
    start = time.process_time()
    ran = DPSGD.for_budget(
        epsilon=epsilon, delta=DELTA, max_grad_norm=1.0, sampling=Poisson(probability=1.0),
        expected_batch_size=RECORDS, steps=STEPS, learning_rate=1.0,
    )  # fmt: skip
    model = initialised((known.features.shape[1],), rng)
    report = audit(
        dpsgd_trainer(model, known, ran, loss=LOSS),
        delta=DELTA,
        confidence=CONFIDENCE,
        canaries=signed_coordinates(canaries=1, dimension=count_parameters(model), rng=rng),
        guessing_rule=Threshold(value=STEPS / 2),  # halfway between the two means, known before any run
        randomness=KeyedSource(seed),
        runs=RUNS,
        primary="tradeoff",
        refuter=None,
        exploratory=("gaussian_pair", "maximal", "calibrated"),
    )
    return _ratios(report) | {"cost": time.process_time() - start}


def crafted(epsilon: float, steps: int, *, seed: int, runs: int = RUNS) -> Values:
    """Return the figures of final models, seen from outside, that began from crafted weights."""
    records, test = load("mnist")
    known = Dataset(features=records.features[:RECORDS], targets=records.targets[:RECORDS])
    start = time.process_time()
    ran = DPSGD.for_budget(
        epsilon=epsilon, delta=DELTA, max_grad_norm=1.0, sampling=Poisson(probability=1.0),
        expected_batch_size=RECORDS, steps=steps, learning_rate=CRAFTED_RATE / steps,
    )  # fmt: skip
    model = _pretrained(Dataset(features=records.features[-PUBLIC:], targets=records.targets[-PUBLIC:]), seed)
    before, canary = accuracy(model, test), blank((known.features.shape[1],), canaries=1, classes=10)
    trainer = dpsgd_trainer(model, known, ran, loss=LOSS)
    setup = Setup(
        trainer=trainer, canaries=canary, attack=rehearsed(trainer, canary), guessing_rule=Threshold(value=0.5),
        randomness=KeyedSource(seed), process=ran.process(),
    )  # fmt: skip
    data = observe_independent_runs(setup, runs=runs)
    found = _shown(data, ran, ("tradeoff", "gdp", "gaussian_pair", "maximal", "calibrated"))
    parts = [_shown(_part(data, slice(k, k + PART)), ran, ("tradeoff", "maximal")) for k in range(0, runs, PART)]
    gap = float(np.mean(data.included) - np.mean(data.excluded))
    return (
        found
        | {f"200 models: {name}": statistics.median(part[name] for part in parts) for name in parts[0]}
        | {
            "200 models: least tradeoff": min(part["tradeoff"] for part in parts),
            "200 models: most tradeoff": max(part["tradeoff"] for part in parts),
            "signal kept": gap / float(np.std(data.excluded, ddof=1)) * ran.noise_multiplier / steps**0.5,
            "accuracy before": before,
            "accuracy after": accuracy(model, test),
            "cost": time.process_time() - start,
        }
    )


def _pretrained(public: Dataset, seed: int) -> nn.Module:
    """Return a classifier with a unit for the blank record, the rest of it trained on public records."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        plain = nn.Sequential(nn.Linear(public.features.shape[1], 16), nn.ReLU(), nn.Linear(16, 10))
    model = detector(plain, darkest=float(public.features.sum(dim=1).min()))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for rows in torch.arange(len(public)).split(PUBLIC_BATCH) * 2:
        optimizer.zero_grad()
        LOSS(model(public.features[rows]), public.targets[rows]).mean().backward()
        optimizer.step()
    return model


def _shown(data: LabelledScores, ran: DPSGD, names: tuple[str, ...]) -> Values:
    """Return the bounds of these estimators, and the uncorrected one, ÷ the claim's ε."""
    process = ran.process()
    claim = epsilon_bounds(process, delta=DELTA, adjacency="add_remove").lower
    kinds = estimators()
    found = {
        name: kinds[name]().epsilon(data, process=process, delta=DELTA, confidence=CONFIDENCE) / claim for name in names
    }
    return found | {"uncorrected": _uncorrected(data.included, data.excluded) / claim}


def _uncorrected(included: NDArray[np.float64], excluded: NDArray[np.float64]) -> float:
    """Return the largest Gaussian bound over all thresholds, each rate at the whole error: no valid bound."""
    return max(
        gdp.lower_bound_from_counts(
            true_positives=len(included) - int(missed),
            false_negatives=int(missed),
            false_positives=int(alarms),
            true_negatives=len(excluded) - int(alarms),
            delta=DELTA,
            confidence=1 - 2 * (1 - CONFIDENCE),
        )
        for missed, alarms in zip(*errors_at_thresholds(included, excluded), strict=True)
    )


def _part(data: LabelledScores, runs: slice) -> LabelledScores:
    values, rule = data.scores.values[runs], data.scores.guessing_rule
    scores = Scores(values=values, design=IndependentRuns(runs=len(values)), guessing_rule=rule)
    return LabelledScores(scores=scores, membership=data.membership[runs])


def _ratios(report: AuditReport) -> Values:
    """Return every bound of the report ÷ the claim's ε."""
    shown = [report.evidence, *([report.refutation] if report.refutation else []), *report.exploratory]
    return {bound.method: bound.epsilon / report.claim.lower for bound in shown}


def rows() -> dict[str, Callable[[int], Values]]:
    """Return the functions of a seed that give the figures, by the name of the row."""
    found: dict[str, Callable[[int], Values]] = {
        f"one run, ε = {epsilon:g}, m = {canaries}": lambda seed, e=epsilon, m=canaries, g=guesses: one_run(
            e, m, g, seed=seed
        )
        for epsilon, canaries, guesses in ONE_RUN
    }
    found["two worlds, ε = 8"] = lambda seed: two_worlds(8.0, seed=seed)
    return found | {
        f"crafted, ε = 10, {steps} steps": lambda seed, taken=steps: crafted(10.0, taken, seed=seed)
        for steps in CRAFTED_STEPS
    }


def summary(name: str, figures: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Return median and range of every figure over the seeds and, where the row has a bar for it, whether that is met.

    >>> found = summary("crafted, ε = 10, 20 steps", {"tradeoff": [0.9, 0.6, 0.7]})["tradeoff"]
    >>> found["median"], found["least"], found["most"], found["bar"], found["met"]
    (0.7, 0.6, 0.9, 0.65, True)
    """
    at_least, at_most = BARS.get(name, ({}, {}))
    found: dict[str, dict[str, Any]] = {}
    for key, values in figures.items():
        median = statistics.median(values)
        found[key] = {"median": median, "least": min(values), "most": max(values)}
        if key in at_least or key in at_most:
            met = at_least.get(key, median) <= median <= at_most.get(key, median)
            found[key] |= {"bar": at_least.get(key, at_most.get(key)), "met": met}
    return found


def _line(key: str, found: dict[str, Any]) -> str:
    bar = f"  bar {found['bar']:g}: {'met' if found['met'] else 'MISSED'}" if "bar" in found else ""
    return f"  {key:28} {found['median']:7.3f}   of {found['least']:.3f} to {found['most']:.3f}{bar}"


def main(arguments: list[str] | None = None) -> int:
    """Print median and range of every figure and what they say of the bars, write all if asked, and return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.evidence", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--json", type=Path, help="file to write: rows that it holds already and are not asked for stay"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--rows", nargs="+", default=[""], help="only rows whose name holds one of these")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    document: dict[str, Any] = {"schema": SCHEMA, "library": __version__, "rows": {}}
    if given.json and given.json.exists():
        document["rows"] = json.loads(given.json.read_text(encoding="utf-8"))["rows"]
    for name, row in rows().items():
        if not any(part in name for part in given.rows):
            continue
        seeds = range(given.first, given.first + given.seeds)
        each = [row(seed) for seed in seeds]
        figures = {key: [one[key] for one in each] for key in each[0]}
        found = summary(name, figures)
        print(f"{name}, {len(seeds)} seeds")
        for key in figures:
            print(_line(key, found[key]), flush=True)
        document["rows"][name] = {"seeds": list(seeds), "figures": figures, "summary": found}
        if given.json:
            given.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
