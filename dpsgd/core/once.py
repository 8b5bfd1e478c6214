"""Functions that are compiled once: by `torch.compile` or by its inductor alone, with a compiler of C++ for the CPU."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx

from dpsgd.core.written import Outcome, Written
from mechanisms import InvalidParameter

FEWEST, MOST = 2, 2**40
"""Examples of a batch: compilers treat sizes of 0 and 1 apart; more than the most fit in no memory."""
CHANGED = (
    "dtypes and shapes of features and targets, model, loss and torch's settings must be as at the first call, with as "
    "many targets as examples"
)
HINT = "Leave out compiled=True: the sums are the same up to rounding."
Kernel = Callable[[list[Any]], Sequence[Tensor]]


class Once:
    """What is written, compiled by its first call, for this object alone, and never again.

    Torch reads the forward pass, which is all that is a user's, and looks at every call whether all that it read while
    compiling is as it was, and would compile anew if not. What follows is traced from the graph that it has made, with
    gradients on, as in training. Its losses are then never computed: in their place it is given the outcome.

    Raises:
        InvalidParameter: by a call that would, and by one that left what is written as it is.
    """

    def __init__(self, written: Written) -> None:
        # Compilers keep what they made by the code object: this has one of its own, that no other is taken for it.
        function: Any = written.forward()
        code, given = function.__code__.replace(), function.__globals__
        own = types.FunctionType(code, given, function.__name__, closure=function.__closure__)
        self._written = written
        self._compiled: Any = torch.compile(own, fullgraph=True, dynamic=False, backend=self._backend)
        self._bound = torch.empty(0, device="cpu")
        self._begun = self._made = False

    def __call__(self, features: Tensor, targets: Tensor, bound: Tensor) -> Outcome:
        """Return what is written, by the first call of made-up features and targets."""
        self._bound = bound
        if not self._made:
            return self._first(features, targets)
        try:
            with torch.enable_grad():
                outcome: Outcome = self._compiled(features, targets)
        except torch._dynamo.exc.TorchDynamoException:
            raise refused(CHANGED) from None  # without torch's text, which names sizes
        return outcome

    def _first(self, features: Tensor, targets: Tensor) -> Outcome:
        for made_up in (features, targets):
            torch._dynamo.mark_dynamic(made_up, 0, min=FEWEST, max=MOST)
        with (
            warnings.catch_warnings(),
            torch._dynamo.config.patch(skip_nnmodule_hook_guards=False),
            torch.enable_grad(),
        ):
            warnings.simplefilter("ignore")  # of the compiler's own code, which would fail where they are errors
            outcome: Outcome = self._compiled(features, targets)
        if not self._begun:
            raise refused("torch must not be told to compile nothing, as TORCH_COMPILE_DISABLE does")
        self._made = True
        return outcome

    def _backend(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., tuple[Outcome]]:
        """Return what torch is to call for the losses, which gives in their place what is made of them."""
        self._begun = True
        if self._made:
            raise RuntimeError
        if {type(each) for each in inputs if isinstance(each, Tensor)} - {Tensor, nn.Parameter}:
            raise TypeError("tensors must be of no other kind than torch's own")
        read = [node.meta["example_value"] for node in graph.graph.nodes if node.op == "placeholder"]
        [mode] = {each.fake_mode for each in read if isinstance(each, FakeTensor)}
        bound = mode.from_tensor(self._bound, static_shapes=True)
        before = [_state(each) for each in read]
        layers = 0

        def flat(*given: Any) -> list[Tensor]:
            nonlocal layers
            weighted, taken, squares, factors = self._written.following(lambda: graph(*given[:-1])[0], given)
            layers = len(weighted)
            return [squares, factors, *weighted, *taken]

        with torch.no_grad():
            with mode:
                traced = make_fx(flat)(*read, bound)
            if [_state(each) for each in read] != before:
                raise ValueError("they must change none of the tensors that they refer to")
            for node in traced.graph.nodes:  # made of tensors of dynamo's, which inductor makes others of
                node.meta.clear()
            kernel = inductor(traced, [*inputs, self._bound])

        def compiled(*given: Tensor) -> tuple[Outcome]:
            with torch.no_grad():
                squares, factors, *rest = kernel([*given, self._bound])
            return ((rest[:layers], rest[layers:], squares, factors),)

        return compiled


def _state(given: Any) -> tuple[Any, ...]:
    return (given.shape, given.stride(), given._version) if isinstance(given, Tensor) else (given,)


def inductor(graph: torch.fx.GraphModule, made_up: list[Any]) -> Kernel:
    """Return a graph compiled for tensors of these shapes, by the function itself that is made of it.

    What is wrapped around that, for gradients and other kinds of tensors, costs more than the noise of small sums.

    Args:
        graph: of functions of torch's core, none of whose results is one of its inputs or a part of one.
        made_up: its inputs.
    """
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner

    held: list[Tensor] = [*graph.parameters(), *graph.buffers()]  # constants, which come before what is given
    made: list[Any] = []

    def noted(inner: Any, given: Any, **others: Any) -> Any:
        if len(given) != len(held) + len(made_up):
            raise ValueError("inputs must be plain tensors and sizes, each given once")
        made.append(compile_fx_inner(inner, given, **others))
        return made[-1]

    with torch._functorch.config.patch(enable_autograd_cache=False):  # of what is wrapped, of which nothing is noted
        compile_fx(graph, made_up, inner_compile=noted, config_patches=rounding())
    [compiled] = made
    function: Kernel = compiled.current_callable
    return (lambda given: function([*held, *given])) if held else function


def rounding() -> dict[str, Any]:
    """Return what inductor is told, whatever variables of the environment say: to round each sum and each product."""
    contracted = torch._inductor.config.cpp.enable_floating_point_contract_flag  # True or False before torch 2.7
    off = "off" if isinstance(contracted, str) else False
    return {"cpp.enable_unsafe_math_opt_flag": False, "cpp.enable_floating_point_contract_flag": off}


def refused(why: str) -> InvalidParameter:
    """Return the error that a compiled sum was asked for and there is none."""
    return InvalidParameter(f"compiled: {why}.\n{HINT}")
