"""What a row of published values is, and how it is compared with what the library says.

Values are facts, copied with their source and the tolerance that goes with them: [V] read in the source that is named,
[C] computed by other programs than this library. Nothing here computes: what is compared comes from the library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mechanisms import Bounds, Gaussian, Poisson, Process, Repeat, Sampled

Number = float | Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One published entry: a number, or several under names.

    Args:
        paper: where it was published.
        quantity: what it is.
        params: of what.
        value: what was published: a number, or lists and dictionaries of numbers.
        tolerance: how far from the right answer it may be; None where the collection states none.
        truth: for the parts that are off by more than that, what is right instead.
        why: the reason why they are off.
        without: parts that the library has no quantity for, and why.
    """

    paper: str
    quantity: str
    params: Any = None
    value: Any = None
    tolerance: float | None = None
    truth: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    without: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.paper}: {self.quantity}, {self.params}"[:120]

    @property
    def key(self) -> tuple[str, str, str]:
        """Which entry of the collection it is."""
        return (self.paper, self.quantity, repr(normal(self.params)))

    @property
    def published(self) -> Any:
        """What was published; some entries of the collection hold it among their parameters."""
        return self.params if self.value is None else self.value


def normal(value: Any) -> Any:
    """Return the same with sorted keys, lists for tuples, floats for whole numbers, so that equals are written alike.

    >>> normal({"a": (1, "b")})
    {'a': [1.0, 'b']}
    """
    if isinstance(value, Mapping):
        return {str(k): normal(inner) for k, inner in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [normal(inner) for inner in value]
    return float(value) if isinstance(value, int | float) else value


def parts(value: Any) -> dict[str, Any]:
    """Return the numbers of a value by their paths.

    >>> parts({"a": [1, 2], "b": 3}), parts(4)
    ({'a/0': 1, 'a/1': 2, 'b': 3}, {'': 4})
    """
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {"": value}
    return {f"{k}/{path}".rstrip("/"): leaf for k, inner in value.items() for path, leaf in parts(inner).items()}


def ends(found: Number) -> tuple[float, float]:
    """Return both ends of what was found."""
    return (found.lower, found.upper) if isinstance(found, Bounds) else (found, found)


def distance(found: Number, value: float) -> float:
    """Return how far the farther end is from a value, relatively to 10 where the value is larger."""
    return max(abs(end - value) for end in ends(found)) / max(1.0, abs(value) / 10.0)


def check(entry: Entry, found: Number | Mapping[str, Number], tolerance: float | None = None) -> None:
    """Assert that every part is what was published, or that the part is off and what is right was found.

    Args:
        entry: what was published.
        found: what the library says, for every part.
        tolerance: where the entry has none.
    """
    wanted, given = parts(entry.published), found if isinstance(found, Mapping) else {"": found}
    assert {*given, *entry.without} == set(wanted) >= set(entry.truth)
    allowed = entry.tolerance if tolerance is None else tolerance
    for part, here in given.items():
        right, published = entry.truth.get(part, wanted[part]), wanted[part]
        assert distance(here, right) <= allowed, (part, here, right)
        if part in entry.truth:
            assert entry.why and distance(here, published) > allowed, (part, here, published)


def sampled(noise: float, rate: float, steps: int) -> Process:
    """Return `steps` Poisson-sampled Gaussians, or plain ones at a rate of 1."""
    step = Gaussian(noise_multiplier=noise)
    return Repeat(step if rate == 1.0 else Sampled(step, Poisson(probability=rate)), steps)


def words(text: str) -> list[float]:
    """Return the numbers of a text like "T=10 s=0.5".

    >>> words("T=10 s=0.5,eps=1.0 and more")
    [10.0, 0.5, 1.0]
    """
    return [float(word.partition("=")[2]) for word in text.replace(",", " ").split() if "=" in word]


def label(argument: object) -> str:
    """Name a test by its entry alone, whatever else it takes."""
    return str(argument) if isinstance(argument, Entry) else ""
