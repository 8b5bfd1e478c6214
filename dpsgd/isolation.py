"""What a model must not hold: layers by which one example reaches another's gradient, or a stored statistic.

Layers of torch that are known to do so are found by their kind, all else by experiment (`dpsgd.core.probing`).
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from dpsgd.core.chains import has_digits, rowwise_chain
from dpsgd.core.hooks import BACKWARD, hooks_of, hooks_of_all
from dpsgd.core.probing import OWN_BACKWARD, found_by_experiment
from dpsgd.findings import Finding, finding_at
from dpsgd.replacements import with_replacements
from mechanisms import InvalidParameter

UNHOOKED = f"Remove them. {OWN_BACKWARD}"
WRITES = "writes its weight anew before every pass, beside its parameters"
BY_HOOKS = {
    WeightNorm: "Use torch.nn.utils.parametrizations.weight_norm.",
    SpectralNorm: "Use torch.nn.utils.parametrizations.weight_norm; spectral_norm moves with the number of passes.",
    BasePruningMethod: (
        "Call torch.nn.utils.prune.remove, after which noise fills what was pruned, or multiply by a mask in a "
        "parametrization (torch.nn.utils.parametrize)."
    ),
}
"""What torch makes a layer's weight of by a hook, and what to use instead. Such layers cannot be copied."""

WRAPPED = "Give the module that it was made of"


def check_private(model: nn.Module, *, like: Tensor | None = None, alone: bool = False) -> None:
    """Refuse a model that per-example clipping cannot make private; frozen parameters are no obstacle.

    Args:
        model: it is left as it is.
        like: as in `validate_model`.
        alone: as in `validate_model`.

    Raises:
        InvalidParameter: with the first of the findings of `validate_model`.

    >>> check_private(nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4)))
    """
    findings = validate_model(model, like=like, alone=alone)
    if findings:
        raise InvalidParameter(f"check_private: model must keep examples apart, got {findings[0]}")


def validate_model(model: nn.Module, *, like: Tensor | None = None, alone: bool = False) -> tuple[Finding, ...]:
    """Return all that keeps per-example clipping from making a model private, with what to use instead; () if nothing.

    No obstacle are parameters that are frozen, shared, unused (they get noise alone), or outside of any layer: all of
    these have a gradient an example, by `torch.func.vmap` if need be.

    Args:
        model: it is left as it is.
        like: features of a batch, (n, …) for any n, of which nothing but shape and dtype is looked at. Then the model,
            with the layers found so far replaced, also goes through the experiments of `dpsgd.core.probing`, unless it
            is a chain of layers that are known to keep examples apart. None for what the kinds of layers tell.
        alone: whether every record, or user, is to run alone, as with largest_physical_batch=1 or exact noise: then it
            may do so in bfloat16 or float16, and frozen layers of such weights are no obstacle.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Embedding(9, 4, max_norm=1.0))
    >>> [finding.place for finding in validate_model(model)]
    ['1', '2']
    """
    findings = tuple(
        finding_at(place, module, *obstacle)
        for place, module in model.named_modules()
        for obstacle in _obstacles(module)
    )
    if like is None or known_apart(model, like):
        return findings
    if any(_lazy(module) or _by_hook(module) for module in model.modules()):
        return findings
    ready = with_replacements(model)
    if any(obstacle for module in ready.modules() for obstacle in _obstacles(module)):
        return findings
    return findings + found_by_experiment(ready, like, alone=alone)


def known_apart(model: nn.Module, like: Tensor) -> bool:
    """Return whether the model is a chain of layers that keep examples apart, on features of digits enough.

    Args:
        model: any module.
        like: features (n, …), of which nothing but shape and dtype is looked at.
    """
    return has_digits(like.dtype) and rowwise_chain(model, example_dimensions=like.dim() - 1) is not None


def _obstacles(module: nn.Module) -> list[tuple[str, str]]:
    """Return reasons and replacements for a layer of a kind that cannot be private."""
    found = []
    if isinstance(module, _BatchNorm):
        found.append(("normalises by the batch and stores its statistics", "Use GroupNorm or LayerNorm."))
    if isinstance(module, _InstanceNorm) and module.track_running_stats:
        found.append(("stores statistics of the records", "Use track_running_stats=False, GroupNorm or LayerNorm."))
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        if module.max_norm is not None:
            found.append(("rescales the rows it looks up, without noise", "Use max_norm=None."))
        if module.sparse:
            found.append(("has sparse gradients, which noise does not go with", "Use sparse=False."))
    if hooks_of(module, BACKWARD) or hooks_of_all(BACKWARD):
        found.append(("has hooks on its backward pass, which would see the gradients of many examples", UNHOOKED))
    if isinstance(module, _SpectralNorm):
        found.append(("moves in every forward pass, and so with the number of batches", "Use weight_norm."))
    found.extend((WRITES, instead) for instead in _by_hook(module))
    if isinstance(module, torch.jit.ScriptModule):
        found.append(("is a program of torch.jit, which takes no hooks", f"{WRAPPED}."))
    if isinstance(module, DistributedDataParallel):
        shared = "adds gradients of whole batches over ranks, before they are clipped"
        found.append((shared, f"{WRAPPED}, its .module: ranks are shared out by train."))
    dynamo: Any = sys.modules.get("torch._dynamo")  # loaded where anything is of its kind
    if dynamo is not None and isinstance(module, dynamo.OptimizedModule):
        found.append(("is compiled anew for what it is given", f"{WRAPPED}, its ._orig_mod; compiled=True compiles."))
    if _lazy(module):
        found.append(("has no parameters yet", "Run the model once on public data of the right shape."))
    return found


def _lazy(module: nn.Module) -> bool:
    return isinstance(module, LazyModuleMixin) and module.has_uninitialized_params()


def _by_hook(module: nn.Module) -> list[str]:
    """Return what to use instead of each hook by which torch makes a weight of the layer."""
    hooks = module._forward_pre_hooks.values()
    return [instead for kind, instead in BY_HOOKS.items() if any(isinstance(hook, kind) for hook in hooks)]
