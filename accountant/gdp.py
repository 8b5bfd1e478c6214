"""Exact accounting of Gaussian mechanisms: a composition of Gaussians is one Gaussian.

[DRS22] J. Dong, A. Roth, W. Su. Gaussian Differential Privacy. JRSS B 84 (2022). arXiv:1905.02383.
[BDLS20] Z. Bu, J. Dong, Q. Long, W. Su. Deep Learning with Gaussian Differential Privacy. Harvard Data Science Review
2 (2020). arXiv:1911.11607.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np
import scipy

from accountant.core.base import Accountant, Steps, steps
from accountant.core.curve import Curve
from accountant.core.estimate import Estimate
from accountant.core.ledger import Ledger, rounding
from accountant.core.profile import Profile
from mechanisms.core import validate
from mechanisms.core.bounds import Array, Bounds, ndtr
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.mixtures import NormalMixture
from mechanisms.core.pair import UNIT_ROUNDOFF
from mechanisms.core.process import Adjacency, Process
from mechanisms.gaussian import GaussianPair

NEWTON_STEPS = 64
VALIDITY = "in the limit of many steps with small sampling probability; it tends to be too small, and is no bound"
QUANTILE_ERROR = 2e-14  # of Φ⁻¹, by more than the error of Φ itself, where that is no more than steep
LEAST_LEVEL = 1e-290  # α below it has that one's lower end
SMALLEST, LARGEST = 1e-12, 1e12  # shifts between which ε is solved for
FLAT = 1e6  # beyond which e^ε Φ(−μ/2 − ε/μ), of two numbers of μ²/2, has no digits left, and matters little


@dataclass(frozen=True, slots=True)
class GDP(Accountant):
    """Gaussian differential privacy: μ = (Σ μ_i²)^½, then δ(ε) of one Gaussian             [DRS22].

    Use it for unsampled Gaussian mechanisms, of which it says all there is to say; for sampled ones `contour` or `pld`.

    Assumes unsampled Gaussians of any noise multipliers. Guarantees: exact up to the rounding of floats. Lower ends are
    0 where a step's pair is not attained. It refuses the case of Abadi et al. (σ = 4, q = .01, 10,000 steps,
    δ = 1e-5), which samples: the estimate by the central limit theorem is 0.5 % below the truth there, .946867.

    >>> from mechanisms import Gaussian, Repeat
    >>> profile = GDP().profile(Repeat(Gaussian(noise_multiplier=10.0), 100), adjacency=Adjacency.ADD_REMOVE)
    >>> profile.epsilon(1e-5).contains(4.3771780956812246)
    True
    >>> from accountant import dp_sgd
    >>> abadi = dp_sgd(noise_multiplier=4.0, sample_rate=0.01, steps=10_000)
    >>> round(GDP().estimate(abadi, delta=1e-5, adjacency=Adjacency.ADD_REMOVE).value, 4)
    0.9424
    """

    exact: ClassVar[bool] = True

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the exact profile.

        Raises:
            UnsupportedProcess: if a step is anything but an unsampled Gaussian.
        """
        curves = tuple((d, _curve(parts)) for d, parts in steps(process, adjacency).items() if parts)
        return Profile(curves=curves, adjacency=adjacency, method=self.name)

    def estimate(self, process: Process, *, delta: float, adjacency: Adjacency) -> Estimate:
        """Return the ε of the Gaussian that many Poisson-sampled Gaussians come near to: too small for few steps.

            μ² = Σ n_i q_i² (e^{μ_i²} − 1)                                            [BDLS20]

        Raises:
            UnsupportedProcess: if a step is no Gaussian, sampled or not.
        """
        delta = validate.positive("gdp", "delta", validate.probability("gdp", "delta", delta))
        (parts, *_) = steps(process, adjacency).values()
        square = 0.0
        for pair, times in parts:
            mixture = pair.mixture
            if not isinstance(mixture, NormalMixture):
                raise UnsupportedProcess(f"gdp: its central limit is for Gaussians, got {type(pair).__name__}.")
            one = min(float(mixture.shift.upper) ** 2, 700.0)
            square += times * (one if mixture.probability == 1.0 else mixture.probability**2 * math.expm1(one))
        curve = GaussianCurve(pair=GaussianPair(shift=Bounds.exact(max(math.sqrt(square), 1e-150)), attained=False))
        value = curve.guess(delta) if delta < 1.0 else 0.0
        return Estimate(value=value, method=self.name, validity=VALIDITY)


@dataclass(frozen=True, slots=True)
class GaussianCurve(Curve):
    """δ(ε) of one Gaussian pair."""

    pair: GaussianPair

    @property
    def supremum(self) -> Bounds:
        """Infinite."""
        return self.pair.supremum

    @property
    def lost(self) -> Bounds:
        """0."""
        return self.pair.infinite_mass

    def delta(self, epsilon: Array) -> Bounds:
        """δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ); from 0 on where the pair is not attained."""
        found = self.pair.delta(Bounds.exact(epsilon))
        return found if self.pair.attained else Bounds(lower=np.zeros_like(found.upper), upper=found.upper)

    def tradeoff(self, alpha: Array) -> Bounds:
        """Φ(Φ⁻¹(1 − α) − μ)                                        [DRS22].

        Its slope is −e^{μ z − μ²/2} at z = Φ⁻¹(1 − α), found by the inverse and enclosed by Φ itself.
        """
        most = np.maximum((1.0 - Bounds.exact(alpha)).upper, 0.0)
        found = ndtr(_quantile(alpha) - self.pair.shift).clip(0.0, most)
        return found if self.pair.attained else Bounds(lower=found.lower, upper=np.maximum(found.lower, most))

    def ledger(self, epsilon: float) -> Ledger:
        """Return the rounding of floats."""
        return rounding(self.pair.delta(Bounds.exact(epsilon)))

    def guess(self, delta: float) -> float:
        """Solve log δ(ε) = log δ by Newton's method from above, in plain floats."""
        mu, log_delta = float(self.pair.shift.upper), math.log(delta)
        if not SMALLEST < mu < LARGEST:
            return 0.0 if mu <= SMALLEST else mu * mu / 2 if mu < 1e150 else 1e300
        if mu > FLAT:
            return mu * mu / 2 - mu * float(scipy.special.ndtri_exp(log_delta))
        epsilon = mu * mu / 2 + mu * math.sqrt(-2 * log_delta)
        for _ in range(NEWTON_STEPS):
            log_p = scipy.special.log_ndtr(mu / 2 - epsilon / mu)
            log_q = epsilon + scipy.special.log_ndtr(-mu / 2 - epsilon / mu)
            gap = -math.expm1(min(log_q - log_p, -1e-16))
            step = (log_p + math.log(gap) - log_delta) * gap / max(math.exp(min(log_q - log_p, 0.0)), 1e-300)
            last, epsilon = epsilon, max(0.0, epsilon + float(step))
            if not abs(epsilon - last) > 1e-15 * epsilon:
                break
        return epsilon if math.isfinite(epsilon) else 1.0


def _quantile(alpha: Array) -> Bounds:
    """Enclose Φ⁻¹(1 − α) = −Φ⁻¹(α), infinite at 0 and 1, between two points where Φ(−z) is certainly on either side."""
    level = np.clip(alpha, LEAST_LEVEL, 1.0 - UNIT_ROUNDOFF)
    middle = -scipy.special.ndtri(level)
    steepness = np.exp(-0.5 * middle**2) / math.sqrt(2 * math.pi)
    away = QUANTILE_ERROR * (1.0 + np.abs(middle)) * np.maximum(1.0, level / steepness)
    above, below = ndtr(Bounds.exact(away - middle)).lower, ndtr(Bounds.exact(-away - middle)).upper
    lower = np.where(above >= np.maximum(alpha, level), middle - away, -np.inf)
    lower[alpha == 0.0] = np.inf
    return Bounds(lower=lower, upper=np.where(below <= alpha, middle + away, np.inf))


def _curve(parts: Steps) -> Curve:
    powers = []
    for pair, times in parts:
        if not isinstance(pair, GaussianPair):
            raise UnsupportedProcess(
                f"gdp: exact only for Gaussian mechanisms without sampling, got {type(pair).__name__}. "
                "Use accountant='pld', which brackets any pair."
            )
        powers.append(pair.power(times))
    return GaussianCurve(pair=reduce(GaussianPair.times, powers))
