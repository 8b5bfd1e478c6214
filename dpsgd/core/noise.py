"""Gaussian noise for flat gradient sums."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dpsgd.core.box_muller import BoxMuller
from dpsgd.core.compiled_noise import CompiledBoxMuller, serves
from dpsgd.resolution import RESOLUTIONS, NoiseResolution
from mechanisms import InvalidParameter, Source
from mechanisms.core import validate

LARGEST_SHARE = 2.0**-4  # of the largest float that a scale may be: no noise overflows


@dataclass(slots=True, kw_only=True, eq=False)
class Noise:
    """Normal noise of every step of a run, the same for a step whichever others are asked for, in any order.

    Args:
        source: where the noise comes from, see `dpsgd.core.box_muller`.
        run: where the run begins, see `dpsgd.core.runs`.
        steps: of the run.
        like: any tensor of shape (d,), d >= 1, of the dtype and device of the sums.
        compiled: whether noise for float32 on the CPU is compiled, see `dpsgd.core.compiled_noise`; other noise is not.

    Guarantees: the noise of a coordinate depends on source, run, step, d, dtype, coordinate and `compiled` alone, where
    it is not compiled up to the rounding of torch's functions from one machine to another. `resolution` says how far
    floats are from the normals that accountants price, and what that leaves open, of either.

    >>> from mechanisms import KeyedSource
    >>> total = torch.zeros(3)
    >>> noise = Noise(source=KeyedSource(0), run=0, steps=8, like=total)
    >>> noise.add_to(total, step=7, scale=2.0)
    >>> part = torch.zeros(1)
    >>> noise.add_to(part, step=7, scale=2.0, part=slice(2, 3))
    >>> bool(part == total[2:])
    True
    """

    source: Source
    run: int
    steps: int
    like: Tensor
    compiled: bool = False
    resolution: NoiseResolution = field(init=False, repr=False)
    """How far the noise is from normal noise."""
    _normals: BoxMuller = field(init=False, repr=False)
    _dimension: int = field(init=False, repr=False)
    _checked: float = field(init=False, repr=False, default=0.0)

    def __post_init__(self) -> None:
        self._dimension = len(self.like)
        self.resolution = RESOLUTIONS[str(self.like.dtype).removeprefix("torch.")]
        if self.compiled and serves(self.like):
            self._normals = CompiledBoxMuller(self.source)
        else:
            self._normals = BoxMuller(self.source, dtype=self.resolution.dtype)

    def add_to(self, total: Tensor, *, step: int, scale: float, part: slice = slice(None)) -> None:
        """Add N(0, scale² I), the noise of a step, to `total`, in place.

        Args:
            total: what is made noisy: the coordinates in `part` of a sum, of the dtype of `like`.
            step: its number, from 0.
            scale: standard deviation of every coordinate: noise_multiplier · the bound on a unit's contribution.
            part: the range of coordinates that `total` holds, of d; all of them by default.

        Raises:
            InvalidParameter: if total, step or scale does not fit, or the source is used in a forked process.
        """
        start = self._start(total, part)
        if not 0 <= step < self.steps:
            raise InvalidParameter(f"Noise: step must lie in [0, {self.steps}), got {step}.")
        if scale != self._checked:
            self._checked = fitting_scale(scale, self.resolution)
        if not scale:
            return
        position = self.run + step * self._dimension + start
        plain = total.detach() if total.requires_grad else total
        if plain.is_cpu:
            self._normals.add_to(plain, position=position, scale=scale)
        else:
            made = torch.zeros(len(plain), dtype=plain.dtype, device="cpu")
            self._normals.add_to(made, position=position, scale=scale)
            plain.add_(made.to(plain.device))

    def _start(self, total: Tensor, part: slice) -> int:
        start, stop, stride = part.indices(self._dimension)
        if stride != 1 or total.shape != (max(stop - start, 0),) or total.dtype != self.like.dtype:
            raise InvalidParameter(
                f"Noise: total must hold the coordinates of {part} of {self._dimension}, as {self.like.dtype}, "
                f"got shape {tuple(total.shape)}, {total.dtype}."
            )
        return start


def fitting_scale(scale: float, resolution: NoiseResolution) -> float:
    """Return a scale with which noise in floats is as `resolution` says: 0, or neither too small nor too large.

    Raises:
        InvalidParameter: if it is another.
    """
    scale = validate.non_negative("Noise", "scale", scale)
    limits = np.finfo(resolution.dtype)
    least, most = float(limits.smallest_normal) / float(limits.epsneg), LARGEST_SHARE * float(limits.max)
    if scale and not least <= scale <= most:
        raise InvalidParameter(
            f"Noise: scale must be 0 or lie in [{least:.2g}, {most:.2g}] for {resolution.dtype}, got {scale}.\n"
            "It is noise_multiplier · max_grad_norm: measure gradients in another unit."
        )
    return scale
