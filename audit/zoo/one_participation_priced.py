"""Correlated noise made for a record that takes part once, where it takes part in every epoch.

The coefficients of one epoch were handed to a formula that takes their number for that of all steps: so the sensitivity
is that of a single participation, too small by the root of their number where columns do not meet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.extremes import Neighbours
from audit.core.specimens import MechanismSpecimen
from audit.replay import Additive
from mechanisms import Adjacency, Gaussian, MatrixMechanism
from mechanisms.core.randomness import Source
from mechanisms.matrix import square_root

SOURCE = "google-deepmind/jax_privacy#238: sensitivity short of a factor, the square root of the participations"
EPOCH, EPOCHS = 4, 4
NOISE, COEFFICIENTS = Gaussian(noise_multiplier=1.0), square_root(EPOCH)
Rows = NDArray[np.float64]


def released(records: Rows, source: Source, *, steps: int, epochs: int) -> Rows:
    """Return C x with unit noise, in the unit of its sensitivity for so many steps and epochs; record i in batch i."""
    priced = MatrixMechanism(
        noise_multiplier=1.0, coefficients=COEFFICIENTS, steps=steps, participations=epochs, separation=EPOCH
    )
    stream = np.tile(np.clip(records, -1.0, 1.0), EPOCHS)
    shown = np.convolve(stream, COEFFICIENTS)[: len(stream)] / priced.sensitivity.upper
    return np.asarray(NOISE.release(shown, sensitivity=1.0, randomness=source))


def broken(records: Rows, source: Source) -> Rows:
    """Return it in the unit of one epoch."""
    return released(records, source, steps=EPOCH, epochs=1)


def correct(records: Rows, source: Source) -> Rows:
    """Return it in the unit of all."""
    return released(records, source, steps=EPOCH * EPOCHS, epochs=EPOCHS)


HERE, ZEROED = np.array([1.0, 0.5, -0.5, 0.0]), np.array([0.0, 0.5, -0.5, 0.0])
SPECIMEN = MechanismSpecimen(
    source=SOURCE,
    broken=broken,
    correct=correct,
    caught_by=("replay",),
    neighbours=(Neighbours(name="the first record set to zero", one=HERE, other=ZEROED),),
    adjacency=Adjacency.ZERO_OUT,
    description=Additive(sensitivity=1.0),
    epsilon=None,
)
