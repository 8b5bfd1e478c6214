"""Which form of every convolution takes less time here, found out on made-up examples before a run's first record.

What is timed depends on layers and the shape of a record alone: never on records, on how many there are, or on what a
step has drawn. The grouped form is taken where it is clearly the faster one, so that chance seldom decides, and where
it does on made-up examples what is asked of it: gradients as from columns, and of each example the same bits whatever
the others hold, not a number, infinite or huge. On other devices than the CPU nobody has tried this: columns stay.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dpsgd.core.contributions import Formed
from dpsgd.core.convolutions import of_convolution
from dpsgd.core.forms import COLUMNS, GROUPED, RULE_OF, Convolution, Given
from dpsgd.core.grouped import at_once, of_grouped_convolution
from dpsgd.core.layers import Rule
from dpsgd.core.workspace import Workspace

MOST_EXAMPLES, TRIES = 32, 3
"""Made-up examples in a try, and tries of each form, which take turns."""
CLEARLY = 0.85
"""Share of the time of columns below which the grouped form is taken."""
CLOSE = {torch.float32: 1e-5, torch.float64: 1e-10}
POISONS = (float("nan"), float("inf"), 1e38)

clock: Callable[[], float] = time.thread_time
"""Of all that a choice rests on the one thing that another process would find otherwise. It counts what this thread
computes, or waits for others that help it: on a busy machine a clock on the wall would tell which try was put off."""


def fastest_forms(given: Mapping[str, Given], *, most: int = MOST_EXAMPLES) -> dict[str, str]:
    """Return the form to take for every layer, the same for layers that are alike.

    Args:
        given: to layers, by name.
        most: examples that a run gives a layer at once, if that is fewer than are tried.

    >>> layer, ones = torch.nn.Conv1d(1, 1, 1), torch.ones(1, 1, 3)
    >>> set(fastest_forms({"0": Given(layer=layer, inputs=ones, gradients=ones)}).values()) <= {"columns", "grouped"}
    True
    """
    found: dict[Any, str] = {}
    for one in given.values():
        if _key(one) not in found:
            found[_key(one)] = _fastest(one, min(most, MOST_EXAMPLES))
    return {name: found[_key(one)] for name, one in given.items()}


def _key(given: Given) -> Any:
    tensors = given.inputs, given.gradients
    return (str(given.layer), *[(tensor.shape[1:], tensor.dtype, _lies_last(tensor)) for tensor in tensors])


@torch.no_grad()
def _fastest(given: Given, most: int) -> str:
    layer = given.layer
    if given.inputs.device.type != "cpu":
        return COLUMNS
    n = min(most, at_once(layer, given.inputs, given.gradients))
    generator = torch.Generator("cpu").manual_seed(0)
    a, b = (_made_up(rows, n, generator) for rows in (given.inputs, given.gradients))
    taken = seconds_of(layer, a, b)
    faster = taken[GROUPED] < CLEARLY * taken[COLUMNS]
    return GROUPED if faster and sound(of_grouped_convolution, layer, a, b) else COLUMNS


def seconds_of(layer: Convolution, inputs: Tensor, gradients: Tensor, *, tries: int = TRIES) -> dict[str, float]:
    """Return the time that each form takes for these examples: medians of tries that take turns, by `clock`."""
    taken: dict[str, list[float]] = {form: [] for form in RULE_OF}
    spaces = {form: Workspace() for form in taken}
    for turn in range(1 + tries):
        for form, seconds in taken.items():
            begun = clock()
            RULE_OF[form](layer, inputs, gradients, spaces[form])
            spent = clock() - begun
            seconds += [spent] * (turn > 0)  # the first makes kernels and room
    return {form: statistics.median(seconds) for form, seconds in taken.items()}


def sound(rule: Rule, layer: Convolution, inputs: Tensor, gradients: Tensor) -> bool:
    """Return whether a rule has the gradients that columns have, and each of its own example alone, to the last bit.

    Args:
        rule: which has entries in the order of the weight.
        layer: the convolution.
        inputs: (n, …).
        gradients: (n, …).
    """
    rows = _rows(rule, layer, inputs, gradients)
    columns = _rows(of_convolution, layer, inputs, gradients)
    off, lengths = (rows - columns).norm(dim=1), columns.norm(dim=1)
    if not bool((off <= CLOSE[rows.dtype] * lengths).all()):
        return False
    spoilt, others = len(inputs) // 2, torch.arange(len(inputs), device=inputs.device) != len(inputs) // 2
    for poison in POISONS:
        a, b = inputs.clone(), gradients.clone()
        a[spoilt], b[spoilt] = poison, poison
        if not torch.equal(_rows(rule, layer, a, b)[others], rows[others]):
            return False
    return True


def _rows(rule: Rule, layer: Convolution, inputs: Tensor, gradients: Tensor) -> Tensor:
    """Return the gradients of n examples by the weight (n, entries), in the weight's order."""
    held = rule(layer, inputs, gradients, Workspace())
    assert isinstance(held, Formed)
    order = held.order or tuple(range(layer.weight.dim()))
    rows = held.rows[0].view(len(inputs), *(layer.weight.shape[place] for place in order))
    return rows.permute(0, *(1 + order.index(place) for place in range(len(order)))).flatten(start_dim=1)


def _made_up(rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return n normals of the shape, dtype and layout that rows have."""
    made = torch.randn(n, *rows.shape[1:], generator=generator, dtype=rows.dtype, device="cpu")
    return made.to(memory_format=torch.channels_last) if _lies_last(rows) else made


def _lies_last(rows: Tensor) -> bool:
    return rows.dim() == 4 and not rows.is_contiguous() and rows.is_contiguous(memory_format=torch.channels_last)
