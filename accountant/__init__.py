"""Accountants: what a computation promises, as certified bounds of its privacy loss.

    from accountant import compute_epsilon
    compute_epsilon(noise_multiplier=1.1, sample_rate=0.01, steps=10_000, delta=1e-5)

A new accountant is one new file beside `basic.py`; nothing else is edited.
"""

from accountant.calibrate import (
    calibrate_delta,
    calibrate_noise_multiplier,
    calibrate_sample_rate,
    calibrate_steps,
)
from accountant.core.ask import compute_delta, compute_epsilon, delta_bounds, dp_sgd, epsilon_bounds, estimate_epsilon
from accountant.core.base import Accountant, available
from accountant.core.curve import Curve
from accountant.core.estimate import Estimate
from accountant.core.ledger import ErrorLine
from accountant.core.monte_carlo import MonteCarloBounds, balls_in_bins_estimate, delta_from_losses
from accountant.core.profile import Claim, Profile
from accountant.filters import ApproximateDPFilter, GDPFilter, RenyiFilter, ZCDPFilter
from accountant.odometer import Odometer

__all__ = [
    "Accountant",
    "ApproximateDPFilter",
    "Claim",
    "Curve",
    "ErrorLine",
    "Estimate",
    "GDPFilter",
    "MonteCarloBounds",
    "Odometer",
    "Profile",
    "RenyiFilter",
    "ZCDPFilter",
    "available",
    "balls_in_bins_estimate",
    "calibrate_delta",
    "calibrate_noise_multiplier",
    "calibrate_sample_rate",
    "calibrate_steps",
    "compute_delta",
    "compute_epsilon",
    "delta_bounds",
    "delta_from_losses",
    "dp_sgd",
    "epsilon_bounds",
    "estimate_epsilon",
]
