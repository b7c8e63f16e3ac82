"""Where released files go: a folder, or a vault. A study is whole there, or not there at all.

File names and their order come from the new UIDs, times are all one, so that nothing tells in which
order the originals lay or came.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from base64 import b32encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol

from voxelvault.deid.card import RECEIPTS
from voxelvault.dicom.sources import Source
from voxelvault.errors import IntegrityError, StorageError, UsageError
from voxelvault.files import disk_error
from voxelvault.intake.ingest import IngestOptions, take_in
from voxelvault.model import Buffer
from voxelvault.releasing.originals import VaultOriginals
from voxelvault.resources import Resources
from voxelvault.storage.layout import VAULT_TOML
from voxelvault.upkeep.removal import delete_study

TIME = 315532800
"""Modification time of every released file and folder: 1980-01-01, the earliest that archives know."""

FILES = "DICOM"
"""Folder of the files of a release that is a folder."""

UNFINISHED = ".release"
"""Folder of what a release that isn't whole yet has come to."""

STOPPED = "the release was stopped"

HELD = 256 << 20
"""Bytes of a study that are held before they are sealed."""


@dataclass(frozen=True, slots=True)
class Released:
    """One rewritten file: its new UIDs, and its bytes."""

    study_uid: str
    series_uid: str
    sop_uid: str
    data: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """Its name in a release that has no files of its own for it."""
        return f"{self.study_uid}/{self.series_uid}/{self.sop_uid}.dcm"


class Target(Protocol):
    """Takes the files of one study after the other."""

    def place(self, file: Released) -> str:
        """Return where a file of the study at hand comes to lie: one path for each of its UIDs."""

    def add(self, file: Released) -> None:
        """Take a file of the study at hand."""

    def keep(self) -> Iterator[tuple[str, bytes]]:
        """End the study; yield path and bytes of each of its files, as read again from where they are."""

    def drop(self) -> None:
        """End the study, and leave nothing of it."""


def short_name(uid: str, turn: int = 0) -> str:
    """Return what a DICOMDIR takes for a name: eight of A-Z and 2-7, which the UID decides.

    Parameters
    ----------
    uid : str
        A new UID.
    turn : int
        Higher where the name is another's: forty bits meet by chance among a million.
    """
    return b32encode(hashlib.sha256(f"{uid}/{turn}".encode()).digest()[:5]).decode()


class FolderTarget:
    """A folder of plain files; a study is moved into it when it is whole.

    Names are short, as file IDs of a DICOMDIR have to be (PS3.10 8.2).

    Parameters
    ----------
    folder : Path
        Made if need be.
    staging : Path
        On the same disk; `drop` takes away what a killed run left there.
    """

    def __init__(self, folder: Path, staging: Path) -> None:
        self._folder, self._staging = folder, staging
        self._staged: dict[str, Path] = {}
        self._uids: dict[str, str] = {}

    def place(self, file: Released) -> str:
        """Return where a file of the study at hand comes to lie."""
        folder = f"{FILES}/{short_name(file.study_uid)}/{short_name(file.series_uid)}"
        paths = (f"{folder}/{short_name(file.sop_uid, turn)}" for turn in count())
        return next(path for path in paths if self._uids.setdefault(path, file.sop_uid) == file.sop_uid)

    def add(self, file: Released) -> None:
        """Write a file of the study at hand, which is nobody's yet: the disk need not have it by then."""
        path = self._staging / str(len(self._staged))
        with _told():
            if not self._staged:
                self._staging.mkdir(parents=True, exist_ok=True)
            with open(path, "xb") as made:
                made.write(file.data)
        self._staged[self.place(file)] = path

    def keep(self) -> Iterator[tuple[str, bytes]]:
        """Move the study to its place; yield its files, read again from the disk."""
        staged, self._staged = sorted(self._staged.items()), {}
        made: set[Path] = set()
        for path, written in staged:
            with _told():
                target = self._folder / path
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    made.add(target.parent)
                _move(written, target)
                data = target.read_bytes()
            yield path, data
        self.drop()

    def drop(self) -> None:
        """Remove what was written of the study at hand."""
        self._staged, self._uids = {}, {}
        shutil.rmtree(self._staging, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Held(Source):
    """A released file in memory, offered for ingest."""

    data: bytes = field(default=b"", repr=False)

    @property
    def display(self) -> str:
        """Nothing that names anything."""
        return "a released file"

    def read(self) -> Buffer:
        """Return the bytes."""
        return self.data

    def remove(self) -> None:
        """Leave it: it is nobody's file."""


class VaultTarget:
    """A vault of its own; what is held is sealed before it grows large.

    Parameters
    ----------
    resources : Resources
        The release, open for writing.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._held: list[Released] = []
        self._sealed: list[Released] = []
        self._size = 0

    def place(self, file: Released) -> str:
        """Return the name of a file in the receipts: the vault has none of its own."""
        return file.path

    def add(self, file: Released) -> None:
        """Take a file of the study at hand."""
        self._held.append(file)
        self._size += len(file.data)
        if self._size > HELD:
            self._seal()

    def keep(self) -> Iterator[tuple[str, bytes]]:
        """Seal the study; yield its files, opened again from the vault."""
        self._seal()
        files, self._sealed = self._sealed, []
        yield from _stored(self._resources, files) if files else ()

    def drop(self) -> None:
        """Forget the study; what was sealed of it goes with its key."""
        files = {file.sop_uid for file in self._sealed}
        self._held, self._sealed, self._size = [], [], 0
        for study_id in _studies(self._resources, files):
            delete_study(self._resources, study_id, reason=STOPPED)

    def _seal(self) -> None:
        held = sorted(self._held, key=lambda file: file.path)
        if not held:
            return
        sources = [_Held(Path(file.sop_uid), len(file.data), None, file.data) for file in held]
        report = take_in(self._resources, sources, IngestOptions(issuer=""))
        if not report.complete:
            raise StorageError("the release could not take every file; see its quarantine")
        self._sealed += [Released(file.study_uid, file.series_uid, file.sop_uid, b"") for file in held]
        self._held, self._size = [], 0


def _studies(resources: Resources, uids: set[str]) -> Sequence[str]:
    """Return the studies of these instances: one UID may be two patients' study."""
    rows = resources.catalog.query(
        "select distinct study_id from instances where SOPInstanceUID in (select unnest($uids))",
        {"uids": sorted(uids)},
    )
    return [row["study_id"] for row in rows.to_pylist()]


def _stored(resources: Resources, files: Sequence[Released]) -> Iterator[tuple[str, bytes]]:
    """Yield the files as the vault gives them back."""
    wanted = {file.sop_uid: file.path for file in files}
    rows = resources.catalog.query(
        "select instance_id, SOPInstanceUID from instances where SOPInstanceUID in (select unnest($uids))"
        " and not superseded",
        {"uids": sorted(wanted)},
    ).to_pylist()
    paths = {row["instance_id"]: wanted[row["SOPInstanceUID"]] for row in rows}
    if len(paths) != len(wanted):
        raise IntegrityError("the release lacks files that were put into it; run `voxelvault verify` on it")
    series = resources.catalog.query(
        "select distinct series_id from instances where instance_id in (select unnest($ids))",
        {"ids": sorted(paths)},
    ).to_pylist()
    for subject in VaultOriginals(resources, [row["series_id"] for row in series]).subjects():
        for study in subject.studies:
            for original in study:
                if original.place in paths:
                    yield paths[original.place], original.read()


def _move(path: Path, target: Path) -> None:
    """Give a file another name once the disk has it."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(path, target)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error) from None


def one_time(folder: Path, *, alone: bool = False) -> None:
    """Give every file and folder of a release the one time, or the folder alone."""
    with _told():
        for place, _, names in () if alone else os.walk(folder, topdown=False):
            for path in (*(os.path.join(place, name) for name in names), place):
                os.utime(path, (TIME, TIME))
        os.utime(folder, (TIME, TIME))


def require_empty(folder: Path) -> None:
    """Refuse a folder that holds something else, or lies inside a vault or another release.

    Raises
    ------
    UsageError
        It does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("the place for a release must be a new or empty folder; choose another")
    for parent in folder.resolve().parents:
        if (parent / VAULT_TOML).exists():
            raise UsageError("the place for a release lies inside a vault; choose another")
        if (parent / RECEIPTS).exists() or (parent / UNFINISHED).exists():
            raise UsageError(
                "the place for a release lies inside another release, which would then no longer be what was"
                " signed for; choose another"
            )


def lying(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield path and whether it is a plain file of all that lies below a folder, folder by folder.

    Links, devices and empty folders are told as well: a release has none.
    """
    waiting = [iter(_named(folder))]
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        path = Path(entry.path).relative_to(folder).as_posix()
        if not entry.is_dir(follow_symlinks=False):
            yield path, entry.is_file(follow_symlinks=False)
        elif below := _named(Path(entry.path)):
            waiting.append(iter(below))
        else:
            yield path, False


def _named(folder: Path) -> list[os.DirEntry[str]]:
    with _told(), os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def prune(folder: Path) -> None:
    """Remove empty folders below a folder, and itself if it is one."""
    for place, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # not empty
            os.rmdir(place)


__all__ = [
    "FILES",
    "STOPPED",
    "TIME",
    "UNFINISHED",
    "FolderTarget",
    "Released",
    "Target",
    "VaultTarget",
    "lying",
    "one_time",
    "prune",
    "require_empty",
    "short_name",
]
