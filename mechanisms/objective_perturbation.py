"""Objective perturbation: a random linear term in a strongly convex objective, whose exact minimiser is released.

    w* = argmin_w Σ_i f_i(<x_i, w>) + (Λ/2) ‖w‖² + <b, w>,        b ~ N(0, σ² I)                   [CMS11, KST12]

The sum is not divided by the number of records, which so stays out of the guarantee. Every f_i is convex, its
derivative times ‖x_i‖ at most L in size, and Lipschitz with a constant that times ‖x_i‖² is at most β. With
κ = β/Λ and μ = L/σ the privacy loss is bounded as follows; [RKW23] treat the profile and the Rényi divergences of the
same mechanism, by other bounds. The proofs are given here in full, as they are nobody else's.

**One record less.** Let F be the objective without the record z, F' that with it, g(w) = f_z'(<x, w>) x, and w(b) the
minimiser of F + <b, ·>. The same w minimises F' + <T(b), ·> for T(b) = b − g(w(b)), so that without z the b that
belongs to the output has the law N(0, σ² I), and with z its T(b) has. T moves along x only: with b = t x/‖x‖ + b⊥
and b⊥ fixed, T is t ↦ h(t) = t − s(t), s = ‖x‖ f_z'(<x, w>). By strong convexity <x, w> falls with t, by at most
‖x‖/Λ a unit, and f_z' rises with it, so that s falls, by at most κ a unit:

    abs(s) <= L,        1 <= h' <= 1 + κ.

Both laws of b⊥ agree, so that the profile is at most the largest one of φ(t) against φ(h(t)) h'(t), φ = N(0, σ²).

* *Without against with it*: the loss is log φ(t)/φ(h(t)) − log h'(t) <= log φ(t)/φ(t − s). It is at most
  μ abs(z) + μ²/2, z = t/σ; where s has one sign, at most (μ z' + μ²/2)₊ for a standard normal z'.
* *With against without it*: in u = h(t), φ(u) against φ(v(u)) v'(u), where v(u) = u + s rises, v' >= 1/(1 + κ), and
  s falls as u rises. Let s change its sign at u₀ >= 0 (else mirror). Beyond u₀, 0 <= v(u) <= u and the loss is at most
  log(1 + κ); below it s lies in [0, L], and the loss is at most log(1 + κ) + (μ z' + μ²/2)₊ with z' = u/σ.

**One record replaced.** Through the objective without either, b moves to b + v, v = g(w) − g₂(w), ‖v‖ <= 2L, in the
plane of x and x₂, and the volume changes by factors in [1, 1 + κ] and [1/(1 + κ), 1]. So the loss is at most
log(1 + κ) + 2μ R + 2μ², R the norm of two standard normals.

What abs(s) <= L alone gives in Rényi orders, −log(1 − κ) + μ²/2 + log E exp((α − 1) μ abs(z)) / (α − 1), as such bounds
usually go, says an ε that is 4 to 66 % larger (μ in .05 to 3, κ in .01 to .5, δ in 1e-10 to 1e-3).

[CMS11] K. Chaudhuri, C. Monteleoni, A. Sarwate. Differentially Private Empirical Risk Minimization. JMLR 12 (2011).
arXiv:0912.0071.
[KST12] D. Kifer, A. Smith, A. Thakurta. Private Convex Empirical Risk Minimization and High-dimensional Regression.
COLT 2012.
[RKW23] R. Redberg, A. Koskela, Y.-X. Wang. Improving the Privacy and Practicality of Objective Perturbation for
Differentially Private Linear Learners. NeurIPS 2023. arXiv:2401.00583.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, log1p
from mechanisms.core.discrete_pair import DiscretePair
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.loss_bound import LossBoundPair
from mechanisms.core.mixtures import NONE
from mechanisms.core.pair import DominatingPair
from mechanisms.core.process import Adjacency, Mechanism, Pairs

SLOPES = ("one_signed", "two_signed")
LEAST_SHIFT = 1e-12  # a larger μ bounds the loss too, and of a smaller one floats can't tell the bins
LARGEST_SHIFT, LARGEST_OFFSET = 1e6, 500.0
"""μ and log(1 + κ) beyond which nothing is claimed: losses would leave the floats that their masses are kept in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectivePerturbation(Mechanism):
    """The exact minimiser of a strongly convex objective of a generalised linear model with a random linear term.

    It is described here and run by `dpsgd.linear`, which also accounts for a minimiser that is not exact.

    Args:
        noise_multiplier: σ/L >= 0, the noise's standard deviation ÷ the bound of one record's gradient.
        curvature_ratio: κ = β/Λ >= 0, the bound of one record's second derivative ÷ that of the strong convexity.
        slopes: "one_signed" if f_i' has the same sign everywhere (logistic loss), else "two_signed".

    Guarantees: dominating pairs under every adjacency, none of them attained, so that lower ends are 0. Noise below a
    millionth of L, or κ beyond e^500, is taken as no protection at all.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> step = ObjectivePerturbation(noise_multiplier=5.0, curvature_ratio=0.1, slopes="one_signed")
    >>> round(float(step.pairs(Adjacency.ADD_REMOVE)["remove"].delta(Bounds.exact(0.5)).upper), 6)
    0.001944
    """

    noise_multiplier: float
    curvature_ratio: float
    slopes: str

    def __post_init__(self) -> None:
        owner = "ObjectivePerturbation"
        noise = validate.non_negative(owner, "noise_multiplier", self.noise_multiplier)
        object.__setattr__(self, "noise_multiplier", noise)
        ratio = validate.non_negative(owner, "curvature_ratio", self.curvature_ratio)
        object.__setattr__(self, "curvature_ratio", ratio)
        validate.choice(owner, "slopes", self.slopes, SLOPES)

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the pairs of the bounds above: of the record removed, of it added, or of it replaced."""
        shift = (2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0) / Bounds.exact(self.noise_multiplier)
        volume = log1p(Bounds.exact(self.curvature_ratio)) if self.curvature_ratio else NONE
        if adjacency is Adjacency.REPLACE_ONE:
            return {"replace": _pair(shift, volume.clip(0.0, math.inf), "plane")}
        return {
            "remove": _pair(shift, volume.clip(0.0, math.inf), "one_signed"),
            "add": _pair(shift, NONE, self.slopes),
        }

    def release(self, value: Any, *, sensitivity: float, randomness: Any) -> NoReturn:
        """Refuse: the noise goes into an objective, not on a value.

        Raises:
            UnsupportedProcess: always.
        """
        raise UnsupportedProcess(
            "ObjectivePerturbation: it perturbs an objective and not a value. Use dpsgd.linear, whose models run it."
        )


def _pair(shift: Bounds, offset: Bounds, law: str) -> DominatingPair:
    if shift.upper > LARGEST_SHIFT or offset.upper > LARGEST_OFFSET:
        one = Bounds.exact(1.0)
        return DiscretePair(losses=(), masses=(), infinite_mass=one, missing_mass=one, attained=False)
    return LossBoundPair(shift=shift.clip(LEAST_SHIFT, math.inf), offset=offset, law=law)
