"""Which datasets are neighbours, and in which order they stand."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from mechanisms.core import validate

Direction = Literal["remove", "add", "replace", "witness", "witness_reversed"]
"""An order of the two neighbours, fixed for the whole run; a witness is a pair of named neighbours, for lower ends."""


class Adjacency(StrEnum):
    """Which datasets are neighbours.

    ADD_REMOVE: one record more or less. REPLACE_ONE: one record changed, the number of records known.
    ZERO_OUT: one record's contribution set to zero, the number of records known; to a step that counts no records, and
    so under every guarantee that is stated as a number, it is as if the record were absent.
    """

    ADD_REMOVE = "add_remove"
    REPLACE_ONE = "replace_one"
    ZERO_OUT = "zero_out"

    def __repr__(self) -> str:
        return f"Adjacency.{self.name}"

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The orders of the two neighbours; each is fixed for the whole run, so each is composed apart."""
        return ("replace",) if self is Adjacency.REPLACE_ONE else ("remove", "add")

    @classmethod
    def parse(cls, value: object) -> Adjacency:
        """Return the adjacency of that name.

        Raises:
            InvalidParameter: if there is none; the message lists them.
        """
        return cls(validate.choice("Adjacency", "name", value, tuple(member.value for member in cls)))
