"""Specimens: a documented bug, its correct twin, and what is claimed of both."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from audit.core.comparing import Additive
from audit.core.extremes import Neighbours
from audit.core.toy_training import Train, dp_sgd
from mechanisms.core import validate
from mechanisms.core.discover import modules
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Adjacency
from mechanisms.core.randomness import Source

Mechanism = Callable[[Any, Source], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpecimen:
    """A bug in training, said to be DP-SGD on Poisson samples with rows clipped to norm 1.

    Args:
        source: where the bug is documented.
        broken: the training run with the bug.
        correct: its twin.
        caught_by: the detectors that must catch it.

    Raises:
        InvalidParameter: if a detector is none for training.
    """

    DETECTORS: ClassVar[tuple[str, ...]] = ("replay", "participations", "noise", "inversion", "anytime")

    source: str
    broken: Train
    correct: Train = dp_sgd
    caught_by: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_detectors("TrainingSpecimen", self.caught_by, self.DETECTORS)


@dataclass(frozen=True, slots=True, kw_only=True)
class MechanismSpecimen:
    """A bug in a mechanism.

    Args:
        source: where the bug is documented.
        broken: (dataset, source of randomness) -> what is released.
        correct: its twin.
        caught_by: the detectors that must catch it.
        neighbours: what it is replayed on; the first pair is what the black box is run on.
        adjacency: which neighbours they are.
        description: of both, for replay; None where no noise is added.
        epsilon: ε claimed of both at δ = 0, for the black box; None where that is not run.
        coded: from what is released to numbers, for the black box; it is post-processing and adds nothing to ε.
        runs: of the black box, on either input.

    Raises:
        InvalidParameter: if a detector is none for mechanisms, or ε or the runs break their rules.
    """

    DETECTORS: ClassVar[tuple[str, ...]] = ("replay", "black_box")

    source: str
    broken: Mechanism
    correct: Mechanism
    caught_by: tuple[str, ...]
    neighbours: tuple[Neighbours, ...]
    adjacency: Adjacency
    description: Additive | None
    epsilon: float | None
    coded: Callable[[Any], Any] = float
    runs: int = 2_000

    def __post_init__(self) -> None:
        _check_detectors("MechanismSpecimen", self.caught_by, self.DETECTORS)
        if self.epsilon is not None:
            validate.positive("MechanismSpecimen", "epsilon", self.epsilon)
        validate.count("MechanismSpecimen", "runs", self.runs, least=4)


Specimen = TrainingSpecimen | MechanismSpecimen


def specimens() -> dict[str, Specimen]:
    """Return every documented bug there is, by the name of its file.

    >>> "noise_halved" in specimens()
    True
    """
    found = {name: importlib.import_module(f"audit.zoo.{name}") for name in modules("audit.zoo")}
    return {name: module.SPECIMEN for name, module in found.items()}


def title(name: str) -> str:
    """Return the first line of what the file of a bug says about it, without its full stop."""
    return (importlib.import_module(f"audit.zoo.{name}").__doc__ or name).splitlines()[0].rstrip(".")


def _check_detectors(owner: str, names: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    if not names or not set(names) <= set(allowed):
        raise InvalidParameter(f"{owner}: caught_by must name some of {', '.join(allowed)}, got {names!r}.")
