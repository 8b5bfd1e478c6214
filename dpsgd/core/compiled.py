"""Clipped gradient sums of linear layers by one compiled function: `torch.compile`, with a compiler of C++ for the CPU.

Each of the eager steps of `dpsgd.core.bookkeeping` is short, and calling one after the other costs as much as what they
compute. Here the forward and the backward pass, norms and factors are traced once and compiled to a few loops and
products; the sums are products of torch as before, straight into their place. The arithmetic is that of the other way:
squares of float32 are exact in float64 and added there, a factor is made by the same roundings, and the loops are
compiled without leave to assume finite numbers or to contract.
"""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dpsgd.core.bookkeeping import BookKeeping, FlatSums
from dpsgd.core.chains import ELEMENTWISE, Chain, trains
from dpsgd.core.clip import clipping_bound, silence
from dpsgd.core.clippers import Clipper, FlatClipper
from dpsgd.core.norms import LEAST
from dpsgd.core.rowwise import Rowwise, keeps_apart
from dpsgd.losses import Loss, per_example
from mechanisms import InvalidParameter

FITTING = (ELEMENTWISE - {nn.Dropout}) | {nn.Linear, nn.Flatten}
COMPILED_FOR = 256
"""Examples of the made-up batch that is compiled for; the same code serves all batches, so that runs repeat."""
FEWEST, MOST = 2, 2**40
"""Examples of a batch: compilers treat sizes of 0 and 1 apart; more than the most fit in no memory."""
CHANGED = (
    "dtypes and shapes of features and targets, model, loss and torch's settings must be as at the first call, with as "
    "many targets as examples"
)
HINT = "Leave out compiled=True: the sums are the same up to rounding."
Outcome = tuple[list[Tensor], list[Tensor], Tensor, Tensor]
"""For every layer the output gradients times the factors; its inputs, of layers that take in other than the features,
with zeros for examples that count as zero; squared norms and factors of all examples (n,)."""
Factored = Callable[[Tensor, Tensor, Tensor], Outcome]
"""(features (n, k), targets (n, …), bound (1,)) -> Outcome."""


@dataclass(slots=True, kw_only=True, eq=False)
class Compiled:
    """The clipped gradient sum of a chain of linear layers and functions of single entries, on the CPU.

    The first call compiles, on zeros of the records' shape, which takes seconds to a minute. What was read then is
    looked at again at every call: shapes, dtypes and devices, the layers, their settings and hooks, the loss and what
    it refers to, torch's own settings and its number of threads. If any of it is not as it was, the call is refused,
    and nothing is compiled for real records. Values of parameters, of tensors of the loss and of the bound may move.
    Code that would serve batches of some sizes alone is refused when it is made: no batch decides whether it serves.

    A class number that is none ends the other way with an error. Here it goes unnoticed by the cross entropy of torch,
    of which the gradient alone is computed: the example counts as zero.

    Args:
        chain: as of `BookKeeping`, of modules that `FITTING` names.
        loss: one loss for each example, which must keep examples apart in its own code.
        clip: a FlatClipper.
        overwrite: whether features are memory to reuse, and may hold anything afterwards.

    Raises:
        InvalidParameter: if chain, clip or device do not fit.
    """

    chain: Chain
    loss: Loss
    clip: Clipper
    overwrite: bool = False
    _few: BookKeeping = field(init=False)
    _flat: FlatSums = field(init=False)
    _factored: Once | None = field(init=False, default=None)
    _strides: tuple[tuple[int, ...], tuple[int, ...]] = field(init=False, default=((), ()))
    _bound: tuple[float, Tensor] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        for module in self.chain:
            if type(module) not in FITTING:
                raise refused(f"the model must be of linear layers and functions of single entries, got {module}")
        if not isinstance(self.clip, FlatClipper):
            raise refused(f"clipping must have one factor of at most 1 an example, got {type(self.clip).__name__}")
        devices = {parameter.device.type for module in self.chain for parameter in module.parameters()}
        if devices != {"cpu"}:
            raise refused(f"parameters must be on the CPU, got {sorted(devices)}")
        self._few = BookKeeping(chain=self.chain, loss=Rowwise(loss=self.loss), clip=self.clip)
        self._flat = FlatSums([module for module in self.chain if trains(module)])

    def __call__(self, features: Tensor, targets: Tensor, shares: Tensor | None = None) -> Tensor:
        """Return the sum of the clipped gradients of a batch, shape (d,).

        Raises:
            InvalidParameter: at the first call, if loss and model cannot be compiled, or there is no compiler; at any
                call, for units of several rows, and if it is not about what was compiled.
        """
        if shares is not None:
            raise refused("a unit must have one row, got several")
        if self._factored is None:
            made_up = _zeros(features), _zeros(targets)
            self._factored = self._compiled(*made_up)
            self._strides = made_up[0].stride(), made_up[1].stride()
        if len(features) < FEWEST:
            return self._few(features, targets)
        features, targets = _in_order(features, self._strides[0]), _in_order(targets, self._strides[1])
        weighted, inputs, squares, factors = self._run(self._factored, features, targets)
        if self.clip.seen is not None:
            self.clip.seen.append(([squares], [factors]))
        if len(inputs) < len(weighted):
            inputs = [silence(features if self.overwrite else features.clone(), factors), *inputs]
        total, sums = self._flat.room()
        for of_layer, a, b in zip(sums.values(), inputs, weighted, strict=True):
            torch.mm(b.T, a, out=of_layer[0])
            for bias in of_layer[1:]:
                torch.sum(b, 0, out=bias)
        return total

    def _run(self, factored: Once, features: Tensor, targets: Tensor) -> Outcome:
        bound = clipping_bound(self.clip.max_grad_norm)
        if self._bound is None or self._bound[0] != bound:
            self._bound = bound, torch.tensor([bound], dtype=torch.float64)
        with torch.no_grad():
            return factored(features, targets, self._bound[1])

    def _compiled(self, features: Tensor, targets: Tensor) -> Once:
        rows = features
        with torch.no_grad():
            for module in self.chain:
                if type(module) is nn.Linear and rows.dim() != 2:
                    raise refused(f"{module} must take one vector an example, got {tuple(rows.shape[1:])}")
                rows = module(rows)
        if not keeps_apart(self.loss, rows, targets):
            raise refused("loss must keep examples apart, and run on made-up ones")
        try:
            factored = Once(_factored(self.chain, self.loss))
            self._run(factored, features, targets)
        except InvalidParameter:
            raise
        except Exception as error:
            told = " ".join(str(error).split("\n", 2)[:2]).strip()  # of records of zeros
            raise refused(f"model and loss must compile, got {type(error).__name__}: {told}") from None
        return factored


class Once:
    """A function that is compiled by its first call, for this object alone, and never again.

    Torch looks at every call whether all that it read while compiling is as it was, and would compile anew if not.

    Raises:
        InvalidParameter: by a call that would, and by one that left the function as it is.
    """

    def __init__(self, function: Any) -> None:
        # Compilers keep what they made by the code object: this has one of its own, that no other is taken for it.
        code, given = function.__code__.replace(), function.__globals__
        own = types.FunctionType(code, given, function.__name__, closure=function.__closure__)
        self._compiled = torch.compile(own, fullgraph=True, dynamic=False, backend=self._backend)
        self._begun = self._made = False

    def __call__(self, features: Tensor, targets: Tensor, bound: Tensor) -> Outcome:
        """Return what the function does, by the first call of made-up features and targets."""
        if not self._made:
            return self._first(features, targets, bound)
        try:
            outcome: Outcome = self._compiled(features, targets, bound)
        except torch._dynamo.exc.TorchDynamoException:
            raise refused(CHANGED) from None  # without torch's text, which names sizes
        return outcome

    def _first(self, features: Tensor, targets: Tensor, bound: Tensor) -> Outcome:
        for made_up in (features, targets):
            torch._dynamo.mark_dynamic(made_up, 0, min=FEWEST, max=MOST)
        with warnings.catch_warnings(), torch._dynamo.config.patch(skip_nnmodule_hook_guards=False):
            warnings.simplefilter("ignore")  # of the compiler's own code, which would fail where they are errors
            outcome: Outcome = self._compiled(features, targets, bound)
        if not self._begun:
            raise refused("torch must not be told to compile nothing, as TORCH_COMPILE_DISABLE does")
        self._made = True
        return outcome

    def _backend(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        self._begun = True
        if self._made:
            raise RuntimeError
        with torch._inductor.config.patch(rounding()):
            return torch._dynamo.lookup_backend("inductor")(graph, inputs)


def _in_order(rows: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Return the rows, row by row in memory, as they were compiled for: with these strides."""
    if rows.stride() == strides and not rows.requires_grad:
        return rows
    return rows.detach().contiguous().reshape(-1).view(rows.shape)


def _factored(chain: Chain, loss: Loss) -> Factored:
    """Return the function to compile."""
    layers: list[Any] = [module for module in chain if trains(module)]
    widths, biased = [layer.out_features for layer in layers], [layer.bias is not None for layer in layers]

    def factored(features: Tensor, targets: Tensor, bound: Tensor) -> Outcome:
        def total_loss(shifts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            """Return the losses' sum with shifted outputs, by whose shifts its gradients are those by the outputs."""
            rows, taken = features, []
            for module in chain:
                if type(module) is nn.Linear and module.weight.requires_grad:
                    taken.append(rows)
                    rows = module(rows) + shifts[len(taken) - 1]
                else:
                    rows = module(rows)
            return per_example(loss, rows, targets).sum(), taken

        shifts = [features.new_zeros(len(features), width) for width in widths]
        outputs, inputs = torch.func.grad(total_loss, has_aux=True)(shifts)
        of_layers = [(_squares(a) + own) * _squares(b) for a, b, own in zip(inputs, outputs, biased, strict=True)]
        squares = functools.reduce(torch.add, of_layers)
        factors = _factors(squares, bound, outputs[0].dtype)
        held = (factors > 0).unsqueeze(1)  # others count as zero, whatever they hold
        weighted = [torch.where(held, b * factors.unsqueeze(1), 0.0) for b in outputs]
        return weighted, [torch.where(held, a, 0.0) for a in inputs if a is not features], squares, factors

    return factored


def _squares(rows: Tensor) -> Tensor:
    """Return ‖row‖² of every row, as `dpsgd.core.norms` does in float64."""
    squares = rows.double().square().sum(1)
    return squares + (rows.shape[1] + 2) * LEAST if rows.dtype == torch.float64 else squares


def _factors(squares: Tensor, bound: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what `dpsgd.core.clip.clip_factors` does, for a bound that may move."""
    kind = torch.finfo(dtype)
    found = torch.maximum(squares.sqrt(), bound).reciprocal() * bound
    return torch.where((found > kind.tiny) & (found > bound / kind.max), found, 0.0).to(dtype)


def _zeros(rows: Tensor) -> Tensor:
    return rows.new_zeros(COMPILED_FOR, *rows.shape[1:])


def rounding() -> dict[str, Any]:
    """Return what inductor is told, whatever variables of the environment say: to round each sum and each product."""
    contracted = torch._inductor.config.cpp.enable_floating_point_contract_flag  # True or False before torch 2.7
    off = "off" if isinstance(contracted, str) else False
    return {"cpp.enable_unsafe_math_opt_flag": False, "cpp.enable_floating_point_contract_flag": off}


def refused(why: str) -> InvalidParameter:
    """Return the error that a compiled sum was asked for and there is none."""
    return InvalidParameter(f"compiled: {why}.\n{HINT}")
