"""Both forms of convolutions against `vmap`, and that the grouped one keeps examples apart to the last bit."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, vmap

from dpsgd.core import convolutions, grouped
from dpsgd.core.convolutions import of_convolution
from dpsgd.core.forms import RULE_OF
from dpsgd.core.grouped import of_grouped_convolution
from dpsgd.core.tuning import _rows as rows_of
from dpsgd.core.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")  # which torch says once a process
CLOSE = {torch.float32: 1e-5, torch.float64: 1e-10}


def surrounded(rows):
    """Return the rows in the middle of memory that holds NaN: whoever reads beyond them shows it."""
    beside = torch.full((256,), torch.nan, dtype=rows.dtype)
    return torch.cat([beside, rows.flatten(), beside])[256:-256].view(rows.shape)


@st.composite
def cases(draw, dtype=None):
    """A convolution, n examples that it takes in, and gradients by its outputs."""
    seed, lines, groups = draw(st.integers(0, 10**6)), draw(st.booleans()), draw(st.sampled_from((1, 1, 2, 3)))
    sides = [draw(st.integers(1, 12)) for _ in range(1 if lines else 2)]
    kernel, stride, dilation = (tuple(draw(st.integers(1, most)) for _ in sides) for most in (4, 3, 3))
    padding = draw(st.sampled_from((0, 1, 2, "same", "valid")))
    made = {
        "in_channels": groups * draw(st.sampled_from((1, 2, 3, 8, 16))),
        "out_channels": groups * draw(st.sampled_from((1, 2, 5, 8, 16))),
        "stride": 1 if padding == "same" else stride,
        "padding_mode": draw(st.sampled_from(("zeros", "zeros", "reflect", "circular", "replicate"))),
        "bias": draw(st.booleans()),
        "dtype": dtype or draw(st.sampled_from(tuple(CLOSE))),
    }
    examples, last = draw(st.integers(1, 9)), draw(st.booleans())
    torch.manual_seed(seed)
    layer = (nn.Conv1d if lines else nn.Conv2d)(
        **made, kernel_size=kernel, dilation=dilation, padding=padding, groups=groups
    )
    inputs = torch.randn(examples, layer.in_channels, *sides, dtype=layer.weight.dtype)
    try:
        gradients = torch.randn_like(layer(inputs).detach())
    except RuntimeError:  # the kernel, or what is reflected, is larger than the image
        assume(False)
    if last and not lines:
        return layer, surrounded(inputs), gradients.to(memory_format=torch.channels_last)
    return layer, surrounded(inputs), surrounded(gradients)


def by_vmap(layer, inputs, gradients):
    """Return the gradients by the weight, one example seen at a time."""
    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}

    def along(parameters, a, b):
        return (functional_call(layer, parameters, (a[None],))[0] * b).sum()

    return vmap(grad(along), in_dims=(None, 0, 0))(parameters, inputs, gradients)["weight"].flatten(1)


@pytest.mark.parametrize("form", RULE_OF)
@settings(max_examples=60)
@given(cases(), st.sampled_from((1, 2**8, 2**20)))
def test_both_forms_have_the_gradients_that_vmap_has(form, case, entries):
    layer, inputs, gradients = case
    exact = by_vmap(layer, inputs, gradients).double()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(grouped, "CHUNK_ENTRIES", entries)
        patched.setattr(convolutions, "COLUMN_ENTRIES", entries)
        rows = rows_of(RULE_OF[form], layer, inputs, gradients).double()
    assert ((rows - exact).norm(dim=1) <= CLOSE[inputs.dtype] * exact.norm(dim=1)).all()


@settings(max_examples=60)
@given(cases(), st.sampled_from((torch.nan, torch.inf, -torch.inf, 3e38, 1e-45, 0.0)), st.data())
def test_what_an_example_holds_moves_no_bit_of_anothers_grouped_gradient(case, poison, data):
    layer, inputs, gradients = case
    assume(len(inputs) > 1)
    before = rows_of(of_grouped_convolution, layer, inputs, gradients)
    spoilt = data.draw(st.integers(0, len(inputs) - 1))
    inputs[spoilt] = poison
    gradients[spoilt] = poison
    after = rows_of(of_grouped_convolution, layer, inputs, gradients)
    others = torch.arange(len(inputs)) != spoilt
    assert torch.equal(before[others], after[others])


@pytest.mark.parametrize("dtype", CLOSE)
@settings(max_examples=30)
@given(st.data())
def test_other_examples_beside_it_move_a_grouped_gradient_by_rounding_alone(dtype, data):
    layer, inputs, gradients = data.draw(cases(dtype))
    together = rows_of(of_grouped_convolution, layer, inputs, gradients)
    first = rows_of(of_grouped_convolution, layer, inputs[:1], gradients[:1])
    assert (together[0] - first[0]).norm() <= CLOSE[dtype] * together[0].norm()


def test_biases_are_those_of_columns():
    torch.manual_seed(0)
    layer, inputs = nn.Conv2d(2, 3, 2), torch.randn(4, 2, 5, 5)
    gradients = torch.randn_like(layer(inputs).detach())
    held = [rule(layer, inputs, gradients, Workspace()) for rule in (of_convolution, of_grouped_convolution)]
    assert torch.equal(held[0].rows[1], held[1].rows[1]) and held[0].entries() == held[1].entries()


def test_nobody_writes_on_what_the_grouped_form_is_given():
    torch.manual_seed(0)
    layer, inputs = nn.Conv2d(2, 3, 2, padding="same"), torch.randn(4, 2, 5, 5)
    gradients = torch.randn_like(layer(inputs).detach())
    before = inputs.clone(), gradients.clone()
    of_grouped_convolution(layer, inputs, gradients, Workspace())
    assert torch.equal(inputs, before[0]) and torch.equal(gradients, before[1])
