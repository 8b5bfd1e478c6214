"""Filters and odometers: accounting for steps that are chosen as one goes, their parameters by the outputs so far.

Sums of prices known in advance say nothing here: how much noise the next step has may depend on what was seen. Let L be
the privacy loss of all outputs so far and ρ_m the Rényi divergence of order α of step m, given the past. Then

    M_n = exp((α − 1) (L_n − Σ_{m <= n} ρ_m))

is a supermartingale under the first neighbour's outputs, starting at 1, whoever chooses the steps. A **filter** allows
steps while Σ ρ_m stays within a budget B fixed before the run, so that E[e^{(α−1)L}] <= e^{(α−1)B}: the whole run has
Rényi divergence B at most [FZ21]. An **odometer** has no budget: by Ville's inequality Pr[M_n >= 1/δ at any n] <= δ,
so that its ε holds at all times at once [WRRW23]. The order α must be fixed before the run, too: with several, the
best one in the end would itself be a choice by the outputs.

[FZ21] V. Feldman, T. Zrnic. Individual Privacy Accounting via a Rényi Filter. NeurIPS 2021. arXiv:2008.11193.
[WRRW23] J. Whitehouse, A. Ramdas, R. Rogers, Z. S. Wu. Fully-Adaptive Composition in Differential Privacy. ICML 2023.
arXiv:2203.05481.
[ST22] A. Smith, A. Thakurta. Fully Adaptive Composition for Gaussian Differential Privacy. 2022. arXiv:2210.17520.
[KTH23] A. Koskela, M. Tobaben, A. Honkela. Individual Privacy Accounting with Gaussian Differential Privacy. ICLR 2023.
arXiv:2209.15596.
[BS16] M. Bun, T. Steinke. Concentrated Differential Privacy. TCC 2016. arXiv:1605.02065.
[CKS20] see `accountant.rdp`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from accountant.core.adaptive import (
    Conversion,
    Filter,
    Step,
    concentration,
    divergences,
    gaussian_squares,
    guarantee,
    number,
    rho,
    room,
    square,
    whole,
)
from accountant.core.adaptive import order as checked_order
from accountant.core.adaptive import target as checked_target
from accountant.core.gaussian_shifts import gaussian_square
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency, Process


@dataclass(slots=True, kw_only=True, eq=False)
class RenyiFilter(Filter):
    """A budget of Rényi divergence at one order, fixed before the run: Σ D_α(step) <= budget           [FZ21].

    Args:
        budget: B >= 0.
        order: α > 1.
        adjacency: the neighbours that the guarantee is about.

    Guarantees: the run as a whole has Rényi divergence of order α of at most B between neighbours, in either order.
    A step is a process, priced at the larger of its directions, or a number: its divergence of order α, bounded given
    all outputs before it. Sums are exact.

    >>> from mechanisms import Gaussian
    >>> left = RenyiFilter(budget=1.0, order=8.0, adjacency="add_remove")
    >>> left.spend(Gaussian(noise_multiplier=3.0))
    >>> left.allows(0.5), left.allows(Gaussian(noise_multiplier=2.0)), round(left.epsilon(1e-5), 2)
    (True, False, 2.21)
    """

    budget: float
    order: float
    adjacency: Adjacency
    _limits: tuple[int, ...] = field(init=False, repr=False)
    _spent: tuple[int, ...] = field(init=False, repr=False, default=(0,))

    def __post_init__(self) -> None:
        self.budget = validate.non_negative("RenyiFilter", "budget", self.budget)
        self.order = checked_order("RenyiFilter", self.order)
        self.adjacency = Adjacency.parse(self.adjacency)
        self._limits = (whole(self.budget),)

    @classmethod
    def within(cls, *, epsilon: float, delta: float, order: float, adjacency: Adjacency | str) -> RenyiFilter:
        """Return the filter of this order whose whole budget keeps (epsilon, delta).

        Raises:
            InvalidParameter: if no budget of this order does.
        """
        alpha = checked_order("RenyiFilter", order)
        budget = float(room(np.array([alpha]), *checked_target("RenyiFilter", epsilon, delta)).lower[0])
        if budget < 0:
            raise InvalidParameter(
                f"RenyiFilter: order must be large enough for epsilon={epsilon} and delta={delta}, got {order}."
            )
        return cls(budget=budget, order=alpha, adjacency=Adjacency.parse(adjacency))

    def price(self, step: Step) -> tuple[float, ...]:
        """Return the Rényi divergence of order α, the worst of the directions."""
        if isinstance(step, Process):
            return divergences(step, self.adjacency, (self.order,))
        return (number("RenyiFilter", step),)

    def epsilon(self, delta: float) -> float:
        """Return the ε that the whole budget keeps:  B + log(1 − 1/α) − log(δ α) / (α − 1)         [CKS20, Prop 12]."""
        _, level = checked_target("RenyiFilter", 0.0, delta)
        return max(0.0, float((self.budget - room(np.array([self.order]), 0.0, level)).upper[0]))


@dataclass(slots=True, kw_only=True, eq=False)
class ZCDPFilter(Filter):
    """A budget of zero-concentrated privacy that keeps (ε, δ):  Σ ρ_m <= ρ(ε, δ).

    As ρ_m bounds the Rényi divergence at every α by α ρ_m [BS16], the run is a Rényi filter at all orders at once, with
    budgets α ρ: here alone the order of the conversion may be the best one,

        ρ(ε, δ) = max over α of (ε − log(1 − 1/α) + log(δ α) / (α − 1)) / α           [CKS20, Prop 12].

    Args:
        epsilon: ε >= 0 of the whole run.
        delta: its δ in (0, 1).
        adjacency: the neighbours that the guarantee is about.

    Guarantees: the run as a whole is ρ(ε, δ)-zCDP, and so (ε, δ)-differentially private. A step is a process of steps
    whose ρ `accountant.zcdp` knows (`ZCDP`, Gaussian, Laplace, bounded losses), or a number: its ρ. Sums are exact.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> from mechanisms import Gaussian
    >>> left = ZCDPFilter(epsilon=2.0, delta=1e-5, adjacency="add_remove")
    >>> steps = 0
    >>> while left.allows(Gaussian(noise_multiplier=10.0)):
    ...     left.spend(Gaussian(noise_multiplier=10.0))
    ...     steps += 1
    >>> steps
    21
    """

    epsilon: float
    delta: float
    adjacency: Adjacency
    _limits: tuple[int, ...] = field(init=False, repr=False)
    _spent: tuple[int, ...] = field(init=False, repr=False, default=(0,))

    def __post_init__(self) -> None:
        self.epsilon, self.delta = checked_target("ZCDPFilter", self.epsilon, self.delta)
        self.adjacency = Adjacency.parse(self.adjacency)
        self._limits = (whole(concentration(epsilon=self.epsilon, delta=self.delta)),)

    def price(self, step: Step) -> tuple[float, ...]:
        """Return the ρ of the step."""
        if isinstance(step, Process):
            return (rho(step, self.adjacency),)
        return (number("ZCDPFilter", step),)


@dataclass(slots=True, kw_only=True, eq=False)
class GDPFilter(Filter):
    """A budget of Gaussian differential privacy that keeps (ε, δ):  Σ μ_m² <= μ(ε, δ)²               [ST22, KTH23].

    μ(ε, δ) is that of the one Gaussian which has δ at ε. With r the likelihood ratio of all outputs so far, b = μ² less
    what is spent, and X_b that of a Gaussian of shift √b,  h(r, b) = E (r X_b − e^ε)₊  is a supermartingale under the
    second neighbour's outputs: it is convex in r, so that a step of any μ_m-GDP mechanism raises its mean at most as
    the Gaussian one does, to E h(r X_{μ_m²}, b − μ_m²) = h(r, b); and what is left of b in the end only adds to it.

    Args:
        epsilon: ε >= 0 of the whole run.
        delta: its δ in (0, 1).
        adjacency: the neighbours that the guarantee is about.

    Guarantees: the run as a whole is μ(ε, δ)-GDP, and so (ε, δ)-differentially private; for Gaussian steps no filter
    can allow more. A step is a process whose steps are Gaussian without sampling, or have losses of at most ε_m
    (Φ(−μ_m/2) = 1/(1 + e^{ε_m})), or a number: a μ for which it is μ-GDP, given all outputs before. Sums are exact.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> from mechanisms import Gaussian
    >>> left = GDPFilter(epsilon=2.0, delta=1e-5, adjacency="add_remove")
    >>> steps = 0
    >>> while left.allows(Gaussian(noise_multiplier=10.0)):
    ...     left.spend(Gaussian(noise_multiplier=10.0))
    ...     steps += 1
    >>> steps  # of which `ZCDPFilter` allows 21
    25
    """

    epsilon: float
    delta: float
    adjacency: Adjacency
    _limits: tuple[int, ...] = field(init=False, repr=False)
    _spent: tuple[int, ...] = field(init=False, repr=False, default=(0,))

    def __post_init__(self) -> None:
        self.epsilon, self.delta = checked_target("GDPFilter", self.epsilon, self.delta)
        self.adjacency = Adjacency.parse(self.adjacency)
        self._limits = (whole(gaussian_square(epsilon=self.epsilon, delta=self.delta)),)

    def price(self, step: Step) -> tuple[float, ...]:
        """Return Σ μ² of the step."""
        if isinstance(step, Process):
            return (gaussian_squares(step, self.adjacency),)
        return (square(number("GDPFilter", step)),)


@dataclass(slots=True, kw_only=True, eq=False)
class ApproximateDPFilter(Filter):
    """A budget of (ε, δ) for steps with guarantees (ε_m, δ_m):  Σ ε_m² / 2 <= ρ and Σ δ_m <= δ − δ'.

    Apart from events of probability Σ δ_m, a step is ε_m²/2-zCDP [BS16]; ρ is what keeps (ε, δ') by one of two
    conversions, see `accountant.core.adaptive.concentration`. With "bun_steinke" this is the filter of [WRRW23]: steps
    go on while  (2 log(1/δ') Σ ε_m²)^½ + Σ ε_m² / 2 <= ε,  as in advanced composition of steps fixed in advance.

    Args:
        epsilon: ε >= 0 of the whole run.
        delta: its δ in (0, 1).
        adjacency: the neighbours that the guarantee is about.
        slack: the part δ' of δ that the conversion takes, in (0, δ]; the rest is for the steps.
        conversion: "cks", or "bun_steinke", which allows fewer steps, as published.

    Guarantees: the run as a whole is (ε, δ)-differentially private. A step is a process whose steps have bounded losses
    but for some δ_m (`PureDP`, `ApproximateDP`, `Laplace` …), or a pair of numbers (ε_m, δ_m). Sums are exact.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> left = ApproximateDPFilter(epsilon=1.0, delta=1e-5, slack=5e-6, adjacency="add_remove")
    >>> left.spend((0.1, 1e-6))
    >>> left.allows((0.5, 0.0)), left.allows((0.1, 4.5e-6))
    (False, False)
    """

    epsilon: float
    delta: float
    slack: float
    adjacency: Adjacency
    conversion: Conversion = "cks"
    _limits: tuple[int, ...] = field(init=False, repr=False)
    _spent: tuple[int, ...] = field(init=False, repr=False, default=(0, 0))

    def __post_init__(self) -> None:
        self.epsilon, self.delta = checked_target("ApproximateDPFilter", self.epsilon, self.delta)
        _, self.slack = checked_target("ApproximateDPFilter", 0.0, self.slack, "slack")
        if self.slack > self.delta:
            raise InvalidParameter(f"ApproximateDPFilter: slack must be at most delta={self.delta}, got {self.slack}.")
        validate.choice("ApproximateDPFilter", "conversion", self.conversion, ("cks", "bun_steinke"))
        self.adjacency = Adjacency.parse(self.adjacency)
        share = concentration(epsilon=self.epsilon, delta=self.slack, conversion=self.conversion)
        self._limits = (2 * whole(share), whole(self.delta) - whole(self.slack))

    def price(self, step: Step) -> tuple[float, ...]:
        """Return Σ ε_m² and Σ δ_m of the step."""
        if isinstance(step, Process):
            return guarantee(step, self.adjacency)
        if not isinstance(step, tuple) or len(step) != 2:
            raise InvalidParameter(f"ApproximateDPFilter: step must be a process or a pair (ε, δ), got {step!r}.")
        epsilon = validate.non_negative("ApproximateDPFilter", "the step's epsilon", step[0])
        lost = validate.probability("ApproximateDPFilter", "the step's delta", step[1])
        return square(epsilon), lost
