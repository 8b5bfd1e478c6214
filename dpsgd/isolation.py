"""What a model must not hold: layers by which one example reaches another's gradient, or a stored statistic."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.lazy import LazyModuleMixin

from mechanisms import InvalidParameter


def check_private(model: nn.Module) -> None:
    """Refuse a model that per-example clipping cannot make private; frozen parameters are no obstacle.

    Raises:
        InvalidParameter: naming the first layer that mixes examples, stores statistics of them without noise, or has
            no parameters yet, and what to use in its place.

    >>> check_private(nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4)))
    """
    for name, module in model.named_modules():
        obstacle = _obstacle(module)
        if obstacle:
            place = f"{type(module).__name__} at {'.'.join(filter(None, ('model', name)))}"
            raise InvalidParameter(f"check_private: model must keep examples apart, got {place}: it {obstacle}")


def _obstacle(module: nn.Module) -> str:
    if isinstance(module, _BatchNorm):
        return "normalises by the batch and stores its statistics. Use GroupNorm or LayerNorm."
    if isinstance(module, _InstanceNorm) and module.track_running_stats:
        return "stores statistics of the records. Use track_running_stats=False, GroupNorm or LayerNorm."
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None:
        return "rescales the rows it looks up, without noise. Use max_norm=None."
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        return "has no parameters yet. Run the model once on public data of the right shape."
    return ""
