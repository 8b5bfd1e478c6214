"""The Gauss–Legendre rule against its definition, by mpmath."""

import mpmath as mp

from mechanisms.core.gauss_legendre import NODES, WEIGHTS


def test_the_rule_has_the_nodes_and_weights_of_gauss():
    """Each is the nearest float."""
    with mp.workdps(40):
        for node, weight in zip(NODES, WEIGHTS, strict=True):
            exact = mp.findroot(lambda x: mp.legendre(20, x), mp.mpf(float(node)))
            slope = 20 * (mp.legendre(19, exact) - exact * mp.legendre(20, exact)) / (1 - exact**2)
            assert abs(exact - mp.mpf(float(node))) <= 2.0**-53
            assert abs(2 / ((1 - exact**2) * slope**2) / mp.mpf(float(weight)) - 1) <= 2.0**-53
