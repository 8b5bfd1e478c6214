import subprocess
import sys

import pytest

import dpsgd


@pytest.mark.parametrize(
    "code",
    [
        "import dpsgd",
        "from dpsgd import DPSGD",
        "import dpsgd.config",
        "from dpsgd import DPSGD; from mechanisms import Poisson; "
        "DPSGD(noise_multiplier=1, max_grad_norm=1, sampling=Poisson(probability=.1), expected_batch_size=1, steps=1, "
        "learning_rate=1).process()",
    ],
)
def test_the_configuration_is_had_without_torch(code):
    check = f"{code}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize("name", dpsgd.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(dpsgd, name).__doc__


def test_train_stays_a_function_whatever_was_imported_before():
    check = (
        "import dpsgd.training, dpsgd.descent; from dpsgd import train, steps; assert callable(train), callable(steps)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_misspelt_name_is_refused():
    with pytest.raises(AttributeError, match="module 'dpsgd' has no attribute 'trian'"):
        _ = dpsgd.trian
