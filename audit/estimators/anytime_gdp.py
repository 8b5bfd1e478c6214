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
[NP33]. At ε = 8, δ = 1e-5, half the noise and 5 %: D = .122, 24.6 looks on average, and at most 47 % found out after
12. So no valid test has a median below 13, and one that comes near must stake all on a few looks: with all on every
guess, at the odds 1/Φ(μ/2), 14 right ones in a row suffice, of which the chance is .503, and one wrong guess ruins it.
The ln(1/α)/(μ²/8) = 8.6 looks that are enough to tell N(±μ, 1) from N(±μ/2, 1) are for known laws: other μ-GDP pairs,
with more mass where the feared ones have theirs, are nearer. That is the price of assuming nothing of the scores.

[NP33] J. Neyman, E. S. Pearson. On the Problem of the Most Efficient Tests of Statistical Hypotheses. Phil. Trans. R.
Soc. A 231 (1933).
[W45] A. Wald. Sequential Tests of Statistical Hypotheses. Annals of Mathematical Statistics 16 (1945).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.core import e_processes
from audit.core.described import check_gaussian
from audit.core.payoffs import CELLS, Payoffs, against_gaussian
from audit.evidence import About, Estimator, Guarantee, Null
from audit.scores import Design, LabelledScores, Stream
from mechanisms.core import validate
from mechanisms.core.process import Process

Array = NDArray[np.float64]
RATIOS = np.array([0.0025, 0.01, 0.03, 0.1, 0.25, 0.45, 0.7, 0.8, 0.9])  # noise feared ÷ noise claimed; the first
SHARES = np.array([2, 2, 2, 2, 10, 100, 15, 15, 15]) / 163  # four clear the low rungs of the ladder early
LOUDEST = 40.0  # no μ feared is larger: scores so far apart are all equally convincing
RUNG = 1.02  # bounds lie up to 2 % of μ below what is refuted
LADDER = 10.0 * RUNG ** np.arange(-325.0, 1.0)
CLEAR = 1e-6  # of log wealth, far above the error of sums of a million looks
CENTRE, GAP = 0.5, 1.0  # out-scores about 0 and in-scores about 1: projections in units of the clip norm


def lower_bound_from_scores(
    *,
    values: ArrayLike,
    membership: ArrayLike,
    delta: float,
    confidence: float,
    centre: float = CENTRE,
    gap: float = GAP,
) -> float:
    """Return ε at `delta` of the largest μ refuted at any look, 0 if none is.

    Args:
        values: shape (n,), scores in the order of the looks, in any unit.
        membership: bool (n,), True where the canary was in.
        delta: in (0, 1).
        confidence: in (0, 1), one-sided.
        centre: the score half-way between the worlds, fixed beforehand.
        gap: by how much in-scores are expected above out-scores, > 0, fixed beforehand.

    Guarantees: at most the ε of every μ-GDP computation with probability `confidence`, whatever its scores and whenever
    one stops, if each look is μ-GDP given the earlier ones and has a fair coin of its own. It is a statement about
    GDP: a computation that is (ε, δ)-private, but not GDP with that δ(ε), may give more.

    Raises:
        InvalidParameter: if there are no scores, one is not finite, or a number breaks its rule.

    >>> rng = np.random.default_rng(1)
    >>> coins = rng.random(200) < 0.5
    >>> round(lower_bound_from_scores(values=coins + 0.2 * rng.normal(size=200), membership=coins, delta=1e-5,
    ...                               confidence=0.95), 1)
    21.0
    """
    scores, coins = e_processes.looks_of("anytime_gdp", values, membership)
    _check_units("anytime_gdp", centre, gap)
    e_processes.check_normal_level("anytime_gdp", delta=delta, confidence=confidence)
    positions, required, reached = (scores - centre) / gap, e_processes.log_required(confidence), 0
    while reached < len(LADDER) and _rung_refuted(reached, positions, coins, required):
        reached += 1
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
) -> NDArray[np.bool_]:
    """Tell for every stream, shape (…, n), whether GDP with δ(ε) = δ is refuted: the test that the bound inverts.

    The first rung at or above its μ is to be refuted with all below, each at any look.
    """
    scores, coins = e_processes.looks_of("anytime_gdp", values, membership)
    _check_units("anytime_gdp", centre, gap)
    e_processes.check_normal_level("anytime_gdp", delta=delta, confidence=confidence)
    positions, required = (scores - centre) / gap, e_processes.log_required(confidence)
    claimed = e_processes.mu_of(float(epsilon), float(delta)) / (1 + 0.5 * e_processes.SAFETY)  # raised there by twice
    top = int(np.searchsorted(LADDER, claimed))
    if top == len(LADDER):
        return np.zeros(positions.shape[:-1], dtype=bool)
    streams = positions.reshape(-1, positions.shape[-1]), coins.reshape(-1, coins.shape[-1])
    logs = np.array(_wealths(_each(_ladder_payoffs(), top), *streams))
    refuted = np.array([e_processes.reaches(logs[:, number], required) for number in range(logs.shape[1])], dtype=bool)
    for number in np.flatnonzero(refuted):  # few: most streams leave the top rung standing
        likely = np.unravel_index(np.argmax(logs[:, number]), logs[:, number].shape)
        refuted[number] = _all_refuted(top, streams[0][number], streams[1][number], required, *map(int, likely))
    return refuted.reshape(positions.shape[:-1])


def log_wealth(positions: Array, membership: NDArray[np.bool_], *, mu: float) -> Array:
    """Return the log wealth against μ-GDP after every look, shape (…, n), for scores in gaps from the centre.

    Beyond the ladder's ends it is that against the first rung, and 0.
    """
    if mu > LADDER[-1]:
        return np.zeros(np.shape(positions))
    wealths = _wealths(payoffs_against(max(mu, float(LADDER[0]))), positions, membership)
    return np.asarray(np.logaddexp.reduce(wealths, axis=0))


@dataclass(slots=True, kw_only=True)
class GDPConfidenceSequence(e_processes.ConfidenceSequence):
    """The bound of `lower_bound_from_scores` after every look, from the wealths of the ladder.

    Args:
        delta: in (0, 1).
        confidence: in (0, 1), of all bounds together.
        centre: see there.
        gap: see there.

    >>> watched = GDPConfidenceSequence(delta=1e-5, confidence=0.95)
    >>> [round(watched.update(float(coin), coin), 2) for coin in [True, False, True, True, False] * 3][-4:]
    [5.55, 6.54, 7.36, 7.9]
    """

    centre: float = CENTRE
    gap: float = GAP
    _logs: Array = field(init=False, repr=False)
    _refuted: NDArray[np.bool_] = field(init=False, repr=False)
    _wealth: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        e_processes.check_normal_level("GDPConfidenceSequence", delta=self.delta, confidence=self.confidence)
        _check_units("GDPConfidenceSequence", self.centre, self.gap)
        self._logs = np.tile(np.log(SHARES), (len(LADDER), 1))
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
        payoffs = _ladder_payoffs()
        cells = payoffs.cells(np.asarray((score - self.centre) / self.gap))[..., None]
        paid = np.take_along_axis(payoffs.included if coin else payoffs.excluded, cells, axis=-1)
        self._logs += paid[..., 0]
        largest = self._logs.max(axis=1)
        self._wealth = largest + np.log(np.exp(self._logs - largest[:, None]).sum(axis=1))
        self._refuted |= self._wealth >= e_processes.log_required(self.confidence)
        reached = len(LADDER) if self._refuted.all() else int(np.argmin(self._refuted))
        return e_processes.epsilon_of(float(LADDER[reached - 1]), self.delta) if reached else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnytimeGDP(Estimator):
    """The bound of `lower_bound_from_scores`, of whatever scores, against looks that are claimed to be Gaussian.

    Args:
        centre: see there.
        gap: see there.

    >>> AnytimeGDP().name
    'anytime_gdp'
    """

    designs: ClassVar[tuple[type[Design], ...]] = (Stream,)
    guarantee: ClassVar[Guarantee] = "frequentist"
    about: ClassVar[About] = "the claimed family"
    null: ClassVar[Null] = "gdp"

    centre: float = CENTRE
    gap: float = GAP

    def __post_init__(self) -> None:
        _check_units("AnytimeGDP", self.centre, self.gap)

    def epsilon(self, data: LabelledScores, *, process: Process, delta: float, confidence: float) -> float:
        """Return the bound; of the process only that it is Gaussian is used.

        Raises:
            UnsupportedProcess: if it is anything but Gaussian mechanisms, composed and not sampled: an honest run of it
                need not be GDP with its δ(ε).
        """
        check_gaussian(self.name, process)
        return lower_bound_from_scores(
            values=data.scores.measured,
            membership=data.membership,
            delta=delta,
            confidence=confidence,
            centre=self.centre,
            gap=self.gap,
        )

    def rejects(
        self, data: LabelledScores, epsilon: ArrayLike, *, process: Process, delta: float, confidence: float
    ) -> NDArray[np.bool_]:
        """Tell, elementwise, whether GDP with δ(ε) = δ is refuted, with all below, on the ladder."""
        found = self.epsilon(data, process=process, delta=delta, confidence=confidence)
        refuted: NDArray[np.bool_] = (np.asarray(epsilon, dtype=np.float64) <= found) & (found > 0)
        return refuted

    def ceiling(self, data: LabelledScores, *, delta: float, confidence: float) -> float:
        """Return the bound if every score lay as far on its own side as counts."""
        best = np.where(data.membership, CELLS, -CELLS)
        return lower_bound_from_scores(
            values=best / LADDER[0], membership=data.membership, delta=delta, confidence=confidence
        )


def _check_units(owner: str, centre: float, gap: float) -> None:
    validate.finite(owner, "centre", centre)
    validate.positive(owner, "gap", gap)


@lru_cache(maxsize=256)
def payoffs_against(mu: float) -> tuple[Payoffs, ...]:
    """Return the payoffs against μ-GDP, one for each of `RATIOS`, where μ lies on the ladder or between its rungs."""
    return _each(_against(np.array([mu])), 0)


@lru_cache(maxsize=1)
def _ladder_payoffs() -> Payoffs:
    return _against(LADDER)


def _against(mu: Array) -> Payoffs:
    """Return the payoffs against every μ and ratio, of shape (len(mu), len(RATIOS))."""
    claimed = np.repeat(mu, len(RATIOS))
    found = against_gaussian(claimed, np.minimum(claimed / np.tile(RATIOS, len(mu)), LOUDEST))
    return found.at((np.arange(len(claimed)).reshape(len(mu), len(RATIOS)),))


def _each(payoffs: Payoffs, row: int) -> tuple[Payoffs, ...]:
    return tuple(payoffs.at((row, ratio)) for ratio in range(len(RATIOS)))


def _rung_refuted(rung: int, positions: Array, membership: NDArray[np.bool_], required: float) -> bool:
    """Tell whether a stream, shape (n,), refutes a rung of the ladder at any look."""
    return e_processes.reaches(np.array(_wealths(_each(_ladder_payoffs(), rung), positions, membership)), required)


def _all_refuted(
    top: int, positions: Array, membership: NDArray[np.bool_], required: float, ratio: int, look: int
) -> bool:
    """Tell whether a stream, shape (n,), refutes all rungs below one.

    Where one ratio's wealth after one look is more than enough, which others only add to, no further look is taken.
    `ratio` and `look`, those of the largest wealth against the rung above, are where that is tried first.
    """
    left, then = np.arange(top), slice(look + 1)
    for one in (*range(ratio, -1, -1), *range(ratio + 1, len(RATIOS))):
        wealth = _ladder_payoffs().at((left, one)).total(positions[then], membership[then]) + np.log(SHARES[one])
        left = left[wealth < required + CLEAR]
    return all(_rung_refuted(int(rung), positions, membership, required) for rung in left)


def _wealths(payoffs: tuple[Payoffs, ...], positions: Array, membership: NDArray[np.bool_]) -> list[Array]:
    """Return the logs of each ratio's share of the average wealth after every look."""
    wealths = []
    for one, share in zip(payoffs, SHARES, strict=True):
        cells = one.cells(positions)
        paid = np.where(membership, one.included[cells], one.excluded[cells])
        wealths.append(np.cumsum(paid, axis=-1) + np.log(share))
    return wealths
