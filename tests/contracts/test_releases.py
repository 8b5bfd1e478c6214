"""What releases show is what is described: δ(ε) from draws for neighbours, beside the certified δ(ε) of every pair.

Draws of both neighbours are sorted into cells by a fixed rule. From a fifth of them an event is taken, the cells that
were more than e^ε times as frequent; from the others, exact binomial limits of its two probabilities, at an error of
10^-6 together, and with them of P(event) − e^ε Q(event), which is no larger than δ(ε). From above, of all events that
the first fifth puts into an order, the one that may show most.
"""

import dataclasses
import functools
import math

import numpy as np
import pytest
from scipy import special

from mechanisms import (
    Adjacency,
    BoundedGaussian,
    BoundedLaplace,
    DPError,
    Exponential,
    Gaussian,
    KeyedSource,
    RandomizedResponse,
    SparseVector,
    UnsupportedProcess,
)
from mechanisms.core.bounds import Bounds
from mechanisms.core.candidates import Choice
from tests.contracts.coarse import profile
from tests.contracts.neighbours import NEIGHBOURS, ONE
from tests.contracts.test_bad_input import FOUND, RUNNING

EPSILONS = (0.0, 0.2, 0.5, 1.0, 2.0, 3.0)
ERROR, SEARCHED = 1e-6, 0.2
MANY, SOME, FEW = 50_000, 1_800, 600
SINGLE = [key for key, known in NEIGHBOURS.items() if not known.many]
ARRAYS = [key for key, known in NEIGHBOURS.items() if known.many]
SHOWN = [key for key, known in NEIGHBOURS.items() if known.shown]


@functools.cache
def limits(hits, n):
    """Return Clopper–Pearson limits of a probability, each wrong with probability at most half of the error."""
    alpha = ERROR / 2
    lower = special.betaincinv(hits, n - hits + 1, alpha) if hits else 0.0
    upper = special.betaincinv(hits + 1, n - hits, 1 - alpha) if hits < n else 1.0
    return lower, upper


def parts(one, other):
    """Return how often each cell was seen among the first draws, and among the others: shape (2, cells) each."""
    size = 1 + max(one.max(), other.max())
    cut = int(SEARCHED * len(one))
    return (
        np.array([np.bincount(cells[where], minlength=size) for cells in (one, other)])
        for where in (slice(cut), slice(cut, None))
    )


def at_least(one, other, epsilon):
    """Return what the event that the first draws suggest shows at least, of P(event) − e^ε Q(event)."""
    searched, rest = parts(one, other)
    hits = rest[:, searched[0] > math.exp(epsilon) * searched[1]].sum(axis=1)
    n = rest[0].sum()
    return limits(hits[0], n)[0] - math.exp(epsilon) * limits(hits[1], n)[1]


def at_most(one, other, epsilon):
    """Return what the best of the events of cells shows at most, which the first draws put into an order."""
    searched, rest = parts(one, other)
    order = np.argsort(-(searched[0] + 0.5) / (searched[1] + 0.5), kind="stable")
    n, sums = rest[0].sum(), np.cumsum(rest[:, order], axis=1).T
    shown = [limits(p, n)[1] - math.exp(epsilon) * limits(q, n)[0] for p, q in sums]
    return max(*shown, limits(0, n)[1])  # as much as an event that was never seen


def drawn(key, n):
    """Return the cells of n releases of both neighbours."""
    known = NEIGHBOURS[key]
    return tuple(known.cell(outputs(*first(known.mechanism, value), n)) for value in (known.one, known.other))


def first(mechanism, value):
    """Return where an input of a mechanism comes first, so that it is released but once."""
    for key, known in NEIGHBOURS.items():
        for which, one in enumerate((known.one, known.other)):
            if known.mechanism == mechanism and repr(one) == repr(value):
                return key, which
    raise AssertionError


@functools.cache
def outputs(key, which, n):
    known = NEIGHBOURS[key]
    return known.outputs((known.one, known.other)[which], n, KeyedSource(f"{key} {which}"))


def described(mechanism, adjacency, epsilon):
    """Return upper ends of δ(ε) in both orders of the neighbours, by pairs and, where there are steps, by accountants.

    Raises:
        UnsupportedProcess: if nothing describes the mechanism under this adjacency.
    """
    at, found = Bounds.exact(epsilon), []
    try:
        pairs = mechanism.pairs(adjacency)
        found.append([float(pairs[one].delta(at).upper) for one in adjacency.directions])
    except UnsupportedProcess:
        pass
    if not found or mechanism.distributed() is not mechanism:
        found.append([profile("tightest", mechanism, adjacency).delta(epsilon).upper])
    return [min(one[0] for one in found), min(one[-1] for one in found)]


def told(mechanism, adjacencies, one, other):
    """Name where cells drawn for neighbours show more than `mechanism` describes."""
    for adjacency in adjacencies:
        for epsilon in EPSILONS:
            for order, most in zip(((one, other), (other, one)), described(mechanism, adjacency, epsilon), strict=True):
                if at_least(*order, epsilon) > most:
                    yield f"{adjacency.value}: more than {most} at {epsilon}"


def missed(key, mechanism, n):
    """Name where they show less than the pair of `mechanism` that they should have."""
    known, (one, other) = NEIGHBOURS[key], drawn(key, n)
    for adjacency in known.adjacencies:
        pair = mechanism.pairs(adjacency)[known.shown]
        for epsilon in EPSILONS:
            for order, law in (((one, other), pair), ((other, one), pair.reverse())):
                least = float(law.delta(Bounds.exact(epsilon)).lower)
                if at_most(*order, epsilon) < least:
                    yield f"{adjacency.value}: less than {least} at {epsilon}"


def draws(key, request):
    return MANY if NEIGHBOURS[key].many else SOME if request.config.getoption("--all") else FEW


def compared(key, n):
    known = NEIGHBOURS[key]
    assert not list(told(known.mechanism, known.adjacencies, *drawn(key, n)))
    if known.shown:
        assert all(known.mechanism.pairs(adjacency)[known.shown].attained for adjacency in known.adjacencies)
        assert not list(missed(key, known.mechanism, n))


@pytest.mark.parametrize("key", ARRAYS)
def test_arrays_of_releases_show_what_is_described(key):
    compared(key, MANY)


@pytest.mark.thinned(8)
@pytest.mark.parametrize("key", SINGLE)
def test_releases_show_what_is_described(key, request):
    compared(key, draws(key, request))


def noisier(mechanism, factor):
    """Return the description of as many times the noise, or of ε divided by it."""
    changed = {
        field: getattr(mechanism, field) * (1 / factor if field == "epsilon" else factor)
        for field in ("epsilon", "noise_multiplier", "bound")
        if hasattr(mechanism, field)
    }
    for field in ("noise", "mechanism"):
        if dataclasses.is_dataclass(getattr(mechanism, field, None)):
            changed[field] = noisier(getattr(mechanism, field), factor)
    assert changed
    return dataclasses.replace(mechanism, **changed)


def caught(key, n, factor):
    known = NEIGHBOURS[key]
    assert list(told(noisier(known.mechanism, factor), known.adjacencies, *drawn(key, n))), (
        "less noise than described went unseen"
    )
    assert list(missed(key, noisier(known.mechanism, 1 / factor), n)), "more noise than described went unseen"


@pytest.mark.thinned(3)
@pytest.mark.parametrize("key", [key for key in SHOWN if key in ARRAYS])
def test_a_fifth_less_noise_than_described_is_caught_and_so_is_a_fourth_more(key):
    caught(key, MANY, 1.25)


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key in SHOWN if key in SINGLE])
def test_far_less_noise_than_described_is_caught_and_so_is_far_more(key):
    """Of what has pairs above those of named neighbours a third; of noise two thirds."""
    above = isinstance(NEIGHBOURS[key].mechanism, (Choice, BoundedLaplace, BoundedGaussian))
    caught(key, SOME, 3.0 if above else 1.5)


def test_every_mechanism_that_runs_has_neighbours_under_every_adjacency_it_is_described_for():
    covered = {(type(known.mechanism), adjacency) for known in NEIGHBOURS.values() for adjacency in known.adjacencies}
    for name, example in RUNNING.items():
        for adjacency in Adjacency:
            try:
                described(example.mechanism, adjacency, 1.0)
            except DPError:
                continue
            assert (FOUND[name], adjacency) in covered, f"add neighbours of {name} to tests/contracts/neighbours.py"


# Mechanisms that are not what they are described as, which exist here alone


def compare(queries, threshold_scale, query_scale, rng, n):
    """Return noisy queries, and which of them are above the noisy threshold 0, shape (n, queries)."""
    noisy = np.array(queries) + (rng.laplace(0.0, query_scale, (n, len(queries))) if query_scale else 0.0)
    return np.broadcast_to(noisy, (n, len(queries))), noisy >= rng.laplace(0.0, threshold_scale, (n, 1))


def numbers_that_were_compared(which, rng, n):
    """Alg. 3: the number that was compared with the threshold is released, the fifth one after four below."""
    queries = [which - 0.5] * 4 + [0.5]
    noisy, above = compare(queries, 2 / 3.0, 2 / 3.0, rng, n)
    return ~above[:, :4].any(axis=1) & above[:, 4] & (noisy[:, 4] <= 0.6)


def hits_that_cost_nothing(which, rng, n, hits=10):
    """Alg. 4: noise on the queries as if there were but one hit; queries that rise, then others that fall."""
    above = compare([which] * hits + [1 - which] * hits, 4 / 3.0, 4 / 9.0, rng, n)[1]
    above &= np.cumsum(above, axis=1) <= hits
    return hits + above[:, hits:].sum(axis=1) - above[:, :hits].sum(axis=1)


def queries_without_noise(which, rng, n):
    """Alg. 5: noise on the threshold alone."""
    return compare([which, 1 - which], 2 / 3.0, 0.0, rng, n)[1] @ [1, 2]


def hits_without_end(which, rng, n, each=20):
    """Alg. 6: no number of hits ends the run."""
    above = compare([which] * each + [1 - which] * each, 2 / 3.0, 2 / 3.0, rng, n)[1]
    return each + above[:, each:].sum(axis=1) - above[:, :each].sum(axis=1)


def lies_that_may_be_true(which, rng, n):
    """Randomised response whose other answer is drawn from all categories, the true one included."""
    lies = rng.random(n) >= math.e / (math.e + 2)
    return np.where(lies, rng.integers(0, 3, n), which)


def scores_at_twice_the_rate(which, rng, n):
    """The exponential mechanism with ε/Δ for scores that move in opposite directions."""
    return (rng.random(n) < 1 / (1 + math.exp(1.0 - 2.0 * which))).astype(int)


def noise_drawn_once(which, rng, n):
    """Two coordinates under the same noise: their difference is shown."""
    noise = rng.normal(0.0, 1.5, n)
    return np.clip(np.rint((noise + which) - noise + 1), 0, 3).astype(int)


BROKEN = {
    numbers_that_were_compared: SparseVector(epsilon=3.0, hits=1, adjacency=ONE, numeric_share=0.5),
    hits_that_cost_nothing: SparseVector(epsilon=3.0, hits=10, adjacency=ONE),
    queries_without_noise: SparseVector(epsilon=3.0, hits=2, adjacency=ONE),
    hits_without_end: SparseVector(epsilon=3.0, hits=20, adjacency=ONE),
    lies_that_may_be_true: RandomizedResponse(epsilon=1.0, categories=3),
    scores_at_twice_the_rate: Exponential(epsilon=1.0, adjacency=ONE),
    noise_drawn_once: Gaussian(noise_multiplier=1.5),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_mechanism_that_is_not_what_is_described_is_caught(broken):
    rng = np.random.default_rng(5)
    cells = [broken(which, rng, MANY).astype(np.int64) for which in (0, 1)]
    assert list(told(BROKEN[broken], (ONE,), *cells))
