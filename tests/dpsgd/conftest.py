import pytest

from dpsgd import DPSGD
from dpsgd.core.rowwise import Rowwise
from mechanisms import Poisson


@pytest.fixture
def config():
    """Twenty noisy steps on half of the records each; tests replace what they are about."""
    return DPSGD(
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        sampling=Poisson(probability=0.5),
        expected_batch_size=4,
        steps=20,
        learning_rate=0.1,
    )


@pytest.fixture
def rows_at_once(monkeypatch):
    """Return the list to which every batch that a loss is given adds its number of rows."""
    noted, losses = [], Rowwise.__call__

    def noting(rowwise, outputs, targets):
        noted.append(len(outputs))
        return losses(rowwise, outputs, targets)

    monkeypatch.setattr(Rowwise, "__call__", noting)
    return noted
