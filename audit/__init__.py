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
    from audit.attack import Attack, FinalModel, Observations, Public, Trainer, TrainerTask
    from audit.attacks.closed_form import ClosedForm, reconstructed_record
    from audit.attacks.crafted import RehearsedLoss
    from audit.black_box import audit_mechanism, mechanism_lower_bound
    from audit.canaries import Canaries, GradientCanaries, InputCanaries, SignedCoordinates, signed_coordinates
    from audit.candidates import CandidateGuesses, Risk, risk
    from audit.core.auditors import BoundAuditor
    from audit.core.cost import Cost
    from audit.core.faults import TrainerFailure, TrainerFault, TrainerRefusal
    from audit.core.jobs import Job
    from audit.coverage import Coverage
    from audit.crafted import detector, rehearsed
    from audit.directions import Directions, directions_across_layers, orthogonal_directions, random_directions
    from audit.estimators.anytime import GuessConfidenceSequence
    from audit.estimators.anytime_gdp import GDPConfidenceSequence
    from audit.estimators.anytime_normal import NormalConfidenceSequence
    from audit.evidence import Estimator, LowerBound
    from audit.guessing import LIKELIEST, audit_guesses, observe_guesses
    from audit.harness import audit
    from audit.input_canaries import blank, least_variance, mislabelled, uniform_noise, with_attribute
    from audit.interference import explained_share, predicted_interference
    from audit.multiplicity import combined, joint_confidence, refutes, shared_confidences
    from audit.noise_families import NoiseFamily, TradeoffCurve
    from audit.opacus import opacus_trainer
    from audit.pictures import JawsPath, Pictures, RiskCurve, RocCurve, ScoreHistogram, WealthPath
    from audit.replay import (
        Additive,
        Neighbours,
        ReplayFinding,
        ReplayReport,
        Steps,
        array_neighbours,
        flipped_canaries,
        replay_mechanism,
        replay_training,
    )
    from audit.report import AccountantAnswer, AuditReport, FailedEstimator
    from audit.roc import area_under_curve, true_positive_rate
    from audit.runs import Setup, observe_independent_runs, observe_one_run
    from audit.score_files import lower_bound_from_file
    from audit.scores import GuessExtremes, IndependentRuns, LabelledScores, OneRun, Scores, Stream, Threshold
    from audit.shadow_references import shadow_references
    from audit.streaming import StreamingAudit
    from audit.sweeps import ClusterLost, MainJob, SweepReport, sweep
    from audit.trainers import dpsgd_trainer

_HOMES = {
    "AccountantAnswer": "report",
    "Additive": "replay",
    "Attack": "attack",
    "AuditReport": "report",
    "BoundAuditor": "core.auditors",
    "Canaries": "canaries",
    "CandidateGuesses": "candidates",
    "ClosedForm": "attacks.closed_form",
    "ClusterLost": "sweeps",
    "Cost": "core.cost",
    "Coverage": "coverage",
    "Directions": "directions",
    "Estimator": "evidence",
    "FailedEstimator": "report",
    "FinalModel": "attack",
    "GDPConfidenceSequence": "estimators.anytime_gdp",
    "GradientCanaries": "canaries",
    "GuessConfidenceSequence": "estimators.anytime",
    "GuessExtremes": "scores",
    "IndependentRuns": "scores",
    "InputCanaries": "canaries",
    "JawsPath": "pictures",
    "Job": "core.jobs",
    "LIKELIEST": "guessing",
    "LabelledScores": "scores",
    "LowerBound": "evidence",
    "MainJob": "sweeps",
    "Neighbours": "replay",
    "NoiseFamily": "noise_families",
    "NormalConfidenceSequence": "estimators.anytime_normal",
    "Observations": "attack",
    "OneRun": "scores",
    "Pictures": "pictures",
    "Public": "attack",
    "RehearsedLoss": "attacks.crafted",
    "ReplayFinding": "replay",
    "ReplayReport": "replay",
    "Risk": "candidates",
    "RiskCurve": "pictures",
    "RocCurve": "pictures",
    "ScoreHistogram": "pictures",
    "Scores": "scores",
    "Setup": "runs",
    "SignedCoordinates": "canaries",
    "Steps": "replay",
    "Stream": "scores",
    "StreamingAudit": "streaming",
    "SweepReport": "sweeps",
    "Threshold": "scores",
    "TradeoffCurve": "noise_families",
    "Trainer": "attack",
    "TrainerFailure": "core.faults",
    "TrainerFault": "core.faults",
    "TrainerRefusal": "core.faults",
    "TrainerTask": "attack",
    "WealthPath": "pictures",
    "area_under_curve": "roc",
    "array_neighbours": "replay",
    "audit": "harness",
    "audit_guesses": "guessing",
    "audit_mechanism": "black_box",
    "blank": "input_canaries",
    "combined": "multiplicity",
    "detector": "crafted",
    "dpsgd_trainer": "trainers",
    "explained_share": "interference",
    "flipped_canaries": "replay",
    "joint_confidence": "multiplicity",
    "least_variance": "input_canaries",
    "lower_bound_from_file": "score_files",
    "mechanism_lower_bound": "black_box",
    "mislabelled": "input_canaries",
    "observe_guesses": "guessing",
    "observe_independent_runs": "runs",
    "observe_one_run": "runs",
    "opacus_trainer": "opacus",
    "directions_across_layers": "directions",
    "orthogonal_directions": "directions",
    "predicted_interference": "interference",
    "random_directions": "directions",
    "reconstructed_record": "attacks.closed_form",
    "refutes": "multiplicity",
    "rehearsed": "crafted",
    "replay_mechanism": "replay",
    "replay_training": "replay",
    "risk": "candidates",
    "shadow_references": "shadow_references",
    "shared_confidences": "multiplicity",
    "signed_coordinates": "canaries",
    "sweep": "sweeps",
    "true_positive_rate": "roc",
    "uniform_noise": "input_canaries",
    "with_attribute": "input_canaries",
}

__all__ = [
    "LIKELIEST",
    "AccountantAnswer",
    "Additive",
    "Attack",
    "AuditReport",
    "BoundAuditor",
    "Canaries",
    "CandidateGuesses",
    "ClosedForm",
    "ClusterLost",
    "Cost",
    "Coverage",
    "Directions",
    "Estimator",
    "FailedEstimator",
    "FinalModel",
    "GDPConfidenceSequence",
    "GradientCanaries",
    "GuessConfidenceSequence",
    "GuessExtremes",
    "IndependentRuns",
    "InputCanaries",
    "JawsPath",
    "Job",
    "LabelledScores",
    "LowerBound",
    "MainJob",
    "Neighbours",
    "NoiseFamily",
    "NormalConfidenceSequence",
    "Observations",
    "OneRun",
    "Pictures",
    "Public",
    "RehearsedLoss",
    "ReplayFinding",
    "ReplayReport",
    "Risk",
    "RiskCurve",
    "RocCurve",
    "ScoreHistogram",
    "Scores",
    "Setup",
    "SignedCoordinates",
    "Steps",
    "Stream",
    "StreamingAudit",
    "SweepReport",
    "Threshold",
    "TradeoffCurve",
    "Trainer",
    "TrainerFailure",
    "TrainerFault",
    "TrainerRefusal",
    "TrainerTask",
    "WealthPath",
    "area_under_curve",
    "array_neighbours",
    "audit",
    "audit_guesses",
    "audit_mechanism",
    "blank",
    "combined",
    "detector",
    "directions_across_layers",
    "dpsgd_trainer",
    "explained_share",
    "flipped_canaries",
    "joint_confidence",
    "least_variance",
    "lower_bound_from_file",
    "mechanism_lower_bound",
    "mislabelled",
    "observe_guesses",
    "observe_independent_runs",
    "observe_one_run",
    "opacus_trainer",
    "orthogonal_directions",
    "predicted_interference",
    "random_directions",
    "reconstructed_record",
    "refutes",
    "rehearsed",
    "replay_mechanism",
    "replay_training",
    "risk",
    "shadow_references",
    "shared_confidences",
    "signed_coordinates",
    "sweep",
    "true_positive_rate",
    "uniform_noise",
    "with_attribute",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'audit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"audit.{_HOMES[name]}"), name)
