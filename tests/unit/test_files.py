"""Plain files that leave the vault: whole under their name, or not there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from voxelvault.errors import NoPermission, NoSpace, StorageError, UsageError
from voxelvault.files import disk_error, replace_file, write_new


def test_writes_and_counts(tmp_path: Path) -> None:
    assert write_new(tmp_path / "a", [b"one", memoryview(b"two")]) == 6
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_private_file_is_its_owners_from_the_first_byte(tmp_path: Path) -> None:
    seen = []

    def parts() -> Iterator[bytes]:
        yield b"a"
        seen.extend(path.stat().st_mode & 0o777 for path in tmp_path.iterdir())

    before = os.umask(0)
    try:
        write_new(tmp_path / "a", parts(), private=True)
    finally:
        os.umask(before)
    assert [*seen, (tmp_path / "a").stat().st_mode & 0o777] == [0o600, 0o600]


def test_the_name_of_a_private_file_is_on_the_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = list[bool](), os.fsync

    def noted(opened: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(opened).st_mode))
        fsync(opened)

    monkeypatch.setattr(os, "fsync", noted)
    write_new(tmp_path / "one.dcm", [b"abc"])
    assert synced == [False]
    write_new(tmp_path / "key", [b"abc"], private=True)
    assert synced == [False, False, True]


def test_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(UsageError, match="another place"):
        write_new(tmp_path / "a", [b"other"])
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_parts_that_fail_leave_nothing(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"half"
        raise NoSpace("full; free some space")

    with pytest.raises(NoSpace):
        write_new(tmp_path / "a", parts())
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr("voxelvault.files.os.link", refused)
    write_new(tmp_path / "a", [b"one"])
    with pytest.raises(UsageError):
        write_new(tmp_path / "a", [b"two"])
    assert (tmp_path / "a").read_bytes() == b"one"


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    name = "1." * 120 + "1.dcm"
    write_new(tmp_path / name, [b"one"])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_replacing_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file(tmp_path / "a", [b"one"])
    replace_file(tmp_path / "a", [b"two"])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(NoSpace):
            replace_file(tmp_path / "a", [b"three"])
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EACCES, NoPermission),
        (errno.EROFS, NoPermission),
        (errno.EIO, StorageError),
    ],
)
def test_errors_that_help(number: int, kind: type[StorageError]) -> None:
    error = disk_error(OSError(number, "said", "/home/DOE^JANE/out"))
    assert type(error) is kind
    assert "DOE" not in str(error)
    assert "\n" not in str(error)
