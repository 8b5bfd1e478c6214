"""Sums of independent losses, of sampled steps or not: their cumulant, and their transform on a vertical line.

K(θ) = log E_P[e^{θL}] = log E_Q[e^{(1 + θ) L}] of the sum is Σ n_i K_i(θ). Unsampled normals are one normal of
μ² = Σ n_i μ_i², with E_Q[e^{tL}] = e^{t (t − 1) μ² / 2}.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from accountant.core.base import Steps, lost_mass
from mechanisms.core.bounded_losses import BoundedLosses
from mechanisms.core.bounds import Array, Bounds
from mechanisms.core.cut_normals import CutNormals
from mechanisms.core.errors import NumericalFailure, UnsupportedProcess
from mechanisms.core.loss_transform import Losses
from mechanisms.core.mixture_grid import LARGEST_EXPONENT
from mechanisms.core.mixtures import NONE, BoundedMixture, NormalMixture
from mechanisms.core.normal_mixture import SampledNormals
from mechanisms.core.pair import UNIT_ROUNDOFF, DominatingPair

BELIEVED = 1e-9  # relative, for sums of a few thousand positive floats
SMALL, LARGE = 1e-150, 1e150
PLANNED = 2**11  # powers × kinds of steps that are planned at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossSum:
    """The sum of the losses of steps whose transforms are known.

    Infinite losses are set apart, and the farthest outcomes may be left out: with δ' of the rest, see
    `mechanisms.core.mixtures` and `mechanisms.core.cut_normals`,

        lost + (1 − lost) δ'(ε + offset) <= δ(ε) <= lost + (1 − lost) δ'(ε + offset) + left_out.

    Args:
        square: enclosure of Σ n_i μ_i² over the unsampled normals.
        groups: the other steps, those of one kind and direction together, with their numbers n_i, shape (k,).
        lost: enclosure of the probability that a loss is infinite.
        offset: as above.
        left_out: bound of how many outcomes are left out on average, and so of the probability that any is.
    """

    square: Bounds
    groups: tuple[tuple[Losses, Array], ...]
    lost: Bounds
    offset: Bounds
    left_out: float
    _apart: dict[float, tuple[Array, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Steps, nats: float = math.inf) -> LossSum:
        """Return the sum of these steps' losses, outcomes of probability e^{−nats} or so left out.

        Raises:
            UnsupportedProcess: if a step's pair is no mixture of known laws.
            NumericalFailure: if the square of a shift, or its product with a probability, leaves the floats.
        """
        mixtures = [(_mixture(pair), float(times)) for pair, times in parts]
        normals = [(m, n) for m, n in mixtures if isinstance(m, NormalMixture)]
        bounded = [(m, n) for m, n in mixtures if isinstance(m, BoundedMixture)]
        ranges = [(m.shift.lower * m.probability, m.shift.upper / LARGE) for m, _ in normals]
        sizes = [(_largest(m), m) for m, _ in bounded]
        ranges += [(size * m.probability, size / LARGEST_EXPONENT) for size, m in sizes if size > 0]
        if any(not (lower > SMALL and upper < 1.0) for lower, upper in ranges):
            raise NumericalFailure("contour: losses are too small or too large for floats. Use accountant='pld'.")
        square, left_out = Bounds.exact(0.0), 0.0
        groups: list[tuple[Losses, Array]] = []
        for m, n in normals:
            if m.probability == 1.0:
                square = square + n * m.shift * m.shift
        for reverse in (False, True):
            chosen = [(m, n) for m, n in normals if m.probability < 1.0 and m.reverse == reverse]
            times = np.array([n for _, n in chosen])
            if chosen and math.isfinite(nats):
                cut = _cut(chosen, nats, reverse)
                left_out += float(np.sum(np.exp(np.minimum(cut.log_lost() + np.log(times), 700.0)))) * (1 + 1e-9)
                groups.append((cut, times))
            elif chosen:
                groups.append((_together([m for m, _ in chosen], reverse), times))
            others = [(m, n) for m, n in bounded if m.reverse == reverse and _largest(m) > 0]
            if others:
                losses = BoundedLosses(mixtures=tuple(m for m, _ in others), reverse=reverse)
                groups.append((losses, np.array([n for _, n in others])))
        offset = sum((n * m.offset for m, n in bounded if m.offset != NONE), start=NONE)
        return cls(square=square, groups=tuple(groups), lost=lost_mass(parts), offset=offset, left_out=left_out)

    @property
    def cuttable(self) -> bool:
        """Whether there are outcomes to leave out."""
        return any(isinstance(losses, SampledNormals) for losses, _ in self.groups)

    @property
    def kinds(self) -> int:
        """The number of different steps."""
        return 1 + sum(len(times) for _, times in self.groups)

    def plan(self, theta: Array) -> tuple[Array, Array, Array]:
        """Return about K, K' and K'' at every θ, shape (n,); infinite where powers leave the floats."""
        square, _ = self._square
        value, slope = 0.5 * theta * (1.0 + theta) * square, (0.5 + theta) * square
        bend = np.full_like(value, square)
        for losses, times in self.groups:
            rows = max(1, PLANNED // len(times))
            for k in range(0, len(theta), rows):
                found = losses.cumulants(1.0 + theta[k : k + rows])
                for total, part in zip((value, slope, bend), found, strict=True):
                    total[k : k + rows] += part @ times
        return value, slope, bend

    def prepare(self, *theta: float) -> None:
        """Lay out what bounds of K take at several θ at once, where that is quicker.

        Raises:
            NumericalFailure: if a moment can't be had within its budget.
        """
        for losses, _ in self.groups:
            losses.prepare(*(1.0 + one for one in theta))

    def log_moment(self, theta: float) -> float:
        """Return a bound of K(θ) from above.

        Raises:
            NumericalFailure: if a moment can't be had within its budget.
        """
        square, spread = self._square
        value = 0.5 * theta * (1.0 + theta) * (square + spread) * (1 + 16 * UNIT_ROUNDOFF)
        for losses, times in self.groups:
            found, error = losses.log_moment(1.0 + theta)
            value += float(times @ (found + error + (8.0 + len(times)) * UNIT_ROUNDOFF * np.abs(found)))
        return value

    def transform(self, theta: float, frequencies: Array) -> tuple[Array, Array, Array]:
        """Return the real and imaginary parts of log E_Q[e^{(1 + θ + iy) L}], and a bound of the error of each.

        Raises:
            NumericalFailure: if a moment can't be had within its budget.
        """
        a, y = 1.0 + theta, frequencies
        square, spread = self._square
        real, imaginary = 0.5 * square * (a * theta - y * y), 0.5 * square * y * (a + theta)
        error = (0.5 * spread + 8 * UNIT_ROUNDOFF * square) * (a * (theta + 1.0) + y * y + y * (a + theta))
        for losses, times in self.groups:
            found = losses.transform(a, y)
            real = real + times @ found.log_modulus
            imaginary = imaginary + times @ found.angle
            rounding = (16.0 + len(times)) * UNIT_ROUNDOFF * (np.abs(found.log_modulus) + np.abs(found.angle))
            error = error + times @ (found.error + rounding)
        return real, imaginary, error

    def envelope(self, theta: float, frequency: float) -> float:
        """Bound |E_Q[e^{(1 + θ + iy) L}]| / E_Q[e^{(1 + θ) L}] for all y >= frequency at once."""
        log_bound = -0.5 * self._square[0] * frequency**2 * (1 - BELIEVED)
        for losses, times in self.groups:
            with np.errstate(divide="ignore"):
                log_bound += float(times @ np.log(losses.envelope(1.0 + theta, frequency)))
        return math.exp(log_bound)

    def beyond(self, theta: float, start: float, spacing: float) -> tuple[float, float]:
        """Bound Σ |φ(y)| h / (π y²) over y = start, start + h, …, h the spacing, φ the transform over its value at 0.

        With E its envelope they sum to at most E(start) (1/start + h/start²) / π. Where n steps have two atoms D apart,
        |φ| is at most E(y) g(y), g = (1 − w sin²(yD/2))^n, of period p = 2π/D. Up to p/2, g falls; each later period,
        the k-th beyond (k − ½) p, holds nodes where g sums to (p/2) √(π/(nw)) / h + 2 at most, as sin x >= 2x/π; and
        Σ 1/(k − ½)² = π²/2. Other g that fall up to p/2 count up to there, too.

        Returns:
            The bound in two parts, of which the first falls as `start` rises, and the second does not, or hardly.
        """
        plain = self.envelope(theta, start) * (1.0 / start + spacing / start**2) / math.pi * (1 + 1e-9)
        best = plain, 0.0
        times, weight, least, most, later = self._steps_apart(theta)
        falling = start * most < math.pi
        with np.errstate(under="ignore"):
            logs = np.where(falling, times * np.log1p(-weight * np.sin(0.5 * start * least) ** 2), 0.0) * (1 - 1e-9)
            for i in np.flatnonzero(falling):
                period = 2 * math.pi / float(most[i])
                share = 0.5 * period * math.sqrt(math.pi / float(times[i] * weight[i])) + 2.0 * spacing
                far = float(later[i]) * 0.5 * math.pi / period**2 * share * (1 + 1e-9)
                near = plain * math.exp(float(np.sum(logs[most <= most[i]])))
                best = min(best, (near, far), key=sum)
        return best

    def _steps_apart(self, theta: float) -> tuple[Array, ...]:
        """Return n, w, the enclosure of D, and E(π/D), of all kinds that have atoms."""
        if theta not in self._apart:
            found = [(np.zeros(0),) * 4] + [(times, *losses.steps_apart(1.0 + theta)) for losses, times in self.groups]
            n, w, least, most = (np.concatenate(parts) for parts in zip(*found, strict=True))
            n, w, least, most = n[w > 0], w[w > 0], least[w > 0], most[w > 0]
            later = np.array([self.envelope(theta, math.pi / float(one)) for one in most])
            self._apart[theta] = n, w, least, most, later
        return self._apart[theta]

    @property
    def _square(self) -> tuple[float, float]:
        """The middle of Σ n_i μ_i², and how far it may be off."""
        return 0.5 * (self.square.lower + self.square.upper), float(self.square.width)


def _mixture(pair: DominatingPair) -> NormalMixture | BoundedMixture:
    mixture = pair.mixture
    if mixture is None:
        raise UnsupportedProcess(
            "contour: it integrates the transforms of normals, and of Laplace and discrete steps of finite losses, "
            f"Poisson-sampled or not, got {type(pair).__name__}. Use accountant='pld', which brackets any pair."
        )
    return mixture


def _largest(mixture: BoundedMixture) -> float:
    return float(np.max(np.abs([mixture.losses.lower, mixture.losses.upper])))


def _cut(chosen: list[tuple[NormalMixture, float]], nats: float, reverse: bool) -> CutNormals:
    """Leave out of each of k kinds what has probability e^{−nats} / k or so in all its steps: where both parts of P do.

    P(z > Z) <= e^{−Z²/2} + q e^{−(Z − μ)²/2}.
    """
    pairs, times = [m for m, _ in chosen], np.log([n for _, n in chosen])
    whole = _together(pairs, reverse)
    share = nats + times + math.log(2 * len(pairs))
    of_jumps = np.asarray(whole.shift.upper) + np.sqrt(2.0 * np.maximum(share + np.log(whole.probability), 0.0))
    last = np.maximum(np.sqrt(2.0 * share), of_jumps)
    return CutNormals(shift=whole.shift, probability=whole.probability, last=last, reverse=reverse)


def _together(mixtures: list[NormalMixture], reverse: bool) -> SampledNormals:
    shift = Bounds(
        lower=np.array([mixture.shift.lower for mixture in mixtures]),
        upper=np.array([mixture.shift.upper for mixture in mixtures]),
    )
    probability = np.array([mixture.probability for mixture in mixtures])
    return SampledNormals(shift=shift, probability=probability, reverse=reverse)
