"""A release's place from the first file to the signature: a folder, or a vault of its own.

While it isn't whole, it keeps how far it has come; when it is, receipts and card lie in it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from voxelvault.audit.events import Event, Kind
from voxelvault.crypto.ways import Ways
from voxelvault.deid import card
from voxelvault.deid.card import FileOf
from voxelvault.deid.profile import Profile
from voxelvault.deid.project_shelf import FolderShelf, SealedShelf, Shelf, projects_in, shelves_in
from voxelvault.deid.receipt import Made, Receipt, Refusal, Verification, issue, verify_release
from voxelvault.errors import IntegrityError, ObjectMissing, UsageError
from voxelvault.files import replace_file
from voxelvault.model import Buffer, new_id
from voxelvault.opening import close_vault, create_vault, open_vault
from voxelvault.releasing.facts import facts, folder_headers, vault_headers
from voxelvault.releasing.media_directory import NAME as DIRECTORY
from voxelvault.releasing.media_directory import media_directory
from voxelvault.releasing.originals import VaultOriginals
from voxelvault.releasing.progress import STUDIES, Progress
from voxelvault.releasing.projects import Using
from voxelvault.releasing.targets import FILES, FolderTarget, Target, VaultTarget, one_time, require_empty
from voxelvault.resources import Resources
from voxelvault.storage.layout import VAULT_TOML
from voxelvault.storage.objects import LocalObjects

UNFINISHED = ".release"
"""Folder of what a release that isn't whole yet has come to."""

RECEIPTS, CARD, CROISSANT = "receipts.jsonl", "card.md", "croissant.json"

MAKER = "release"
"""Who stands in a release's own log: nobody's account."""


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

    def finish(
        self, progress: Progress, mine: Using, chosen: Profile, faces: str
    ) -> Sequence[tuple[str, str]]:
        """Sign for what was released, and describe it; return what is left out after all, and why."""


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
        self._unfinished = path / UNFINISHED
        if not self._unfinished.exists():
            require_empty(path)
        self._unfinished.mkdir(parents=True, exist_ok=True)
        self.shelf: Shelf = FolderShelf(LocalObjects(self._unfinished))
        self.target: Target = FolderTarget(path)

    def finish(
        self, progress: Progress, mine: Using, chosen: Profile, faces: str
    ) -> Sequence[tuple[str, str]]:
        """Write directory, receipts and card; take the traces of the making away."""
        directory = media_directory(_folder_files(self.path))
        replace_file(self.path / DIRECTORY, directory)
        made = [Made(DIRECTORY, hashlib.sha256(directory).hexdigest())]
        document = signed(progress, mine, made)
        replace_file(self.path / RECEIPTS, document)
        told = facts(
            folder_headers(self.path / FILES),
            progress.terms,
            chosen.options,
            refused=refused_in(progress),
            faces=faces,
            files=[file_of(RECEIPTS, document)],
            pattern=f"{FILES}/**",
        )
        replace_file(self.path / CARD, card.markdown(told).encode())
        replace_file(self.path / CROISSANT, card.croissant(told).encode())
        shutil.rmtree(self._unfinished)
        one_time(self.path)
        return ()


class VaultPlace:
    """A vault of its own.

    Parameters
    ----------
    path : Path
        A new or empty folder, or an unfinished release.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recovery_code: str | None = None
        self._resources = self._open()
        try:
            release_id = self._release_id()
        except BaseException:
            close_vault(self._resources)
            raise
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
        made = create_vault(self.path, Ways(None, None), who=MAKER)
        self.recovery_code = made.recovery_code
        return made.resources

    def _release_id(self) -> str:
        found = shelves_in(self._resources.objects)
        if not found:
            return new_id()
        if len(found) > 1 or projects_in(self._resources.objects):
            raise UsageError("this vault is no unfinished release; choose another place")
        try:
            SealedShelf(self._resources.objects, self._resources.keys, found[0]).get(RECEIPTS)
        except ObjectMissing:
            return found[0]
        raise UsageError("this vault is a release that is whole; choose another place")

    def finish(
        self, progress: Progress, mine: Using, chosen: Profile, faces: str
    ) -> Sequence[tuple[str, str]]:
        """Seal receipts and card in the release, and enter it in its log."""
        document = signed(progress, mine)
        told = facts(
            vault_headers(self._resources),
            progress.terms,
            chosen.options,
            refused=refused_in(progress),
            faces=faces,
            files=[file_of(RECEIPTS, document)],
            pattern="",
        )
        self.shelf.put(CARD, card.markdown(told).encode())
        self.shelf.put(CROISSANT, card.croissant(told).encode())
        self.shelf.put(RECEIPTS, document)
        counts = {
            "files": sum(isinstance(entry, Receipt) for entry in progress.entries),
            "refused": refused_in(progress),
        }
        self._resources.audit.append(
            [
                Event(
                    kind=Kind.RELEASE_MADE,
                    who=self._resources.who,
                    counts=counts,
                    digests={"policy": chosen.digest, "receipts": hashlib.sha256(document).hexdigest()},
                )
            ]
        )
        return ()


def signed(progress: Progress, mine: Using, made: Sequence[Made] = (), *, apart: bool = False) -> bytes:
    """Return the receipts, and keep a copy in the project; `apart` as for `issue`."""
    document = issue(progress.terms, [*progress.entries, *made], mine.opened.signing_key, apart=apart)
    if mine.stored is not None:
        mine.stored.keep_receipts(progress.terms.release_id, document)
    return document


def refused_in(progress: Progress) -> int:
    return sum(isinstance(entry, Refusal) for entry in progress.entries)


def file_of(name: str, data: bytes) -> FileOf:
    return FileOf(name, "application/jsonl", hashlib.sha256(data).hexdigest(), len(data))


def verify_folder(folder: Path, signer: bytes | None = None) -> Verification:
    """Hold a folder against the receipts in it; no key is needed.

    Parameters
    ----------
    folder : Path
        The release.
    signer : bytes, optional
        The project's public key, got from elsewhere.

    Raises
    ------
    IntegrityError
        There are no receipts, or they were changed.
    """
    place = folder / RECEIPTS
    if not place.exists():
        raise IntegrityError("the folder holds no receipts: it is no release, or was cut; ask for it again")

    return verify_release(place.read_bytes(), all_files(folder), signer)


def all_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file of a release but those that tell of it, or are of its making."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for path in sorted(set(found) - {RECEIPTS, CARD, CROISSANT}):
        if not path.startswith(f"{UNFINISHED}/"):
            yield path, (folder / path).read_bytes()


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    return ((path, data) for path, data in all_files(folder) if path.startswith(f"{FILES}/"))


def verify_vault(resources: Resources, signer: bytes | None = None) -> Verification:
    """Hold an open release against the receipts sealed in it; parameters as `verify_folder`."""
    return verify_release(_told(resources, RECEIPTS), _vault_files(resources), signer)


def vault_card(resources: Resources, name: str = CARD) -> str:
    """Return the card sealed in an open release: Markdown, or JSON-LD where `name` is `CROISSANT`.

    Raises
    ------
    IntegrityError
        The vault is no release.
    """
    return _told(resources, name).decode("utf-8")


def folder_card(folder: Path, name: str = CARD) -> str:
    """Return the card in a folder; as `vault_card`."""
    try:
        return (folder / name).read_text("utf-8")
    except OSError:
        raise IntegrityError(
            "the folder holds no card: it is no release, or was cut; ask for it again"
        ) from None


def _told(resources: Resources, name: str) -> bytes:
    """Return a document of a release, wherever else projects lie in its vault."""
    for place in shelves_in(resources.objects):
        try:
            return SealedShelf(resources.objects, resources.keys, place).get(name)[0]
        except ObjectMissing:
            continue
    raise IntegrityError("this vault holds no receipts: it is no release, or an unfinished one")


def _vault_files(resources: Resources) -> Iterator[tuple[str, Buffer]]:
    rows = resources.catalog.query(
        "select i.instance_id, s.StudyInstanceUID || '/' || s.SeriesInstanceUID || '/' || i.SOPInstanceUID"
        " || '.dcm' as path from instances i join series s using (series_id) where not i.superseded"
    ).to_pylist()
    paths = {row["instance_id"]: row["path"] for row in rows}
    originals = (
        (paths[original.place], original)
        for subject in VaultOriginals(resources).subjects()
        for study in subject.studies
        for original in study
    )
    for path, original in sorted(originals, key=lambda one: one[0]):
        yield path, original.read()


__all__ = [
    "CROISSANT",
    "FolderPlace",
    "ReleasePlace",
    "VaultPlace",
    "folder_card",
    "vault_card",
    "verify_folder",
    "verify_vault",
]
