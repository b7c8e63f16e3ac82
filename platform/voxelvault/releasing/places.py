"""A release's place from the first file to the signature: a folder, or a vault of its own.

While it isn't whole, it keeps how far it has come; when it is, receipts and card lie in it. Receipts
come last: a place without them is no release, and whatever killed the run, the next one goes on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from types import TracebackType
from typing import Protocol

from voxelvault.audit.events import Event, Kind
from voxelvault.crypto.ways import Ways
from voxelvault.deid import card
from voxelvault.deid.card import RECEIPTS, Facts
from voxelvault.deid.profile import Profile
from voxelvault.deid.project_shelf import FolderShelf, SealedShelf, Shelf, projects_in, shelves_in
from voxelvault.deid.receipt import Made, Receipt, issue, order
from voxelvault.dicom.part10 import parse
from voxelvault.errors import IntegrityError, UsageError
from voxelvault.files import replace_file
from voxelvault.model import new_id
from voxelvault.opening import close_vault, create_vault, open_vault
from voxelvault.releasing.facts import Tally, vault_headers
from voxelvault.releasing.media_directory import NAME as DIRECTORY
from voxelvault.releasing.media_directory import MediaDirectory
from voxelvault.releasing.progress import STUDIES, Progress
from voxelvault.releasing.projects import Using
from voxelvault.releasing.targets import (
    FILES,
    STOPPED,
    TIME,
    UNFINISHED,
    FolderTarget,
    Target,
    VaultTarget,
    lying,
    one_time,
    prune,
    require_empty,
)
from voxelvault.resources import Resources
from voxelvault.storage.layout import PROJECTS, VAULT_TOML
from voxelvault.storage.objects import LocalObjects
from voxelvault.upkeep.ledger import read_ledger
from voxelvault.upkeep.removal import delete_study
from voxelvault.upkeep.repair import repair

CARD, CROISSANT = "card.md", "croissant.json"

MAKER = "release"
"""Who stands in a release's own log: nobody's account."""

UNDER_WAY = "release"
"""Name of the lock of a run."""

_TOLD = (CARD, CROISSANT, DIRECTORY)


@dataclass(frozen=True, slots=True)
class Ending:
    """How many patients a whole release holds, and which originals are left out after all, and why."""

    patients: int
    left_out: Sequence[tuple[str, str]] = ()


class ReleasePlace(Protocol):
    """Where a release is made."""

    path: Path
    recovery_code: str | None

    @property
    def shelf(self) -> Shelf:
        """Where progress is kept."""

    @property
    def target(self) -> Target:
        """Takes the files."""

    def alone(self) -> AbstractContextManager[None]:
        """Hold the place: two runs would do everything twice. `LockTimeout` where another one does."""

    def sweep(self, progress: Progress) -> None:
        """Take away what a killed run left, but for what it finished."""

    def finish(self, progress: Progress, mine: Using, chosen: Profile, faces: str) -> Ending:
        """Sign for what was released, and describe it."""


class FolderPlace:
    """A folder of plain files.

    Parameters
    ----------
    path : Path
        New or empty, or an unfinished release.

    Raises
    ------
    UsageError
        It holds something else.
    """

    recovery_code: str | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unfinished = begun(path)
        self.shelf: Shelf = FolderShelf(LocalObjects(self._unfinished))
        self.target: Target = FolderTarget(path, self._unfinished / "staging")

    def alone(self) -> AbstractContextManager[None]:
        """Hold the place; see `ReleasePlace`."""
        return LocalObjects(self._unfinished).lock(UNDER_WAY, 0)

    def sweep(self, progress: Progress) -> None:
        """Take away what a killed run left: files that no receipt is of, and what is written at the end."""
        self.target.drop()
        sweep_folder(self.path, _TOLD, [FILES])
        prune(self.path / FILES)
        for path, _ in _below(self.path / FILES):
            if not progress.holds(f"{FILES}/{path}"):
                (self.path / FILES / path).unlink(missing_ok=True)
        prune(self.path / FILES)

    def finish(self, progress: Progress, mine: Using, chosen: Profile, faces: str) -> Ending:
        """Write directory, card and receipts; take the traces of the making away."""
        tally, directory = Tally(chosen), MediaDirectory()
        for path, data in self._files(progress):
            file = parse(data)
            tally.add_file(file)
            directory.add(path, file)
        told = tally.facts(progress.terms, refused=progress.refused, faces=faces, pattern=f"{FILES}/**")
        made = [
            Made(DIRECTORY, replace_file(self.path / DIRECTORY, directory.parts())),
            *put_card(told, lambda name, data: replace_file(self.path / name, [data])),
        ]
        end_folder(self.path, signed(progress, mine, made))
        return Ending(told.counts["patients"])

    def _files(self, progress: Progress) -> Iterator[tuple[str, bytes]]:
        """Yield the files as they lie there, each held against its receipt."""
        wanted = progress.receipts()
        for path, plain in _below(self.path / FILES):
            receipt, data = next(wanted, None), (self.path / FILES / path).read_bytes() if plain else b""
            if receipt is None or not _is(receipt, f"{FILES}/{path}", data):
                raise _changed()
            yield receipt.path, data
        if next(wanted, None) is not None:
            raise _changed()


def _is(receipt: Receipt, path: str, data: bytes) -> bool:
    return receipt.path == path and receipt.sha256 == hashlib.sha256(data).hexdigest()


def _changed() -> IntegrityError:
    return IntegrityError(
        "the files of the release are not those that were written: check the disk, then delete the release"
        " and begin anew"
    )


def _below(folder: Path) -> Iterator[tuple[str, bool]]:
    return lying(folder) if folder.exists() else iter(())


def begun(path: Path) -> Path:
    """Return the folder of what isn't whole yet, in a place for a release; it is made if need be.

    Raises
    ------
    UsageError
        The place holds something else, or a release that is whole.
    """
    unfinished = path / UNFINISHED
    if (unfinished / RECEIPTS).exists() or (path / RECEIPTS).exists():
        _complete(path)  # the run may have been killed when all was signed for
        raise UsageError("this folder holds a release that is whole; choose another place")
    if not unfinished.exists():
        require_empty(path)
    unfinished.mkdir(mode=0o700, parents=True, exist_ok=True)
    return unfinished


def sweep_folder(folder: Path, told: Iterable[str], kept: Iterable[str]) -> None:
    """Take away what is written at the end, and the halves of files that a killed run left.

    Raises
    ------
    UsageError
        There is something that is no release's: nobody shall find it signed for, or gone.
    """
    for place in [*(folder / name for name in told), *folder.glob(f".{'[0-9a-f]' * 16}.part")]:
        place.unlink(missing_ok=True)
    if {path.name for path in folder.iterdir()} - {UNFINISHED, *kept}:
        raise UsageError("the unfinished release holds something that is not its own; take it out to go on")


def put_card(told: Facts, put: Callable[[str, bytes], object]) -> list[Made]:
    """Write the card for people and for programs, and return what the receipts say of both."""
    texts = {CARD: card.markdown(told).encode(), CROISSANT: card.croissant(told).encode()}
    for name, data in texts.items():
        put(name, data)
    return [Made(name, hashlib.sha256(data).hexdigest()) for name, data in texts.items()]


def end_folder(folder: Path, lines: Callable[[], Iterator[bytes]]) -> None:
    """Sign, put the receipts in their place, and take the traces of the making away."""
    replace_file(folder / UNFINISHED / RECEIPTS, lines())
    _complete(folder)


def _complete(folder: Path) -> None:
    """End what is signed for; wherever this is killed, the next run comes here again."""
    unfinished = folder / UNFINISHED
    if unfinished.exists():
        for entry in [entry for entry in unfinished.iterdir() if entry.name != RECEIPTS]:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if (unfinished / RECEIPTS).exists():
            os.replace(unfinished / RECEIPTS, folder / RECEIPTS)
        one_time(folder)
        unfinished.rmdir()
    if folder.stat().st_mtime != TIME:
        one_time(folder, alone=True)


class VaultPlace:
    """A vault of its own.

    Parameters
    ----------
    path : Path
        A new or empty folder, or an unfinished release.

    Raises
    ------
    UsageError
        It is another vault.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recovery_code: str | None = None
        release_id = self._unfinished_id() if (path / VAULT_TOML).exists() else new_id()
        self._resources = self._open()
        self.shelf: Shelf = SealedShelf(self._resources.objects, self._resources.keys, release_id)
        self.target: Target = VaultTarget(self._resources)

    def __enter__(self) -> VaultPlace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close_vault(self._resources)
        if error is not None and self.recovery_code is not None and not list(self.shelf.names(STUDIES)):
            # Nothing is in it, and nobody has seen its recovery code: the next run makes it anew.
            shutil.rmtree(self.path, ignore_errors=True)

    def _open(self) -> Resources:
        if (self.path / VAULT_TOML).exists():
            return open_vault(self.path, Ways(None, None), who=MAKER)
        require_empty(self.path)
        try:
            made = create_vault(self.path, Ways(None, None), who=MAKER)
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)  # half a vault would be in the next run's way
            raise
        self.recovery_code = made.recovery_code
        return made.resources

    def _unfinished_id(self) -> str:
        """Return the id of the release that is being made here, before anything of the vault is opened."""
        objects = LocalObjects(self.path)
        found = shelves_in(objects)
        if len(found) != 1 or projects_in(objects):
            raise UsageError("this vault is no unfinished release; choose another place")
        if any(info.name.endswith(f"/{RECEIPTS}") for info in objects.list(f"{PROJECTS}/{found[0]}/")):
            raise UsageError("this vault is a release that is whole; choose another place")
        return found[0]

    def alone(self) -> AbstractContextManager[None]:
        """Hold the place; see `ReleasePlace`."""
        return self._resources.objects.lock(UNDER_WAY, 0)

    def sweep(self, progress: Progress) -> None:
        """Take away what a killed run sealed and did not finish."""
        sweep_vault(self._resources, progress)

    def finish(self, progress: Progress, mine: Using, chosen: Profile, faces: str) -> Ending:
        """Seal card and receipts in the release, and enter it in its log."""
        # What a killed run left would be found in the release, and nothing would account for it.
        repair(self._resources, read_ledger(self._resources.log.entries()), grace=0.0, readers=0.0)
        require_whole(self._resources, progress)
        tally = Tally(chosen)
        for header in vault_headers(self._resources):
            tally.add(header)
        told = tally.facts(progress.terms, refused=progress.refused, faces=faces, pattern="")
        lines = signed(progress, mine, put_card(told, lambda name, data: self.shelf.write(name, [data])))
        digest = hashlib.sha256()
        for line in lines():
            digest.update(line)
        entry = Event(
            kind=Kind.RELEASE_MADE,
            who=self._resources.who,
            counts={"files": progress.files, "refused": progress.refused},
            digests={"policy": chosen.digest, "receipts": digest.hexdigest()},
        )
        self._resources.audit.append([entry])
        self.shelf.write(RECEIPTS, lines())
        return Ending(told.counts["patients"])


def signed(
    progress: Progress, mine: Using, made: Iterable[Made], *, apart: bool = False
) -> Callable[[], Iterator[bytes]]:
    """Return what gives the receipts, line by line, and keep a copy in the project; as for `issue`."""

    def place(one: Receipt | Made) -> str:
        return order(one.path)

    every: list[Receipt | Made] = sorted(made, key=place)

    def lines() -> Iterator[bytes]:
        files = merge(progress.receipts(), every, key=place)
        return issue(progress.terms, files, progress.refusals(), mine.opened.signing_key, apart=apart)

    if mine.stored is not None:
        mine.stored.keep_receipts(progress.terms.release_id, lines())
    return lines


_INSTANCES = (
    "select i.study_id, s.StudyInstanceUID || '/' || s.SeriesInstanceUID || '/' || i.SOPInstanceUID"
    " || '.dcm' as path from instances i join series s using (series_id) where not i.superseded"
)


def sweep_vault(resources: Resources, progress: Progress) -> None:
    """Delete the studies of which no instance is in the receipts: their run was killed on the way."""
    rows = resources.catalog.query(_INSTANCES).to_pylist()
    done = {row["study_id"] for row in rows if progress.holds(row["path"])}
    for study_id in {row["study_id"] for row in rows} - done:
        delete_study(resources, study_id, reason=STOPPED)


def require_whole(resources: Resources, progress: Progress) -> None:
    """Hold the instances of a release against its receipts.

    Raises
    ------
    IntegrityError
        There is one too many, or one too few.
    """
    studies = resources.catalog.query("select distinct study_id from instances")["study_id"].to_pylist()
    count = 0
    for study_id in studies:
        rows = resources.catalog.query(f"{_INSTANCES} and i.study_id = $study", {"study": study_id})
        paths = rows["path"].to_pylist()
        count += len(paths)
        if not all(map(progress.holds, paths)):
            raise _changed()
    if count != progress.files:
        raise _changed()


__all__ = [
    "CARD",
    "CROISSANT",
    "MAKER",
    "UNDER_WAY",
    "Ending",
    "FolderPlace",
    "ReleasePlace",
    "VaultPlace",
    "begun",
    "end_folder",
    "put_card",
    "require_whole",
    "signed",
    "sweep_folder",
    "sweep_vault",
]
