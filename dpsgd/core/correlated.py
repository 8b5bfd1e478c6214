"""Noise that is correlated from step to step, added to flat sums: the rows that `mechanisms` describes, made by it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpsgd.config import DPSGD
from dpsgd.correlated_laws import CorrelatedLaw
from mechanisms import InvalidParameter, Source
from mechanisms.core.correlated_noise import Carried, CorrelatedNoise, Floats


@dataclass(slots=True, kw_only=True, eq=False)
class Correlated:
    """The noise of every step of a run, the same for a step whichever others are asked for, in any order.

    A row is made from those before it: in order, each costs one row of white noise (two of a tree) and what is carried;
    another step than the next takes all rows before it anew, which is what a run that goes on after a stop does once.

    Args:
        rows: from the law's own mechanism, on the run's part of the stream "noise rows".
        source: where white noise comes from.

    Guarantees: made in float64 and rounded to the dtype of the sums; see `mechanisms.core.randomness.normals` for what
    floating-point noise does not cover.
    """

    rows: CorrelatedNoise
    source: Source
    _next: int = 0
    _carried: Carried = ()

    def __call__(self, total: Tensor, *, step: int, scale: float) -> Tensor:
        """Return `total` (d,), in place, with the row of a step added.

        Raises:
            InvalidParameter: if the scale is not that of the run: rows of several scales would take off what others did
                not add, and protect as no one has priced.
        """
        check_scale("Correlated", scale, self.rows.scale)
        if step < self._next:
            self._next, self._carried = 0, ()
        while self._next < step:
            self._following()
        return total.add_(torch.from_numpy(self._following()).to(total))

    def _following(self) -> Floats:
        row, self._carried = self.rows.advance(self._next, self._carried, self.source)
        self._next += 1
        return row


def correlated(config: DPSGD, law: CorrelatedLaw, *, source: Source, run: int, size: int) -> Correlated:
    """Return the noise of a run of `config` on sums of `size` coordinates.

    >>> from dpsgd.correlated_laws import MatrixGaussian
    >>> from dpsgd.cyclic import Cyclic
    >>> from mechanisms import KeyedSource
    >>> law = MatrixGaussian(coefficients=(1.0, 0.5))
    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Cyclic(), expected_batch_size=2, steps=6,
    ...                learning_rate=0.1, steps_per_epoch=3, noise=law)
    >>> noise = correlated(config, law, source=KeyedSource(0), run=0, size=2)
    >>> bool((noise(torch.zeros(2), step=5, scale=1.0) == noise(torch.zeros(2), step=5, scale=1.0)).all())
    True
    """
    mechanism = law.mechanism(
        noise_multiplier=config.noise_multiplier, steps=config.steps, steps_per_epoch=config.steps_per_epoch
    )
    # A stream that neither the mechanism's `stream` nor runs of other laws draw from: one source may serve them all.
    rows = law.rows(mechanism, size, sensitivity=config.max_grad_norm, start=run)
    return Correlated(rows=replace(rows, stream="noise rows"), source=source)


def check_scale(owner: str, scale: float, fixed: float) -> None:
    """Refuse a scale of the noise that is not the run's.

    Raises:
        InvalidParameter: naming both.
    """
    if scale != fixed:
        raise InvalidParameter(
            f"{owner}: scale must be that of the run, noise_multiplier · max_grad_norm = {fixed}, got {scale}.\n"
            "Where the bound on gradients moves from step to step, use IndependentGaussian()."
        )
