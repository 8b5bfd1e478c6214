"""Median numbers of looks after which too little noise is found out, beside theory.

    python -m tests.audit.detection_times [--streams N]

A look is one white-box score of one canary: in 1, out 0, plus noise. The claim is (ε, 1e-5) of one normal step; the
noise is `ratio` times what it needs. "Plain" is `anytime_gdp` without an opening. "Kelly" is ln 20 over the growth a
look of the fastest payoffs for that ratio, hence about the mean for one who knows it, and "floor" the looks in which
guesses that are all right would do, at odds 1/Φ(μ/2); "by then" is how often `anytime_gdp` has found it out. At ε = 8
that is .503 for half the noise: its median is 14, which of few streams may lie far above where some more are unlucky.
"Known" is ln 20 over the growth for one who knows the noise, where the canary is in at every look.
"""

import argparse
from collections.abc import Callable

import numpy as np
from scipy import special

from audit.core import gdp_ladder
from audit.core.e_processes import mu_of
from audit.core.payoffs import CELLS, against_gaussian
from audit.estimators import anytime, anytime_gdp, anytime_normal

CLAIMS, RATIOS, DELTA = (8.0, 4.0, 1.0), (0.9, 0.8, 0.7, 0.5, 0.25), 1e-5
REQUIRED = np.log(20.0)
CHUNK = 256
HORIZON = 60_000

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]


def times(step: Run, state: np.ndarray, claim: float, ratio: float, rng, *, always_in=False, horizon=HORIZON):
    """Return for every stream the look at which wealth first reaches 20, `horizon` + 1 if it does not.

    `step` maps the states of the streams, changed in place, and the scores and coins of some looks to log wealths.
    """
    streams, noise = len(state), ratio / mu_of(claim, DELTA)
    found, alive = np.full(streams, horizon + 1), np.arange(streams)
    for start in range(0, horizon, CHUNK):
        coins = np.ones((len(alive), CHUNK), bool) if always_in else rng.random((len(alive), CHUNK)) < 0.5
        state_alive = state[alive]
        wealth = step(state_alive, coins + noise * rng.normal(size=coins.shape), coins)
        state[alive] = state_alive
        hit = wealth >= REQUIRED
        found[alive] = np.where(hit.any(axis=1), start + 1 + np.argmax(hit, axis=1), found[alive])
        alive = alive[~hit.any(axis=1)]
        if len(alive) < streams // 2 - 1:
            break
    return found


def gdp_times(claim, ratio, streams, rng, opening=anytime_gdp.OPENING):
    """Return the times of `anytime_gdp`, whose state is one log wealth for every ratio it fears."""
    mu = mu_of(claim, DELTA)
    payoffs = gdp_ladder.payoffs_against(mu)
    staked = None if opening is None else gdp_ladder.Opening(opening, REQUIRED)
    shares = gdp_ladder.log_shares_against(np.array([mu]), staked)[0]

    def step(state, scores, coins):
        total = np.full(scores.shape, -np.inf)
        for index, one in enumerate(payoffs):
            cells = one.cells(scores - anytime_gdp.CENTRE)
            logs = state[:, index, None] + np.cumsum(np.where(coins, one.included[cells], one.excluded[cells]), axis=1)
            state[:, index] = logs[:, -1]
            total = np.logaddexp(total, logs)
        return total

    return times(step, np.tile(shares, (streams, 1)), claim, ratio, rng)


def normal_times(claim, ratio, streams, rng):
    """Return the times of `anytime_normal`, with the canary in at every look, whose state is the sum and the number."""
    mu = mu_of(claim, DELTA)

    def step(state, scores, coins):
        total = state[:, :1] + np.cumsum(scores * mu / ratio, axis=1)
        count = state[:, 1:] + np.cumsum(coins, axis=1)
        state[:] = np.stack([total[:, -1], count[:, -1]], axis=1)
        return anytime_normal.log_wealth(total, count, mu)

    return times(step, np.zeros((streams, 2)), claim, ratio, rng, always_in=True)


def guess_times(claim, ratio, streams, rng):
    """Return the times of `anytime`, whose state is the numbers of right and wrong guesses."""

    def step(state, scores, coins):
        right = (scores >= 0.5) == coins
        counts = state[:, :1] + np.cumsum(right, axis=1), state[:, 1:] + np.cumsum(~right, axis=1)
        state[:] = np.stack([counts[0][:, -1], counts[1][:, -1]], axis=1)
        return anytime.log_wealth(*counts, counts[0] + counts[1], claim, DELTA)

    return times(step, np.zeros((streams, 2)), claim, ratio, rng, horizon=4_000)


def kelly(claim, ratio):
    """Return ln 20 over the largest growth a look of one who knows the ratio, against the GDP null."""
    mu = np.array([mu_of(claim, DELTA)])
    payoffs = against_gaussian(mu, mu / ratio)
    edges = payoffs.limit * mu / ratio * np.linspace(-1, 1, CELLS - 1)
    masses = np.diff(np.concatenate([[0.0], special.ndtr(edges - mu / ratio / 2), [1.0]]))
    return REQUIRED / float(0.5 * masses @ payoffs.included[0] + 0.5 * masses[::-1] @ payoffs.excluded[0])


def floor(claim):
    """Return the least number of looks that any test of the GDP null needs."""
    return int(np.ceil(REQUIRED / -special.log_ndtr(mu_of(claim, DELTA) / 2)))


def shown(found, horizon):
    """Return the median as text."""
    median = float(np.median(found))
    return f"> {horizon:,}" if median > horizon else f"{median:,.0f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    streams = parser.parse_args().streams
    print("epsilon ratio |    gdp  plain  Kelly  floor by then | normal   known | guesses")
    for claim in CLAIMS:
        mu = mu_of(claim, DELTA)
        for ratio in RATIOS:
            rng = np.random.default_rng([int(claim), int(100 * ratio)])
            found = gdp_times(claim, ratio, streams, rng)
            gdp, least = shown(found, HORIZON), floor(claim)
            plain = shown(gdp_times(claim, ratio, streams, rng, None), HORIZON)
            normal = shown(normal_times(claim, ratio, streams, rng), HORIZON)
            guesses = shown(guess_times(claim, ratio, min(streams, 200), rng), 4_000)
            known = REQUIRED / (0.5 * (mu / ratio - mu) ** 2)
            print(
                f"{claim:7.0f} {ratio:5.2f} | {gdp:>6} {plain:>6} {kelly(claim, ratio):6,.0f} {least:6} "
                f"{np.mean(found <= least):7.3f} "
                f"| {normal:>6} {known:7,.1f} | {guesses:>7}",
                flush=True,
            )


if __name__ == "__main__":
    main()
