"""Ways of clipping: what keeps every example's contribution to a step within C = max_grad_norm, as values of a run.

All of them bound the Euclidean norm of what one record adds to what a step releases, in units of its noise, by one and
the same number, so that `DPSGD.process()` is the same for all: a Gaussian of the run's noise multiplier.

[BWZK22] Z. Bu, Y.-X. Wang, S. Zha, G. Karypis. Automatic Clipping: Differentially Private Deep Learning Made Easier and
Stronger. NeurIPS 2023. arXiv:2206.07136.
[ATMR21] G. Andrew, O. Thakkar, H. B. McMahan, S. Ramaswamy. Differentially Private Learning with Adaptive Clipping.
NeurIPS 2021. arXiv:1905.03871.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from mechanisms import InvalidParameter
from mechanisms.core import validate
from mechanisms.core.bounds import Bounds, sqrt

LOG_RANGE = 20 * math.log(2.0)
"""How far an adaptive bound may go from where it begins: a millionfold, up or down."""
SHARES_OFF = 1e-6  # from 1, in sum: thirds written with seven digits pass, a forgotten layer does not


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """g_i min(1, C / ‖g_i‖), the norm over all parameters together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerLayer:
    """g_il min(1, C_l / ‖g_il‖) in every layer l, with Σ C_l² = C²: together they stay within C.

    A layer is a module that holds trainable parameters itself, named as in `model.named_modules()`.

    Args:
        shares: C_l² ÷ C² for every layer by its name, each > 0, in sum 1, public; a mapping, kept as pairs in the order
            of the names. None: the same for each.

    Raises:
        InvalidParameter: if a share breaks its rule; a name that the model lacks is refused when a run begins.

    >>> PerLayer(shares={"2": 0.75, "0": 0.25})
    PerLayer(shares=(('0', 0.25), ('2', 0.75)))
    """

    shares: Mapping[str, float] | tuple[tuple[str, float], ...] | None = None

    def __post_init__(self) -> None:
        if self.shares is not None:
            object.__setattr__(self, "shares", _checked_shares(self.shares))


@dataclass(frozen=True, slots=True, kw_only=True)
class Automatic:
    """AUTO-S: g_i C / (‖g_i‖ + stability), which no gradient is too small for and which stays below C       [BWZK22].

    Small gradients are scaled up, so that C only sets the unit of the learning rate.

    Args:
        stability: γ > 0, in units of the gradient's norm; 0.01 in the paper.

    Raises:
        InvalidParameter: if it is not above 0: that is `Normalised()`.
    """

    stability: float = 0.01

    def __post_init__(self) -> None:
        checked = validate.positive("Automatic", "stability", self.stability, "Without it: Normalised().")
        object.__setattr__(self, "stability", checked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    """AUTO-V: g_i C / ‖g_i‖, of norm C for every gradient, and 0 for the zero one       [BWZK22]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveQuantile:
    """Flat clipping at a bound C_t that follows a quantile of the gradients' norms, beginning at C       [ATMR21].

        C_{t+1} = C_t exp(−learning_rate (b_t − quantile)),    b_t = noisy_count_t / expected_batch_size + 1/2
        noisy_count_t = Σ_sampled s_i + N(0, (count_noise_multiplier / 2)²),    s_i = +1/2 if ‖g_i‖ <= C_t, −1/2 if not

    An example whose gradient is not finite, or 0 (at most 2^-30 C_t), adds nothing to the count either: s_i = 0. So a
    record zeroed out is as good as absent.

    **Price.** A step releases the sum, with noise of standard deviation z C_t, and the count. What one record adds to
    both, each in units of its noise, is a vector of norm at most

        √((C_t / (z C_t))² + ((1/2) / (m / 2))²) = √(z^-2 + m^-2),    m = count_noise_multiplier.

    So the two are one Gaussian release of a vector of d + 1 entries; z = (noise_multiplier^-2 − m^-2)^-1/2 makes it one
    of the run's noise multiplier, which is the total. Whether a record is added, removed or zeroed out, it moves the
    release by what it adds; replaced, by the difference of two such vectors, at most twice as long. This is what
    `Gaussian` says of both, and all that sampling schemes ask of a step. Neighbours attain it: a gradient of norm C_t
    moves the sum by C_t and the count by 1/2, and by 2 C_t and 1 if replaced by one that is longer and points the other
    way. C_t is made of earlier releases and public numbers alone: it costs nothing further and is public.

    m = σ_b / (1/2) for the σ_b of the paper, which advises σ_b = expected_batch_size / 20: with that, z is hardly more
    than the noise multiplier.

    Args:
        quantile: the share of examples that C_t should not clip, in [0, 1].
        learning_rate: of log C_t, > 0; 0.2 in the paper.
        count_noise_multiplier: standard deviation of the count's noise ÷ 1/2, what one record moves it by; above the
            run's noise_multiplier.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=5.0).sum_noise_multiplier(3.0)
    3.75...
    """

    quantile: float
    learning_rate: float
    count_noise_multiplier: float

    def __post_init__(self) -> None:
        owner = "AdaptiveQuantile"
        checked = {
            "quantile": validate.probability(owner, "quantile", self.quantile),
            "learning_rate": validate.positive(owner, "learning_rate", self.learning_rate),
            "count_noise_multiplier": validate.positive(owner, "count_noise_multiplier", self.count_noise_multiplier),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def sum_noise_multiplier(self, noise_multiplier: float) -> float:
        """Return z = noise_multiplier / √(1 − (noise_multiplier / m)²), rounded up: of the noise on the sum ÷ C_t.

        Raises:
            InvalidParameter: if noise_multiplier is not below m, so that nothing is left for the sum.
        """
        total, count = Bounds.exact(noise_multiplier), Bounds.exact(self.count_noise_multiplier)
        left = ((count - total) / count) * (1.0 + total / count)  # the difference is exact where it would cancel
        found = float((total / sqrt(left)).upper) if left.lower > 0 else math.inf
        if math.isinf(found):
            raise InvalidParameter(
                f"DPSGD: count_noise_multiplier must be above noise_multiplier = {noise_multiplier}, got "
                f"{self.count_noise_multiplier}: the count alone would cost more than the whole step may.\n"
                "Twice expected_batch_size / 20 is usual; smaller batches need a larger share of noise."
            )
        return found

    def moved(self, log_ratio: float, *, noisy_count: float, expected_batch_size: float) -> float:
        """Return log(C_{t+1} / C) from log(C_t / C), kept within ±20 log 2."""
        below = noisy_count / expected_batch_size + 0.5
        found = log_ratio - self.learning_rate * (below - self.quantile)
        return min(max(found, -LOG_RANGE), LOG_RANGE)


Clipping = Flat | PerLayer | Automatic | Normalised | AdaptiveQuantile
FLAT = Flat()
CLIPPINGS = {kind.__name__: kind for kind in get_args(Clipping)}


def checked_clipping(clipping: object, *, noise_multiplier: float, max_grad_norm: float) -> Any:
    """Return `clipping` if it is one of those there are, exactly, and fits the run.

    Raises:
        InvalidParameter: if it is none; if the count of an adaptive bound has too little noise, or its bound could
            leave the floats.
    """
    if type(clipping) not in CLIPPINGS.values():
        raise InvalidParameter(f"DPSGD: clipping must be one of {', '.join(CLIPPINGS)}, got {clipping!r}.")
    if isinstance(clipping, AdaptiveQuantile):
        clipping.sum_noise_multiplier(noise_multiplier)
        if not 1e-30 <= max_grad_norm <= 1e30:
            raise InvalidParameter(
                f"DPSGD: max_grad_norm must lie in [1e-30, 1e30] for {clipping!r}, got {max_grad_norm}: from there the "
                "bound moves."
            )
    return clipping


def check_flat_clipping(owner: str, clipping: Clipping) -> None:
    """Refuse all but `Flat()`, where something stands at the clip norm that other clippings would move from it.

    Raises:
        InvalidParameter: naming the clipping.
    """
    if clipping != FLAT:
        raise InvalidParameter(
            f"{owner}: clipping must be Flat() where records have prescribed gradients, got {clipping!r}: these stand "
            "at max_grad_norm, which all other clippings would move them from."
        )


def _checked_shares(shares: object) -> tuple[tuple[str, float], ...]:
    pairs = tuple(shares.items()) if isinstance(shares, Mapping) else validate.sequence("PerLayer", "shares", shares)
    found: dict[str, float] = {}
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise InvalidParameter(f"PerLayer: shares must give a number for a layer's name, got {pair!r}.")
        if pair[0] in found:
            raise InvalidParameter(f"PerLayer: shares must name a layer once, got {pair[0]!r} again.")
        found[pair[0]] = validate.positive("PerLayer", f"share of {pair[0]!r}", pair[1])
    total = math.fsum(found.values())
    if not abs(total - 1.0) <= SHARES_OFF:
        raise InvalidParameter(
            f"PerLayer: shares must be 1 in sum, got {total:.9g}.\nThey are C_l² ÷ max_grad_norm² of all layers."
        )
    return tuple(sorted(found.items()))
