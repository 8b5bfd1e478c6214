"""The README's table says what the accountants do: it is generated from them and compared."""

import math
from pathlib import Path

import pytest

from accountant import available
from mechanisms import (
    ZCDP,
    Adjacency,
    Allocated,
    BallsInBins,
    Compose,
    FixedSize,
    Gaussian,
    Group,
    Laplace,
    NumericalFailure,
    Poisson,
    PureDP,
    RandomizedResponse,
    Repeat,
    Sampled,
    Shuffled,
    TruncatedPoisson,
    UnsupportedProcess,
    WithReplacement,
)

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
GAUSSIAN, ANSWER = Gaussian(noise_multiplier=1.0), RandomizedResponse(epsilon=1.0)
LAPLACE, GUARANTEE = Laplace(noise_multiplier=1.0), PureDP(epsilon=1.0, adjacency="add_remove")
POISSON = Sampled(GAUSSIAN, Poisson(probability=0.1))
TRUNCATED = Sampled(GAUSSIAN, TruncatedPoisson(probability=0.1, largest_batch=150, records=1_000))
FIXED = Sampled(GAUSSIAN, FixedSize(batch_size=128, records=1_024))
DRAWN = Sampled(GAUSSIAN, WithReplacement(batch_size=10, records=1_000))
PROCESSES = {
    "`Gaussian`, also composed": (Repeat(GAUSSIAN, 3), Adjacency.ADD_REMOVE),
    "`Gaussian`, replace-one": (Repeat(GAUSSIAN, 3), Adjacency.REPLACE_ONE),
    "`Gaussian` on `Poisson` samples (DP-SGD)": (Repeat(POISSON, 100), Adjacency.ADD_REMOVE),
    "`RandomizedResponse`, replace-one": (Repeat(ANSWER, 3), Adjacency.REPLACE_ONE),
    "`PureDP`, `ApproximateDP`, repeated": (Repeat(GUARANTEE, 3), Adjacency.ADD_REMOVE),
    "`ZCDP`, repeated": (Repeat(ZCDP(rho=0.01, adjacency="add_remove"), 3), Adjacency.ADD_REMOVE),
    "`Laplace`, once": (LAPLACE, Adjacency.ADD_REMOVE),
    "`Laplace`, hundreds": (Repeat(LAPLACE, 300), Adjacency.ADD_REMOVE),
    "any composition of these": (Compose((Repeat(POISSON, 2), LAPLACE)), Adjacency.ADD_REMOVE),
    "DP-SGD, replace-one": (Repeat(POISSON, 100), Adjacency.REPLACE_ONE),
    "`TruncatedPoisson` batches": (Repeat(TRUNCATED, 10), Adjacency.ADD_REMOVE),
    "`FixedSize` batches": (Repeat(FIXED, 100), Adjacency.ADD_REMOVE),
    "`FixedSize` batches, replace-one": (Repeat(FIXED, 100), Adjacency.REPLACE_ONE),
    "`WithReplacement` batches": (Repeat(DRAWN, 10), Adjacency.ADD_REMOVE),
    "`Shuffled` batches, zero-out": (Allocated(Repeat(GAUSSIAN, 100), Shuffled()), Adjacency.ZERO_OUT),
    "`BallsInBins` (random allocation)": (Allocated(Repeat(GAUSSIAN, 100), BallsInBins()), Adjacency.ADD_REMOVE),
    "`Group` of 4 in DP-SGD": (Group(part=Repeat(POISSON, 10), size=4), Adjacency.ADD_REMOVE),
}


def cell(accountant, process, adjacency):
    try:
        profile = accountant().profile(process, adjacency=adjacency or Adjacency.ADD_REMOVE)
    except UnsupportedProcess:
        return "–"
    try:
        claim = profile.epsilon(1e-5)
    except NumericalFailure:  # what contour hands over to pld
        return "–"
    if math.isinf(claim.upper):
        return "–"
    exact = available()[claim.method].exact and claim.width <= 1e-9 * claim.upper
    return "exact" if exact else "bracket" if claim.lower > 0 else "upper"


def table():
    names = list(available())
    lines = ["| process | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for label, (process, adjacency) in PROCESSES.items():
        cells = [cell(available()[name], process, adjacency) for name in names]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_the_table_of_the_readme_is_what_the_accountants_answer():
    assert table() in README, f"put this into README.md:\n{table()}"


@pytest.mark.parametrize("accountant", available().values(), ids=available())
def test_shuffled_runs_are_refused_under_add_remove_with_what_to_use(accountant):
    with pytest.raises(UnsupportedProcess, match="Poisson sampling does not hold"):
        accountant().profile(Allocated(Repeat(GAUSSIAN, 3), Shuffled()), adjacency=Adjacency.ADD_REMOVE)


def test_the_readme_shows_the_result_on_its_first_screen():
    assert README.index("compute_epsilon(") < 2_000
