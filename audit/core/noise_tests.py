"""Upper confidence bounds of a noise multiplier, from squares that trust the clip norm and a gap that knows no scale.

Scores have the law that `audit.estimators.accountant_inversion` writes down. Two tests of "the noise is at least σ"
share the error, 49 parts to one: squares of what is noise alone, which count only where the gap refutes that there is
no signal at all and lies within three of its standard errors of the q T described; and that gap, of the two means over
the standard deviation of the out-scores.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors
from audit.core.counts import check_enough
from audit.core.noise_bounds import GapLaw, bound_from_squares
from audit.evidence import check_level
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

OWNER = "accountant_inversion"
Samples = Literal["poisson", "other"]
GAP_SHARE = 0.02  # of the error where C is trusted: the bugs that only the gap sees move it by many standard errors
SIGNAL = 0.01  # level of "there is no signal at all" on other samples, where no bound's validity rests on it


def noise_multiplier_upper_bound(
    *,
    gap: float,
    deviation: float,
    included: int,
    excluded: int,
    probability: float,
    steps: int,
    confidence: float,
    squares: float | None = None,
    degrees: int = 0,
    samples: Samples = "poisson",
) -> float:
    """Return the least noise multiplier that is refuted as being at least that large, inf if none is.

    Args:
        gap: mean in-score − mean out-score; in units of C, or in any unit if there are no squares.
        deviation: standard deviation of the out-scores, with n_out − 1 in the denominator, in the same unit, >= 0;
            0 refutes every noise, if there is a gap.
        included: n_in >= 1.
        excluded: n_out >= 2.
        probability: q in (0, 1]; on other samples the mean number of times that a record takes part in a step.
        steps: T >= 1.
        confidence: in (0, 1), one-sided; below 1/2 it is answered at 1/2.
        squares: V >= 0, in units of C²; None where C is not trusted, then the gap has all of the error.
        degrees: n, of V; at least 1 if there are squares.
        samples: "poisson", or "other": then the gap bounds nothing, and there must be squares, which have all of the
            error.

    Guarantees: at least the true σ with probability `confidence`, if the scores have the law above and are independent,
    for any numbers of canaries and steps: the law of K is bounded, not approximated. On other samples scores may depend
    on each other in any way, if the squares are of noise that is independent.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> seen = dict(gap=50.0, deviation=50.0, included=2500, excluded=2500, probability=0.5, steps=100)
    >>> round(noise_multiplier_upper_bound(**seen, confidence=0.99), 3)
    5.401
    >>> round(noise_multiplier_upper_bound(**seen, confidence=0.99, squares=25.0 * 250_000, degrees=250_000), 3)
    5.017
    """
    gap, deviation = validate.finite(OWNER, "gap", gap), validate.non_negative(OWNER, "deviation", deviation)
    gap, deviation = (float(doors.sized(OWNER, name, one)) for name, one in (("gap", gap), ("deviation", deviation)))
    law = _law(included, excluded, probability, steps)
    check_level(OWNER, delta=0.0, confidence=confidence)
    for_squares, for_gap = _levels(confidence, shared=squares is not None, samples=samples)
    contrast = float(law.contrast(gap, deviation))
    by_gap = law.bound(contrast, level=for_gap) if samples == "poisson" else np.inf
    if squares is None:
        return by_gap
    squares = validate.non_negative(OWNER, "squares", squares)
    degrees = doors.trials(OWNER, "degrees", degrees)
    if contrast < law.critical(np.inf, level=for_gap) or not law.reached(gap, deviation):
        return by_gap
    return min(by_gap, float(bound_from_squares(squares, degrees=degrees, level=for_squares)))


def rejects(
    *,
    gap: ArrayLike,
    deviation: ArrayLike,
    included: int,
    excluded: int,
    probability: float,
    steps: int,
    noise_multiplier: ArrayLike,
    confidence: float,
    squares: ArrayLike | None = None,
    degrees: int = 0,
    samples: Samples = "poisson",
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether a noise at least so large is refuted: the test that the upper bound inverts.

    Arguments are those of `noise_multiplier_upper_bound`; gap, deviation, squares and noise multiplier, which may be
    inf, are arrays that broadcast.
    """
    law = _law(included, excluded, probability, steps)
    check_level(OWNER, delta=0.0, confidence=confidence)
    for_squares, for_gap = _levels(confidence, shared=squares is not None, samples=samples)
    tested = doors.numbers(OWNER, "noise_multiplier", noise_multiplier)
    if not np.all(tested >= 0):
        raise InvalidParameter(f"{OWNER}: noise_multiplier must be at least 0, got less or nan.")
    gap, deviation = doors.sized(OWNER, "gap", gap), doors.sized(OWNER, "deviation", deviation, least=0.0)
    if squares is not None:
        squares = doors.sized(OWNER, "squares", squares, least=0.0)
        degrees = doors.trials(OWNER, "degrees", degrees)
    contrast = law.contrast(gap, deviation)
    refuted: NDArray[np.bool_] = np.zeros(np.broadcast_shapes(contrast.shape, tested.shape), dtype=np.bool_)
    if samples == "poisson":
        distinct, back = np.unique(tested, return_inverse=True)
        critical = np.array([law.critical(float(noise), level=for_gap) for noise in distinct])
        refuted = contrast >= critical[back].reshape(tested.shape)
    if squares is None:
        return refuted
    trusted = (contrast >= law.critical(np.inf, level=for_gap)) & law.reached(gap, deviation)
    return refuted | (trusted & (tested >= bound_from_squares(squares, degrees=degrees, level=for_squares)))


def _law(included: int, excluded: int, probability: float, steps: int) -> GapLaw:
    probability = validate.probability(OWNER, "probability", probability)
    if probability == 0:
        raise InvalidParameter(f"{OWNER}: probability must be above 0, got 0: no canary ever takes part.")
    check_enough(OWNER, included, excluded, least=(1, 2))
    steps = doors.trials(OWNER, "steps", steps)
    doors.trials(OWNER, "steps times included", included * steps)
    return GapLaw(included=included, excluded=excluded, probability=probability, steps=steps)


def _levels(confidence: float, *, shared: bool, samples: Samples) -> tuple[float, float]:
    """Return the errors of squares and gap; on other samples the second is the level at which a signal is seen."""
    error = min(1 - confidence, 0.5)
    if validate.choice(OWNER, "samples", samples, ("poisson", "other")) == "other":
        if not shared:
            raise InvalidParameter(f"{OWNER}: squares must be given on other samples than Poisson's, got none.")
        return error, SIGNAL
    return ((1 - GAP_SHARE) * error, GAP_SHARE * error) if shared else (0.0, error)
