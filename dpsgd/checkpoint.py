"""Runs that outlive their process: a file to go on from, and beside it, while it is needed, the run's secret key.

A step that was taken after the last checkpoint is taken again. Were its noise drawn anew, whoever has seen it would
hold two noisy sums of the same records where one is accounted; so a resumed run draws the same samples and the same
noise and shows the same releases, bit for bit. That takes the key. A `SystemSource` has none to give: a run with a
checkpoint draws from a key of its own, which the operating system makes for it. The key lies in a file of its own that
only its owner can read, apart from the weights, which may be copied and shown; it is written before the first step and
removed after the last, also where a callback stops the run; a run that ends otherwise leaves it, to go on. Whoever gets
hold of it can take the noise out of every release of the run: keep it out of backups and of folders that others share.
Disks may keep what was removed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dpsgd.core.saved import damaged
from mechanisms import InvalidParameter
from mechanisms.core import validate
from mechanisms.core.files import OWNER_ONLY, check_writable, sync_directory, write_atomically
from mechanisms.core.randomness import SecretSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a run is kept, and how often. A run that finds itself there goes on; a complete one is only read.

    Args:
        path: of the file; its folder must exist. The key is `key_path`, beside it. One run at a time.
        every: so many steps it is written, and before the first and after the last; >= 1. A run that a callback has
            stopped is complete.

    Guarantees: whenever the process ends, by `kill -9` or loss of power too, the file holds the run as it was after a
    step, whole. Resumed with the same model, records, loss and key, on the same machine and versions, with as many
    ranks and threads, the run ends at the same weights, bit for bit, and what it shows again is what it showed before:
    as long as layers that draw numbers take them from torch's generators. With other ranks, threads, machines or
    physical batches, and on CUDA always, the steps taken again differ by rounding; with every = 1 that is one step at
    most. Which form the gradients of convolutions come in is in the file before the first step: a run that goes on
    takes the same, whatever would be faster now (`dpsgd.core.forms`).

    A file that is damaged, of another configuration, model, optimizer, schedule, average, number of copies, key or
    version, of an unknown form of a convolution, or of sums that were compiled where these are not, or the other way
    round, is refused, by name. So is one of other records where the key is secret, by a digest under that key, and a
    run with steps to come that drew by an earlier definition of samples and noise. That loss, `make` of copies and
    prescribed gradients are the same is not checked, nor that whoever writes to the weights between steps writes the
    same again: the file holds nothing of them. Under the same noise the sums of another loss, or at other weights, show
    their difference bare to whoever has seen both.

    Raises:
        InvalidParameter: if a value breaks its rule.

    >>> Checkpoint(path="run.safetensors", every=10).key_path.name
    'run.safetensors.key'
    """

    path: Path | str
    every: int = 100

    def __post_init__(self) -> None:
        if not isinstance(self.path, (str, os.PathLike)):
            raise InvalidParameter(f"Checkpoint: path must be a path, got {self.path!r}.")
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "every", validate.count("Checkpoint", "every", self.every, least=1))

    @property
    def key_path(self) -> Path:
        """Where the key of a run with a SystemSource lies."""
        return self._file.with_name(self._file.name + ".key")

    def read(self) -> bytes:
        """Return the content of the file, nothing if there is none; parts of files that a killed run left are removed.

        Raises:
            InvalidParameter: if the folder is not there to be written in, or the file is empty.
        """
        if not self._file.parent.is_dir():
            raise InvalidParameter(f"Checkpoint: the folder of path must exist, got {self._file}.")
        check_writable("Checkpoint", self._file.parent)
        for other in self._file.parent.iterdir():
            if other.name.startswith(f".{self._file.name}."):
                other.unlink(missing_ok=True)
        if not self._file.exists():
            return b""
        return self._file.read_bytes() or damaged(str(self._file), "it is empty")

    def write(self, content: bytes) -> None:
        """Replace the file."""
        write_atomically(self._file, content, mode=OWNER_ONLY)

    def read_key(self) -> bytes:
        """Return the key of a run that is not complete.

        Raises:
            InvalidParameter: if it is not there, others can read it, or it is no key.
        """
        if not self.key_path.exists():
            raise InvalidParameter(
                f"Checkpoint: {self.key_path} must hold the key of the run in {self._file}, and is not there.\n"
                "Without it the run cannot go on. Begin anew under another path: the steps taken so far then count too."
            )
        if os.name == "posix" and self.key_path.stat().st_mode & 0o077:
            raise InvalidParameter(
                f"Checkpoint: {self.key_path} must be readable by its owner alone: whoever has it can take the noise "
                "away.\nIf nobody else has read it: chmod 600."
            )
        key = self.key_path.read_bytes()
        if len(key) != SecretSource.BYTES:
            raise InvalidParameter(f"Checkpoint: {self.key_path} must hold a key as it was written, and is damaged.")
        return key

    def write_key(self, key: bytes) -> None:
        """Keep the key of a run that begins; one that is there belongs to a run that has no file and no steps."""
        write_atomically(self.key_path, key, mode=OWNER_ONLY)

    def remove_key(self) -> None:
        """Remove the key of a complete run."""
        if self.key_path.exists():
            self.key_path.unlink()
            sync_directory(self.key_path.parent)

    @property
    def _file(self) -> Path:
        return Path(self.path)
