"""Which accountants the default asks."""

import pytest

from accountant import dp_sgd
from accountant.core.base import available
from accountant.core.renyi_curve import RenyiCurve
from accountant.tightest import Tightest
from mechanisms import Adjacency, Gaussian, Repeat


def test_rough_accountants_give_upper_ends_only():
    process = Repeat(Gaussian(noise_multiplier=2.0), 10)
    for name, kind in available().items():
        if kind.rough:
            found = kind().profile(process, adjacency=Adjacency.ADD_REMOVE).delta(1.0)
            assert found.lower == 0.0, name


@pytest.mark.slow
def test_rough_accountants_are_not_asked_where_a_bracket_is_within_a_thousandth(monkeypatch):
    """Of a step of replace-one each of their answers takes seconds, and none comes near."""

    def refuse(*_):
        raise AssertionError("asked")

    for method in ("delta", "epsilon"):
        monkeypatch.setattr(RenyiCurve, method, refuse)
    process = dp_sgd(noise_multiplier=0.8, sample_rate=0.001, steps=3)
    found = Tightest().profile(process, adjacency=Adjacency.REPLACE_ONE).delta(1.0)
    assert found.lower > 0.0 and 0.0 < found.width <= 1e-3 * found.upper
