"""From a configuration to the function that makes the sums of its steps noisy."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from torch import Tensor

from dpsgd.clipping import LOG_RANGE, AdaptiveQuantile
from dpsgd.config import DPSGD
from dpsgd.core.compiled_noise import block_kernel, serves
from dpsgd.core.correlated import correlated
from dpsgd.core.noise import Noise, fitting_scale
from dpsgd.core.whole import released
from dpsgd.correlated_laws import CorrelatedLaw
from dpsgd.independent_laws import IndependentGaussian, LatticeGaussian, RoundedGaussian
from dpsgd.prescribed import Prescribed
from dpsgd.resolution import RESOLUTIONS
from mechanisms import InvalidParameter, Source

MOST_SUMMED = 2.0**40
"""Records of a step."""


class Noising(Protocol):
    """(sum (d,), step=, scale=) -> noisy sum (d,), a function of the step, the sum and the source alone."""

    def __call__(self, total: Tensor, *, step: int, scale: float) -> Tensor:
        """Return the noisy sum; `total` may be written to."""


def noising(config: DPSGD, *, source: Source, run: int, like: Tensor, compiled: bool = False) -> Noising:
    """Return what adds the noise of `config.noise`, of the steps of one run.

    Args:
        config: what is run.
        source: where the noise comes from, its streams "noise" and "noise …".
        run: where the run begins, see `dpsgd.core.runs`.
        like: any tensor of shape (d,), of the dtype and device of the noisy sums.
        compiled: as of `Noise`; noise of other laws is never compiled.
    """
    match config.noise:
        case CorrelatedLaw() as law:
            return correlated(config, law, source=source, run=run, size=len(like))
        case RoundedGaussian() | LatticeGaussian() as law:
            return released(config, law, source=source, run=run, like=like)
    noise = Noise(source=source, run=run, steps=config.steps, like=like, compiled=compiled)

    def independent(total: Tensor, *, step: int, scale: float) -> Tensor:
        noise.add_to(total, step=step, scale=scale)
        return total

    return independent


def compile_noise(config: DPSGD, *, like: Tensor) -> None:
    """Compile the noise of a run ahead of it, where its law has noise to compile.

    Args:
        config: what is to run.
        like: as of `noising`.

    Raises:
        InvalidParameter: if there is no compiler, or it does not do what it must.
    """
    if isinstance(config.noise, IndependentGaussian) and serves(like):
        block_kernel()


def check_range(config: DPSGD, *, like: Tensor) -> None:
    """Refuse a bound, or noise, that could leave the floats in a step: what does not, and what does, is private.

    Args:
        config: what is to run.
        like: any tensor of the dtype of the sums.

    Raises:
        InvalidParameter: if a sum could overflow, or noise be too small or too large for floats.
    """
    resolution = RESOLUTIONS[str(like.dtype).removeprefix("torch.")]
    multiplier, reach = config.noise_multiplier, 1.0
    if isinstance(config.clipping, AdaptiveQuantile):
        multiplier, reach = config.clipping.sum_noise_multiplier(multiplier), math.exp(LOG_RANGE)
    most = float(np.finfo(resolution.dtype).max) / MOST_SUMMED
    if config.max_grad_norm * reach > most:
        raise InvalidParameter(
            f"train: max_grad_norm must be at most {most / reach:.2g} for {resolution.dtype} and {config.clipping!r}, "
            f"got {config.max_grad_norm}: sums could overflow.\nMeasure gradients in another unit."
        )
    for bound in {config.max_grad_norm / reach, config.max_grad_norm * reach}:
        fitting_scale(multiplier * bound, resolution)


def check_noise(config: DPSGD, *, dimension: int, prescribed: Prescribed | None) -> None:
    """Refuse a model or records that the noise of `config` does not fit.

    Args:
        config: what is to run.
        dimension: number of trainable parameters.
        prescribed: records with prescribed gradients, or None.

    Raises:
        InvalidParameter: if another dimension is declared, or prescribed gradients would have to be whole numbers.
    """
    law = config.noise
    if isinstance(law, LatticeGaussian) and law.dimension != dimension:
        raise InvalidParameter(
            f"steps: dimension of {law!r} must be the number of trainable parameters, {dimension}.\n"
            "Write it down with count_parameters(model)."
        )
    if isinstance(law, (RoundedGaussian, LatticeGaussian)) and prescribed is not None:
        raise InvalidParameter(
            f"PrescribedGradients: noise must be IndependentGaussian(), got {law!r}, whose sums are whole numbers that "
            "prescribed gradients are not."
        )
