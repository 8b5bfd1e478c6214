import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from dpsgd import Dataset, check_private, steps, train
from dpsgd.isolation import validate_model
from mechanisms import InvalidParameter, KeyedSource


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.BatchNorm1d(3), r"got BatchNorm1d at model\.1: it normalises by the batch.*Use GroupNorm or LayerNorm"),
        (nn.BatchNorm2d(3, affine=False, track_running_stats=False), "BatchNorm2d .* Use GroupNorm"),
        (nn.SyncBatchNorm(3), "SyncBatchNorm .* Use GroupNorm"),
        (
            nn.InstanceNorm1d(3, track_running_stats=True),
            "InstanceNorm1d .* stores statistics .*track_running_stats=False",
        ),
        (nn.Embedding(3, 2, max_norm=1.0), "Embedding .* Use max_norm=None"),
        (nn.EmbeddingBag(3, 2, max_norm=1.0), "EmbeddingBag .* Use max_norm=None"),
        (torch.compile(nn.Linear(3, 2), backend="eager"), r"OptimizedModule .* Give the module .* \._orig_mod"),
        (nn.LazyLinear(3), "LazyLinear .* no parameters yet. Run the model once on public data"),
    ],
)
def test_a_layer_that_cannot_be_private_is_named_with_what_to_use(layer, text):
    with pytest.raises(InvalidParameter, match=text):
        check_private(nn.Sequential(nn.Identity(), layer))


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_wrapped_modules_are_named_with_what_is_to_be_given(tmp_path):
    with pytest.raises(
        InvalidParameter, match=r"ScriptModule at model: it is a program of torch\.jit.* Give the module"
    ):
        check_private(torch.jit.script(nn.Sequential(nn.Linear(3, 2))))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(nn.Linear(3, 2))
        with pytest.raises(InvalidParameter, match=r"DistributedDataParallel at model: .*its \.module: ranks"):
            check_private(model)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (nn.utils.weight_norm, r"Use torch\.nn\.utils\.parametrizations\.weight_norm"),
        (nn.utils.spectral_norm, r"Use torch\.nn\.utils\.parametrizations\.weight_norm; spectral_norm moves"),
        (lambda layer: prune.l1_unstructured(layer, "weight", 2), r"Call torch\.nn\.utils\.prune\.remove"),
    ],
    ids=["weight norm", "spectral norm", "pruned"],
)
def test_weights_that_hooks_write_are_named_with_what_to_use(change, text, config):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    change(model[0])
    data = Dataset(features=torch.ones(4, 3), targets=torch.zeros(4, dtype=torch.int64))
    ask = {"loss": nn.CrossEntropyLoss(reduction="none"), "randomness": KeyedSource(0)}
    for run in (
        lambda: check_private(model, like=data.features),
        *(lambda way=way: way(model, data, config, **ask) for way in (steps, train)),
    ):
        with pytest.raises(InvalidParameter, match=rf"got Linear at model\.0: it writes its weight anew .* {text}"):
            run()


@pytest.mark.parametrize(
    "change",
    [parametrizations.weight_norm, lambda layer: prune.remove(prune.l1_unstructured(layer, "weight", 2), "weight")],
)
def test_what_is_suggested_for_them_runs(change, config):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    change(model[0])
    data = Dataset(features=torch.ones(4, 3), targets=torch.zeros(4, dtype=torch.int64))
    ask = {"loss": nn.CrossEntropyLoss(reduction="none"), "randomness": KeyedSource(0)}
    assert train(model, data, config, **ask).executed == 20


def test_a_model_that_is_such_a_layer_itself_is_named():
    with pytest.raises(InvalidParameter, match="got BatchNorm1d at model: it"):
        check_private(nn.BatchNorm1d(3))


@pytest.mark.parametrize(
    "layer",
    [nn.GroupNorm(1, 3), nn.LayerNorm(3), nn.InstanceNorm1d(3), nn.Embedding(3, 2), nn.Dropout(), nn.Conv2d(1, 1, 1)],
)
def test_layers_that_keep_examples_apart_pass(layer):
    check_private(nn.Sequential(layer))


@pytest.mark.parametrize("hook", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_hooks_on_the_backward_pass_are_named_with_what_to_use(hook):
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    getattr(model[1], hook)(lambda *_: None)
    with pytest.raises(InvalidParameter, match=r"Tanh at model\.1: it has hooks on its backward pass.*Remove them"):
        check_private(model, like=torch.empty(0, 3))


def test_hooks_on_every_backward_pass_are_named_too():
    handle = nn.modules.module.register_module_full_backward_hook(lambda *_: None)
    try:
        with pytest.raises(InvalidParameter, match="got Linear at model: it has hooks on its backward pass"):
            check_private(nn.Linear(3, 3))
    finally:
        handle.remove()


def test_all_findings_come_in_order_and_the_first_is_what_is_raised():
    model = nn.Sequential(
        nn.Embedding(4, 3, max_norm=1.0, sparse=True), nn.Linear(3, 3), nn.Sequential(nn.BatchNorm1d(3))
    )
    findings = validate_model(model)
    assert [(finding.place, finding.kind) for finding in findings] == [
        ("0", "Embedding"),
        ("0", "Embedding"),
        ("2.0", "BatchNorm1d"),
    ]
    with pytest.raises(InvalidParameter) as refusal:
        check_private(model)
    assert str(refusal.value).endswith(str(findings[0]))


def test_parameters_that_are_frozen_shared_unused_or_outside_of_layers_are_no_obstacle():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
            self.first = nn.Linear(3, 3)
            self.second = nn.Linear(3, 3)
            self.second.weight = self.first.weight
            self.second.bias.requires_grad_(False)

        def forward(self, rows):
            return self.second(self.first(rows * self.scale))

    assert validate_model(Own(), like=torch.empty(0, 3)) == ()
