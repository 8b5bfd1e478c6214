"""Layers that cannot be private, replaced by the nearest ones that can."""

from __future__ import annotations

import copy
import math

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.lazy import LazyModuleMixin

MOST_GROUPS = 32


def with_replacements(model: nn.Module) -> nn.Module:
    """Return a copy of the model in which layers that `check_private` refuses by their kind are replaced.

        BatchNorm      GroupNorm with the same weight, bias and eps; its output is another one
        InstanceNorm   the same without stored statistics
        Embedding      the same without max_norm and sparse gradients

    Groups are as many as divide the channels, at most 32, of at least two channels each, so that they have something to
    normalise where a channel is a single number; BatchNorm1d, whose channels mostly are, becomes one group.

    Args:
        model: it is left as it is, and need not hold any such layer. Lazy layers stay as they are.

    >>> with_replacements(nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64)))[1].num_groups
    32
    """
    replaced: dict[int, nn.Module] = {}
    fresh = copy.deepcopy(model)
    for module in list(fresh.modules()):
        for name, child in module.named_children():
            setattr(module, name, replaced.setdefault(id(child), _replacement(child)))
    return _replacement(fresh)


def _replacement(module: nn.Module) -> nn.Module:
    """Return what takes the place of one layer: itself, changed or not, or a new one."""
    if isinstance(module, _BatchNorm) and not isinstance(module, LazyModuleMixin):
        return _group_norm(module)
    if isinstance(module, _InstanceNorm):
        module.track_running_stats = False
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(module, name, None)
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        module.max_norm, module.sparse = None, False
    return module


def _group_norm(norm: _BatchNorm) -> nn.GroupNorm:
    channels = norm.num_features
    alone = isinstance(norm, nn.BatchNorm1d) or channels % 2
    groups = 1 if alone else math.gcd(MOST_GROUPS, channels // 2)
    group_norm = nn.GroupNorm(groups, channels, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        group_norm.weight, group_norm.bias = norm.weight, norm.bias
    return group_norm.train(norm.training)
