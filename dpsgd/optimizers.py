"""DP-Adam without the bias of the noise: an optimiser that knows the variance of the noise in its gradients.

The gradient of a step is ĝ = (Σ clipped gradients + σ C z) / B with z ~ N(0, I), so that E ĝ² = E (Σ/B)² + Φ with

    Φ = (σ C / B)²,    σ = noise_multiplier,  C = max_grad_norm,  B = expected_batch_size.

Where Φ is most of Adam's second moment, all coordinates are divided by about the same number: it is gradient descent
with momentum. Without Φ the second moment is again that of the clipped gradients [TSL24].

[TSL24] Q. Tang, F. Shpilevskiy, M. Lécuyer. DP-AdamBC: Your DP-Adam Is Actually DP-SGD (Unless You Apply Bias
Correction). AAAI 2024. arXiv:2312.14334.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from dpsgd.clipping import AdaptiveQuantile
from dpsgd.config import DPSGD
from dpsgd.independent_laws import IndependentGaussian
from mechanisms import InvalidParameter
from mechanisms.core import validate

LEAST_FLOOR = 1e-16
"""The square of what Adam adds to its roots; the floor where there is no noise."""


class DPAdam(Optimizer):
    """Adam whose second moment is freed from the variance of the noise.

        m ← β₁ m + (1 − β₁) ĝ,    m̂ = m / (1 − β₁ᵗ)                                                           [TSL24]
        v ← β₂ v + (1 − β₂) ĝ²,   v̂ = v / (1 − β₂ᵗ)
        w ← w − learning_rate · m̂ / √max(v̂ − Φ, floor)

    It is what `train(..., optimizer=DPAdam)` needs; with options, `functools.partial(DPAdam, betas=(0.9, 0.99))`.

    Args:
        parameters: what to move.
        config: gives the learning rate and Φ, which are said nowhere else.
        betas: β₁ and β₂, each in [0, 1).
        floor: of the second moment, > 0, in units of squared averaged gradient: where the gradient is small v̂ − Φ
            is as often below 0 as above. None for √(2 (1 − β₂) / (1 + β₂)) Φ, the standard deviation of v̂ after many
            steps where there is noise alone; 1e-16 at least.

    Guarantees: v̂ − Φ is unbiased for the mean of (Σ/B)² over the steps by the weights of v̂; the floor makes up for its
    spread with a bias of its own. All of this is post-processing.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> from mechanisms import Poisson
    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=0.01),
    ...                expected_batch_size=100, steps=100, learning_rate=0.001)
    >>> DPAdam([nn.Parameter(torch.zeros(2))], config).noise_variance
    0.0001
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        config: DPSGD,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        floor: float | None = None,
    ) -> None:
        _check_noise(config)
        first, second = (_decay(name, beta) for name, beta in zip(("beta 1", "beta 2"), betas, strict=True))
        self.noise_variance = (config.noise_multiplier * config.max_grad_norm / config.expected_batch_size) ** 2
        spread = math.sqrt(2 * (1 - second) / (1 + second)) * self.noise_variance
        least = max(spread, LEAST_FLOOR) if floor is None else validate.positive("DPAdam", "floor", floor)
        super().__init__(parameters, {"lr": config.learning_rate, "betas": (first, second), "floor": least})

    @torch.no_grad()
    def step(self, closure: object = None) -> Any:
        """Move all parameters that have a gradient; nothing is returned.

        Raises:
            InvalidParameter: if there is a closure: to evaluate the loss again costs privacy.
        """
        if closure is not None:
            raise InvalidParameter("DPAdam: closure must be None: the loss is not evaluated again.")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)

    def _move(self, parameter: nn.Parameter, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state.update(step=0, first=torch.zeros_like(parameter), second=torch.zeros_like(parameter))
        state["step"] += 1
        beta_1, beta_2 = group["betas"]
        state["first"].lerp_(gradient, 1 - beta_1)
        state["second"].mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
        corrected = (state["second"] / (1 - beta_2 ** state["step"])).sub_(self.noise_variance)
        root = corrected.clamp_(min=group["floor"]).sqrt_()
        parameter.addcdiv_(state["first"], root, value=-group["lr"] / (1 - beta_1 ** state["step"]))


def _check_noise(config: DPSGD) -> None:
    if not isinstance(config.noise, IndependentGaussian) or isinstance(config.clipping, AdaptiveQuantile):
        raise InvalidParameter(
            "DPAdam: config must have noise of one variance, independent from step to step: IndependentGaussian() and "
            f"a bound that does not move, got {config.noise!r} and {config.clipping!r}.\nUse torch.optim.Adam."
        )


def _decay(name: str, value: object) -> float:
    found = validate.probability("DPAdam", name, value)
    if found == 1:
        raise InvalidParameter(f"DPAdam: {name} must be below 1, got 1: nothing would ever be learnt.")
    return found
