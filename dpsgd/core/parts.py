"""The parts of a run that torch holds: the weights, and the numbers that layers such as Dropout draw for themselves.

**What masks hide.** Layers draw for the records of a batch in turn, so that one record more gives those after it other
masks, and may move the sum by far more than the bound. The law of their masks is the same with it and without: whoever
does not know the masks learns nothing by that, and the guarantee holds. But had a step's masks few seeds, all of them
could be tried: 2^32 of torch's are an afternoon's work. So a generator is set to a state drawn from the key, all 19,937
bits of it on the CPU and 64 on CUDA, whose generators take no more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpsgd.core.batches import STEP, Rows
from dpsgd.core.generators import WORDS, places, set_apart, unmoved
from dpsgd.core.population import Population
from dpsgd.core.ranks import Ranks
from dpsgd.core.saved import State
from mechanisms import InvalidParameter, Source

STEPS = 16  # whose states are drawn at once: a call costs as much as some of them


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


def draw_in(attempt: Callable[[], object], *, device: torch.device) -> bool:
    """Return whether an attempt draws from torch's generators, which are afterwards as they were.

    Args:
        attempt: such as a pass of a record of zeros.
        device: on which it draws numbers, if it does, beside the CPU.

    >>> draw_in(lambda: torch.rand(1), device=torch.device("cpu"))
    True
    """
    with set_apart(device):
        before = places(device)
        attempt()
        after = places(device)
    return not all(map(torch.equal, before, after))


@dataclass(slots=True, kw_only=True, eq=False)
class LayerDraws:
    """What layers draw from torch's generators during a step: a function of key, run, step and rank.

    A step that is taken again has the same masks, or its sum would be another one under the same noise, and the
    difference of the two would be bare. Outside of steps torch's generators are as if no layer drew.

    Args:
        source: of the generators' states, its streams "layers 0", "layers 1", … for the ranks.
        run: where the run begins, see `dpsgd.core.runs`.
        ranks: the processes that take part.
        pass_of_zeros: takes the layers through a record of zeros, which tells whether they draw. What they did with the
            records tells it too, and with it whether any was drawn.
        expected: whether they do, by that, or could: generators are then set in every step. Else in those alone in
            which layers turn out to have drawn nevertheless, whose sum is worked out again. It may be False for torch's
            own code alone, whose draws show in where generators stand: other code may set them back, or read them.
        forget: drops what was seen of a sum that is worked out again.
    """

    source: Source
    run: int
    ranks: Ranks
    pass_of_zeros: Callable[[], object]
    expected: bool = True
    forget: Callable[[], object] = lambda: None
    _first: int = 0
    _words: NDArray[np.uint32] | None = None

    def of(self, step: int) -> AbstractContextManager[None]:
        """Return the context in which the layers take a step."""
        return set_apart(self.ranks.device, words=self._words_of(step))

    def over(self, population: Population) -> Population:
        """Return the same population, whose sums are worked out with the layers' draws of their steps."""

        def clipped_sum(rows: Rows, position: int) -> Tensor:
            if not self.expected:
                total = unmoved(lambda: population.clipped_sum(rows, position), device=self.ranks.device)
                if total is not None:
                    return total
                self.forget()
            with self.of((position - self.run) // STEP):
                return population.clipped_sum(rows, position)

        return dataclasses.replace(population, clipped_sum=clipped_sum)

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
        try:
            return draw_in(self.pass_of_zeros, device=self.ranks.device)
        except Exception:
            return True

    def _words_of(self, step: int) -> NDArray[np.uint32]:
        """Return the words of a step's state, shape (WORDS,)."""
        if self._words is None or not self._first <= step < self._first + STEPS:
            words = self.source.words(f"layers {self.ranks.rank}", self.run + step * WORDS, STEPS * WORDS)
            self._first, self._words = step, words.reshape(STEPS, WORDS)
        own: NDArray[np.uint32] = self._words[step - self._first]
        return own
