"""Attribute inference by an informed adversary: how often a person's sex is guessed, and what theory allows.

    python -m tests.benchmarks.attributes [--json FILE] [--runs N] [--epsilon E …]

Softmax regression on the diabetes data inside scikit-learn, every known record in every step: is the disease far on
after a year? One more patient joins, of whom the adversary knows all but the sex; it knows how frequent either is among
the known. "success" holds with confidence .95; "allowed" is the most that the claim allows anyone, under replace_one.
The last line has half the noise that it claims.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import nn

from audit.attacks.candidate_likelihood import CandidateLikelihood
from audit.guessing import audit_guesses
from audit.input_canaries import with_attribute
from audit.report import AuditReport
from audit.trainers import dpsgd_trainer
from dpsgd import DPSGD, Dataset, mlp
from mechanisms import KeyedSource, Poisson, __version__

SCHEMA = "dp-calipers/attribute-benchmark/1"
LOSS = nn.CrossEntropyLoss(reduction="none")
DELTA, KNOWN, SEX, FAR_ON = 1e-5, 200, 1, 140.0
BUDGETS = (1.0, 4.0, 8.0)


def audited(epsilon: float, *, runs: int, noise_factor: float = 1.0) -> AuditReport:
    """Return the report of one budget."""
    data = load_diabetes(scaled=False)
    scaled = (data.data - data.data.mean(0)) / data.data.std(0)
    targets = (data.target > FAR_ON).astype(np.int64)
    known = Dataset(features=torch.tensor(scaled[:KNOWN], dtype=torch.float32), targets=torch.tensor(targets[:KNOWN]))
    config = DPSGD.for_budget(
        epsilon=epsilon, delta=DELTA, adjacency="replace_one", max_grad_norm=1.0, sampling=Poisson(probability=1.0),
        expected_batch_size=KNOWN, steps=5, learning_rate=1.0,
    )  # fmt: skip
    codes, counts = np.unique(scaled[:KNOWN, SEX], return_counts=True)
    torch.manual_seed(0)
    model = mlp(scaled.shape[1], (), 2)
    ran = dataclasses.replace(config, noise_multiplier=noise_factor * config.noise_multiplier)
    return audit_guesses(
        dpsgd_trainer(model, known, ran, loss=LOSS),
        claim=config.process(),
        delta=DELTA,
        candidates=with_attribute(scaled[KNOWN].astype(np.float32), int(targets[KNOWN]), columns=[SEX], values=codes),
        attack=CandidateLikelihood(model=model, loss=LOSS),
        runs=runs,
        randomness=KeyedSource(0),
        weights=counts.tolist(),
        adjacency="replace_one",
    )


def row(epsilon: float, *, runs: int, noise_factor: float = 1.0) -> dict[str, float | str]:
    """Return the figures of one budget."""
    report = audited(epsilon, runs=runs, noise_factor=noise_factor)
    seen = report.risk
    assert seen is not None
    return {
        "epsilon": epsilon,
        "noise factor": noise_factor,
        "share right": report.correct / report.guesses,
        "success": seen.success,
        "allowed": seen.allowed,
        "blind": seen.blind,
        "epsilon shown": report.evidence.epsilon,
        "verdict": report.verdict,
    }


def main(arguments: list[str] | None = None) -> int:
    """Print one line a budget, write them if asked, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.attributes", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--epsilon", type=float, nargs="+", default=list(BUDGETS))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cpu, rows = time.process_time(), []
    print(f"{'ε':>4} {'noise':>6} {'right':>6} {'success':>8} {'allowed':>8} {'blind':>7} {'ε shown':>8}")
    for epsilon, factor in [*((one, 1.0) for one in given.epsilon), (given.epsilon[-1], 0.5)]:
        found = row(epsilon, runs=given.runs, noise_factor=factor)
        rows.append(found)
        print(
            f"{epsilon:4g} {factor:6} {found['share right']:6.3f} {found['success']:8.4f} {found['allowed']:8.4f} "
            f"{found['blind']:7.4f} {found['epsilon shown']:8.3f} {found['verdict']}",
            flush=True,
        )
    seconds = time.process_time() - cpu
    print(f"{seconds:.1f} CPU seconds")
    if given.json:
        document = {"schema": SCHEMA, "library": __version__, "runs": given.runs, "seconds": seconds, "rows": rows}
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
