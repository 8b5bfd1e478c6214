"""Local categories: every record's own label, released as one of those declared or as bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechanisms.core.arrays import plain_array
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.local import only_replace_one
from mechanisms.core.process import Adjacency, Mechanism, Pairs
from mechanisms.core.randomness import Source
from mechanisms.randomized_response import RandomizedResponse
from mechanisms.unary_encoding import UnaryEncoding

Label = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCategories(Mechanism):
    """Release labels by a mechanism for categories: label number i is its category i.

    Args:
        labels: all labels that may occur, texts or whole numbers, all different.
        mechanism: `RandomizedResponse` or `UnaryEncoding`, with as many categories as there are labels.
        unknown: the label that stands for whatever is not declared; None refuses it.

    Raises:
        InvalidParameter: if a field breaks its rule.

    >>> labels = LocalCategories(labels=("no", "yes"), mechanism=RandomizedResponse(epsilon=1.0))
    >>> labels.pairs(Adjacency.REPLACE_ONE)["replace"].supremum.contains(1.0)
    True
    """

    labels: tuple[Label, ...]
    mechanism: Mechanism
    unknown: Label | None = None

    def __post_init__(self) -> None:
        if isinstance(self.labels, (str, bytes)) or not isinstance(self.labels, Iterable):
            raise InvalidParameter(f"LocalCategories: labels must be a sequence of labels, got {self.labels!r}.")
        labels = tuple(_plain(label) for label in self.labels)
        if None in labels or len({type(label) for label in labels}) != 1 or len(set(labels)) != len(labels):
            raise InvalidParameter(
                f"LocalCategories: labels must be texts, or whole numbers that fit int64, all different, got {labels}."
            )
        if {"inf", "-inf"} & set(labels):
            raise InvalidParameter(
                "LocalCategories: labels must not be 'inf' or '-inf': JSON files read numbers there."
            )
        if any(isinstance(label, str) and label.endswith("\0") for label in labels):
            raise InvalidParameter("LocalCategories: labels must not end in a NUL character: numpy's texts drop it.")
        object.__setattr__(self, "labels", labels)
        if not isinstance(self.mechanism, (RandomizedResponse, UnaryEncoding)):
            raise InvalidParameter(
                f"LocalCategories: mechanism must release categories, got {self.mechanism!r}. "
                "Use RandomizedResponse(...) or UnaryEncoding(...)."
            )
        if self.mechanism.categories != len(labels):
            raise InvalidParameter(
                f"LocalCategories: mechanism must have as many categories as there are labels, {len(labels)}, "
                f"got {self.mechanism.categories}. Use {type(self.mechanism).__name__}(categories={len(labels)}, ...)."
            )
        if self.unknown is not None and _plain(self.unknown) not in labels:
            raise InvalidParameter(f"LocalCategories: unknown must be one of the labels, got {self.unknown!r}.")
        object.__setattr__(self, "unknown", _plain(self.unknown))

    def pairs(self, adjacency: Adjacency) -> Pairs:
        """Return those of the mechanism.

        Raises:
            UnsupportedProcess: under any adjacency but replace-one.
        """
        only_replace_one("LocalCategories", adjacency)
        return self.mechanism.pairs(adjacency)

    def release(self, value: Any, *, sensitivity: float = 1.0, randomness: Source) -> Any:
        """Return labels, by randomised response, or bits in the labels' order, by unary encoding.

        A label gives a label, or bits of shape (k,); n labels give a text or int64 array of shape (n,), or uint8 of
        shape (n, k).

        Guarantees: those of the mechanism's own release; each label is a record of its own.

        Args:
            value: a label, or a one-dimensional sequence or array of labels.
            sensitivity: must be 1: a label has no other.
            randomness: a `SystemSource` for real releases.

        Raises:
            InvalidParameter: if a label is not declared and `unknown` is None; it is not shown.

        >>> from mechanisms import KeyedSource
        >>> response = RandomizedResponse(epsilon=50.0, categories=3)
        >>> labels = LocalCategories(labels=("a", "b", "other"), mechanism=response, unknown="other")
        >>> labels.release(["b", "z", None, "a"], randomness=KeyedSource(0)).tolist()
        ['b', 'other', 'other', 'a']
        """
        many = _many(value)
        numbers = self._numbers(value if many else [value])
        answers = self.mechanism.release(numbers, sensitivity=sensitivity, randomness=randomness)
        if isinstance(self.mechanism, RandomizedResponse):
            named = np.array(self.labels)[answers]
            return named if many else named[0].item()
        return answers if many else answers[0]

    def declared(self, value: Any) -> Any:
        """Return the same labels with `unknown` in place of those that are not declared.

        Raises:
            InvalidParameter: as `release`.
        """
        many = _many(value)
        found = [self.labels[number] for number in self._numbers(value if many else [value])]
        return found if many else found[0]

    def _numbers(self, values: Iterable[Any]) -> NDArray[np.int64]:
        """Return the labels' numbers, −1 nowhere: what is not declared is replaced or refused."""
        known: dict[Label | None, int] = {label: number for number, label in enumerate(self.labels)}
        stand_in = -1 if self.unknown is None else known[self.unknown]
        found = np.array([known.get(_plain(value), stand_in) for value in values], dtype=np.int64)
        if np.any(found < 0):
            raise InvalidParameter(
                "LocalCategories: value must hold declared labels alone. Declare all that may occur, not only those "
                "that do, or unknown=..., the label that stands for all others."
            )
        return found


def _many(value: Any) -> bool:
    """Tell whether it is several labels in order, or one."""
    if isinstance(value, np.ndarray):
        plain_array("LocalCategories", value)
        if value.ndim > 1:
            raise InvalidParameter(f"LocalCategories: value must be one-dimensional, got shape {value.shape}.")
        return value.ndim == 1
    if isinstance(value, (Set, Mapping)):
        raise InvalidParameter("LocalCategories: value must be a label or a sequence of labels: these have no order.")
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def _plain(label: Any) -> Label | None:
    """Return a text as str, a whole number that fits int64 as int, and None for all else: 1.0 and True are no 1."""
    if isinstance(label, np.ndarray) and label.ndim == 0:
        label = label[()]
    if isinstance(label, str):
        return str(label)
    whole = isinstance(label, (int, np.integer)) and not isinstance(label, (bool, np.bool_))
    return int(label) if whole and -(2**63) <= label < 2**63 else None
