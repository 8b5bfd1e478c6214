"""What an audit took: how often the trainer was called, and processor time of training, attack and the rest."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mechanisms import __version__ as library
from mechanisms.core import validate
from mechanisms.core.documents import read_document
from mechanisms.core.errors import InvalidParameter

SCHEMA = "dp-calipers/cost/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an audit took on the machine that it ran on; another time or machine gives other seconds.

    Args:
        runs: how often the trainer was called, checks of it included.
        training_seconds: of processor time, all threads together, in the trainer.
        attack_seconds: in the attack, shadow models that it trains included.
        seconds: in all: these two, accountants, estimators, pictures.
        wall_seconds: by the clock.

    Raises:
        InvalidParameter: if a number is negative.

    >>> print(Cost(runs=1, training_seconds=2.0, attack_seconds=0.5, seconds=3.04, wall_seconds=3.2))
    1 run; 3.0 s of processor time, 2.0 in training and 0.5 in the attack; 3.2 s by the clock
    """

    runs: int
    training_seconds: float
    attack_seconds: float
    seconds: float
    wall_seconds: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", validate.count("Cost", "runs", self.runs))
        for name in ("training_seconds", "attack_seconds", "seconds", "wall_seconds"):
            object.__setattr__(self, name, validate.non_negative("Cost", name, getattr(self, name)))

    def __str__(self) -> str:
        return (
            f"{self.runs:,} run{'s' * (self.runs != 1)}; {self.seconds:.1f} s of processor time, "
            f"{self.training_seconds:.1f} in training and {self.attack_seconds:.1f} in the attack; "
            f"{self.wall_seconds:.1f} s by the clock"
        )

    def to_json(self) -> str:
        """Return the cost as indented JSON text that ends with a line break: a document of its own, beside a report."""
        document = {"schema": SCHEMA, "library": library, "cost": dataclasses.asdict(self)}
        return json.dumps(document, allow_nan=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Cost:
        """Return the cost that `to_json` wrote.

        Raises:
            InvalidParameter: if the text is no JSON, or a schema or field is not known: it is named.
        """
        given = read_document("Cost", text, schema=SCHEMA).get("cost")
        expected = {one.name for one in dataclasses.fields(cls)}
        if not isinstance(given, dict) or set(given) != expected:
            got = sorted(given) if isinstance(given, dict) else type(given).__name__
            raise InvalidParameter(f"Cost: it must have the fields {sorted(expected)}, got {got}.")
        return cls(**given)


@dataclass(slots=True, kw_only=True)
class Stopwatch:
    """Adds up what an audit takes, from the moment that it is made; it decides nothing.

    Args:
        runs: see `Cost`, and so the next two.
        training_seconds: as there.
        attack_seconds: as there.
    """

    runs: int = 0
    training_seconds: float = 0.0
    attack_seconds: float = 0.0
    _started: float = field(default_factory=lambda: time.process_time(), init=False, repr=False)
    _clock: float = field(default_factory=lambda: time.perf_counter(), init=False, repr=False)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Count what happens meanwhile as training, but for what the attack takes of it."""
        started, attacking = time.process_time(), self.attack_seconds
        try:
            yield
        finally:
            self.training_seconds += time.process_time() - started - (self.attack_seconds - attacking)

    @contextmanager
    def attacking(self) -> Iterator[None]:
        """Count what happens meanwhile as the attack's."""
        started = time.process_time()
        try:
            yield
        finally:
            self.attack_seconds += time.process_time() - started

    @property
    def cost(self) -> Cost:
        """What was taken up to now."""
        return Cost(
            runs=self.runs,
            training_seconds=max(0.0, self.training_seconds),
            attack_seconds=self.attack_seconds,
            seconds=time.process_time() - self._started,
            wall_seconds=time.perf_counter() - self._clock,
        )
