"""How many words of 64 bits lead to which outcome, exactly, where the outcome is a step function of a word.

The steps are found by bisection; what the last digits leave open, below 1e-18, is decided by later words. Between
strata of the word a function may do what it likes unseen: there must be more strata than steps.
"""

import itertools

import mpmath as mp

from tests.mechanisms.core.scripted import WORD

LATER = [WORD // 3, WORD // 5, WORD // 7, WORD // 9, WORD // 11, WORD // 13]  # decide what the first word leaves open
CLOSE = mp.mpf("1e-18")


def pieces(outcome, size=WORD, strata=64):
    """Return how many of the whole numbers below `size` have each outcome."""
    ends = [size * k // strata for k in range(strata)] + [size - 1]
    counts, start, here = {}, 0, outcome(0)
    for left, right in itertools.pairwise(ends):
        while outcome(right) != here:
            low, high = max(left, start), right
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if outcome(middle) == here else (low, middle)
            counts[here] = counts.get(here, 0) + high - start
            start, here = high, outcome(high)
    counts[here] = counts.get(here, 0) + size - start
    return counts


def shares(counts):
    total = sum(counts.values())
    return {outcome: mp.mpf(count) / total for outcome, count in counts.items()}


def assert_close(found, law, within=CLOSE):
    for outcome in set(found) | set(law):
        assert abs(found.get(outcome, 0) - law.get(outcome, 0)) < within, outcome


def exact(fraction):
    return mp.mpf(fraction.numerator) / fraction.denominator
