"""The arithmetic that the bounds on contributions are proved for: that of the floats that weights and sums are made of.

Torch can be told to cast products to another precision, or to cut their factors to 8 or 11 digits inside of them
(bfloat16, TensorFloat-32; convolutions on CUDA do unless told otherwise). Then a product exceeds what its factors say
by up to a 256th, where `dpsgd.core.clip` leaves room for 2^-22, and what a record adds depends on the size of its batch
in digits that are not small beside its bound.

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

CUT = ("tf32", "bf16", True)
PRODUCTS = ("matmul", "conv", "rnn")
AS_IT_IS = contextlib.nullcontext()


@contextlib.contextmanager
def whole_floats(device: torch.device) -> Iterator[None]:
    """Return a context in which products of float32 have all their digits; afterwards torch is set as it was.

    Args:
        device: on which products are taken. Settings of CUDA are left alone for the CPU, and cost a step nothing.

    Raises:
        InvalidParameter: inside of autocast or inference mode.

    >>> torch.set_float32_matmul_precision("medium")
    >>> with whole_floats(torch.device("cpu")):
    ...     torch.backends.mkldnn.matmul.fp32_precision
    'ieee'
    >>> torch.set_float32_matmul_precision("highest")
    """
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise InvalidParameter(
            "train: autocast must be off: norms in low precision do not keep the bound max_grad_norm.\n"
            "Train in float32 or float64, and cast the model once it is trained."
        )
    if torch.is_inference_mode_enabled():
        raise InvalidParameter("train: inference mode must be off, as there are no gradients in it.")
    name, whole, places = _settings(device.type)
    cut = [(place, getattr(place, name)) for place in places if getattr(place, name) in CUT]
    precision = torch.get_float32_matmul_precision() if name == "allow_tf32" else None
    try:
        for place, _ in cut:
            setattr(place, name, whole)
        yield
    finally:
        for place, value in cut:
            setattr(place, name, value)
        if precision is not None:  # of three values, of which allow_tf32 tells two apart
            torch.set_float32_matmul_precision(precision)


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


@functools.cache
def _settings(device: str) -> tuple[str, Any, list[Any]]:
    """Return the name of torch's settings of products on a device, their value for all digits, and where they are."""
    backends: Any = torch.backends
    matmul, cudnn, mkldnn = backends.cuda.matmul, backends.cudnn, backends.mkldnn
    if not hasattr(matmul, "fp32_precision"):  # before torch 2.9, when that of matmul was the CPU's as well
        return "allow_tf32", False, [matmul, cudnn]
    holders = [mkldnn] if device == "cpu" else [cudnn, mkldnn]
    kinds = (getattr(holder, kind, None) for holder in holders for kind in PRODUCTS)
    places = [kind for kind in kinds if hasattr(kind, "fp32_precision")]
    return "fp32_precision", "ieee", places if device == "cpu" else [matmul, *places]
