"""What a model holds that per-example clipping cannot make private, and what to use in its place."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One obstacle.

    Args:
        place: name of the module as in `model.named_modules()`, "" for the model itself.
        kind: type of the module.
        tensor: name of what the module holds that it is about, mostly a parameter or buffer, "" if about the module.
        reason: what the module does.
        replacement: what to do instead.

    >>> print(Finding(place="1", kind="BatchNorm1d", tensor="", reason="mixes", replacement="Use ..."))
    BatchNorm1d at model.1: it mixes. Use ...
    """

    place: str
    kind: str
    tensor: str
    reason: str
    replacement: str

    def __str__(self) -> str:
        of = f"{self.tensor!r} of " if self.tensor else ""
        return (
            f"{of}{self.kind} at {'.'.join(filter(None, ('model', self.place)))}: it {self.reason}. {self.replacement}"
        )


def finding_at(place: str, module: nn.Module, reason: str, replacement: str, *, tensor: str = "") -> Finding:
    """Return the finding about a module of the model.

    >>> finding_at("", nn.Tanh(), "mixes", "Use ...").kind
    'Tanh'
    """
    return Finding(place=place, kind=type(module).__name__, tensor=tensor, reason=reason, replacement=replacement)
