"""How the weights move after every noisy sum: by plain steps, or by any optimiser of torch.

What follows the noise is post-processing of the noisy sums and of what is public: it costs no privacy, whatever it is,
as long as it reads nothing else of the records.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dpsgd.config import DPSGD
from dpsgd.core.saved import State
from mechanisms import InvalidParameter
from mechanisms.core import validate

MakeOptimizer = Callable[[list[nn.Parameter], DPSGD], Optimizer]
"""(the trainable parameters, the configuration) -> an optimiser of all of them at `config.learning_rate`."""
Schedule = Callable[[int], float]
"""Number of a step, from 0 -> factor of the learning rate in it, >= 0: a public function, the same at every call."""
WRITE = "Write optimizer=lambda parameters, config: torch.optim.Adam(parameters, lr=config.learning_rate)."
OTHER_STATE = "It is of a run with another optimizer: give the one that the run began with."


def rate_factor(schedule: Schedule | None, step: int) -> float:
    """Return the factor of the learning rate in a step, 1 without a schedule.

    Raises:
        InvalidParameter: if it is negative, infinite or no number.
    """
    return 1.0 if schedule is None else validate.non_negative("train", f"schedule({step})", schedule(step))


class Updates(ABC):
    """What moves the weights, with all that it keeps between two steps."""

    __slots__ = ()

    @abstractmethod
    def apply(self, noisy_sum: Tensor, *, step: int) -> None:
        """Move the weights by the noisy sum (d,) of a step, which is left as it is."""

    @abstractmethod
    def state_dict(self) -> State:
        """Return what `load_state_dict` needs to go on in the same way, bit for bit; its tensors are no copies."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Take over what `state_dict` has returned in a run of the same arguments.

        Raises:
            InvalidParameter: if it is the state of other updates.
        """


@dataclass(slots=True, kw_only=True, eq=False)
class PlainUpdates(Updates):
    """w ← w − learning_rate · noisy_sum / expected_batch_size, on the flat weights."""

    weights: Tensor
    config: DPSGD
    schedule: Schedule | None = None

    def apply(self, noisy_sum: Tensor, *, step: int) -> None:
        """Move the weights by the noisy sum (d,) of a step, which is left as it is."""
        rate = self.config.learning_rate * rate_factor(self.schedule, step)
        self.weights.sub_(noisy_sum, alpha=rate / self.config.expected_batch_size)

    def state_dict(self) -> State:
        """Return nothing: there is nothing to keep."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Take over nothing.

        Raises:
            InvalidParameter: if there is something.
        """
        if state:
            raise InvalidParameter(f"PlainUpdates: state must be empty, got {sorted(state)}.\n{OTHER_STATE}")


@dataclass(slots=True, kw_only=True, eq=False)
class OptimizerUpdates(Updates):
    """Steps of an optimiser for which the gradient is noisy_sum / expected_batch_size.

    Args:
        parameters: views of the flat weights, in their order.
        config: gives the divisor and the learning rate.
        schedule: of the learning rates of all groups; None leaves them to the optimiser.
        optimizer: of just these parameters, see `made_optimizer`.

    """

    parameters: list[nn.Parameter]
    config: DPSGD
    optimizer: Optimizer
    schedule: Schedule | None = None
    _rates: list[float] = field(init=False)
    _places: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._rates = [float(group.get("lr", 0.0)) for group in self.optimizer.param_groups]
        self._places = [parameter.data_ptr() for parameter in self.parameters]

    def apply(self, noisy_sum: Tensor, *, step: int) -> None:
        """Move the weights by the noisy sum (d,) of a step, which is left as it is.

        Raises:
            InvalidParameter: if the optimiser replaced a parameter's memory: the flat weights would not see its steps.
        """
        if self.schedule is not None:
            self._set_rates(rate_factor(self.schedule, step))
        averaged = noisy_sum / self.config.expected_batch_size
        pieces = torch.split(averaged, [parameter.numel() for parameter in self.parameters])
        for parameter, piece in zip(self.parameters, pieces, strict=True):
            parameter.grad = piece.view(parameter.shape)
        self.optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None
        if [parameter.data_ptr() for parameter in self.parameters] != self._places:
            kind = type(self.optimizer).__name__
            raise InvalidParameter(f"train: optimizer must move parameters in place, and {kind} replaces them.")

    def _set_rates(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            if isinstance(group.get("lr"), Tensor):
                group["lr"].fill_(rate * factor)
            elif "lr" in group:
                group["lr"] = rate * factor

    def state_dict(self) -> State:
        """Return what the optimiser keeps of every parameter, and the numbers of its groups.

        Raises:
            InvalidParameter: if it keeps of a parameter what is neither tensor nor number.
        """
        return {prefix + name: entry for holder, prefix in self._holders() for name, entry in _kept(holder, prefix)}

    def load_state_dict(self, state: State) -> None:
        """Take over what `state_dict` has returned in a run of the same arguments.

        Raises:
            InvalidParameter: if there is an entry for a parameter or a group that this optimiser has not.
        """
        left = set(state)
        for holder, prefix in self._holders():
            for full in [name for name in left if name.startswith(prefix)]:
                name, entry = full.removeprefix(prefix), state[full]
                holder[name] = entry.to(self._place(holder, name), copy=True) if isinstance(entry, Tensor) else entry
                left.remove(full)
        if left:
            kind = type(self.optimizer).__name__
            raise InvalidParameter(f"train: state must be of {kind}, got {sorted(left)} besides.\n{OTHER_STATE}")

    def _place(self, holder: dict[str, Any], name: str) -> torch.device:
        """Return where the optimiser keeps an entry: beside its parameter, but counts of steps where torch has them."""
        held, device = holder.get(name), self.parameters[0].device
        if isinstance(held, Tensor):
            return held.device
        together = any(group.get("capturable") or group.get("fused") for group in self.optimizer.param_groups)
        return device if together or name != "step" else torch.device("cpu")

    def _holders(self) -> Iterator[tuple[dict[str, Any], str]]:
        for index, group in enumerate(self.optimizer.param_groups):
            yield group, f"group.{index}."
        for index, parameter in enumerate(self.parameters):
            yield self.optimizer.state[parameter], f"parameter.{index}."


def _kept(holder: dict[str, Any], prefix: str) -> Iterator[tuple[str, Tensor | int | float]]:
    for name, entry in holder.items():
        if isinstance(entry, (Tensor, int, float)):
            yield name, entry
        elif entry is not None and prefix.startswith("parameter"):  # of groups the rest is as it was made
            raise InvalidParameter(
                f"train: optimizer must keep tensors and numbers alone, and keeps {type(entry).__name__} {name!r}."
            )


def made_optimizer(make: MakeOptimizer | None, parameters: list[nn.Parameter], config: DPSGD) -> Optimizer | None:
    """Return the optimiser that `make` makes, None without.

    Raises:
        InvalidParameter: if it is none of torch's, evaluates the loss itself, has other parameters than the model's
            trainable ones, or another learning rate than the configuration's in all of its groups.
    """
    if make is None:
        return None
    try:
        optimizer: object = make(parameters, config)
    except (TypeError, ValueError) as error:
        raise InvalidParameter(
            f"train: optimizer must take (parameters, config), but ended with {type(error).__name__}: {error}.\n{WRITE}"
        ) from error
    if not isinstance(optimizer, Optimizer):
        raise InvalidParameter(
            f"train: optimizer must return a torch.optim.Optimizer, got {type(optimizer).__name__}.\n{WRITE}"
        )
    kind = type(optimizer).__name__
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise InvalidParameter(
            f"train: optimizer must go by one gradient a step, got {kind}, which evaluates the loss as often as it "
            "likes: every time would need noise of its own."
        )
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    if sorted(held) != sorted(map(id, parameters)):
        known = len(set(held) & set(map(id, parameters)))
        raise InvalidParameter(
            f"train: optimizer must have the parameters it is given, all of them and no others, got {kind} of "
            f"{len(held)} with {known} of the {len(parameters)}.\nThey are those of a copy of the model: write "
            "optimizer=lambda parameters, config: ... What is not to be trained needs requires_grad=False."
        )
    rates = [float(group["lr"]) for group in optimizer.param_groups if "lr" in group]
    if rates and not any(math.isclose(rate, config.learning_rate, rel_tol=1e-6) for rate in rates):
        raise InvalidParameter(
            f"train: optimizer must have the configuration's learning_rate, {config.learning_rate}, in one group at "
            f"least, got {rates} of {kind}.\nIt is said in one place: lr=config.learning_rate."
        )
    return optimizer


def updates_of(
    weights: Tensor,
    parameters: list[nn.Parameter],
    config: DPSGD,
    *,
    optimizer: Optimizer | None = None,
    schedule: Schedule | None = None,
) -> Updates:
    """Return what moves `weights` (d,), of which the parameters are views, in a run of `config`.

    Args:
        weights: flat; every step changes them in place.
        parameters: cut from the weights, in their order.
        config: what is run.
        optimizer: of the parameters, from `made_optimizer`; None for plain steps.
        schedule: factors of the learning rate; None for 1.

    >>> from mechanisms import Poisson
    >>> config = DPSGD(noise_multiplier=1.0, max_grad_norm=1.0, sampling=Poisson(probability=1.0),
    ...                expected_batch_size=4, steps=1, learning_rate=0.5)
    >>> weights = torch.zeros(2)
    >>> updates_of(weights, [nn.Parameter(weights)], config).apply(torch.tensor([8.0, 0.0]), step=0)
    >>> weights
    tensor([-1.,  0.])
    """
    if optimizer is None:
        return PlainUpdates(weights=weights, config=config, schedule=schedule)
    return OptimizerUpdates(parameters=parameters, config=config, optimizer=optimizer, schedule=schedule)
