"""Steps are taken with all digits of their floats, whatever torch is set to."""

import contextlib

import pytest
import torch
from torch import nn

from dpsgd import Dataset, mlp, steps
from dpsgd.core.arithmetic import _places, repeatable, whole_floats
from mechanisms import InvalidParameter, KeyedSource, Poisson
from tests.dpsgd.schemes import config_of

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
BACKENDS = (torch.backends.cudnn, torch.backends.mkldnn)
CONFIG = config_of(Poisson(probability=1.0))
needs_places = pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch before 2.9 has other settings"
)


def _begun(seen=lambda: None):
    def loss(outputs, targets):
        seen()
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    data = Dataset(features=torch.ones(6, 5), targets=torch.arange(6) % 3)
    return steps(mlp(5, (4,), 3), data, CONFIG, loss=loss, randomness=KeyedSource(0))


@pytest.fixture
def medium():
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


def _read():
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.matmul)
    return [place.fp32_precision for place in places]


@needs_places
def test_no_product_of_a_step_is_cut_and_torch_is_set_as_before_after_it(medium):
    before, seen = _read(), set()
    assert before == ["tf32", "tf32", "bf16"]
    next(_begun(lambda: seen.add(tuple(_read()))))
    assert seen == {("ieee", "ieee", "ieee")} and _read() == before and torch.get_float32_matmul_precision() == "medium"
    for device in (CPU, CUDA):
        with contextlib.suppress(ZeroDivisionError), whole_floats(device):
            assert set(_read()) == {"ieee"}
            raise ZeroDivisionError
        assert _read() == before


def _older():
    """What torch tells where settings do not contradict each other; else it raises."""
    products, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    return products, convolutions, torch.get_float32_matmul_precision()


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("convolutions", [True, False])
def test_models_may_read_settings_of_either_kind(precision, convolutions):
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = convolutions
    before, seen = (_older(), _all()), set()
    try:
        next(_begun(lambda: seen.add(_older())))
        assert seen == {(False, convolutions and precision == "highest", "highest")}  # cuDNN is nothing to the CPU
        assert (_older(), _all()) == before
        with whole_floats(CUDA):
            assert _older() == (False, False, "highest")
        assert (_older(), _all()) == before
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True


@needs_places
@pytest.mark.parametrize("kinds", [("ieee", "tf32"), ("tf32", "ieee"), ("ieee", "ieee")])
def test_settings_that_contradict_each_other_before_a_step_do_so_after_it(kinds):
    """Torch raises where a model reads the older one then, without a step too."""
    conv, rnn = torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    try:
        conv.fp32_precision, rnn.fp32_precision = kinds
        before, seen = _all(), set()
        next(_begun(lambda: seen.add(torch.backends.mkldnn.matmul.fp32_precision)))
        with whole_floats(CUDA):
            assert set(_read()) == {"ieee"}
        assert seen == {"ieee"} and _all() == before
    finally:
        torch.backends.cudnn.allow_tf32 = True


@needs_places
@pytest.mark.parametrize("older", ["highest", "medium"])
@pytest.mark.parametrize("device", [CPU, CUDA])
def test_products_that_newer_settings_alone_cut_have_all_their_digits(older, device):
    """Torch then raises where the older setting is read, which says otherwise."""
    products = torch.backends.mkldnn.matmul
    try:
        torch.set_float32_matmul_precision(older)
        products.fp32_precision = "bf16" if older == "highest" else "tf32"
        before = _all()
        with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
            torch.get_float32_matmul_precision()
        with whole_floats(device):
            assert products.fp32_precision == "ieee"
        assert _all() == before
    finally:
        torch.set_float32_matmul_precision("highest")


def _all():
    """All newer settings, and none before torch 2.9."""
    return [place.fp32_precision for place in _places()]


def test_the_precision_of_products_is_as_before_after_a_step(medium):
    next(_begun())
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize(
    ("context", "text"),
    [
        (lambda: torch.autocast("cpu", dtype=torch.bfloat16), "autocast must be off(.|\n)*cast the model once it is"),
        (torch.inference_mode, "inference mode must be off"),
    ],
)
def test_a_step_within_another_arithmetic_is_refused_also_where_that_began_after_the_run(context, text):
    releases = _begun()
    next(releases)
    with context(), pytest.raises(InvalidParameter, match=text):
        next(releases)


@needs_places
def test_layers_that_recur_have_all_their_digits_too():
    """Torch cuts those of cuDNN unless told otherwise, and those of oneDNN where it is told to for all."""
    torch.backends.fp32_precision = "tf32"
    try:
        with whole_floats(CUDA):
            kinds = {getattr(backend.rnn, "fp32_precision", "ieee") for backend in BACKENDS}
        assert kinds == {"ieee"} and torch.backends.cudnn.rnn.fp32_precision == "tf32"
    finally:
        torch.backends.fp32_precision = "none"


@pytest.mark.parametrize("before", [(False, False), (True, False), (True, True)])
def test_sums_on_cuda_repeat_and_torch_is_set_as_before_afterwards(before):
    """As far as the settings go: there is no CUDA here."""

    def read():
        kept = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        return kept, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark

    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    try:
        was = read()
        with repeatable(torch.device("cpu")):
            assert read() == was
        with contextlib.suppress(ZeroDivisionError), repeatable(CUDA):
            assert read() == ((True, before != (True, False)), True, False)
            raise ZeroDivisionError
        assert read() == was
    finally:
        torch.use_deterministic_algorithms(False)
