import pytest

from dpsgd import DPSGD
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
