"""Report noisy max: with Laplace noise its law by integration, its pair against neighbours; other noise delegates."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from accountant import available
from mechanisms import InvalidParameter, KeyedSource, NumericalFailure, Repeat, UnsupportedProcess
from mechanisms.core.bounds import Bounds
from mechanisms.exponential import Exponential
from mechanisms.noisy_max import NoisyMax
from mechanisms.permute_and_flip import PermuteAndFlip
from tests.strategies import ADD_REMOVE

EPSILONS, TINY = np.array([0.0, 0.1, 0.35, 0.8, 1.1, 1.7]), 1e-9
X, WEIGHT = np.polynomial.legendre.leggauss(16)


def law(scores, rate):
    """Probabilities of being the largest, by panels between the kinks."""
    centres = rate * np.asarray(scores, dtype=float)
    ends = np.unique(np.concatenate([np.arange(centres.min() - 30.0, centres.max() + 31.0, 1.0), centres]))
    half, middle = np.diff(ends) / 2, (ends[1:] + ends[:-1]) / 2
    z = (middle[:, None] + half[:, None] * X).ravel()
    weight = (half[:, None] * WEIGHT).ravel()
    below, density = (f(z - centres[:, None]) for f in (stats.laplace.cdf, stats.laplace.pdf))
    return np.array(
        [np.sum(weight * density[i] * np.prod(np.delete(below, i, axis=0), axis=0)) for i in range(len(centres))]
    )


def delta(p, q, epsilons=EPSILONS):
    return np.array([np.maximum(p - math.exp(e) * q, 0.0).sum() for e in epsilons])


def made(noise="laplace", **options):
    return NoisyMax(**{"epsilon": 1.3, "adjacency": ADD_REMOVE, "noise": noise, **options})


@pytest.mark.parametrize("monotonic", [False, True])
@pytest.mark.parametrize("epsilon", [0.2, 1.8])
def test_no_two_neighbours_tell_more_than_the_pair(epsilon, monotonic):
    pair = made(epsilon=epsilon, monotonic=monotonic).pairs(ADD_REMOVE)["remove"]
    rng, low, rate = np.random.default_rng(0), 0.0 if monotonic else -1.0, epsilon / (1 if monotonic else 2)
    most = pair.delta(Bounds.exact(EPSILONS)).upper
    for n in range(60):
        k = int(rng.integers(2, 7))
        scores = rng.normal(size=k) * 10.0 ** rng.uniform(-2, 1) if n % 3 else np.zeros(k)
        p, q = law(scores, rate), law(scores + rng.choice([low, 1.0], k), rate)
        assert abs(p.sum() - 1) < TINY
        assert (delta(p, q) <= most + TINY).all() and (delta(q, p) <= most + TINY).all()


@pytest.mark.parametrize("monotonic", [False, True])
def test_the_witness_is_what_named_neighbours_show(monotonic):
    pairs = made(monotonic=monotonic).pairs(ADD_REMOVE)
    scores = ([1.0, 0.5], [0.0, 0.5]) if monotonic else ([1.0, 0.0], [0.0, 1.0])
    p, q = (law(one, 1.3 if monotonic else 0.65) for one in scores)
    found = pairs["witness"].delta(Bounds.exact(EPSILONS))
    assert (found.lower <= delta(p, q) + TINY).all() and (delta(p, q) <= found.upper + TINY).all()
    assert pairs["witness"].attained and pairs["witness_reversed"] == pairs["witness"]


@pytest.mark.parametrize("name", available())
def test_no_accountant_claims_less_than_compositions_show(name):
    try:
        found = available()[name]().profile(Repeat(made(), 2), adjacency=ADD_REMOVE).delta(EPSILONS)
    except (UnsupportedProcess, NumericalFailure) as refusal:  # few steps are too much for contour
        assert name in ("closed_form", "contour", "gdp", "jumps") and "Use accountant=" in str(refusal)
        return
    neighbours = [
        ([1.0, 0.0], [0.0, 1.0]),
        ([0.0, 0.0], [1.0, -1.0]),
        ([1.0, -1.0], [0.0, 0.0]),
        ([-2.0, 1.0], [-1.0, 0.0]),
    ]
    laws = [(law(u, 0.65), law(v, 0.65)) for u, v in neighbours]
    best = np.zeros(len(EPSILONS))
    for (p1, q1), (p2, q2) in itertools.product(laws, repeat=2):
        best = np.maximum(best, delta(np.outer(p1, p2).ravel(), np.outer(q1, q2).ravel()))
    assert (best <= found.upper + TINY).all() and (found.lower <= best + TINY).all()


@pytest.mark.parametrize(("noise", "kind"), [("gumbel", Exponential), ("exponential", PermuteAndFlip)])
@pytest.mark.parametrize("monotonic", [False, True])
def test_other_noise_is_the_mechanism_of_the_same_law(noise, kind, monotonic):
    noisy, same = made(noise, monotonic=monotonic), kind(epsilon=1.3, adjacency=ADD_REMOVE, monotonic=monotonic)
    assert noisy.pairs(ADD_REMOVE) == same.pairs(ADD_REMOVE)
    scores = np.linspace(0, 3, 200)
    drawn = [one.release(scores, sensitivity=0.5, randomness=KeyedSource(1)) for one in (noisy, same)]
    assert drawn[0] == drawn[1]


def test_only_gumbel_noise_has_divergences_of_its_own():
    assert made("gumbel").renyi(ADD_REMOVE) == Exponential(epsilon=1.3, adjacency=ADD_REMOVE).renyi(ADD_REMOVE)
    for noise in ("exponential", "laplace"):
        with pytest.raises(UnsupportedProcess, match="no Rényi bound of its own"):
            made(noise).renyi(ADD_REMOVE)


@pytest.mark.parametrize("noise", ["exponential", "gumbel"])
def test_noise_of_numpy_tells_the_same(noise):
    """A second route to the laws: noise drawn by numpy, against exact releases."""
    rng, scores, source = np.random.default_rng(0), np.array([0.0, 0.6, 1.4]), KeyedSource(2)
    shown = np.bincount(np.argmax(scores + getattr(rng, noise)(scale=2 / 1.3, size=(20_000, 3)), axis=1), minlength=3)
    counts = np.bincount(
        [made(noise).release(scores, sensitivity=1.0, randomness=source) for _ in range(800)], minlength=3
    )
    assert stats.chi2_contingency([shown, counts]).pvalue > 1e-4


@pytest.mark.parametrize(("monotonic", "rate"), [(False, 0.65), (True, 1.3)])
def test_choices_with_laplace_noise_have_the_law(monotonic, rate):
    source, scores = KeyedSource(0), [3, 1, 2, 2.5]
    counts = np.bincount(
        [made(monotonic=monotonic).release(scores, sensitivity=1.0, randomness=source) for _ in range(800)]
    )
    assert stats.chisquare(counts, 800 * law(scores, rate)).pvalue > 1e-4


@pytest.mark.parametrize("noise", ["Laplace", "gaussian", None, 1])
def test_what_is_no_noise_is_refused(noise):
    with pytest.raises(InvalidParameter, match="NoisyMax: noise must be one of 'gumbel', 'exponential', 'laplace'"):
        made(noise)
