"""What a run cannot be is refused before a record is drawn, in words that name it."""

import dataclasses

import pytest
import torch
from torch import nn

from dpsgd import AdaptiveQuantile, Budget, Dataset, mlp, train, train_together
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import config_of

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
DATA = Dataset(features=torch.linspace(-1, 1, 40).reshape(8, 5), targets=torch.arange(8) % 3)
CONFIG = config_of(Poisson(probability=1.0))
ADAPTIVE = AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=5.0)


class Watched(KeyedSource):
    """A source that remembers which streams were read."""

    def words(self, stream, counter, n):
        self.read = getattr(self, "read", set()) | {stream}
        return super().words(stream, counter, n)


def _of(**changes):
    return {"config": dataclasses.replace(CONFIG, **changes)}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"model": None}, "train: model must be a Module, got NoneType"),
        ({"config": None, "budget": Budget(epsilon=1.0, delta=1e-5)}, "train: config must be a DPSGD, got NoneType"),
        ({"dataset": (DATA.features, DATA.targets)}, "train: dataset must be a Dataset, got tuple"),
        ({"callbacks": lambda release: None}, r"train: callbacks must be a sequence, got .*\n?.*callbacks=\[...\]"),
        ({"callbacks": ["best"]}, "train: callbacks must be functions of a Release, got str"),
        ({"logs": ["run.csv"]}, "train: logs must be of Log, such as CsvLog, got str"),
        ({"meter": 1e-5}, "train: meter must be of Meter, got float"),
        ({"average": "ema"}, "train: average must be of Average, got str"),
        ({"progress": "no"}, "train: progress must be True or False, got str"),
        ({"operator_log": 3}, "train: operator_log must be a path, got int"),
        (
            {"optimizer": torch.optim.Adam},
            r"train: optimizer must take \(parameters, config\), but ended with TypeError",
        ),
        ({"initialisation_seed": 2**64}, r"initialisation_seed must be below 2\^64"),
        (_of(max_grad_norm=1e-38), r"Noise: scale must be 0 or lie in \[2e-31, 2.1e\+37\] for float32, got 1e-38"),
        (_of(noise_multiplier=1e38), "Noise: scale must be 0 or lie in"),
        (_of(max_grad_norm=1e37), r"max_grad_norm must be at most 3.1e\+26 for float32 and Flat\(\), got 1e\+37: sums"),
        (_of(max_grad_norm=1e21, clipping=ADAPTIVE), r"max_grad_norm must be at most 3e\+20 for float32 and Adaptive"),
        (_of(max_grad_norm=1e-26, clipping=ADAPTIVE), "Noise: scale must be 0 or lie in"),
    ],
)
def test_what_is_no_run_is_refused_before_a_record_is_drawn(given, text):
    source = Watched(0)
    rest = {"model": mlp(5, (), 3), "dataset": DATA, "config": CONFIG, "loss": CROSS_ENTROPY, "randomness": source}
    with pytest.raises(InvalidParameter, match=text):
        train(**{**rest, **given})
    assert not hasattr(source, "read")


def test_models_are_not_trained_together_with_sums_that_could_overflow():
    everyone, config = torch.ones(1, 8, dtype=torch.bool), dataclasses.replace(CONFIG, max_grad_norm=1e37)
    with pytest.raises(InvalidParameter, match="sums could overflow"):
        train_together(mlp(5, (), 3), DATA, config, membership=everyone, loss=CROSS_ENTROPY, randomness=KeyedSource(0))


def test_callbacks_and_logs_may_come_from_an_iterator():
    shown = []
    source = KeyedSource(0)
    train(
        mlp(5, (), 3),
        DATA,
        CONFIG,
        loss=CROSS_ENTROPY,
        randomness=source,
        callbacks=iter([shown.append]),
        logs=iter([]),
    )
    assert len(shown) == CONFIG.steps
