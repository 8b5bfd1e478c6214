"""Noise that is correlated from step to step, as a law of a run: what steps add, later ones take off again in part.

So the sums of all steps up to one, which the weights are made of, carry less noise. It is priced by how far apart a
record's steps lie [KMSTTX21, CC23]: orders and samples that are drawn anew leave that open, and are refused.

[KMSTTX21] see `mechanisms.tree`.
[CC23] see `mechanisms.matrix`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from dpsgd.core.schemes import Scheme
from dpsgd.cyclic import Cyclic, CyclicPoisson
from mechanisms import Compose, InvalidParameter, MatrixMechanism, Tree
from mechanisms.core import validate
from mechanisms.core.process import Process

APART = "its price rests on how far apart a record's steps lie, which that leaves open."


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixGaussian(NoiseLaw):
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
                f"{APART}\nUse Cyclic() with steps_per_epoch=1 for full batches.",
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
        if not executed:
            return Compose(())
        if isinstance(sampling, CyclicPoisson):
            steps = max(executed, len(self.coefficients))
            run = self.mechanism(noise_multiplier=noise_multiplier, steps=steps, steps_per_epoch=None)
            return run.amplified(probability=sampling.probability)
        return self.mechanism(noise_multiplier=noise_multiplier, steps=executed, steps_per_epoch=steps_per_epoch)


@dataclass(frozen=True, slots=True)
class TreeGaussian(NoiseLaw):
    """The noise of prefix sums that are read off a binary tree of noisy sums of steps: DP-FTRL without restarts.

    See `mechanisms.Tree` for the price. It is that of a record whose steps lie at least steps_per_epoch apart, wherever
    that is worst; those of Cyclic lie exactly so far apart: its upper ends hold, its lower ends are that record's.

    >>> TreeGaussian()
    TreeGaussian()
    """

    def check(self, sampling: Scheme, steps: int) -> None:
        """Refuse all but Cyclic."""
        if not isinstance(sampling, Cyclic):
            raise refusal(
                self, sampling, "Cyclic()", f"{APART}\nUse MatrixGaussian(...) with CyclicPoisson(...) to sample."
            )

    def mechanism(self, *, noise_multiplier: float, steps: int, steps_per_epoch: int | None) -> Tree:
        """Return what `steps` >= 1 steps are, a record's own ones as far apart as an epoch is long."""
        return Tree(noise_multiplier=noise_multiplier, **pattern(steps, steps_per_epoch))

    def described(
        self, *, noise_multiplier: float, sampling: Scheme, executed: int, steps_per_epoch: int | None
    ) -> Process:
        """Return the tree of the pattern."""
        if not executed:
            return Compose(())
        return self.mechanism(noise_multiplier=noise_multiplier, steps=executed, steps_per_epoch=steps_per_epoch)


def pattern(steps: int, steps_per_epoch: int | None) -> dict[str, int]:
    """Return how often a record takes part in so many steps, one an epoch, and how far apart."""
    apart = min(steps, steps_per_epoch or steps)
    return {"steps": steps, "participations": -(-steps // apart), "separation": apart}


def refusal(noise: NoiseLaw, sampling: Scheme, allowed: str, reason: str) -> InvalidParameter:
    """Return the error for a scheme that a law does not go with."""
    return InvalidParameter(f"DPSGD: sampling must be {allowed} for {noise!r}, got {sampling!r}: {reason}")
