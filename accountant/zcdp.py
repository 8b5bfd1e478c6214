"""Zero-concentrated differential privacy: one number a step, D_α <= α ρ at every order, and the numbers add up.

[BS16] M. Bun, T. Steinke. Concentrated Differential Privacy: Simplifications, Extensions, and Lower Bounds. TCC 2016.
arXiv:1605.02065.
[CKS20] see `accountant.core.renyi_conversions`.
[Ste24] T. Steinke. Tight RDP & zCDP Bounds from Pure DP. differentialprivacy.org, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accountant.core.base import Accountant
from accountant.core.concentrated import concentration_of
from accountant.core.profile import Profile
from accountant.core.renyi_curve import RenyiCurve
from mechanisms.core.bounds import Bounds
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency, Process, leaves
from mechanisms.core.renyi import LinearDivergence
from mechanisms.core.renyi_steps import MOST_REPEATS


@dataclass(frozen=True, slots=True)
class ZeroConcentrated(Accountant):
    """ρ = Σ n_i ρ_i, then (ε, δ) by the conversion of [CKS20] at the best order             [BS16, Lem 1.7].

    | step | ρ | why |
    |---|---|---|
    | Gaussian, shift μ | μ²/2 | D_α = α μ²/2, exactly |
    | loss within ±ε, both ways | ε tanh(ε/2) <= ε²/2 | see below |
    | Laplace, shift s | s − 1 + e^{−s} | see below |
    | ZCDP | as stated | |

    The second is at most what randomised response shows [Ste24]: E_Q e^{αL} = cosh(aε)/cosh(ε/2) with a = α − 1/2, so
    that D_α/α is the difference quotient of log cosh(ε√v) between v = 1/4 and v = a². That function of v is concave, as
    tanh(x)/x falls: the quotient is largest where α → 1, and there it is the relative entropy ε tanh(ε/2).
    Likewise the third: E_Q e^{αL} is in proportion to cosh(as) + sinh(as)/(2a), a function of v = a² of order 1/2 all
    of whose zeros lie at v < 0 (they are −1 times the eigenvalues y² of −u'' = y²u, u(0) = 0, u'(s) + u(s)/2 = 0), so
    that it is a product of factors 1 + v/c, c > 0, and its logarithm is concave. Its relative entropy is the largest.

    Use it for unsampled noise of many kinds and for guarantees stated in this currency. Sampling leaves ρ as it was, so
    sampled Gaussians are refused: `rdp` treats them; it takes every order as it is and is never larger.

    Assumes steps of these kinds. Guarantees: an upper bound. It has no answer to the case of Abadi et al., which
    samples. Ten unsampled steps of σ = 10 at δ = 1e-5 have ε = 1.199370 in truth:

    >>> from mechanisms import Gaussian, Repeat
    >>> ten = Repeat(Gaussian(noise_multiplier=10.0), 10)
    >>> found = ZeroConcentrated().profile(ten, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5)
    >>> print(f"{found.upper:.5f}, {found.upper / 1.199370 - 1:.1%} above the truth")
    1.30812, 9.1% above the truth
    """

    cost: ClassVar[float] = 20.0
    rough: ClassVar[bool] = True

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the upper profile; its lower ends are 0.

        Raises:
            UnsupportedProcess: if a step is none of those above; the message names it.
        """
        total, parts = Bounds.exact(0.0), leaves(process)
        for leaf, times in parts:
            if times > MOST_REPEATS:
                raise InvalidParameter("Repeat: times must be at most 2**53 in all for any one step to be priced.")
            total = total + float(times) * Bounds.exact(concentration_of(leaf, adjacency))
        bound = LinearDivergence(rho=max(float(total.upper), 0.0))
        curve = RenyiCurve(steps=(((bound,), 1),), conversion="cks")
        curves = tuple((direction, curve) for direction in adjacency.directions if parts)
        return Profile(curves=curves, adjacency=adjacency, method=self.name)
