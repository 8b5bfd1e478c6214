"""How the form of a convolution is chosen: by the clock alone, on made-up examples, and never an unsound one."""

import time

import pytest
import torch
from torch import nn

from dpsgd.core import tuning
from dpsgd.core.clippers import FlatClipper
from dpsgd.core.convolutions import of_convolution
from dpsgd.core.forms import COLUMNS, GROUPED, Given, Noting
from dpsgd.core.grouped import of_grouped_convolution
from dpsgd.core.tuning import fastest_forms, sound
from dpsgd.gradients import gradient_sum_by
from tests.benchmarks.training_steps import loss, tanh_cnn
from tests.dpsgd.clocks import Clock

CALLS_A_LAYER = 2 * 2 * (1 + tuning.TRIES)


def given(layer=None, *, fill=0.0, examples=1):
    layer = layer or nn.Conv2d(2, 3, 3)
    inputs = torch.full((examples, layer.in_channels, 6, 6), fill)
    return Given(layer=layer, inputs=inputs, gradients=torch.full_like(layer(inputs).detach(), fill))


@pytest.mark.parametrize(
    ("ratio", "odd", "form"),
    [
        (0.5, 1.0, GROUPED),
        (0.84, 1.0, GROUPED),
        (0.86, 1.0, COLUMNS),
        (1.0, 1.0, COLUMNS),
        (3.0, 1.0, COLUMNS),
        (0.9, 100.0, COLUMNS),
        (0.5, 0.0, GROUPED),
    ],
)
def test_the_grouped_form_is_taken_where_it_is_clearly_the_faster_one_in_most_tries(ratio, odd, form, monkeypatch):
    monkeypatch.setattr(tuning, "clock", Clock(ratio=ratio, odd=odd))
    assert fastest_forms({"0": given()}) == {"0": form}


def test_layers_that_are_alike_are_timed_once_and_go_alike(monkeypatch):
    clock = Clock(ratio=0.5)
    monkeypatch.setattr(tuning, "clock", clock)
    forms = fastest_forms({"a": given(), "b": given(), "c": given(nn.Conv2d(2, 4, 3))})
    assert forms == dict.fromkeys("abc", GROUPED) and clock.calls == 2 * CALLS_A_LAYER


@pytest.mark.parametrize("fill", [0.0, float("nan")])
@pytest.mark.parametrize("examples", [1, 700])
def test_what_is_timed_depends_neither_on_what_is_given_nor_on_how_much(fill, examples, monkeypatch):
    seen = []

    def watched(layer, inputs, gradients, space):
        seen.append((inputs.clone(), gradients.clone()))
        return of_convolution(layer, inputs, gradients, space)

    monkeypatch.setitem(tuning.RULE_OF, COLUMNS, watched)
    monkeypatch.setattr(tuning, "clock", Clock(ratio=2.0))
    fastest_forms({"0": given(fill=fill, examples=examples)})
    expected = torch.randn(tuning.MOST_EXAMPLES, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    assert len(seen) == 1 + tuning.TRIES and all(torch.equal(a, expected) for a, _ in seen)


def test_runs_of_single_examples_time_single_examples(monkeypatch):
    sizes = []

    def watched(layer, inputs, gradients, space):
        sizes.append(len(inputs))
        return of_convolution(layer, inputs, gradients, space)

    monkeypatch.setitem(tuning.RULE_OF, COLUMNS, watched)
    fastest_forms({"0": given(examples=9)}, most=1)
    assert set(sizes) == {1}


def _mixing(layer, inputs, gradients, space):
    held = of_grouped_convolution(layer, inputs, gradients, space)
    held.rows[0][0] += 0.0 * held.rows[0][len(inputs) // 2]  # nothing, unless that is not finite
    return held


def _leaking(layer, inputs, gradients, space):
    held = of_grouped_convolution(layer, inputs, gradients, space)
    held.rows[0].add_(held.rows[0].abs().max().clamp(max=1e30), alpha=1e-12)
    return held


def _wrong(layer, inputs, gradients, space):
    held = of_grouped_convolution(layer, inputs, gradients, space)
    held.rows[0][-1] *= 1.0001
    return held


@pytest.mark.parametrize(
    ("rule", "expected"), [(of_grouped_convolution, True), (_mixing, False), (_leaking, False), (_wrong, False)]
)
def test_a_form_that_mixes_examples_or_is_another_gradient_is_never_taken(rule, expected, monkeypatch):
    torch.manual_seed(0)
    layer, inputs = nn.Conv2d(2, 3, 3), torch.randn(8, 2, 6, 6)
    gradients = torch.randn_like(layer(inputs).detach())
    with torch.no_grad():
        assert sound(rule, layer, inputs, gradients) == expected
    monkeypatch.setattr(tuning, "clock", Clock(ratio=0.1))
    monkeypatch.setattr(tuning, "of_grouped_convolution", rule)
    assert fastest_forms({"0": given(layer)}) == {"0": GROUPED if expected else COLUMNS}


def test_on_another_device_columns_stay_and_nothing_is_timed(monkeypatch):
    monkeypatch.setattr(tuning, "clock", lambda: pytest.fail("timed"))
    one = given()
    elsewhere = Given(layer=one.layer, inputs=one.inputs.to("meta"), gradients=one.gradients.to("meta"))
    assert fastest_forms({"0": elsewhere}) == {"0": COLUMNS}


def test_generators_are_afterwards_as_they_were():
    one, before = given(), torch.get_rng_state()
    fastest_forms({"0": one})
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_choosing_takes_the_cifar_network_less_than_a_second():
    noting = Noting(model=tanh_cnn())
    clipped = gradient_sum_by(
        FlatClipper(max_grad_norm=1.0), noting.model, example_dimensions=3, loss=loss, plan=noting.plan
    )
    clipped(torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.int64))
    begun = time.process_time()
    assert len(fastest_forms(noting.given)) == 6
    assert time.process_time() - begun < 1.0
