"""Laws of noise given that it lies in an interval, and what bounds them, as functions from ε to δ(ε).

They are functions of nothing until they are asked, so that all digits are there when they are.
"""

import itertools
from functools import cache

import mpmath as mp

from mechanisms import Adjacency


def laplace_below(x):
    """Return P(noise <= x), the scale being 1."""
    return mp.exp(x) / 2 if x < 0 else 1 - mp.exp(-x) / 2


def kept(below, x, y, edges):
    """Noise of this distribution function around x, and around y, given that it lies between edges: seen in cells."""

    @cache
    def chances(at):
        levels = [below(place - at()) for place in edges()]
        return [(b - a) / (levels[-1] - levels[0]) for a, b in itertools.pairwise(levels)]

    def delta(at):
        return mp.fsum(max(a - mp.exp(at) * b, 0) for a, b in zip(chances(x), chances(y), strict=True))

    return delta


def in_the_middle(s, width):
    """Double exponentials around (width ∓ s)/2 on [0, width]: one normalising constant, and the best event is z < t."""

    def delta(at):
        x, y = (width - s()) / 2, (width + s()) / 2
        total = laplace_below(width - x) - laplace_below(-x)
        t = (x + y - at) / 2
        found = [(laplace_below(t - c) - laplace_below(-c)) / total for c in (x, y)]
        return found[0] - mp.exp(at) * found[1] if at < s() else mp.mpf(0)

    return delta


def limited(reach, largest):
    """The best of the pairs of two losses t and t − reach of which neither is beyond ±largest."""

    def delta(at):
        t = min(max((at + reach()) / 2, reach() - largest()), largest())
        likelier = mp.expm1(t - reach()) / mp.expm1(-reach())
        return likelier * -mp.expm1(at - t) if abs(at) < largest() else max(1 - mp.exp(at), mp.mpf(0))

    return delta


def laplace(times):
    """Scale 3 on an interval of 9: width 3, movement 2/3 times as often."""

    def s():
        return mp.mpf(2 * times) / 3

    def largest():
        def twice_the_mass(x):
            return 2 - mp.exp(-x) - mp.exp(x - 3)

        return s() + mp.log(twice_the_mass(s()) / twice_the_mass(mp.mpf(0)))

    def edges():
        return [s() * k**2 / 64**2 for k in range(65)] + [3]

    law = limited(lambda: 2 * s(), largest)
    cells = kept(laplace_below, lambda: mp.mpf(0), s, edges)
    return law, {"witness": in_the_middle(s, mp.mpf(3)), "witness_reversed": cells}


def gaussian(times):
    """Deviation 3 on an interval of 9: width 3, movement 2/3 times as often."""

    def s():
        return mp.mpf(2 * times) / 3

    def normal(at):
        z = at / s() + s() / 2
        return mp.ncdf(s() - z) - mp.exp(at) * mp.ncdf(-z)

    cells = kept(mp.ncdf, lambda: (3 - s()) / 2, lambda: (3 + s()) / 2, lambda: [mp.mpf(3) * k / 64 for k in range(65)])
    return normal, {"witness": cells, "witness_reversed": cells}


def of(movement):
    """Return the laws of every direction: of one movement, and of two under replace-one."""
    (once, seen), (twice, seen_twice) = movement(1), movement(2)
    near = {"remove": once, "add": once} | seen
    return {
        Adjacency.ADD_REMOVE: near,
        Adjacency.ZERO_OUT: near,
        Adjacency.REPLACE_ONE: {"replace": twice} | seen_twice,
    }
