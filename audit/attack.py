"""Attacks and what they see: a fold over the releases of one training run, which never meets the membership coins."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from audit.canaries import Canaries
from audit.scores import Coins, Counts, Design, GuessingRule, Scores, Values
from mechanisms.core.discover import implementations
from mechanisms.core.process import Adjacency, Process
from mechanisms.core.randomness import Source

if TYPE_CHECKING:
    from torch import Tensor

    from dpsgd import Dataset

ExpectedSum = Callable[..., "Tensor"]
"""Flat weights (d,) -> expected sum of the known records' clipped gradients there, (d,).

Where releases tell a bound that moves, the one in use is handed over as `max_grad_norm=` too, once it has moved.
Where turns are public, the number of the step is handed over as `step=`, and the sum is exactly that of the step.
"""

Turns = Callable[[int], Coins]
"""Number of a step -> which canaries have their turn in it, in or out, bool (m,)."""


class Release(Protocol):
    """One step as a white-box adversary sees it, such as `dpsgd.Release`; further fields do no harm.

    A release may have `max_grad_norm`, the bound in use in this step, where that is not the same in all.
    """

    @property
    def step(self) -> int:
        """The number of the step, from 0."""

    @property
    def weights_before(self) -> Tensor:
        """The flat weights at which gradients were taken, (d,)."""

    @property
    def noisy_sum(self) -> Tensor:
        """Σ clipped gradients of the records drawn + noise, before any division, (d,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinalModel:
    """The trained model as an adversary may ask it, which comes after the last step.

    Args:
        outputs: features (n, …) -> outputs (n, …), in the model's mode for use.
        losses: features and targets -> one loss for each record, (n,).
        weights: the flat weights (d,), or None where they stay with the trainer.
    """

    outputs: Callable[[NDArray[Any]], NDArray[Any]]
    losses: Callable[[NDArray[Any], NDArray[Any]], Values]
    weights: NDArray[Any] | None = None


Released = Release | FinalModel
Observe = Callable[[Released], None]
Sees = Literal["steps", "final model"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainerTask:
    """What the harness asks of a trainer.

    Args:
        canaries: the records to add; copied, for a trainer that wrote on the attack's by its coins would tell them.
        membership: bool (m,): which of them are in; copied and made read-only. Only trainer and harness ever hold it.
        streams: private randomness of samples and noise, of this run alone: whatever is drawn from it is fresh.
        adjacency: what a canary that is out leaves behind: nothing (add_remove), a contribution of zero (zero_out) or
            the record that it replaces (replace_one). A trainer that cannot do it must refuse.
    """

    canaries: Canaries
    membership: Coins
    streams: Source
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    def __post_init__(self) -> None:
        membership = np.array(self.membership, dtype=np.bool_)  # or a trainer could change the coins that judge it
        membership.flags.writeable = False
        object.__setattr__(self, "membership", membership)
        object.__setattr__(self, "canaries", copy.deepcopy(self.canaries))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observations:
    """What a trainer hands back: its releases, and what an adversary knows besides.

    Args:
        released: every step in order, then the final model, as far as the trainer shows them. Consumed once, so that
            training may happen as it is read. Or a function that runs the training and hands each to what it is given.
        max_grad_norm: C, the described bound on a record's contribution, the first if it moves; None where there is
            none.
        expected_sum: what the known records, those that are no canaries, contribute to a step on average; or None.
        known: those records; or None.
        turns: where it is public who takes part in which step, the turns of the canaries; else None.
        participations: where the trainer reveals its samples afterwards: called once, by the harness alone, when all
            is released; how many times each canary took part, int (m,), 0 where it was out. Attacks never see it.
    """

    released: Iterable[Released] | Callable[[Observe], None]
    max_grad_norm: float | None = None
    expected_sum: ExpectedSum | None = None
    known: Dataset | None = None
    turns: Turns | None = None
    participations: Callable[[], Counts] | None = None


Trainer = Callable[[TrainerTask], Observations]
"""What is audited. One that has an attribute `process` says by it what it claims to be."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Public:
    """What an attack may know before the run: everything but the coins.

    Args:
        design: how the canaries come to be in or out.
        guessing_rule: how guesses will be read off the scores.
        process: the claim; or None.
        adjacency: what a canary that is out leaves behind, see `TrainerTask`.
        max_grad_norm: see `Observations`.
        expected_sum: see `Observations`.
        known: see `Observations`.
        turns: see `Observations`.
        pool: public records of the same kind, for shadow models; or None.
        weights: where exactly one canary is in, whole numbers (m,) to which the chances of each are proportional; ()
            where coins decide.
    """

    design: Design
    guessing_rule: GuessingRule
    process: Process | None = None
    adjacency: Adjacency = Adjacency.ADD_REMOVE
    max_grad_norm: float | None = None
    expected_sum: ExpectedSum | None = None
    known: Dataset | None = None
    turns: Turns | None = None
    pool: Dataset | None = None
    weights: tuple[int, ...] = ()


class Attack(ABC):
    """A fold `start`, `observe`, …, `observe`, `finish` from releases to scores; its state must not grow with steps.

    Subclasses are frozen dataclasses in a file of their own under `audit/attacks`; the file's name is theirs.
    Each says:

        threat_model     what it is allowed to see and to choose, in words
        sees             "steps", every `Release` and no final model, or "final model", that and no step
        takes            the kind of canaries it works on
        needs            names of optional fields of `Public` that it cannot do without
        follows_bound    whether it goes along with a bound on contributions that moves from step to step
        follows_turns    whether it is for steps whose participants are public, and noise correlated over them
        measures_noise   whether an out-score is the noise of a sum of steps, N(0, T σ²) where it is drawn anew, with
                         its squares: what estimators of the noise rest on

    The harness refuses by name what does not fit, before the first step, and hands over nothing that is not seen.
    """

    __slots__ = ()

    threat_model: ClassVar[str]
    sees: ClassVar[Sees]
    takes: ClassVar[type]
    needs: ClassVar[tuple[str, ...]] = ()
    follows_bound: ClassVar[bool] = False
    follows_turns: ClassVar[bool] = False
    measures_noise: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The name by which `attacks()` lists it."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def start(self, canaries: Any, public: Public) -> Any:
        """Return the state before the first step."""

    @abstractmethod
    def observe(self, state: Any, release: Any) -> Any:
        """Return the state after one more step, or after the final model; the state given is not used again."""

    @abstractmethod
    def finish(self, state: Any) -> Scores:
        """Return one score for every canary by all that was observed so far; more may be observed afterwards."""


def attacks() -> dict[str, type[Attack]]:
    """Return every attack there is, by the name of its file.

    >>> {"gradient", "likelihood", "lira", "rmia"} <= set(attacks())
    True
    """
    return implementations("audit.attacks", Attack)
