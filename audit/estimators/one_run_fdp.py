"""Lower bounds of ε from right guesses in a single run, against a whole trade-off curve.

Canary i is in or out by a fair coin. Of g guesses about m canaries j are right with probability p_j. Given the other
coins, the trade-off curve holds for every event; take for it "i is guessed, and at least c − 1 of the other guesses are
right": the guess is right in R_c and wrong in W_{c−1} of the cases, on average over canaries and coins, so that

    W_{c−1} >= F(R_c),        R_c = Σ_{j >= c} j p_j / m,        W_c = Σ_{j >= c} (g − j) p_j / m               [MMC25]

with the convex increasing F of `audit.core.curves`. Suppose P[at least v right] >= τ. The recursion

    r_v = τ v / m,     h_v = τ (g − v) / m,     h_{i−1} = max{h_i, F(r_i)},     r_{i−1} = r_i + κ_{i−1} (h_{i−1} − h_i),

κ_i = i / (g − i), has R_i >= r_i and R_i − r_i >= κ_i (W_i − h_i) for i <= v: at v since all j >= v have odds of κ_v or
more, and the step keeps both, as κ and F increase. Once h has moved, W_i >= h_i, so r_0 + h_0 <= R_0 + W_0 = g / m.
Where the recursion exceeds g / m, therefore, P[at least v right] < τ. By the same argument, what is refuted stays so
with more right guesses and with less loss.

The bound stays below the truth of isolated canaries because it holds for *every* dominated run. One of them draws its
level of loss once for all canaries: with probability τ all guesses are as good as events of probability τ g / m allow.
As m grows at a fixed g / m the recursion refutes just what this run could not have done, so no test of their number can
refute more. Guessing fewer, surer canaries is what helps, and guessing on one side where the directions differ.

[MMC25] S. Mahloujifar, L. Melis, K. Chaudhuri. Auditing f-Differential Privacy in One Run. ICML 2025. arXiv:2410.22235.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors
from audit.core.curves import Family, GaussianFamily, family_of
from audit.core.tangents import SIDES, Curve, Side
from audit.evidence import About, Estimator, Guarantee, Null, check_level
from audit.scores import Design, GuessExtremes, LabelledScores, OneRun
from mechanisms import InvalidParameter, Process
from mechanisms.core import validate

MOST_GUESSES = 1_000_000
ROUND_OFF = 1e-9  # relative, by which the recursion must exceed g / m: some 1e-16 a step, up to a million steps


def lower_bound_from_guesses(
    *,
    canaries: int,
    guesses: int,
    correct: int,
    delta: float,
    confidence: float,
    curve: Literal["gaussian"] | Family = "gaussian",
    side: Side = "either",
) -> float:
    """Return ε at δ of the most private member of a family that the number of right guesses refutes, 0 if none is.

    Args:
        canaries: m >= 1, each in or out by its own fair coin.
        guesses: how many of them were guessed, 0 <= guesses <= m, a number fixed before the run.
        correct: how many guesses were right, 0 <= correct <= guesses.
        delta: in [0, 1), above 0 where the family has normal noise.
        confidence: in (0, 1), one-sided.
        curve: the hypotheses: "gaussian" for μ-GDP, or another family.
        side: "in" or "out" if the rule, fixed before the run, makes all guesses so: then one direction's profile is
            enough, which is worth much where the two differ.

    Guarantees: with probability `confidence` at most the ε of every member of the family that dominates the run,
    whatever the canaries share and whatever the guesses rest on. It says nothing of a run that no member dominates.

    Raises:
        InvalidParameter: if a number breaks its rule.

    >>> round(lower_bound_from_guesses(canaries=1000, guesses=100, correct=100, delta=1e-5, confidence=0.95), 5)
    5.54903
    """
    family = _checked(canaries, guesses, correct, delta, confidence, side, curve)
    share, level = guesses / canaries, 1 - confidence
    if not _refuted(share, guesses, correct, level, lambda right: right):  # not even perfect privacy is
        return 0.0
    index = _first(lambda one: _refuted(share, guesses, correct, level, family.curve(one, side)), family)
    return 0.0 if index is None else family.epsilon(index, delta)


def rejects(
    *,
    canaries: int,
    guesses: int,
    correct: ArrayLike,
    epsilon: ArrayLike,
    delta: float,
    confidence: float,
    curve: Literal["gaussian"] | Family = "gaussian",
    side: Side = "either",
) -> NDArray[np.bool_]:
    """Tell, elementwise, whether all members with at most this ε are refuted: the test that the bound inverts.

    Arguments are those of `lower_bound_from_guesses`; `correct` and `epsilon` >= 0 are arrays that broadcast. For each
    ε the least number of right guesses that refutes is found once and kept.
    """
    family = _checked(canaries, guesses, 0, delta, confidence, side, curve)
    right = doors.counts("one_run_fdp", "correct", correct, guesses)
    counts, points = np.broadcast_arrays(right, doors.losses("one_run_fdp", epsilon))
    values, back = np.unique(points, return_inverse=True)
    least = [
        _least_refuting(guesses / canaries, guesses, 1 - confidence, family, float(one), delta, side) for one in values
    ]
    refuted: NDArray[np.bool_] = counts >= np.array(least, dtype=np.int64)[back].reshape(counts.shape)
    return refuted


@dataclass(frozen=True, slots=True)
class OneRunFDP(Estimator):
    """The bound of `lower_bound_from_guesses` against the described run with any noise.

    It is valid for every computation that a member of this family dominates, however its canaries interfere; a claim of
    the described process says that one does. Rules that guess in only, or out only, are tested against one direction.

    >>> OneRunFDP().name
    'one_run_fdp'
    """

    designs: ClassVar[tuple[type[Design], ...]] = (OneRun,)
    guarantee: ClassVar[Guarantee] = "frequentist"
    about: ClassVar[About] = "the claimed family"
    null: ClassVar[Null] = "curve"

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound.

        Raises:
            InvalidParameter: if δ is 0, at which normal noise has no ε, or the description has no noise.
            UnsupportedProcess: if the process is no repeated Gaussian on Poisson samples.
        """
        return lower_bound_from_guesses(
            canaries=data.scores.design.size,
            guesses=data.guessed,
            correct=data.correct,
            delta=delta,
            confidence=confidence,
            curve=family_of(process),
            side=side_of(data),
        )

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether all members with at most this ε are refuted."""
        return rejects(
            canaries=data.scores.design.size,
            guesses=data.guessed,
            correct=data.correct,
            epsilon=epsilon,
            delta=delta,
            confidence=confidence,
            curve=family_of(process),
            side=side_of(data),
        )


def side_of(data: LabelledScores) -> Side:
    """Return the side that the rule fixes before the run; one that all guesses happen to take is "either"."""
    rule = data.scores.guessing_rule
    if isinstance(rule, GuessExtremes) and rule.excluded == 0:
        return "in"
    if isinstance(rule, GuessExtremes) and rule.included == 0:
        return "out"
    return "either"


def _refuted(share: float, guesses: int, correct: int, level: float, least_wrong: Curve) -> bool:
    """Tell whether P[`correct` or more right] >= level is impossible; share is guesses / canaries."""
    right, wrong = level * share * correct / max(guesses, 1), level * share * (guesses - correct) / max(guesses, 1)
    limit = share * (1 + ROUND_OFF)
    for count in range(correct - 1, -1, -1):
        needed = least_wrong(right)
        if needed > wrong:
            right += count / (guesses - count) * (needed - wrong)
            wrong = needed
        if right + wrong > limit:
            return True
    return False


def _first(holds: Callable[[int], bool], family: Family) -> int | None:
    """Return the least index at which `holds`, None if there is none in reach; above it `holds` throughout."""
    step, reach = family.resolution // 4, family.reach * family.resolution
    low = high = 0
    while holds(low):
        high, low, step = low, low - step, 2 * step
        if low < -reach:
            return high
    while high == low:
        if high > reach:
            return None
        low, high, step = (high, high + step, 2 * step) if holds(high + step) else (high + step, high + step, 2 * step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


@lru_cache(maxsize=256)
def _least_refuting(
    share: float, guesses: int, level: float, family: Family, epsilon: float, delta: float, side: Side
) -> int:
    """Return the least number of right guesses that refutes all members with at most this ε, guesses + 1 if none."""
    beyond = _first(lambda index: not family.at_least(index, epsilon, delta), family)
    if beyond is None or not family.at_least(beyond - 1, epsilon, delta):
        return guesses + 1
    curve, low, high = family.curve(beyond - 1, side), 0, guesses + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _refuted(share, guesses, middle, level, curve) else (middle, high)
    return high


def _checked(
    canaries: int, guesses: int, correct: int, delta: float, confidence: float, side: str, curve: str | Family
) -> Family:
    canaries = doors.trials("one_run_fdp", "canaries", canaries)
    guesses = doors.trials("one_run_fdp", "guesses", guesses, least=0, most=MOST_GUESSES)
    correct = validate.count("one_run_fdp", "correct", correct)
    check_level("one_run_fdp", delta=delta, confidence=confidence)
    validate.choice("one_run_fdp", "side", side, SIDES)
    if guesses > canaries:
        raise InvalidParameter(f"one_run_fdp: guesses must be at most the {canaries} canaries, got {guesses}.")
    if correct > guesses:
        raise InvalidParameter(f"one_run_fdp: correct must be at most the {guesses} guesses, got {correct}.")
    if not isinstance(curve, Family):
        validate.choice("one_run_fdp", "curve", curve, ("gaussian",))
    family = curve if isinstance(curve, Family) else GaussianFamily()
    family.check(delta)
    return family
