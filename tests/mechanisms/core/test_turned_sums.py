"""Sums at many frequencies, factored into coarse and fine turns, against sums in 40 digits."""

import mpmath as mp
import numpy as np
import pytest

from mechanisms.core.turned_sums import FACTORED, turned_sums


def drawn(seed, nodes, scale):
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(-30, 0, (2, nodes))), scale * rng.uniform(-1, 1, (2, nodes))


@pytest.mark.parametrize("scale", [1e-7, 1e-2, 3.0])
@pytest.mark.parametrize("count", [FACTORED - 1, FACTORED, 50, 171])
def test_both_sums_keep_all_digits_of_what_turning_takes_away(scale, count):
    """The parts of each sum are at most of the order v² and 2v: errors are a few ulps of that."""
    heavy, loss = drawn(1, 40, scale)
    y = 0.37 * np.arange(count)
    squares, skews = turned_sums(heavy, loss, y)
    with mp.workdps(40):
        for row, column in ((0, 1), (1, count // 2), (0, count - 1)):
            v = [mp.mpf(float(y[column])) * mp.mpf(float(one)) for one in loss[row]]
            weight = [mp.mpf(float(one)) for one in heavy[row]]
            size = mp.fsum(w * min(x * x, 2 * abs(x)) for w, x in zip(weight, v, strict=True))
            exact = mp.fsum(w * mp.sin(x / 2) ** 2 for w, x in zip(weight, v, strict=True))
            skew = mp.fsum(w * (mp.sin(x) - x) for w, x in zip(weight, v, strict=True))
            assert abs(exact - mp.mpf(float(squares[row, column]))) <= 60 * 2.0**-53 * size
            assert abs(skew - mp.mpf(float(skews[row, column]))) <= 60 * 2.0**-53 * size


def test_factored_and_plain_sums_agree():
    heavy, loss = drawn(2, 300, 0.7)
    y = 0.05 * np.arange(400)
    whole = turned_sums(heavy, loss, y)
    apart = turned_sums(heavy, loss, y[1:])  # no multiples from 0 on: summed one by one
    for together, one_by_one in zip(whole, apart, strict=True):
        assert np.allclose(together[:, 1:], one_by_one, rtol=1e-11, atol=1e-14)
        assert np.all(together[:, 0] == 0)
