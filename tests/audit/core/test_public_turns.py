"""What is known of runs whose participants are public is what the trainer runs."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from audit.core.public_turns import check_noise, known_sum_of_step, turns_of  # noqa: E402
from dpsgd import DPSGD, AdaptiveQuantile, Dataset, PerLayer, steps  # noqa: E402
from dpsgd.core.batches import drawn_rows  # noqa: E402
from dpsgd.core.noise_laws import IndependentGaussian, MatrixGaussian, RoundedGaussian, TreeGaussian  # noqa: E402
from dpsgd.cyclic import Cyclic, CyclicPoisson  # noqa: E402
from mechanisms import InvalidParameter, KeyedSource  # noqa: E402


def cross_entropy(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def small(records=10, **changes):
    generator = torch.Generator().manual_seed(0)
    data = Dataset(
        features=torch.randn(records, 5, generator=generator), targets=torch.arange(records, dtype=torch.int64) % 2
    )
    torch.manual_seed(0)
    config = DPSGD(
        noise_multiplier=0.0,
        max_grad_norm=0.1,
        sampling=Cyclic(),
        expected_batch_size=4,
        steps=7,
        learning_rate=0.5,
        steps_per_epoch=3,
    )
    return nn.Linear(5, 2), data, dataclasses.replace(config, **changes)


@pytest.mark.parametrize("records", [10, 2])
@pytest.mark.parametrize("split", [False, True], ids=["flat", "by layer"])
def test_the_known_sum_of_a_step_is_what_a_run_without_noise_shows(records, split):
    model, data, config = small(records)
    if split:
        config = dataclasses.replace(config, clipping=PerLayer())
    known = known_sum_of_step(model, data, config, loss=cross_entropy)
    for release in steps(model, data, config, loss=cross_entropy, randomness=KeyedSource(0)):
        expected = known(release.weights_before, step=release.step)
        torch.testing.assert_close(expected, release.noisy_sum, rtol=1e-5, atol=1e-7)


def test_the_known_sum_is_of_users_where_these_are_the_unit():
    model, data, config = small(unit="user", examples_per_user=3)
    owned = dataclasses.replace(data, owners=torch.arange(10) % 4)
    known = known_sum_of_step(model, owned, config, loss=cross_entropy)
    for release in steps(model, owned, config, loss=cross_entropy, randomness=KeyedSource(0)):
        torch.testing.assert_close(known(release.weights_before, step=release.step), release.noisy_sum)


def test_turns_are_those_that_the_trainer_draws():
    _, _, config = small()
    turns, rows = turns_of(config, known=10, canaries=4), drawn_rows(KeyedSource(0), config, run=0, records=14)
    for step in range(7):
        np.testing.assert_array_equal(np.flatnonzero(turns(step)) + 10, rows(step)[rows(step) >= 10])


@pytest.mark.parametrize("noise", [IndependentGaussian(), MatrixGaussian(coefficients=(1.0, 0.5)), TreeGaussian()])
def test_noise_of_public_turns_is_let_through(noise):
    check_noise("audit", small(noise=noise)[2])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"noise": RoundedGaussian()}, r"audit: noise must be IndependentGaussian\(\), got RoundedGaussian"),
        (
            {
                "noise": MatrixGaussian(coefficients=(1.0, 0.5)),
                "sampling": CyclicPoisson(probability=0.1, groups=2),
                "steps_per_epoch": None,
            },
            r"audit: noise must be IndependentGaussian\(\), got MatrixGaussian[^\n]*\nWith Cyclic\(\) it is made white",
        ),
        (
            {"clipping": AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=5.0)},
            "audit: clipping must keep its bound where turns are public",
        ),
    ],
)
def test_what_cannot_be_known_is_refused_by_name(changes, text):
    with pytest.raises(InvalidParameter, match=text):
        check_noise("audit", small(noise_multiplier=1.0, **changes)[2])
