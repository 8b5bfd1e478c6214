from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audit import Observations, audit  # noqa: E402
from audit.attack import Public  # noqa: E402
from audit.attacks.gradient import GradientProjection  # noqa: E402
from audit.attacks.likelihood import StepLikelihoodRatio  # noqa: E402
from audit.canaries import signed_coordinates  # noqa: E402
from audit.core.noise_bounds import bound_from_squares  # noqa: E402
from audit.core.shared_directions import MOST, Independent, at_right_angles  # noqa: E402
from audit.directions import Directions, orthogonal_directions, random_directions  # noqa: E402
from audit.estimators.accountant_inversion import AccountantInversion  # noqa: E402
from audit.pictures import Pictures  # noqa: E402
from audit.scores import LabelledScores, OneRun, Threshold  # noqa: E402
from mechanisms import Gaussian, KeyedSource, Poisson, Repeat, Sampled  # noqa: E402

LEVEL, RUNS, STEPS = 0.02, 3000, 4


def random(canaries, dimension, seed=0):
    return random_directions(canaries=canaries, dimension=dimension, rng=np.random.default_rng(seed))


def alike(canaries, dimension, seed=0):
    """Directions about a common one, as of mislabelled records."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(canaries, dimension)) + 3.0 * rng.normal(size=(1, dimension))
    return Directions(vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


KINDS = [random(100, 50), random(60, 60), alike(40, 80)]
NAMES = ["more than dimensions", "as many as dimensions", "about a common one"]


def test_right_angles_are_told_from_others():
    rng = np.random.default_rng(0)
    made = {"canaries": 20, "dimension": 500, "rng": rng}
    assert at_right_angles(signed_coordinates(**made)) and at_right_angles(orthogonal_directions(**made))
    assert not at_right_angles(random_directions(**made))


@pytest.mark.parametrize("canaries", KINDS, ids=NAMES)
def test_what_is_seen_is_a_projection_on_vectors_at_right_angles_next_to_the_canaries(canaries):
    found = Independent.of(canaries)
    vectors = canaries.vectors[found.measuring].astype(np.float64)
    made = found.inverse @ vectors
    np.testing.assert_allclose(made @ made.T, np.eye(len(made)), atol=1e-9)
    own = made @ vectors.T
    np.testing.assert_allclose(np.tril(own, -1), 0, atol=1e-9)  # each is at right angles to the canaries before it
    assert np.all(own.diagonal() >= 0.0999) and 0.9 * min(canaries.vectors.shape) <= len(made) <= canaries.dimension


def test_the_cosines_of_any_canaries_are_those_of_their_vectors():
    canaries, named = random(7, 9000), np.array([4, 1, 6])
    wanted = canaries.vectors[named].astype(np.float64) @ canaries.vectors[named].astype(np.float64).T
    np.testing.assert_allclose(canaries.cosines(named), wanted, atol=1e-12)
    np.testing.assert_allclose(super(Directions, canaries).cosines(named), wanted, atol=1e-5)
    np.testing.assert_array_equal(canaries.rows(named), canaries.vectors[named])


@pytest.mark.parametrize("canaries", KINDS, ids=NAMES)
def test_squares_bound_the_noise_of_honest_runs_as_announced_and_would_not_as_they_were(canaries):
    """σ = 1 in all directions of the space, drawn there; canaries that are out see nothing else."""
    rng, found = np.random.default_rng(3), Independent.of(canaries)
    out = np.arange(len(canaries)) % 2 == 0
    seen = rng.normal(size=(RUNS * STEPS, canaries.dimension)) @ canaries.vectors.T.astype(np.float64)
    kept = out & found.measuring
    squares = np.array([found.seen(one)[kept] @ found.seen(one)[kept] for one in seen]).reshape(RUNS, STEPS).sum(1)
    refuted = np.mean(bound_from_squares(squares, degrees=STEPS * np.count_nonzero(kept), level=LEVEL) < 1.0)
    allowed = 4 * np.sqrt(LEVEL * (1 - LEVEL) / RUNS)
    assert abs(refuted - LEVEL) <= allowed  # exactly χ²: neither more often nor less
    plain = np.square(seen[:, out]).sum(1).reshape(RUNS, STEPS).sum(1)
    former = np.mean(bound_from_squares(plain, degrees=STEPS * np.count_nonzero(out), level=LEVEL) < 1.0)
    assert former > LEVEL + 2 * allowed


def run(canaries, *, noise, probability, steps, seed, attack=None, claimed=1.0):
    """Return the scores of one run on nothing but canaries, and the claim."""
    rng = np.random.default_rng(seed)
    step = Gaussian(noise_multiplier=claimed)
    claim = Repeat(Sampled(step, Poisson(probability=probability)) if probability < 1 else step, steps)
    attack, zero = attack or GradientProjection(), torch.zeros(canaries.dimension, dtype=torch.float64)
    public = Public(
        design=OneRun(canaries=len(canaries)), guessing_rule=Threshold(value=0.0), process=claim, max_grad_norm=1.0,
        expected_sum=lambda _: zero,
    )  # fmt: skip
    membership = np.arange(len(canaries)) % 2 == 0
    state = attack.start(canaries, public)
    for number in range(steps):
        taking_part = membership & (rng.random(len(canaries)) < probability)
        total = canaries.total(taking_part) + noise * rng.normal(size=canaries.dimension)
        seen = SimpleNamespace(step=number, weights_before=zero, noisy_sum=torch.from_numpy(total))
        state = attack.observe(state, seen)
    return LabelledScores(scores=attack.finish(state), membership=membership), claim


def found_noise(data, claim, confidence=0.95, **options):
    return AccountantInversion(**options).noise_multiplier(data, process=claim, confidence=confidence)


@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_honest_runs_are_refuted_no_more_often_than_announced_and_half_the_noise_always(probability):
    canaries, asked = random(40, 200), {"probability": probability, "steps": 10}
    honest = [found_noise(*run(canaries, noise=1.0, seed=seed, **asked)) for seed in range(100)]
    assert np.mean(np.array(honest) < 1.0) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 100)
    halved = [found_noise(*run(canaries, noise=0.5, seed=seed, **asked)) for seed in range(10)]
    assert np.all(np.array(halved) < 0.9)


@pytest.mark.parametrize("attack", [GradientProjection(), StepLikelihoodRatio()], ids=["gradient", "likelihood"])
def test_the_gap_of_canaries_that_share_directions_bounds_nothing(attack):
    data, claim = run(random(60, 600), noise=0.3, probability=0.5, steps=10, seed=1, attack=attack)
    assert data.scores.measuring is not None and found_noise(data, claim) < 0.5
    assert found_noise(data, claim, norm="measured") == np.inf
    apart = signed_coordinates(canaries=60, dimension=60, rng=np.random.default_rng(0))
    data, claim = run(apart, noise=0.3, probability=0.5, steps=10, seed=1, attack=attack)
    assert data.scores.measuring is None and found_noise(data, claim, norm="measured") < 1.0


def test_the_bound_is_that_of_the_squares_of_those_that_are_out_and_measure():
    canaries, steps = random(60, 50), 10
    data, claim = run(canaries, noise=0.2, probability=1.0, steps=steps, seed=2)
    counted = ~data.membership & data.scores.measuring
    assert 0 < np.count_nonzero(counted) < np.count_nonzero(~data.membership)
    total, degrees = np.sum(data.scores.squares[counted]), steps * np.count_nonzero(counted)
    assert found_noise(data, claim) == pytest.approx(bound_from_squares(total, degrees=degrees, level=0.05))


def test_squares_are_those_of_independent_projections_summed_over_the_steps():
    canaries, sums = random(30, 40), np.random.default_rng(5).normal(size=(3, 40))
    attack, zero = GradientProjection(), torch.zeros(40, dtype=torch.float64)
    public = Public(
        design=OneRun(canaries=30), guessing_rule=Threshold(value=0.0), max_grad_norm=2.0, expected_sum=lambda _: zero
    )
    state = attack.start(canaries, public)
    for step, noisy in enumerate(sums):
        release = SimpleNamespace(step=step, weights_before=zero, noisy_sum=torch.from_numpy(noisy))
        state = attack.observe(state, release)
    found, scores = Independent.of(canaries), attack.finish(state)
    wanted = sum(found.seen(canaries.projections(noisy) / 2.0) ** 2 for noisy in sums)
    np.testing.assert_allclose(scores.squares, wanted, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(scores.values, canaries.projections(sums.sum(0)) / 2.0, rtol=1e-4, atol=1e-6)


def test_a_report_sets_scores_that_hold_parts_of_others_against_no_law_of_the_noise(monkeypatch):
    """Nor does it say what their variance should be."""
    given = []
    monkeypatch.setattr("audit.harness.accountant_answers", lambda *_, **__: ())
    monkeypatch.setattr("audit.harness.pictured", lambda *_, described, **__: given.append(described) or Pictures())
    rng = np.random.default_rng(0)

    def trainer(task):
        noisy = torch.from_numpy(task.canaries.total(task.membership) + rng.normal(size=task.canaries.dimension))
        step = SimpleNamespace(step=0, weights_before=torch.zeros(len(noisy)), noisy_sum=noisy)
        return Observations(released=[step], max_grad_norm=1.0, expected_sum=torch.zeros_like)

    for canaries in (random(30, 60), signed_coordinates(canaries=30, dimension=60, rng=rng)):
        report = audit(
            trainer, claim=Gaussian(noise_multiplier=1.0), delta=1e-5, canaries=canaries,
            guessing_rule=Threshold(value=0.5), randomness=KeyedSource(0),
        )  # fmt: skip
        assert (report.noise_ratio is None) == (given[-1] is None) == (len(given) == 1)


def test_beyond_the_most_that_are_looked_at_the_others_measure_nothing(monkeypatch):
    monkeypatch.setattr("audit.core.shared_directions.MOST", 8)
    assert list(Independent.of(random(20, 30)).measuring) == [True] * 8 + [False] * 12
    assert MOST >= 1000
