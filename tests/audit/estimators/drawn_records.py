"""What canaries show of noise where their records are drawn in other ways than by Poisson samples, run by run."""

import numpy as np

from audit.estimators.accountant_inversion import rejects

CANARIES, KNOWN, STEPS, PARTS, NOISE = 40, 20, 8, 2, 0.7
UNITS, BATCH = CANARIES + KNOWN, (CANARIES + KNOWN) // PARTS
MEMBERSHIP = np.arange(CANARIES) % 2 == 0
LEVEL, SIMULATIONS = 0.05, 2_000


def fixed_size(rng, runs):
    ranks = rng.random((runs, STEPS, UNITS)).argsort(axis=2)
    return ranks < BATCH


def with_replacement(rng, runs):
    return rng.multinomial(BATCH, np.full(UNITS, 1 / UNITS), (runs, STEPS))


def truncated(rng, runs):
    """Cut often: the largest batch is the expected one."""
    coins = rng.random((runs, STEPS, UNITS)) < 1 / PARTS
    order = np.where(coins, rng.random(coins.shape), 2.0).argsort(axis=2).argsort(axis=2)
    return coins & (order < BATCH)


def shuffled(rng, runs):
    ranks = rng.random((runs, STEPS // PARTS, 1, UNITS)).argsort(axis=3)
    parts = np.arange(PARTS)[:, None]
    return (ranks // BATCH == parts).reshape(runs, STEPS, UNITS)


def balls_in_bins(rng, runs):
    bins = rng.integers(PARTS, size=(runs, STEPS // PARTS, 1, UNITS))
    return (bins == np.arange(PARTS)[:, None]).reshape(runs, STEPS, UNITS)


SCHEMES = [fixed_size, with_replacement, truncated, shuffled, balls_in_bins]


def projections(scheme, runs=SIMULATIONS, *, contribution=1.0, noise=NOISE, gradients=False, seed=3):
    """Return those of every step on the canaries' coordinates, shape (runs, T, m); canaries that are out hold places.

    With `gradients` known records of norm 1 take part too, and their sum is subtracted as it is expected.
    """
    rng = np.random.default_rng(seed)
    drawn = scheme(rng, runs).astype(float)
    seen = contribution * drawn[..., :CANARIES] * MEMBERSHIP + rng.normal(0, noise, (runs, STEPS, CANARIES))
    if gradients:
        known = rng.normal(size=(KNOWN, CANARIES))
        known /= np.linalg.norm(known, axis=1, keepdims=True)
        seen += (drawn[..., CANARIES:] - drawn.mean()) @ known
    return seen


def asked_of(seen):
    """Return what the test is asked about: gap, deviation and squares of many runs."""
    sums, out = seen.sum(axis=1), ~MEMBERSHIP
    return {
        "gap": sums[:, MEMBERSHIP].mean(axis=1) - sums[:, out].mean(axis=1),
        "deviation": sums[:, out].std(axis=1, ddof=1),
        "squares": np.square(seen[:, :, out]).sum(axis=(1, 2)),
        "degrees": int(out.sum()) * STEPS,
        "included": int(MEMBERSHIP.sum()),
        "excluded": int(out.sum()),
        "probability": 1 / PARTS,
        "steps": STEPS,
        "samples": "other",
    }


def share_refuted(seen, *, tested=NOISE, level=LEVEL):
    return rejects(**asked_of(seen), noise_multiplier=tested, confidence=1 - level).mean()
