"""Both jaws along one run: what is claimed for its first steps, and what the primary would have shown after them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from accountant import Claim, epsilon_bounds
from audit.core.correlated import CorrelatedRun, correlated_run
from audit.core.described import SampledGaussianRun
from audit.core.plan import Plan, described_noise
from audit.evidence import LowerBound
from audit.pictures import JawsPath
from audit.runs import Setup
from audit.scores import LabelledScores
from mechanisms import Adjacency, NumericalFailure, Process, UnsupportedProcess

POINTS = 8  # each asks the accountant and the primary once more
Course = tuple[tuple[int, LabelledScores], ...]
"""(number of steps, labelled scores after them), rising, before the end."""


def looked_at(setup: Setup) -> tuple[int, ...]:
    """Return after how many steps to ask for scores before the end: nowhere, if the claim tells of no single steps.

    They depend on the claim alone, and what is found there on no choice.
    """
    described = _described(setup.process)
    if described is None or setup.attack.sees != "steps":
        return ()
    places = np.unique(np.round(np.linspace(0, described.steps, POINTS + 1)).astype(int))
    return tuple(int(step) for step in places[1:-1])


def jaws_path(setup: Setup, plan: Plan, before: Course, *, claimed: Claim, evidence: LowerBound) -> JawsPath | None:
    """Return the path, whose last point is claim and evidence of the report; None where there is none before.

    Every point holds by itself at the primary's confidence, not all of them together: they decide nothing.

    Args:
        setup: of the run.
        plan: of the audit.
        before: scores after the steps of `looked_at`.
        claimed: of the whole run.
        evidence: of the primary, on the whole run.
    """
    described = _described(setup.process)
    if not before or described is None:
        return None
    points: list[tuple[int, float, float]] = []
    try:
        for step, data in before:
            part = described.first(step)
            shown = plan.primary.epsilon(data, process=part, delta=plan.delta, confidence=plan.primary_confidence)
            points.append((step, _upper(part, plan.delta, plan.adjacency), shown))
    except (UnsupportedProcess, NumericalFailure):
        return None
    points.append((described.steps, float(claimed.upper), evidence.epsilon))
    steps, uppers, bounds = zip(*points, strict=True)
    return JawsPath(steps=steps, claimed=uppers, evidence=bounds)


def _described(process: Process | None) -> SampledGaussianRun | CorrelatedRun | None:
    """Return the run of equal steps on Poisson samples, or of correlated noise, that a claim is."""
    return None if process is None else described_noise(process) or correlated_run(process)


@lru_cache(maxsize=256)
def _upper(process: Process, delta: float, adjacency: Adjacency) -> float:
    return float(epsilon_bounds(process, delta=delta, adjacency=adjacency).upper)
