"""From a process to the steps of every direction, with witnesses where the dominating pair is not attained."""

from dataclasses import dataclass, replace

import pytest

from accountant import epsilon_bounds
from accountant.core.base import dominating, steps
from mechanisms import Compose, Gaussian, Repeat, UnsupportedProcess
from mechanisms.core.process import Adjacency, Process


@dataclass(frozen=True)
class Loose(Process):
    """A Gaussian of which only twice the shift is proved, and half the shift is attained by two neighbours."""

    noise: float = 1.0

    def pairs(self, adjacency):
        proved, seen = (Gaussian(noise_multiplier=self.noise * k).pairs(adjacency) for k in (0.5, 2.0))
        (attained, *_) = seen.values()
        return {d: replace(pair, attained=False) for d, pair in proved.items()} | {"witness": attained}


@pytest.mark.parametrize("adjacency", list(Adjacency))
def test_a_witness_gives_lower_ends_and_the_dominating_pair_upper_ones(adjacency):
    found = epsilon_bounds(Repeat(Loose(), 3), delta=1e-5, adjacency=adjacency.value)
    upper = epsilon_bounds(Repeat(Gaussian(noise_multiplier=0.5), 3), delta=1e-5, adjacency=adjacency.value).upper
    lower = epsilon_bounds(Repeat(Gaussian(noise_multiplier=2.0), 3), delta=1e-5, adjacency=adjacency.value).lower
    assert found.upper == pytest.approx(upper, rel=1e-9) and found.lower == pytest.approx(lower, rel=1e-9)


def test_a_step_without_a_witness_shows_its_attained_pair_or_nothing():
    attained, loose = Gaussian(noise_multiplier=3.0), Loose(noise=5.0)
    found = steps(Compose((attained, Repeat(loose, 2))), Adjacency.ADD_REMOVE)
    assert set(found) == {"remove", "add", "witness"}
    assert [times for _, times in found["witness"]] == [1, 2]
    assert set(dominating(Compose((attained, loose)), Adjacency.ADD_REMOVE)) == {"remove", "add"}


def test_a_process_without_a_renyi_bound_of_its_own_says_so():
    with pytest.raises(UnsupportedProcess, match="Gaussian: no Rényi bound"):
        Gaussian(noise_multiplier=1.0).renyi(Adjacency.ADD_REMOVE)
