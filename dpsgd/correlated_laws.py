"""Noise that is correlated from step to step, as a law of a run: what steps add, later ones take off again in part.

So the sums of all steps up to one, which the weights are made of, carry less noise. It is priced by how far apart a
record's steps lie [KMSTTX21, CC23]: orders and samples that are drawn anew leave that open, and are refused.

[KMSTTX21] see `mechanisms.tree`.
[CC23] see `mechanisms.matrix`.
[DMPST24], [MXZ24] see `mechanisms.core.buffered`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

from dpsgd.core.schemes import Scheme
from dpsgd.cyclic import Cyclic, CyclicPoisson
from mechanisms import Compose, InvalidParameter, MatrixMechanism, Tree
from mechanisms.core import buffered, validate
from mechanisms.core.buffered import BufferedNoise
from mechanisms.core.correlated_noise import CorrelatedNoise
from mechanisms.core.process import Process
from mechanisms.matrix import MOST_STEPS

MOST_BUFFERS = 64
MOST_SEARCHED = 10**5
"""Steps: some seconds."""
APART = "its price rests on how far apart a record's steps lie, which that leaves open."
FIXED = (
    "Use Cyclic() on records in an order that was drawn once, or that tells nothing; steps_per_epoch=1 for full batches"
)
SAMPLED = "MatrixGaussian(...) with CyclicPoisson(...) to sample."


class NoiseLaw(ABC):
    """What is added to the clipped sums of a run."""

    __slots__ = ()

    @abstractmethod
    def check(self, sampling: Scheme, steps: int) -> None:
        """Refuse a scheme for which there is no theorem.

        Raises:
            InvalidParameter: naming both, and what to use.
        """

    @abstractmethod
    def described(
        self, *, noise_multiplier: float, sampling: Scheme, executed: int, steps_per_epoch: int | None
    ) -> Process:
        """Return the process of the first `executed` steps."""

    def of_first(self, steps: int) -> Self:
        """Return the law of a run of so many first steps alone, which adds to them what this one does, bit for bit."""
        return self


class CorrelatedLaw(NoiseLaw):
    """Noise whose rows a mechanism for prefix sums describes, made by it."""

    __slots__ = ()

    @abstractmethod
    def mechanism(self, *, noise_multiplier: float, steps: int, steps_per_epoch: int | None) -> MatrixMechanism | Tree:
        """Return what `steps` >= 1 steps are, a record's own ones as far apart as an epoch is long."""

    def rows(self, mechanism: MatrixMechanism | Tree, size: int, *, sensitivity: float, start: int) -> CorrelatedNoise:
        """Return the noise that `mechanism`, of this law, describes: see its `noise`."""
        return mechanism.noise(size, sensitivity=sensitivity, start=start)

    def described(
        self, *, noise_multiplier: float, sampling: Scheme, executed: int, steps_per_epoch: int | None
    ) -> Process:
        """Return the mechanism of the steps executed."""
        if not executed:
            return Compose(())
        return self.mechanism(noise_multiplier=noise_multiplier, steps=executed, steps_per_epoch=steps_per_epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixGaussian(CorrelatedLaw):
    """Noise (C^{-1} z)_t, C lower triangular with c_0, c_1, …, c_{b−1} down its columns: banded matrix factorisation.

    See `mechanisms.MatrixMechanism` for the price, which only the ratios of the
    coefficients matter for, at a given ε: `square_root(b)` and `optimised(steps=..., bands=b)` of `mechanisms.matrix`.

    With Cyclic a record's steps lie steps_per_epoch apart, without amplification; with CyclicPoisson of as many groups
    as bands it is amplified by sampling.

    Args:
        coefficients: c_0, …, c_{b−1}, finite, c_0 not 0, no more than steps.

    Raises:
        InvalidParameter: if the coefficients break their rule.

    >>> MatrixGaussian(coefficients=[1, 0.5])
    MatrixGaussian(coefficients=(1.0, 0.5))
    """

    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        given = validate.sequence("MatrixGaussian", "coefficients", self.coefficients)
        alone = MatrixMechanism(noise_multiplier=0.0, coefficients=given, steps=max(1, len(given)))  # type: ignore[arg-type]
        object.__setattr__(self, "coefficients", alone.coefficients)

    def check(self, sampling: Scheme, steps: int) -> None:
        """Refuse all but Cyclic and CyclicPoisson of as many groups as bands, and more bands than steps."""
        bands = len(self.coefficients)
        if not isinstance(sampling, (Cyclic, CyclicPoisson)):
            raise refusal(
                self,
                sampling,
                f"Cyclic() or CyclicPoisson(probability=..., groups={bands})",
                f"{APART}\n{FIXED}.",
            )
        if isinstance(sampling, CyclicPoisson) and sampling.groups != bands:
            raise InvalidParameter(
                f"DPSGD: groups of {sampling!r} must be the number of coefficients of its noise, {bands}: a record's "
                f"steps must lie as far apart as one step's noise reaches.\nUse groups={bands}."
            )
        if bands > steps:
            raise InvalidParameter(
                f"DPSGD: steps must be at least the number of coefficients of its noise, got {steps} and {bands}.\n"
                "Leave out the coefficients beyond the last step: they add nothing."
            )

    def of_first(self, steps: int) -> Self:
        """Return the law without the coefficients beyond the last of so many steps."""
        return replace(self, coefficients=self.coefficients[:steps])

    def mechanism(self, *, noise_multiplier: float, steps: int, steps_per_epoch: int | None) -> MatrixMechanism:
        """Return what `steps` >= 1 steps are, a record's own ones as far apart as an epoch is long."""
        return MatrixMechanism(
            noise_multiplier=noise_multiplier,
            coefficients=self.coefficients[:steps],
            **pattern(steps, steps_per_epoch),
        )

    def described(
        self, *, noise_multiplier: float, sampling: Scheme, executed: int, steps_per_epoch: int | None
    ) -> Process:
        """Return the matrix mechanism of the pattern, or its sampled rounds: the first one counts as a whole."""
        if executed and isinstance(sampling, CyclicPoisson):
            steps = max(executed, len(self.coefficients))
            run = self.mechanism(noise_multiplier=noise_multiplier, steps=steps, steps_per_epoch=None)
            return run.amplified(probability=sampling.probability)
        return CorrelatedLaw.described(
            self,
            noise_multiplier=noise_multiplier,
            sampling=sampling,
            executed=executed,
            steps_per_epoch=steps_per_epoch,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferedGaussian(CorrelatedLaw):
    """Noise (C^{-1} z)_t, c_m = Σ_i weights_i decays_i^m down the columns of C: as far as the run reaches [DMPST24].

    What MatrixGaussian makes of as many rows as it has bands, this makes of one for each term, BLT for short. Its
    price is known exactly for any number of participations [MXZ24], and it can't be amplified, as all of a record's
    steps meet.

    Args:
        weights: above 0, at most 64; only their ratios matter, at a given ε.
        decays: in [0, 1], as many.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> BufferedGaussian(weights=[0.5, 0.5], decays=[0.9, 0.2])
    BufferedGaussian(weights=(0.5, 0.5), decays=(0.9, 0.2))
    """

    weights: tuple[float, ...]
    decays: tuple[float, ...]

    def __post_init__(self) -> None:
        owner = "BufferedGaussian"
        weights = tuple(
            validate.positive(owner, "weights", one) for one in validate.sequence(owner, "weights", self.weights)
        )
        decays = tuple(
            validate.probability(owner, "decays", one) for one in validate.sequence(owner, "decays", self.decays)
        )
        if not 1 <= len(weights) <= MOST_BUFFERS or len(decays) != len(weights):
            raise InvalidParameter(
                f"{owner}: weights must number from 1 to {MOST_BUFFERS}, and decays as many, got {len(weights)} and "
                f"{len(decays)}.\nUse BufferedGaussian.optimised(steps=..., steps_per_epoch=...)."
            )
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "decays", decays)
        self.mechanism(noise_multiplier=0.0, steps=1, steps_per_epoch=None)  # of which c_0 is to be within bounds

    @classmethod
    def optimised(cls, *, steps: int, steps_per_epoch: int | None = None, buffers: int = 4) -> BufferedGaussian:
        """Return the law of least mean squared error of prefix sums at a given ε, as far as descent tells.

        The price of what it finds is certified like any other's. Four terms do for thousands of steps.

        Args:
            steps: of the run, in [1, 10^5].
            steps_per_epoch: of the run, None for one epoch.
            buffers: number of terms, in [1, 64].

        Raises:
            InvalidParameter: if a value breaks its rule.

        >>> law = BufferedGaussian.optimised(steps=64, steps_per_epoch=16, buffers=2)
        >>> [round(weight, 1) for weight in law.weights], [round(decay, 1) for decay in law.decays]
        ([0.6, 0.4], [0.9, 0.0])
        """
        owner = "BufferedGaussian"
        steps = validate.count(owner, "steps", steps, least=1)
        apart = steps if steps_per_epoch is None else validate.count(owner, "steps_per_epoch", steps_per_epoch, least=1)
        buffers = validate.count(owner, "buffers", buffers, least=1)
        if steps > MOST_SEARCHED or buffers > MOST_BUFFERS:
            raise InvalidParameter(
                f"{owner}: steps must be at most {MOST_SEARCHED} and buffers at most {MOST_BUFFERS} to search, got "
                f"{steps} and {buffers}.\nWhat is found for {MOST_SEARCHED} steps may run for more: its price is "
                "certified, whatever it was found for."
            )
        weights, decays = buffered.found(steps=steps, buffers=buffers, separation=min(apart, steps))
        return cls(weights=weights, decays=decays)

    def check(self, sampling: Scheme, steps: int) -> None:
        """Refuse all but Cyclic, and more steps than coefficients are written down for."""
        if not isinstance(sampling, Cyclic):
            raise refusal(self, sampling, "Cyclic()", f"{APART}\n{FIXED}, or {SAMPLED}")
        if steps > MOST_STEPS:
            raise InvalidParameter(f"DPSGD: steps must be at most {MOST_STEPS} for {self!r}, got {steps}.")

    def mechanism(self, *, noise_multiplier: float, steps: int, steps_per_epoch: int | None) -> MatrixMechanism:
        """Return what `steps` >= 1 steps are, a record's own ones as far apart as an epoch is long.

        Its coefficients are c_m rounded up: upper ends hold for what runs, lower ends are theirs.
        """
        coefficients = buffered.coefficients(self.weights, self.decays, steps)
        return MatrixMechanism(
            noise_multiplier=noise_multiplier, coefficients=coefficients, **pattern(steps, steps_per_epoch)
        )

    def rows(self, mechanism: MatrixMechanism | Tree, size: int, *, sensitivity: float, start: int) -> CorrelatedNoise:
        """Return the noise that `mechanism` describes, from a row for each term."""
        alike = mechanism.noise(size, sensitivity=sensitivity, start=start)
        common = {name: getattr(alike, name) for name in ("size", "scale", "stream", "start")}
        return BufferedNoise(weights=self.weights, decays=self.decays, **common)


@dataclass(frozen=True, slots=True)
class TreeGaussian(CorrelatedLaw):
    """The noise of prefix sums that are read off a binary tree of noisy sums of steps: DP-FTRL without restarts.

    See `mechanisms.Tree` for the price. It is that of a record whose steps lie at least steps_per_epoch apart, wherever
    that is worst; those of Cyclic lie exactly so far apart: its upper ends hold, its lower ends are that record's.

    >>> TreeGaussian()
    TreeGaussian()
    """

    def check(self, sampling: Scheme, steps: int) -> None:
        """Refuse all but Cyclic."""
        if not isinstance(sampling, Cyclic):
            raise refusal(self, sampling, "Cyclic()", f"{APART}\n{FIXED}, or {SAMPLED}")

    def mechanism(self, *, noise_multiplier: float, steps: int, steps_per_epoch: int | None) -> Tree:
        """Return what `steps` >= 1 steps are, a record's own ones as far apart as an epoch is long."""
        return Tree(noise_multiplier=noise_multiplier, **pattern(steps, steps_per_epoch))


def pattern(steps: int, steps_per_epoch: int | None) -> dict[str, int]:
    """Return how often a record takes part in so many steps, one an epoch, and how far apart."""
    apart = min(steps, steps_per_epoch or steps)
    return {"steps": steps, "participations": -(-steps // apart), "separation": apart}


def refusal(noise: NoiseLaw, sampling: Scheme, allowed: str, reason: str) -> InvalidParameter:
    """Return the error for a scheme that a law does not go with."""
    return InvalidParameter(f"DPSGD: sampling must be {allowed} for {noise!r}, got {sampling!r}: {reason}")
