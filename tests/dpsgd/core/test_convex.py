"""Strongly convex objectives: derivatives, certified gradients, minimisers, and how far one record moves them."""

from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from dpsgd.core.convex import Huber, Logistic, Objective, clipped_rows, minimiser, tree_sum
from mechanisms import InvalidParameter, NumericalFailure

LOSSES = (Logistic(), Huber(residual_clip=0.7))
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=("logistic", "huber"))


def objective(loss, features, targets, *, ridge=0.5, linear=None, norm=1.0):
    features = np.asarray(features, dtype=float)
    return Objective(
        loss=loss,
        features=features,
        targets=np.asarray(targets, dtype=float),
        ridge=ridge,
        linear=np.zeros(features.shape[1]) if linear is None else np.asarray(linear, dtype=float),
        feature_norm=norm,
    )


def some(loss, *, seed=0, n=40, d=3, ridge=0.5):
    rng = np.random.default_rng(seed)
    features = clipped_rows(rng.standard_normal((n, d)), 1.0)
    targets = rng.choice([-1.0, 1.0], n) if isinstance(loss, Logistic) else 2 * rng.standard_normal(n)
    return objective(loss, features, targets, ridge=ridge, linear=rng.standard_normal(d))


def exact_gradient(one, w):
    """The gradient to 50 digits."""
    with mp.workdps(50):
        found = [mp.mpf(float(b)) + mp.mpf(one.ridge) * mp.mpf(float(x)) for b, x in zip(one.linear, w, strict=True)]
        for row, y in zip(one.features, one.targets, strict=True):
            margin = mp.fsum(mp.mpf(float(a)) * mp.mpf(float(b)) for a, b in zip(row, w, strict=True))
            if isinstance(one.loss, Logistic):
                slope = -mp.mpf(float(y)) / (1 + mp.exp(mp.mpf(float(y)) * margin))
            else:
                most = mp.mpf(one.loss.residual_clip)
                slope = max(-most, min(most, margin - mp.mpf(float(y))))
            found = [f + mp.mpf(float(x)) * slope for f, x in zip(found, row, strict=True)]
        return found


@every_loss
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_the_certified_norm_is_at_least_the_exact_one_and_hardly_more(loss, size):
    for seed in range(5):
        one = some(loss, seed=seed)
        w = size * np.random.default_rng(seed).standard_normal(3)
        found = one.certified_gradient_norm(w)
        exact = mp.sqrt(mp.fsum(g * g for g in exact_gradient(one, w)))
        assert exact <= found <= exact + 1e-12 * (1 + size)


@every_loss
def test_at_the_minimiser_the_certificate_is_what_was_asked_for(loss):
    one = some(loss, seed=3)
    w = minimiser(one, tolerance=1e-12)
    assert one.certified_gradient_norm(w) <= 1e-12
    assert mp.sqrt(mp.fsum(g * g for g in exact_gradient(one, w))) <= 1e-12


@every_loss
def test_derivatives_are_those_of_the_value(loss):
    one, w, h = some(loss, seed=1), np.array([0.3, -0.2, 0.1]), 1e-6
    for k in range(3):
        e = h * np.eye(3)[k]
        assert (one.value(w + e) - one.value(w - e)) / (2 * h) == pytest.approx(one.gradient(w)[k], rel=1e-6, abs=1e-7)
        slope = (one.gradient(w + e) - one.gradient(w - e)) / (2 * h)
        assert slope == pytest.approx(one.hessian(w)[k], rel=1e-5, abs=1e-7)
    assert one.value(np.zeros(3)) == pytest.approx(0.0, abs=1e-12)


@every_loss
def test_slopes_and_bends_keep_to_their_bounds_and_signs(loss):
    margins, targets = np.linspace(-800, 800, 4001), np.where(np.arange(4001) % 3, 1.0, -1.0)
    slopes = loss.slope(margins, targets)
    assert np.all(np.abs(slopes) <= loss.largest_slope) and np.all(loss.bend(margins, targets) <= loss.largest_bend)
    if loss.slopes == "one_signed":
        assert np.all(slopes * targets <= 0)
    else:
        assert slopes.min() == -loss.largest_slope and slopes.max() == loss.largest_slope


@pytest.mark.parametrize("C", [0.01, 1.0, 30.0])
def test_without_noise_it_is_the_model_of_scikit_learn(C):
    rng = np.random.default_rng(5)
    features = clipped_rows(rng.standard_normal((200, 4)), 1.0)
    labels = np.where(features @ rng.standard_normal(4) + 0.3 * rng.standard_normal(200) > 0, 1.0, -1.0)
    ours = minimiser(objective(Logistic(), features, labels, ridge=1 / C), tolerance=1e-11)
    theirs = LogisticRegression(C=C, fit_intercept=False, tol=1e-10, max_iter=1000).fit(features, labels)
    assert ours == pytest.approx(theirs.coef_[0], rel=1e-5, abs=1e-7)
    wide = Huber(residual_clip=30.0)
    ours = minimiser(objective(wide, features, labels, ridge=1 / C), tolerance=1e-9)
    assert ours == pytest.approx(Ridge(alpha=1 / C, fit_intercept=False).fit(features, labels).coef_, rel=1e-8)


@pytest.mark.parametrize("far", [1e6, 1e150, 1.7e308])
def test_far_targets_drown_nothing(far):
    # One record that pulls with all its force, and others that decide where it balances.
    features, targets = np.ones((11, 1)), np.array([far] + [0.1] * 10)
    w = minimiser(objective(Huber(residual_clip=1.0), features, targets, ridge=1.0), tolerance=1e-12)
    assert float(w[0]) == pytest.approx((10 * 0.1 + 1) / 11, rel=1e-12)


@every_loss
@pytest.mark.parametrize("seed", range(8))
def test_random_objectives_of_any_condition_are_solved(loss, seed):
    rng = np.random.default_rng(seed)
    one = some(loss, seed=seed, n=int(rng.integers(1, 300)), d=int(rng.integers(1, 8)), ridge=10 ** rng.uniform(-4, 3))
    assert one.certified_gradient_norm(minimiser(one, tolerance=1e-8)) <= 1e-8


def test_a_tolerance_below_round_off_is_refused_by_name():
    with pytest.raises(NumericalFailure, match=r"not certified to reach the tolerance. Nothing is released"):
        minimiser(some(Logistic()), tolerance=1e-18)


def moved(loss, features, targets, other, *, ridge=0.5, tolerance=1e-11):
    """How far minimisers lie apart: with the last record, and without it or with another in its place."""
    whole = minimiser(objective(loss, features, targets, ridge=ridge), tolerance=tolerance)
    if other is None:
        rest = objective(loss, features[:-1], targets[:-1], ridge=ridge)
    else:
        rest = objective(loss, np.vstack([features[:-1], other[0]]), np.append(targets[:-1], other[1]), ridge=ridge)
    return float(np.linalg.norm(whole - minimiser(rest, tolerance=tolerance)))


@every_loss
@pytest.mark.parametrize("replace", [False, True])
def test_no_record_moves_the_minimiser_further_than_the_bound_and_some_nearly_so_far(loss, replace):
    rng = np.random.default_rng(0)
    bound = (2 if replace else 1) * loss.largest_slope / 0.5
    scale = 1.0 if isinstance(loss, Logistic) else 30.0

    def scene(point):
        n, rows = 12, point[: 13 * 2].reshape(13, 2)
        rows = rows / np.maximum(1.0, np.linalg.norm(rows, axis=1, keepdims=True))
        targets = point[26:39] * scale
        targets = np.where(targets > 0, 1.0, -1.0) if isinstance(loss, Logistic) else targets
        other = (rows[-1] * -1.0, -targets[-1]) if replace and loss.slopes == "two_signed" else (rows[-2], targets[-1])
        return rows[:n], targets[:n], other if replace else None

    best_point, best = None, 0.0
    for trial in range(400):
        spread = 1.0 if best_point is None or trial < 60 else 0.3
        point = (0 if best_point is None or trial < 60 else best_point) + spread * rng.standard_normal(39)
        found = moved(loss, *scene(point))
        assert found <= bound + 1e-9
        if found > best:
            best_point, best = point, found
    assert best > 0.25 * bound  # what a blind search finds


@pytest.mark.parametrize("replace", [False, True])
def test_named_neighbours_attain_the_bound(replace):
    # Residuals beyond the clip pull with all they may, wherever w is.
    far = Huber(residual_clip=0.7)
    other = (np.array([[-1.0]]), 1e3) if replace else None
    times = 2 if replace else 1
    assert moved(far, np.array([[1.0]]), np.array([1e3]), other) == pytest.approx(times * 0.7 / 0.5, rel=1e-9)
    # Many short records bring w far out and hardly bend the objective; one of the other label pulls with all it has.
    features, targets = np.append(np.full(20_000, 1e-3), 1.0)[:, None], np.append(np.ones(20_000), -1.0)
    assert 0.98 <= moved(Logistic(), features, targets, None, ridge=1.0, tolerance=1e-8) <= 1.0


def test_rows_are_clipped_exactly_and_short_ones_kept():
    rng = np.random.default_rng(2)
    features = rng.standard_normal((200, 5)) * 10 ** rng.uniform(-3, 3, (200, 1))
    clipped = clipped_rows(features, 1.5)
    for before, after in zip(features, clipped, strict=True):
        assert sum(Fraction(float(x)) ** 2 for x in after) <= Fraction(1.5) ** 2
        norm = np.linalg.norm(before)
        assert (
            np.array_equal(before, after) if norm < 1.4999 else after == pytest.approx(before * 1.5 / norm, rel=1e-12)
        )
    edge = np.array([[1.7e308, 1.7e308], [5e-324, 0.0], [0.0, -0.0], [1.5, 0.0]])
    found = clipped_rows(edge, 1.5)
    assert (
        np.all(np.isfinite(found)) and found[0] == pytest.approx(1.5 / np.sqrt(2)) and np.array_equal(found[1], edge[1])
    )
    assert clipped_rows(np.empty((0, 2)), 1.0).shape == (0, 2)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 1000])
def test_a_tree_adds_everything_once(n):
    terms = np.arange(2 * n, dtype=float).reshape(n, 2)
    assert np.array_equal(tree_sum(terms), terms.sum(axis=0))


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.inf, np.nan, "1"])
def test_a_residual_bound_must_be_positive(wrong):
    with pytest.raises(InvalidParameter, match="Huber: residual_clip must be"):
        Huber(residual_clip=wrong)
