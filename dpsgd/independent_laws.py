"""Noise that is drawn anew in every step, as a law of a run: as floats, as exact roundings, or as whole numbers.

Of discrete noise in several dimensions Rényi divergences are known, and no pair [CKS20]; for what is known by those
alone there are theorems here on fixed-size samples and, as the noise is symmetric, on Poisson samples.

[CKS20] see `mechanisms.discrete_gaussian`.
[Mir12] see `mechanisms.gaussian`.
[CSVW22] see `mechanisms.core.exact_noise`.
"""

from __future__ import annotations

from dataclasses import dataclass

from dpsgd.core import schemes
from dpsgd.core.schemes import Scheme
from dpsgd.correlated_laws import MatrixGaussian, NoiseLaw, refusal
from dpsgd.cyclic import Cyclic, CyclicPoisson
from mechanisms import DiscreteGaussian, FixedSize, Gaussian, InvalidParameter, Poisson
from mechanisms.core import validate
from mechanisms.core.process import Process

FINEST = 2**30
"""Divisions: whole sums of up to 2^33 records stay within 64 bits."""


@dataclass(frozen=True, slots=True)
class IndependentGaussian(NoiseLaw):
    """Gaussian noise drawn anew in every step, as floats: the noise of DP-SGD.

    Guarantees: see `mechanisms.core.randomness.normals` for what floating-point noise does not cover, and
    `dpsgd.gradient_sum` for what floating-point sums do not.

    >>> IndependentGaussian()
    IndependentGaussian()
    """

    def check(self, sampling: Scheme, steps: int) -> None:
        """Refuse CyclicPoisson, in which nothing is gained."""
        _check_no_groups(self, sampling)

    def described(
        self, *, noise_multiplier: float, sampling: Scheme, executed: int, steps_per_epoch: int | None
    ) -> Process:
        """Return the sampled Gaussian steps."""
        return _independent(noise_multiplier, sampling, executed, steps_per_epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundedGaussian(NoiseLaw):
    """Gaussian noise, exactly, on exact sums: what is shown is a rounding of a real-valued Gaussian release.

    Each record's clipped gradient is rounded towards zero to whole multiples of max_grad_norm / `divisions`, so that
    its norm never rises; these are summed in integers, and `mechanisms.Gaussian.release` adds the noise. The price is
    that of independent Gaussian noise, floating-point attacks included [Mir12, CSVW22]. It takes a backward pass for
    each record, alone, as in a batch the bits of one record's gradient may depend on the others.

    Args:
        divisions: how many steps of the grid max_grad_norm is, in [1, 2^30].

    Raises:
        InvalidParameter: if the divisions lie elsewhere.

    >>> RoundedGaussian()
    RoundedGaussian(divisions=16777216)
    """

    divisions: int = 2**24

    def __post_init__(self) -> None:
        object.__setattr__(self, "divisions", _divisions(self))

    def check(self, sampling: Scheme, steps: int) -> None:
        """Refuse CyclicPoisson, in which nothing is gained."""
        _check_no_groups(self, sampling)

    def mechanism(self, noise_multiplier: float) -> Gaussian:
        """Return one step."""
        return Gaussian(noise_multiplier=noise_multiplier)

    def described(
        self, *, noise_multiplier: float, sampling: Scheme, executed: int, steps_per_epoch: int | None
    ) -> Process:
        """Return the sampled Gaussian steps."""
        return _independent(noise_multiplier, sampling, executed, steps_per_epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatticeGaussian(NoiseLaw):
    """Discrete Gaussian noise on exact sums: whole multiples of max_grad_norm / `divisions`, as for RoundedGaussian.

    Its Rényi divergences are at most those of Gaussian noise of the same multiplier, in any number of dimensions
    [CKS20], on Poisson samples as well (`mechanisms.core.poisson_renyi`), and no more is known of it: it costs what
    `accountant.rdp` gives for Gaussian noise or a little more, under replace-one neighbours clearly more, where
    RoundedGaussian is priced by its pair. Use it where the released numbers must be whole.

    Args:
        dimension: number of trainable parameters, `dpsgd.count_parameters(model)`.
        divisions: as for RoundedGaussian, and the sensitivity of the sums.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> LatticeGaussian(dimension=7210, divisions=1024)
    LatticeGaussian(dimension=7210, divisions=1024)
    """

    dimension: int
    divisions: int = 2**24

    def __post_init__(self) -> None:
        dimension = validate.count("LatticeGaussian", "dimension", self.dimension, least=1)
        object.__setattr__(self, "dimension", dimension)
        object.__setattr__(self, "divisions", _divisions(self))

    def check(self, sampling: Scheme, steps: int) -> None:
        """Refuse all but Poisson and FixedSize."""
        if not isinstance(sampling, (FixedSize, Poisson)):
            raise refusal(
                self,
                sampling,
                "FixedSize(...) or Poisson(...)",
                "only Rényi divergences are known of discrete noise in several dimensions, and there is no theorem on "
                "samples of this kind for those.\nUse RoundedGaussian(), which is as exact and goes with this scheme.",
            )

    def mechanism(self, noise_multiplier: float) -> DiscreteGaussian:
        """Return one step."""
        return DiscreteGaussian(noise_multiplier=noise_multiplier, sensitivity=self.divisions, dimension=self.dimension)

    def described(
        self, *, noise_multiplier: float, sampling: Scheme, executed: int, steps_per_epoch: int | None
    ) -> Process:
        """Return the sampled discrete Gaussian steps."""
        return schemes.described(self.mechanism(noise_multiplier), sampling, executed, steps_per_epoch)


def _independent(noise_multiplier: float, sampling: Scheme, executed: int, steps_per_epoch: int | None) -> Process:
    if not isinstance(sampling, Cyclic):
        return schemes.described(Gaussian(noise_multiplier=noise_multiplier), sampling, executed, steps_per_epoch)
    alone = MatrixGaussian(coefficients=(1.0,))  # Gaussian steps would be priced for neighbours by add_remove too
    return alone.described(
        noise_multiplier=noise_multiplier, sampling=sampling, executed=executed, steps_per_epoch=steps_per_epoch
    )


def _divisions(law: RoundedGaussian | LatticeGaussian) -> int:
    owner = type(law).__name__
    found = validate.count(owner, "divisions", law.divisions, least=1)
    if found > FINEST:
        raise InvalidParameter(f"{owner}: divisions must be at most 2^30, got {found}: sums would leave 64 bits.")
    return found


def _check_no_groups(noise: NoiseLaw, sampling: Scheme) -> None:
    if isinstance(sampling, CyclicPoisson):
        raise refusal(
            noise,
            sampling,
            "another scheme",
            "groups that take turns serve banded noise alone.\nUse Poisson(probability=...), or MatrixGaussian(...).",
        )
