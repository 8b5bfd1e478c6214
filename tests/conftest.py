"""What all tests share: Hypothesis profiles, and `tests` itself as a package to import from."""

import sys
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that `from tests.strategies import …` works however pytest is started

settings.register_profile("default", max_examples=12, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=300, deadline=None, derandomize=False)
settings.load_profile("default")
