"""The moments accountant of 2016: whole moments λ <= 32 of the privacy loss and a tail bound, for old numbers.

[ACG+16] M. Abadi, A. Chu, I. Goodfellow, H. B. McMahan, I. Mironov, K. Talwar, L. Zhang. Deep Learning with
Differential Privacy. CCS 2016. arXiv:1607.00133.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accountant.core.base import Accountant, dominating
from accountant.core.profile import Profile
from accountant.core.renyi_curve import RenyiCurve
from mechanisms.core.process import Adjacency, Process
from mechanisms.core.renyi import PairDivergence

LARGEST_MOMENT = 32


@dataclass(frozen=True, slots=True)
class Moments(Accountant):
    """δ = min over λ of e^{α(λ) − λε}, with α(λ) = Σ n_i log E_P[e^{λL}] and λ = 1, …, 32     [ACG+16, Thm 2].

    As log E_P[e^{λL}] = λ D_{λ+1}(P ‖ Q), it is `rdp` at the orders 2 to 33 with the conversion of its time. Use it to
    reproduce numbers published before 2020, never to decide: `rdp` is as general and nowhere larger.

    Assumes that every step has a dominating pair. Guarantees: an upper bound; the moments are computed by a
    quadrature whose error is bounded and added. On the case of Abadi et al. (σ = 4, q = .01, 10,000 steps, δ = 1e-5),
    where the paper says 1.26 and the truth is .946867:

    >>> from mechanisms import Gaussian, Poisson, Repeat, Sampled
    >>> abadi = Repeat(Sampled(Gaussian(noise_multiplier=4.0), Poisson(probability=0.01)), 10_000)
    >>> found = Moments().profile(abadi, adjacency=Adjacency.ADD_REMOVE).epsilon(1e-5)
    >>> print(f"{found.upper:.5f}, {found.upper / 0.946867 - 1:.1%} above the truth")
    1.25857, 32.9% above the truth
    """

    cost: ClassVar[float] = 30.0
    rough: ClassVar[bool] = True

    def profile(self, process: Process, *, adjacency: Adjacency) -> Profile:
        """Return the upper profile; its lower ends are 0.

        Raises:
            UnsupportedProcess: if a step has no known pair under this adjacency.
        """
        orders = tuple(float(moment + 1) for moment in range(1, LARGEST_MOMENT + 1))
        curves = []
        for direction, parts in dominating(process, adjacency).items():
            steps = tuple(((PairDivergence(pair=pair),), times) for pair, times in parts)
            if steps:
                curves.append((direction, RenyiCurve(steps=steps, conversion="mironov", orders=orders)))
        return Profile(curves=tuple(curves), adjacency=adjacency, method=self.name)
