"""Clipped gradient sums of linear layers by one compiled function: `torch.compile`, with a compiler of C++ for the CPU.

Each of the eager steps of `dpsgd.core.bookkeeping` is short, and calling one after the other costs as much as what they
compute. Here the forward and the backward pass, norms and factors are traced once and compiled to a few loops and
products; the sums are products of torch as before, straight into their place. The arithmetic is that of the other way:
squares of float32 are exact in float64 and added there, a factor is made by the same roundings, and the loops are
compiled without leave to assume finite numbers or to contract.

That a compiler has made what was written is not taken on trust. Before the first record its sums of made-up batches,
of a size below the width of vectors, of one that is no multiple of it and of the one compiled for, are held against
those of the other way; where they differ by more than rounding there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dpsgd.core.bookkeeping import BookKeeping, FlatSums
from dpsgd.core.chains import ELEMENTWISE, Chain, trains
from dpsgd.core.clip import clipping_bound
from dpsgd.core.clippers import Clipper, FlatClipper, Seen, norms
from dpsgd.core.once import FEWEST, Once, refused
from dpsgd.core.rowwise import Rowwise, keeps_apart, made_up_batch
from dpsgd.core.written import Outcome, Written
from dpsgd.losses import Loss
from mechanisms import InvalidParameter

FITTING = (ELEMENTWISE - {nn.Dropout}) | {nn.Linear, nn.Flatten}
COMPILED_FOR = 256
"""Examples of the made-up batch that is compiled for; the same code serves all batches, so that runs repeat."""
COMPARED_FOR = (FEWEST, 61, COMPILED_FOR)
ROUNDING, TRIES = 1024, 3
"""Last digits of what all examples add by which two sums may differ; in one of so many batches, as another rounding at
the kink of a ReLU changes an example's gradient by a part of it, once in some twenty batches."""


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
            self._factored = self._compiled_for(_zeros(features), _zeros(targets))
        if len(features) < FEWEST:
            return self._few(features, targets)
        total, squares, factors = self._summed(self._factored, features, targets)
        if self.clip.seen is not None:
            self.clip.seen.append(([squares], [factors]))
        return total

    def _summed(self, factored: Once, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sum, and squared norms and factors of the examples."""
        features, targets = _in_order(features, self._strides[0]), _in_order(targets, self._strides[1])
        weighted, inputs, squares, factors = self._run(factored, features, targets)
        if len(inputs) < len(weighted):
            inputs = [_silenced(features if self.overwrite else features.clone(), factors), *inputs]
        total, sums = self._flat.room()
        for of_layer, a, b in zip(sums.values(), inputs, weighted, strict=True):
            torch.mm(b.T, a, out=of_layer[0])
            for bias in of_layer[1:]:
                torch.sum(b, 0, out=bias)
        return total, squares, factors

    def _run(self, factored: Once, features: Tensor, targets: Tensor) -> Outcome:
        bound = clipping_bound(self.clip.max_grad_norm)
        if self._bound is None or self._bound[0] != bound:
            self._bound = bound, torch.tensor([bound], dtype=torch.float64, device="cpu")
        return factored(features, targets, self._bound[1])

    def _compiled_for(self, features: Tensor, targets: Tensor) -> Once:
        if torch.is_autocast_enabled("cpu"):
            raise refused("torch must not be told to compute with fewer digits, as autocast does")
        rows = features
        with torch.no_grad():
            for module in self.chain:
                if type(module) is nn.Linear and rows.dim() != 2:
                    raise refused(f"{module} must take one vector an example, got {tuple(rows.shape[1:])}")
                rows = module(rows)
        if not keeps_apart(self.loss, rows, targets):
            raise refused("loss must keep examples apart, and run on made-up ones")
        try:
            factored = Once(Written(chain=self.chain, loss=self.loss))
            self._run(factored, features, targets)
        except InvalidParameter:
            raise
        except Exception as error:
            told = " ".join(str(error).split("\n", 2)[:2]).strip()  # of records of zeros
            raise refused(f"model and loss must compile, got {type(error).__name__}: {told}") from None
        self._strides = features.stride(), targets.stride()
        for size in COMPARED_FOR:
            if not any(self._agrees(factored, features, targets, size=size, seed=seed) for seed in range(TRIES)):
                raise refused(
                    f"the compiled sum of {size} made-up examples must be that of the other way up to rounding, and is "
                    "another: the compiler has made something else"
                )
        return factored

    def _agrees(self, factored: Once, features: Tensor, targets: Tensor, *, size: int, seed: int) -> bool:
        """Return whether both ways have the same sum of a made-up batch, and the same lengths of what is added."""
        rows, answers = made_up_batch(features, targets, size=size, seed=seed)
        seen: Seen = []
        clip = FlatClipper(max_grad_norm=self.clip.max_grad_norm, seen=seen)
        expected = BookKeeping(chain=self.chain, loss=Rowwise(loss=self.loss), clip=clip)(rows.detach(), answers)
        found, squares, factors = self._summed(factored, rows.detach().clone(), answers)
        added = sum(_lengths(norms(of_layers), each[0]) for of_layers, each in seen)
        kind, entries = torch.finfo(found.dtype), size * len(found)
        share = ROUNDING * kind.eps * added
        off, lengths = float((found.double() - expected.double()).norm()), _lengths(squares.sqrt(), factors)
        # What underflows, in either way, is beside that; norms have its square added, by `dpsgd.core.norms`.
        return off <= share + entries * kind.tiny and abs(lengths - added) <= share + entries * kind.tiny**0.5


def _lengths(norms: Tensor, factors: Tensor) -> float:
    """Return Σ factor · norm of the examples that do not count as zero."""
    counted = factors != 0.0
    return float((factors[counted] * norms[counted]).sum())


def _in_order(rows: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Return the rows, row by row in memory, as they were compiled for: with these strides."""
    if rows.stride() == strides and not rows.requires_grad:
        return rows
    return rows.detach().contiguous().reshape(-1).view(rows.shape)


def _silenced(rows: Tensor, factors: Tensor) -> Tensor:
    """Return what `dpsgd.core.clip.silence` does, in one call instead of four."""
    rows.numpy()[factors.numpy() == 0.0] = 0.0
    return rows


def _zeros(rows: Tensor) -> Tensor:
    return rows.new_zeros(COMPILED_FOR, *rows.shape[1:])
