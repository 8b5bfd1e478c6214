import mpmath
import numpy as np
import pytest
from scipy import stats

from accountant import Estimate, epsilon_bounds
from audit.core import moment_pivots, normal_pairs
from audit.core.moment_pivots import noncentrality
from audit.estimators.gaussian_pair import (
    GaussianPair,
    epsilon_of_pair,
    estimate_from_moments,
    lower_bound_from_moments,
    rejects,
)
from audit.scores import IndependentRuns, LabelledScores, OneRun, Scores, Threshold
from mechanisms import Gaussian, InvalidParameter

DELTA = 1e-5
SHIFTS = {8: 1.666031, 4: 0.924931, 1: 0.268051}  # μ of the Gaussian with this ε at δ = 1e-5


def drawn(rng, distance, ratio, included, excluded, size):
    """Draw moments of normal scores: those of the in-scores N(distance, ratio²), of the out-scores N(0, 1)."""
    return {
        "gap": distance + rng.normal(size=size) * np.sqrt(ratio**2 / included + 1 / excluded),
        "deviation_in": ratio * np.sqrt(rng.chisquare(included - 1, size) / (included - 1)),
        "deviation_out": np.sqrt(rng.chisquare(excluded - 1, size) / (excluded - 1)),
        "included": included,
        "excluded": excluded,
    }


def bounds(moments, delta=DELTA, confidence=0.95):
    sizes = {name: moments[name] for name in ("included", "excluded")}
    triples = zip(moments["gap"], moments["deviation_in"], moments["deviation_out"], strict=True)
    return np.array(
        [
            lower_bound_from_moments(
                gap=gap, deviation_in=s1, deviation_out=s0, **sizes, delta=delta, confidence=confidence
            )
            for gap, s1, s0 in triples
        ]
    )


def exact_delta(epsilon, distance, ratio):
    """δ in the worse direction, by 120-digit roots of the loss."""
    with mpmath.workdps(120):
        found = []
        for m, s in ((mpmath.mpf(distance), mpmath.mpf(ratio)), (mpmath.mpf(distance) / ratio, 1 / mpmath.mpf(ratio))):
            a, b, c = (1 - s**-2) / 2, m / s**2, -m * m / (2 * s * s) - mpmath.log(s) - epsilon
            square = b * b - 4 * a * c
            if square <= 0:  # the loss is nowhere above ε
                found.append(mpmath.mpf(0))
                continue
            low, high = sorted((-b + sign * mpmath.sqrt(square)) / (2 * a) for sign in (-1, 1))
            inner = mpmath.ncdf((high - m) / s) - mpmath.ncdf((low - m) / s)
            inner -= mpmath.exp(epsilon) * (mpmath.ncdf(high) - mpmath.ncdf(low))
            found.append(inner if a < 0 else 1 - mpmath.exp(epsilon) - inner)
        return float(max(found))


@pytest.mark.parametrize(
    ("distance", "ratio"), [(2.0, 1.2), (1.0, 0.8), (0.3, 1.01), (0.0, 1.5), (0.0, 0.6), (3.0, 2.0), (1.0, 1.0001)]
)
@pytest.mark.parametrize("delta", [1e-5, 1e-9, 0.05])
def test_the_loss_of_a_pair_is_where_many_digits_put_it(distance, ratio, delta):
    found = epsilon_of_pair(distance=distance, ratio=ratio, delta=delta)
    if found == 0.0:
        assert exact_delta(1e-9, distance, ratio) <= delta
    else:
        assert exact_delta(found, distance, ratio) == pytest.approx(delta, rel=1e-6)


def test_equal_variances_are_the_gaussian_mechanism():
    for noise in (0.3, 1.0, 4.0):
        expected = epsilon_bounds(Gaussian(noise_multiplier=noise), delta=DELTA).lower
        assert epsilon_of_pair(distance=1 / noise, ratio=1.0, delta=DELTA) == pytest.approx(expected, rel=1e-9)


def test_the_order_of_the_worlds_does_not_matter_to_the_loss():
    one = epsilon_of_pair(distance=2.0, ratio=1.3, delta=DELTA)
    assert epsilon_of_pair(distance=2.0 / 1.3, ratio=1 / 1.3, delta=DELTA) == pytest.approx(one, rel=1e-9)


@pytest.mark.thinned(7)
@pytest.mark.parametrize("degrees", [2, 8, 98, 998])
@pytest.mark.parametrize("y", [-9.0, -1.7, 2.0])
def test_noncentralities_refute_just_what_their_level_says_or_less(degrees, y):
    for t in np.sqrt(2 * degrees) * np.array([0.1, 0.7, 2.5]):
        found = float(noncentrality(np.array([t]), np.array([y]), degrees)[0])
        with mpmath.workdps(30):
            half = degrees / mpmath.mpf(2)
            log_scale = mpmath.log(2) + half * mpmath.log(half) - mpmath.loggamma(half)

            def integrand(chi, found=found, t=t, log_scale=log_scale):
                density = mpmath.exp(log_scale + (degrees - 1) * mpmath.log(chi) - degrees * chi**2 / 2)
                return density * mpmath.ncdf(found - t * chi)

            width = 16 / mpmath.sqrt(2 * degrees)
            points = mpmath.linspace(max(mpmath.mpf("1e-25"), 1 - width), 1 + width, 30)
            ratio = float(mpmath.quad(integrand, points) / mpmath.ncdf(y))
        assert 1 - 1e-4 < ratio <= 1


# distance, ratio, included, excluded
LAWS = [
    (SHIFTS[8], 1.0, 500, 500),
    (SHIFTS[1], 1.0, 25, 25),
    (0.0, 1.0, 100, 60),
    (2.0, 1.2, 500, 500),
    (1.0, 0.8, 60, 140),
    (0.0, 1.5, 100, 100),
    (1.0, 1.02, 2500, 2500),
    (5.0, 0.5, 5, 4),
]


def false_claims(law, size, confidence, seed=3):
    distance, ratio, included, excluded = law
    moments = drawn(np.random.default_rng(seed), distance, ratio, included, excluded, size)
    true = epsilon_of_pair(distance=distance, ratio=ratio, delta=DELTA)
    return np.mean(rejects(**moments, epsilon=true, delta=DELTA, confidence=confidence))


@pytest.mark.parametrize("law", LAWS)
def test_the_true_loss_is_refuted_no_more_often_than_announced(law):
    assert false_claims(law, 200, 0.8) <= 0.2 + 4 * np.sqrt(0.2 * 0.8 / 200)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_ten_thousand_simulations_keep_the_level(law, confidence):
    error = 1 - confidence
    found = false_claims(law, 10_000, confidence, seed=11)
    print(f"Gaussian pair {law}: false claims {found:.4f} at {error:.2f}")
    assert found <= error + 4 * np.sqrt(error * confidence / 10_000)


def test_scores_that_are_not_normal_can_break_the_level():
    """Outside its model: heavy-tailed equal laws show a loss that is not there, so the bound is parametric."""
    rng, false = np.random.default_rng(2), 0
    for _ in range(40):
        scores = stats.t(2).rvs(size=(2, 300), random_state=rng)
        false += (
            lower_bound_from_moments(
                gap=float(np.diff(scores.mean(axis=1))[0]),
                deviation_in=float(scores[1].std(ddof=1)),
                deviation_out=float(scores[0].std(ddof=1)),
                included=300,
                excluded=300,
                delta=DELTA,
                confidence=0.95,
            )
            > 0
        )
    assert false > 10


def test_the_bound_inverts_the_test():
    moments = drawn(np.random.default_rng(4), 1.5, 1.1, 80, 120, 10)
    for k, found in enumerate(bounds(moments)):
        asked = {name: value[k] for name, value in moments.items() if np.ndim(value)}
        level = {"included": 80, "excluded": 120, "delta": DELTA, "confidence": 0.95}
        assert rejects(**asked, **level, epsilon=found * (1 - 1e-9))
        assert not rejects(**asked, **level, epsilon=found * (1 + 1e-9) + 1e-9)


def test_looking_near_equal_variances_first_changes_no_decision():
    rng, answers = np.random.default_rng(8), []
    for included, excluded, epsilon in ((40, 60, 0.0), (500, 500, 1.0), (25, 9, 4.0)):
        spread = rng.uniform(0.2, 3.0, (2, 70))
        moments = np.array([rng.normal(0.4, 0.6, 70), spread[0], spread[0] * rng.uniform(0.7, 1.3, 70)])
        ratio, distance = moment_pivots.possible(moments, included, excluded, DELTA, 0.95)
        at_once = np.min(normal_pairs.one_way(epsilon, distance, ratio), axis=1) > DELTA
        level = {"included": included, "excluded": excluded, "epsilon": epsilon, "delta": DELTA, "confidence": 0.95}
        found = rejects(gap=moments[0], deviation_in=moments[1], deviation_out=moments[2], **level)
        assert np.array_equal(found, at_once)
        answers.append(found)
    assert 0.05 < np.mean(answers) < 0.95


@pytest.mark.parametrize(
    ("moments", "lost"), [((0.0, 0.0, 0.0), False), ((1.0, 0.0, 0.0), True), ((0.0, 0.0, 1.0), True)]
)
def test_a_world_that_does_not_vary_is_refuted_unless_nothing_varies(moments, lost):
    names = ("gap", "deviation_in", "deviation_out")
    level = {"included": 5, "excluded": 5, "delta": DELTA, "confidence": 0.95}
    found = lower_bound_from_moments(**dict(zip(names, moments, strict=True)), **level)
    assert found == (np.inf if lost else 0.0)
    both = {name: np.array([value, 1.0]) for name, value in zip(names, moments, strict=True)}
    for epsilon in (0.0, 30.0):
        assert rejects(**both, **level, epsilon=epsilon).tolist() == [lost, False]
        assert rejects(**dict(zip(names, moments, strict=True)), **level, epsilon=epsilon) == lost


def test_all_smaller_losses_are_refuted_too():
    moments = drawn(np.random.default_rng(6), 2.0, 0.9, 300, 300, 30)
    refuted = [rejects(**moments, epsilon=e, delta=DELTA, confidence=0.95) for e in (0.0, 1.0, 4.0, 8.0, 12.0, 30.0)]
    assert np.all(np.diff(np.array(refuted, dtype=int), axis=0) <= 0)
    assert np.all(refuted[0]) and not np.any(refuted[-1])


@pytest.mark.parametrize("epsilon", [8, 4])
def test_a_thousand_scores_show_most_of_the_loss(epsilon):
    """At the expected moments, so without luck."""
    found = lower_bound_from_moments(
        gap=SHIFTS[epsilon],
        deviation_in=1.0,
        deviation_out=1.0,
        included=500,
        excluded=500,
        delta=DELTA,
        confidence=0.95,
    )
    assert found >= {8: 0.90, 4: 0.84}[epsilon] * epsilon


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distance", "ratio", "scores", "least"),
    [
        (SHIFTS[8], 1.0, 1_000, 0.90),
        (SHIFTS[4], 1.0, 1_000, 0.84),
        (SHIFTS[8], 1.0, 10_000, 0.95),
        (2.0, 1.2, 1_000, 0.60),
        (2.0, 1.2, 10_000, 0.85),
    ],
)
def test_the_median_bound_reaches_its_bar(distance, ratio, scores, least):
    true = epsilon_of_pair(distance=distance, ratio=ratio, delta=DELTA)
    found = bounds(drawn(np.random.default_rng(scores), distance, ratio, scores // 2, scores // 2, 1_000))
    print(f"Gaussian pair, ε = {true:.3f}, n = {scores}: median ratio {np.median(found) / true:.4f}")
    assert np.median(found) >= least * true


@pytest.mark.parametrize(
    ("gap", "deviation_in", "deviation_out", "expected"),
    [(0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, np.inf), (0.0, 1.0, 0.0, np.inf), (-1.0, 1.0, 1.0, 0.0)],
)
def test_worlds_without_spread_or_gap(gap, deviation_in, deviation_out, expected):
    asked = {"gap": gap, "deviation_in": deviation_in, "deviation_out": deviation_out}
    assert lower_bound_from_moments(**asked, included=50, excluded=50, delta=DELTA, confidence=0.95) == expected


def test_without_delta_any_refuted_equality_is_an_infinite_loss():
    asked = {
        "deviation_in": 1.0,
        "deviation_out": 1.0,
        "included": 50,
        "excluded": 50,
        "delta": 0.0,
        "confidence": 0.95,
    }
    assert lower_bound_from_moments(gap=2.0, **asked) == np.inf
    assert lower_bound_from_moments(gap=0.1, **asked) == 0.0


def labelled(included, design):
    values = np.random.default_rng(1).normal(size=design.size) + (np.arange(design.size) < included)
    scores = Scores(values=values, design=design, guessing_rule=Threshold(value=0.0))
    return LabelledScores(scores=scores, membership=np.arange(design.size) < included)


def test_one_run_and_many_give_the_same_number_and_an_estimate_is_no_evidence():
    one, many = (labelled(100, design) for design in (OneRun(canaries=200), IndependentRuns(runs=200)))
    level = {"process": None, "delta": DELTA, "confidence": 0.95}
    assert GaussianPair().epsilon(one, **level) == GaussianPair().epsilon(many, **level) > 0
    found = GaussianPair().estimate(one, delta=DELTA)
    assert isinstance(found, Estimate) and not hasattr(found, "upper")
    assert found.value > GaussianPair().epsilon(one, **level)


def test_the_estimate_is_the_loss_of_the_moments():
    found = estimate_from_moments(gap=4.0, deviation_in=2.4, deviation_out=2.0, delta=DELTA).value
    assert found == pytest.approx(epsilon_of_pair(distance=2.0, ratio=1.2, delta=DELTA), rel=1e-12)


@pytest.mark.parametrize("included", [0, 1, 199, 200])
def test_one_class_empty_or_nearly_so_is_refused(included):
    with pytest.raises(InvalidParameter, match=r"gaussian_pair: (included|excluded) must be at least 2"):
        GaussianPair().epsilon(labelled(included, OneRun(canaries=200)), process=None, delta=DELTA, confidence=0.95)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gap": np.nan}, "gap must be a number"),
        ({"deviation_in": -1.0}, "deviation must be at least 0"),
        ({"deviation_out": np.inf}, "deviation must be finite"),
        ({"included": 1}, "included must be at least 2 and excluded at least 2, got fewer of one"),
        ({"excluded": 2.5}, "excluded must be a whole number"),
        ({"delta": 1.0}, "delta must be below 1"),
        ({"confidence": 0.0}, "confidence must lie strictly between"),
    ],
)
def test_impossible_numbers_are_refused(change, message):
    asked = {"gap": 1.0, "deviation_in": 1.0, "deviation_out": 1.0, "included": 50, "excluded": 50}
    with pytest.raises(InvalidParameter, match=f"gaussian_pair: {message}"):
        lower_bound_from_moments(**(asked | {"delta": DELTA, "confidence": 0.95} | change))


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e50])
def test_units_in_which_squares_are_no_floats_change_nothing(scale):
    values = np.random.default_rng(4).normal(size=60) + 2.0 * (np.arange(60) % 2)
    design = OneRun(canaries=60)
    bounds = [
        GaussianPair().epsilon(
            LabelledScores(
                scores=Scores(values=unit * values, design=design, guessing_rule=Threshold(value=0.0)),
                membership=np.arange(60) % 2 == 1,
            ),
            process=Gaussian(noise_multiplier=1.0),
            delta=1e-5,
            confidence=0.95,
        )
        for unit in (1.0, scale)
    ]
    assert 0 < bounds[0] < 40 and bounds[1] == pytest.approx(bounds[0], rel=1e-9)


def test_scores_of_canaries_that_share_directions_are_refused():
    """Of canaries all alike, honest runs would be accused far too often."""
    rng, membership = np.random.default_rng(0), np.arange(40) < 20
    asked = {"process": Gaussian(noise_multiplier=1.0), "delta": DELTA, "confidence": 0.95}

    def shared(measuring):
        scores = Scores(
            values=membership + rng.normal(size=40), design=OneRun(canaries=40),
            guessing_rule=Threshold(value=0.5), measuring=measuring,
        )  # fmt: skip
        return LabelledScores(scores=scores, membership=membership)

    assert GaussianPair().epsilon(shared(None), **asked) >= 0
    for measuring in (np.zeros(40, dtype=bool), membership):
        with pytest.raises(
            InvalidParameter, match="gaussian_pair: scores must share no noise, and these are of canaries"
        ):
            GaussianPair().epsilon(shared(measuring), **asked)
