"""Reconstruction by an informed adversary: how often the right one of many candidates is found, and what theory allows.

    python -m tests.benchmarks.candidates [--json FILE] [--runs N] [--candidates K …]

Softmax regression on digits, every known record in every step. One of K further digits joins them; the adversary sees
all steps and names the likeliest. "success" and "ε shown" hold with confidence .95, one by one; "allowed" is the most
that the claim allows anyone, 1 − f(1/K).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from torch import nn

from accountant.gdp import GDP
from audit.attacks.candidate_likelihood import CandidateLikelihood
from audit.canaries import InputCanaries
from audit.guessing import LIKELIEST, observe_guesses, risk
from audit.runs import Setup
from audit.trainers import dpsgd_trainer
from dpsgd import DPSGD, Dataset, load, mlp
from mechanisms import Adjacency, KeyedSource, Poisson, __version__

SCHEMA = "dp-calipers/candidate-benchmark/1"
LOSS = nn.CrossEntropyLoss(reduction="none")
DELTA, CONFIDENCE, KNOWN = 1e-5, 0.95, 200
BUDGETS = (1.0, 4.0, 8.0, 16.0)


def row(epsilon: float, *, candidates: int, runs: int) -> dict[str, float]:
    """Return the figures of one budget."""
    records, _ = load("digits")
    known = Dataset(features=records.features[:KNOWN], targets=records.targets[:KNOWN])
    further = slice(KNOWN, KNOWN + candidates)
    config = DPSGD.for_budget(
        epsilon=epsilon, delta=DELTA, max_grad_norm=1.0, sampling=Poisson(probability=1.0),
        expected_batch_size=KNOWN, steps=5, learning_rate=1.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = mlp(64, (), 10)
    setup = Setup(
        trainer=dpsgd_trainer(model, known, config, loss=LOSS),
        canaries=InputCanaries(
            features=records.features[further].numpy(), targets=records.targets[further].numpy()
        ),
        attack=CandidateLikelihood(model=model, loss=LOSS), guessing_rule=LIKELIEST, randomness=KeyedSource(0),
        process=config.process(),
    )  # fmt: skip
    guesses = observe_guesses(setup, runs=runs)
    profile = GDP().profile(config.process(), adjacency=Adjacency.ADD_REMOVE)
    found = risk(guesses, profile, confidence=CONFIDENCE)
    return {
        "epsilon": epsilon,
        "candidates": candidates,
        "share right": guesses.correct / runs,
        "success": found.success,
        "allowed": found.allowed,
        "blind": found.blind,
        "epsilon shown": guesses.lower_bound(delta=DELTA, confidence=CONFIDENCE).epsilon,
    }


def main(arguments: list[str] | None = None) -> int:
    """Print one line a budget and number of candidates, write them if asked, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.candidates", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--candidates", type=int, nargs="+", default=[2, 32, 1000])
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cpu, rows = time.process_time(), []
    print(f"{'ε':>4} {'candidates':>10} {'right':>6} {'success':>8} {'allowed':>8} {'blind':>7} {'ε shown':>8}")
    for candidates in given.candidates:
        for epsilon in BUDGETS:
            found = row(epsilon, candidates=candidates, runs=given.runs)
            rows.append(found)
            print(
                f"{epsilon:4g} {candidates:10} {found['share right']:6.3f} {found['success']:8.4f} "
                f"{found['allowed']:8.4f} {found['blind']:7.4f} {found['epsilon shown']:8.3f}",
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
