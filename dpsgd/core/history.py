"""What a run has been carried out with so far, by however many processes, one after the other: all of it public."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy
import scipy
import torch

from mechanisms import InvalidParameter, __version__
from mechanisms.core import validate

THEN = ", then "


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a card tells of all processes that took steps of a run, and not of the one alone that took the last.

    Args:
        fresh: whether the weights began as drawn afresh, else as those of a model that was given.
        ranks: the most processes that shared its key at a time, >= 1.
        versions: of what it ran with, by name; several where it was taken up by others.

    Raises:
        InvalidParameter: if a value breaks its rule.
    """

    fresh: bool
    ranks: int
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        if not isinstance(self.fresh, bool) or not isinstance(self.versions, Mapping):
            raise InvalidParameter("History: fresh must be True or False, and versions a mapping.")
        validate.count("History", "ranks", self.ranks, least=1)
        if not all(isinstance(version, str) for version in self.versions.values()):
            raise InvalidParameter("History: versions must be texts.")

    @classmethod
    def of_this_process(cls, *, fresh: bool, ranks: int) -> Self:
        """Return that of a run that begins."""
        return cls(fresh=fresh, ranks=ranks, versions=versions())

    def taken_up(self, *, ranks: int) -> Self:
        """Return that of a run that goes on in this process, with so many others.

        >>> History(fresh=True, ranks=2, versions={"torch": "1.0"}).taken_up(ranks=1).versions["torch"][:10]
        '1.0, then '
        """
        found = dict(self.versions)
        for name, now in versions().items():
            before = found.get(name, now)
            found[name] = before if now in before.split(THEN) else f"{before}{THEN}{now}"
        return dataclasses.replace(self, ranks=max(self.ranks, ranks), versions=found)


def versions() -> dict[str, str]:
    """Return the versions of what privacy rests on here.

    >>> sorted(versions())
    ['dp-calipers', 'numpy', 'python', 'scipy', 'torch']
    """
    return {
        "dp-calipers": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }
