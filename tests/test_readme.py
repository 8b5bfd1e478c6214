"""The README's table says what the accountants do: it is made from the committed matrix and compared."""

import ast
import builtins
import doctest
from pathlib import Path

import pytest

from accountant import available
from mechanisms import Adjacency, Allocated, Gaussian, Repeat, Shuffled, UnsupportedProcess
from tests.contracts.matrix import ANSWERS, committed

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
ROWS = {
    "`Gaussian`, also composed": ("Gaussian", "add_remove"),
    "`Gaussian`, replace-one": ("Gaussian", "replace_one"),
    "`Gaussian` on `Poisson` samples (DP-SGD)": ("Gaussian, Poisson", "add_remove"),
    "`RandomizedResponse`, replace-one": ("RandomizedResponse", "replace_one"),
    "`PureDP`, `ApproximateDP`, repeated": ("PureDP", "add_remove"),
    "`ZCDP`, repeated": ("ZCDP", "add_remove"),
    "`Laplace`, once": ("Laplace", "add_remove"),
    "`Laplace`, hundreds": ("Laplace, hundreds", "add_remove"),
    "any composition of these": ("composition", "add_remove"),
    "DP-SGD, replace-one": ("Gaussian, Poisson", "replace_one"),
    "`TruncatedPoisson` batches": ("Gaussian, TruncatedPoisson", "add_remove"),
    "`FixedSize` batches": ("Gaussian, FixedSize", "add_remove"),
    "`FixedSize` batches, replace-one": ("Gaussian, FixedSize", "replace_one"),
    "`WithReplacement` batches": ("Gaussian, WithReplacement", "add_remove"),
    "`Shuffled` batches, zero-out": ("Gaussian, Shuffled", "zero_out"),
    "`BallsInBins` (random allocation)": ("Gaussian, BallsInBins", "add_remove"),
    "`Group` of 2 in DP-SGD": ("Gaussian, Poisson, Group", "add_remove"),
    "`DiscreteGaussian`": ("DiscreteGaussian", "add_remove"),
    "`DiscreteLaplace`; `Count`, `Histogram` with it": ("DiscreteLaplace", "add_remove"),
    "`Sum`, `Mean`, `VectorSum`, `Covariance`, replace-one": ("Sum", "replace_one"),
    "`Exponential`, `TopK`, `Quantile`": ("Exponential", "add_remove"),
    "`PermuteAndFlip`, `NoisyMax`, `Staircase`": ("PermuteAndFlip", "add_remove"),
    "`SparseVector`": ("SparseVector", "add_remove"),
    "`UnaryEncoding`, `PerturbedTable`, replace-one": ("UnaryEncoding", "replace_one"),
    "`Tree`, `MatrixMechanism`, zero-out": ("Tree", "zero_out"),
    "`GNMax`, `ConfidentGNMax` (PATE)": ("GNMax", "replace_one"),
    "`Selection` among random runs": ("Selection", "add_remove"),
}
SECTIONS = {part.splitlines()[0]: part.replace("```", "") for part in README.split("\n## ") if ">>> " in part}


def table():
    names, rows = list(available()), committed()
    lines = ["| process | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for label, (row, adjacency) in ROWS.items():
        states = [rows[row][adjacency][name] for name in names]
        cells = [state if state in ANSWERS else "–" for state in states]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_the_table_of_the_readme_is_what_the_accountants_answer():
    assert table() in README, f"put this into README.md:\n{table()}"


@pytest.mark.parametrize("accountant", available().values(), ids=available())
def test_shuffled_runs_are_refused_under_add_remove_with_what_to_use(accountant):
    with pytest.raises(UnsupportedProcess, match="Poisson sampling does not hold"):
        accountant().profile(
            Allocated(Repeat(Gaussian(noise_multiplier=1.0), 3), Shuffled()), adjacency=Adjacency.ADD_REMOVE
        )


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)
def test_a_section_of_the_readme_runs_without_those_before_it(section):
    source = "".join(example.source for example in doctest.DocTestParser().get_examples(section))
    nodes = list(ast.walk(ast.parse(source)))
    imported = {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    assert used - imported - stored <= set(dir(builtins))


def test_the_readme_shows_the_result_on_its_first_screen():
    assert README.index("compute_epsilon(") < 2_000
