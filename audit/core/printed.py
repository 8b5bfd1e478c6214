"""Numbers of a report as they are printed: none says more than what was shown."""

from __future__ import annotations

import math
from fractions import Fraction

from mechanisms.core.command_line import at_least

DIGITS = 5  # of every ε that is shown, rounded outward


def confidently(confidence: float) -> str:
    """Return a confidence in four digits, none of which says more than it does.

    >>> confidently(0.95), confidently(0.99996)
    ('0.95', '0.9999')
    """
    near = f"{confidence:.4g}"
    return near if float(near) <= confidence else at_least(confidence, 4)


def quotient(epsilon: float, claimed: float) -> str:
    """Return evidence ÷ claim in hundredths, exact and rounded down, so that none below the claim shows as 1.00.

    >>> quotient(3.999, 4.0), quotient(4.0, 4.0), quotient(4.0, math.inf)
    ('0.99', '1.00', '–')
    """
    if not 0 < claimed < math.inf:
        return "–"
    if math.isinf(epsilon):
        return "∞"
    hundredths = math.floor(100 * Fraction(epsilon) / Fraction(claimed))
    return f"{hundredths // 100}.{hundredths % 100:02}"
