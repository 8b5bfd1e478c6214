"""Random samples of the records: which records take part in a step, and what that does to a pair.

A `Sampling` is drawn anew in each step and wraps one step (`Sampled`); an `Allocation` spreads the records over
all steps of a run and wraps the repetition (`Allocated`).

Poisson sampling with probability q, add/remove neighbours: if (P, Q) dominates the step with against without
the record, and (Q', P') without against with, then                                       [ZDW22, Thm 11]

    remove:  ((1 − q) Q + q P,  Q)            L' = log(1 − q + q e^L)
    add:     (Q',  (1 − q) Q' + q P')         L' = −log(1 − q + q e^{−L})

dominate the sampled step, and are attained where the step's pair is.

[ZDW22] see `mechanisms.core.pair`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mechanisms.core import validate
from mechanisms.core.bounds import up
from mechanisms.core.copies import with_replacement_pairs
from mechanisms.core.errors import InvalidParameter, UnsupportedProcess
from mechanisms.core.fixed_size import Base, fixed_size_pairs
from mechanisms.core.pair import DominatingPair
from mechanisms.core.poisson_pairs import PoissonAdd, PoissonRemove
from mechanisms.core.poisson_replaced import poisson_replaced
from mechanisms.core.truncated import truncated_pairs

if TYPE_CHECKING:
    from mechanisms.core.process import Adjacency, Pairs, Process
    from mechanisms.core.renyi import RenyiBound


class Sampling:
    """A random sample of the records, drawn anew for every step."""

    __slots__ = ()

    @property
    def empty(self) -> bool:
        """Whether no record ever takes part."""
        return False

    def pairs(self, base: Base, adjacency: str) -> Pairs:
        """Return the pairs of the sampled step.

        Args:
            base: from the name of an adjacency to the pairs of the step itself.
            adjacency: the name of the one that is asked for.

        Raises:
            UnsupportedProcess: where no theorem gives one.
        """
        raise UnsupportedProcess(
            f"{type(self).__name__}: no proved pair for this sampling scheme yet, and a bound for Poisson sampling "
            "does not hold for it. Use Poisson(probability=...) and run exactly that."
        )

    def renyi(self, base: Callable[[str], RenyiBound], adjacency: str) -> RenyiBound:
        """Return the Rényi bound of the sampled step.

        Args:
            base: from the name of an adjacency to the Rényi bound of the step itself.
            adjacency: the name of the one that is asked for.

        Raises:
            UnsupportedProcess: where no theorem gives one.
        """
        raise UnsupportedProcess(
            f"{type(self).__name__}: no theorem here samples a step of which only Rényi divergences are known. "
            "Use FixedSize(...) under replace_one, Poisson(...) for symmetric noise, or a step that has a pair."
        )


class Allocation:
    """A random spread of the records over all steps of a run."""

    __slots__ = ()

    def pairs(self, step: Process, times: int, adjacency: Adjacency) -> Pairs:
        """Return the pairs of `times` >= 2 steps over which the records are spread.

        Raises:
            UnsupportedProcess: where no theorem gives them.
        """
        raise UnsupportedProcess(
            f"{type(self).__name__}: no proved pair for this scheme yet, and a bound for Poisson sampling does not "
            "hold for it. Use Repeat(Sampled(mechanism, Poisson(probability=...)), times) and run exactly that."
        )

    def renyi(self, step: Process, times: int, adjacency: Adjacency) -> RenyiBound:
        """Return a bound of the Rényi divergences of the run, where one is known beside its pairs.

        Raises:
            UnsupportedProcess: where there is none.
        """
        raise UnsupportedProcess(
            f"{type(self).__name__}: no Rényi bound of its own is known under {adjacency.value}. Use its pairs."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson(Sampling):
    """Every record takes part with the same probability, independently of all others.

    Args:
        probability: in [0, 1].

    >>> Poisson(probability=0.01)
    Poisson(probability=0.01)
    """

    probability: float

    def __post_init__(self) -> None:
        hint = (
            "If it is an expected batch size, divide it by the number of records: "
            "Poisson(probability=batch_size / records).\n"
            "If batches have a fixed size, use FixedSize(batch_size=..., records=...): it has a different privacy "
            "analysis."
        )
        object.__setattr__(self, "probability", validate.probability("Poisson", "probability", self.probability, hint))

    @property
    def empty(self) -> bool:
        """Whether the probability is 0."""
        return self.probability == 0.0

    def pairs(self, base: Base, adjacency: str) -> Pairs:
        """Return the Poisson-sampled pairs; for those under replace-one see `mechanisms.core.poisson_replaced`.

        Raises:
            UnsupportedProcess: where the step itself has no pair that they need.
        """
        if adjacency == "replace_one" and self.probability < 1.0:
            return poisson_replaced(base, self.probability)
        return {
            direction: self.amplify(pair, reverse=direction in ("add", "witness_reversed"))
            for direction, pair in base(adjacency).items()
        }

    def renyi(self, base: Callable[[str], RenyiBound], adjacency: str) -> RenyiBound:
        """Return the bound of `mechanisms.core.poisson_renyi`, of symmetric noise."""
        found: RenyiBound | None = _module("poisson_renyi").poisson_bound(base, adjacency, self.probability)
        return Sampling.renyi(self, base, adjacency) if found is None else found

    def amplify(self, pair: DominatingPair, *, reverse: bool) -> DominatingPair:
        """Return the Poisson-sampled pair, given the step's in the remove (or, reversed, the add) direction.

        [ZDW22, Thm 11]
        """
        kind = PoissonAdd if reverse else PoissonRemove
        if self.probability == 1.0:
            return pair
        if not isinstance(pair, kind):
            return kind(base=pair, probability=self.probability, attained=pair.attained)
        product = self.probability * pair.probability  # a sample of a sample is a sample
        if Fraction(product) == Fraction(self.probability) * Fraction(pair.probability):
            return kind(base=pair.base, probability=product, attained=pair.attained)
        return kind(base=pair.base, probability=min(1.0, float(up(product))), attained=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncatedPoisson(Sampling):
    """Poisson sampling whose batch, when larger than `largest_batch`, is cut to a random part of that size.

    Args:
        probability: in [0, 1].
        largest_batch: at least 1.
        records: their number, under add/remove in the larger dataset, if it may be relied on: it tells how rarely
            batches are cut; without it every batch counts as one that is.

    >>> TruncatedPoisson(probability=0.01, largest_batch=150, records=10_000).largest_batch
    150
    """

    probability: float
    largest_batch: int
    records: int | None = field(default=None, metadata={"added_later": True})  # old files lack it

    def __post_init__(self) -> None:
        object.__setattr__(self, "probability", Poisson(probability=self.probability).probability)
        largest = validate.count("TruncatedPoisson", "largest_batch", self.largest_batch, least=1)
        object.__setattr__(self, "largest_batch", largest)
        if self.records is not None:
            records = validate.count("TruncatedPoisson", "records", self.records, least=1)
            object.__setattr__(self, "records", records)

    @property
    def empty(self) -> bool:
        """Whether the probability is 0."""
        return self.probability == 0.0

    def pairs(self, base: Base, adjacency: str) -> Pairs:
        """Return the pairs of `mechanisms.core.truncated`."""
        plain = Poisson(probability=self.probability)
        return truncated_pairs(
            base,
            adjacency,
            lambda step: plain.pairs(step, adjacency),
            probability=self.probability,
            largest=self.largest_batch,
            records=self.records,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedSize(Sampling):
    """A uniformly random batch of exactly `batch_size` out of `records` records, without replacement."""

    batch_size: int
    records: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", validate.count("FixedSize", "records", self.records, least=1))
        object.__setattr__(self, "batch_size", validate.count("FixedSize", "batch_size", self.batch_size))
        if self.batch_size > self.records:
            raise InvalidParameter(
                f"FixedSize: batch_size must be at most records, got {self.batch_size} of {self.records}."
            )

    @property
    def empty(self) -> bool:
        """Whether batches hold nothing."""
        return self.batch_size == 0

    def pairs(self, base: Base, adjacency: str) -> Pairs:
        """Return the pairs of `mechanisms.core.fixed_size`: under replace-one a merged one and witnesses."""
        return fixed_size_pairs(base, adjacency, batch_size=self.batch_size, records=self.records)

    def renyi(self, base: Callable[[str], RenyiBound], adjacency: str) -> RenyiBound:
        """Return the bound of `mechanisms.core.fixed_size_renyi`, under replace-one."""
        if adjacency != "replace_one":
            return Sampling.renyi(self, base, adjacency)
        bound = _module("fixed_size_renyi").fixed_size_bound
        found: RenyiBound = bound(base=base(adjacency), batch_size=self.batch_size, records=self.records)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class WithReplacement(Sampling):
    """`batch_size` independent uniform draws out of `records` records."""

    batch_size: int
    records: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", validate.count("WithReplacement", "records", self.records, least=1))
        object.__setattr__(self, "batch_size", validate.count("WithReplacement", "batch_size", self.batch_size))

    @property
    def empty(self) -> bool:
        """Whether batches hold nothing."""
        return self.batch_size == 0

    def pairs(self, base: Base, adjacency: str) -> Pairs:
        """Return the pairs of `mechanisms.core.copies`: a record may be drawn several times."""
        return with_replacement_pairs(base, adjacency, batch_size=self.batch_size, records=self.records)


@dataclass(frozen=True, slots=True)
class Shuffled(Allocation):
    """One random order of the records, cut into batches of one size, as many as there are steps.

    Records that are left over at the end of the order take part in no step. Priced under zero-out and replace-one: for
    Gaussian steps as if nothing were sampled, which is nearly true; for ε-private ones with the gain of the shuffling.
    """

    def pairs(self, step: Process, times: int, adjacency: Adjacency) -> Pairs:
        """Return the pairs of `mechanisms.core.shuffled`."""
        found: Pairs = _module("shuffled").pairs(step, times, adjacency)
        return found


@dataclass(frozen=True, slots=True)
class BallsInBins(Allocation):
    """Every record falls into one step, uniformly and independently of all others.

    Priced as what it is under zero-out and add/remove, and as if nothing were sampled under replace-one.
    """

    def pairs(self, step: Process, times: int, adjacency: Adjacency) -> Pairs:
        """Return the pairs of `mechanisms.core.balls_in_bins`."""
        found: Pairs = _module("balls_in_bins").pairs(step, times, adjacency)
        return found

    def renyi(self, step: Process, times: int, adjacency: Adjacency) -> RenyiBound:
        """Return the bound of `mechanisms.core.balls_in_bins_renyi`."""
        found: RenyiBound = _module("balls_in_bins_renyi").renyi(step, times, adjacency)
        return found


def _module(name: str) -> Any:
    return import_module(f"mechanisms.core.{name}")  # when asked: the modules need processes, which need this one
