"""The parts of a run that torch holds: the weights, and the numbers that layers such as Dropout draw for themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsgd.core.generators import places, set_apart
from dpsgd.core.ranks import Ranks
from dpsgd.core.saved import State
from mechanisms import InvalidParameter, Source

SEEDS = 1024  # drawn at once: a call costs as much as hundreds of them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """The flat weights, whose views the model's parameters are."""

    flat: Tensor

    def state_dict(self) -> State:
        """Return them."""
        return {"flat": self.flat}

    def load_state_dict(self, state: State) -> None:
        """Write them into the model's parameters.

        Raises:
            InvalidParameter: if it is no such vector of floats.
        """
        flat = state.get("flat")
        if set(state) != {"flat"} or not isinstance(flat, Tensor) or flat.shape != self.flat.shape:
            raise InvalidParameter(f"Checkpoint: weights must be a vector of {len(self.flat)} floats, and are not.")
        if flat.dtype != self.flat.dtype:
            raise InvalidParameter(f"Checkpoint: weights must be {self.flat.dtype}, got {flat.dtype}.")
        self.flat.copy_(flat)


@dataclass(slots=True, kw_only=True, eq=False)
class LayerDraws:
    """What layers draw from torch's generators during a step: a function of key, run, step and rank.

    A step that is taken again has the same masks, or its sum would be another one under the same noise, and the
    difference of the two would be bare. Outside of steps torch's generators are as if no layer drew.

    Args:
        source: of the generators' seeds, its streams "layers 0", "layers 1", … for the ranks.
        run: where the run begins, see `dpsgd.core.runs`.
        ranks: the processes that take part.
        pass_of_zeros: takes the layers through a record of zeros, which tells whether they draw. What they did with the
            records tells it too, and with it whether any was drawn.
    """

    source: Source
    run: int
    ranks: Ranks
    pass_of_zeros: Callable[[], object]
    _first: int = 0
    _seeds: tuple[int, ...] = ()

    def of(self, step: int) -> AbstractContextManager[None]:
        """Return the context in which the layers take a step."""
        return set_apart(self.ranks.device, seed=self._seed(step))

    def state_dict(self) -> State:
        """Return by how many ranks the steps are taken."""
        return {"ranks": self.ranks.count}

    def load_state_dict(self, state: State) -> None:
        """Go on with as many ranks.

        Raises:
            InvalidParameter: if there are others, and layers draw: records of steps that are taken again, after the one
                that was kept, would meet other masks under the same noise.
        """
        if state["ranks"] != self.ranks.count and self._layers_draw():
            raise InvalidParameter(
                f"Checkpoint: there must be {state['ranks']} ranks, as when the run was begun, got {self.ranks.count}: "
                "layers of the model draw numbers of their own, such as masks, and would draw others."
            )

    def _layers_draw(self) -> bool:
        """Return whether layers draw, or could: a pass that fails says nothing of those of records."""
        with self.of(0):
            before = places(self.ranks.device)
            try:
                self.pass_of_zeros()
            except Exception:
                return True
            after = places(self.ranks.device)
        return not all(map(torch.equal, before, after))

    def _seed(self, step: int) -> int:
        if not self._first <= step < self._first + len(self._seeds):
            words = self.source.words(f"layers {self.ranks.rank}", self.run + step, SEEDS)
            self._first, self._seeds = step, tuple(map(int, words))
        return self._seeds[step - self._first]
