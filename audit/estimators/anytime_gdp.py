"""Lower bounds of ε from a stream of scores against Gaussian differential privacy, valid at every look.

The wealth against μ-GDP averages, over feared μ/ratio, the products of the payoffs of `audit.core.payoffs`, whose mean
is at most 1 for any scores of any μ-GDP computation. What scores are expected (in-scores one `gap` above out-scores,
with normal noise) decides how fast wealth grows, never whether the bound holds.

Points of a ladder of μ are refuted from below: the bound is the last of those that are refuted with all below them.
If the computation is μ-GDP, a bound above its ε needs the first point at or above μ refuted, whose wealth is an
e-process; so the chance of it is at most 1 − confidence, though wealths need not fall along the ladder.

What limits it. Let D be the relative entropy of the feared laws of (coin, score) to the nearest that are μ-GDP. Looks
that follow the nearest ones obey the claim, so a valid test is one against them as well: if it stops surely it takes at
least ln(1/α)/D looks on average [W45], and after n looks it has found out no more than the best test of the two laws
[NP33]. At ε = 8, δ = 1e-5, half the noise and 5 %: D = .122, 24.6 looks on average; at most 47 % are found out after 12
looks, so that no valid test has a median below 13, and one that spends an error of 4 % on the first 14 finds out less
than half in them: a median of 14 costs more than .8 of the wealth. (By dynamic programming over all payoffs .837 is
needed, .73 for 15 looks and .64 for 16; with all of it 55 % are found out within 14.)

The ln(1/α)/(μ²/8) = 8.6 looks that are enough to tell N(±μ, 1) from N(±μ/2, 1) are for known laws: other μ-GDP pairs,
with more mass where the feared ones have theirs, are nearer. That is the price of assuming nothing of the scores.

What is done about it. An `opening` of 14 puts as much on every guess, at the odds 1/Φ(μ/2), as makes 14 right ones in
a row refute: at ε = 8 and 5 % .843 of the wealth. Where half the noise is there they have chance Φ(μ)¹⁴ = .503, so that
the median is 14, just; a quarter of the noise is found out in 14 looks nearly surely. Without an opening it takes 22
looks and 16. One wrong guess loses the stake: half the noise then takes 37 looks on average (28 without), .6 of it 71
in the median (39), .7 to .9 of it a quarter more than without. Against smaller and larger μ the stake falls fast, .087
at ε = 4, .005 at ε = 1, .23 at ε = 12, and with it gain and price: below ε = 5 and above 10 medians move by some
percent. It is the default, as bugs halve the noise sooner than they take a tenth of it; `opening=None` is for those who
look for small errors.

[NP33] J. Neyman, E. S. Pearson. On the Problem of the Most Efficient Tests of Statistical Hypotheses. Phil. Trans. R.
Soc. A 231 (1933).
[W45] A. Wald. Sequential Tests of Statistical Hypotheses. Annals of Mathematical Statistics 16 (1945).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import doors, e_processes
from audit.core.described import check_gaussian
from audit.core.gdp_ladder import (
    LADDER,
    Opening,
    first_standing,
    ladder_log_shares,
    log_payoffs,
    log_sum,
    may_refute,
)
from audit.core.payoffs import CELLS
from audit.core.thresholds import at_most
from audit.evidence import About, Estimator, Guarantee, Null
from audit.scores import Design, LabelledScores, Stream
from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter
from mechanisms.core.process import Process

Array = NDArray[np.float64]
MOST_GUESSES = 1_000_000  # so many in a row happen to nobody: nothing is staked on far fewer
OPENING = 14  # the fewest looks in half of which half the noise of ε = 8 can be found out at 5 %
CENTRE, GAP = 0.5, 1.0  # out-scores about 0 and in-scores about 1: projections in units of the clip norm


def lower_bound_from_scores(
    *,
    values: ArrayLike,
    membership: ArrayLike,
    delta: float,
    confidence: float,
    centre: float = CENTRE,
    gap: float = GAP,
    opening: int | None = OPENING,
) -> float:
    """Return ε at `delta` of the largest μ refuted at any look, 0 if none is.

    Args:
        values: shape (n,), scores in the order of the looks, in any unit.
        membership: bool (n,), True where the canary was in.
        delta: in (0, 1).
        confidence: in (0, 1), one-sided.
        centre: the score half-way between the worlds, fixed beforehand.
        gap: by how much in-scores are expected above out-scores, > 0, fixed beforehand.
        opening: how many right guesses in a row are to refute as much as possible, from 1 to 1,000,000, fixed
            beforehand; None for nothing staked on that.

    Guarantees: at most the ε of every μ-GDP computation with probability `confidence`, whatever its scores and whenever
    one stops, if each look is μ-GDP given the earlier ones and has a fair coin of its own. Several looks at one noisy
    sum are so along directions at right angles alone: else the coin of one, once told, tells of the noise of the next.
    It is a statement about GDP: a computation that is (ε, δ)-private, but not GDP with that δ(ε), may give more.

    Raises:
        InvalidParameter: if there are no scores, one is not finite, or a number breaks its rule.

    >>> rng = np.random.default_rng(1)
    >>> coins = rng.random(200) < 0.5
    >>> round(lower_bound_from_scores(values=coins + 0.2 * rng.normal(size=200), membership=coins, delta=1e-5,
    ...                               confidence=0.95), 1)
    20.7
    """
    scores, coins = e_processes.looks_of("anytime_gdp", values, membership)
    _check_units("anytime_gdp", centre, gap)
    e_processes.check_normal_level("anytime_gdp", delta=delta, confidence=confidence)
    positions, required = (scores - centre) / gap, e_processes.log_required(confidence)
    reached = first_standing(positions, coins, required, _opening("anytime_gdp", opening, required), top=len(LADDER))
    return e_processes.epsilon_of(float(LADDER[reached - 1]), delta) if reached else 0.0


def rejects(
    *,
    values: ArrayLike,
    membership: ArrayLike,
    epsilon: float,
    delta: float,
    confidence: float,
    centre: float = CENTRE,
    gap: float = GAP,
    opening: int | None = OPENING,
) -> NDArray[np.bool_]:
    """Tell for every stream, shape (…, n), whether GDP with δ(ε) = δ is refuted: the test that the bound inverts.

    The first rung at or above its μ is to be refuted with all below, each at any look.
    """
    scores, coins = e_processes.looks_of("anytime_gdp", values, membership)
    _check_units("anytime_gdp", centre, gap)
    e_processes.check_normal_level("anytime_gdp", delta=delta, confidence=confidence)
    positions, required = (scores - centre) / gap, e_processes.log_required(confidence)
    stake = _opening("anytime_gdp", opening, required)
    mu = e_processes.mu_of(doors.loss("anytime_gdp", epsilon), float(delta))
    claimed = mu / (1 + 0.5 * e_processes.SAFETY)  # raised there by twice
    top = int(np.searchsorted(LADDER, claimed))
    if top == len(LADDER):
        return np.zeros(positions.shape[:-1], dtype=bool)
    streams = positions.reshape(-1, positions.shape[-1]), coins.reshape(-1, coins.shape[-1])
    refuted = may_refute(top, *streams, required, stake)
    for number in np.flatnonzero(refuted):  # few: most streams leave the top rung standing
        stream = streams[0][number], streams[1][number]
        refuted[number] = first_standing(*stream, required, stake, top=top + 1) == top + 1
    return refuted.reshape(positions.shape[:-1])


@dataclass(slots=True, kw_only=True)
class GDPConfidenceSequence(e_processes.ConfidenceSequence):
    """The bound of `lower_bound_from_scores` after every look, from the wealths of the ladder.

    Args:
        delta: in (0, 1).
        confidence: in (0, 1), of all bounds together.
        centre: see there.
        gap: see there.
        opening: see there.

    >>> watched = GDPConfidenceSequence(delta=1e-5, confidence=0.95)
    >>> [round(watched.update(float(coin), coin), 2) for coin in [True, False, True, True, False] * 3][-4:]
    [6.31, 7.27, 8.0, 8.39]
    """

    centre: float = CENTRE
    gap: float = GAP
    opening: int | None = OPENING
    _logs: Array = field(init=False, repr=False)
    _refuted: NDArray[np.bool_] = field(init=False, repr=False)
    _wealth: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        e_processes.check_normal_level("GDPConfidenceSequence", delta=self.delta, confidence=self.confidence)
        _check_units("GDPConfidenceSequence", self.centre, self.gap)
        required = e_processes.log_required(self.confidence)
        self._logs = ladder_log_shares(_opening("GDPConfidenceSequence", self.opening, required)).copy()
        self._refuted = np.zeros(len(LADDER), dtype=bool)
        self._wealth = np.zeros(len(LADDER))

    def wealth_against(self, epsilon: float) -> tuple[float, float] | None:
        """Return the first ε on the ladder that is at least this one, and the log wealth against it after all looks.

        A bound above `epsilon` needs this wealth to have reached 1/(1 − confidence). None beyond the ladder.

        >>> watched = GDPConfidenceSequence(delta=1e-5, confidence=0.95)
        >>> watched.wealth_against(1.0)[1]
        0.0
        """
        rung = int(np.searchsorted(LADDER, e_processes.mu_of(epsilon, self.delta)))
        if rung == len(LADDER):
            return None
        return e_processes.epsilon_of(float(LADDER[rung]), self.delta), float(self._wealth[rung])

    def _bound(self, score: float, coin: bool) -> float:
        position = np.array([(score - self.centre) / self.gap])
        self._logs += log_payoffs(slice(None), position, np.array([coin]))[..., 0]
        self._wealth = log_sum(self._logs)
        self._refuted |= self._wealth >= e_processes.log_required(self.confidence)
        reached = len(LADDER) if self._refuted.all() else int(np.argmin(self._refuted))
        return e_processes.epsilon_of(float(LADDER[reached - 1]), self.delta) if reached else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnytimeGDP(Estimator):
    """The bound of `lower_bound_from_scores`, of whatever scores, against looks that are claimed to be Gaussian.

    Args:
        centre: see there.
        gap: see there.
        opening: see there.

    >>> AnytimeGDP().name
    'anytime_gdp'
    """

    designs: ClassVar[tuple[type[Design], ...]] = (Stream,)
    guarantee: ClassVar[Guarantee] = "frequentist"
    about: ClassVar[About] = "the claimed family"
    null: ClassVar[Null] = "gdp"

    centre: float = CENTRE
    gap: float = GAP
    opening: int | None = OPENING

    def __post_init__(self) -> None:
        _check_units("AnytimeGDP", self.centre, self.gap)
        stake = _opening("AnytimeGDP", self.opening, 0.0)
        object.__setattr__(self, "opening", None if stake is None else stake.guesses)

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound; of the process only that it is Gaussian is used.

        Raises:
            UnsupportedProcess: if it is anything but Gaussian mechanisms, composed and not sampled: an honest run of it
                need not be GDP with its δ(ε).
            InvalidParameter: if scores share noise.
        """
        doors.check_apart(self.name, data.scores)
        check_gaussian(self.name, process)
        return lower_bound_from_scores(
            values=data.scores.measured,
            membership=data.membership,
            delta=delta,
            confidence=confidence,
            centre=self.centre,
            gap=self.gap,
            opening=self.opening,
        )

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether GDP with δ(ε) = δ is refuted, with all below, on the ladder."""
        return at_most(epsilon, self.epsilon(data, process=process, delta=delta, confidence=confidence))

    def ceiling(self, data: LabelledScores, *, delta: float, confidence: float) -> float:
        """Return the bound if every score lay as far on its own side as counts."""
        best = np.where(data.membership, CELLS, -CELLS)
        return lower_bound_from_scores(
            values=best / LADDER[0],
            membership=data.membership,
            delta=delta,
            confidence=confidence,
            opening=self.opening,
        )


def _check_units(owner: str, centre: float, gap: float) -> None:
    e_processes.check_units(owner, centre, gap=gap)


def _opening(owner: str, guesses: int | None, required: float) -> Opening | None:
    if guesses is None:
        return None
    if (checked := validate.count(owner, "opening", guesses, least=1)) > MOST_GUESSES:
        raise InvalidParameter(f"{owner}: opening must be at most {MOST_GUESSES:,}, got more.")
    return Opening(checked, required)
