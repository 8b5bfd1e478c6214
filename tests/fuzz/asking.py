"""Asking accountants one question, and judging whether what they say can all be true."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

from accountant import available
from accountant.core.base import Accountant
from accountant.rdp import ORDERS, RDP
from mechanisms import NumericalFailure, UnsupportedProcess
from tests.fuzz.configurations import Question
from tests.fuzz.truth import Truth

FAST = frozenset({"closed_form", "contour", "gdp", "pure", "rdp", "tightest", "truth"})
"""The accountants that take milliseconds, and so are asked every question; the others are asked a few."""
FEW_ORDERS = ORDERS[::32]
Answers = Mapping[str, "Answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an accountant did with a question.

    Args:
        status: "answered", "refused" (no theorem), "failed" (`NumericalFailure`), the name of any other error, "hang",
            or "died".
        lower: of the bracket of ε.
        upper: of the bracket of ε.
        seconds: how long it took.
        message: of the error.
    """

    status: str
    lower: float = 0.0
    upper: float = math.inf
    seconds: float = 0.0
    message: str = ""

    @property
    def width(self) -> float:
        """Upper minus lower end, 0 where they are the same."""
        return 0.0 if self.lower == self.upper else self.upper - self.lower

    @property
    def relative_width(self) -> float:
        """Width ÷ upper end."""
        return 0.0 if not self.width else 1.0 if math.isinf(self.upper) else self.width / self.upper


def accountants() -> dict[str, Accountant]:
    """Return every accountant there is, and the truth; `rdp` with few orders: as sound, and many times as fast."""
    return {name: kind() for name, kind in available().items()} | {"rdp": RDP(orders=FEW_ORDERS), "truth": Truth()}


def ask(accountant: Accountant, question: Question) -> Answer:
    """Return what this accountant does with the question; a warning counts as an error."""
    start = time.perf_counter()
    answer = _answer(accountant, question)
    return replace(answer, seconds=time.perf_counter() - start)


def _answer(accountant: Accountant, question: Question) -> Answer:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            profile = accountant.profile(question.process, adjacency=question.adjacency)
            bounds = profile.epsilon(question.delta)
    except UnsupportedProcess as refusal:
        return Answer(status="refused", message=str(refusal))
    except NumericalFailure as failure:
        return Answer(status="failed", message=str(failure))
    except Exception as error:  # whatever else is raised is a bug, to be reported with its question
        return Answer(status=type(error).__name__, message=str(error))
    return Answer(status="answered", lower=float(bounds.lower), upper=float(bounds.upper))


def faults(answers: Answers, harder: Answers) -> list[str]:
    """Return what is wrong with these answers; `harder` are answers about a process of no less ε."""
    found = [f"{name}: {wrong}" for name, answer in answers.items() if (wrong := _wrong(answer))]
    found += [f"{name}, asked a harder one: {wrong}" for name, answer in harder.items() if (wrong := _wrong(answer))]
    for these, those, what in ((answers, answers, "apart"), (harder, harder, "apart"), (answers, harder, "falls")):
        found += _apart(these, those, what)
    return found


def _wrong(answer: Answer) -> str:
    """Return what is wrong with an answer by itself."""
    if answer.status not in ("answered", "refused", "failed"):
        return f"error {answer.status}: {answer.message}".removesuffix(": ")
    if math.isnan(answer.lower) or math.isnan(answer.upper):
        return f"nan [{answer.lower!r}, {answer.upper!r}]"
    if answer.lower < 0 or answer.upper < 0:
        return f"negative [{answer.lower!r}, {answer.upper!r}]"
    return f"inverted [{answer.lower!r}, {answer.upper!r}]" if answer.lower > answer.upper else ""


def _apart(below: Answers, above: Answers, what: str) -> list[str]:
    """Return that the largest lower end of `below` exceeds the smallest upper end of `above`, if it does."""
    lows = {name: answer.lower for name, answer in below.items() if answer.status == "answered"}
    highs = {name: answer.upper for name, answer in above.items() if answer.status == "answered"}
    if not lows or not highs:
        return []
    low, high = max(lows, key=lambda name: lows[name]), min(highs, key=lambda name: highs[name])
    if not lows[low] > highs[high] or (low == high and below is above):
        return []
    return [f"{what}: {low} says at least {lows[low]!r}, {high} at most {highs[high]!r}"]
