"""The description of what is run: an immutable, hashable tree of mechanisms, handled once for every accountant.

`Compose` runs its parts one after the other, `Repeat` runs one part several times, `Sampled` runs its part on a
random sample of the records, `Allocated` spreads the records over the steps of a repetition. The parts of a
composition may be chosen adaptively; what they are must be fixed before the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mechanisms.core import validate
from mechanisms.core.adjacency import Adjacency as Adjacency
from mechanisms.core.adjacency import Direction as Direction
from mechanisms.core.counting import check_schemes, fitting
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.pair import DominatingPair
from mechanisms.core.randomness import Source
from mechanisms.core.renyi import RenyiBound
from mechanisms.core.sampling import Allocation, Poisson, Sampling

Pairs = Mapping[Direction, DominatingPair]


class Process(ABC):
    """Anything whose privacy loss can be asked for: a mechanism, or mechanisms put together."""

    __slots__ = ()

    unit: ClassVar[str] = "record"  # what neighbours differ in; of `PerUser` alone it is "user"

    @abstractmethod
    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return, for each direction of `adjacency`, a pair (P, Q) that dominates this process as one step.

        Where that pair is not attained, named neighbours may be given as well, each with the pair that they attain:
        as "witness", in the order of "remove" or "replace", and as "witness_reversed", in that of "add" or "replace".
        A pair that is attained under replace-one is so where all other records hold what the second one does, or, a
        `NormalsPair`, where they contribute nothing.

        Raises:
            UnsupportedProcess: if no such pair is known.
        """

    def distributed(self) -> Process:
        """Return the same process made of steps, for one that asks something of all the steps inside it."""
        return self

    def opposed(self, probability: float) -> DominatingPair | None:
        """Return what opposite records show on a Poisson sample where others contribute nothing, if that is known."""
        return None

    def renyi(self, adjacency: Adjacency) -> RenyiBound:
        """Return a bound of the Rényi divergences of this process as one step, where one is known beside its pairs.

        Raises:
            UnsupportedProcess: if there is none.
        """
        raise UnsupportedProcess(f"{type(self).__name__}: no Rényi bound of its own is known under {adjacency.value}.")


class Mechanism(Process):
    """One randomised algorithm: it says which pairs dominate it and, where it can run, `release`s values."""

    __slots__ = ()

    @abstractmethod
    def release(self, value: Any, *, sensitivity: float, randomness: Source) -> Any:
        """Return `value` made private, for a query of this `sensitivity` in the mechanism's own norm.

        How long it takes is no part of any guarantee.
        """


@dataclass(frozen=True, slots=True)
class Compose(Process):
    """`parts` run one after the other on the same records, each allowed to depend on the results before it.

    >>> from mechanisms import Gaussian
    >>> Compose((Gaussian(noise_multiplier=1.0), Gaussian(noise_multiplier=2.0)))
    Compose(parts=(Gaussian(noise_multiplier=1.0), Gaussian(noise_multiplier=2.0)))
    """

    parts: tuple[Process, ...]

    def __post_init__(self) -> None:
        if isinstance(self.parts, Process):
            raise InvalidParameter("Compose: parts must be a sequence of processes, got a single one: Compose((a, b)).")
        if not isinstance(self.parts, Iterable):
            raise InvalidParameter(f"Compose: parts must be a sequence of processes, got {self.parts!r}.")
        object.__setattr__(self, "parts", tuple(checked("Compose", part) for part in self.parts))

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the composed pair where the parts have one of closed form (Gaussians), so that it can be sampled."""
        return _single_pair(self, adjacency)


@dataclass(frozen=True, slots=True)
class Repeat(Process):
    """`part` run `times` times on the same records: the same process as `Compose((part,) * times)`.

    >>> from mechanisms import Gaussian
    >>> Repeat(Gaussian(noise_multiplier=1.0), 3)
    Repeat(part=Gaussian(noise_multiplier=1.0), times=3)
    """

    part: Process
    times: int

    def __post_init__(self) -> None:
        checked("Repeat", self.part)
        object.__setattr__(self, "times", validate.count("Repeat", "times", self.times))
        if isinstance(self.part, Sampled) and isinstance(self.part.sampling, Allocation):
            raise InvalidParameter(
                f"Repeat: {self.part.sampling!r} spans the steps of a run, so it cannot be drawn anew in each.\n"
                "Wrap the repetition instead: Allocated(Repeat(mechanism, times), sampling)."
            )

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the composed pair where the part has one of closed form (Gaussians), so that it can be sampled."""
        return _single_pair(self, adjacency)


@dataclass(frozen=True, slots=True)
class Sampled(Process):
    """`part` run on a random sample of the records: one draw, shared by everything inside `part`.

    >>> from mechanisms import Gaussian, Poisson
    >>> Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=0.01))
    Sampled(part=Gaussian(noise_multiplier=1.0), sampling=Poisson(probability=0.01))
    """

    part: Process
    sampling: Sampling

    def __post_init__(self) -> None:
        checked("Sampled", self.part)
        if isinstance(self.sampling, Allocation):
            raise InvalidParameter(
                f"Sampled: {self.sampling!r} spans the steps of a run.\n"
                "Wrap the repetition instead: Allocated(Repeat(mechanism, times), sampling)."
            )
        if not isinstance(self.sampling, Sampling):
            raise InvalidParameter(f"Sampled: sampling must be a sampling scheme, got {self.sampling!r}.")

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the pairs of the sampled part, as far as its sampling scheme has a theorem for them."""
        check_schemes(self.sampling, self.part, adjacency)
        batch = getattr(self.sampling, "batch_size", None)
        sizes = () if batch is None else (batch,)
        found = self.sampling.pairs(
            lambda name: fitting(self.part.pairs(Adjacency(name)), self.part, *sizes), adjacency
        )
        if adjacency is not Adjacency.REPLACE_ONE or not isinstance(self.sampling, Poisson) or "witness" not in found:
            return found
        opposed = self.part.opposed(self.sampling.probability)
        return found if opposed is None else {**found, "witness_reversed": opposed}

    def renyi(self, adjacency: Adjacency) -> RenyiBound:
        """Return the bound of a sampled part that has one of its own, where its scheme has a theorem for it."""
        check_schemes(self.sampling, self.part, adjacency)
        return self.sampling.renyi(lambda name: self.part.renyi(Adjacency(name)), adjacency)


@dataclass(frozen=True, slots=True)
class Allocated(Process):
    """The records spread over the steps of `part`, a repetition, by a scheme that spans them all.

    >>> from mechanisms import BallsInBins, Gaussian
    >>> Allocated(Repeat(Gaussian(noise_multiplier=1.0), 10), BallsInBins()).sampling
    BallsInBins()
    """

    part: Repeat
    sampling: Allocation

    def __post_init__(self) -> None:
        if not isinstance(self.part, Repeat):
            raise InvalidParameter(f"Allocated: part must be a Repeat, got {self.part!r}.")
        if not isinstance(self.sampling, Allocation):
            raise InvalidParameter(
                f"Allocated: sampling must span the steps of a run (Shuffled, BallsInBins), got {self.sampling!r}."
            )

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return the pairs of the run, as far as its scheme has a theorem for them.

        Raises:
            UnsupportedProcess: if it has none, or the step has no pair.
        """
        check_schemes(self.sampling, self.part, adjacency)
        return self.sampling.pairs(self.part.part, self.part.times, adjacency)

    def renyi(self, adjacency: Adjacency) -> RenyiBound:
        """Return the scheme's bound of the run's Rényi divergences, where one is known beside its pairs."""
        check_schemes(self.sampling, self.part, adjacency)
        return self.sampling.renyi(self.part.part, self.part.times, adjacency)


def leaves(process: Process) -> tuple[tuple[Process, int], ...]:
    """Return the steps that `process` composes, each with the number of times it runs, in a canonical order.

    Equal steps are counted together, so that listing, repeating, nesting and ordering make no difference.
    Steps that cost nothing by construction (never run, sampled with probability 0) are left out.

    >>> from mechanisms import Gaussian
    >>> g = Gaussian(noise_multiplier=1.0)
    >>> leaves(Compose((g, Repeat(Repeat(g, 2), 3))))
    ((Gaussian(noise_multiplier=1.0), 7),)
    """
    counts: dict[Process, int] = {}
    pending = [(process, 1)]
    while pending:
        node, times = pending.pop()
        node = _simplified(node)
        if isinstance(node, Compose):
            pending.extend((part, times) for part in node.parts)
        elif isinstance(node, Repeat):
            pending.append((node.part, times * node.times))
        elif times:
            counts[node] = counts.get(node, 0) + times
    return tuple(sorted(counts.items(), key=lambda item: repr(item[0])))


def _simplified(node: Process) -> Process:
    """Resolve sampling that takes nothing or, Poisson with probability 1, everything, or that samples nothing.

    Records spread over at most one step are in that step.
    """
    if isinstance(node, Allocated):
        step = leaves(node.part.part)
        if node.part.times <= 1 or not step:
            return _simplified(node.part)
        return Allocated(Repeat(step[0][0], node.part.times), node.sampling) if _is_single(step) else node
    if not isinstance(node, Sampled):
        found = node.distributed()
        return node if found is node else _simplified(found)
    inside = leaves(node.part)
    if node.sampling.empty or not inside:
        return Compose(())
    if isinstance(node.sampling, Poisson) and node.sampling.probability == 1:
        return _simplified(node.part)
    return Sampled(inside[0][0], node.sampling) if _is_single(inside) else node


def _is_single(inside: tuple[tuple[Process, int], ...]) -> bool:
    """Tell whether these leaves are one step that runs once."""
    return len(inside) == 1 and inside[0][1] == 1


def _single_pair(process: Process, adjacency: Adjacency) -> Pairs:
    """Return the product of the leaves' pairs, direction by direction, where it is known in closed form."""
    product: dict[Direction, DominatingPair] = {}
    inside = leaves(process)
    for leaf, times in inside:
        for direction, pair in leaf.pairs(adjacency).items():
            power = pair.power(times)
            product[direction] = product[direction].times(power) if direction in product else power
    if not inside:
        raise UnsupportedProcess(f"{type(process).__name__}: an empty composition has no pair of its own.")
    return product


def checked(owner: str, value: object) -> Process:
    """Return `value` if it is a process that can be part of another.

    Raises:
        InvalidParameter: if it is none, or a whole run for users.
    """
    if not isinstance(value, Process):
        raise InvalidParameter(f"{owner}: every part must be a process such as Gaussian(...), got {value!r}.")
    if value.unit != "record":
        raise InvalidParameter(
            f"{owner}: no part must be {type(value).__name__}, which stands around a whole run, got {value!r}.\n"
            f"Use {type(value).__name__}({owner}(...)) around the parts of such runs: they share one unit then."
        )
    return value
