"""How far noise in floats is from the normal noise that accountants price, and what that leaves open."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mechanisms.core import validate


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseResolution:
    """Figures of noise z̃ in floats beside standard normals z of which it is made, see `dpsgd.core.box_muller`.

    There are independent standard normals z, one for each coordinate of each step, with

        |z̃ − z| <= error,     but for an event of probability <= failure for each coordinate of each step.      (1)

    Accountants price sum + scale · z in real numbers; what is shown is the float sum + scale · z̃. The law of floats
    is a sum of atoms and that of normals has none: their total variation is 1 and their divergences are infinite, so
    that no δ, however large, covers the difference. What (1) gives is a guarantee at a resolution. Let a step that adds
    scale · z to sums at most the sensitivity apart be (ε, δ)-DP, A any set of outputs and A⁺ all that lies within
    2 · scale · error of it in every coordinate, before the sum is rounded. For neighbouring sums, d coordinates and the
    same releases before,

        P̃(A) <= e^ε Q̃(A⁺) + δ + (1 + e^ε) · d · failure,

    since P̃(A) <= P(A within 1 · scale · error) + d · failure, that set is priced, and Q is taken back to Q̃ likewise.
    So nothing is lost against those who see releases no finer than that. It says nothing on who reads the last digits:
    neighbouring sums may have other floats within reach, an attack that has been shown on DP-SGD itself [JMRO22] after
    [Mir12], and that adding up several draws [HB21] makes costlier but does not exclude by any theorem. What excludes
    it are discrete noise on sums in a public grid, and rounding sum + noise exactly, as if all digits were known
    (`mechanisms.core.exact_noise`); interval refining [HDHSH22] is of that kind. Sums of floats also round: one record
    can move them by more than the bound on its contribution [CSVW22], which is apart from noise and not covered here.

    Args:
        dtype: of the noise, "float32" or "float64".
        largest: no |z̃| is above this, up to rounding; normals are, with a probability below `failure`.
        error: see (1), in units of the scale.
        failure: see (1).

    Guarantees: (1) is proved for log, sin and cos that are off by at most 4 ulp, which tests establish for the machine
    they run on, and of compiled noise, `dpsgd.core.compiled_noise`, for every machine that rounds as IEEE 754 says; and
    for words that are uniform, as AES makes them for whoever lacks the key.

    >>> RESOLUTIONS["float32"].failure_within(coordinates=203_530, steps=10_000) < 1e-14
    True

    [Mir12] I. Mironov. On Significance of the Least Significant Bits for Differential Privacy. CCS 2012.
    [JMRO22] J. Jin, E. McMurtry, B. I. P. Rubinstein, O. Ohrimenko. Are We There Yet? Timing and Floating-Point Attacks
    on Differential Privacy Systems. IEEE S&P 2022. arXiv:2112.05307.
    [HB21] N. Holohan, S. Braghin. Secure Random Sampling in Differential Privacy. ESORICS 2021. arXiv:2107.10138.
    [CSVW22] S. Casacuberta, M. Shoemate, S. Vadhan, C. Wagaman. Widespread Underestimation of Sensitivity in
    Differentially Private Libraries and How to Fix It. CCS 2022. arXiv:2207.10635.
    [HDHSH22] S. Haney, D. Desfontaines, L. Hartman, R. Shrestha, M. Hay. Precision-based Attacks and Interval Refining:
    How to Break, Then Fix, Differential Privacy on Finite Computers. 2022. arXiv:2207.13793.
    """

    dtype: str
    largest: float
    error: float
    failure: float

    def failure_within(self, *, coordinates: int, steps: int) -> float:
        """Return a bound on the probability that any coordinate of any step misses its normal by more than `error`.

        Args:
            coordinates: of a step, >= 1.
            steps: >= 1.
        """
        coordinates = validate.count("NoiseResolution", "coordinates", coordinates, least=1)
        steps = validate.count("NoiseResolution", "steps", steps, least=1)
        return min(1.0, coordinates * steps * self.failure)  # a power of two times a whole number below 2^53


RESOLUTIONS = {
    "float32": NoiseResolution(
        dtype="float32", largest=math.sqrt(2 * 97 * math.log(2.0)), error=2.0**-16, failure=2.0**-80
    ),
    "float64": NoiseResolution(
        dtype="float64", largest=math.sqrt(2 * 129 * math.log(2.0)), error=2.0**-34, failure=2.0**-96
    ),
}
