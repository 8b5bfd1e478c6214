import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsgd import PrescribedGradients
from mechanisms import InvalidParameter


def _records(**changes):
    given = {
        "coordinates": torch.tensor([0, 3]),
        "values": torch.ones(2),
        "included": torch.tensor([True, False]),
    }
    return PrescribedGradients(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"coordinates": torch.tensor([0.0, 1.0])}, r"coordinates must be a torch\.int64 tensor of shape \(m,\)"),
        ({"coordinates": [0, 1]}, "coordinates must be"),
        ({"values": torch.ones(2, dtype=torch.int64)}, r"values must be a torch\.float32 or torch\.float64 tensor"),
        ({"values": torch.ones(2, 1)}, "values must be"),
        ({"included": torch.ones(2)}, r"included must be a torch\.bool tensor"),
        ({"values": torch.ones(3)}, "values must have one entry for each of the 2 coordinates, got 3"),
    ],
)
def test_what_is_no_list_of_records_is_refused(changes, text):
    with pytest.raises(InvalidParameter, match=f"PrescribedGradients: {text}"):
        _records(**changes)


@pytest.mark.parametrize("coordinates", [[-1, 0], [0, 4]])
def test_a_coordinate_outside_the_gradient_is_refused(coordinates):
    with pytest.raises(InvalidParameter, match=r"coordinates must lie in \[0, 4\).*got"):
        _records(coordinates=torch.tensor(coordinates)).check_dimension(4)


@settings(deadline=None)
@given(value=st.floats(width=32), max_grad_norm=st.floats(min_value=1e-6, max_value=1e6))
def test_a_contribution_never_exceeds_the_bound_and_keeps_its_sign(value, max_grad_norm):
    records = _records(values=torch.tensor([value, value]))
    contribution = records.contributions(max_grad_norm=max_grad_norm, dtype=torch.float32)[0].double()
    assert abs(contribution) <= max_grad_norm
    assert contribution == 0 or contribution.sign() == math.copysign(1, value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_counts_as_zero(value):
    records = _records(values=torch.tensor([value, 1.0]), included=torch.tensor([True, True]))
    assert records.contributions(max_grad_norm=2.0, dtype=torch.float32).tolist() == [0, 1]


def test_a_record_that_is_not_included_contributes_nothing():
    assert _records().contributions(max_grad_norm=2.0, dtype=torch.float32).tolist() == [1, 0]
