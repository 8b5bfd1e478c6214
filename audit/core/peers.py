"""Auditors of other libraries that are installed, for the test bench; those that are not are left out by name.

[JP] google-deepmind/jax_privacy, jax_privacy.auditing.CanaryScoreAuditor.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

from audit.core.auditors import BoundAuditor
from audit.scores import IndependentRuns, OneRun

if TYPE_CHECKING:
    from audit.core.law import Array

LEAST_DELTA = 1e-12  # stands for δ = 0, which [JP] refuses: a bound at a larger δ is no larger
PEERS = ("jax_privacy",)


def installed() -> tuple[str, ...]:
    """Return which of `PEERS` can be imported."""
    return tuple(name for name in PEERS if importlib.util.find_spec(name) is not None)


def peer_auditors() -> dict[str, BoundAuditor]:
    """Return the auditors of the peers that are installed, as their documentation says they are to be used.

    Both of one run, and that of Clopper and Pearson, choose their threshold by the default strategy, `Bonferroni()`.
    """
    return _jax_privacy() if "jax_privacy" in installed() else {}


def _jax_privacy() -> dict[str, BoundAuditor]:
    CanaryScoreAuditor = importlib.import_module("jax_privacy.auditing").CanaryScoreAuditor

    def clopper_pearson(inside: Array, outside: Array, delta: float, confidence: float) -> float:
        return float(CanaryScoreAuditor(inside, outside).epsilon_clopper_pearson(1 - confidence, delta))

    def gdp(inside: Array, outside: Array, delta: float, confidence: float) -> float:
        return float(CanaryScoreAuditor(inside, outside).epsilon_from_gdp(1 - confidence, delta))

    def one_run(inside: Array, outside: Array, delta: float, confidence: float) -> float:
        delta = max(delta, LEAST_DELTA)
        return float(CanaryScoreAuditor(inside, outside).epsilon_one_run(1 - confidence, delta))

    def one_run_fdp(inside: Array, outside: Array, delta: float, confidence: float) -> float:
        return float(CanaryScoreAuditor(inside, outside).epsilon_one_run_fdp(1 - confidence, delta))

    found = (
        BoundAuditor(
            name="jax.clopper_pearson",
            guarantee="frequentist",
            null="privacy",
            designs=(IndependentRuns,),
            bound=clopper_pearson,
        ),
        BoundAuditor(name="jax.gdp", guarantee="parametric", null="gdp", designs=(IndependentRuns,), bound=gdp),
        BoundAuditor(name="jax.one_run", guarantee="frequentist", null="privacy", designs=(OneRun,), bound=one_run),
        BoundAuditor(name="jax.one_run_fdp", guarantee="frequentist", null="gdp", designs=(OneRun,), bound=one_run_fdp),
    )
    return {one.name: one for one in found}
