"""Objective perturbation: the claim against the exact densities of minimisers in one dimension, and known bounds."""

import math

import numpy as np
import pytest
from scipy import special, stats

from accountant import available, compute_delta, compute_epsilon
from accountant.tightest import TightestCurve
from mechanisms import (
    Adjacency,
    Compose,
    FixedSize,
    Gaussian,
    InvalidParameter,
    KeyedSource,
    Repeat,
    Sampled,
    UnsupportedProcess,
    from_json,
    to_json,
)
from mechanisms.core.bounds import Bounds
from mechanisms.objective_perturbation import ObjectivePerturbation

EPSILONS = np.array([0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0])
POINTS = 60_001


def step(noise=5.0, ratio=0.1, slopes="one_signed"):
    return ObjectivePerturbation(noise_multiplier=noise, curvature_ratio=ratio, slopes=slopes)


def logistic(x, y):
    """The derivatives of log(1 + e^{−yxw}), of size at most abs(x) and x²/4."""
    return lambda w: -y * x * special.expit(-y * x * w), lambda w: x * x * special.expit(x * w) * special.expit(-x * w)


def huber(x, y, most):
    """The derivatives of a squared error that is continued linearly, of size at most abs(x) most and x²."""
    return lambda w: x * np.clip(x * w - y, -most, most), lambda w: x * x * (np.abs(x * w - y) < most)


def grid(records, ridge, sigma):
    """Return weights that hold all but e^{−36} of the minimiser's law."""
    reach = (10 * sigma + sum(abs(slope(0.0)) for slope, _ in records) + 10 * len(records)) / ridge
    wide = np.linspace(-reach, reach, POINTS)
    needed = wide[np.abs(noise_of(wide, records, ridge)) < 9 * sigma + 2]
    return np.linspace(needed[0], needed[-1], POINTS)


def noise_of(w, records, ridge):
    """The b of which w is the minimiser."""
    return -(ridge * w + sum(slope(w) for slope, _ in records))


def density(w, records, ridge, sigma):
    """That of b, times db/dw."""
    turned = ridge + sum(bend(w) for _, bend in records)
    return stats.norm.pdf(noise_of(w, records, ridge), scale=sigma) * turned


def deltas(p, q, w):
    return np.array([np.sum(np.maximum(p - math.exp(e) * q, 0.0)) * (w[1] - w[0]) for e in EPSILONS])


def scenario(rng):
    """Return (others, record, its replacement, ridge, L, κ, slopes), the record's target often far away."""
    ratio = math.exp(rng.uniform(-3, 1))
    if rng.integers(2):
        others = [logistic(rng.uniform(-1, 1), rng.choice([-1, 1])) for _ in range(rng.integers(0, 4))]
        return others, logistic(1.0, 1), logistic(1.0, -1), 0.25 / ratio, 1.0, ratio, "one_signed"
    most, ridge = math.exp(rng.uniform(-1, 1)), 1 / ratio
    others = [huber(rng.uniform(-1, 1), rng.uniform(-3, 3), most) for _ in range(rng.integers(0, 4))]
    far = 3 * most / ridge
    record, other = huber(1.0, rng.uniform(-far, far), most), huber(-1.0, rng.uniform(-far, far), most)
    return others, record, other, ridge, most, ratio, "two_signed"


@pytest.mark.thinned(4)
@pytest.mark.parametrize("seed", range(40))
def test_no_exact_output_law_exceeds_the_claim(seed):
    rng = np.random.default_rng(seed)
    others, record, replacement, ridge, bound, ratio, slopes = scenario(rng)
    noise = math.exp(rng.uniform(-1, 2))
    w = grid([*others, record], ridge, noise * bound)
    without, with_it, replaced = (
        density(w, [*others, *more], ridge, noise * bound) for more in ([], [record], [replacement])
    )
    assert np.sum(with_it) * (w[1] - w[0]) == pytest.approx(1.0, abs=2e-3)
    claimed = step(noise, ratio, slopes)
    pairs = {**claimed.pairs(Adjacency.ADD_REMOVE), **claimed.pairs(Adjacency.REPLACE_ONE)}
    laws = {"remove": (with_it, without), "add": (without, with_it), "replace": (with_it, replaced)}
    for direction, (p, q) in laws.items():
        claim = pairs[direction].delta(Bounds.exact(EPSILONS)).upper
        assert np.all(deltas(p, q, w) <= claim * (1 + 1e-3) + 3e-4), direction


def worst(epsilon, mu, ratio, *, slopes, added):
    """The largest P(S) − e^ε Q(S) that any movement within its bounds gives, by dynamic programming over (t, m).

    φ(t) belongs to the law without the record, φ(t + m(t)) (1 + m'(t)) to that with it, 0 <= m' <= κ, m in [−μ, μ] or,
    of one sign, in [0, μ]; the sets S are unions of cells, so that the result is a lower end of the supremum.
    """
    width = 0.02 if ratio < 1 else 0.01
    least = -mu if slopes == "two_signed" else 0.0
    m = least + ratio * width * np.arange(round((mu - least) / (ratio * width)) + 1)
    best = np.zeros(len(m))
    for t in np.arange(-9, 9, width)[::-1]:
        plain = special.ndtr(t + width) - special.ndtr(t)

        def gain(start, stop, t=t, plain=plain):
            with_it = special.ndtr(t + width + stop) - special.ndtr(t + start)
            p, q = (plain, with_it) if added else (with_it, plain)
            return np.maximum(0.0, p - math.exp(epsilon) * q)

        stay, rise = gain(m, m) + best, gain(m[:-1], m[1:]) + best[1:]
        best = np.append(np.maximum(stay[:-1], rise), stay[-1])
    return float(best.max())


@pytest.mark.parametrize("slopes", ["one_signed", "two_signed"])
@pytest.mark.parametrize(("mu", "ratio"), [(0.2, 0.1), (0.2, 2.0), (1.0, 0.5)])
@pytest.mark.parametrize("epsilon", [0.1, 0.7])
def test_no_movement_within_its_bounds_exceeds_the_claim(epsilon, mu, ratio, slopes):
    pairs = step(1 / mu, ratio, slopes).pairs(Adjacency.ADD_REMOVE)
    claim = {name: float(pair.delta(Bounds.exact(epsilon)).upper) for name, pair in pairs.items()}
    removed = worst(epsilon, mu, ratio, slopes=slopes, added=False)
    assert removed <= claim["remove"] + 1e-12
    added = worst(epsilon, mu, ratio, slopes=slopes, added=True)
    assert added <= claim["add"] + 1e-12
    assert removed >= 0.05 * claim["remove"] and added >= (0.95 if slopes == "one_signed" else 0.5) * claim["add"]


def test_named_neighbours_come_near_the_claim():
    # An added record far on the flat side of its loss moves b by L; no smaller claim is true for ε >= 0.2.
    noise, ratio = 4.5, 1.6
    ridge, record = 0.25 / ratio, logistic(1.0, 1)
    others = [logistic(1.0, -1)] * 60
    w = grid([*others, record], ridge, noise)
    found = deltas(density(w, others, ridge, noise), density(w, [*others, record], ridge, noise), w)
    claim = step(noise, ratio).pairs(Adjacency.ADD_REMOVE)["add"].delta(Bounds.exact(EPSILONS)).upper
    assert np.all(found[3:6] >= 0.97 * claim[3:6])


def test_the_claim_without_curvature_is_the_gaussian_mechanism():
    # κ → 0 leaves a query of sensitivity L with one-signed movement, whose profile for ε >= 0 is the Gaussian's.
    for epsilon in (0.0, 0.3, 1.0):
        ours = compute_delta(step(5.0, 0.0), epsilon=epsilon)
        assert ours == pytest.approx(compute_delta(Gaussian(noise_multiplier=5.0), epsilon=epsilon), rel=1e-9)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-8])
@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
def test_the_noise_of_kifer_smith_and_thakurta_costs_less_than_they_say(epsilon, delta, adjacency):
    # Stated for gradients that move by L, and so for 2L under replace-one.
    noise = math.sqrt(8 * math.log(2 / delta) + 4 * epsilon) / epsilon * (2 if adjacency == "replace_one" else 1)
    assert compute_epsilon(step(noise, epsilon / 2, "two_signed"), delta=delta, adjacency=adjacency) <= epsilon


def renyi_epsilon(mu, ratio, delta):
    """ε by Rényi orders, of a loss at most −log(1 − κ) + μ²/2 + μ |z|, for which |s| <= L is all that is used."""

    def at(order):
        pull = (order - 1) * mu
        moment = (math.log(2) + pull**2 / 2 + special.log_ndtr(pull)) / (order - 1)
        conversion = math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
        return -math.log1p(-ratio) + mu**2 / 2 + moment + conversion

    return min(map(at, 1 + np.geomspace(0.01, 1e4, 2_000)))


@pytest.mark.parametrize("slopes", ["one_signed", "two_signed"])
@pytest.mark.parametrize("delta", [1e-3, 1e-10])
@pytest.mark.parametrize(("mu", "ratio"), [(0.05, 0.01), (0.05, 0.5), (1.0, 0.1), (3.0, 0.01), (3.0, 0.5)])
def test_the_claim_is_well_below_what_renyi_orders_say_of_the_size_of_a_gradient_alone(mu, ratio, delta, slopes):
    step = ObjectivePerturbation(noise_multiplier=1 / mu, curvature_ratio=ratio, slopes=slopes)
    assert compute_epsilon(step, delta=delta) < 0.97 * renyi_epsilon(mu, ratio, delta)


@pytest.mark.parametrize("ratio", [0.01, 0.3])
@pytest.mark.parametrize("epsilon", [0.1, 0.7, 2.0])
def test_the_claim_is_at_most_twice_the_gaussian_after_the_volume(ratio, epsilon):
    # The half-normal bound with the factor 1 / (1 − κ) on either side, as objective perturbation is usually priced.
    mu, left = 0.4, epsilon + math.log1p(-ratio)
    gaussian = special.ndtr(mu / 2 - left / mu) - math.exp(left) * special.ndtr(-mu / 2 - left / mu)
    half_normal = 2 * gaussian if left >= mu * mu / 2 else 1 - 2 * math.exp(left) * special.ndtr(-mu)
    assert compute_delta(step(1 / mu, ratio, "two_signed"), epsilon=epsilon) <= half_normal * (1 + 1e-9)


@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one", "zero_out"])
def test_all_routes_agree_and_composition_with_little_noise_costs_little(adjacency):
    ask = {"delta": 1e-5, "adjacency": adjacency}
    one = compute_epsilon(step(), **ask)
    assert compute_epsilon(step(), accountant="pld", **ask) == pytest.approx(one, rel=1e-4)
    assert one <= compute_epsilon(step(), accountant="rdp", **ask) <= 1.2 * one
    both = Compose((step(), Gaussian(noise_multiplier=100.0)))
    assert one <= compute_epsilon(both, accountant="pld", **ask) <= 1.01 * one


def test_it_survives_json_and_has_one_meaning_of_its_parts():
    assert from_json(to_json(step())) == step(np.float32(5.0), np.float64(0.1))
    assert set(step().pairs(Adjacency.ZERO_OUT)) == {"remove", "add"}
    assert not any(pair.attained for pair in step().pairs(Adjacency.ADD_REMOVE).values())


@pytest.mark.parametrize(("noise", "ratio"), [(0.0, 0.1), (5e-324, 0.1), (1e-150, 0.0), (5.0, 1.7e308)])
def test_without_noise_or_curvature_to_speak_of_nothing_is_claimed(noise, ratio):
    for adjacency in Adjacency:
        for direction, pair in step(noise, ratio).pairs(adjacency).items():
            if noise < 1 or direction != "add":
                assert pair.infinite_mass.lower == 1.0 and not pair.attained
        assert compute_epsilon(step(noise, ratio), delta=1e-6, adjacency=adjacency.value) == math.inf


@pytest.mark.parametrize("noise", [1e-3, 1e8, 1.7e308])
@pytest.mark.parametrize("ratio", [5e-324, 1e100])
def test_extreme_parameters_are_priced_without_a_warning(noise, ratio):
    for accountant in ("tightest", "rdp", "prv"):
        found = compute_epsilon(step(noise, ratio, "two_signed"), delta=1e-6, accountant=accountant)
        assert found >= 0 and (ratio < 1 or found >= 0.99 * math.log1p(ratio))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"noise": -1.0}, "noise_multiplier must be at least 0"),
        ({"noise": math.nan}, "noise_multiplier must be a number"),
        ({"noise": "1"}, "noise_multiplier must be a real number"),
        ({"ratio": math.inf}, "curvature_ratio must be finite"),
        ({"ratio": -1e-9}, "curvature_ratio must be at least 0"),
        ({"ratio": True}, "curvature_ratio must be a real number"),
        ({"slopes": "any"}, "slopes must be one of 'one_signed', 'two_signed', got 'any'"),
        ({"slopes": None}, "slopes must be one of"),
    ],
)
def test_bad_values_are_named(wrong, text):
    with pytest.raises(InvalidParameter, match=text):
        step(**wrong)


def test_it_does_not_release_values():
    with pytest.raises(UnsupportedProcess, match=r"Use dpsgd\.linear"):
        step().release(1.0, sensitivity=1.0, randomness=KeyedSource(0))


def test_sampled_steps_under_replace_one_are_priced_by_the_routes_that_need_no_bins():
    """The pair and its reverse, merged, have no bins here: their masses would leave less than none for the loss 0."""
    step = ObjectivePerturbation(noise_multiplier=5.0, curvature_ratio=0.1, slopes="one_signed")
    run, replaced = Repeat(Sampled(step, FixedSize(batch_size=3, records=30)), 2), Adjacency.REPLACE_ONE
    named = [(name, dict(available()[name]().profile(run, adjacency=replaced).curves)) for name in ("pld", "basic")]
    with pytest.raises(UnsupportedProcess, match="mirror image"):
        named[0][1]["replace"].delta(np.array([0.3]))
    basic = named[1][1]["replace"]
    both = TightestCurve(routes=tuple((name, curves["replace"]) for name, curves in named))
    best = both.delta(np.array([0.3]))
    assert best.upper == basic.delta(np.array([0.3])).upper < 0.005
    assert both.epsilon(0.005) == basic.epsilon(0.005)
    assert both.keeps(0.3, 0.005) and both.method(0.3) == "basic"
    with pytest.raises(UnsupportedProcess, match="mirror image"):
        TightestCurve(routes=both.routes[:1]).epsilon(0.005)
