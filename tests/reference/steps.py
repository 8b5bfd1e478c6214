"""Steps of a process as the reference sees them: their JSON and the moments E_Q[e^{tL}; L < ∞] of their losses.

Shares nothing with the library but the names in its JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath as mp

Number = Any
Moment = Callable[[Number], Number]


@dataclass(frozen=True)
class GaussianStep:
    """Normal noise of standard deviation sigma on a query that moves by `movement`."""

    sigma: float
    movement: int = 1

    def json(self) -> dict[str, object]:
        return {"type": "Gaussian", "noise_multiplier": self.sigma}

    @property
    def mu(self) -> Number:
        return self.movement / mp.mpf(self.sigma)

    def moment(self, direction: str) -> Moment:
        """e^{t (t − 1) μ²/2}."""
        half = self.mu**2 / 2
        return lambda t: mp.exp(t * (t - 1) * half)

    def infinite(self, direction: str) -> Number:
        return mp.mpf(0)


@dataclass(frozen=True)
class SampledStep:
    """Gaussian steps on one and the same Poisson sample: as one of μ² = Σ σ⁻². Its moments: `sampled.moments`."""

    q: float
    sigmas: tuple[float, ...]

    def json(self) -> dict[str, object]:
        parts = [GaussianStep(sigma).json() for sigma in self.sigmas]
        part = parts[0] if len(parts) == 1 else {"type": "Compose", "parts": parts}
        return {"type": "Sampled", "part": part, "sampling": {"type": "Poisson", "probability": self.q}}

    @property
    def mu(self) -> Number:
        return mp.sqrt(mp.fsum(mp.mpf(sigma) ** -2 for sigma in self.sigmas))

    def infinite(self, direction: str) -> Number:
        return mp.mpf(0)


@dataclass(frozen=True)
class LaplaceStep:
    """Two-sided exponential noise of this scale on a query that moves by `movement`; where q < 1, on a sample."""

    scale: float
    movement: int = 1
    q: float = 1.0

    def json(self) -> dict[str, object]:
        part = {"type": "Laplace", "noise_multiplier": self.scale}
        if self.q == 1:
            return part
        return {"type": "Sampled", "part": part, "sampling": {"type": "Poisson", "probability": self.q}}

    @property
    def span(self) -> Number:
        """The largest loss Δ of the step itself."""
        return self.movement / mp.mpf(self.scale)

    def above(self, x: Number) -> tuple[Number, Number]:
        """P(L > x) and Q(L > x): of noise z − Δ and z, z two-sided exponential, L = |z| − |z − Δ| rises with z."""
        if x < -self.span:
            return mp.mpf(1), mp.mpf(1)
        if x >= self.span:
            return mp.mpf(0), mp.mpf(0)
        z = (x + self.span) / 2  # in [0, Δ)
        return 1 - mp.exp(z - self.span) / 2, mp.exp(-z) / 2

    def moment(self, direction: str) -> Moment:
        """((t − 1) e^{−tΔ} + t e^{(t−1)Δ}) / (2t − 1), of the step itself."""
        d = self.span
        return lambda t: ((t - 1) * mp.exp(-t * d) + t * mp.exp((t - 1) * d)) / (2 * t - 1)

    def infinite(self, direction: str) -> Number:
        return mp.mpf(0)


@dataclass(frozen=True)
class TableStep:
    """Probabilities of finitely many outcomes with the record, p, and without it, q."""

    p: tuple[float, ...]
    q: tuple[float, ...]

    def json(self) -> dict[str, object]:
        return {"type": "Tabulated", "p": self.p, "q": self.q}

    def masses(self, direction: str) -> list[tuple[Number, Number]]:
        """(P, Q) of every outcome."""
        pairs = [(mp.mpf(a), mp.mpf(b)) for a, b in zip(self.p, self.q, strict=True)]
        return [(b, a) for a, b in pairs] if direction == "add" else pairs

    def moment(self, direction: str) -> Moment:
        """Σ p^t q^{1−t}."""
        return _moment(self.masses(direction))

    def infinite(self, direction: str) -> Number:
        return mp.fsum(a for a, b in self.masses(direction) if not b)


@dataclass(frozen=True)
class ResponseStep:
    """The true one of k categories e^ε times as probable as each other one."""

    epsilon: float
    categories: int = 2

    def json(self) -> dict[str, object]:
        return {"type": "RandomizedResponse", "epsilon": self.epsilon, "categories": self.categories}

    def masses(self, direction: str) -> list[tuple[Number, Number]]:
        """(P, Q) of the record's own answer, the neighbour's, and all others."""
        top, rest = mp.exp(mp.mpf(self.epsilon)), self.categories - 1
        total = top + rest
        return [(top / total, 1 / total), (1 / total, top / total), ((rest - 1) / total, (rest - 1) / total)]

    def moment(self, direction: str) -> Moment:
        """Σ p^t q^{1−t}."""
        return _moment(self.masses(direction))

    def infinite(self, direction: str) -> Number:
        return mp.mpf(0)


@dataclass(frozen=True)
class StatedStep:
    """A guarantee (ε, δ), pure where δ = 0: the class of all mechanisms that have it."""

    epsilon: float
    delta: float
    adjacency: str

    def json(self) -> dict[str, object]:
        if self.delta == 0:
            return {"type": "PureDP", "epsilon": self.epsilon, "adjacency": self.adjacency}
        return {"type": "ApproximateDP", "epsilon": self.epsilon, "delta": self.delta, "adjacency": self.adjacency}

    def masses(self, direction: str) -> list[tuple[Number, Number]]:
        """(P, Q) of the worst pair: δ on outcomes of one side only, (1 − δ) of a binary randomised response."""
        d, top = mp.mpf(self.delta), mp.exp(mp.mpf(self.epsilon))
        own, other = (1 - d) * top / (1 + top), (1 - d) / (1 + top)
        return [(own, other), (other, own), (d, mp.mpf(0)), (mp.mpf(0), d)]

    def moment(self, direction: str) -> Moment:
        """Σ p^t q^{1−t}."""
        return _moment(self.masses(direction))

    def infinite(self, direction: str) -> Number:
        return mp.mpf(self.delta)


def _moment(masses: list[tuple[Number, Number]]) -> Moment:
    seen = [(mp.log(a / b), b) for a, b in masses if a and b]
    return lambda t: mp.fsum(b * mp.exp(t * loss) for loss, b in seen)


Step = GaussianStep | SampledStep | LaplaceStep | TableStep | ResponseStep | StatedStep
Steps = tuple[tuple[Step, int], ...]
