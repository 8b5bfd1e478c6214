import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsgd import DPSGD, Dataset, PrescribedGradients, steps
from dpsgd.clipping import AdaptiveQuantile, Automatic, Flat, Normalised, PerLayer
from dpsgd.core.clippers import LayerClipper
from dpsgd.core.population import Population, with_absent
from dpsgd.prescribed import Prescribed, PrescribedVectors
from mechanisms import FixedSize, InvalidParameter, KeyedSource, Poisson


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


@settings(deadline=None)
@given(st.lists(st.floats(width=32), min_size=3, max_size=3), st.floats(min_value=1e-6, max_value=1e6))
def test_a_vectors_contribution_never_exceeds_the_bound_and_keeps_its_direction(entries, max_grad_norm):
    records = PrescribedVectors(vectors=torch.tensor([entries]), included=torch.tensor([True]))
    placed = records.placed(max_grad_norm=max_grad_norm, like=torch.zeros(3))
    found, given = placed.vectors[0].double(), torch.tensor(entries).double()
    assert float(found.norm()) <= max_grad_norm
    if not torch.isfinite(given).all():
        assert not found.any()
    elif 1e-3 < float(given.norm()) <= 0.99 * max_grad_norm:
        torch.testing.assert_close(found, given)


def test_only_vectors_included_and_drawn_are_added():
    vectors, included = torch.eye(3) / 2, torch.tensor([True, True, False])
    placed = PrescribedVectors(vectors=vectors, included=included).placed(max_grad_norm=1.0, like=torch.zeros(3))
    assert placed.add_to(torch.ones(3), torch.tensor([False, True, True])).tolist() == [1.0, 1.5, 1.0]


def test_vectors_and_coordinates_of_the_same_gradients_train_alike():
    data = Dataset(features=torch.rand(9, 3), targets=torch.arange(9) % 2)
    config = DPSGD(
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        sampling=Poisson(probability=0.5),
        expected_batch_size=4,
        steps=5,
        learning_rate=0.1,
    )
    sparse = PrescribedGradients(
        coordinates=torch.tensor([1, 5]), values=torch.tensor([1.0, -2.0]), included=torch.tensor([True, True])
    )
    dense = torch.zeros(2, 8)
    dense[0, 1], dense[1, 5] = 1.0, -2.0
    vectors = PrescribedVectors(vectors=dense, included=sparse.included)
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    sums = [
        [
            release.noisy_sum
            for release in steps(
                copy.deepcopy(model),
                data,
                config,
                loss=torch.nn.CrossEntropyLoss(reduction="none"),
                randomness=KeyedSource(0),
                prescribed=prescribed,
            )
        ]
        for prescribed in (sparse, vectors)
    ]
    for ours, theirs in zip(*sums, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"vectors": torch.ones(2)}, r"vectors must be a torch\.float32 or torch\.float64 tensor of 2 dimensions"),
        ({"included": torch.ones(2)}, r"included must be a torch\.bool tensor of 1 dimension"),
        ({"included": torch.tensor([True])}, "included must have one entry for each of the 2 vectors, got 1"),
    ],
)
def test_what_is_no_list_of_vectors_is_refused(changes, text):
    with pytest.raises(InvalidParameter, match=f"PrescribedVectors: {text}"):
        PrescribedVectors(**{"vectors": torch.ones(2, 4), "included": torch.tensor([True, False])} | changes)


def test_vectors_of_another_length_are_refused():
    records = PrescribedVectors(vectors=torch.ones(1, 3), included=torch.tensor([True]))
    with pytest.raises(InvalidParameter, match=r"vectors must have 4 entries, .* got 3"):
        records.check_dimension(4)


@pytest.mark.parametrize(
    "clipping",
    [
        Flat(),
        PerLayer(shares={"0": 0.3, "2": 0.7}),
        Automatic(),
        Normalised(),
        AdaptiveQuantile(quantile=0.3, learning_rate=0.5, count_noise_multiplier=0.5),
    ],
    ids=repr,
)
def test_a_prescribed_record_is_clipped_and_counted_as_one_that_has_this_gradient(clipping):
    config = DPSGD(
        noise_multiplier=0.0, max_grad_norm=0.2, sampling=Poisson(probability=1.0), expected_batch_size=4, steps=2,
        learning_rate=1e-12, clipping=clipping,
    )  # fmt: skip
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    data, loss = (
        Dataset(features=torch.rand(6, 3), targets=torch.arange(6) % 2),
        torch.nn.CrossEntropyLoss(reduction="none"),
    )
    rows = [
        torch.autograd.grad(loss(model(x[None]), y[None]).sum(), list(model.parameters()))
        for x, y in zip(data.features[4:], data.targets[4:], strict=True)
    ]
    vectors = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    prescribed = PrescribedVectors(vectors=vectors, included=torch.tensor([True, True]))
    some = Dataset(features=data.features[:4], targets=data.targets[:4])
    given = {"loss": loss, "randomness": KeyedSource(0)}
    as_records = list(steps(copy.deepcopy(model), data, config, **given))
    as_vectors = list(
        steps(copy.deepcopy(model), some, config, **given | {"randomness": KeyedSource(0)}, prescribed=prescribed)
    )
    for ours, theirs in zip(as_vectors, as_records, strict=True):
        torch.testing.assert_close(ours.noisy_sum, theirs.noisy_sum, rtol=1e-5, atol=1e-7)
        assert (ours.noisy_count, ours.max_grad_norm) == (theirs.noisy_count, theirs.max_grad_norm)


def test_one_entry_and_whole_vectors_are_clipped_alike_layer_by_layer_and_those_not_included_do_not_count():
    layers = [(torch.nn.Identity(), slice(0, 2)), (torch.nn.Identity(), slice(2, 4))]
    bounds = {layers[0][0]: 0.6, layers[1][0]: 0.8}
    included, drawn = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    sparse = PrescribedGradients(
        coordinates=torch.tensor([2, 0, 3]), values=torch.tensor([-9.0, 1.0, 1.0]), included=included
    )
    dense = PrescribedVectors(vectors=torch.tensor([[0.0, 0, -9, 0], [1, 0, 0, 0], [0, 0, 0, 1]]), included=included)
    for records in (sparse, dense):
        clip = LayerClipper(max_grad_norm=1.0, bounds=bounds, seen=[])
        total = records.add_clipped_to(torch.ones(4), drawn, clip=clip, layers=layers)
        torch.testing.assert_close(total, torch.tensor([1.0, 1.0, 0.2, 1.0]))
        assert [len(factors[0]) for _, factors in clip.seen] == [1]


class Tossed(Prescribed):
    """Records that are neither clipped by the run nor fit for places in a batch."""

    def __len__(self):
        return 1

    def check_dimension(self, dimension):
        pass

    def placed(self, *, max_grad_norm, like):
        return self

    def add_to(self, total, drawn):
        return total


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"clipping": Automatic()}, r"steps: clipping must be Flat\(\) where"),
        ({"sampling": FixedSize(batch_size=2, records=4)}, "steps: sampling must draw every record independently"),
    ],
)
def test_records_that_only_know_the_flat_bound_of_independent_draws_are_refused_elsewhere(changes, text):
    given = {"sampling": Poisson(probability=0.5)} | changes
    config = DPSGD(
        noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=2, steps=1, learning_rate=1.0, **given
    )  # fmt: skip
    data = Dataset(features=torch.ones(3, 2), targets=torch.zeros(3))
    with pytest.raises(InvalidParameter, match=text):
        steps(
            torch.nn.Linear(2, 1), data, config, loss=lambda o, t: o[:, 0], randomness=KeyedSource(0),
            prescribed=Tossed(),
        )  # fmt: skip


@pytest.mark.parametrize("present", [torch.ones(9), torch.ones(8, dtype=torch.bool), [True] * 9])
def test_what_says_not_which_records_are_present_is_refused(present):
    everyone = Population(units=9, clipped_sum=lambda rows, position: torch.zeros(1))
    with pytest.raises(InvalidParameter, match=r"present must be a torch\.bool tensor with one entry for each record"):
        with_absent(everyone, present)


@pytest.mark.parametrize("kind", ["gradients", "vectors"])
def test_records_and_whether_they_are_in_may_lie_on_two_devices(kind):
    """Of the device "meta" nothing can be read: what is made there shows where it was made, and no more."""
    included = torch.tensor([True, False])
    if kind == "gradients":
        places, values = torch.zeros(2, dtype=torch.int64, device="meta"), torch.ones(2, device="meta")
        made = PrescribedGradients(coordinates=places, values=values, included=included)
        assert made.contributions(max_grad_norm=1.0, dtype=torch.float32).device.type == "meta"
    else:
        vectors = PrescribedVectors(vectors=torch.ones(2, 3, device="meta"), included=included)
        assert vectors.placed(max_grad_norm=1.0, like=torch.zeros(3, device="meta")).vectors.device.type == "meta"
