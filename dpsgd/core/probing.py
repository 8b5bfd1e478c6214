"""Experiments on a model with made-up examples: what it stores, what torch cannot differentiate, what it mixes or cuts.

Models that are no chains of known layers are shown one example at a time by `torch.func.vmap`, so that nothing of one
reaches the gradient of another. What that leaves open is found here, before the first step:

- **State.** What a module holds and a forward pass changes (a running mean, the last batch, a list of all, a count of
  calls) holds something of the records, or of how many there are, without noise. It is found wherever
  `dpsgd.core.reach` looks, which names its limits.
- **vmap** cannot run every model, and would say so at the first record that is drawn.
- **Mixing.** A layer that mixes the examples of a batch would be trained on batches of one, as another function than
  the one that is used afterwards.
- **Precision.** Weights and sums are float32 or float64, and so must be what lies between: of results in bfloat16 or
  float16, also under autocast, an example's may depend on the size of its batch in digits that are not small beside
  the bound (`dpsgd.core.arithmetic`): a 256th of every other example's contribution may move with one more. Where
  every unit runs alone (`dpsgd.core.population.units_alone`) nothing of the kind is asked: its gradient, whatever
  digits it was made of, is a function of the unit and the weights, and float32 is what is clipped and summed. What is
  seen are results on the CPU, and that autocast for CUDA is on.

- **Layout.** Convolutions and GroupNorm must not be given what lies channels last in memory (`dpsgd.core.layouts`): on
  the CPU torch goes wrong on some.

- **Modes.** All of this is asked in the mode in which the model stands, as `dpsgd.steps` leaves it, and in training, in
  which `dpsgd.train` runs it.

Made-up examples have the shape and dtype of the records, and nothing else of theirs. A model that cannot run on them,
or not on the CPU, is given zeros, as before every run, or runs where it lies: of zeros it shows what it keeps, if not
what it mixes. One that cannot run even so is left to say so itself.
"""

from __future__ import annotations

import copy
import itertools
import traceback
import warnings
from collections.abc import Iterable
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dpsgd import gradients
from dpsgd.core.chains import has_digits
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.generators import begin, set_apart
from dpsgd.core.layouts import AWRY, SENSITIVE, STRAIGHTEN, lies_awry
from dpsgd.core.reach import Reach
from dpsgd.findings import Finding, finding_at

APART = "Let row i of its output depend on row i of its input alone."
STATELESS = "Have no forward pass write to it, and make masks and tables when the module is made."
RUNS = "Write it with operations that torch.func.vmap supports, and without branches on values."
WHOLE = (
    "Compute in float32 or float64: cast the model once it is trained, and what frozen layers give beforehand. Or let "
    "every record run alone: largest_physical_batch=1, or noise=RoundedGaussian()."
)
DRAWS = "Draw with torch.rand, torch.randn or torch.bernoulli, whose numbers are the same when a step is taken again."
OWN_BACKWARD = "Change gradients inside of a torch.autograd.Function with generate_vmap_rule = True."
SEPARATE = 1e-4
"""Of sums, up to which what a record adds may seem to depend on another's: rounding."""

Passes = list[tuple[str, Any, Any]]
"""(place of the module, its inputs, its outputs) of every module, in the order in which they were done."""


def found_by_experiment(model: nn.Module, like: Tensor, *, alone: bool = False) -> tuple[Finding, ...]:
    """Return what experiments on a copy of the model find, on the CPU unless it cannot run there.

    Args:
        model: without layers that are known not to be private.
        like: features (n, …), of which nothing but shape and dtype is looked at.
        alone: whether every unit is to run alone, in whatever precision.

    >>> class Centred(nn.Module):
    ...     def forward(self, rows):
    ...         return rows - rows.mean(0)
    >>> print(*found_by_experiment(nn.Sequential(nn.Linear(2, 2), Centred()), torch.empty(0, 2)))
    Centred at model.1: it mixes the examples of a batch. Let row i of its output depend on row i of its input alone.
    """
    own = next((held.device for held in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    devices = list(dict.fromkeys([torch.device("cpu")] + [own] * (own.type != "meta")))
    with set_apart(own), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probed = copy.deepcopy(model)
        for batches, device in itertools.product((_made_up(like), _zeros(like)), devices):
            placed = tuple(batch.to(device) for batch in batches)
            if _passes(probed.to(device), placed[0]):
                break
        else:
            return ()
        probed = copy.deepcopy(model).to(device)  # as it was before it ran
        found = _found(probed, placed, alone=alone)
        in_training = all(module.training for module in model.modules())
        return found if found or in_training else _found(probed.train(), placed, alone=alone)


def _found(probed: nn.Module, batches: tuple[Tensor, ...], *, alone: bool) -> tuple[Finding, ...]:
    pair, *others, _ = batches
    reach = Reach("model", probed, values=True)
    with _Watch(probed) as watch:
        passes = _passes(probed, pair)
    if not passes:
        return ()
    found = watch.awry or watch.hooked or (not alone and watch.few) or _kept(probed, reach)
    found = found or _moved(probed, passes, _passes(probed, pair))
    for kept, other in enumerate(others):
        found = found or _mixing(probed, passes, _passes(probed, other), kept=kept)
    return found or _kept(probed, reach) or _failure(probed, batches, alone=alone)


def _made_up(like: Tensor) -> tuple[Tensor, ...]:
    """Return a batch of two examples, one with another second example, one with another first, and one with both."""
    shape = like.shape[1:]
    if like.dtype.is_floating_point:
        generator = torch.Generator("cpu").manual_seed(0)
        first, second, third = torch.randn(3, *shape, generator=generator, dtype=like.dtype, device="cpu")
    else:
        first, second, third = (torch.full(shape, value, dtype=like.dtype, device="cpu") for value in (1, 1, 0))
    rows = (first, second), (first, third), (third, second), (third, third)
    return tuple(map(torch.stack, rows))


def _zeros(like: Tensor) -> tuple[Tensor, ...]:
    """Return the same of zeros, as the first record that a run is tried on."""
    return (torch.zeros(2, *like.shape[1:], dtype=like.dtype, device="cpu"),) * 4


def _kept(model: nn.Module, reach: Reach) -> tuple[Finding, ...]:
    """Return a finding for the first place that is no longer as it was, at the module that it is reached from."""
    changed = reach.altered()
    if changed is None:
        return ()
    places = [f"model.{place}" if place else "model" for place, _ in model.named_modules()]
    at = max((place for place in places if f"{changed}.".startswith(f"{place}.")), key=len, default="model")
    name = changed.removeprefix(at).removeprefix(".")
    reason = "changes when the model runs: what it holds of the records, or of how many there are, has no noise"
    place = at.removeprefix("model").removeprefix(".")
    return (finding_at(place, model.get_submodule(place), reason, STATELESS, tensor=name),)


def _passes(model: nn.Module, batch: Tensor) -> Passes:
    """Return what every module took in and gave out, the model last; nothing if it cannot run on the batch."""
    passes: Passes = []
    handles = [
        module.register_forward_hook(lambda _, taken, given, place=place: passes.append((place, taken, given)))
        for place, module in model.named_modules()
    ]
    begin(batch.device, 0)  # the same masks in every batch
    try:
        with torch.enable_grad():  # as in training
            model(batch.clone())
    except Exception:  # whatever it is, the run itself will meet it
        return []
    finally:
        for handle in handles:
            handle.remove()
    return passes


class _Watch(TorchFunctionMode):
    """Finds the modules where the first result of less than 32 bits, rows laid awry or a hook on a tensor come up."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.few, self.awry, self.hooked = tuple[Finding, ...](), tuple[Finding, ...](), tuple[Finding, ...]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        kind = given.dtype if isinstance(given, Tensor) else torch.float32
        kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else kind
        if not self.few and not has_digits(kind):
            self.few = self._found(
                f"computes in {kind}, in whose digits what an example adds may depend on its batch", WHOLE
            )
        if not self.hooked and func is Tensor.register_hook:
            self.hooked = self._found("registers a hook on a tensor, which would not be run", OWN_BACKWARD)
        if not self.awry and func in SENSITIVE and any(map(lies_awry, (*args, *(kwargs or {}).values()))):
            self.awry = self._found(f"takes in rows or weights that {AWRY}", STRAIGHTEN)
        return given

    def _found(self, reason: str, instead: str) -> tuple[Finding, ...]:
        frames = reversed([frame for frame, _ in traceback.walk_stack(None)])
        return (finding_at(*_innermost(self.model, frames), reason, instead),)


def _moved(model: nn.Module, passes: Passes, again: Passes) -> tuple[Finding, ...]:
    """Return the first module that gives the same examples something else in another pass, if one does."""
    at = _differing(passes, again, kept=slice(None))
    if at is None:
        return ()
    reason = (
        "gives the same examples something else from pass to pass, of numbers that are not torch's or that it keeps"
    )
    return (finding_at(at, model.get_submodule(at), reason, DRAWS),)


def _mixing(model: nn.Module, passes: Passes, others: Passes, *, kept: int) -> tuple[Finding, ...]:
    """Return the first module that gives an example something else when the other one is another, if one does."""
    at = _differing(passes, others, kept=kept)
    if at is None:
        return ()
    module = model.get_submodule(at)
    first = getattr(module, "batch_first", True)
    return (finding_at(at, module, "mixes the examples of a batch", APART if first else "Use batch_first=True."),)


def _differing(passes: Passes, others: Passes, *, kept: int | slice) -> str | None:
    """Return the place of the first module whose outputs differ in rows where its inputs agree, None if there is none.

    Args:
        passes: of one batch.
        others: of another.
        kept: the rows that are the same in both.
    """
    if not others or _agree(passes[-1][2], others[-1][2], kept):
        return None
    return next(
        (
            a[0]
            for a, b in zip(passes, others, strict=False)
            if a[0] == b[0] and _agree(a[1], b[1], kept) and not _agree(a[2], b[2], kept)
        ),
        "",
    )


def _agree(some: Any, others: Any, row: int | slice) -> bool:
    """Return whether all tensors of two rows agree in one of them, or in those of a slice."""
    if isinstance(some, Tensor) and isinstance(others, Tensor):
        return some.shape != others.shape or some.shape[:1] != (2,) or _same(some[row], others[row])
    if isinstance(some, (tuple, list)) and isinstance(others, (tuple, list)):
        return all(_agree(a, b, row) for a, b in zip(some, others, strict=False))
    return True


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, rtol=1e-4, equal_nan=True)


def _failure(model: nn.Module, batches: tuple[Tensor, ...], *, alone: bool) -> tuple[Finding, ...]:
    """Return the module in which gradients of single examples fail, or the model if its gradients mix examples."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return ()
    clip = FlatClipper(max_grad_norm=1.0)
    dimensions = batches[0].dim() - 1
    clipped_sum = gradients.gradient_sum_by(clip, model, example_dimensions=dimensions, loss=_total, formed=alone)

    def sum_of(batch: Tensor) -> Tensor:
        begin(batch.device, 0)
        return clipped_sum(batch.clone(), torch.zeros(2, device=batch.device))

    try:
        sums = [sum_of(batch) for batch in batches]
    except _NoRowsError:
        return ()
    except Exception as error:
        place, module = _where(model, error)
        said = " ".join(str(error).split(". ")[0].split())[:200].rstrip(".")
        instead = DRAWS if "inplace randomness" in said else RUNS
        return (finding_at(place, module, f"cannot run one example at a time ({said})", instead),)
    mixed = (sums[0] - sums[1] - sums[2] + sums[3]).norm() > SEPARATE * max(each.norm() for each in sums)
    return (finding_at("", model, "mixes the gradients of a batch on its way back", OWN_BACKWARD),) * bool(mixed)


class _NoRowsError(Exception):
    """The outputs are none that this loss can add up; the user's may."""


def _total(outputs: Any, _: Tensor) -> Tensor:
    if not isinstance(outputs, Tensor) or not outputs.dtype.is_floating_point or outputs.shape[:1] == ():
        raise _NoRowsError
    curved = outputs + outputs.square()  # so that gradients by the outputs differ
    return curved.flatten(start_dim=1).sum(1) if outputs.dim() > 1 else curved


def _where(model: nn.Module, error: BaseException) -> tuple[str, nn.Module]:
    """Return the innermost module whose code was running."""
    return _innermost(model, (frame for frame, _ in traceback.walk_tb(error.__traceback__)))


def _innermost(model: nn.Module, frames: Iterable[FrameType]) -> tuple[str, nn.Module]:
    """Return the module to which the last of the frames belongs that belong to any."""
    places = {id(module): place for place, module in model.named_modules()}
    running = [frame.f_locals.get("self") for frame in frames]
    found = [(places[id(one)], one) for one in running if isinstance(one, nn.Module) and id(one) in places]
    return found[-1] if found else ("", model)
