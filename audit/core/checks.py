"""Checks of a trainer by running it again: its answers must follow from streams and coins, and must heed the coins."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from audit.attack import Attack, FinalModel, Public, Release, Sees
from audit.canaries import Canaries, InputCanaries
from audit.core.faults import TrainerFault, blamed, resized, rounds
from audit.core.plan import described_noise
from audit.core.streams import reserve_run
from audit.core.watching import Watch
from audit.runs import Setup, check_fit, toss
from audit.scores import Coins, Scores

CHANCE = 1e-9
MOST_PAIRS = 1_000
ROWS = 4_096  # of known records that are copied at once


def check_trainer(setup: Setup) -> None:
    """Run the trainer three times with the same streams: twice with the same coins, once with every coin turned over.

    What the attack sees must be the same bits in the first two runs, and others in the third; what the trainer says of
    the known records the same in all, for made of the coins it would tell or hide them. With m canaries that take part
    rarely, the third may be the same by chance, with probability (1 − q)^(m T) if the claim is what ran: coins are then
    turned over in further pairs of runs, until that has probability 1e-9, or there were a thousand.

    Raises:
        TrainerFault: if it is not so, or the trainer does not do what every trainer must.
    """
    number, membership = reserve_run(setup.randomness), toss(setup.randomness, len(setup.canaries))
    first, again = (_Run(setup, membership, number) for _ in range(2))
    if first.digest != again.digest:
        raise TrainerFault("the trainer changed its answer between two runs with the same streams and coins")
    for left in reversed(range(_pairs(setup))):
        turned = _Run(setup, ~membership, number)
        if turned.told(first.weights) != first.told(first.weights):
            raise TrainerFault("the trainer's max_grad_norm, expected_sum, turns or known records depend on the coins")
        if turned.digest != first.digest:
            return
        if left:
            number = reserve_run(setup.randomness)
            first = _Run(setup, membership, number)
    raise TrainerFault("the trainer gave the same bits with every coin turned over: it ignores the coins")


def _pairs(setup: Setup) -> int:
    """Return in how many pairs of runs coins that are heeded show but for a chance of 1e-9, a thousand at most."""
    described = None if setup.process is None else described_noise(setup.process)
    if described is None or not 0 < described.probability < 1:
        return 1
    unseen = described.steps * len(setup.canaries) * math.log1p(-described.probability)
    return min(MOST_PAIRS, math.ceil(math.log(CHANCE) / unseen))


class _Run:
    """A run: what the attack would see of it as a digest, the first weights seen, and what an adversary is told."""

    def __init__(self, setup: Setup, membership: Coins, number: int) -> None:
        kind = StepsSeen if setup.attack.sees == "steps" else ModelSeen
        self._observations, self._steps = setup.observations(membership, number), setup.steps
        check_fit(setup, self._observations)
        self._firsts: list[Any] = []
        seen = kind(canaries=setup.canaries, firsts=self._firsts)
        watch = Watch(
            attack=seen,
            state=hashlib.sha256(),
            steps=setup.steps,
            dimension=None,
            resized=resized(setup.canaries),
            rounds=rounds(setup.process),
        )
        watch.follow(self._observations)
        self.digest: str = watch.state.hexdigest()

    @property
    def weights(self) -> Any:
        """The weights before the first step, None where no step is seen."""
        return self._firsts[0] if self._firsts else None

    def told(self, weights: Any) -> str:
        """Return a digest of what is known besides the releases, at these weights."""
        given, state = self._observations, hashlib.sha256()
        with blamed("what it knows"):
            state.update(repr(given.max_grad_norm).encode())
            steps = range(self._steps or 1)
            if given.turns is not None:
                for step in steps:
                    state.update(np.asarray(given.turns(step)).tobytes())
            if given.expected_sum is not None and weights is not None:
                for public in [{}] if given.turns is None else [{"step": step} for step in steps]:
                    state.update(_bytes(given.expected_sum(weights, **public)))
            for part in () if given.known is None else (given.known.features, given.known.targets):
                for start in range(0, len(part), ROWS):
                    state.update(_bytes(part[start : start + ROWS]))
        return state.hexdigest()


def _bytes(tensor: Any) -> bytes:
    found: bytes = tensor.detach().to("cpu").double().numpy().tobytes()  # numpy has no bfloat16
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Attack):
    """A fold that only digests."""

    threat_model: ClassVar[str] = "none: it digests what it sees"
    takes: ClassVar[type] = Canaries

    canaries: Canaries
    firsts: list[Any]

    def start(self, canaries: Canaries, public: Public) -> Any:
        """Return an empty digest."""
        return hashlib.sha256()

    def finish(self, state: Any) -> Scores:
        """Refuse: a digest is no score."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsSeen(Seen):
    """Of every step."""

    sees: ClassVar[Sees] = "steps"

    def observe(self, state: Any, release: Release) -> Any:
        """Add weights and noisy sum."""
        if not self.firsts:
            self.firsts.append(release.weights_before.clone())
        for tensor in (release.weights_before, release.noisy_sum):
            state.update(_bytes(tensor))
        return state


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSeen(Seen):
    """Of the final model: its weights where they are shown, what it says of the canaries where these are records."""

    sees: ClassVar[Sees] = "final model"

    def observe(self, state: Any, release: FinalModel) -> Any:
        """Add what the model says."""
        if release.weights is not None:
            state.update(np.ascontiguousarray(release.weights).tobytes())
        if isinstance(self.canaries, InputCanaries):
            state.update(np.ascontiguousarray(release.outputs(self.canaries.features)).tobytes())
            state.update(release.losses(self.canaries.features, self.canaries.targets).tobytes())
        return state
