import numpy as np
import pytest

from audit.core.halving import last_refuted


def test_halving_gives_a_point_that_was_refuted():
    asked = []

    def refuted(point):
        asked.append((point, point**2 < 2))
        return point**2 < 2

    found = last_refuted(refuted, 0.0, 4.0)
    assert (found, True) in asked and found == pytest.approx(np.sqrt(2), abs=1e-12)
    assert last_refuted(lambda point: False, 0.7, 4.0) == 0.7
