"""Audit: measure from below what a computation loses, and hold it against the claim.

    from audit import audit
    report = audit(trainer, claim=config.process(), delta=1e-5, …)

Trainers: `dpsgd_trainer` (ours), `opacus_trainer` (a loop with Opacus as it stands), any function of your own from
`TrainerTask` to `Observations`. `audit_mechanism` asks any function of a dataset; `lower_bound_from_file` reads scores.
A new estimator or attack is one new file under `estimators/` or `attacks/`; nothing else is edited. Importing this
package loads neither torch nor matplotlib: names come from their modules on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audit.attack import Attack, FinalModel, Observations, Public, Trainer, TrainerTask, attacks
    from audit.black_box import audit_mechanism, mechanism_lower_bound
    from audit.canaries import Canaries, GradientCanaries, InputCanaries, SignedCoordinates, signed_coordinates
    from audit.core.faults import TrainerFault
    from audit.estimators.anytime import GuessConfidenceSequence
    from audit.estimators.anytime_gdp import GDPConfidenceSequence
    from audit.estimators.anytime_normal import NormalConfidenceSequence
    from audit.evidence import Estimator, LowerBound, estimators
    from audit.harness import audit
    from audit.multiplicity import combined, joint_confidence, refutes, shared_confidences
    from audit.noise_families import NoiseFamily, TradeoffCurve
    from audit.opacus import opacus_trainer
    from audit.report import AccountantAnswer, AuditReport
    from audit.runs import Setup, observe_independent_runs, observe_one_run
    from audit.score_files import lower_bound_from_file
    from audit.scores import GuessExtremes, IndependentRuns, LabelledScores, OneRun, Scores, Stream, Threshold
    from audit.trainers import dpsgd_trainer

_HOMES = {
    "AccountantAnswer": "report",
    "Attack": "attack",
    "AuditReport": "report",
    "Canaries": "canaries",
    "Estimator": "evidence",
    "FinalModel": "attack",
    "GDPConfidenceSequence": "estimators.anytime_gdp",
    "GradientCanaries": "canaries",
    "GuessConfidenceSequence": "estimators.anytime",
    "GuessExtremes": "scores",
    "IndependentRuns": "scores",
    "InputCanaries": "canaries",
    "LabelledScores": "scores",
    "LowerBound": "evidence",
    "NoiseFamily": "noise_families",
    "NormalConfidenceSequence": "estimators.anytime_normal",
    "Observations": "attack",
    "OneRun": "scores",
    "Public": "attack",
    "Scores": "scores",
    "Setup": "runs",
    "SignedCoordinates": "canaries",
    "Stream": "scores",
    "Threshold": "scores",
    "TradeoffCurve": "noise_families",
    "Trainer": "attack",
    "TrainerFault": "core.faults",
    "TrainerTask": "attack",
    "attacks": "attack",
    "audit": "harness",
    "audit_mechanism": "black_box",
    "combined": "multiplicity",
    "dpsgd_trainer": "trainers",
    "estimators": "evidence",
    "joint_confidence": "multiplicity",
    "lower_bound_from_file": "score_files",
    "mechanism_lower_bound": "black_box",
    "observe_independent_runs": "runs",
    "observe_one_run": "runs",
    "opacus_trainer": "opacus",
    "refutes": "multiplicity",
    "shared_confidences": "multiplicity",
    "signed_coordinates": "canaries",
}

__all__ = [
    "AccountantAnswer",
    "Attack",
    "AuditReport",
    "Canaries",
    "Estimator",
    "FinalModel",
    "GDPConfidenceSequence",
    "GradientCanaries",
    "GuessConfidenceSequence",
    "GuessExtremes",
    "IndependentRuns",
    "InputCanaries",
    "LabelledScores",
    "LowerBound",
    "NoiseFamily",
    "NormalConfidenceSequence",
    "Observations",
    "OneRun",
    "Public",
    "Scores",
    "Setup",
    "SignedCoordinates",
    "Stream",
    "Threshold",
    "TradeoffCurve",
    "Trainer",
    "TrainerFault",
    "TrainerTask",
    "attacks",
    "audit",
    "audit_mechanism",
    "combined",
    "dpsgd_trainer",
    "estimators",
    "joint_confidence",
    "lower_bound_from_file",
    "mechanism_lower_bound",
    "observe_independent_runs",
    "observe_one_run",
    "opacus_trainer",
    "refutes",
    "shared_confidences",
    "signed_coordinates",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'audit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"audit.{_HOMES[name]}"), name)
