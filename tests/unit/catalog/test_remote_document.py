"""The catalog of a vault in object storage: what was committed, whoever sleeps, is what others read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from voxelvault.catalog.catalog import Change
from voxelvault.catalog.catalog_file import NAME
from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.keyring import KeyRing, Role
from voxelvault.crypto.providers.env import EnvProvider
from voxelvault.errors import LockTimeout, StorageError
from voxelvault.model import Buffer, new_id
from voxelvault.storage.objects import MemoryObjects

TOML = b"format = 1\n"


class Team:
    """One place, and who may open it."""

    def __init__(self) -> None:
        self.objects, self.vault_id = MemoryObjects(), new_id()
        self.key = EnvProvider({"VOXELVAULT_KEY": PrivateKey.generate().text()})
        ring = KeyRing.create(self.objects, self.vault_id, TOML, [self.key.slot()], providers=[self.key])
        for role in (Role.PATHS, Role.CATALOG):
            ring.new_key(role)
        ring.commit()
        DuckLakeCatalog.create(self.objects, ring).close()

    def open(self, objects: MemoryObjects | None = None) -> DuckLakeCatalog:
        """Open it as another process would."""
        objects = objects or self.objects
        return DuckLakeCatalog.open(objects, KeyRing.open(objects, self.vault_id, TOML, [self.key]))


class Unlocked(MemoryObjects):
    """The same objects, for who believes to hold every lock."""

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        yield


@pytest.fixture(scope="module")
def team() -> Team:
    return Team()


def subject(number: int) -> list[Change]:
    rows = pa.table({"subject_id": [f"{number:032x}"], "only_study": [f"P{number}"]})
    return [Change("patients", rows)]


def ids(catalog: DuckLakeCatalog) -> set[str]:
    return set(catalog.query("select only_study from patients").column(0).to_pylist())


def test_commits_are_seen_by_others_and_nothing_lies_beside_the_vault(team: Team) -> None:
    one, two = team.open(), team.open()
    one.commit(subject(1))
    assert "P1" in ids(two)
    two.commit(subject(2))
    one.commit(subject(3))
    assert {"P1", "P2", "P3"} <= ids(one) == ids(two)
    assert b"only_study" not in team.objects.get(NAME)
    private = Path(one._file.private)
    one.close(), two.close()
    del one
    assert not private.exists()


def test_a_sleeper_gets_an_error_and_the_others_commit_stays(team: Team) -> None:
    sleeper, other = team.open(Unlocked(team.objects._objects)), team.open()
    with sleeper.lease() as lease:
        lease.commit(subject(10))
        other.commit(subject(11))
        with pytest.raises(LockTimeout, match="another one took the catalog's lock"):
            lease.commit(subject(12))
        with pytest.raises(StorageError, match="run again"):
            lease.commit(subject(13))
    assert {"P10", "P11"} <= ids(team.open()) == ids(sleeper)
    assert not {"P12", "P13"} & ids(sleeper)
    sleeper.commit(subject(12))
    assert {"P10", "P11", "P12"} <= ids(other)


def test_a_commit_that_could_not_be_stored_is_none(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog, other, swap = team.open(), team.open(), team.objects.swap

    def fail(name: str, data: Buffer, expected: str | None) -> str:
        if name == NAME:
            raise StorageError("object storage did not answer")
        return swap(name, data, expected)

    with catalog.lease() as lease:
        with monkeypatch.context() as patch:
            patch.setattr(team.objects, "swap", fail)
            with pytest.raises(StorageError, match="did not answer"):
                lease.commit(subject(20))
        with pytest.raises(StorageError, match="neither is this one"):
            lease.commit(subject(21))
    assert not {"P20", "P21"} & (ids(catalog) | ids(other))
    catalog.commit(subject(20))
    assert "P20" in ids(other)


def test_maintenance_and_a_rebuild(team: Team) -> None:
    catalog, other = team.open(), team.open()
    for number in range(30, 33):
        catalog.commit([change for n in range(30) for change in subject(number * 100 + n)])
    before = ids(other)
    catalog.maintain(grace=0)
    assert ids(catalog) == ids(other) == before
    catalog.rebuild()
    assert ids(team.open()) == before
    other.commit(subject(40))
    assert ids(catalog) == before | {"P40"}
