"""Attacks and what they see: a fold over the releases of one training run, which never meets the membership coins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from audit.canaries import SignedCoordinates
from audit.scores import Coins, Counts, Design, GuessingRule, Scores
from mechanisms.core.discover import implementations
from mechanisms.core.process import Process
from mechanisms.core.randomness import Source

if TYPE_CHECKING:
    from torch import Tensor

    from dpsgd import Release

ExpectedSum = Callable[["Tensor"], "Tensor"]
"""Flat weights (d,) -> expected sum of the known records' clipped gradients there, (d,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainerTask:
    """What the harness asks of a trainer.

    Args:
        canaries: the records to add.
        membership: bool (m,): which of them are in. Only trainer and harness ever hold it.
        streams: private randomness of samples and noise.
    """

    canaries: SignedCoordinates
    membership: Coins
    streams: Source


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observations:
    """What a trainer hands back: its releases, and what a white-box adversary knows besides.

    Args:
        released: every step, in order; consumed once, so training may happen as it is read.
        max_grad_norm: C, the described bound on a record's contribution, at which the canaries stand.
        expected_sum: what the known records, those that are no canaries, contribute to a step on average.
        participations: where the trainer reveals its samples afterwards: called once, by the harness alone, when all
            is released; how many times each canary took part, int (m,), 0 where it was out. Attacks never see it.
    """

    released: Iterable[Release]
    max_grad_norm: float
    expected_sum: ExpectedSum
    participations: Callable[[], Counts] | None = None


Trainer = Callable[[TrainerTask], Observations]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Public:
    """What an attack may know before the run: everything but the coins.

    Args:
        design: how the canaries come to be in or out.
        guessing_rule: how guesses will be read off the scores.
        max_grad_norm: C, see `Observations`.
        expected_sum: see `Observations`.
    """

    design: Design
    guessing_rule: GuessingRule
    max_grad_norm: float
    expected_sum: ExpectedSum


class Attack(ABC):
    """A fold `start`, `observe`, …, `observe`, `finish` from releases to scores; its state must not grow with steps.

    Subclasses are frozen dataclasses in a file of their own under `audit/attacks`; the file's name is theirs.
    """

    __slots__ = ()

    threat_model: ClassVar[str]

    @classmethod
    def of(cls, claim: Process) -> Self:
        """Return the attack on a run that is said to be `claim`, which is public; this one makes nothing of it."""
        return cls()

    @abstractmethod
    def start(self, canaries: SignedCoordinates, public: Public) -> Any:
        """Return the state before the first step."""

    @abstractmethod
    def observe(self, state: Any, release: Release) -> Any:
        """Return the state after one more step; the state given is not used again."""

    @abstractmethod
    def finish(self, state: Any) -> Scores:
        """Return one score for every canary."""


def attacks() -> dict[str, type[Attack]]:
    """Return every attack there is, by the name of its file.

    >>> {"gradient", "likelihood"} <= set(attacks())
    True
    """
    return implementations("audit.attacks", Attack)
