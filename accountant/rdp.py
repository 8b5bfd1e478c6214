"""Rényi differential privacy: the Rényi divergences of the steps add up, order by order.

[Mir17] I. Mironov. Rényi Differential Privacy. CSF 2017. arXiv:1702.07476.
[MTZ19] I. Mironov, K. Talwar, L. Zhang. Rényi Differential Privacy of the Sampled Gaussian Mechanism. 2019.
arXiv:1908.10530.
[CKS20], [ALCKS20] see `accountant.core.renyi_conversions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accountant.core.base import Accountant
from accountant.core.profile import Profile
from accountant.core.renyi_conversions import CONVERSIONS, Conversion
from accountant.core.renyi_curve import PLACES, RenyiCurve
from accountant.core.renyi_steps import renyi_steps
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency, Process

ORDERS: tuple[float, ...] = tuple((1.0 + 2.0 ** (PLACES / 3.0)).tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class RDP(Accountant):
    """Σ n_i D_α(P_i ‖ Q_i) at every order α [Mir17, Prop 1], turned into δ(ε) and minimised over the orders.

    Divergences come from the steps' pairs, from Rényi bounds that they state themselves, or from the smaller of both.
    Where steps have a pair, `pld` and `contour` are tighter; this is the route for steps that have none, for
    heterogeneous steps by the million, and for comparison with numbers in papers.

    Assumes that every step has a pair or a Rényi bound. Guarantees: an upper bound for every order: each gives one,
    and divergences are computed by a quadrature whose error is bounded and added. ε is infinite where a step's pair
    counts any outcome as one that tells all, as many draws with replacement do with probability 1e-32: so is then
    every divergence, and `pld` has the better route. On the case of Abadi et al. (σ = 4, q = .01, 10,000 steps,
    δ = 1e-5) the truth is .946867:

    >>> from mechanisms import Gaussian, Poisson, Repeat, Sampled
    >>> abadi = Repeat(Sampled(Gaussian(noise_multiplier=4.0), Poisson(probability=0.01)), 10_000)
    >>> for conversion in ("mironov", "cks", "asoodeh"):
    ...     found = RDP(conversion=conversion).profile(abadi, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5)
    ...     print(f"{conversion}: {found.upper:.6f}, {found.upper / 0.946867 - 1:.1%} above the truth")
    mironov: 1.258376, 32.9% above the truth
    cks: 1.035384, 9.3% above the truth
    asoodeh: 1.035377, 9.3% above the truth

    Args:
        orders: the α > 1 to minimise over, None for the best that is found: by default.
        conversion: "cks", "asoodeh" (the best from one order), or "mironov" (the largest, as in numbers published
            before 2020).

    Raises:
        InvalidParameter: if an order is not above 1, there is none, or the conversion unknown.
    """

    orders: tuple[float, ...] | None = None
    conversion: Conversion = "cks"

    def __post_init__(self) -> None:
        validate.choice("RDP", "conversion", self.conversion, CONVERSIONS)
        if self.orders is None:
            return
        orders = tuple(validate.finite("RDP", "order", order) for order in self.orders)
        if not orders or min(orders) <= 1:
            raise InvalidParameter(f"RDP: every order must be above 1, got {self.orders}.")
        object.__setattr__(self, "orders", orders)

    cost: ClassVar[float] = 3.0
    rough: ClassVar[bool] = True

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the upper profile; its lower ends are 0.

        Raises:
            UnsupportedProcess: if neither a pair nor a Rényi bound of a step is known.
        """
        curves = tuple(
            (direction, RenyiCurve(steps=steps, orders=self.orders, conversion=self.conversion))
            for direction, steps in renyi_steps(process, adjacency).items()
            if steps
        )
        return Profile(curves=curves, adjacency=adjacency, method=self.name)
