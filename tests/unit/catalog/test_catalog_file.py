"""The catalog's file: always whole, never behind what was committed, and its damages say what to do."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from catalog_support import TYPED, MemoryKeys, pack, patient
from voxelvault.catalog.catalog_file import NAME, LocalDocument
from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.catalog.schema import TABLES
from voxelvault.errors import CatalogError, IntegrityError, NoSpace, StorageError
from voxelvault.model import Buffer, new_id
from voxelvault.storage.objects import LocalObjects


def everything(catalog: DuckLakeCatalog) -> dict[str, list[str]]:
    return {table: sorted(map(repr, catalog.query(f"FROM {table}").to_pylist())) for table in TABLES}


def test_each_commit_is_one_whole_file_in_place_of_the_last(
    catalog: DuckLakeCatalog, objects: LocalObjects, keys: MemoryKeys, tmp_path: Path
) -> None:
    """Also inside one lease: a copy taken at any moment, of the folder, has what was committed."""
    path = objects.root / NAME
    with catalog.lease() as lease:
        for number in range(1, 4):
            before = path.stat().st_ino
            lease.commit([patient(new_id())])
            assert path.stat().st_ino != before
            assert [found.name for found in path.parent.iterdir() if found.is_file()] == [path.name]
            elsewhere = shutil.copytree(objects.root, tmp_path / str(number))
            copied = DuckLakeCatalog.open(LocalObjects(elsewhere), keys, TYPED)
            assert len(copied.query("FROM patients")) == number
            copied.close()


def test_a_copy_is_whole_while_the_file_is_replaced(objects: LocalObjects, tmp_path: Path) -> None:
    document, stop = LocalDocument(objects, objects.root), threading.Event()
    contents = [bytes([n]) * (1 << 20) for n in (1, 2)]
    for n, data in enumerate(contents):
        (tmp_path / f"{n}").write_bytes(data)
    document.store(tmp_path / "0", None)

    def replace() -> None:
        while not stop.is_set():
            for n in range(2):
                document.store(tmp_path / f"{n}", None)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        for n in range(40):
            assert document.fetch(tmp_path / f"copy{n}") is not None
            assert (tmp_path / f"copy{n}").read_bytes() in contents
    finally:
        stop.set()
        writer.join()


def test_a_commit_that_could_not_be_stored_is_none(
    catalog: DuckLakeCatalog, objects: LocalObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = LocalObjects.replace

    def full(store: LocalObjects, name: str, data: Buffer) -> None:
        if name == NAME:
            raise NoSpace("the vault's disk is full: free some space, then run again")
        replace(store, name, data)

    with catalog.lease() as lease:
        with monkeypatch.context() as patch:
            patch.setattr(LocalObjects, "replace", full)
            with pytest.raises(NoSpace):
                lease.commit([patient(new_id())])
        with pytest.raises(StorageError, match="neither is this one"):
            lease.commit([patient(new_id())])
    assert not len(catalog.query("FROM patients"))
    catalog.commit([patient(new_id())])
    assert len(catalog.query("FROM patients")) == 1


def test_no_room_for_the_private_copy(catalog: DuckLakeCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/home/doe/secret")

    catalog.commit([patient(new_id())])
    with monkeypatch.context() as patch:
        patch.setattr("voxelvault.catalog.catalog_file.shutil.copyfileobj", full)
        with pytest.raises(StorageError, match="TMPDIR") as caught:
            catalog.query("FROM patients")
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert len(catalog.query("FROM patients")) == 1


def test_wherever_it_is_damaged_it_answers_the_same_or_says_what_to_do(
    catalog: DuckLakeCatalog, objects: LocalObjects, keys: MemoryKeys
) -> None:
    """A right key, and a page of zeros; a cut file as well."""
    for _ in range(3):
        catalog.commit([patient(new_id()), *pack(new_id(), 3)])
    before, whole = everything(catalog), (objects.root / NAME).read_bytes()
    said = [_says(whole[:cut], objects, keys, before) for cut in (0, 4096, len(whole) // 2, len(whole) - 1)]
    assert all(said)
    # Three pages of headers, of which the older of the last two is in no use, and blocks of 16 KiB.
    starts = [0, 4096, 8192, *range(12288, len(whole), 4 * 16384)]
    torn = [whole[:at] + bytes(4096) + whole[at + 4096 :] for at in starts]
    assert sum(_says(data, objects, keys, before) for data in torn) > 3


def _says(data: bytes, objects: LocalObjects, keys: MemoryKeys, before: dict[str, list[str]]) -> bool:
    objects.replace(NAME, data)
    damaged = DuckLakeCatalog.open(objects, keys, TYPED)
    said = ""
    try:
        assert everything(damaged) == before
    except (IntegrityError, CatalogError) as error:
        said = str(error)
    damaged.close()
    assert not said or "--rebuild-catalog" in said
    return bool(said)
