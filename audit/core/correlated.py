"""What an auditor reads from the description of a run whose noise is correlated from step to step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from audit.core.whitening import ToeplitzWhitening, TreeWhitening, Whitening
from mechanisms import MatrixMechanism, NumericalFailure, PerUser, Process, Tree, UnsupportedProcess
from mechanisms.core.toeplitz import reciprocal

Array = NDArray[np.float64]
MOST_BANDS = 1024  # rows of projections that are kept: without a bound memory would grow with the steps
LARGEST_GROWTH = 2.0**12  # of noise: sums are made in float32, whose rounding is whitened along with it
MOST_STEPS = 10**6  # as many as the matrix mechanism has: prefix variances take as many floats


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelatedRun:
    """`steps` noisy sums with rows of a matrix mechanism or a tree, on records whose steps are public.

    Args:
        process: the description.
        mechanism: of the rows, which is the description but for the unit.
    """

    process: Process
    mechanism: MatrixMechanism | Tree

    @classmethod
    def of(cls, process: Process) -> CorrelatedRun:
        """Return the run that `process` describes.

        Raises:
            UnsupportedProcess: if it is no matrix mechanism or tree, one of too many bands or steps, or of noise that
                grows.

        >>> run = CorrelatedRun.of(Tree(noise_multiplier=2.0, steps=8))
        >>> run.noise_multiplier, run.with_noise(1.0)
        (2.0, Tree(noise_multiplier=1.0, steps=8, participations=1, separation=1))
        """
        inner = correlated_mechanism(process)
        if inner is None:
            raise UnsupportedProcess(
                f"audit: the process must be a MatrixMechanism or a Tree for noise to be whitened, got {process!r}.\n"
                "Rounds of CyclicPoisson are described without their correlation, and hide who takes part: what a "
                "record adds to the whitened sums is not known there."
            )
        if isinstance(inner, MatrixMechanism) and len(inner.coefficients) > MOST_BANDS:
            raise UnsupportedProcess(
                f"audit: coefficients must number at most {MOST_BANDS} for noise to be whitened, got "
                f"{len(inner.coefficients)}: as many rows of projections are kept.\n"
                "Use MatrixGaussian of fewer bands, TreeGaussian(), or audit a run of fewer steps."
            )
        if inner.steps > MOST_STEPS:
            raise UnsupportedProcess(
                f"audit: steps must be at most {MOST_STEPS} for noise to be whitened, got {inner.steps}."
            )
        if isinstance(inner, MatrixMechanism) and not growth(inner.coefficients, inner.steps) <= LARGEST_GROWTH:
            raise UnsupportedProcess(
                "audit: the process must have noise that does not grow beyond what float32 sums hold, "
                f"got {inner.coefficients!r}.\nUse coefficients that fall from the first one on, such as "
                "square_root(bands)."
            )
        return cls(process=process, mechanism=inner)

    @property
    def noise_multiplier(self) -> float:
        """σ, standard deviation of the white noise ÷ largest norm of a record's contribution to a step."""
        return self.mechanism.noise_multiplier

    @property
    def steps(self) -> int:
        """T."""
        return self.mechanism.steps

    @property
    def whitening(self) -> Whitening:
        """S, which makes the rows white."""
        if isinstance(self.mechanism, Tree):
            return TreeWhitening()
        return ToeplitzWhitening(coefficients=self.mechanism.coefficients)

    def with_noise(self, noise_multiplier: float) -> Process:
        """Return the description with this noise in its place."""
        return self._described(replace(self.mechanism, noise_multiplier=noise_multiplier))

    def first(self, steps: int) -> Process:
        """Return the description of the first `steps` >= 1 sums: noise reaches forward alone, and so do turns.

        >>> CorrelatedRun.of(Tree(noise_multiplier=2.0, steps=8, participations=3, separation=3)).first(4)
        Tree(noise_multiplier=2.0, steps=4, participations=2, separation=3)
        """
        apart = min(steps, self.mechanism.separation)
        turns = min(self.mechanism.participations, -(-steps // apart))
        pattern = {"steps": steps, "participations": turns, "separation": apart}
        if isinstance(self.mechanism, Tree):
            return self._described(replace(self.mechanism, **pattern))
        seen = self.mechanism.coefficients[:steps]
        return self._described(replace(self.mechanism, coefficients=seen, **pattern))

    def _described(self, mechanism: MatrixMechanism | Tree) -> Process:
        return PerUser(mechanism) if isinstance(self.process, PerUser) else mechanism

    def prefix_variance(self, steps: int) -> float:
        """Return the variance of a coordinate of the noise of the first `steps` >= 1 sums together, ÷ (σC)²."""
        return float(_prefix_variances(replace(self.mechanism, noise_multiplier=1.0))[steps - 1])


def correlated_mechanism(process: Process | None) -> MatrixMechanism | Tree | None:
    """Return the matrix mechanism or tree that a process is, whatever its unit; None where it is neither."""
    inner = process.part if isinstance(process, PerUser) else process
    return inner if isinstance(inner, (MatrixMechanism, Tree)) else None


@lru_cache(maxsize=64)
def growth(coefficients: tuple[float, ...], steps: int) -> float:
    """Return the largest deviation of a row of noise ÷ that of the white noise, times |c_0|; inf beyond floats.

    >>> growth((2.0, 0.0), 3), growth((1.0, -2.0), 3) == 21**0.5
    (1.0, True)
    """
    try:
        inverse = reciprocal(np.array(coefficients), steps)
    except NumericalFailure:
        return np.inf
    with np.errstate(over="ignore"):
        return float(abs(coefficients[0]) * np.linalg.norm(inverse))


@lru_cache(maxsize=8)
def _prefix_variances(mechanism: MatrixMechanism | Tree) -> Array:
    return mechanism.squared_errors()


def correlated_run(process: Process | None) -> CorrelatedRun | None:
    """Return the run described, None where it is none of correlated noise, or one that is not whitened."""
    if process is None:
        return None
    try:
        return CorrelatedRun.of(process)
    except UnsupportedProcess:
        return None
