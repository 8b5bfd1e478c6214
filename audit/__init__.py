"""Audit: measure from below what a computation loses, and hold it against the claim.

    from audit import audit
    report = audit(trainer, claim=config.process(), delta=1e-5, …)

A new estimator or attack is one new file under `estimators/` or `attacks/`; nothing else is edited. Importing this
package loads neither torch nor matplotlib: names come from their modules on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audit.attack import Attack, Observations, Public, Trainer, TrainerTask, attacks
    from audit.black_box import mechanism_lower_bound
    from audit.canaries import SignedCoordinates, signed_coordinates
    from audit.estimators.anytime import GuessConfidenceSequence
    from audit.estimators.anytime_gdp import GDPConfidenceSequence
    from audit.estimators.anytime_normal import NormalConfidenceSequence
    from audit.evidence import Estimator, LowerBound, estimators
    from audit.harness import audit
    from audit.multiplicity import combined, joint_confidence, refutes, shared_confidences
    from audit.noise_families import NoiseFamily, TradeoffCurve
    from audit.report import AccountantAnswer, AuditReport
    from audit.runs import observe_independent_runs, observe_one_run
    from audit.scores import GuessExtremes, IndependentRuns, LabelledScores, OneRun, Scores, Stream, Threshold
    from audit.trainers import dpsgd_trainer

_HOMES = {
    "AccountantAnswer": "report",
    "Attack": "attack",
    "AuditReport": "report",
    "Estimator": "evidence",
    "GDPConfidenceSequence": "estimators.anytime_gdp",
    "GuessConfidenceSequence": "estimators.anytime",
    "GuessExtremes": "scores",
    "IndependentRuns": "scores",
    "LabelledScores": "scores",
    "LowerBound": "evidence",
    "NoiseFamily": "noise_families",
    "NormalConfidenceSequence": "estimators.anytime_normal",
    "Observations": "attack",
    "OneRun": "scores",
    "Public": "attack",
    "Scores": "scores",
    "SignedCoordinates": "canaries",
    "Stream": "scores",
    "Threshold": "scores",
    "TradeoffCurve": "noise_families",
    "Trainer": "attack",
    "TrainerTask": "attack",
    "attacks": "attack",
    "audit": "harness",
    "combined": "multiplicity",
    "dpsgd_trainer": "trainers",
    "estimators": "evidence",
    "joint_confidence": "multiplicity",
    "mechanism_lower_bound": "black_box",
    "observe_independent_runs": "runs",
    "observe_one_run": "runs",
    "refutes": "multiplicity",
    "shared_confidences": "multiplicity",
    "signed_coordinates": "canaries",
}

__all__ = [
    "AccountantAnswer",
    "Attack",
    "AuditReport",
    "Estimator",
    "GDPConfidenceSequence",
    "GuessConfidenceSequence",
    "GuessExtremes",
    "IndependentRuns",
    "LabelledScores",
    "LowerBound",
    "NoiseFamily",
    "NormalConfidenceSequence",
    "Observations",
    "OneRun",
    "Public",
    "Scores",
    "SignedCoordinates",
    "Stream",
    "Threshold",
    "TradeoffCurve",
    "Trainer",
    "TrainerTask",
    "attacks",
    "audit",
    "combined",
    "dpsgd_trainer",
    "estimators",
    "joint_confidence",
    "mechanism_lower_bound",
    "observe_independent_runs",
    "observe_one_run",
    "refutes",
    "shared_confidences",
    "signed_coordinates",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'audit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"audit.{_HOMES[name]}"), name)
