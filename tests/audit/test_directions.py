import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audit.attacks.gradient import GradientProjection  # noqa: E402
from audit.directions import Directions, orthogonal_directions, random_directions  # noqa: E402
from audit.runs import Setup, observe_one_run  # noqa: E402
from audit.scores import GuessExtremes  # noqa: E402
from audit.trainers import dpsgd_trainer  # noqa: E402
from dpsgd import DPSGD, Dataset  # noqa: E402
from mechanisms import InvalidParameter, KeyedSource, Poisson  # noqa: E402


def test_random_directions_are_uniform_on_the_sphere(rng):
    made = random_directions(canaries=400, dimension=100, rng=rng).vectors
    cosines = (made @ made.T)[np.triu_indices(400, 1)]
    assert cosines.mean() == pytest.approx(0, abs=0.002) and cosines.std() == pytest.approx(0.1, rel=0.02)


def test_orthogonal_directions_are_at_right_angles_and_favour_no_coordinate(rng):
    made = orthogonal_directions(canaries=60, dimension=80, rng=rng).vectors
    np.testing.assert_allclose(made @ made.T, np.eye(60), atol=1e-6)
    first = [orthogonal_directions(canaries=2, dimension=3, rng=rng).vectors[0] for _ in range(2000)]
    np.testing.assert_allclose(np.mean(first, axis=0), 0, atol=0.06)
    np.testing.assert_allclose(np.mean(np.square(first), axis=0), 1 / 3, atol=0.03)


def test_totals_and_projections_are_sums_over_the_rows(rng):
    made = random_directions(canaries=7, dimension=5, rng=rng)
    included, vector = rng.random(7) < 0.5, rng.normal(size=5)
    np.testing.assert_allclose(made.total(included), made.vectors[included].sum(0), atol=1e-6)
    np.testing.assert_allclose(made.projections(vector), [row @ vector for row in made.vectors], atol=1e-6)
    assert (len(made), made.dimension) == (7, 5)


def observed(canaries, *, noise, probability=1.0, steps=1, bound=0.5, seed=0):
    model = torch.nn.Linear(3, 10, bias=False)
    data = Dataset(features=torch.rand(6, 3), targets=torch.arange(6))
    config = DPSGD(
        noise_multiplier=noise, max_grad_norm=bound, sampling=Poisson(probability=probability),
        expected_batch_size=6, steps=steps, learning_rate=0.1,
    )  # fmt: skip
    setup = Setup(
        trainer=dpsgd_trainer(model, data, config, loss=torch.nn.CrossEntropyLoss(reduction="none")),
        canaries=canaries, attack=GradientProjection(), randomness=KeyedSource(seed),
        guessing_rule=GuessExtremes(included=1, excluded=1), process=config.process(),
    )  # fmt: skip
    return observe_one_run(setup)


def test_without_noise_a_trainer_shows_exactly_the_canaries_that_were_in(rng):
    canaries = orthogonal_directions(canaries=20, dimension=30, rng=rng)
    data = observed(canaries, noise=0.0)
    np.testing.assert_allclose(data.scores.values, data.membership, atol=1e-4)


def test_with_noise_scores_have_the_law_that_is_described(rng):
    canaries = orthogonal_directions(canaries=30, dimension=30, rng=rng)
    runs = [observed(canaries, noise=1.5, probability=0.4, steps=10, seed=seed) for seed in range(12)]
    excluded, included = (np.concatenate([getattr(run, kind) for run in runs]) for kind in ("excluded", "included"))
    deviation = np.sqrt(10 * 1.5**2)
    assert excluded.std() == pytest.approx(deviation, rel=0.2)
    assert included.mean() - excluded.mean() == pytest.approx(4.0, abs=5 * deviation * np.sqrt(2 / len(excluded)))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda _: Directions(vectors=[[1.0, 1.0]]), "must all be of length 1"),
        (lambda _: Directions(vectors=[[np.nan]]), "must all be of length 1"),
        (lambda _: Directions(vectors=[1.0]), r"must have shape \(m, d\)"),
        (lambda rng: orthogonal_directions(canaries=3, dimension=2, rng=rng), "at most the 2 trainable parameters"),
        (lambda rng: random_directions(canaries=2**14, dimension=2**15, rng=rng), "Use signed_coordinates"),
        (lambda rng: random_directions(canaries=0, dimension=2, rng=rng), "canaries must be at least 1"),
    ],
)
def test_bad_input_is_named(make, text, rng):
    with pytest.raises(InvalidParameter, match=text):
        make(rng)
