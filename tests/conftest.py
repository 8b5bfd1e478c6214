"""What all tests share: Hypothesis profiles, which cases run every day, and `tests` as a package to import from."""

import gc
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that `from tests.strategies import …` works however pytest is started

for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(
        library, "1"
    )  # before any is loaded: matrices are small, and each worker has a core of its own

gc.set_threshold(100_000, 20, 20)  # else a fifth of the time that collecting the tests takes goes into this

UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}  # else a busy machine turns tests
settings.register_profile("default", max_examples=8, derandomize=True, **UNTIMED)
settings.register_profile("thorough", max_examples=300, derandomize=False, **UNTIMED)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also the tests and cases that only `make laws` runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, without --all, tests marked slow, and of those marked thinned(n) all but every n-th case."""
    if config.getoption("--all"):
        return
    seen: Counter[str] = Counter()
    kept, left = [], []
    for item in items:
        name, thinned = item.nodeid.split("[")[0], item.get_closest_marker("thinned")
        wanted = item.get_closest_marker("slow") is None and (thinned is None or seen[name] % thinned.args[0] == 0)
        seen[name] += 1
        (kept if wanted else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def _seed() -> None:
    """Set the generators that all share, so that what a test draws depends neither on others nor on their order."""
    np.random.seed(0)  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.manual_seed(0)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """What a module draws as it is imported depends on no module before it."""
    if isinstance(collector, pytest.Module):
        _seed()


def pytest_collection_finish() -> None:
    gc.freeze()  # the tests and all that they import stay to the end


@pytest.hookimpl(tryfirst=True)  # before fixtures of modules too
def pytest_runtest_setup() -> None:
    _seed()


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of the test's own."""
    return np.random.default_rng(0)
