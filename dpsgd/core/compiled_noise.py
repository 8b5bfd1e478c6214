"""The noise of float32 sums by one compiled function: `torch._inductor`, with a compiler of C++ for the CPU.

It is made of the words of `dpsgd.core.box_muller` and near the same normals z, by other roundings. What is compiled is
made of conversions, shifts, sums, products and a square root alone, each rounded as IEEE 754 says: so no machine, width
of vectors or number of threads makes other noise, unlike functions of a library. u is the unit roundoff, 2^−24.

1.  −log U. The float x of the word w of U, its two halves joined by one rounding, is m 2^E with √½ <= m < √2, and
    −log(x 2^−32) = (32 − E) log 2 − log m, where log m = t − t²/2 + t³ P(t), t = m − 1, which is exact, and P of
    degree 8 [Mos92]. It is off by at most 4 ulp, 8 u relative.
2.  Angle. The word v of V is a quarter turn q 2^30 and a rest of at most 2^29, exactly. Cosine and sine of the rest's
    angle y, |y| <= π/4, which is off by at most 3.01 u |y|, are polynomials in y² [Mos92], off by at most 4 u; quarter
    turns exchange them and their signs.

That is what `dpsgd.core.box_muller` assumes of its functions, for an angle that is off by less. Its proof holds
here, and with it the figures of `dpsgd.resolution`; tests hold 1 and 2 against exact values, and where there is time
for it for every float that there is. Rare words are left out by the compiled function, and made in float64. What is
compiled is the noise of scale 1: torch multiplies it and adds it to sums, with one rounding where the machine has that.

[Mos92] S. L. Moshier. Cephes Mathematical Library, single precision: logf.c, sinf.c. Netlib, 1992.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from dpsgd.core import box_muller
from dpsgd.core.box_muller import BLOCK, BoxMuller
from dpsgd.core.once import Kernel, inductor, refused
from mechanisms import Source
from mechanisms.core.randomness import Words

RARE = box_muller.RARE["float32"]
TURN = float(np.float32(2.0 * math.pi * 2.0**-32))
ROOT_OF_HALF = 0x3F3504F3
"""The bits of √½ as a float; those of a float's exponent lie above its 23 last bits."""
LOG = (
    0.070376836292, -0.1151461031, 0.1167699874, -0.12420140846, 0.14249322787, -0.16668057665, 0.20000714765,
    -0.24999993993, 0.33333331174,
)  # fmt: skip
SINE = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COSINE = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)


class CompiledBoxMuller(BoxMuller):
    """Makes the noise of float32 sums as `BoxMuller` does, compiled.

    Args:
        source: as there.

    Raises:
        InvalidParameter: if there is no compiler, or it does not round every operation as IEEE 754 says.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source, dtype="float32")
        self._kernel = block_kernel()

    def _fill(self, words: Words, digits: Words) -> None:
        half, signed = BLOCK // 2, words.view("<i4")
        self._noise.fill(0.0)
        [least] = self._kernel([self._first, self._second, torch.from_numpy(signed)])
        if least.item() < RARE:
            for place, radius in self._rare_radii(words[:half], digits):
                angle = 2.0 * math.pi * math.ldexp(int(signed[half + place]), -32)
                self._noise[place] = radius * math.cos(angle)
                self._noise[half + place] = radius * math.sin(angle)


def serves(like: Tensor) -> bool:
    """Return whether noise for tensors like this one can be compiled."""
    return like.dtype == torch.float32 and like.device.type == "cpu"


def block_kernel() -> Kernel:
    """Return the compiled function for the blocks that all noise is made of.

    Raises:
        InvalidParameter: as `CompiledBoxMuller`.
    """
    return kernel(BLOCK)


@functools.cache
def kernel(size: int) -> Kernel:
    """Return the compiled function that adds the noise of a block, which follows from its size alone.

    It is of [first coordinates (h,), others (h,), words (2 h,)], and returns a number, below RARE if a word
    of U is rare.

    Raises:
        InvalidParameter: as `CompiledBoxMuller`.
    """
    half = size // 2
    made_up = np.random.default_rng(0)
    sums = made_up.standard_normal((2, half), dtype=np.float32)  # not 0: what is added to that is rounded once anyway
    first, second = torch.from_numpy(sums.copy())  # whatever torch's defaults are
    words = torch.from_numpy(made_up.integers(-(2**31), 2**31, size, dtype=np.int32))
    compiled = _compiled(first, second, words)
    with torch.no_grad():
        compiled([first, second, words])
        radius = torch.from_numpy(np.sqrt(minus_two_logs(words[:half]).numpy()))
        radius[_distance(words[:half]) < RARE] = 0.0
        cosines, sines = cosines_and_sines(words[half:])
        wanted = [sum_ + radius * turn for sum_, turn in zip(torch.from_numpy(sums), (cosines, sines), strict=True)]
    if not torch.equal(first, wanted[0]) or not torch.equal(second, wanted[1]):
        raise refused("the compiler must round every sum and product of noise as IEEE 754 says")
    return compiled


def _compiled(*made_up: Tensor) -> Kernel:
    # Nothing of a user's is read, and shapes and types are this module's: so there is nothing to look at in a call.
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the compiler's own code, which would fail where they are errors
            graph = make_fx(add_noise)(*(each.clone() for each in made_up))
            compiled = inductor(graph, [each.clone() for each in made_up])
    except Exception as error:
        told = " ".join(str(error).split("\n", 2)[:2]).strip()  # of made-up words
        raise refused(f"noise must compile, got {type(error).__name__}: {told}") from None
    return compiled


def add_noise(first: Tensor, second: Tensor, words: Tensor) -> Tensor:
    """Add z̃ to the coordinates of pairs, in place, nothing to those of rare words; what is compiled.

    Args:
        first: float32 (h,), those made by cosines.
        second: float32 (h,), those made by sines.
        words: int32 (2 h,), of U and then of V, as numbers with a sign.
    """
    half = len(first)
    distance: Tensor = _distance(words[:half])
    radius = torch.sqrt(minus_two_logs(words[:half])).masked_fill(distance < RARE, 0.0)
    cosines, sines = cosines_and_sines(words[half:])
    first.add_(radius * cosines)
    second.add_(radius * sines)
    return distance.amin()


def _distance(words: Any) -> Any:
    """Return how far words lie from 0 or, of those above 2^31, from 2^32 − 1."""
    return words ^ (words >> 31)  # by −1, with which every digit is turned over, or by 0


def minus_two_logs(words: Tensor) -> Tensor:
    """Return −2 log U of words of U, none of which is rare."""
    x = ((words >> 16) & 0xFFFF).to(torch.float32) * 65536.0 + (words & 0xFFFF).to(torch.float32)
    bits = x.view(torch.int32) - ROOT_OF_HALF
    t = ((bits & 0x7FFFFF) + ROOT_OF_HALF).view(torch.float32) - 1.0
    squared = t * t
    log = polynomial(LOG, t) * (t * squared) - squared * 0.5 + t
    return ((32 - (bits >> 23)).to(torch.float32) * math.log(2.0) - log) * 2.0


def cosines_and_sines(words: Tensor) -> tuple[Tensor, Tensor]:
    """Return cos 2πV and sin 2πV of words of V."""
    quarter = (words + 2**29) >> 30
    y = (words - (quarter << 30)).to(torch.float32) * TURN
    squared = y * y
    sine = polynomial(SINE, squared) * (squared * y) + y
    cosine = polynomial(COSINE, squared) * (squared * squared) - squared * 0.5 + 1.0
    odd = (quarter & 1) != 0
    cosine, sine = torch.where(odd, sine, cosine), torch.where(odd, cosine, sine)
    return torch.where(((quarter + 1) & 2) != 0, -cosine, cosine), torch.where((quarter & 2) != 0, -sine, sine)


def polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """Return the polynomial of these coefficients, that of the highest power first.

    >>> float(polynomial((1.0, 2.0, 3.0), torch.tensor(10.0)))
    123.0
    """
    value = x * coefficients[0] + coefficients[1]
    for each in coefficients[2:]:
        value = value * x + each
    return value
