"""The laws of noise of a training run: what is added to the clipped sums, how that is described, what it goes with.

With S_t the clipped sum of step t, B = max_grad_norm, σ = noise_multiplier and z_t independent N(0, (σB)² I):

    | law | shown in step t | described as | sampling |
    |---|---|---|---|
    | IndependentGaussian | S_t + z_t | Gaussian | all but CyclicPoisson |
    | RoundedGaussian | S_t in whole multiples of B/divisions, plus z_t, rounded | Gaussian | all but CyclicPoisson |
    | LatticeGaussian | S_t as before, plus discrete noise | DiscreteGaussian | Poisson, FixedSize |
    | MatrixGaussian | S_t + (C^{-1} z)_t, C a banded Toeplitz matrix | MatrixMechanism | Cyclic, CyclicPoisson |
    | BufferedGaussian | the same, C of all bands, c_m a sum of few powers λ^m | MatrixMechanism | Cyclic |
    | TreeGaussian | S_t + what step t changes in the noise of a tree's prefix sums | Tree | Cyclic |

A law names the schemes for which there is a theorem and refuses all others. With Cyclic the description is that of a
`MatrixMechanism` of one band for noise that is not correlated. The mechanism that describes noise also draws it, see
`dpsgd.core.correlated` and `dpsgd.core.whole`.
"""

from __future__ import annotations

from typing import Any, get_args

from dpsgd.clipping import AdaptiveQuantile, Clipping, Flat
from dpsgd.correlated_laws import BufferedGaussian, MatrixGaussian, TreeGaussian
from dpsgd.independent_laws import IndependentGaussian, LatticeGaussian, RoundedGaussian
from mechanisms import InvalidParameter

Noise = IndependentGaussian | RoundedGaussian | LatticeGaussian | MatrixGaussian | BufferedGaussian | TreeGaussian
LAWS = {kind.__name__: kind for kind in get_args(Noise)}
INDEPENDENT = IndependentGaussian()


def checked_noise(noise: object) -> Any:
    """Return `noise` if it is one of the laws that are drawn, exactly: a kind of one may describe another.

    Raises:
        InvalidParameter: if it is none.
    """
    if type(noise) in LAWS.values():
        return noise
    raise InvalidParameter(
        f"DPSGD: noise must be one of {', '.join(LAWS)}, got {noise!r}.\n"
        "How much there is of it is the noise_multiplier. Use IndependentGaussian() for the noise of DP-SGD."
    )


def check_clipping(noise: Noise, clipping: Clipping) -> None:
    """Refuse a clipping that the noise does not go with.

    Raises:
        InvalidParameter: if the bound moves under noise of one scale, or whole numbers would be clipped otherwise.
    """
    if isinstance(clipping, AdaptiveQuantile) and not isinstance(noise, IndependentGaussian):
        raise InvalidParameter(
            f"DPSGD: noise must be IndependentGaussian() for {clipping!r}, whose bound moves the noise from step to "
            f"step, got {noise!r}."
        )
    if isinstance(noise, (RoundedGaussian, LatticeGaussian)) and not isinstance(clipping, Flat):
        raise InvalidParameter(
            f"DPSGD: clipping must be Flat() for {noise!r}, which scales whole numbers by one norm, got {clipping!r}."
        )
