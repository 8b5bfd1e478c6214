"""Groups of records: what a process shows of a user who has several."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from mechanisms.core import validate
from mechanisms.core.copies import binomial_weights, copies_of_a_normal, some_copies
from mechanisms.core.counting import check_schemes
from mechanisms.core.errors import UnsupportedProcess
from mechanisms.core.fixed_size import in_both_orders
from mechanisms.core.merged import Merged
from mechanisms.core.normals_pair import NormalsPair
from mechanisms.core.process import Adjacency, Compose, Pairs, Process, Repeat, Sampled, checked, leaves
from mechanisms.core.sampling import Poisson


@dataclass(frozen=True, slots=True)
class Group(Process):
    """`part`, for neighbours that differ by a group of up to `size` records: all of them removed, changed or zeroed.

    Such groups are the records of one user, if nobody has more. Without sampling the pair of a step is its own for k
    records: k times the shift for normals and Laplace noise, group privacy for stated guarantees. On a Poisson sample
    each of the k records takes part independently, so that j of them do with binomial probability w_j:

        Σ w_j N(jμ, 1)  against  N(0, 1),  or under replace-one  Σ w_j N(−jμ, 1),

    dominate a Gaussian step and are attained by k equal records (`mechanisms.core.normals_pair`). Other steps have the
    pair of j records with j public, as draws with replacement do (`mechanisms.core.copies`).

    Args:
        part: the process.
        size: k >= 1.

    >>> from mechanisms import Gaussian
    >>> Group(Gaussian(noise_multiplier=2.0), 3).pairs(Adjacency.ADD_REMOVE)["remove"].shift.contains(1.5)
    True
    """

    part: Process
    size: int

    def __post_init__(self) -> None:
        checked("Group", self.part)
        object.__setattr__(self, "size", validate.count("Group", "size", self.size, least=1))

    def distributed(self) -> Process:
        """Return the same process with the group asked of every step: the same records are the group in all."""
        if self.size == 1:
            return self.part
        if isinstance(self.part, Group):
            return Group(self.part.part, self.part.size * self.size)
        inside = leaves(self.part)  # without samples that take nothing or everything, for which weights are 0 ÷ 0
        if inside == ((self.part, 1),):
            return self
        return Compose(tuple(Repeat(Group(leaf, self.size), times) for leaf, times in inside))

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the pairs of a step for groups.

        Raises:
            UnsupportedProcess: for other samples than Poisson ones, or if the step has no pair for groups.
        """
        if not isinstance(self.part, Sampled):
            found = self.part.pairs(adjacency)
            return {direction: found[direction].group(self.size) for direction in adjacency.directions}
        if not isinstance(self.part.sampling, Poisson) or isinstance(self.part.part, Sampled):
            raise UnsupportedProcess(
                f"Group: no proved bound for groups in {self.part.sampling!r} yet. Use Poisson(probability=...) around "
                "a step that draws no sample of its own."
            )
        check_schemes(self.part.sampling, self.part.part, adjacency)
        return self._sampled(adjacency, Fraction(self.part.sampling.probability))

    def _sampled(self, adjacency: Adjacency, share: Fraction) -> Pairs:
        step = self.part.part if isinstance(self.part, Sampled) else self.part
        weights, beyond = binomial_weights("Group", self.size, share)
        replaced = adjacency is Adjacency.REPLACE_ONE
        one = step.pairs(Adjacency.ADD_REMOVE if replaced else adjacency)["remove"]
        shown = copies_of_a_normal(one, weights, beyond)
        if not replaced:
            return in_both_orders(shown or some_copies(one, weights, beyond), "remove", "add")
        if shown is None:
            return {"replace": Merged.of(some_copies(step.pairs(adjacency)["replace"], weights, beyond))}
        return {
            "replace": NormalsPair(
                unit=shown.unit,
                above=shown.above,
                below=shown.above,
                lost=beyond,
                missing=beyond,
                attained=shown.attained and step.pairs(adjacency)["replace"].attained,  # by opposite records
            )
        }
