"""Processes whose units are users: each owns several examples, and is sampled, bounded and protected as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mechanisms.core.process import Adjacency, Pairs, Process, checked
from mechanisms.core.renyi import RenyiBound


@dataclass(frozen=True, slots=True)
class PerUser(Process):
    """`part`, every record of which is a user with all that the user owns: neighbours differ in one user.

    Its loss is that of `part`: what a step shows of one unit does not depend on what makes up a unit. That a user's
    contribution is bounded as one is what this description says. Where single records are bounded and users have up to
    k of them, a run shows more: PerUser(Group(part, k)).

    It stands around a whole run, since one ε for users composed with one for records has no unit. Two runs for users
    compose as PerUser(Compose((a.part, b.part))).

    Args:
        part: the process.

    >>> from mechanisms import Gaussian
    >>> PerUser(Gaussian(noise_multiplier=2.0)).pairs(Adjacency.ADD_REMOVE)["remove"].shift.contains(0.5)
    True
    """

    unit: ClassVar[str] = "user"

    part: Process

    def __post_init__(self) -> None:
        checked("PerUser", self.part)

    def distributed(self) -> Process:
        """Return the part, which is made of the same steps."""
        return self.part

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the pairs of the part."""
        return self.part.pairs(adjacency)

    def renyi(self, adjacency: Adjacency) -> RenyiBound:
        """Return the bound of the part."""
        return self.part.renyi(adjacency)
