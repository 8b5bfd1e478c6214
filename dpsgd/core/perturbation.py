"""Private minimisers of strongly convex objectives: output and objective perturbation, executed and described.

L bounds the gradient of one record's loss, β its second derivative, Λ the strong convexity; the records' losses are
added up, not averaged, so that no number of records enters. γ bounds ‖∇J‖ where the minimiser is stopped.

* *Output perturbation*: one record less moves the exact minimiser by at most L/Λ, as Λ ‖w − w'‖ <= ‖g(w)‖, and one
  replaced by 2L/Λ [CMS11]; the two minimisers that are computed lie γ/Λ at most from the exact ones.
* *Objective perturbation*: see `mechanisms.objective_perturbation`. What is released is not the exact minimiser but
  one that differs by at most γ/Λ, plus noise of its own for that difference, which so is a query that moves by at most
  2γ/Λ between neighbours, given the exact minimiser: approximate minima perturbation [INSTTW19].

Normal noise where δ > 0. Where δ = 0, noise with density ∝ e^{−‖v‖/s}, with which a movement by m costs m/s of ε, and
in an objective log(1 + β/Λ) more [CMS11].

[CMS11] K. Chaudhuri, C. Monteleoni, A. Sarwate. Differentially Private Empirical Risk Minimization. JMLR 12 (2011).
arXiv:0912.0071.
[INSTTW19] R. Iyengar, J. Near, D. Song, O. Thakkar, A. Thakurta, L. Wang. Towards Practical Differentially Private
Convex Optimization. IEEE S&P 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dpsgd.core.convex import Floats, Loss, Objective, minimiser
from mechanisms import Adjacency, Compose, Gaussian, InvalidParameter, Process, PureDP, Repeat, Source
from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, log1p
from mechanisms.core.errors import NumericalFailure
from mechanisms.core.randomness import normals, uniforms
from mechanisms.objective_perturbation import ObjectivePerturbation

METHODS = ("objective", "output")
FAINTER = 30.0  # times the noise multiplier of an objective is that of the gap, which so costs a thousandth of ε
GAP_SHARE = 0.01  # of ε for the gap, where δ = 0
FINER = 32  # binary digits that released weights are finer than the scale of noise in float64
LARGEST_NOISE, LEAST_DELTA = 1e9, 1e-320
NUDGE, MOST_NUDGES = 5e-4, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """How linear models are made private: which method, for what budget, under which public bounds.

    Args:
        method: "objective" or "output".
        epsilon: ε > 0 of all fits together.
        delta: δ in [0, 1) of all fits together; 0 asks for a pure guarantee.
        adjacency: the neighbours that ε and δ are about.
        fits: how many models are fitted to the same records, >= 1.
        loss: f.
        feature_norm: bound of ‖x_i‖, > 0, to which features are clipped.
        ridge: Λ > 0.
        tolerance: γ ÷ L, in (0, 1).

    Raises:
        InvalidParameter: if a value breaks its rule, or ε is too small for an objective so curved.
    """

    method: str
    epsilon: float
    delta: float
    adjacency: Adjacency
    fits: int
    loss: Loss
    feature_norm: float
    ridge: float
    tolerance: float

    def __post_init__(self) -> None:
        checked = {
            "method": validate.choice("Perturbation", "method", self.method, METHODS),
            "epsilon": validate.positive("Perturbation", "epsilon", self.epsilon),
            "delta": validate.probability("Perturbation", "delta", self.delta),
            "adjacency": Adjacency.parse(self.adjacency),
            "fits": validate.count("Perturbation", "fits", self.fits, least=1),
            "feature_norm": validate.positive("Perturbation", "feature_norm", self.feature_norm),
            "ridge": validate.positive("Perturbation", "ridge", self.ridge),
            "tolerance": validate.positive("Perturbation", "tolerance", self.tolerance),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.delta == 1.0 or self.tolerance >= 1.0:
            raise InvalidParameter(
                f"Perturbation: delta and tolerance must be below 1, got {self.delta} and {self.tolerance}."
            )
        if self.method == "objective" and not self._share > self._volume.upper:
            raise InvalidParameter(
                f"Perturbation: epsilon must exceed {self.fits * self._volume.upper:.6g} = fits · log(1 + β/Λ) for "
                f"method='objective', got {self.epsilon}.\n"
                "Regularise more (a smaller C, a larger alpha), or use method='output'."
            )

    @property
    def process(self) -> Process:
        """The description of all fits, for any accountant."""
        return self.one_fit if self.fits == 1 else Repeat(self.one_fit, self.fits)

    @property
    def one_fit(self) -> Process:
        """The description of one fit, with hardly more noise than the promise needs."""
        if self.delta == 0:
            return PureDP(epsilon=self._share, adjacency=self.adjacency)
        noise = _noise_multiplier(self)
        return Gaussian(noise_multiplier=noise) if self.method == "output" else self._perturbed(noise)

    def minimise(self, features: Floats, targets: Floats, randomness: Source) -> Floats:
        """Return private weights, shape (d,), of one fit.

        Args:
            features: x_i, shape (n, d), every norm at most `feature_norm`.
            targets: y_i, shape (n,).
            randomness: a `SystemSource` for real releases.

        Guarantees: what `one_fit` describes; where δ > 0 with the guarantees of `Gaussian.release`, floating-point
        attacks included. Where δ = 0 the noise is float64, and not exactly of its law; weights are rounded to about
        2^-32 of its scale, so that their last digits do not show those of the minimiser.

        Raises:
            NumericalFailure: if the minimiser is not certified to `tolerance`, see `dpsgd.core.convex.minimiser`.
        """
        gap, linear = self._gap, np.zeros(features.shape[1])
        if self.method == "objective":
            share = self._share - self._gap_epsilon
            linear = self._noisy(linear, self._gradient_bound, share, True, randomness)
        objective = Objective(
            loss=self.loss,
            features=features,
            targets=targets,
            ridge=self.ridge,
            linear=linear,
            feature_norm=self.feature_norm,
        )
        found = minimiser(objective, tolerance=self.tolerance * self.feature_norm * self.loss.largest_slope)
        if self.method == "objective":
            return self._noisy(found, gap, self._gap_epsilon, False, randomness)
        moved = self._gradient_bound / self.ridge + gap
        return self._noisy(found, moved, self._share, False, randomness)

    def _noisy(self, value: Floats, moved: Bounds, epsilon: float, inside: bool, randomness: Source) -> Floats:
        """Return `value` with noise for what one record moves by `moved`, inside an objective or on a minimiser.

        The mechanism itself adds its noise: on a float sum of both the minimiser's last digits would show through.
        """
        if self.delta > 0:
            noise = _noise_multiplier(self)
            gap = self.method == "objective" and not inside
            mechanism = Gaussian(noise_multiplier=FAINTER * noise if gap else noise)
            noisy = mechanism.release(value, sensitivity=float(moved.upper), randomness=randomness)
            return np.asarray(noisy, dtype=np.float64)
        times = 2.0 if self.adjacency is Adjacency.REPLACE_ONE else 1.0
        left = Bounds.exact(epsilon) - (self._volume if inside else 0.0)
        scale = float((times * moved / left).upper)
        unit = 2.0 ** (math.frexp(scale)[1] - FINER)
        return np.rint((value + gamma_norm_noise(len(value), scale=scale, randomness=randomness)) / unit) * unit

    def _perturbed(self, noise: float) -> Compose:
        """Return one objective perturbation and the noise of its gap."""
        ratio = float((self._bend_bound / self.ridge).upper)
        step = ObjectivePerturbation(noise_multiplier=noise, curvature_ratio=ratio, slopes=self.loss.slopes)
        return Compose((step, Gaussian(noise_multiplier=FAINTER * noise)))

    @property
    def _share(self) -> float:
        return float((Bounds.exact(self.epsilon) / float(self.fits)).lower)

    @property
    def _gap_epsilon(self) -> float:
        return GAP_SHARE * (self._share - float(self._volume.upper))

    @property
    def _gradient_bound(self) -> Bounds:
        """L."""
        return Bounds.exact(self.feature_norm) * self.loss.largest_slope

    @property
    def _bend_bound(self) -> Bounds:
        """β."""
        return Bounds.exact(self.feature_norm) * self.feature_norm * self.loss.largest_bend

    @property
    def _volume(self) -> Bounds:
        """log(1 + β/Λ)."""
        return log1p(self._bend_bound / self.ridge)

    @property
    def _gap(self) -> Bounds:
        """2γ/Λ."""
        return 2.0 * self.tolerance * self._gradient_bound / self.ridge


@lru_cache(maxsize=256)
def _noise_multiplier(plan: Perturbation) -> float:
    """Return a noise multiplier with which all fits keep (ε, δ), certified: the least one, to a relative 1e-3."""
    from accountant import calibrate_noise_multiplier, compute_delta
    from accountant.core.root import boundary

    adjacency = plan.adjacency.value
    start = calibrate_noise_multiplier(
        target_epsilon=plan.epsilon, delta=plan.delta, steps=plan.fits, adjacency=adjacency
    )
    if plan.method == "output":
        return start

    def kept(noise: float) -> bool:
        process = Repeat(plan._perturbed(noise), plan.fits)
        return compute_delta(process, epsilon=plan.epsilon, adjacency=adjacency) <= plan.delta

    def excess(noise: float) -> float:
        if plan.fits > 1:
            found = compute_delta(Repeat(plan._perturbed(noise), plan.fits), epsilon=plan.epsilon, adjacency=adjacency)
        else:  # without the noise of the gap: of one step, in closed form
            pairs = plan._perturbed(noise).parts[0].pairs(plan.adjacency).values()
            found = max(float(pair.delta(Bounds.exact(plan.epsilon)).upper) for pair in pairs)
        return math.log(max(found, LEAST_DELTA)) - math.log(plan.delta)

    found = boundary(excess, 1.1 * start, safe=+1.0)
    for nudge in range(MOST_NUDGES):
        if found is None or found > LARGEST_NOISE:
            break
        if kept(found):
            return found
        found *= 1.0 + NUDGE * 2.0**nudge
    raise NumericalFailure(
        "Perturbation: no noise up to 1e9 is certified to keep the promise. Raise epsilon or delta, regularise more, "
        "or use method='output'."
    )


def gamma_norm_noise(width: int, *, scale: float, randomness: Source) -> Floats:
    """Return noise with density ∝ e^{−‖v‖/scale}, shape (width,): a uniform direction, a Gamma(width) norm   [CMS11].

    Guarantees: made in float64 from `randomness`; float noise is not exactly of this density, and no claim of the
    accountants covers that gap.

    >>> from mechanisms import KeyedSource
    >>> gamma_norm_noise(3, scale=1.0, randomness=KeyedSource(0)).shape
    (3,)
    """
    stream = "gamma_norm"
    start = randomness.reserve(f"{stream}_direction", 4 * (width + width % 2)) // 2
    direction = normals(randomness, f"{stream}_direction", start, width)
    words = randomness.words(f"{stream}_radius", randomness.reserve(f"{stream}_radius", 2 * width), 2 * width)
    radius = -float(np.sum(np.log(uniforms(words))))
    return scale * radius * direction / np.linalg.norm(direction)
