"""Shadow models trained together beside a loop that trains one by one: CPU seconds on one thread, and their ratio.

    python -m tests.benchmarks.shadows [--json FILE] [--models N] [--looped N]

Every model has 1,000 of 2,000 records and takes 400 steps of 50: 20 epochs. Of the loop some models are trained, taking
turns with an equal part of the batched ones, and counted as all. The loop without privacy is `torch.optim.SGD`'s.
More threads help nothing on models so small, and cost much where others use the cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dpsgd import DPSGD, Dataset, mlp, train
from dpsgd.core.runs import RUN
from dpsgd.nonprivate import NonPrivate, ordered_rows
from dpsgd.shadows import train_together
from mechanisms import KeyedSource, Poisson, __version__

SCHEMA = "dp-calipers/shadow-benchmarks/1"
RECORDS, MEMBERS, BAR = 2000, 1000, 60.0
LOSS = nn.CrossEntropyLoss(reduction="none")
ARCHITECTURES = {"64-96-10": (64, (96,), 10), "784-32-10": (784, (32,), 10)}
TRAININGS: dict[str, DPSGD | NonPrivate] = {
    "DP-SGD": DPSGD(
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        sampling=Poisson(probability=0.05),
        expected_batch_size=50,
        steps=400,
        learning_rate=0.5,
    ),
    "plain SGD": NonPrivate(batch_size=50, steps=400, learning_rate=0.1),
}


def alone(model: nn.Module, data: Dataset, rows: np.ndarray, config: DPSGD | NonPrivate, number: int) -> None:
    """Train one model by itself."""
    taken = torch.from_numpy(rows)
    own = Dataset(features=data.features[taken], targets=data.targets[taken])
    if isinstance(config, DPSGD):
        train(model, own, config, loss=LOSS, randomness=KeyedSource(number))
        return
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate)
    draw = ordered_rows(KeyedSource(number), config, run=number * RUN, records=len(own))
    for step in range(config.steps):
        batch = torch.from_numpy(draw(step))
        optimizer.zero_grad()
        LOSS(model(own.features[batch]), own.targets[batch]).mean().backward()
        optimizer.step()


def seconds(work: Callable[[], Any]) -> dict[str, float]:
    """Return the seconds of the process and of the clock that some work takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def measure(name: str, config: DPSGD | NonPrivate, *, models: int, looped: int) -> dict[str, float]:
    """Return what the models take together, and what they take one by one if all were as those that were looped."""
    torch.manual_seed(0)
    inputs, hidden, outputs = ARCHITECTURES[name]
    model = mlp(inputs, hidden, outputs)
    data = Dataset(features=torch.rand(RECORDS, inputs), targets=torch.randint(outputs, (RECORDS,)))
    rng = np.random.default_rng(0)
    rows = [np.sort(rng.permutation(RECORDS)[:MEMBERS]) for _ in range(models)]
    total = {"cpu": 0.0, "wall": 0.0, "loop cpu": 0.0}
    for part in np.array_split(np.arange(models), looped):
        chosen = [rows[number] for number in part]
        taken = seconds(
            lambda chosen=chosen: train_together(
                model, data, config, membership=chosen, loss=LOSS, randomness=KeyedSource(0)
            )
        )
        one = seconds(lambda part=part: alone(mlp(inputs, hidden, outputs), data, rows[part[0]], config, int(part[0])))
        total["cpu"] += taken["cpu"]
        total["wall"] += taken["wall"]
        total["loop cpu"] += one["cpu"] * len(part)
    return total | {"models a second": models / total["cpu"], "ratio": total["loop cpu"] / total["cpu"]}


def main(arguments: list[str] | None = None) -> int:
    """Print one line a case, write them if asked, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.shadows", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--looped", type=int, default=4, help="models that are trained one by one as well")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows: dict[str, dict[str, float]] = {}
    print(f"{'case':24} {'cpu s':>7} {'wall s':>7} {'models/s':>9} {'loop s':>7} {'ratio':>6}   bar {BAR:g} s")
    for case, (name, kind) in {f"{name}, {kind}": (name, kind) for name in ARCHITECTURES for kind in TRAININGS}.items():
        found = rows[case] = measure(name, TRAININGS[kind], models=given.models, looped=given.looped)
        columns = f"{found['cpu']:7.1f} {found['wall']:7.1f} {found['models a second']:9.1f} {found['loop cpu']:7.1f}"
        print(f"{case:24} {columns} {found['ratio']:6.1f}", flush=True)
    if given.json:
        document = {"schema": SCHEMA, "library": __version__, "models": given.models, "bar": BAR, "rows": rows}
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
