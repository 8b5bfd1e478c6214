"""What an attack on a final model keeps: its canaries, and then one answer for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from audit.attack import Public
from audit.canaries import Canaries
from audit.core.confidences import Array
from audit.scores import Scores
from mechanisms.core.errors import InvalidParameter

Kind = TypeVar("Kind", bound=Canaries)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked(Generic[Kind]):
    """The fold's state.

    Args:
        canaries: that the model will be asked about.
        public: see `Public`.
        answers: a score for each of them, (m,), once the model was asked.
    """

    canaries: Kind
    public: Public
    answers: Array | None = None

    def answered(self, answers: Array) -> Asked[Kind]:
        """Return the state with the answers."""
        return replace(self, answers=answers)

    def scores(self) -> Scores:
        """Return the answers as scores of the run's design.

        Raises:
            InvalidParameter: if the model was never asked.
        """
        if self.answers is None:
            raise InvalidParameter("audit: the final model must be released before scores are asked for, and was not.")
        return Scores(values=self.answers, design=self.public.design, guessing_rule=self.public.guessing_rule)
