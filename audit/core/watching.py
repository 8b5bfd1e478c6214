"""One run watched by one attack: the fold over what the trainer releases, which lets nothing ill-formed through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from audit.attack import Attack, ExpectedSum, FinalModel, Observations, Public, Released
from audit.canaries import Canaries, GradientCanaries
from audit.core.cost import Stopwatch
from audit.core.faults import TrainerFault, blamed, resized, rounds
from audit.core.final_models import guarded
from audit.core.finite import NotFinite
from audit.core.turns import guarded_turns
from audit.scores import Scores
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

if TYPE_CHECKING:
    from torch import Tensor

GIVEN = ("max_grad_norm", "expected_sum", "known", "turns")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """What an attack says of a run.

    Args:
        scores: after all of it.
        before: (number of steps, scores) after so many steps, rising, where that was asked for.
    """

    scores: Scores
    before: tuple[tuple[int, Scores], ...] = ()


def scored(
    attack: Attack,
    canaries: Canaries,
    public: Public,
    observations: Observations,
    steps: int | None,
    *,
    stopwatch: Stopwatch,
    at: Sequence[int] = (),
) -> Course:
    """Return the attack's scores of a run, which takes place meanwhile.

    Args:
        attack: what watches.
        canaries: that it looks for.
        public: what it may know, but for what the trainer gives.
        observations: of the trainer.
        steps: the number that the claim is about, None where that is not known.
        stopwatch: what training and attack take is added to.
        at: after how many steps to ask for scores as well, before the end.

    Raises:
        TrainerFault: if the trainer raises, or releases nothing that is seen, too much, or what is ill-formed.
        InvalidParameter: before the first step, if the attack needs what the trainer does not give.
    """
    known = known_of(attack, canaries, public, observations)
    dimension = canaries.dimension if isinstance(canaries, GradientCanaries) else None
    with stopwatch.attacking():
        state = attack.start(canaries, known)
    watch = Watch(
        attack=attack,
        state=state,
        steps=steps,
        dimension=dimension,
        bound=known.max_grad_norm,
        stopwatch=stopwatch,
        at=frozenset(at),
        resized=resized(canaries),
        rounds=rounds(public.process),
    )
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found in the scores
            with stopwatch.training():
                watch.follow(observations)
            with stopwatch.attacking():
                return Course(scores=attack.finish(watch.state), before=tuple(watch.before))
    except NotFinite:
        raise TrainerFault("the trainer's releases gave scores that are not finite") from None


def known_of(attack: Attack, canaries: Canaries, public: Public, observations: Observations) -> Public:
    """Return what an attack may know of a run, with what the trainer gives, none of which is looked at unguarded.

    Raises:
        TrainerFault: if the bound is none.
        InvalidParameter: if the attack needs what the trainer does not give.
    """
    known = replace(public, **{name: getattr(observations, name) for name in GIVEN})
    check_needs(attack, known)
    if known.max_grad_norm is not None:
        known = replace(known, max_grad_norm=_checked_bound(known.max_grad_norm))
    if known.expected_sum is not None:
        known = replace(known, expected_sum=guarded_sum(known.expected_sum))
    if known.turns is not None:
        known = replace(known, turns=guarded_turns(known.turns, len(canaries)))
    return known


def check_needs(attack: Attack, public: Public) -> None:
    """Refuse an attack that needs knowledge which is not there.

    Raises:
        InvalidParameter: naming it.
    """
    missing = [name for name in attack.needs if getattr(public, name) is None]
    if missing:
        raise InvalidParameter(
            f"audit: attack {attack.name!r} must be given {' and '.join(missing)}, and is given none.\n"
            "Have the trainer hand them back in its Observations, or choose an attack that does without."
        )
    if public.turns is not None and "expected_sum" in attack.needs and not attack.follows_turns:
        raise InvalidParameter(
            f"audit: attack {attack.name!r} must have steps that anyone may take part in, and this trainer tells who "
            "takes part in which.\nUse attack='whitened', which goes along with that."
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenStep:
    """What an attack is handed of a step: a `Release` without whatever else the trainer hung on its own.

    Args:
        step: see `Release`, and so the next two.
        weights_before: as there.
        noisy_sum: as there.
        max_grad_norm: the bound in use where the release tells, and it is not the one that the trainer gave; or None.
    """

    step: int
    weights_before: Tensor
    noisy_sum: Tensor
    max_grad_norm: float | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Watch:
    """The attack's state and how much was released; it holds no release.

    Args:
        attack: what watches.
        state: of the attack.
        steps: the number claimed, or None.
        dimension: d of the gradients, or None where that of the first step will do.
        bound: max_grad_norm as the trainer gave it, or None.
        stopwatch: see `scored`.
        at: as there.
        resized: explains other numbers of steps.
        rounds: explains more of them.
    """

    attack: Attack
    state: Any
    steps: int | None
    dimension: int | None
    bound: float | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    at: frozenset[int] = frozenset()
    resized: str = ""
    rounds: str = ""
    before: list[tuple[int, Scores]] = field(default_factory=list)
    taken: int = 0
    ended: bool = False
    failure: Exception | None = None

    def follow(self, observations: Observations) -> None:
        """Have the run take place, and fold the attack over it.

        Raises:
            TrainerFault: see `scored`.
        """
        with blamed("training"):
            try:
                if callable(observations.released):
                    observations.released(self.take)
                else:
                    for release in observations.released:
                        self.take(release)
            except Exception:
                if self.failure is None:
                    raise
        if self.failure is not None:  # kept, for a training loop may swallow what is raised inside it
            raise self.failure
        self._check_number()

    def take(self, release: Released) -> None:
        """Fold the attack over one more release."""
        try:
            if self.ended:
                raise TrainerFault("the trainer released something after its final model")
            if isinstance(release, FinalModel):
                self.ended = True
                if self.attack.sees == "final model":
                    self._observe(guarded(release, self.dimension))
            elif self.attack.sees == "steps":
                self._observe(self._seen(release))
                self.taken += 1
                if self.taken in self.at:
                    self.before.append((self.taken, self.attack.finish(self.state)))
        except Exception as error:
            self.failure = self.failure or error
            raise

    def _observe(self, release: Any) -> None:
        with self.stopwatch.attacking():
            self.state = self.attack.observe(self.state, release)

    def _seen(self, release: Any) -> SeenStep:
        """Return what is well-formed of a step."""
        if self.steps is not None and self.taken == self.steps:
            more = f"the trainer released more than the {self.steps} steps claimed"
            raise TrainerFault(more + (self.resized or self.rounds))
        with blamed("showing a step"):
            weights, noisy_sum = (self._vector(release, name) for name in ("weights_before", "noisy_sum"))
            if getattr(release, "step", None) != self.taken:
                raise TrainerFault(f"the trainer released a step of another number where step {self.taken} is due")
            bound = self._moved(getattr(release, "max_grad_norm", None))
        return SeenStep(step=self.taken, weights_before=weights, noisy_sum=noisy_sum, max_grad_norm=bound)

    def _moved(self, bound: Any) -> float | None:
        """Return the bound of a step, if it is another than the one given."""
        if bound is None or self.bound is None or bound == self.bound:
            return None
        if not self.attack.follows_bound:
            raise TrainerFault(
                f"the trainer moved its max_grad_norm, and attack {self.attack.name!r} does not go along with that"
            )
        return _checked_bound(bound)

    def _vector(self, release: Any, name: str) -> Tensor:
        """Return a tensor of real numbers (d,), with d that of the gradients, or of the first tensor seen."""
        import torch

        value = getattr(release, name, None)
        if not isinstance(value, torch.Tensor):
            raise TrainerFault(f"the trainer released a step whose {name} is {type(value).__name__}, no tensor")
        if value.layout is not torch.strided or value.is_complex() or value.dtype is torch.bool:
            raise TrainerFault(f"the trainer released {name} of {value.dtype}, no dense tensor of real numbers")
        if value.dim() != 1 or (self.dimension is not None and len(value) != self.dimension):
            wanted = "(d,)" if self.dimension is None else f"({self.dimension},)"
            raise TrainerFault(f"the trainer released {name} of shape {tuple(value.shape)}, where {wanted} is due")
        if not bool(torch.isfinite(value).all()):
            raise TrainerFault(f"the trainer released {name} with numbers that are not finite")
        self.dimension = len(value)
        return value.detach()

    def _check_number(self) -> None:
        if self.attack.sees == "final model":
            if not self.ended:
                raise TrainerFault("the trainer released no final model")
        elif not self.taken:
            raise TrainerFault("the trainer released no step")
        elif self.steps is not None and self.taken < self.steps:
            raise TrainerFault(f"the trainer released {self.taken} of the {self.steps} steps claimed{self.resized}")


def _checked_bound(max_grad_norm: Any) -> float:
    try:
        return validate.positive("Observations", "max_grad_norm", max_grad_norm)
    except InvalidParameter:
        raise TrainerFault("the trainer's max_grad_norm is no finite number above 0") from None


def guarded_sum(expected_sum: ExpectedSum) -> ExpectedSum:
    """Return the trainer's expected sum, what is ill-formed in it blamed on the trainer."""

    def guarded(weights: Tensor, **bound: float) -> Tensor:
        with blamed("its expected_sum"):
            found = expected_sum(weights, **bound)
            if found.shape != weights.shape:
                raise TrainerFault(f"the trainer's expected_sum has shape {tuple(found.shape)}, not the weights'")
            if found.is_complex():
                raise TrainerFault("the trainer's expected_sum is complex")
            return found.detach().to(weights.device)

    return guarded
