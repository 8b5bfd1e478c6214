"""What code keeps from one call to the next: all that Python reaches from a model, a loss or the making of copies.

Attributes, lists, dicts, closures, and the globals that a function's code names, are looked up once, as the places
where something may be kept. Whether they hold what they did then takes one comparison each, by identity: about two
microseconds a module. What no comparison sees is what C code keeps beside Python's objects, and files.

Two things are asked of it.

- **Between two steps**: what runs must be what was checked before the first. What tensors hold may move, as weights do;
  which they are, their kinds, and everything else may not.
- **By a call**, nothing may change, what tensors hold least of all: what one record leaves behind would reach the
  gradient of the next.
"""

from __future__ import annotations

import contextlib
import functools
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MANY = 256
"""Entries beyond which a container's number of them is all that is compared between steps."""
MOST = 20_000
"""Objects that are looked at: a tenth of a second."""
COPIED = 2**22
"""Entries up to which what a tensor holds is compared; of larger ones how often torch wrote to them is."""
ATOMS = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
LIBRARIES = sys.stdlib_module_names | {"torch", "functorch", "numpy", "scipy", "dpsgd", "audit", "mechanisms"}
"""Whose functions and classes keep nothing of what they are given; what their objects hold is looked at."""
PARTS = frozenset({"_modules", "_parameters", "_buffers"})
DERIVED = frozenset({"_flat_weights", "_flat_weight_refs"})
"""Lists of their own parameters that recurrent layers make anew."""
CONTAINERS = (dict, list, set, deque)
GENERATORS = (torch.Generator, random.Random, np.random.Generator)


class Reach:
    """The places that are reached from an object, and what they held when they were looked up.

    Args:
        name: of the object, with which names of places begin.
        root: the object.
        values: whether what tensors hold counts, and what the user's functions and classes refer to.
        free: attributes that may change.
        most: objects that are looked at, those nearest to the root.

    >>> layer = nn.Linear(2, 1)
    >>> reach = Reach("model", layer)
    >>> _ = layer.weight.data.zero_(), layer.register_forward_hook(lambda *_: None)
    >>> reach.altered()
    'model._forward_hooks'
    """

    def __init__(
        self, name: str, root: Any, *, values: bool = False, free: Iterable[str] = (), most: int = MOST
    ) -> None:
        self._values, self._free, self._most = values, DERIVED.union(free), most
        self._empty: list[Any] = []
        self._names_of_empty: list[str] = []
        self._held: list[tuple[str, Any, Any]] = []
        self._read: list[tuple[str, Callable[[], Any], Any]] = []
        self._tensors: list[tuple[str, Any, Any]] = []
        self._seen: dict[int, Any] = {}  # which keeps what was looked at, and so its number
        self._search(name, root)

    def altered(self) -> str | None:
        """Return the name of the first place that holds something else than it did, None if there is none."""
        if any(map(len, self._empty)):
            return next(name for name, one in zip(self._names_of_empty, self._empty, strict=True) if len(one))
        for index, (name, live, was) in enumerate(self._held):
            if not _identical(live, was):
                key = self._differing(live, was)
                if key is not None:
                    return f"{name}{key}"
                self._held[index] = name, live, _shallow(live)
        for name, read, was in self._read:
            now = read()
            if now is not was and not self._alike(now, was):
                return name
        for name, tensor, was in self._tensors:
            if not self._still(tensor, was):
                return name
        return None

    def _differing(self, live: Any, was: Any) -> str | None:
        """Return what differs first in two containers, None if they are alike."""
        if isinstance(live, Mapping):
            for key in {**was, **live}:
                one = key in live and key in was and self._alike(live[key], was[key])
                if not one and key not in self._free:
                    return f".{key}" if isinstance(key, str) else ""
            return None
        same = isinstance(live, (list, deque)) and len(live) == len(was) and all(map(self._alike, live, was))
        return None if same else ""

    def _alike(self, now: Any, was: Any) -> bool:
        """Return whether what stands in a place may be taken for what stood there."""
        if now is was:
            return True
        if type(now) is not type(was) or isinstance(now, (nn.Module, nn.Parameter)):
            return False
        if isinstance(now, Tensor):
            kind = now.shape == was.shape and now.dtype == was.dtype and now.requires_grad == was.requires_grad
            return kind and (not self._values or same_values(now, was))
        if isinstance(now, ATOMS):
            return bool(now == was or (now != now and was != was))
        if isinstance(now, (tuple, list)):
            return len(now) == len(was) and all(map(self._alike, now, was))
        return not self._values and not callable(now)

    def _still(self, tensor: Any, was: Any) -> bool:
        if not self._values:
            return bool((tensor.requires_grad, tensor.data_ptr()) == was)
        version, copy = was
        return bool(getattr(tensor, "_version", 0) == version and (copy is None or same_values(tensor, copy)))

    def _search(self, name: str, root: Any) -> None:
        ahead: deque[tuple[str, Any]] = deque([(name, root)])
        while ahead and len(self._seen) < self._most:
            path, one = ahead.popleft()
            if not isinstance(one, ATOMS) and id(one) not in self._seen:
                self._seen[id(one)] = one
                ahead.extend(self._within(path, one))

    def _within(self, path: str, one: Any) -> Iterator[tuple[str, Any]]:
        """Note the places of one object, and yield what it refers to."""
        if isinstance(one, (Tensor, np.ndarray)):
            self._note_tensor(path, one)
        elif isinstance(one, CONTAINERS):
            yield from self._container(path, one)
        elif isinstance(one, (tuple, frozenset)):
            yield from ((path, each) for each in one)
        elif isinstance(one, types.FunctionType):
            yield from self._function(path, one)
        elif isinstance(one, types.MethodType):
            yield from ((path, one.__self__), (path, one.__func__))
        elif isinstance(one, functools.partial):
            yield from ((path, one.func), (path, one.args), (path, one.keywords))
        elif isinstance(one, type):
            yield from self._class(path, one)
        elif isinstance(one, GENERATORS):
            self._note_generator(path, one)
        elif not isinstance(one, (types.ModuleType, types.BuiltinFunctionType)):
            yield from self._object(path, one)

    def _note_tensor(self, path: str, one: Any) -> None:
        if self._values:
            self._tensors.append((path, one, (getattr(one, "_version", 0), _copy(one))))
        elif isinstance(one, nn.Parameter):
            self._tensors.append((path, one, (one.requires_grad, one.data_ptr())))

    def _note_generator(self, path: str, one: Any) -> None:
        if self._values and not isinstance(one, random.SystemRandom):  # between steps they may move as weights do
            self._read.append((path, _place_of(one), _place_of(one)()))

    def _container(self, path: str, one: Any) -> Iterator[tuple[str, Any]]:
        if len(one) > MANY and not self._values:
            self._read.append((path, functools.partial(len, one), len(one)))
        elif len(one):
            self._held.append((path, one, _shallow(one)))
            yield from _named(path, one)
        else:
            self._empty.append(one)
            self._names_of_empty.append(path)

    def _object(self, path: str, one: Any) -> Iterator[tuple[str, Any]]:
        self._note(path, one, "__class__")
        held = getattr(one, "__dict__", None)
        if isinstance(held, dict):
            yield from self._container(path, held)
        for slot in _slots(type(one)):
            yield f"{path}.{slot}", self._note(f"{path}.{slot}", one, slot)
        yield path, type(one)

    def _class(self, path: str, one: type) -> Iterator[tuple[str, Any]]:
        if issubclass(one, nn.Module):
            self._note(f"{one.__name__}.forward", one, "forward")
        if self._values and not _of_library(one.__module__):
            live: Any = vars(one)
            self._held.append((one.__name__, live, dict(live)))
            yield from _named(one.__name__, live)
            yield from ((path, base) for base in one.__bases__)

    def _function(self, path: str, one: types.FunctionType) -> Iterator[tuple[str, Any]]:
        if _of_library(one.__module__):
            return
        for key, cell in zip(one.__code__.co_freevars, one.__closure__ or (), strict=True):
            yield f"{path}.{key}", self._note(f"{path}.{key}", cell, "cell_contents")
        yield from ((path, each) for each in (one.__defaults__, one.__kwdefaults__, vars(one)) if each)
        if self._values:
            yield from self._globals(one.__globals__, _named_in(one.__code__))

    def _globals(self, given: dict[str, Any], names: set[str]) -> Iterator[tuple[str, Any]]:
        """Note what code of those names reads of a module, and of the user's modules that it reads that of."""
        for key in names & given.keys():
            value = given[key]
            self._read.append((key, functools.partial(given.get, key), value))
            if isinstance(value, types.ModuleType) and not _of_library(value.__name__):
                yield from self._globals(vars(value), names - {key})
            yield key, value

    def _note(self, path: str, owner: Any, attribute: str) -> Any:
        read = functools.partial(getattr, owner, attribute, None)
        self._read.append((path, read, read()))
        return self._read[-1][2]


def _place_of(generator: Any) -> Callable[[], Any]:
    """Return what tells where a generator of numbers stands in its sequence."""
    if isinstance(generator, np.random.Generator):
        return lambda: repr(generator.bit_generator.state)
    place: Callable[[], Any] = generator.getstate if isinstance(generator, random.Random) else generator.get_state
    return place


def _identical(live: Any, was: Any) -> bool:
    same = len(live) == len(was) and all(map(is_, live, was))
    return same and (not isinstance(was, dict) or all(map(is_, live.values(), was.values())))


def _shallow(one: Any) -> Any:
    return dict(one) if isinstance(one, Mapping) else list(one) if isinstance(one, (list, deque)) else set(one)


def _named(path: str, one: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(one, Mapping):
        yield from ((path, each) for each in one)
        return
    for key, value in one.items():
        if key in DERIVED:
            continue
        yield (f"{path}.{key}" if isinstance(key, str) and key not in PARTS else path), value


def _slots(kind: type) -> Iterator[str]:
    for one in kind.__mro__:
        slots = vars(one).get("__slots__", ())
        yield from (slot for slot in ((slots,) if isinstance(slots, str) else slots) if not slot.startswith("__"))


def _named_in(code: types.CodeType) -> set[str]:
    within = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*map(_named_in, within))


def _of_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in LIBRARIES


def _copy(one: Any) -> Any:
    """Return a copy of a tensor or array, None of one that is too large or has outlived the transform it is of."""
    if isinstance(one, np.ndarray):
        return one.copy() if one.size <= COPIED else None
    with contextlib.suppress(RuntimeError):
        return one.detach().clone() if one.numel() <= COPIED else None
    return None


def same_values(one: Any, other: Any) -> bool:
    """Return whether two tensors or arrays hold the same, NaN where NaN is."""
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
    with contextlib.suppress(RuntimeError):
        return one.shape == other.shape and (one.device.type == "meta" or _bits(one, other))
    return False


def _bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) or torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True)
