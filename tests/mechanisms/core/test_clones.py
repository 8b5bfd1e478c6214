"""The pair of the clones: published values, the paper's theorems, and every order of small data sets."""

import itertools
import math

import numpy as np
import pytest

from mechanisms.core.bounds import Bounds
from mechanisms.core.clones import clone_pair, clone_probability


def epsilon(pair, delta):
    low, high = 0.0, float(pair.supremum.upper)
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if pair.delta(Bounds.exact(middle)).upper <= delta else (middle, high)
    return high


# (ε₀, p, T): ε at δ = 1e-6, exact sums: shared/reference papers.md §5 (tolerance 1e-4)
EXACT = [
    (4.0, math.exp(-4.0), 10**5, 0.1697696976943064),
    (4.0, 2.0 / (math.exp(4.0) + 1.0), 10**5, 0.118148),
    (1.0, math.exp(-1.0), 10**4, 0.05300511410841008),
]


@pytest.mark.parametrize(("local", "probability", "users", "published"), EXACT)
def test_exact_sums_over_the_clones_are_reproduced_from_above(local, probability, users, published):
    found = epsilon(clone_pair(local, probability, users), 1e-6)
    assert published - 1e-6 <= found <= published + 2e-5


def theorem(local, users, delta):
    """[FMT21, Thm 3.1]: ε for p = e^{−ε₀}, where ε₀ <= log(n/(16 log(2/δ)))."""
    grown = math.exp(local)
    spread = 8.0 * math.sqrt(grown * math.log(4.0 / delta)) / math.sqrt(users) + 8.0 * grown / users
    return math.log1p((grown - 1.0) / (grown + 1.0) * spread)


@pytest.mark.parametrize(("local", "users"), [(4.0, 10**5), (1.0, 10**4), (0.2, 10**6), (2.0, 3_000)])
def test_the_closed_theorem_is_never_below_the_sum(local, users):
    delta = 1e-6
    assert local <= math.log(users / (16.0 * math.log(2.0 / delta)))
    pair = clone_pair(local, clone_probability(local, zeroed=False), users)
    assert epsilon(pair, delta) <= theorem(local, users, delta)


def law(local, probability, users, swapped):
    """Return the masses of (A + Δ, C − A + 1 − Δ) by plain sums."""
    chances = (1, 1.0 / (1.0 + math.exp(-local))), (0, 1.0 / (1.0 + math.exp(local)))
    masses = {}
    for c in range(users):
        of_c = math.comb(users - 1, c) * probability**c * (1.0 - probability) ** (users - 1 - c)
        for a in range(c + 1):
            for d, of_d in chances:
                at = (a + d, c - a + 1 - d)
                at = at[::-1] if swapped else at
                masses[at] = masses.get(at, 0.0) + of_c * math.comb(c, a) / 2**c * of_d
    return masses


@pytest.mark.parametrize(
    ("local", "probability", "users"), [(1.0, 0.3, 6), (2.5, 0.08, 40), (0.3, 0.7, 25), (4.0, 1.0, 9), (400.0, 0.3, 5)]
)
def test_a_plain_sum_lies_just_below_the_pair(local, probability, users):
    p, q = law(local, probability, users, False), law(local, probability, users, True)
    pair = clone_pair(local, probability, users)
    for at in np.linspace(0.0, local, 12):
        truth = sum(max(0.0, mass - math.exp(at) * q[key]) for key, mass in p.items())
        found = pair.delta(Bounds.exact(float(at))).upper
        assert truth - 1e-15 <= found <= truth * (1 + 1e-5) + 2e-8


@pytest.mark.parametrize("users", [1, 2, 10, 1_000, 10**5, 10**7])
def test_more_users_hide_more(users):
    fewer, more = (clone_pair(1.0, 0.3, n) for n in (users, 3 * users))
    for at in (0.0, 0.01, 0.2, 0.9):
        point = Bounds.exact(at)
        assert more.delta(point).upper <= fewer.delta(point).upper * (1 + 1e-5) + 1e-30


def test_clones_rounded_down_cost_little():
    """T = 1e8: C is rounded down to some fifty values; the plain limit is a normal of variance 1/(Tp)-ish."""
    users, local, probability = 10**8, 1.0, math.exp(-1.0)
    mu = 2.0 * math.tanh(local / 2.0) / math.sqrt(users * probability)
    low, high = 0.0, 1.0
    for _ in range(60):
        at = 0.5 * (low + high)
        normal = 0.5 * math.erfc((at / mu - mu / 2) / math.sqrt(2))
        normal -= math.exp(at) * 0.5 * math.erfc((at / mu + mu / 2) / math.sqrt(2))
        low, high = (low, at) if normal <= 1e-6 else (at, high)
    assert math.isclose(epsilon(clone_pair(local, probability, users), 1e-6), high, rel_tol=5e-3)


def shuffled_law(randomiser, records, sizes):
    """Return the law of what the steps publish, by all orders of the records, cut into batches of these sizes."""
    total, cuts = {}, np.append(0, np.cumsum(sizes))
    orders = list(itertools.permutations(records))
    for order in orders:
        batches = [order[a:b] for a, b in itertools.pairwise(cuts)]
        paths = {(): 1.0 / len(orders)}
        for batch in batches:
            paths = {
                (*seen, out): mass * chance
                for seen, mass in paths.items()
                for out, chance in randomiser(batch, seen).items()
            }
        for seen, mass in paths.items():
            total[seen] = total.get(seen, 0.0) + mass
    return total


def delta(p, q, at):
    return sum(max(0.0, mass - math.exp(at) * q.get(key, 0.0)) for key, mass in p.items())


def responded(local, categories):
    def randomiser(batch, seen):
        (record,) = batch
        rest = 1.0 / (math.exp(local) + categories - 1)
        return {
            c: rest * (math.exp(local) if c == (record + sum(seen)) % categories else 1.0) for c in range(categories)
        }

    return randomiser


@pytest.mark.parametrize(("local", "categories"), [(1.0, 2), (1.0, 3), (3.0, 2), (2.0, 3)])
@pytest.mark.parametrize("others", [(0, 0, 0), (0, 1, 1), (1, 1, 1), (2, 0, 1)])
def test_shuffled_answers_are_dominated_for_every_data_set(local, categories, others):
    others = tuple(other % categories for other in others)
    p, q = (shuffled_law(responded(local, categories), (own, *others), (1,) * 4) for own in (1, 0))
    pair = clone_pair(local, 2.0 / (math.exp(local) + 1.0), 4)
    for at in np.linspace(0.0, local, 9):
        assert max(delta(p, q, at), delta(q, p, at)) <= pair.delta(Bounds.exact(float(at))).upper


def noisy_sum(scale, span):
    """A step on a batch: its sum, moved by what was published before, plus geometric noise cut at the ends."""

    def randomiser(batch, seen):
        centre = sum(batch) + (sum(seen) % 2)
        weights = {out: math.exp(-abs(out - centre) / scale) for out in range(-span, span + 1)}
        tails = 1.0 / (math.exp(1.0 / scale) - 1.0)
        weights[-span] += math.exp(-abs(-span - centre) / scale) * tails
        weights[span] += math.exp(-abs(span - centre) / scale) * tails
        whole = sum(weights.values())
        return {out: weight / whole for out, weight in weights.items()}

    return randomiser


@pytest.mark.parametrize("others", [(-1, -1, -1), (1, -1, 0), (1, 1, -1), (0, 0, 0), (1, 1, 1)])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_batches_of_two_are_dominated_with_as_many_users_as_steps(others, scale):
    """Central steps whose sums move by 2 (replace-one) or 1 (zero-out): 2/scale- and 1/scale-private."""
    randomiser = noisy_sum(scale, 5)
    laws = {own: shuffled_law(randomiser, (own, *others), (2, 2)) for own in (-1, 0, 1)}
    for own, other, local, zeroed in (
        (1, -1, 2.0 / scale, False),
        (1, 0, 1.0 / scale, True),
        (-1, 0, 1.0 / scale, True),
    ):
        pair = clone_pair(local, clone_probability(local, zeroed=zeroed), 2)
        for at in np.linspace(0.0, local, 7):
            worst = max(delta(laws[own], laws[other], at), delta(laws[other], laws[own], at))
            assert worst <= pair.delta(Bounds.exact(float(at))).upper
