import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsgd.core.clip import Factors, clip_factors, weigh

entries = st.floats(min_value=-(2.0**50), max_value=2.0**50, width=32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(deadline=None, max_examples=300)
@given(
    row=st.lists(entries, min_size=1, max_size=30),
    max_grad_norm=st.floats(min_value=1e-10, max_value=1e10),
)
def test_a_clipped_row_never_exceeds_the_bound(dtype, row, max_grad_norm):
    rows = torch.tensor([row], dtype=dtype)
    norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    factors = clip_factors(norms, max_grad_norm=max_grad_norm, dtype=dtype)
    assert torch.linalg.vector_norm(weigh(rows, factors).double()) <= max_grad_norm


@settings(deadline=None)
@given(norm=st.floats(min_value=0, max_value=0.999))
def test_what_is_small_enough_is_left_as_it_is(norm):
    assert clip_factors(torch.tensor([norm]).double(), max_grad_norm=1.0, dtype=torch.float32) == 1.0


def test_a_large_gradient_keeps_all_but_a_millionth_of_the_bound():
    factor = clip_factors(torch.tensor([8.0]).double(), max_grad_norm=1.0, dtype=torch.float32)
    assert 1 - 1e-6 < 8 * factor <= 1


@pytest.mark.parametrize("norm", [float("nan"), float("inf"), 3.5e38, 1e200])
def test_a_norm_that_is_no_finite_number_of_the_dtype_counts_as_zero(norm):
    assert clip_factors(torch.tensor([norm]).double(), max_grad_norm=1.0, dtype=torch.float32) == 0


def test_a_factor_with_lost_digits_counts_as_zero():
    assert clip_factors(torch.tensor([1e20]).double(), max_grad_norm=1e-20, dtype=torch.float32) == 0


def test_a_row_of_factor_zero_becomes_zero_whatever_it_holds():
    rows = torch.tensor([[1.0, float("nan")], [float("inf"), -float("inf")], [2.0, 4.0]])
    assert weigh(rows, torch.tensor([0.0, 0.0, 0.5])).tolist() == [[0, 0], [0, 0], [1, 2]]


@pytest.mark.parametrize("by_mask", [False, True])
@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4)])
def test_silenced_rows_are_zeros_and_others_are_left(by_mask, shape):
    factors = Factors(torch.tensor([0.0, 2.0, 0.0]))
    if by_mask:  # as on other devices
        factors._silent = factors.values == 0.0
    rows = torch.randn(shape)
    rows[0], rows[2] = float("nan"), float("inf")
    expected = torch.stack([torch.zeros(shape[1:]), rows[1], torch.zeros(shape[1:])])
    assert torch.equal(factors.weigh(rows), 2.0 * expected)
    assert factors.silence(rows) is rows
    assert torch.equal(rows, expected)
