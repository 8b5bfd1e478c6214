"""Wealth against every μ-GDP of a ladder of μ, and which rungs a stream of scores refutes.

Against a rung are staked, in shares fixed beforehand, the payoffs of `audit.core.payoffs` for several ratios of the
noise feared to the noise claimed. Ratio 0 is to stake all on every guess: it pays 1/Φ(μ/2) for a right one, and next to
nothing from the first wrong one on. It has a share where an opening is asked for: so large that so many right guesses
in a row refute a rung, where `MOST_STAKED` of the wealth is enough for that. Beyond they cannot, and the higher the
rung the less is staked. The price, that wealth for all else, is nearly nothing on low rungs and on those far beyond;
between them it is as large as the docstring of `audit.estimators.anytime_gdp` says.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from audit.core import e_processes
from audit.core.payoffs import CELLS, Payoffs, against_gaussian, cells_within

Array = NDArray[np.float64]
RATIOS = np.array([0.0, 0.0025, 0.01, 0.03, 0.1, 0.25, 0.45, 0.7, 0.8, 0.9])
USUAL = np.array([0, 2, 2, 2, 2, 10, 100, 15, 15, 15]) / 163  # four after the first clear low rungs early
SPARE = np.array([0, 1, 1, 1, 2, 6, 20, 25, 25, 25]) / 106  # of what is left where most is staked on all guesses
LOUDEST = 1e4  # no μ feared is larger: scores so far apart are all equally convincing
EIGHT = 1.66604  # a rung: 8.00005 at δ = 1e-5
RUNG = 1.02  # bounds lie up to 2 % of μ below what is refuted
LADDER = EIGHT * RUNG ** np.arange(-235.0, 91.0)
MOST_STAKED = 0.85  # of the wealth, on an opening
SLACK = 1 + 1e-5  # by which payoffs for all right guesses fall short of 1/Φ(μ/2), and more
BLOCK, FIRST_LOOKS = 32, 64


class Opening(NamedTuple):
    """So many right guesses in a row are to refute: to bring the wealth to e^required."""

    guesses: int
    required: float


def log_shares_against(mu: Array, opening: Opening | None = None) -> Array:
    """Return ln of what is staked on each of `RATIOS` against every μ, shape (len(mu), len(RATIOS)), adding up to 1.

    >>> opening = Opening(guesses=14, required=-math.log(0.05))
    >>> np.exp(log_shares_against(np.array([0.268, 0.925, 1.66604, 3.0]), opening))[:, 0].round(4)
    array([0.005 , 0.087 , 0.8431, 0.0951])
    """
    staked = np.zeros((len(mu), 1))
    if opening is not None:
        needed = opening.required + opening.guesses * special.log_ndtr(mu / 2) + math.log(SLACK)
        most = math.log(MOST_STAKED)
        staked = np.exp(most - np.abs(needed - most))[:, None]
    shares: Array = (1 - staked) * ((1 - staked) * USUAL + staked * SPARE)
    shares[:, :1] += staked
    with np.errstate(divide="ignore"):  # −inf where nothing is staked
        return np.log(shares)


@lru_cache(maxsize=256)
def payoffs_against(mu: float) -> tuple[Payoffs, ...]:
    """Return the payoffs against μ-GDP, one for each of `RATIOS`, where μ lies on the ladder or between its rungs."""
    return _each(_against(np.array([mu])), 0)


def log_wealth(positions: Array, membership: NDArray[np.bool_], *, mu: float, opening: Opening | None = None) -> Array:
    """Return the log wealth against μ-GDP after every look, shape (…, n), for scores in gaps from the centre.

    Beyond the ladder's ends it is that against the first rung, and 0.
    """
    if mu > LADDER[-1]:
        return np.zeros(np.shape(positions))
    against = max(mu, float(LADDER[0]))
    shares = log_shares_against(np.array([against]), opening)[0]
    wealth: Array = np.logaddexp.reduce(_wealths(payoffs_against(against), shares, positions, membership), axis=0)
    return wealth


def may_refute(
    rung: int, positions: Array, membership: NDArray[np.bool_], required: float, opening: Opening | None
) -> NDArray[np.bool_]:
    """Tell for every stream, shape (k, n), whether its wealth against one rung comes near e^required at any look."""
    shares = ladder_log_shares(opening)[rung]
    logs = np.array(_wealths(_each(ladder_payoffs(), rung), shares, positions, membership))
    near = required - e_processes.OPEN
    return np.array([e_processes.reaches(logs[:, number], near) for number in range(logs.shape[1])], dtype=bool)


def first_standing(
    positions: Array, membership: NDArray[np.bool_], required: float, opening: Opening | None, *, top: int
) -> int:
    """Return the first rung below `top` that a stream, shape (n,), does not refute at any look; `top` if there is none.

    Most rungs fall early, few need all looks: a block of rungs is held against ever more looks until it has fallen.
    """
    for start in range(0, top, BLOCK):
        rungs = np.arange(start, min(start + BLOCK, top))
        standing = _standing(rungs, ladder_log_shares(opening)[rungs], positions, membership, required)
        if standing.size:
            return int(standing[0])
    return top


def _standing(
    rungs: NDArray[np.intp], logs: Array, positions: Array, membership: NDArray[np.bool_], required: float
) -> NDArray[np.intp]:
    """Return those of the rungs that no look refutes, of the log shares `logs`."""
    begun, looks = 0, FIRST_LOOKS
    while rungs.size and begun < len(positions):
        paid = log_payoffs(rungs, positions[begun : begun + looks], membership[begun : begun + looks])
        wealths = logs[..., None] + np.cumsum(paid, axis=-1)
        standing = np.max(log_sum(wealths), axis=-1) < required
        rungs, logs = rungs[standing], wealths[standing, :, -1]
        begun, looks = begun + looks, 2 * looks
    return rungs


def log_payoffs(rungs: NDArray[np.intp] | slice, positions: Array, membership: NDArray[np.bool_]) -> Array:
    """Return the log payoffs of looks, shape (n,), against rungs, for every ratio: (rungs, len(RATIOS), n)."""
    limit, payoffs = ladder_payoffs().limit[rungs], _by_coin()[rungs]
    places = cells_within(limit[..., None], positions) + CELLS * membership
    paid: Array = np.take_along_axis(payoffs, places, axis=-1)
    return paid


def log_sum(logs: Array) -> Array:
    """Return the log of the sum over the second axis of what `logs`, (rungs, len(RATIOS), …), are the logarithms of."""
    largest = np.max(logs, axis=1)
    total: Array = largest + np.log(np.sum(np.exp(logs - largest[:, None]), axis=1))
    return total


@lru_cache(maxsize=1)
def ladder_payoffs() -> Payoffs:
    """Return the payoffs against every rung, of shape (len(LADDER), len(RATIOS))."""
    return _against(LADDER)


@lru_cache(maxsize=8)
def ladder_log_shares(opening: Opening | None) -> Array:
    """Return `log_shares_against` every rung, which nobody may write on."""
    shares = log_shares_against(LADDER, opening)
    shares.flags.writeable = False
    return shares


@lru_cache(maxsize=1)
def _by_coin() -> Array:
    """Return the log payoffs against every rung, those of an excluded canary before those of an included one."""
    payoffs = ladder_payoffs()
    return np.concatenate([payoffs.excluded, payoffs.included], axis=-1)


def _against(mu: Array) -> Payoffs:
    """Return the payoffs against every μ and ratio, of shape (len(mu), len(RATIOS))."""
    claimed, ratios = np.repeat(mu, len(RATIOS)), np.tile(RATIOS, len(mu))
    feared = np.divide(claimed, ratios, out=np.full_like(claimed, np.inf), where=ratios > 0)
    found = against_gaussian(claimed, np.minimum(feared, LOUDEST))
    shape = (len(mu), len(RATIOS))
    return Payoffs(
        limit=found.limit.reshape(shape),
        included=found.included.reshape(*shape, CELLS),
        excluded=found.excluded.reshape(*shape, CELLS),
    )


def _each(payoffs: Payoffs, row: int) -> tuple[Payoffs, ...]:
    rows = zip(payoffs.limit[row], payoffs.included[row], payoffs.excluded[row], strict=True)
    return tuple(Payoffs(limit=limit, included=included, excluded=excluded) for limit, included, excluded in rows)


def _wealths(
    payoffs: tuple[Payoffs, ...], shares: Array, positions: Array, membership: NDArray[np.bool_]
) -> list[Array]:
    """Return the logs of what every share, given by its log, has grown to after every look."""
    wealths = []
    for one, share in zip(payoffs, shares, strict=True):
        cells = one.cells(positions)
        paid = np.where(membership, one.included[cells], one.excluded[cells])
        wealths.append(np.cumsum(paid, axis=-1) + share)
    return wealths
