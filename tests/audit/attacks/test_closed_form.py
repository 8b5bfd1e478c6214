"""The missing record of a linear classifier at its optimum, without noise and with."""

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")
linear_model = pytest.importorskip("sklearn.linear_model")

from audit.attack import FinalModel, Observations  # noqa: E402
from audit.attacks.closed_form import ClosedForm, reconstructed_record  # noqa: E402
from audit.canaries import InputCanaries  # noqa: E402
from audit.guessing import LIKELIEST, audit_guesses, observe_guesses  # noqa: E402
from audit.runs import Setup  # noqa: E402
from dpsgd import Dataset, load  # noqa: E402
from mechanisms import Gaussian, InvalidParameter, KeyedSource  # noqa: E402

RIDGE, KNOWN = 0.01, 60


@pytest.fixture(scope="module")
def digits():
    """Digits 0, 1 and 2, thinned to a quarter of their pixels and scaled to norm 1 at most."""
    records, _ = load("digits")
    few = records.targets < 3
    features = records.features[few].numpy().astype(np.float64).reshape(-1, 8, 8)[:, ::2, ::2].reshape(-1, 16)
    return features / np.linalg.norm(features, axis=1).max(), records.targets[few].numpy()


def optimum(features, targets):
    """Scikit-learn's: it has no part in the attack."""
    asked = {"solver": "newton-cholesky", "tol": 1e-10, "C": 1 / (len(features) * RIDGE)}
    fitted = linear_model.LogisticRegression(**asked).fit(features, targets)
    return np.hstack([fitted.coef_, fitted.intercept_[:, None]])


def numbers(weights):
    """The weights in a model's order."""
    return np.concatenate([weights[:, :-1].ravel(), weights[:, -1]])


class Optimum:
    """Trains to the optimum, and adds noise to the weights."""

    def __init__(self, digits, noise):
        self.features, self.targets, self.noise = digits[0][:KNOWN], digits[1][:KNOWN], noise

    def __call__(self, task):
        rng = np.random.default_rng(task.streams.words("noise", 0, 4))
        chosen = task.canaries.features[task.membership], task.canaries.targets[task.membership]
        weights = optimum(np.vstack([self.features, chosen[0]]), np.append(self.targets, chosen[1]))
        flat = numbers(weights) + self.noise * rng.normal(size=weights.size)
        model = FinalModel(outputs=lambda x: x, losses=lambda x, y: np.zeros(len(x)), weights=flat)
        known = Dataset(features=torch.tensor(self.features), targets=torch.tensor(self.targets))
        return Observations(released=[model], known=known)


def test_every_record_of_the_digits_is_solved_for_from_the_final_weights(digits):
    features, targets = digits[0][: KNOWN + 1], digits[1][: KNOWN + 1]
    weights = optimum(features, targets)
    for missing in range(0, KNOWN, 6):
        rest = np.arange(len(features)) != missing
        found, label = reconstructed_record(weights, features[rest], targets[rest], ridge=RIDGE)
        np.testing.assert_allclose(found, features[missing], atol=1e-9)
        assert label == targets[missing]


def candidates(digits, count=40):
    chosen = slice(KNOWN, KNOWN + count)
    return InputCanaries(features=digits[0][chosen], targets=digits[1][chosen])


def test_without_noise_the_candidate_is_always_named(digits):
    setup = Setup(
        trainer=Optimum(digits, 0.0), canaries=candidates(digits), attack=ClosedForm(ridge=RIDGE, classes=3),
        guessing_rule=LIKELIEST, randomness=KeyedSource(0),
    )  # fmt: skip
    assert observe_guesses(setup, runs=15).correct == 15


def test_output_perturbation_keeps_the_attack_within_what_it_allows_and_less_noise_does_not(digits):
    """The claim is for these candidates: its sensitivity is the largest distance that one of them moves the optimum."""
    trainer, seen = Optimum(digits, 0.0), candidates(digits, 10)
    base = numbers(optimum(trainer.features, trainer.targets))
    moved = max(
        np.linalg.norm(numbers(optimum(np.vstack([trainer.features, x]), np.append(trainer.targets, y))) - base)
        for x, y in zip(seen.features, seen.targets, strict=True)
    )
    reports = {
        noise: audit_guesses(
            Optimum(digits, noise * moved), claim=Gaussian(noise_multiplier=0.5), delta=1e-5, candidates=seen,
            attack=ClosedForm(ridge=RIDGE, classes=3), runs=40, randomness=KeyedSource(1), confidence=0.99,
        )
        for noise in (0.5, 1e-5)
    }  # fmt: skip
    assert reports[0.5].verdict in ("consistent", "none")
    assert reports[0.5].risk.allowed == pytest.approx(stats.norm.cdf(stats.norm.ppf(0.1) + 2), rel=1e-6)
    assert reports[1e-5].risk.success > reports[1e-5].risk.allowed
    assert reports[1e-5].verdict == "description refuted"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ClosedForm(ridge=-1.0, classes=3), "ridge must be at least 0"),
        (lambda: ClosedForm(ridge=0.1, classes=1), "classes must be at least 2"),
        (lambda: reconstructed_record(np.zeros((2, 3)), np.zeros((4, 1)), np.zeros(4), ridge=0.1), "have 2 features"),
    ],
)
def test_bad_input_is_named(make, text):
    with pytest.raises(InvalidParameter, match=text):
        make()


def test_a_trainer_of_another_model_is_refused(digits):
    setup = Setup(
        trainer=Optimum(digits, 0.0), canaries=candidates(digits), attack=ClosedForm(ridge=RIDGE, classes=4),
        guessing_rule=LIKELIEST, randomness=KeyedSource(0),
    )  # fmt: skip
    with pytest.raises(InvalidParameter, match="must show the 68 final weights"):
        observe_guesses(setup, runs=1)
