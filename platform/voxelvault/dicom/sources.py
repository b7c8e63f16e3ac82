"""Everything that a folder, file, archive or DICOMDIR offers for ingest.

Nothing is skipped in silence: what isn't offered comes as a `Refusal` that says why. A DICOMDIR is
a source like any file, and stands for the files it lists when it is named itself. `Source.display`
and `Refusal.path` may name a patient: show them to the person at the terminal, never log or store
them in clear.

References
----------
DICOM PS3.3 F (basic directory), PS3.10 8 (file IDs).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Literal

from voxelvault.dicom.archives import Limits, Member, archive_kind, members, read_member
from voxelvault.dicom.part10 import Part10, parse
from voxelvault.errors import (
    ArchiveRefused,
    DicomError,
    NoPermission,
    StorageError,
    UsageError,
    VoxelVaultError,
)
from voxelvault.model import Buffer

WHOLE_LIMIT = 256 << 20
"""Files up to this many bytes are read whole, larger ones mapped."""

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR: a table of contents, of several patients maybe, and so nobody's instance."""

_ARCHIVE_NAMES = (".zip", ".tar", ".gz", ".tgz")


@dataclass(frozen=True, slots=True)
class Source:
    """One candidate for ingest: a file, or a member of an archive.

    Parameters
    ----------
    path : Path
        The file, or the archive that holds the member.
    size : int
        Bytes.
    member : Member or None
        Which member of the archive.
    """

    path: Path
    size: int
    member: Member | None = None

    @property
    def kind(self) -> Literal["file", "member"]:
        """Whether it stands by itself or in an archive."""
        return "file" if self.member is None else "member"

    @property
    def origin(self) -> str:
        """Which pipeline of this vault made it; empty for whatever is sent in."""
        return ""

    @property
    def display(self) -> str:
        """The sender's own name for it: identifying, for the interactive report only."""
        return _display(self.path, self.member)

    def __repr__(self) -> str:
        return f"<Source {self.kind}, {self.size} bytes>"

    @contextmanager
    def open(self) -> Iterator[Buffer]:
        """Give the bytes: whole in memory, or a map of a large file that lives as long as it is held.

        Raises
        ------
        StorageError
            The file can't be read.
        ArchiveRefused
            The member isn't what its archive announced.
        """
        yield self.read()

    def read(self) -> Buffer:
        """Return the bytes, as `open` gives them."""
        try:
            return _mapped(self.path) if self.member is None else read_member(self.path, self.member)
        except OSError as error:
            raise _storage_error(error) from None

    def remove(self) -> None:
        """Delete the file once it is safely stored; an archive is left as it is.

        Raises
        ------
        StorageError
            The file can't be deleted.
        """
        if self.member is not None:
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise _storage_error(error) from None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that was found and isn't offered for ingest.

    Parameters
    ----------
    path : str
        The sender's own name for it: identifying, for the interactive report only.
    reason : str
        One line: what it is and what to do.
    kind : {"archive", "unreadable", "missing", "outside"}
    """

    path: str
    reason: str
    kind: Literal["archive", "unreadable", "missing", "outside"] = "unreadable"

    def __repr__(self) -> str:
        return f"<Refusal {self.kind}>"


Found = Source | Refusal


def _display(path: Path, member: Member | None) -> str:
    return f"{path}!{member.name}" if member else str(path)


def find_files(
    paths: Iterable[str | os.PathLike[str]], limits: Limits | None = None, *, inside: bool = False
) -> Iterator[Found]:
    """Find everything to ingest.

    Folders are walked in the order of their names, each once however many links lead to it.
    Archives are opened, in folders by their usual endings; archives within archives aren't. A
    DICOMDIR named by itself stands for itself and the files it refers to.

    Parameters
    ----------
    paths : iterable of path
        Folders, files, zip and tar archives, DICOMDIRs.
    limits : Limits, optional
        Bounds for archives.
    inside : bool
        Refuse links that lead out of the folder that was given, instead of following them.

    Returns
    -------
    iterator of Source or Refusal
        A source for each file and member; a refusal for each thing that can't be read.

    Raises
    ------
    UsageError
        A path doesn't exist; raised before anything is yielded.
    """
    given = [Path(path).expanduser() for path in paths]
    if not all(os.path.lexists(path) for path in given):
        raise UsageError("a path to ingest does not exist; check its spelling")
    return _found(given, limits or Limits(), inside=inside)


def _found(given: Iterable[Path], limits: Limits, *, inside: bool) -> Iterator[Found]:
    visited: set[tuple[int, int]] = set()
    for path in given:
        if path.is_dir():
            yield from _folder(path, limits, visited, inside=inside)
        elif path.name.upper() == "DICOMDIR":
            yield from _directory(path, limits)
        else:
            yield from _file(path, limits, by_content=True)


def _folder(root: Path, limits: Limits, visited: set[tuple[int, int]], *, inside: bool) -> Iterator[Found]:
    waiting, real = [root], os.path.realpath(root)
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            names = sorted(os.listdir(folder)) if (status.st_dev, status.st_ino) not in visited else []
        except OSError as error:
            yield _refused(folder, _storage_error(error))
            continue
        visited.add((status.st_dev, status.st_ino))
        below = []
        for path in (folder / name for name in names):
            if inside and _leads_out(path, real):
                outside = "a link that leads out of the folder is not followed; copy what it names"
                yield Refusal(str(path), outside, "outside")
            elif _is_folder(path):
                below.append(path)
            else:
                yield from _file(path, limits, by_content=False)
        waiting.extend(reversed(below))


def _leads_out(path: Path, root: str) -> bool:
    return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root)


def _is_folder(path: Path) -> bool:
    try:
        return S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _file(path: Path, limits: Limits, *, by_content: bool) -> Iterator[Found]:
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):
            yield Refusal(str(path), "a device, socket or pipe can't be ingested; give a file")
            return
        kind = None
        if by_content or path.name.lower().endswith(_ARCHIVE_NAMES):
            with path.open("rb") as stream:
                kind = archive_kind(stream.read(512))
    except OSError as error:
        yield _refused(path, _storage_error(error))
        return
    if kind is None:
        yield Source(path, status.st_size)
        return
    try:
        listed = members(path, kind, limits)
    except ArchiveRefused as error:
        yield _refused(path, error)
    except OSError as error:
        yield _refused(path, _storage_error(error))
    else:
        yield from (_of_member(path, member) for member in listed)


def _of_member(path: Path, member: Member) -> Found:
    if member.refused:
        return Refusal(_display(path, member), member.refused, "archive")
    return Source(path, member.size, member)


def _directory(path: Path, limits: Limits) -> Iterator[Found]:
    """Yield a DICOMDIR, then the files that it refers to, each once."""
    try:
        size = path.stat().st_size
        referenced = referenced_files(parse(_mapped(path)))
    except OSError as error:
        yield _refused(path, _storage_error(error))
        return
    except DicomError as error:
        yield _refused(path, error)
        return
    yield Source(path, size)
    for parts in dict.fromkeys(referenced):
        resolved = _resolve(path.parent, parts)
        if resolved is None:
            missing = "a file that the DICOMDIR lists is missing or outside its folder; copy the whole medium"
            yield Refusal(str(path.parent.joinpath(*parts)), missing, "missing")
        else:
            yield from _file(resolved, limits, by_content=False)


def referenced_files(directory: Part10) -> list[tuple[str, ...]]:
    """Return the file IDs of a DICOMDIR's records, as path components.

    References
    ----------
    DICOM PS3.3 F.3.2.2 (directory records), PS3.10 8.2 (file IDs).
    """
    records = directory.dataset.get(0x00041220)
    found = []
    for record in records.items or () if records else ():
        element = record.get(0x00041500)
        if element is not None and element.stop > element.start:
            raw = bytes(directory.data[element.start : min(element.stop, element.start + 1024)])
            found.append(tuple(part.strip("\0 ") for part in raw.decode("latin-1").split("\\")))
    return found


def _resolve(folder: Path, parts: tuple[str, ...]) -> Path | None:
    """Find a file ID below `folder`, in any case of letters (media are often copied in lower case)."""
    here = folder
    for part in parts:
        if part in ("", ".", "..") or "/" in part or "\0" in part:
            return None
        there = here / part
        if not os.path.lexists(there):
            there = _same_name(here, part) or there
        here = there
    try:
        inside = here.resolve().is_relative_to(folder.resolve())
        return here if inside and here.is_file() else None
    except (OSError, RuntimeError):
        return None


def _same_name(folder: Path, part: str) -> Path | None:
    try:
        return next((folder / name for name in os.listdir(folder) if name.upper() == part.upper()), None)
    except OSError:
        return None


def _refused(path: Path, error: VoxelVaultError) -> Refusal:
    return Refusal(str(path), str(error), "archive" if isinstance(error, ArchiveRefused) else "unreadable")


def _storage_error(error: OSError) -> StorageError:
    if isinstance(error, PermissionError):
        return NoPermission("the file or folder may not be read; ask its owner for the right to")
    return StorageError("the file or folder can't be read; check the disk and the links that lead to it")


def _mapped(path: Path) -> Buffer:
    """Return a file's bytes, or a map of a large one, which goes with the last view of it."""
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size <= WHOLE_LIMIT:
            return stream.read()
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


__all__ = ["MEDIA_DIRECTORY", "Refusal", "Source", "WHOLE_LIMIT", "find_files", "referenced_files"]
