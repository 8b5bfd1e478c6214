"""Every clipper: its formula, and the exact norm of the floats that it lets through."""

import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from dpsgd import Dataset, mlp, steps
from dpsgd.clipping import AdaptiveQuantile, Automatic, Flat, Normalised, PerLayer
from dpsgd.core.bookkeeping import BookKeeping
from dpsgd.core.chains import rowwise_chain
from dpsgd.core.clippers import FlatClipper, add_clipped, norms
from dpsgd.core.contributions import Formed, Sequence, Single
from dpsgd.core.recorded import Recorded
from dpsgd.core.run_clipping import run_clipping
from dpsgd.core.vectorised import Vectorised
from dpsgd.core.workspace import Workspace
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import config_of

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
SHARES = PerLayer(shares={"0": 0.9, "2": 0.1})
CLIPPINGS = [
    Flat(),
    PerLayer(),
    SHARES,
    Automatic(),
    Automatic(stability=1e-30),
    Normalised(),
    AdaptiveQuantile(quantile=0.5, learning_rate=0.2, count_noise_multiplier=4.0),
]
MODEL = mlp(5, (4,), 3)
LAYERS = [MODEL[0], MODEL[2]]


def _clip(clipping, max_grad_norm=1.0, model=MODEL):
    config = config_of(Poisson(probability=0.5), clipping=clipping, max_grad_norm=max_grad_norm)
    return run_clipping(config, model).clip


def _summed(parts, clip, *, layers, multiplied):
    """Return what parts add to zeros, flat."""
    sums = [_zeros(part) for part in parts]
    add_clipped(sums, parts, clip, layers=layers, multiplied=multiplied)
    return torch.cat([piece.flatten() for of_part in sums for piece in of_part])


def _zeros(part):
    if isinstance(part, Formed):
        return [torch.zeros_like(rows[0]) for rows in part.rows]
    inputs, outputs = part.inputs.shape[-1], part.gradients.shape[-1]
    return [torch.zeros(outputs, inputs)] + [torch.zeros(outputs)] * part.bias


def _contributions(clip, rows):
    """What every example adds, in all layers: rows are (n, k) for each layer."""
    found = []
    for i in range(len(rows[0])):
        some = [layer[i : i + 1].clone() for layer in rows]
        parts = [Formed(rows=[layer]) for layer in some]
        found.append(_summed(parts, clip, layers=LAYERS, multiplied=some))
    return torch.stack(found)


def _exact_square(entries):
    return sum(Fraction(float(entry)) ** 2 for entry in entries)


def _extremes(width):
    largest = 3.4e38 if width == 32 else 1.7e308
    edges = [0.0, 1e-45, 1e-40, 1e-38, 1e-20, 1.0, 1e19, 1e38, largest, math.inf, -math.inf, math.nan]
    edges = st.sampled_from(edges).map(lambda value: torch.tensor(value, dtype=torch.float32).item())
    return st.one_of(edges, st.floats(width=width, min_value=-(2.0**40), max_value=2.0**40))


def _layers(width):
    rows = st.lists(_extremes(width), min_size=6, max_size=6)
    return st.tuples(rows, rows)


@pytest.mark.parametrize("clipping", CLIPPINGS, ids=repr)
@settings(deadline=None, max_examples=60)
@given(rows=_layers(32), max_grad_norm=st.floats(1e-10, 1e10))
@example(rows=([1e-45, 0, 0, 0, 0, 0], [0.0] * 6), max_grad_norm=1.0)
@example(rows=([0.0] * 6, [0.0] * 6), max_grad_norm=1.0)
@example(rows=([3.4e38] * 6, [1.0] * 6), max_grad_norm=1.0)
@example(rows=([math.nan] + [1.0] * 5, [1.0] * 6), max_grad_norm=1.0)
def test_the_exact_norm_of_a_contribution_is_within_the_bound(clipping, rows, max_grad_norm):
    layers = [torch.tensor([layer]) for layer in rows]
    [added] = _contributions(_clip(clipping, max_grad_norm), layers)
    assert torch.isfinite(added).all()
    assert _exact_square(added) <= Fraction(max_grad_norm) ** 2
    if not all(torch.isfinite(layer).all() for layer in layers):
        assert not added.any()


@pytest.mark.parametrize("clipping", CLIPPINGS, ids=repr)
@settings(deadline=None, max_examples=40)
@given(rows=_layers(64), max_grad_norm=st.floats(1e-10, 1e10))
def test_it_is_in_float64_as_well(clipping, rows, max_grad_norm):
    [added] = _contributions(
        _clip(clipping, max_grad_norm), [torch.tensor([layer], dtype=torch.float64) for layer in rows]
    )
    assert torch.isfinite(added).all()
    assert _exact_square(added) <= Fraction(max_grad_norm) ** 2


@pytest.mark.parametrize("clipping", [Automatic(stability=1e-300), Normalised()], ids=repr)
@settings(deadline=None, max_examples=100)
@given(exponents=st.lists(st.floats(-170.0, -140.0), min_size=4, max_size=4))
@example(exponents=[-161.9] * 4)
def test_squares_that_underflow_stretch_nothing_beyond_the_bound(clipping, exponents):
    rows = torch.tensor([exponents], dtype=torch.float64).mul_(math.log(10)).exp_()
    [added] = _contributions(_clip(clipping), [rows, torch.zeros(1, 2, dtype=torch.float64)])
    assert torch.isfinite(added).all()
    assert _exact_square(added) <= 1
    if max(exponents) > -145:
        assert _exact_square(added) > Fraction(99, 100)


@pytest.mark.parametrize("clipping", CLIPPINGS, ids=repr)
def test_layers_keep_their_own_bounds_to_a_millionth(clipping):
    """Rows of 3-4-0 and 0-5-12 times 100: norms 500 and 1300."""
    rows = [torch.tensor([[300.0, 400.0, 0]]), torch.tensor([[0, 500.0, 1200.0]])]
    [added] = _contributions(_clip(clipping, 2.0), rows)
    whole = math.hypot(500.0, 1300.0)
    expected = {
        Flat(): (2 / whole, 2 / whole),
        PerLayer(): (math.sqrt(2) / 500, math.sqrt(2) / 1300),
        SHARES: (2 * math.sqrt(0.9) / 500, 2 * math.sqrt(0.1) / 1300),
        Automatic(): (2 / (whole + 0.01), 2 / (whole + 0.01)),
    }.get(clipping, (2 / whole, 2 / whole))
    exact = torch.cat([row[0] * factor for row, factor in zip(rows, expected, strict=True)])
    torch.testing.assert_close(added, exact, rtol=1e-6, atol=0)


def test_a_small_gradient_is_left_as_it_is_or_stretched():
    rows = [torch.tensor([[3e-4, 0.0]]), torch.tensor([[0.0, 4e-4]])]
    for clipping, factor in (
        (Flat(), 1.0),
        (PerLayer(), 1.0),
        (Automatic(), 2 / (5e-4 + 0.01)),
        (Normalised(), 2 / 5e-4),
    ):
        [added] = _contributions(_clip(clipping, 2.0), rows)
        torch.testing.assert_close(added, factor * torch.cat(rows, dim=1)[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("clipping", CLIPPINGS, ids=repr)
def test_what_is_not_finite_in_one_layer_counts_as_zero_in_all(clipping, poison):
    rows = [torch.tensor([[1.0, 2.0], [poison, 1.0]]), torch.ones(2, 3)]
    first, second = _contributions(_clip(clipping), rows)
    assert first.any() and not second.any()


@pytest.mark.parametrize("clipping", [Automatic(stability=1e-38), Normalised()], ids=repr)
@pytest.mark.parametrize("inputs", [0.0, 1e-45, 1e-40, 1e-30, 1.0, 1e30])
@pytest.mark.parametrize("gradients", [0.0, 1e-45, 1e-30, 1.0, 1e20, 1e38])
def test_no_product_of_a_stretched_gradient_leaves_the_floats(clipping, inputs, gradients):
    clip = _clip(clipping)
    a, b = torch.tensor([[inputs, 0.0], [1.0, 1.0]]), torch.tensor([[gradients, gradients], [0.5, 0.0]])
    for part in (
        Single(inputs=a, gradients=b, bias=False, space=Workspace()),
        Single(inputs=a, gradients=b, bias=True, space=Workspace()),
        Sequence(
            inputs=a.unsqueeze(1).repeat(1, 2, 1), gradients=torch.stack([b, -b], dim=1), bias=False, space=Workspace()
        ),
        Sequence(
            inputs=a.unsqueeze(1).repeat(1, 2, 1),
            gradients=torch.stack([b, -b / 2], dim=1),
            bias=True,
            space=Workspace(),
        ),
    ):
        sums = _summed([part], clip, layers=LAYERS[:1], multiplied=[part.gradients])
        assert torch.isfinite(sums).all()
        assert _exact_square(sums) <= 4  # of two examples
        alone = type(part)(inputs=part.inputs[:1], gradients=part.gradients[:1], bias=part.bias, space=Workspace())
        sums = _summed([alone], clip, layers=LAYERS[:1], multiplied=[alone.gradients])
        assert _exact_square(sums) <= 1


def _ways(model, clip):
    chain = rowwise_chain(model, example_dimensions=1)
    return (
        BookKeeping(chain=chain, loss=CROSS_ENTROPY, clip=clip),
        Recorded(model=model, loss=CROSS_ENTROPY, clip=clip),
        Vectorised(model=model, loss=CROSS_ENTROPY, clip=clip),
    )


@pytest.mark.parametrize("clipping", CLIPPINGS, ids=repr)
def test_all_ways_group_parameters_into_the_same_layers_and_sum_the_same(clipping):
    torch.manual_seed(0)
    features, targets, sums, seen = torch.randn(7, 5), torch.arange(7) % 3, [], []
    clip = _clip(clipping, 0.3)
    for way in _ways(MODEL, clip):
        clip.seen = []
        sums.append(way(features, targets))
        [(squares, factors)] = clip.seen
        assert len(squares) == len(factors) == 2
        seen.append((torch.stack(list(squares)), torch.stack(list(factors))))
    for sum_, (squares, factors) in zip(sums[1:], seen[1:], strict=True):
        torch.testing.assert_close(sum_, sums[0], rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(squares, seen[0][0], rtol=1e-5, atol=0)
        torch.testing.assert_close(factors, seen[0][1], rtol=1e-5, atol=0)


@pytest.mark.parametrize("clipping", CLIPPINGS, ids=repr)
def test_the_sum_is_that_of_one_backward_pass_an_example(clipping):
    torch.manual_seed(0)
    features, targets, parameters = torch.randn(7, 5), torch.arange(7) % 3, list(MODEL.parameters())
    expected = 0
    for i in range(7):
        pieces = torch.autograd.grad(CROSS_ENTROPY(MODEL(features[i : i + 1]), targets[i : i + 1]).sum(), parameters)
        layers = [torch.cat([piece.double().flatten() for piece in pieces[k : k + 2]]) for k in (0, 2)]
        whole = float(torch.cat(layers).norm())
        shares = {"PerLayer": (0.5, 0.5) if clipping == PerLayer() else (0.9, 0.1)}.get(type(clipping).__name__)
        stretch = 0.3 / (whole + getattr(clipping, "stability", 0.0))
        factor = stretch if isinstance(clipping, (Automatic, Normalised)) else min(1.0, 0.3 / whole)
        factors = [factor] * 2
        if shares is not None:
            factors = [min(1.0, 0.3 * math.sqrt(s) / float(g.norm())) for s, g in zip(shares, layers, strict=True)]
        expected = expected + torch.cat([f * g for f, g in zip(factors, layers, strict=True)])
    for way in _ways(MODEL, _clip(clipping, 0.3)):
        torch.testing.assert_close(way(features, targets).double(), expected, rtol=1e-5, atol=1e-7)


def test_one_layer_is_clipped_as_the_whole():
    model, features, targets = nn.Linear(5, 3), torch.randn(7, 5), torch.arange(7) % 3
    sums = [_ways(model, _clip(clipping, 0.3, model))[0](features, targets) for clipping in (Flat(), PerLayer())]
    assert torch.equal(*sums)


@pytest.mark.parametrize("shares", [{"0": 1.0}, {"0": 0.5, "1": 0.5}, {"0": 0.4, "2": 0.4, "head": 0.2}])
def test_shares_of_other_layers_than_the_models_are_refused_before_the_first_step(shares):
    config, randomness = config_of(Poisson(probability=0.5), clipping=PerLayer(shares=shares)), KeyedSource(0)
    data = Dataset(features=torch.zeros(3, 5), targets=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InvalidParameter, match=r"PerLayer: shares must name just the layers \['0', '2'\], got \['0'"):
        steps(MODEL, data, config, loss=CROSS_ENTROPY, randomness=randomness)
    assert randomness.reserve("runs", 0) == 0


@pytest.mark.parametrize("clipping", CLIPPINGS[:-1], ids=repr)
def test_one_record_more_moves_every_sum_by_at_most_the_bound(clipping):
    config = config_of(
        Poisson(probability=0.5), clipping=clipping, max_grad_norm=0.7, learning_rate=1e-30, noise_multiplier=0.5
    )
    torch.manual_seed(1)
    features, targets = 3 * torch.randn(9, 5), torch.arange(9) % 3
    runs = []
    for records in (8, 9):
        data = Dataset(features=features[:records], targets=targets[:records])
        torch.manual_seed(0)
        runs.append(list(steps(mlp(5, (4,), 3), data, config, loss=CROSS_ENTROPY, randomness=KeyedSource("replay"))))
    moves = torch.stack([b.noisy_sum - a.noisy_sum for a, b in zip(*runs, strict=True)]).norm(dim=1)
    assert moves.max() <= 0.7 * (1 + 1e-5)
    assert {bool(move > 0.1) for move in moves} == {True, False}
    assert all(release.max_grad_norm == 0.7 and release.noisy_count is None for release in runs[0])


@pytest.mark.parametrize("clipping", CLIPPINGS[:-1], ids=repr)
@pytest.mark.parametrize("chosen", range(3))
def test_every_clipping_keeps_units_of_several_rows_within_the_bound_as_one(clipping, chosen):
    clip = _clip(clipping, 0.7)
    torch.manual_seed(0)
    features, targets, shares = 3 * torch.randn(6, 4, 5), torch.randint(3, (6, 4)), torch.full((6, 4), 0.25)
    way = _ways(MODEL, clip)[chosen]
    one_by_one = [way(*(part[i : i + 1] for part in (features, targets, shares))) for i in range(6)]
    assert max(float(one.double().norm()) for one in one_by_one) <= 0.7
    torch.testing.assert_close(way(features, targets, shares), torch.stack(one_by_one).sum(0))


class Hollow(nn.Module):
    """Has a parameter without entries beside a layer."""

    def __init__(self):
        super().__init__()
        self.nothing, self.layer = nn.Parameter(torch.zeros(0)), nn.Linear(5, 3)

    def forward(self, rows):
        return self.layer(rows) + self.nothing.sum()


@pytest.mark.parametrize("clipping", [c for c in CLIPPINGS if c != SHARES], ids=repr)
def test_parameters_without_entries_are_trained_along(clipping):
    config = config_of(Poisson(probability=1.0), clipping=clipping, steps=1)
    data = Dataset(features=torch.ones(3, 5), targets=torch.arange(3))
    [release] = steps(Hollow(), data, config, loss=CROSS_ENTROPY, randomness=KeyedSource(0))
    assert release.noisy_sum.shape == (18,)


def test_what_a_way_that_gave_up_has_seen_does_not_count(monkeypatch):
    """Recorded leaves a model to vmap after part of the batch was summed."""
    torch.manual_seed(0)
    clip = FlatClipper(max_grad_norm=0.3, seen=[])
    way, features, targets = _ways(MODEL, clip)[1], torch.randn(6, 5), torch.arange(6) % 3
    monkeypatch.setattr("dpsgd.core.bookkeeping.FORMED_ENTRIES", 1)
    monkeypatch.setattr(way, "_formed", {1: 1})
    calls = []

    def gives_up(sums, *rest, **options):
        from dpsgd.core.recorded import _NotCoveredError

        calls.append(sums)
        if len(calls) == 3:
            raise _NotCoveredError
        add_clipped(sums, *rest, **options)

    monkeypatch.setattr("dpsgd.core.recorded.add_clipped", gives_up)
    clip.seen.append(([torch.ones(2).double()], [torch.ones(2)]))  # an earlier part of the same step
    total = way(features, targets)
    assert len(calls) == 3
    assert sum(len(norms(squares)) for squares, _ in clip.seen) == 2 + 6
    torch.testing.assert_close(total, _ways(MODEL, _clip(Flat(), 0.3))[0](features, targets))


@pytest.mark.parametrize("clipping", CLIPPINGS, ids=repr)
def test_every_clipping_runs_to_the_end_on_no_records(clipping):
    config = config_of(Poisson(probability=0.5), clipping=clipping)
    data = Dataset(features=torch.zeros(0, 5), targets=torch.zeros(0, dtype=torch.int64))
    releases = list(steps(mlp(5, (4,), 3), data, config, loss=CROSS_ENTROPY, randomness=KeyedSource(0)))
    assert len(releases) == 12 and all(torch.isfinite(release.noisy_sum).all() for release in releases)


def test_the_description_is_what_the_clipper_is_made_from():
    config = config_of(Poisson(probability=0.5), clipping=CLIPPINGS[-1], noise_multiplier=1.5, max_grad_norm=3.0)
    clipping = run_clipping(config, MODEL)
    assert clipping.noise_scale == CLIPPINGS[-1].sum_noise_multiplier(1.5) * 3.0
    assert run_clipping(dataclasses.replace(config, clipping=Flat()), MODEL).noise_scale == 4.5
