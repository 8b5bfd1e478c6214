"""Private minimisers: the promise kept by every plan, the noise that is drawn, and the law of what is released."""

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

import accountant
from accountant import compute_epsilon
from accountant.tightest import Tightest
from dpsgd.core.convex import Huber, Logistic, clipped_rows
from dpsgd.core.perturbation import FAINTER, Perturbation, gamma_norm_noise
from mechanisms import Adjacency, Compose, Gaussian, InvalidParameter, KeyedSource, PureDP, Repeat

HUBER = Huber(residual_clip=0.7)
COARSE = 0.01  # a tolerance; what differs by it alone is calibrated anew


def plan(**changes):
    values = {
        "method": "objective",
        "epsilon": 1.0,
        "delta": 1e-5,
        "adjacency": "add_remove",
        "fits": 1,
        "loss": Logistic(),
        "feature_norm": 1.5,
        "ridge": 4.0,
        "tolerance": 1e-7,
    }
    return Perturbation(**{**values, **changes})


@pytest.mark.thinned(7)
@pytest.mark.parametrize(
    ("method", "delta", "adjacency"),
    [*itertools.product(("objective", "output"), (1e-6, 0.0), ("add_remove", "replace_one", "zero_out"))],
)
def test_the_promise_is_kept_by_what_is_described(method, delta, adjacency):
    made = plan(method=method, delta=delta, adjacency=adjacency, tolerance=COARSE)
    found = Tightest().profile(made.process, adjacency=Adjacency.parse(adjacency))
    if delta:  # δ(1) <= δ says as much as ε(δ) <= 1, of which the search takes long
        kept, wasted = found.delta(np.array([1.0, 0.99])).upper
        assert kept <= delta < wasted  # no noise is wasted
    else:
        assert found.epsilon(delta).upper <= 1.0 + 1e-12


def test_several_fits_share_the_budget():
    made = plan(fits=3, method="output")
    assert isinstance(made.process, Repeat) and made.process.times == 3
    assert 0.999 < compute_epsilon(made.process, delta=1e-5) <= 1.0
    pure = plan(fits=3, delta=0.0)
    assert isinstance(pure.one_fit, PureDP) and 0.333 < pure.one_fit.epsilon <= 1 / 3


def test_an_objective_too_curved_for_epsilon_is_refused_with_the_fix():
    least = math.log1p(1.5**2 / 4 / 4.0)
    with pytest.raises(InvalidParameter, match=r"epsilon must exceed 0\.131\d* = fits · log\(1 \+ β/Λ\)") as refusal:
        plan(epsilon=0.999 * least)
    assert "Regularise more" in str(refusal.value) and "method='output'" in str(refusal.value)
    assert plan(epsilon=0.999 * least, method="output").one_fit


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"method": "gradient"}, "method must be one of 'objective', 'output'"),
        ({"epsilon": 0.0}, "epsilon must be above 0"),
        ({"epsilon": math.inf}, "epsilon must be finite"),
        ({"delta": 1.0}, "must be below 1"),
        ({"delta": -0.1}, r"delta must lie in \[0, 1\]"),
        ({"adjacency": "both"}, "name must be one of"),
        ({"fits": 0}, "fits must be at least 1"),
        ({"feature_norm": math.nan}, "feature_norm must be a number"),
        ({"ridge": 0.0}, "ridge must be above 0"),
        ({"tolerance": 1.0}, "must be below 1"),
        ({"feature_norm": 1e200}, "epsilon must exceed inf"),
    ],
)
def test_bad_values_are_named(wrong, text):
    with pytest.raises(InvalidParameter, match=text):
        plan(**wrong)


# What is drawn


@pytest.mark.parametrize("width", [1, 2, 5])
def test_gamma_norm_noise_has_a_gamma_norm_and_a_uniform_direction(width):
    source = KeyedSource(width)
    drawn = np.array([gamma_norm_noise(width, scale=2.5, randomness=source) for _ in range(4000)])
    norms = np.linalg.norm(drawn, axis=1)
    assert stats.kstest(norms, stats.gamma(width, scale=2.5).cdf).pvalue > 1e-3
    along = drawn[:, 0] / norms
    if width == 1:
        assert abs(np.mean(along)) < 0.06
    else:  # the square of a coordinate of a uniform direction
        assert stats.kstest(along**2, stats.beta(0.5, (width - 1) / 2).cdf).pvalue > 1e-3
        assert abs(np.mean(along > 0) - 0.5) < 0.03


NOTHING = np.zeros((1, 2))  # a record that says nothing: the exact minimiser is 0


@pytest.mark.thinned(3)  # either loss and either adjacency once
@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
@pytest.mark.parametrize("loss", [Logistic(), HUBER])
def test_output_noise_is_as_large_as_what_a_record_moves(loss, adjacency):
    # One record moves the exact minimiser by 1.5 · largest slope / 4 and the gap adds 2e-7 of that.
    moved, source = 1.5 * loss.largest_slope / 4.0 * (1 + 2e-7), KeyedSource(1)
    made = plan(method="output", loss=loss, adjacency=adjacency)
    assert isinstance(made.one_fit, Gaussian)
    drawn = np.array([made.minimise(NOTHING, np.zeros(1), source) for _ in range(1500)]).ravel()
    scale = made.one_fit.noise_multiplier * moved
    assert stats.kstest(drawn / scale, stats.norm.cdf).pvalue > 1e-3
    pure = plan(method="output", loss=loss, adjacency=adjacency, delta=0.0)
    norms = [np.linalg.norm(pure.minimise(NOTHING, np.zeros(1), source)) for _ in range(1500)]
    times = 2 if adjacency == "replace_one" else 1
    assert stats.kstest(norms, stats.gamma(2, scale=times * moved).cdf).pvalue > 1e-3


@pytest.mark.parametrize("delta", [1e-6, 0.0])
@pytest.mark.parametrize("method", ["output", "objective"])
def test_the_last_digits_of_weights_are_not_those_of_the_minimiser(method, delta):
    described = plan(method=method, delta=delta, tolerance=COARSE)
    rng = np.random.default_rng(3)
    features, targets = clipped_rows(rng.normal(size=(50, 2)), described.feature_norm), np.sign(rng.normal(size=50))
    unit = 2.0**-33 if delta == 0 else 2.0**-41  # finer than the grid of noise of scale 1
    for records in (50, 49):
        found = described.minimise(features[:records], targets[:records], KeyedSource(0))
        scale = np.ldexp(1.0, int(np.floor(np.log2(least_scale(described)))))
        np.testing.assert_array_equal(np.mod(found, unit * scale), 0.0)


def least_scale(described):
    """Bound the scale of the noise that is added last from below."""
    gap = 2 * described.tolerance * described.feature_norm * described.loss.largest_slope / described.ridge
    if described.method == "objective":
        return gap
    return gap + described.feature_norm * described.loss.largest_slope / described.ridge / described.epsilon / 10


def exact_cdf(w, features, targets, loss, ridge, noise):
    """P(minimiser <= w) in one dimension: w falls with b, and b = −(Σ f' x + Λ w) belongs to w."""
    b = -(ridge * w + sum(x * loss.slope(x * w, np.full_like(w, y)) for x, y in zip(features, targets, strict=True)))
    return noise.sf(b)


@pytest.mark.parametrize(("loss", "slopes", "bend"), [(Logistic(), "one_signed", 0.25), (HUBER, "two_signed", 1.0)])
def test_what_is_described_has_the_slopes_and_the_curvature_of_its_loss(loss, slopes, bend):
    step, gap = plan(loss=loss)._perturbed(5.0).parts  # of any noise: none is calibrated here
    assert (step.noise_multiplier, step.slopes, gap.noise_multiplier) == (5.0, slopes, FAINTER * 5.0)
    assert step.curvature_ratio == pytest.approx(1.5**2 * bend / 4.0, rel=1e-12)


@pytest.mark.thinned(7)  # either loss, either adjacency, and with delta and without
@pytest.mark.parametrize("loss", [Logistic(), HUBER])
@pytest.mark.parametrize("delta", [1e-3, 0.0])
@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
def test_what_objective_perturbation_releases_has_the_law_that_is_described(loss, delta, adjacency):
    features, targets = np.array([1.5, -0.7, 0.4]), np.array([1.0, 1.0, -1.0])
    made = plan(loss=loss, delta=delta, adjacency=adjacency, epsilon=3.0, ridge=3.0)
    bound = 1.5 * loss.largest_slope
    if delta:
        step, gap = made.one_fit.parts
        assert isinstance(made.one_fit, Compose) and step.slopes == loss.slopes
        assert step.curvature_ratio == pytest.approx(1.5**2 * loss.largest_bend / 3.0, rel=1e-12)
        assert gap.noise_multiplier == FAINTER * step.noise_multiplier
        noise = stats.norm(scale=step.noise_multiplier * bound)
    else:
        times = 2 if adjacency == "replace_one" else 1
        left = 0.99 * (3.0 - math.log1p(1.5**2 * loss.largest_bend / 3.0))
        noise = stats.laplace(scale=times * bound / left)
    source = KeyedSource(11)
    drawn = np.array([made.minimise(features[:, None], targets, source)[0] for _ in range(800)])
    found = stats.kstest(drawn, lambda w: exact_cdf(w, features, targets, loss, 3.0, noise))
    assert found.pvalue > 1e-3


@pytest.mark.parametrize("loss", [Logistic(), HUBER])
def test_pure_objective_perturbation_keeps_its_epsilon_between_exact_densities(loss):
    made, ridge = plan(loss=loss, delta=0.0, epsilon=0.8, feature_norm=1.0), 4.0
    volume = math.log1p(loss.largest_bend / ridge)
    scale = loss.largest_slope / (0.99 * (0.8 - volume))
    w = np.linspace(-3, 3, 4001)

    def log_density(features, targets):
        total, bends = ridge * w, np.full_like(w, ridge)
        for x, y in zip(features, targets, strict=True):
            total = total + x * loss.slope(x * w, np.full_like(w, y))
            bends = bends + x * x * loss.bend(x * w, np.full_like(w, y))
        return -np.abs(total) / scale + np.log(bends)

    others = ([0.6, -1.0], [1.0, 1.0])
    for target in (-1.0, 1.0, 0.3 if loss is HUBER else 1.0):
        apart = log_density([*others[0], 1.0], [*others[1], target]) - log_density(*others)
        assert np.max(np.abs(apart)) <= made.one_fit.epsilon
        assert np.max(np.abs(apart)) > 0.5 * made.one_fit.epsilon


def test_logistic_slopes_are_what_the_density_test_takes():
    margins = np.linspace(-5, 5, 11)
    assert Logistic().slope(margins, np.ones(11)) == pytest.approx(special.expit(margins) - 1, rel=1e-12)


def test_the_same_plan_is_calibrated_once_and_compared_by_value(monkeypatch):
    assert plan() == plan(adjacency=Adjacency.ADD_REMOVE) and hash(plan()) == hash(plan())
    asked, calibrate = [], accountant.calibrate_noise_multiplier
    monkeypatch.setattr(
        accountant, "calibrate_noise_multiplier", lambda **given: asked.append(given) or calibrate(**given)
    )
    made = [plan(method="output", epsilon=0.9).one_fit for _ in range(2)]
    assert made[0] == made[1] and len(asked) == 1
