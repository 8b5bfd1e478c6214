"""The arithmetic that the bounds on contributions are proved for: that of the floats that weights and sums are made of.

Torch can be told to cast products to another precision, or to cut their factors to 8 or 11 digits inside of them
(bfloat16, TensorFloat-32; convolutions on CUDA do unless told otherwise). Then a product exceeds what its factors say
by up to a 256th, where `dpsgd.core.clip` leaves room for 2^-22, and what a record adds depends on the size of its batch
in digits that are not small beside its bound.

Torch has older and newer settings of this, and raises where a model reads an older one that the newer contradict: both
are set.

On CUDA some of torch's functions add up in an order that each call draws anew. A step that is taken again, after a run
was killed, would have another sum under the same noise, and the difference of both be bare: torch is told to take an
order that repeats, where it has one.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

from mechanisms import InvalidParameter

CUT = ("tf32", "bf16")
PRODUCTS = ("matmul", "conv", "rnn")
AS_IT_IS = contextlib.nullcontext()


def whole_floats(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which products of float32 have all their digits; afterwards torch is set as it was.

    Args:
        device: on which products are taken. Settings of cuDNN are nothing to the CPU, and cost its steps nothing.

    Raises:
        InvalidParameter: inside of autocast or inference mode.

    >>> torch.set_float32_matmul_precision("medium")
    >>> with whole_floats(torch.device("cpu")):
    ...     torch.get_float32_matmul_precision()
    'highest'
    >>> torch.set_float32_matmul_precision("highest")
    """
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise InvalidParameter(
            "train: autocast must be off: norms in low precision do not keep the bound max_grad_norm.\n"
            "Train in float32 or float64, and cast the model once it is trained."
        )
    if torch.is_inference_mode_enabled():
        raise InvalidParameter("train: inference mode must be off, as there are no gradients in it.")
    precision = _precision()
    everywhere = device.type != "cpu" or precision != "highest"
    before = [(place, place.fp32_precision) for place in _places(everywhere=everywhere)]
    if precision == "highest":  # else its setting changes places that cut nothing too
        before = [(place, was) for place, was in before if was in CUT]
    cut_there = everywhere and _cut_by_cudnn()
    return _set_whole(precision, cut_there, before) if before or cut_there or precision != "highest" else AS_IT_IS


@contextlib.contextmanager
def _set_whole(precision: str, cut_there: bool, before: list[tuple[Any, str]]) -> Iterator[None]:
    cudnn = torch.backends.cudnn
    try:
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
        if cut_there:
            cudnn.allow_tf32 = False
        for place, _ in before:
            place.fp32_precision = "ieee"
        yield
    finally:
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)
        if cut_there:
            cudnn.allow_tf32 = True
        for place, was in before:
            place.fp32_precision = was


def repeatable(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which sums on the device are added up in an order that repeats, where torch has one.

    Where it has none it warns, which a step shows nobody. On the CPU orders follow from shapes and threads.
    """
    return _repeatable_on_cuda() if device.type == "cuda" else AS_IT_IS


@contextlib.contextmanager
def _repeatable_on_cuda() -> Iterator[None]:
    cudnn: Any = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        cudnn.deterministic, cudnn.benchmark = True, False
        if not strict:
            torch.use_deterministic_algorithms(True, warn_only=True)
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        torch.use_deterministic_algorithms(strict, warn_only=warns)


def _precision() -> str:
    """Return torch's older setting of products: "highest" where newer ones contradict it, which then tell all."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "highest"


def _cut_by_cudnn() -> bool:
    """Tell whether torch's older setting lets cuDNN cut factors: False where newer ones contradict it, and mute it."""
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return False


@functools.cache
def _places(*, everywhere: bool = True) -> list[Any]:
    """Return where torch's newer settings of products are, of CUDA or not; none before torch 2.9.

    The older ones say the same.
    """
    backends: Any = torch.backends
    holders = [backends.cudnn, backends.mkldnn] if everywhere else [backends.mkldnn]
    kinds = [getattr(holder, kind, None) for holder in holders for kind in PRODUCTS]
    first = [backends.cuda.matmul] if everywhere else []
    return [place for place in (*first, *kinds) if hasattr(place, "fp32_precision")]
