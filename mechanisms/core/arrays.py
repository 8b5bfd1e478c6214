"""Values as numpy's arrays, or a refusal that tells nothing of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mechanisms.core.bounds import Array
from mechanisms.core.errors import InvalidParameter


def plain_array(owner: str, value: Any, *, rule: str = "value must be a number or an array of one shape") -> Array:
    """Return `value` as an array of whatever dtype and shape it has.

    A masked array is none: numpy would take what lies under its mask for data.

    Raises:
        InvalidParameter: if numpy makes no array of it, as of rows of different lengths, or it is a masked one.

    >>> plain_array("Noise", [1, 2]).shape
    (2,)
    """
    if isinstance(value, np.ma.MaskedArray):
        raise InvalidParameter(
            f"{owner}: {rule}, got a masked one. Fill it first, by a rule that no data decides: masked.filled(0)."
        )
    try:
        return np.asarray(value)
    except Exception:  # what an object's own conversion raises may quote it
        raise InvalidParameter(f"{owner}: {rule}.") from None
