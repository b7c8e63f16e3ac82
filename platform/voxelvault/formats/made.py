"""Documents that were made of studies go out as files: the owner's right, logged, and said aloud."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.errors import UsageError
from voxelvault.files import disk_error, write_new
from voxelvault.formats.report import LEFT, LeavesTheVault
from voxelvault.policy.access import Request, require
from voxelvault.resources import Resources

STUDIES_NAMED = 256
"""Studies that the entry names; of more it has the number alone: an entry has 64 KiB at most."""


@dataclass(frozen=True, slots=True)
class MadeReport:
    """What was written.

    Parameters
    ----------
    folder : Path
        Where.
    format : str
        Its name in the log.
    files, kept : int
        Written; left alone, since they were there with the same bytes.
    nameless : int
        Left out, since the format has to name a patient and they have no PatientID.
    """

    folder: Path
    format: str
    files: int
    kept: int
    nameless: int = 0

    def __str__(self) -> str:
        kept = f", {self.kept} there already" if self.kept else ""
        kept += f", {self.nameless} left out since they have no PatientID" if self.nameless else ""
        return f"{self.files} files written as {self.format}{kept}; {LEFT}"


def export_made(
    resources: Resources,
    out: str | os.PathLike[str],
    study_ids: Sequence[str],
    format: str,
    documents: Mapping[str, bytes],
) -> MadeReport:
    """Write documents about studies into a folder.

    What is there already with the same bytes is left alone; with other bytes it is never overwritten.

    Parameters
    ----------
    resources : Resources
        The open vault.
    out : path
        Folder; made if need be.
    study_ids : sequence of str
        Opaque ids of the studies that they are about.
    format : str
        A word for the log, such as ``fhir-r4``.
    documents : mapping of str to bytes
        By file name: of letters that identify nobody, such as opaque ids.

    Returns
    -------
    MadeReport
        What was written.

    Raises
    ------
    UsageError
        A file with other bytes is in the way, or there is nothing to write.
    PolicyDenied, AuditError
        Nothing was written.
    NoSpace, NoPermission, StorageError
        The disk refused.
    """
    if not documents:
        raise UsageError("there is nothing to export; widen what is asked for")
    folder = Path(out).expanduser()
    named = tuple(sorted(set(study_ids)))
    require(resources.policy, Request(Kind.EXPORT, named, resources.purpose, resources.who))
    entry = Event(
        kind=Kind.EXPORT,
        who=resources.who,
        purpose=resources.purpose,
        ids={"study": named} if len(named) <= STUDIES_NAMED else {},
        counts={"members": len(named)},
        codes={"format": (format,)},
    )
    resources.audit.append([replace(entry, outcome=Outcome.INTENT)])
    warnings.warn(LEFT, LeavesTheVault, stacklevel=2)
    written = size = 0
    outcome = Outcome.FAILED
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in documents.items():
            if not _there(folder / name, data):
                size += write_new(folder / name, [data])
                written += 1
        outcome = Outcome.OK
    except OSError as error:
        raise disk_error(error) from None
    finally:
        counts = {**entry.counts, "files": written, "bytes": size}
        resources.audit.append([replace(entry, outcome=outcome, counts=counts)])
    return MadeReport(folder, format, written, len(documents) - written)


def _there(path: Path, data: bytes) -> bool:
    """Tell whether a file is there with these bytes."""
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return False
    return hashlib.sha256(found).digest() == hashlib.sha256(data).digest()


__all__ = ["MadeReport", "export_made"]
