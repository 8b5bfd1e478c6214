import os

import pytest

from mechanisms import InvalidParameter
from mechanisms.core.files import OWNER_ONLY, check_writable, write_atomically


def test_a_file_is_written_whole(tmp_path):
    write_atomically(tmp_path / "a.txt", b"one")
    write_atomically(tmp_path / "a.txt", b"two")
    assert (tmp_path / "a.txt").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_directory_that_can_be_made_is_accepted_and_not_made(tmp_path):
    check_writable("audit", tmp_path / "new" / "deeper")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_inside_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidParameter, match=r"the output directory must be writable, got .*file"):
        check_writable("audit", tmp_path / "file" / "inside")
    with pytest.raises(InvalidParameter, match="the output directory must be writable"):
        check_writable("audit", tmp_path / "file")


def test_what_is_for_its_owner_is_nobody_elses_at_any_moment(tmp_path, monkeypatch):
    modes = []
    replace = os.replace

    def watched(source, target):
        modes.append(os.stat(source).st_mode & 0o777)
        replace(source, target)

    monkeypatch.setattr("os.replace", watched)
    write_atomically(tmp_path / "a.key", b"secret", mode=OWNER_ONLY)
    assert modes == [0o600] and (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600


def test_an_interrupt_that_comes_when_the_file_is_in_place_is_told_as_an_interrupt(tmp_path, monkeypatch):
    replace = os.replace

    def interrupted(*paths):
        replace(*paths)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"content")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"content")]
