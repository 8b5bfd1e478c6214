"""How many streams ever raise an alarm at a claim that is just true, over a hundred thousand looks.

    python -m tests.audit.false_alarms [--streams N] [--looks N] [--claims EPSILON ...]

A claim is (ε, 1e-5), held at 95 %, so that at most 5 % of streams may ever alarm. Streams obey the claim, and barely:
guesses are right with probability (e^ε + δ)/(1 + e^ε); scores have the claimed μ, with fair coins for `anytime_gdp` and
the canary in at every look for `anytime_normal`. "plain" is `anytime_gdp` without an opening, of the same streams.
What it printed on 2026-11-29, in four minutes of processor time:

    2,000 streams of 100,000 looks
    epsilon detector   alarmed    s.e.   bar
          8 gdp          0.0515  0.0049  0.05
          8 plain        0.0535  0.0050  0.05
          8 guesses      0.0235  0.0034  0.05
          8 normal       0.0250  0.0035  0.05
          1 gdp          0.0260  0.0036  0.05
          1 plain        0.0260  0.0036  0.05
          1 guesses      0.0390  0.0043  0.05
          1 normal       0.0205  0.0032  0.05

The share that `anytime_gdp` may have is nearly used up where μ is large, and .0515 is within one s.e. of .05.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np

from audit.core import gdp_ladder
from audit.core.e_processes import mu_of
from audit.estimators import anytime, anytime_gdp, anytime_normal

CONFIDENCE, DELTA = 0.95, 1e-5
REQUIRED = -np.log(1 - CONFIDENCE)
BATCH, CHUNK = 100, 500

Wealths = Iterator[dict[str, np.ndarray]]


def chunks(looks: int) -> Iterator[int]:
    """Yield the sizes of chunks that add up to so many looks."""
    for start in range(0, looks, CHUNK):
        yield min(CHUNK, looks - start)


def by_guesses(claim: float, streams: int, looks: int, rng: np.random.Generator) -> Wealths:
    """Yield log wealths of `anytime`, chunk by chunk, shape (streams, looks of the chunk)."""
    right, seen = np.zeros((streams, 1)), 0
    odds = (np.exp(claim) + DELTA) / (1 + np.exp(claim))
    for size in chunks(looks):
        count = right + np.cumsum(rng.random((streams, size)) < odds, axis=1)
        number = seen + np.arange(1.0, size + 1)
        yield {"guesses": anytime.log_wealth(count, number - count, number, claim, DELTA)}
        right, seen = count[:, -1:], seen + size


def by_normal_scores(claim: float, streams: int, looks: int, rng: np.random.Generator) -> Wealths:
    """Yield log wealths of `anytime_normal`."""
    mu, total, seen = mu_of(claim, DELTA), np.zeros((streams, 1)), 0
    for size in chunks(looks):
        sums = total + np.cumsum(rng.normal(mu, size=(streams, size)), axis=1)
        yield {"normal": anytime_normal.log_wealth(sums, seen + np.arange(1.0, size + 1), mu)}
        total, seen = sums[:, -1:], seen + size


def by_gdp_scores(claim: float, streams: int, looks: int, rng: np.random.Generator) -> Wealths:
    """Yield log wealths of `anytime_gdp` with and without its opening."""
    mu = mu_of(claim, DELTA)
    payoffs = gdp_ladder.payoffs_against(mu)
    openings = {"gdp": gdp_ladder.Opening(anytime_gdp.OPENING, REQUIRED), "plain": None}
    shares = {name: gdp_ladder.log_shares_against(np.array([mu]), one)[0] for name, one in openings.items()}
    logs = np.zeros((len(payoffs), streams, 1))
    for size in chunks(looks):
        coins = rng.random((streams, size)) < 0.5
        positions = coins + rng.normal(size=coins.shape) / mu - anytime_gdp.CENTRE
        paid = []
        for one in payoffs:
            cells = one.cells(positions)
            paid.append(np.cumsum(np.where(coins, one.included[cells], one.excluded[cells]), axis=1))
        grown = logs + np.array(paid)
        yield {name: capped_sum(grown + share[:, None, None]) for name, share in shares.items()}
        logs = grown[..., -1:]


def capped_sum(logs: np.ndarray) -> np.ndarray:
    """Return the log of the sum over the first axis, −inf where even all terms like the largest are no alarm."""
    largest = np.max(logs, axis=0)
    near = largest >= REQUIRED - np.log(len(logs)) - 1e-9
    total = np.full(largest.shape, -np.inf)
    total[near] = np.logaddexp.reduce(logs[:, near], axis=0)
    return total


LAWS: tuple[Callable[..., Wealths], ...] = (by_gdp_scores, by_guesses, by_normal_scores)


def shares_alarmed(claim: float, streams: int, looks: int, law: Callable[..., Wealths]) -> dict[str, float]:
    """Return for each detector of a law the share of streams whose wealth ever reaches 1/α."""
    alarmed: dict[str, int] = {}
    for number, start in enumerate(range(0, streams, BATCH)):
        rng, size = np.random.default_rng([int(10 * claim), LAWS.index(law), number]), min(BATCH, streams - start)
        found: dict[str, np.ndarray] = {}
        for wealths in law(claim, size, looks, rng):
            for name, wealth in wealths.items():
                found[name] = found.get(name, False) | (wealth >= REQUIRED).any(axis=1)
        alarmed = {name: alarmed.get(name, 0) + int(hit.sum()) for name, hit in found.items()}
    return {name: count / streams for name, count in alarmed.items()}


def main() -> None:
    """Print a line for each claim and detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--looks", type=int, default=100_000)
    parser.add_argument("--claims", type=float, nargs="+", default=[1.0, 8.0])
    asked = parser.parse_args()
    print(f"{asked.streams:,} streams of {asked.looks:,} looks\nepsilon detector   alarmed    s.e.   bar")
    for claim in asked.claims:
        for law in LAWS:
            for name, share in shares_alarmed(claim, asked.streams, asked.looks, law).items():
                error = np.sqrt(share * (1 - share) / asked.streams)
                print(f"{claim:7.0f} {name:8} {share:10.4f} {error:7.4f} {1 - CONFIDENCE:5.2f}", flush=True)


if __name__ == "__main__":
    main()
