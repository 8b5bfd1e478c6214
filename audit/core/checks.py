"""Checks of a trainer by running it again: its answers must follow from streams and coins, and must heed the coins."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from audit.attack import Attack, FinalModel, Public, Release, Sees
from audit.canaries import Canaries, InputCanaries
from audit.core.faults import TrainerFault
from audit.core.plan import described_noise
from audit.core.streams import reserve_run
from audit.core.watching import Watch
from audit.runs import Setup, toss
from audit.scores import Coins, Scores

CHANCE = 1e-9
MOST_PAIRS = 1_000


def check_trainer(setup: Setup) -> None:
    """Run the trainer three times with the same streams: twice with the same coins, once with every coin turned over.

    What the attack sees must be the same bits in the first two runs, and others in the third. With m canaries that take
    part rarely, the third may be the same by chance, with probability (1 − q)^(m T) if the claim is what ran: coins are
    then turned over in further pairs of runs, until that has probability 1e-9, or there were a thousand.

    Raises:
        TrainerFault: if it is not so, or the trainer does not do what every trainer must.
    """
    number, membership = reserve_run(setup.randomness), toss(setup.randomness, len(setup.canaries))
    first, again = (_digest(setup, membership, number) for _ in range(2))
    if first != again:
        raise TrainerFault("the trainer changed its answer between two runs with the same streams and coins")
    for left in reversed(range(_pairs(setup))):
        if _digest(setup, ~membership, number) != first:
            return
        if left:
            number = reserve_run(setup.randomness)
            first = _digest(setup, membership, number)
    raise TrainerFault("the trainer gave the same bits with every coin turned over: it ignores the coins")


def _pairs(setup: Setup) -> int:
    """Return in how many pairs of runs coins that are heeded show but for a chance of 1e-9, a thousand at most."""
    described = None if setup.process is None else described_noise(setup.process)
    if described is None or not 0 < described.probability < 1:
        return 1
    unseen = described.steps * len(setup.canaries) * math.log1p(-described.probability)
    return min(MOST_PAIRS, math.ceil(math.log(CHANCE) / unseen))


def _digest(setup: Setup, membership: Coins, number: int) -> str:
    """Return a digest of what the attack would see of a run."""
    kind = StepsSeen if setup.attack.sees == "steps" else ModelSeen
    observations = setup.observations(membership, number)
    watch = Watch(attack=kind(canaries=setup.canaries), state=hashlib.sha256(), steps=setup.steps, dimension=None)
    watch.follow(observations)
    digest: str = watch.state.hexdigest()
    return digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Attack):
    """A fold that only digests."""

    threat_model: ClassVar[str] = "none: it digests what it sees"
    takes: ClassVar[type] = Canaries

    canaries: Canaries

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
        for tensor in (release.weights_before, release.noisy_sum):
            state.update(tensor.to("cpu").double().numpy().tobytes())  # numpy has no bfloat16
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
