from itertools import pairwise

import pytest

from audit.core.paths import ThinnedPath


@pytest.mark.parametrize("taken", [0, 1, 5, 6, 7, 100, 1_023, 5_000])
def test_a_path_keeps_few_rows_evenly_and_always_the_last(taken):
    path = ThinnedPath(most=6)
    for number in range(taken):
        path.add((number, -number))
    firsts = [row[0] for row in path.rows]
    assert len(firsts) <= 7 and firsts[:1] == [0][:taken] and firsts[-1:] == ([taken - 1] if taken else [])
    gaps = {late - early for early, late in pairwise(firsts[:-1])}
    assert len(gaps) <= 1 and all(row == (row[0], -row[0]) for row in path.rows)
