"""Estimates: numbers that are no bounds, and a type of their own so that nothing takes them for one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """About an ε: it may err to either side, and has no `upper` that could be promised.

    Args:
        value: the ε.
        method: the accountant that made it.
        validity: when it may be trusted, in words.
    """

    value: float
    method: str
    validity: str
