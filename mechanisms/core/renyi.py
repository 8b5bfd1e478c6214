"""Rényi bounds: what is known of a process that has no usable pair, or less than its pair says.

[Mir17] I. Mironov. Rényi Differential Privacy. CSF 2017. arXiv:1702.07476.
"""

from __future__ import annotations

from abc import ABC, abstractmethod


class RenyiBound(ABC):
    """A bound of the Rényi divergence of every order between the outputs for neighbours [Mir17, Def 4]."""

    __slots__ = ()

    @abstractmethod
    def divergence(self, order: float) -> float:
        """Bound D_order(M(x) ‖ M(x')) from above, neighbours in either order; inf where no bound is known.

        Args:
            order: α > 1.
        """
