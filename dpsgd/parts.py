"""The parts of a run that torch holds: the weights, and the generators that layers such as Dropout draw from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsgd.saved import State


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """The flat weights, whose views the model's parameters are."""

    flat: Tensor

    def state_dict(self) -> State:
        """Return them."""
        return {"flat": self.flat}

    def load_state_dict(self, state: State) -> None:
        """Write them into the model's parameters."""
        self.flat.copy_(torch.as_tensor(state["flat"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Generators:
    """Torch's own generators, of the whole process: no noise and no sample comes from them, but masks of Dropout do."""

    device: torch.device

    def state_dict(self) -> State:
        """Return where they stand, of the processor and of the device of the weights."""
        state = {"cpu": torch.get_rng_state()}
        return state | {"cuda": torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else state

    def load_state_dict(self, state: State) -> None:
        """Set them to stand there."""
        torch.set_rng_state(torch.as_tensor(state["cpu"]))
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(torch.as_tensor(state["cuda"]), self.device)
