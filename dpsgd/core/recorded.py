"""Clipped gradient sums by book-keeping of models whose own code runs between the layers.

`torch.func.vmap` shows the model one example at a time, so that no code of the user's can mix examples, while layers
compute whole batches; their inputs and outputs are recorded on the way, and the backward pass is an ordinary one.

Going below `vmap` takes functions of torch that have no public name. Whether they are there and do what is asked of
them is tried once (`below_vmap`): where not, such models go by `dpsgd.core.vectorised`, in more time.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.func import vmap

from dpsgd.core.bookkeeping import FlatSums, Tape, in_parts, row_by_row, taken_apart
from dpsgd.core.chains import has_digits
from dpsgd.core.clippers import Clipper, add_clipped
from dpsgd.core.generators import set_apart
from dpsgd.core.layers import Plan, covers
from dpsgd.core.layouts import in_order
from dpsgd.core.parameters import trainable
from dpsgd.core.recurrent import recurrent
from dpsgd.core.units import entries_of_unit
from dpsgd.core.vectorised import Vectorised
from dpsgd.core.workspace import Workspace
from dpsgd.losses import Loss, per_example

functorch: Any = getattr(torch._C, "_functorch", None)
# Dimensions that one example has for these, without a batch's.
OF_ONE_EXAMPLE: dict[type[nn.Module], int] = {nn.Conv1d: 2, nn.Conv2d: 3}


def recordable(model: nn.Module) -> bool:
    """Return whether every trainable parameter belongs to one layer that `dpsgd.core.layers` covers.

    Models with recurrent layers, frozen ones among them, run below `vmap` no more than `dpsgd.core.recurrent` says.

    >>> recordable(nn.TransformerEncoderLayer(4, 2)), recordable(nn.Sequential(nn.Linear(4, 2)))
    (False, True)
    """
    layers = _layers(model)
    owned = Counter(id(parameter) for layer in layers for parameter in layer.parameters())
    covered = bool(layers) and all(map(covers, layers)) and set(owned.values()) == {1}
    return covered and not recurrent(model)


@functools.cache
def below_vmap() -> bool:
    """Return whether this version of torch lets a layer compute a whole batch below `vmap`, as one layer shows.

    >>> below_vmap()
    True
    """
    taken: list[Tensor] = []
    rows, layer = torch.arange(6.0, device="cpu").view(3, 2), nn.LayerNorm(2, device="cpu")  # which draws no numbers

    def run(row: Tensor, anchor: Tensor) -> Tensor:
        return _run_below(layer, row, anchor, lambda _, a, b: taken.extend((a, b)))

    try:
        given = vmap(run)(rows, torch.zeros_like(rows[:, 0]))
        asked = layer(rows)
        return len(taken) == 2 and all(map(torch.equal, (*taken, given), (rows, asked, asked)))
    except Exception:  # whatever a torch of later says to what it does not know
        return False


@dataclass(slots=True, kw_only=True, eq=False)
class Recorded:
    """The clipped gradient sum of a model that is `recordable`.

    A model whose forward pass uses a layer twice, or a layer's parameter outside the layer, is left to `Vectorised`:
    the first example that comes tells, by the shape of the computation alone.
    """

    model: nn.Module
    loss: Loss
    clip: Clipper
    plan: Plan = field(default_factory=dict)
    _flat: FlatSums = field(init=False)
    _formed: dict[int, int] = field(default_factory=dict)
    _covers: bool = True
    _copies: bool = False
    _space: Workspace = field(init=False, default_factory=Workspace)

    def __post_init__(self) -> None:
        self._flat = FlatSums(_layers(self.model), list(trainable(self.model).values()))

    def __call__(self, features: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        """Return the sum of the clipped gradients of a batch, shape (d,)."""
        total, sums = self._flat.zeros()
        features = in_order(features)
        rows = 1 if shares is None else shares.shape[1]
        before = len(self.clip.seen or ())
        try:
            # A copy, as the model may write into what it is given, and is given this one again.
            shared = None if shares is None else shares[:1]
            entries = self._entries(features[:1].clone(), targets[:1], shared, rows=rows)
            for some, wanted, shared in in_parts(features, targets, shares, entries=entries):
                recorded = self._record(*row_by_row(some, wanted, shared))
                with torch.no_grad():
                    layers, parts, multiplied = taken_apart(*recorded, shared, space=self._space, plan=self.plan)
                    add_clipped([sums[layer] for layer in layers], parts, self.clip, layers, multiplied)
        except _NotCoveredError:
            self._covers = False
            del (self.clip.seen or [])[before:]  # what was summed does not count
            return Vectorised(model=self.model, loss=self.loss, clip=self.clip)(features, targets, shares)
        return total

    def _entries(self, features: Tensor, targets: Tensor, shares: Tensor | None, *, rows: int) -> int:
        """Return how many gradient entries are formed for one unit, as the first that comes tells."""
        if not self._covers:
            raise _NotCoveredError
        if rows not in self._formed and len(features):
            # Beside the run: a resumed one looks again, and its layers must draw no further for that.
            with set_apart(features.device), torch.no_grad():
                recorded = self._record(*row_by_row(features, targets, shares))
                layers, parts, _ = taken_apart(*recorded, shares, space=self._space, plan=self.plan)
            held = zip(layers, parts, strict=True)
            self._formed[rows] = sum(entries_of_unit(layer, unit.entries(), rows=rows) for layer, unit in held)
        return self._formed.get(rows, 0)

    @torch.enable_grad()
    def _record(self, features: Tensor, targets: Tensor) -> tuple[Tape, Tensor]:
        tape: _Outputs = []
        versions: list[tuple[int, int]] = []
        anchors = features.new_zeros(len(features))

        def note(layer: nn.Module, a: Tensor, b: Tensor) -> None:
            tape.append((layer, a.detach(), b))
            versions.append((a._version, b._version))

        def loss_of_one(features: Tensor, target: Tensor, anchor: Tensor) -> Tensor:
            def run(layer: nn.Module, *inputs: Any, **others: Any) -> Tensor:
                if len(inputs) != 1 or others:
                    raise _NotCoveredError
                outputs = _run_below(layer, inputs[0], anchor, note)
                return outputs.clone() if self._copies else outputs

            with _run_by(run, _layers(self.model)):
                return per_example(self.loss, self.model(features.unsqueeze(0)), target.unsqueeze(0)).squeeze(0)

        losses = vmap(loss_of_one, randomness="different")(features, targets, anchors)
        if [(a._version, b._version) for _, a, b in tape] != versions:
            if self._copies:
                raise _NotCoveredError  # inputs are written over after their use
            self._copies = True  # what follows a layer writes into its output
            return self._record(features, targets)
        if not all(has_digits(rows.dtype) for _, *both in tape for rows in both):
            raise _NotCoveredError  # norms rest on the digits of what gradients are products of
        return _used(tape, losses, list(trainable(self.model).values())), losses


_Outputs = list[tuple[nn.Module, Tensor, Tensor]]
"""A tape with all outputs."""


class _NotCoveredError(Exception):
    """The forward pass does what book-keeping would get wrong."""


def _run_below(
    layer: nn.Module, inputs: Tensor, anchor: Tensor, note: Callable[[nn.Module, Tensor, Tensor], None]
) -> Tensor:
    """Return what a layer gives to all examples, run below the `vmap` that the anchor is of.

    A `torch.autograd.Function` with a rule for `vmap` comes down to these calls, after .15 ms of Python a layer.

    Args:
        layer: whose parameters are recorded.
        inputs: of one example, or the same for all, as positions are.
        anchor: of one example.
        note: takes layer, inputs and outputs (n, …).
    """
    level, top = functorch.maybe_get_level(anchor), functorch.peek_interpreter_stack()
    if top is None or (top.key(), top.level()) != (functorch.TransformType.Vmap, level):
        raise _NotCoveredError  # a transform of the model's own, around the layer
    (a, place), (anchors, _) = (functorch._unwrap_batched(each, level) for each in (inputs, anchor))
    a = a.expand(len(anchors), *a.shape) if place is None else a.movedim(place, 0)
    within = _within(layer, a)
    a = a.squeeze(1) if within else a
    above = functorch.pop_dynamic_layer_stack()
    try:
        b = type(layer).forward(layer, a)
    finally:
        functorch.push_dynamic_layer_stack(above)
    note(layer, a, b)
    given: Tensor = functorch._add_batch_dim(b.unsqueeze(1) if within else b, 0, level)
    return given


@contextlib.contextmanager
def _run_by(run: Callable[..., Tensor], layers: list[nn.Module]) -> Iterator[None]:
    try:
        for layer in layers:
            vars(layer)["forward"] = functools.partial(run, layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _layers(model: nn.Module) -> list[nn.Module]:
    """Return the modules that hold trainable parameters themselves, each once."""
    return [module for module in model.modules() if any(p.requires_grad for p in module.parameters(recurse=False))]


def _used(tape: _Outputs, losses: Tensor, parameters: list[nn.Parameter]) -> Tape:
    """Return the tape, which keeps no output that leads to the losses.

    Raises:
        _NotCoveredError: unless the losses depend on every parameter through its layer's recorded outputs alone.
    """
    uses: Counter[int] = Counter()
    seen: set[Node] = set()
    ahead = [losses.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for before, _ in node.next_functions:
            uses[id(getattr(before, "variable", None))] += 1
            ahead.append(before)
    recorded = Counter(id(parameter) for layer, _, b in tape if b.grad_fn in seen for parameter in layer.parameters())
    twice = len({id(layer) for layer, _, _ in tape}) < len(tape)
    if twice or any(uses[id(parameter)] != recorded[id(parameter)] for parameter in parameters):
        raise _NotCoveredError
    return [(layer, a, get_gradient_edge(b) if b.grad_fn in seen else b) for layer, a, b in tape]


def _within(layer: nn.Module, inputs: Tensor) -> bool:
    """Return whether inputs (n, 1, …) must become (n, …), for layers that need to know where the channels are."""
    wanted = OF_ONE_EXAMPLE.get(type(layer))
    if (wanted is None and type(layer) is not nn.GroupNorm) or (wanted and inputs.dim() == wanted + 1):
        return False
    if inputs.shape[1] != 1:
        raise _NotCoveredError  # the model's own code has made a batch of one example
    return True
