import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from dpsgd import Dataset, load
from mechanisms import InvalidParameter

PARTS = {"train": 30, "t10k": 10}


def _idx(array):
    return struct.pack(f">HBB{array.ndim}i", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def directory(tmp_path):
    """A small Fashion-MNIST, sorted by class, whose first pixel is the label."""
    folder = tmp_path / "fashion_mnist"
    folder.mkdir()
    for part, records in PARTS.items():
        labels = np.sort(np.arange(records) % 10).astype(np.uint8)
        images = np.broadcast_to(labels[:, None, None], (records, 28, 28))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(images)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(labels)))
    return tmp_path


def test_a_dataset_has_as_many_targets_as_records():
    with pytest.raises(InvalidParameter, match="features and targets must have the same number of rows, and have not"):
        Dataset(features=torch.zeros(3, 1), targets=torch.zeros(2))


@pytest.mark.parametrize("features", [np.zeros((3, 1)), torch.tensor(1.0), None])
def test_a_dataset_is_made_of_tensors_with_rows(features):
    with pytest.raises(InvalidParameter, match="Dataset: features must be a tensor with one row a record"):
        Dataset(features=features, targets=torch.zeros(3))


def test_digits_come_in_the_same_two_parts_every_time():
    (train, test), again = load("digits"), load("digits")
    assert (len(train), len(test)) == (1438, 359)
    assert torch.equal(train.features, again[0].features) and torch.equal(test.targets, again[1].targets)
    assert train.features.dtype == torch.float32 and train.targets.dtype == torch.int64
    assert (float(train.features.min()), float(train.features.max())) == (0.0, 1.0)
    assert torch.bincount(torch.cat([train.targets, test.targets])).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip


def test_images_are_flattened_scaled_and_shuffled_with_their_labels(directory):
    train, test = load("fashion_mnist", directory=directory)
    assert train.features.shape == (30, 784) and test.features.shape == (10, 784)
    assert train.features.dtype == torch.float32 and train.targets.dtype == torch.int64
    assert torch.equal((train.features[:, 0] * 255).round().long(), train.targets)
    assert train.targets.tolist() != sorted(train.targets.tolist())
    assert torch.equal(train.targets, load("fashion_mnist", directory=str(directory))[0].targets)


def test_the_environment_names_the_directory(directory, monkeypatch):
    monkeypatch.setenv("DPCALIPERS_DATA", str(directory))
    assert len(load("fashion_mnist")[0]) == 30


def test_a_sibling_folder_is_found_where_none_is_named(directory, tmp_path, monkeypatch):
    project = tmp_path / "project"
    for folder in (project, tmp_path / "shared"):
        folder.mkdir()
    (tmp_path / "shared" / "data").symlink_to(directory)
    monkeypatch.delenv("DPCALIPERS_DATA", raising=False)
    monkeypatch.chdir(project)
    assert len(load("fashion_mnist")[0]) == 30


def test_without_any_directory_the_error_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.delenv("DPCALIPERS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InvalidParameter, match=r"load: mnist must be given a directory(.|\n)*https://.*DIRECTORY/mnist"
    ):
        load("mnist")


def test_a_missing_file_is_named_with_its_folder_and_source(directory):
    with pytest.raises(InvalidParameter, match=r"train-images-idx3-ubyte\.gz, but .*mnist holds none(.|\n)*https://"):
        load("mnist", directory=directory)


def test_an_unknown_dataset_is_refused():
    with pytest.raises(
        InvalidParameter, match="load: name must be one of 'digits', 'fashion_mnist', 'mnist', got 'cifar'"
    ):
        load("cifar")


def _cut_short(content):
    return content[: len(content) // 2]


def _too_few_pixels(content):
    return gzip.compress(gzip.decompress(content)[:-1])


def _of_another_type(content):
    return gzip.compress(b"\0\0\x0d\3" + gzip.decompress(content)[4:])


@pytest.mark.parametrize(
    "damage",
    [_cut_short, _too_few_pixels, _of_another_type, lambda content: b"no gzip", lambda content: gzip.compress(b"")],
)
def test_a_damaged_file_is_named(directory, damage):
    path = directory / "fashion_mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidParameter, match=r"load: .*t10k-images-idx3-ubyte\.gz is .* Get it again from https://"):
        load("fashion_mnist", directory=directory)


@pytest.mark.parametrize(("name", "mean"), [("mnist", 0.1307), ("fashion_mnist", 0.2860)])
def test_the_published_files_have_their_published_means(name, mean):
    folder = Path(os.environ.get("DPCALIPERS_DATA", "../shared/data"))
    if not (folder / name).is_dir():
        pytest.skip(f"{name} is not in {folder}")
    train, test = load(name, directory=folder)
    assert train.features.shape == (60_000, 784) and test.features.shape == (10_000, 784)
    assert abs(float(train.features.mean()) - mean) < 1e-4
    assert len(set(train.targets[:100].tolist())) > 5
