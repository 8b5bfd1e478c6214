"""Every claim of every paper: had again, or corrected with a reason."""

import importlib

import pytest

from mechanisms import Bounds
from mechanisms.core.discover import modules

PAPERS = modules("papers")
CLAIMS = [(name, claim) for name in PAPERS for claim in importlib.import_module(f"papers.{name}").CLAIMS]


@pytest.mark.parametrize(("paper", "claim"), CLAIMS, ids=[f"{name}: {claim.statement}" for name, claim in CLAIMS])
def test_a_published_number_is_reproduced_and_set_beside_the_certified_one(paper, claim):
    checked = claim.check()
    assert checked.verdict == "reproduced"
    assert checked.certified.upper - checked.certified.lower < 1e-4
    assert checked.certified.upper <= checked.ours


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_has_a_reference_and_a_figure_with_named_axes(paper):
    module = importlib.import_module(f"papers.{paper}")
    assert module.REFERENCE.startswith("@")
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in module.figure().axes)


def test_the_certified_epsilon_of_abadis_hundred_epochs_is_the_known_one():
    known = Bounds(lower=0.946866801 - 5e-10, upper=0.946866801 + 5e-10)  # to its last digit
    assert importlib.import_module("papers.abadi2016").bounds(100).overlaps(known)
