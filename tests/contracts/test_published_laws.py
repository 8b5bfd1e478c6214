"""Every pair of every mechanism contains δ(ε) to 60 digits of the laws that its paper gives, written down here anew.

The mechanisms are those of `tests.contracts.examples`, whose parameters stand in the laws below.
"""

import itertools
from functools import cache

import mpmath as mp
import pytest

from mechanisms import Adjacency, DiscreteGaussian, UnsupportedProcess
from mechanisms.core.bounds import Bounds
from tests.contracts import bounded_laws
from tests.contracts.examples import EXAMPLES, ONE

ADD, ZERO = Adjacency.ADD_REMOVE, Adjacency.ZERO_OUT
EPSILONS = (0.0, 0.1, 0.37, 0.9, 1.4)
SLACK = mp.mpf("1e-50")
DISCRETE = DiscreteGaussian(noise_multiplier=1.5, sensitivity=2)
MECHANISMS = {name: example.mechanism for name, example in EXAMPLES.items()} | {"discrete_gaussian": DISCRETE}
NO_LAW = {"objective_perturbation"}  # its pair bounds losses of any model: tests/mechanisms/test_objective_perturbation


@pytest.fixture(autouse=True)
def sixty_digits():
    with mp.workdps(60):
        yield


def real(text):
    """Return the number as a float has it, to 60 digits."""
    return mp.mpf(float(text))


# Laws: from ε to δ(ε)


def table(p, q):
    """Finitely many outcomes, as functions, so that all digits are there when they are asked for."""
    outcomes = cache(lambda: list(zip(p(), q(), strict=True)))

    @cache
    def delta(at):
        growth = mp.exp(at)
        return mp.fsum(max(a - growth * b, 0) for a, b in outcomes())

    return delta


def normal(shift):
    """N(shift, 1) against N(0, 1), whose loss at z is above ε for z > ε/shift + shift/2."""

    def delta(at):
        z = at / shift() + shift() / 2
        return mp.ncdf(shift() - z) - mp.exp(at) * mp.ncdf(-z)

    return delta


def double(shift):
    """Density e^−|x|/2 against that around shift, of losses |x − shift| − |x|, above ε for x < (shift − ε)/2."""

    def below(x):
        return mp.exp(x) / 2 if x < 0 else 1 - mp.exp(-x) / 2

    def delta(at):
        x = (shift() - at) / 2
        return below(x) - mp.exp(at) * below(x - shift()) if at < shift() else mp.mpf(0)

    return delta


def ranged(reach):
    """The best of the pairs of two losses t and t − reach, at t = (ε + reach)/2, and no better beside it."""

    def delta(at):
        def two(t):
            likelier = mp.expm1(t - reach()) / mp.expm1(-reach())
            return likelier * -mp.expm1(at - t)

        if abs(at) >= reach():
            return max(1 - mp.exp(at), mp.mpf(0))
        best = (at + reach()) / 2
        assert two(best) >= max(two(best - 0.01), two(best + 0.01))
        return two(best)

    return delta


def lattice(weight, shift, reach):
    """Weights of whole numbers up to `reach`, against those moved by shift."""
    weight = cache(weight)
    whole = cache(lambda: mp.fsum(weight(k) for k in range(-reach, reach + 1)))

    def side(moved):
        total = whole()
        return [weight(k - moved) / total for k in range(-reach, reach + 1)]

    return table(lambda: side(0), lambda: side(shift))


def geometric(scale, shift):
    return lattice(lambda k: mp.exp(-abs(k) / mp.mpf(scale)), shift, 120 * scale)


def square(scale, shift):
    return lattice(lambda k: mp.exp(-(mp.mpf(k) ** 2) / (2 * mp.mpf(scale) ** 2)), shift, 60)


def response(epsilon, categories=2):
    def answers():
        weights = [mp.exp(epsilon)] + [mp.mpf(1)] * (categories - 1)
        return [weight / mp.fsum(weights) for weight in weights]

    return table(answers, lambda: [answers()[1], answers()[0], *answers()[2:]])


def swapped(worse):
    """Two outcomes that change places."""
    return table(lambda: [1 - worse(), worse()], lambda: [worse(), 1 - worse()])


def softmax(one, other):
    def chances(scores):
        return lambda: [mp.exp(score) / mp.fsum(map(mp.exp, scores)) for score in scores]

    return table(chances(one), chances(other))


def stairs(shift):
    """Steps of height e^−level, ε = 1, that fall after a quarter of each: quarters of equal mass."""

    def weight(quarter):
        middle = abs(2 * quarter + 1)  # in eighths
        return mp.exp(-(middle // 8 + (middle % 8 >= 2)))

    return lattice(weight, 4 * shift, 480)


def cut(shift):
    """Density ∝ e^{−|x|/1.5} on [−4, 4], of losses that fall with x: the best event is x < t."""

    def below(x):
        x = min(max(mp.mpf(x), -4), 4)
        return (1 + mp.sign(x) * mp.expm1(-abs(x) / mp.mpf(1.5)) / mp.expm1(-4 / mp.mpf(1.5))) / 2

    def delta(at):
        ends = [-4, shift - 4, 4, (shift - mp.mpf(1.5) * at) / 2]
        return max(below(t) - mp.exp(at) * below(t - shift) for t in ends)

    return delta


def bits():
    """One own bit of chance 1/2, others of 1/(e + 1): the two that differ between two records."""

    def chances(mine):
        own = [mp.mpf(1) / 2 if k == mine else 1 / (mp.e + 1) for k in (0, 1)]
        return [(own[0] if i else 1 - own[0]) * (own[1] if j else 1 - own[1]) for i in (0, 1) for j in (0, 1)]

    return table(lambda: chances(0), lambda: chances(1))


def certain(lost):
    """What is shown with probability `lost`, else the answers of randomised response of ε = 1."""

    def side(mine):
        own, other = (1 - lost) * mp.e / (1 + mp.e), (1 - lost) / (1 + mp.e)
        return [lost, 0, own, other] if mine else [0, lost, other, own]

    return table(lambda: side(True), lambda: side(False))


def turned(law):
    """The law of the other order: δ'(ε) = 1 − e^ε + e^ε δ(−ε), where δ(−ε) is at least what all outcomes show."""
    return lambda at: 1 - mp.exp(at) * (1 - max(law(-at), 1 - mp.exp(-at)))


# Which law each pair has


def of(moved, scale=1.5):
    """Normal noise of deviation `scale` under a movement."""
    return normal(lambda: moved() / mp.mpf(scale))


def root(square):
    return lambda: mp.sqrt(square)


def plain(law, twice):
    """One law under add/remove and zero-out, and that of twice the movement under replace-one."""
    return {ADD: {"remove": law, "add": law}, ZERO: {"remove": law, "add": law}, ONE: {"replace": twice}}


def query(law, farthest):
    """Of a query of which no two contributions are opposite: with witnesses."""
    known = {"witness": law, "witness_reversed": law}
    far = {"replace": farthest, "witness": farthest, "witness_reversed": farthest}
    return {ADD: {"remove": law, "add": law}, ZERO: {"remove": law, "add": law} | known, ONE: far}


def every(law):
    return plain(law, law)


def replaced(law, **witnesses):
    return {ONE: {"replace": law} | witnesses}


def streamed(square):
    once, twice = of(root(square)), of(root(4 * square))
    return {ZERO: {"remove": once, "add": once}, ONE: {"replace": twice}}


ONCE, TWICE = of(root(1)), of(root(4))


def reversed_softmax(at):
    low = mp.log(mp.expm1(mp.mpf(1) / 4) / (mp.e - mp.exp(mp.mpf(1) / 4)))
    return softmax((low + 1, 0), (low, 0))(at)


ANSWER = swapped(lambda: mp.exp(-mp.mpf(1) / 2) / 2)
COUNTED = geometric(2, 1)
LAWS = {
    "approximate_dp": replaced(certain(real(1e-6))),
    "bounded_gaussian": bounded_laws.of(bounded_laws.gaussian),
    "bounded_laplace": bounded_laws.of(bounded_laws.laplace),
    "count": query(COUNTED, COUNTED),
    "covariance": query(ONCE, of(root(2))),
    "discrete_gaussian": plain(square(3, 2), square(3, 4)),
    "discrete_laplace": plain(geometric(3, 2), geometric(3, 4)),
    "exponential": replaced(
        ranged(lambda: mp.mpf(1)),
        witness=softmax((real(0.5), 0), (real(-0.5), 0)),
        witness_reversed=reversed_softmax,
    ),
    "gaussian": plain(ONCE, TWICE),
    "histogram": query(ONCE, of(root(2))),
    "laplace": plain(double(lambda: mp.mpf(2) / 3), double(lambda: mp.mpf(4) / 3)),
    "local_categories": replaced(response(1)),
    "local_noise": replaced(double(lambda: mp.mpf(1))),
    "matrix": streamed(real(2.5)),
    "mean": plain(ONCE, TWICE),
    "noisy_max": replaced(
        double(lambda: mp.mpf(1)),
        witness=swapped(lambda: mp.exp(-mp.mpf(1) / 2) * (2 + mp.mpf(1) / 2) / 4),
        witness_reversed=swapped(lambda: mp.exp(-mp.mpf(1) / 2) * (2 + mp.mpf(1) / 2) / 4),
    ),
    "pate.ConfidentGNMax": every(normal(lambda: mp.sqrt(mp.mpf(4) / 9 + mp.mpf(1) / 2))),
    "pate.GNMax": every(of(root(2))),
    "pate.LNMax": every(double(lambda: mp.mpf(4) / 3)),
    "pate.VoteThreshold": every(ONCE),
    "permute_and_flip": replaced(
        double(lambda: mp.mpf(1)),
        witness=table(lambda: [mp.mpf(1) / 2] * 2, lambda: [mp.exp(-1) / 2, 1 - mp.exp(-1) / 2]),
        witness_reversed=ANSWER,
    ),
    "perturbed_table": {},
    "pure_dp": replaced(response(1)),
    "quantile": plain(ranged(lambda: mp.mpf(3) / 4), ranged(lambda: mp.mpf(1))),
    "randomized_response": replaced(response(1, 3)),
    "sparse_vector": replaced(response(1)),
    "staircase": plain(stairs(1), stairs(2)),
    "sum": query(ONCE, normal(lambda: mp.mpf(8) / 9)),
    "top_k": replaced(response(2)),
    "tree": streamed(8),
    "truncated_laplace": plain(cut(1), cut(2)),
    "unary_encoding": replaced(bits()),
    "user_supplied": replaced(swapped(lambda: mp.mpf(1) / 4)),
    "vector_mean": plain(ONCE, TWICE),
    "vector_sum": plain(ONCE, TWICE),
    "zcdp": {},
}


@pytest.mark.parametrize("name", [name for name in MECHANISMS if name not in NO_LAW])
def test_every_pair_contains_the_delta_of_its_published_law(name):
    for adjacency in Adjacency:
        try:
            pairs = MECHANISMS[name].pairs(adjacency)
        except UnsupportedProcess:
            pairs = {}
        laws = LAWS[name].get(adjacency, {})
        assert set(pairs) == set(laws), f"add the law of {name} under {adjacency.value}"
        for direction, law in laws.items():
            pair = pairs[direction]
            for epsilon, (one, truth_of) in itertools.product(EPSILONS, ((pair, law), (pair.reverse(), turned(law)))):
                found, truth = one.delta(Bounds.exact(epsilon)), truth_of(mp.mpf(epsilon))
                holds = mp.mpf(float(found.lower)) - SLACK <= truth <= mp.mpf(float(found.upper)) + SLACK
                assert holds, (adjacency.value, direction, epsilon, mp.nstr(truth, 20), found)
                assert found.width <= 1e-12


@pytest.mark.parametrize("name", ["gaussian", "discrete_gaussian", "unary_encoding", "exponential"])
def test_a_law_of_other_parameters_is_not_contained(name):
    law = {"gaussian": of(root(1), 1.5001), "discrete_gaussian": square(3.001, 2), "unary_encoding": response(1)}
    changed = law.get(name, ranged(lambda: mp.mpf(1) + mp.mpf("1e-9")))
    adjacency = ADD if name in ("gaussian", "discrete_gaussian") else ONE
    pair = MECHANISMS[name].pairs(adjacency)[adjacency.directions[0]]
    assert not pair.delta(Bounds.exact(0.1)).contains(float(changed(mp.mpf(0.1))))
