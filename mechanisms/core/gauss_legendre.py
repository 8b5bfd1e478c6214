"""The nodes and weights of the Gauss–Legendre rule with 20 nodes on (−1, 1), each the float nearest to the truth.

`numpy.polynomial.legendre.leggauss` has weights that are off by up to 300 ulps.
"""

from __future__ import annotations

import numpy as np

_POSITIVE = (
    (0.07652652113349734, 0.15275338713072584),
    (0.22778585114164507, 0.14917298647260374),
    (0.37370608871541955, 0.14209610931838204),
    (0.5108670019508271, 0.13168863844917664),
    (0.636053680726515, 0.11819453196151841),
    (0.7463319064601508, 0.10193011981724044),
    (0.8391169718222188, 0.08327674157670475),
    (0.912234428251326, 0.06267204833410907),
    (0.9639719272779138, 0.04060142980038694),
    (0.9931285991850949, 0.017614007139152118),
)

NODES = np.array([-node for node, _ in reversed(_POSITIVE)] + [node for node, _ in _POSITIVE])
WEIGHTS = np.array([weight for _, weight in reversed(_POSITIVE)] + [weight for _, weight in _POSITIVE])
