"""The search for where an excess changes sign, where it hardly does."""

import pytest

from accountant.core.root import boundary


@pytest.mark.parametrize("start", [1e-3, 1.0, 100.0])
def test_an_excess_that_hardly_falls_is_followed_in_ever_longer_strides(start):
    """As log δ next to the chance of ever taking part: by its own slope each stride would be a millionth."""
    calls = []

    def excess(x):
        calls.append(x)
        return 1e-9 if x < 5.0 else -1e-9

    found = boundary(excess, start, safe=+1.0)
    assert found is not None and 5.0 <= found <= 5.0 * (1 + 2e-6)
    assert len(calls) <= 50
