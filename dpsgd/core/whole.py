"""Clipped sums in whole numbers, and noise that is exact: what RoundedGaussian and LatticeGaussian run.

**Sums.** With C = max_grad_norm and D = divisions, a record whose clipped gradient is g contributes

    k = trunc(g · D/C · min(1, D (1 − 2^-24) / ‖g · D/C‖)),        ‖k‖ <= D,

coordinate by coordinate towards zero, so that norms only fall: no √d is added to the sensitivity, as it would be if the
sum were rounded, and it may be in effect. The norm is taken in float64, where d squares err by at most d · 2^-53 of
their sum: ‖k‖ <= D holds of the whole numbers k, up to d = 2^28, whatever arithmetic has made of g; the factor is 1 for
every g that `dpsgd.core.clip` has clipped. A coordinate that is NaN counts as 0, and all do where one is infinite, as
the norm is then. Whole numbers are added up exactly.

**A pass for each unit.** In a batch the kernels that are chosen depend on its size, and with them the last bits of
each gradient: one record more might move the contributions of all others. Alone, as `dpsgd.core.population` hands them
over, each is a function of the unit's own rows and the weights, also where users have rectangles of other widths and
where copies are made. Truncation moves a sum of n units by at most n C/D in a coordinate, towards zero.

**Noise.** `release` of the mechanism that describes a step takes whole numbers of sensitivity D. It draws from a part
of the source's streams that begins at a place of the step's own, so that any step's noise can be had alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpsgd.config import DPSGD
from dpsgd.core.correlated import check_scale
from dpsgd.core.places import Place
from dpsgd.gradients import GradientSum
from dpsgd.independent_laws import LatticeGaussian, RoundedGaussian
from mechanisms import DiscreteGaussian, Gaussian, Source

WHOLE = RoundedGaussian, LatticeGaussian
SLACK = 2.0**-24
STEP = 2**40
"""Words from one step to the next: some dozens are drawn for each coordinate."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WholeSum:
    """The sum of clipped gradients in whole multiples of max_grad_norm / divisions, int64, shape (d,).

    >>> halves = WholeSum(clipped_sum=lambda features, _: features.sum(0), max_grad_norm=1.0, divisions=10)
    >>> halves(torch.tensor([[0.55, 0.0], [-0.55, 3.0]]), torch.zeros(2))
    tensor([4, 9])
    """

    clipped_sum: GradientSum
    max_grad_norm: float
    divisions: int

    def __call__(self, features: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        """Return the sum over a batch of records, or of units with their shares, all as wide as each."""
        batch = [features, targets] if shares is None else [features, targets, shares]
        total = self._whole(self.clipped_sum(*(part[:1] for part in batch)))
        for one in range(1, len(features)):
            total += self._whole(self.clipped_sum(*(part[one : one + 1] for part in batch)))
        return total

    def _whole(self, gradient: Tensor) -> Tensor:
        scaled = (gradient.double() * (self.divisions / self.max_grad_norm)).nan_to_num_(nan=0.0)
        factor = (self.divisions * (1.0 - SLACK) / scaled.norm()).clamp(max=1.0)
        return scaled.mul_(factor).trunc_().long()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Released:
    """The noisy sum of every step: `mechanism`'s release of a whole sum, times max_grad_norm / divisions.

    Args:
        mechanism: of one step, for whole numbers.
        max_grad_norm: that of the run.
        divisions: sensitivity of whole sums.
        source: where the noise comes from, its streams "noise …".
        run: where the run begins, see `dpsgd.core.runs`.
        like: any tensor of the dtype and device of noisy sums.
    """

    mechanism: Gaussian | DiscreteGaussian
    max_grad_norm: float
    divisions: int
    source: Source
    run: int
    like: Tensor

    def __call__(self, total: Tensor, *, step: int, scale: float) -> Tensor:
        """Return the noisy sum of a step, in the unit of gradients.

        Args:
            total: whole numbers (d,).
            step: its number, from 0.
            scale: must be noise_multiplier · max_grad_norm.

        Raises:
            InvalidParameter: if the scale is another one.
        """
        check_scale(type(self).__name__, scale, self.mechanism.noise_multiplier * self.max_grad_norm)
        place = Place(self.source, "noise", self.run + step * STEP)
        shown = self.mechanism.release(total.cpu().numpy(), sensitivity=self.divisions, randomness=place)
        noisy = torch.from_numpy(np.asarray(shown, dtype=np.float64))
        return (noisy * (self.max_grad_norm / self.divisions)).to(self.like)


def summed(config: DPSGD, clipped_sum: GradientSum) -> GradientSum:
    """Return the sum that the noise of `config` is added to: in whole numbers where that asks for them."""
    if isinstance(config.noise, WHOLE):
        divisions = config.noise.divisions
        return WholeSum(clipped_sum=clipped_sum, max_grad_norm=config.max_grad_norm, divisions=divisions)
    return clipped_sum


def released(
    config: DPSGD, law: RoundedGaussian | LatticeGaussian, *, source: Source, run: int, like: Tensor
) -> Released:
    """Return the noisy sums of a run of `config`."""
    return Released(
        mechanism=law.mechanism(config.noise_multiplier),
        max_grad_norm=config.max_grad_norm,
        divisions=law.divisions,
        source=source,
        run=run,
        like=like,
    )
