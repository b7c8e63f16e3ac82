"""The SQL engine's files: sealed, opaque by name, never deleted on its word, whole or absent."""

from __future__ import annotations

import gc
import pickle
import secrets
import weakref

import pytest

from voxelvault.crypto.key_tree import Role
from voxelvault.crypto.streaming_aead import HEAD_LENGTH, Kind, Preamble
from voxelvault.errors import IntegrityError, NoPermission, NoSpace, ObjectMissing, StorageError
from voxelvault.model import new_id
from voxelvault.storage.layout import object_name
from voxelvault.storage.objects import MemoryObjects
from voxelvault.storage.sealed_fs import SealedFileSystem

PATH = "sealed://lake/main/patients/ducklake-0001.parquet"
VAULT = "0f" * 16


class Keys:
    def __init__(self) -> None:
        self.deks: dict[str, bytes] = {}
        self.roles: list[Role] = []

    def new_key(self, role: Role) -> str:
        key_id = new_id()
        self.deks[key_id] = secrets.token_bytes(32)
        self.roles.append(role)
        return key_id

    def dek(self, key_id: str) -> bytes:
        return self.deks[key_id]


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def files(objects: MemoryObjects, keys: Keys) -> SealedFileSystem:
    return SealedFileSystem(objects, keys, vault_id=VAULT, paths_key=b"p" * 32)


def write(files: SealedFileSystem, data: bytes, path: str = PATH) -> str:
    writer = files.open(path, "wb")
    half = len(data) // 2
    assert writer.write(data[:half]) + writer.write(data[half:]) == len(data)  # type: ignore[union-attr]
    writer.close()
    return object_name("catalog", files.object_id(path))


@pytest.mark.parametrize("size", [0, 1, 65_480, 65_481, 200_000, 5 << 20])
def test_what_was_written_is_read(files: SealedFileSystem, size: int) -> None:
    data = secrets.token_bytes(size)
    write(files, data)
    assert files.size(PATH) == size
    reader = files.open(PATH)
    assert reader.read() == data  # type: ignore[union-attr]
    for start, length in ((0, 10), (size // 2, 100_000), (max(size - 8, 0), 8), (size, 10), (size + 5, 1)):
        reader.seek(start)
        assert reader.read(length) == data[start : start + length]  # type: ignore[union-attr]
    assert reader.seek(0, 2) == reader.tell() == size


def test_names_are_opaque_and_bytes_sealed(
    files: SealedFileSystem, objects: MemoryObjects, keys: Keys
) -> None:
    name = write(files, b"PAR1" + b"PLANTED^NAME" * 1000 + b"PAR1")
    (info,) = objects.list("catalog/")
    assert info.name == name
    assert "patients" not in name
    assert b"PLANTED" not in objects.get(name)
    preamble = Preamble.unpack(objects.get(name)[:HEAD_LENGTH])
    assert (preamble.kind, preamble.object_id) == (Kind.PARQUET, files.object_id(PATH))
    assert files.key_id(preamble.object_id) == preamble.key_id
    assert keys.roles == [Role.PARQUET]


def test_another_paths_key_gives_other_names(
    objects: MemoryObjects, keys: Keys, files: SealedFileSystem
) -> None:
    other = SealedFileSystem(objects, keys, vault_id=VAULT, paths_key=b"q" * 32)
    assert other.object_id(PATH) != files.object_id(PATH)
    assert files.object_id("lake/a") == files.object_id("sealed://lake/a/")


def test_every_file_has_its_own_key(files: SealedFileSystem, keys: Keys) -> None:
    for n in range(3):
        write(files, b"x", f"{PATH}-{n}")
    assert len(keys.deks) == 3


def test_a_file_is_absent_until_closed(files: SealedFileSystem, objects: MemoryObjects) -> None:
    writer = files.open(PATH, "wb")
    writer.write(b"half")  # type: ignore[union-attr]
    assert not files.isfile(PATH)
    del writer
    gc.collect()
    assert list(objects.list("")) == []


def test_a_file_is_written_once_and_forward(files: SealedFileSystem) -> None:
    write(files, b"first")
    with pytest.raises(StorageError):
        write(files, b"second")
    writer = files.open(f"{PATH}-2", "wb")
    writer.write(b"abc")  # type: ignore[union-attr]
    assert writer.seek(0, 2) == writer.tell() == 3
    with pytest.raises(StorageError):
        writer.seek(1)


def test_rm_records_the_wish_and_deletes_nothing(files: SealedFileSystem) -> None:
    write(files, b"keep me")
    files.rm(PATH)
    assert files.isfile(PATH)
    assert files.wished == {files.object_id(PATH)}


@pytest.mark.parametrize("size", [70_000, 300_000])
@pytest.mark.parametrize("keep", [10, HEAD_LENGTH, 65_536, 66_000, -1, -70_000])
def test_a_cut_file_opens_nowhere(
    files: SealedFileSystem, objects: MemoryObjects, size: int, keep: int
) -> None:
    name = write(files, secrets.token_bytes(size))
    whole = objects.get(name)
    objects.replace(name, whole[:keep])
    with pytest.raises(IntegrityError):
        files.open(PATH)


def test_a_flipped_bit_is_refused(files: SealedFileSystem, objects: MemoryObjects) -> None:
    name = write(files, secrets.token_bytes(200_000))
    damaged = bytearray(objects.get(name))
    damaged[70_000] ^= 1
    objects.replace(name, damaged)
    reader = files.open(PATH)
    with pytest.raises(IntegrityError):
        reader.read()  # type: ignore[union-attr]
    assert isinstance(files.failures.take(), IntegrityError)
    assert files.failures.take() is None


def test_two_files_swapped_are_refused(files: SealedFileSystem, objects: MemoryObjects) -> None:
    one, two = write(files, b"one", PATH), write(files, b"two", f"{PATH}-2")
    first = objects.get(one)
    objects.replace(one, objects.get(two))
    objects.replace(two, first)
    with pytest.raises(IntegrityError):
        files.open(PATH)


def test_another_vault_is_refused(files: SealedFileSystem, objects: MemoryObjects, keys: Keys) -> None:
    write(files, b"bound to its vault")
    other = SealedFileSystem(objects, keys, vault_id="ab" * 16, paths_key=b"p" * 32)
    with pytest.raises(IntegrityError):
        other.open(PATH)


def test_a_restricted_face_reads_its_files_and_nothing_else(files: SealedFileSystem) -> None:
    write(files, b"mine")
    write(files, b"not mine", f"{PATH}-2")
    face = files.restricted([files.object_id(PATH)])
    assert face.open(PATH).read() == b"mine"  # type: ignore[union-attr]
    assert face.glob(PATH) == face.glob("sealed://**") == face.ls("sealed://") == []
    assert not face.exists(f"{PATH}-2")
    for path, mode, error in ((f"{PATH}-2", "rb", ObjectMissing), (f"{PATH}-3", "wb", NoPermission)):
        with pytest.raises(error):
            face.open(path, mode)
    face.rm(PATH)
    assert face.wished == set()


def test_the_reader_goes_with_its_last_reference(files: SealedFileSystem) -> None:
    write(files, secrets.token_bytes(100))
    gc.disable()
    try:
        reader = files.open(PATH)
        reader.read(10)  # type: ignore[union-attr]
        opener = weakref.ref(reader._opener)  # type: ignore[union-attr]
        files._openers.clear()
        del reader
        assert opener() is None
    finally:
        gc.enable()


def test_what_the_store_refuses_is_kept_for_the_caller(
    files: SealedFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise NoSpace("the disk is full: free some space")

    monkeypatch.setattr(MemoryObjects, "put", full)
    with pytest.raises(NoSpace):
        write(files, b"x")
    assert isinstance(files.failures.take(), NoSpace)


def test_it_refuses_to_pickle(files: SealedFileSystem) -> None:
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(files)


def test_openers_are_bounded(files: SealedFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxelvault.storage.sealed_fs._OPEN_FILES", 3)
    for n in range(6):
        write(files, b"%d" % n, f"{PATH}-{n}")
        assert files.open(f"{PATH}-{n}").read() == b"%d" % n  # type: ignore[union-attr]
    assert len(files._openers) == 3
