"""The forms in which convolutions have the gradients of examples: which there are, and which a run takes.

Both forms give the same gradients up to rounding; which takes less time depends on the machine and the layer. A run
whose noise nobody can draw again chooses by the clock, once, before its first step (`dpsgd.core.tuning`), and keeps the
choice in its checkpoint before anything is shown: a step that is taken again has the same sum. Of several ranks the
first chooses for all. A run whose key was given, as that of a study, could be begun again, with the same noise on
another clock's sums: it takes columns everywhere, as does `gradient_sum`, whatever the time.

A layer that comes by book-keeping is used once in a forward pass, on records of one shape: the choice is by layer.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from dpsgd.core.contributions import Contributions
from dpsgd.core.convolutions import of_convolution
from dpsgd.core.grouped import of_grouped_convolution
from dpsgd.core.layers import Plan, Rule
from dpsgd.core.workspace import Workspace
from mechanisms import InvalidParameter

COLUMNS, GROUPED = "columns", "grouped"
RULE_OF: Mapping[str, Rule] = {COLUMNS: of_convolution, GROUPED: of_grouped_convolution}
Forms = Mapping[str, str]
"""Names of a model's convolutions -> names of their forms."""
Convolution = nn.Conv1d | nn.Conv2d


def convolutions(model: nn.Module) -> dict[str, Convolution]:
    """Return the model's convolutions that have two forms, each once, by name."""
    return {name: module for name, module in model.named_modules() if type(module) in (nn.Conv1d, nn.Conv2d)}


def plan_of(model: nn.Module, forms: Forms) -> Plan:
    """Return the rules of a model's layers in these forms.

    >>> plan_of(nn.Conv1d(1, 1, 1), {"": "grouped"})[nn.Linear(1, 1)]
    Traceback (most recent call last):
    KeyError: Linear(in_features=1, out_features=1, bias=True)
    """
    layers = convolutions(model)
    return {layers[name]: RULE_OF[form] for name, form in forms.items()}


def check_forms(forms: Forms, owner: str) -> Forms:
    """Return forms that all have a known name.

    Raises:
        InvalidParameter: naming the owner, if one has not.

    >>> check_forms({"0": "fast"}, "Checkpoint")
    Traceback (most recent call last):
    mechanisms.core.errors.InvalidParameter: Checkpoint: forms must be 'columns' or 'grouped', got 'fast' of '0'.
    """
    for name, form in forms.items():
        if form not in RULE_OF:
            raise InvalidParameter(f"{owner}: forms must be 'columns' or 'grouped', got {form!r} of {name!r}.")
    return forms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Given:
    """What a convolution is given: of the tensors nothing but shape, dtype, device and layout is looked at.

    Args:
        layer: the convolution.
        inputs: (n, …).
        gradients: by its outputs (n, …).
    """

    layer: Convolution
    inputs: Tensor
    gradients: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Noting:
    """Notes what a model's convolutions are given while a sum by `plan`, from columns, is worked out.

    Args:
        model: whose layers they are.

    `given` is of those that came by book-keeping, by name.
    """

    model: nn.Module
    given: dict[str, Given] = field(init=False, default_factory=dict)

    @property
    def plan(self) -> Plan:
        """The plan to sum by."""
        return {layer: functools.partial(self._note, name) for name, layer in convolutions(self.model).items()}

    def _note(
        self, name: str, layer: Convolution, inputs: Tensor, gradients: Tensor, space: Workspace
    ) -> Contributions:
        self.given[name] = Given(layer=layer, inputs=inputs, gradients=gradients)
        return of_convolution(layer, inputs, gradients, space)
