import copy
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audit.attack import Public  # noqa: E402
from audit.attacks.candidate_likelihood import CandidateLikelihood  # noqa: E402
from audit.attacks.input_gradient import GradientProduct  # noqa: E402
from audit.attacks.loss import LossThreshold  # noqa: E402
from audit.canaries import InputCanaries  # noqa: E402
from audit.core.example_gradients import ExampleGradients  # noqa: E402
from audit.runs import Setup, observe_one_run  # noqa: E402
from audit.scores import GuessExtremes, OneRun, Threshold  # noqa: E402
from audit.trainers import dpsgd_trainer  # noqa: E402
from dpsgd import DPSGD, Dataset, mlp  # noqa: E402
from mechanisms import Gaussian, KeyedSource, Poisson, Repeat, Sampled, UnsupportedProcess  # noqa: E402

LOSS = torch.nn.CrossEntropyLoss(reduction="none")
RNG = np.random.default_rng(0)
RATE, BOUND = 0.25, 0.5
CANARIES = InputCanaries(features=RNG.normal(size=(6, 4)).astype(np.float32), targets=np.arange(6) % 3)
REPLACED = InputCanaries(features=RNG.normal(size=(6, 4)).astype(np.float32), targets=np.arange(6) % 3)
MODEL = mlp(4, (), 3)
CLAIM = Repeat(Sampled(Gaussian(noise_multiplier=1.0), Poisson(probability=RATE)), 3)


def clipped(canaries, weights):
    records = Dataset(features=torch.tensor(canaries.features), targets=torch.tensor(canaries.targets))
    return ExampleGradients.of(MODEL, records, loss=LOSS, max_grad_norm=BOUND).matrix(weights).double()


@pytest.mark.parametrize("replaced", [None, REPLACED], ids=["absent", "replaced"])
def test_scores_are_products_with_what_no_known_record_explains(replaced):
    canaries = InputCanaries(features=CANARIES.features, targets=CANARIES.targets, replaced=replaced)
    public = Public(
        design=OneRun(canaries=6), guessing_rule=Threshold(value=0.0), process=CLAIM, max_grad_norm=BOUND,
        expected_sum=lambda weights: 3 * weights,
    )  # fmt: skip
    attack = GradientProduct(model=MODEL, loss=LOSS)
    state, expected = attack.start(canaries, public), torch.zeros(6, dtype=torch.float64)
    for _ in range(3):
        weights, noisy = torch.randn(15), torch.randn(15)
        state = attack.observe(state, SimpleNamespace(step=0, weights_before=weights, noisy_sum=noisy))
        own, rest = clipped(canaries, weights), torch.zeros(6, 15, dtype=torch.float64)
        if replaced is not None:
            rest = clipped(replaced, weights)
        unexplained = noisy.double() - 3 * weights.double() - RATE / 2 * (own + rest).sum(0)
        expected += (own - rest) @ unexplained / BOUND**2
    np.testing.assert_allclose(attack.finish(state).values, expected, rtol=1e-4, atol=1e-4)


def test_other_claims_are_refused_before_the_first_step():
    public = Public(design=OneRun(canaries=6), guessing_rule=Threshold(value=0.0), max_grad_norm=1.0,
                    process=Repeat(Gaussian(noise_multiplier=1.0), 2).part)  # fmt: skip
    assert GradientProduct(model=MODEL, loss=LOSS).start(CANARIES, public).probability == 1.0
    with pytest.raises(UnsupportedProcess, match="one Gaussian step"):
        GradientProduct(model=MODEL, loss=LOSS).start(CANARIES, Public(
            design=OneRun(canaries=6), guessing_rule=Threshold(value=0.0), max_grad_norm=1.0,
            process=Sampled(CLAIM, Poisson(probability=0.5)),
        ))  # fmt: skip


def test_scores_of_a_real_run_have_the_law_that_the_docstring_says():
    """Orthogonal inputs and no hidden layer: gradients of different canaries are at right angles, all at the bound."""
    inputs, steps, noise = 40, 12, 0.6
    model = torch.nn.Linear(inputs, 3, bias=False)
    torch.nn.init.zeros_(model.weight)
    canaries = InputCanaries(features=9 * np.eye(inputs, dtype=np.float32), targets=np.arange(inputs) % 3)
    known = Dataset(features=torch.zeros(4, inputs), targets=torch.zeros(4, dtype=torch.int64))
    config = DPSGD(
        noise_multiplier=noise, max_grad_norm=BOUND, sampling=Poisson(probability=RATE), expected_batch_size=10,
        steps=steps, learning_rate=0.01,
    )  # fmt: skip
    scores = []
    for seed in range(8):
        scores.append(observe_one_run(Setup(
            trainer=dpsgd_trainer(model, known, config, loss=LOSS), canaries=canaries, randomness=KeyedSource(seed),
            attack=GradientProduct(model=model, loss=LOSS), guessing_rule=GuessExtremes(included=1, excluded=1),
            process=config.process(),
        )))  # fmt: skip
        model.weight.data.zero_()
    included, excluded = (np.concatenate([getattr(data, kind) for data in scores]) for kind in ("included", "excluded"))
    deviation = noise * np.sqrt(steps)
    assert not any(data.scores.measuring.any() for data in scores)
    assert excluded.mean() == pytest.approx(-RATE / 2 * steps, abs=5 * deviation / np.sqrt(len(excluded)))
    assert excluded.std() == pytest.approx(deviation, rel=0.2)
    assert included.mean() - excluded.mean() == pytest.approx(RATE * steps, abs=0.9)


def scores_of_a_run(canaries, attack, known, model):
    config = DPSGD(
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        sampling=Poisson(probability=0.5),
        expected_batch_size=4,
        steps=2,
        learning_rate=0.1,
    )
    asked = Setup(
        trainer=dpsgd_trainer(copy.deepcopy(model), known, config, loss=LOSS),
        canaries=canaries,
        attack=attack,
        guessing_rule=Threshold(value=0.0),
        randomness=KeyedSource(1),
        process=config.process(),
    )
    return observe_one_run(asked).scores.values


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.int64])
def test_canaries_of_other_whole_numbers_are_the_same_records(kind):
    model, known = mlp(4, (), 3), Dataset(features=torch.ones(3, 4), targets=torch.arange(3))
    one = InputCanaries(features=np.eye(20, 4, dtype=np.float32), targets=np.arange(20) % 3)
    other = InputCanaries(features=np.eye(20, 4, dtype=kind), targets=(np.arange(20) % 3).astype(kind))
    for attack in (GradientProduct(model=model, loss=LOSS), CandidateLikelihood(model=model, loss=LOSS)):
        found = [scores_of_a_run(canaries, attack, known, model) for canaries in (one, other)]
        np.testing.assert_array_equal(*found)
    floats = InputCanaries(features=one.features, targets=other.targets)
    found = [scores_of_a_run(canaries, LossThreshold(), known, model) for canaries in (one, floats)]
    np.testing.assert_array_equal(*found)


def test_canaries_of_tokens_stay_tokens():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Flatten(), torch.nn.Linear(6, 2))
    known = Dataset(features=torch.arange(6).reshape(3, 2) % 5, targets=torch.arange(3) % 2)
    canaries = InputCanaries(features=np.stack(np.divmod(np.arange(20), 5), axis=1), targets=np.arange(20) % 2)
    assert len(set(scores_of_a_run(canaries, GradientProduct(model=model, loss=LOSS), known, model))) == 20
