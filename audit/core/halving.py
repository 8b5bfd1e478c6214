"""Where what holds on one side of a point stops holding, by halving: nothing is asked but yes or no."""

from __future__ import annotations

from collections.abc import Callable

HALVINGS = 50


def last_refuted(refuted: Callable[[float], bool], low: float, high: float) -> float:
    """Return the largest point found refuted between `low`, which is given back if it is not, and `high`, by halving.

    Args:
        refuted: holds up to some point and fails beyond.
        low: where to start.
        high: a point not refuted.

    >>> round(last_refuted(lambda point: point <= 0.3, 0.0, 1.0), 9)
    0.3
    """
    if not refuted(low):
        return low
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low
