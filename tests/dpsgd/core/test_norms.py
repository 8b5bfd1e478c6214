"""Norms against exact sums of squares: never below them, and hardly above."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsgd.core.contributions import Sequence, Single
from dpsgd.core.norms import BLOCK, squared_norms
from dpsgd.core.workspace import Workspace

WIDTHS = [1, 2, 127, BLOCK, BLOCK + 1, 192, 257, 521, 784, 4097]


def _exact(row):
    """The sum of squares of float32 numbers, each square exact in float64, rounded once."""
    return math.fsum(entry * entry for entry in row.tolist())


@settings(deadline=None, max_examples=40)
@given(
    width=st.sampled_from(WIDTHS),
    seed=st.integers(0, 2**32),
    exponent=st.integers(-80, 20),
    spread=st.sampled_from([0.0, 1.0, 8.0]),
)
def test_a_norm_is_never_below_the_exact_one_and_hardly_above(width, seed, exponent, spread):
    generator = torch.Generator().manual_seed(seed)
    scales = (spread * torch.randn(3, width, generator=generator)).exp2()
    rows = torch.randn(3, width, generator=generator) * scales * 2.0**exponent
    for row, square in zip(rows, squared_norms(rows).tolist(), strict=True):
        exact = _exact(row)
        assert square >= exact * (1 - (width + 8) * 2.0**-53)
        assert square <= exact * (1 + 1e-5) + width * 2.0**-124


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("entry", [1.0, 1.0 + 2.0**-12, 1.0 / 3.0, 3.0e-23, 1.0e-45])
def test_rounding_that_always_goes_the_same_way_is_given_back(width, entry):
    rows = torch.full((2, width), entry)
    assert float(squared_norms(rows)[0]) >= _exact(rows[0]) * (1 - (width + 8) * 2.0**-53)


def test_rows_of_float64_are_taken_in_float64():
    rows = torch.randn(3, 300).double()
    torch.testing.assert_close(squared_norms(rows), (rows * rows).sum(1), rtol=1e-14, atol=0)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_gets_the_same_whatever_rows_come_with_it(width):
    rows = torch.randn(70, width)
    together = squared_norms(rows)
    for i in (0, 1, 69):
        assert torch.equal(squared_norms(rows[i : i + 1])[0], together[i])
    assert torch.equal(squared_norms(rows[:33]), together[:33])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 1e38])
def test_what_is_not_finite_shows_in_its_own_norm_alone(width, poison):
    rows = torch.ones(3, width)
    rows[1, width - 1] = poison
    squares = squared_norms(rows)
    assert squares[1] >= 1e75 if width <= BLOCK and poison == 1e38 else not squares[1] < 1e75
    torch.testing.assert_close(squares[[0, 2]], torch.full((2,), float(width)).double(), rtol=1e-5, atol=0)


def test_a_constant_adds_to_every_norm():
    rows = torch.randn(4, 300)
    torch.testing.assert_close(squared_norms(rows, plus=1.0), squared_norms(rows) + 1.0)
    torch.testing.assert_close(squared_norms(rows[:, :9], plus=1.0), squared_norms(rows[:, :9]) + 1.0)


@pytest.mark.parametrize("scale", [1.05e-161, 1.5e-162, 3e-163, 1e-165])
def test_norms_of_float64_rows_count_what_underflow_takes(scale):
    rows = torch.full((1, 10**5), scale, dtype=torch.float64)
    assert Fraction(squared_norms(rows).item()) >= 10**5 * Fraction(scale) ** 2


@pytest.mark.parametrize("scale", [1.05e-161, 1.5e-162, 3e-163])
def test_products_of_float64_rows_that_underflow_keep_the_bound(scale):
    inputs = torch.full((1, 1), 1.3e154, dtype=torch.float64)
    gradients = torch.full((1, 10**5), scale, dtype=torch.float64)
    norm = Fraction(1.3e154) ** 2 * Fraction(scale) ** 2 * 10**5 * (1 - Fraction(1, 10**9))  # less some ulps
    single = Single(inputs=inputs, gradients=gradients, bias=False, space=Workspace())
    assert Fraction(single.squared_norms().item()) >= norm
    twice = [torch.stack([rows, rows], dim=1) for rows in (inputs, gradients / 2)]
    several = Sequence(inputs=twice[0], gradients=twice[1], bias=False, space=Workspace())
    assert Fraction(several.squared_norms().item()) >= norm
