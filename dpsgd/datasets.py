"""Datasets as pairs of tensors, and loaders of three public ones."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechanisms import InvalidParameter, Source
from mechanisms.core import validate

NAMES = ("digits", "fashion_mnist", "mnist")
SIBLING = Path("../shared/data")
DIGITS_TEST_SHARE = 5  # one in five
ROWS_AT_ONCE = 4096
SOURCES = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "fashion_mnist": "https://github.com/zalandoresearch/fashion-mnist (folder data/fashion)",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """n records: row i of `features` and of `targets` is what record i holds.

    Args:
        features: (n, …); the loaders give float32 in [0, 1].
        targets: (n, …); the loaders give class numbers, int64 (n,).
        owners: int64 (n,), the user to whom each record belongs, by any number, whose order numbers the users; None if
            records are the unit.

    Raises:
        InvalidParameter: if one is no tensor of its kind or their numbers of rows differ.

    >>> len(Dataset(features=torch.zeros(3, 2), targets=torch.zeros(3)))
    3
    """

    features: Tensor
    targets: Tensor
    owners: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("features", "targets"):
            value = getattr(self, name)
            if not isinstance(value, Tensor) or value.dim() == 0:
                raise InvalidParameter(f"Dataset: {name} must be a tensor with one row a record, got {type(value)}.")
        if len(self.features) != len(self.targets):
            raise InvalidParameter("Dataset: features and targets must have the same number of rows, and have not.")
        if self.owners is not None:
            _check_owners(self.owners, len(self.features))

    def __len__(self) -> int:
        return len(self.features)

    def digest(self, source: Source) -> str:
        """Return 64 hexadecimal digits that tell these records, in their order, from others, under the source's key.

        Whoever lacks the key learns nothing from them.

        >>> from mechanisms import SystemSource
        >>> one, source = Dataset(features=torch.zeros(3, 2), targets=torch.zeros(3)), SystemSource()
        >>> one.digest(source) == one.digest(source) != one.digest(SystemSource())
        True
        """
        found = hashlib.blake2b(key=source.words("records", 0, 8).tobytes(), digest_size=32)
        for tensor in (self.features, self.targets, self.owners):
            found.update(repr(None if tensor is None else (tensor.dtype, tuple(tensor.shape))).encode())
            for part in () if tensor is None else torch.split(tensor.detach(), ROWS_AT_ONCE):
                found.update(part.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()


def _check_owners(owners: object, records: int) -> None:
    if not isinstance(owners, Tensor) or owners.dtype != torch.int64 or owners.dim() != 1:
        kind = f"{owners.dtype} of {owners.dim()} dimensions" if isinstance(owners, Tensor) else type(owners).__name__
        raise InvalidParameter(
            f"Dataset: owners must be an int64 tensor with the id of one user a record, shape (n,), got {kind}."
        )
    if len(owners) != records:
        raise InvalidParameter("Dataset: owners must have one entry for each record, and has more or fewer.")


def load(name: str, *, directory: str | Path | None = None) -> tuple[Dataset, Dataset]:
    """Return the training and the test records of a public dataset, in an order that is always the same.

    Args:
        name: "digits" (1,797 images of 8×8, inside scikit-learn; a fixed fifth is for testing), "mnist" or
            "fashion_mnist" (60,000 and 10,000 images of 28×28, from four files of the publishers' names).
        directory: holds the folders mnist and fashion_mnist; without it the environment's DPCALIPERS_DATA is taken,
            else ../shared/data where that exists.

    Raises:
        InvalidParameter: if there is no dataset of that name, or a file is missing or damaged.

    >>> train, test = load("digits")
    >>> train.features.shape, test.features.shape
    (torch.Size([1438, 64]), torch.Size([359, 64]))
    """
    name = validate.choice("load", "name", name, NAMES)
    if name == "digits":
        return _digits()
    folder = _data_directory(directory, name) / name
    return _shuffled_part(folder, "train", name), _shuffled_part(folder, "t10k", name)


def _digits() -> tuple[Dataset, Dataset]:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    split = len(labels) - len(labels) // DIGITS_TEST_SHARE
    train, test = (_dataset(pixels[part] / 16, labels[part]) for part in np.split(order, [split]))
    return train, test


def _shuffled_part(folder: Path, part: str, name: str) -> Dataset:
    """Return one of the two parts, shuffled: copies of Fashion-MNIST sorted by class are about."""
    images = _read_idx(folder / f"{part}-images-idx3-ubyte.gz", name)
    labels = _read_idx(folder / f"{part}-labels-idx1-ubyte.gz", name)
    order = np.random.default_rng(0).permutation(len(labels))
    return _dataset(images.reshape(len(images), -1)[order] / np.float32(255), labels[order])


def _dataset(features: NDArray[np.generic], targets: NDArray[np.generic]) -> Dataset:
    return Dataset(
        features=torch.from_numpy(features.astype(np.float32, copy=False)),
        targets=torch.from_numpy(targets.astype(np.int64, copy=False)),
    )


def _data_directory(given: str | Path | None, name: str) -> Path:
    configured = given if given is not None else os.environ.get("DPCALIPERS_DATA")
    if configured is not None:
        return Path(configured)
    if SIBLING.is_dir():
        return SIBLING
    raise InvalidParameter(
        f"load: {name} must be given a directory, and none was: neither directory=... nor DPCALIPERS_DATA is set.\n"
        f"Put the four idx.gz files from {SOURCES[name]} into DIRECTORY/{name}."
    )


def _read_idx(path: Path, name: str) -> NDArray[np.uint8]:
    """Return the array of an idx file: two zero bytes, type 8 (uint8), rank, the sizes (4 bytes each), the data."""
    if not path.is_file():
        raise InvalidParameter(
            f"load: {name} must have the file {path.name}, but {path.parent} holds none.\nGet it from {SOURCES[name]}."
        )
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidParameter(f"load: {path} is damaged ({error}). Get it again from {SOURCES[name]}.") from None
    rank = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    shape = np.frombuffer(content[4 : 4 + 4 * rank], dtype=">i4")
    data = np.frombuffer(content[4 + 4 * rank :], dtype=np.uint8)
    if rank == 0 or len(shape) != rank or math.prod(map(int, shape)) != len(data):
        raise InvalidParameter(
            f"load: {path} is no idx file of bytes, or cut short. Get it again from {SOURCES[name]}."
        )
    return data.reshape(shape)
