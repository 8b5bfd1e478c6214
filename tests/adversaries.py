"""Adversaries who choose each randomised response by the answers before it, and stop when they like."""

import math

from hypothesis import strategies as st

LARGE, SMALL = 0.6, 0.1  # the ε of the two steps to choose from


def answers(epsilon):
    """The two outcomes of a randomised response: probability with the record, and without."""
    kept = math.exp(epsilon) / (1 + math.exp(epsilon))
    return ((kept, 1 - kept), (1 - kept, kept))


def by_table(table):
    """A strategy by a table indexed by the outcomes so far, read as a binary number with a leading one."""
    return lambda seen: table[int("1" + "".join(map(str, seen)), 2) % len(table)]


def riskiest(seen):
    """Take the large step while the outcomes betray the record, the small one while they do not."""
    return 0 if sum(seen) * 2 <= len(seen) else 1


strategies = st.just(riskiest) | st.lists(st.sampled_from([0, 1, None]), min_size=1023, max_size=1023).map(by_table)
"""From the outcomes so far to 0 for the large step, 1 for the small one, None to stop."""
