"""Plug-ins by file: whatever class of the asked kind a package's own modules define is found, with no list to keep."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any


def modules(package: str) -> list[str]:
    """Return the names of the plug-in modules of `package`: its own files, not its subpackages or private files.

    >>> "gaussian" in modules("mechanisms")
    True
    """
    path = importlib.import_module(package).__path__
    return sorted(info.name for info in pkgutil.iter_modules(path) if not info.ispkg and not info.name.startswith("_"))


def implementations(package: str, kind: type[Any]) -> dict[str, Any]:
    """Return the concrete subclasses of `kind` that the plug-in modules of `package` define, by module name.

    A module that defines several is listed once for each, as module name and class name.
    """
    found: dict[str, Any] = {}
    for name in modules(package):
        module = importlib.import_module(f"{package}.{name}")
        classes = [
            member
            for member in vars(module).values()
            if inspect.isclass(member) and issubclass(member, kind) and member.__module__ == module.__name__
        ]
        concrete = [member for member in classes if not inspect.isabstract(member)]
        for member in concrete:
            found[name if len(concrete) == 1 else f"{name}.{member.__name__}"] = member
    return found
