"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from mechanisms.core.errors import InvalidParameter

OWNER_ONLY, EVERYONE = 0o600, 0o644


def write_atomically(path: Path, content: bytes, *, mode: int = EVERYONE) -> None:
    """Write `content` to `path` so that no reader, and no crash, ever sees a part of it.

    Args:
        path: what stood there stays until the new content is on the disk.
        content: all of it.
        mode: who may read it, EVERYONE or OWNER_ONLY; nobody else can at any moment in between.

    Raises:
        OSError: if the directory is missing or not writable; nothing is left behind.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # an interrupt may come when it has its name already
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Have names that were made, replaced or removed in `directory` outlast a loss of power."""
    if os.name == "nt":  # directories cannot be opened there, and need not be
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(owner: str, directory: Path) -> None:
    """Refuse a directory in which, or in the place of which, nothing could be written; nothing is left behind.

    Raises:
        InvalidParameter: naming the directory and the reason.
    """
    existing = directory
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            return
    except OSError as error:
        raise InvalidParameter(
            f"{owner}: the output directory must be writable, got {directory}: {error.strerror or error}."
        ) from None
