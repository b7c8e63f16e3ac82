"""The original files go out, byte for byte, with a manifest; every hash is checked on the way."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from voxelvault.audit.about import about
from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.crew import Bench, Crew, Unit
from voxelvault.errors import (
    AmbiguousUID,
    IntegrityError,
    UnknownUID,
    UsageError,
    VoxelVaultError,
    WorkerDied,
)
from voxelvault.files import disk_error, replace_file, write_new
from voxelvault.model import Buffer, new_id
from voxelvault.policy.access import Request, require
from voxelvault.reading.packs import PackCache
from voxelvault.resources import Resources
from voxelvault.storage.pack_reader import PackReader

Advance = Callable[[int, int], object]
Row = Mapping[str, Any]

MANIFEST = "MANIFEST.csv"
COLUMNS = ("path", "sha256", "bytes", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "version")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written.

    Parameters
    ----------
    folder : Path
        Where.
    files, bytes : int
        Files written, or there already with the same bytes, and their size.
    manifest : Path
        CSV with path, SHA-256 and UIDs of each file.
    """

    folder: Path
    files: int
    bytes: int
    manifest: Path

    def __str__(self) -> str:
        return f"{self.files} files, {self.bytes:,} bytes, every SHA-256 as it came in"


def export(
    resources: Resources,
    out: str | os.PathLike[str],
    *,
    study: str | None = None,
    series: str | None = None,
    series_ids: Sequence[str] | None = None,
    cohort_id: str | None = None,
    advance: Advance = lambda files, size: None,
    crew: Crew | None = None,
) -> ExportReport:
    """Write the files of a study, of a series, of some series or of the whole vault.

    Paths are `<study UID>/<series UID>/<SOP Instance UID>.dcm`; a version that another superseded
    ends in `.v<number>.dcm`. A file that is there with the right bytes is left alone, so an
    interrupted export can be run again.

    Parameters
    ----------
    resources : Resources
        The open vault.
    out : path
        Folder; made if need be.
    study, series : str, optional
        UIDs, or opaque ids of the catalog; both absent mean everything.
    series_ids : sequence of str, optional
        Opaque ids: these series alone.
    cohort_id : str, optional
        The cohort they are of, for the log.
    advance : callable
        Progress: called with files done and their bytes.
    crew : Crew, optional
        Workers of a cluster that write the files; by default this process does. The folder must be
        theirs, too.

    Raises
    ------
    UnknownUID
        Nothing in the vault has that UID.
    AmbiguousUID
        Several subjects have it; an opaque id tells them apart.
    UsageError
        A file is in the way.
    IntegrityError
        The stored bytes are not what came in; that file was not written.
    """
    folder = Path(out).expanduser()
    rows = instance_rows(resources, study, series, series_ids)
    study_ids = _ids(rows, "study_id", study or series)
    entry = _entry(resources, study_ids, series_ids, cohort_id)
    asked = study_ids if series_ids is None else tuple(series_ids)
    require(resources.policy, Request(Kind.EXPORT, asked, resources.purpose, resources.who))
    resources.audit.append([_ended(entry, Outcome.INTENT, len(rows), 0)])
    size = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = _earlier_lines(folder / MANIFEST)
        plan = list(_planned(rows, folder))
        for done in (
            _written(resources, plan) if crew is None else _written_there(resources, plan, crew, folder)
        ):
            size += done
            advance(1, done)
        _write_manifest(folder / MANIFEST, kept, [_line(row, path, folder) for row, path in plan])
    except (VoxelVaultError, OSError) as error:
        resources.audit.append([_ended(entry, Outcome.FAILED, len(rows), size)])
        raise (disk_error(error) if isinstance(error, OSError) else error) from None
    resources.audit.append([_ended(entry, Outcome.OK, len(rows), size)])
    return ExportReport(folder, len(rows), size, folder / MANIFEST)


def _entry(
    resources: Resources,
    study_ids: tuple[str, ...],
    series_ids: Sequence[str] | None,
    cohort_id: str | None,
) -> Event:
    entry = Event(
        kind=Kind.EXPORT,
        who=resources.who,
        purpose=resources.purpose,
        ids={"study": study_ids} if study_ids else {},
        codes={"format": ("dicom",)},
    )
    return entry if series_ids is None else about(entry, series_ids, cohort_id)


def _ended(entry: Event, outcome: Outcome, files: int, size: int) -> Event:
    return replace(entry, outcome=outcome, counts={**entry.counts, "files": files, "bytes": size})


def _ids(rows: Sequence[Mapping[str, Any]], column: str, wanted: str | None) -> tuple[str, ...]:
    # An export of everything names nothing: the entry would outgrow its bound.
    return tuple(sorted({row[column] for row in rows})) if wanted else ()


def instance_rows(
    resources: Resources,
    study: str | None = None,
    series: str | None = None,
    series_ids: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return the instances that are meant, with the ids and UIDs of their series.

    Raises
    ------
    UnknownUID, AmbiguousUID, UsageError
        As for `export`.
    """
    rows: list[dict[str, Any]] = resources.catalog.query(
        "select i.instance_id, i.pack_id, i.series_id, i.study_id, i.subject_id, i.sha256, i.length,"
        " i.version, i.superseded, s.StudyInstanceUID as study_uid, s.SeriesInstanceUID as series_uid,"
        " i.SOPInstanceUID as sop_uid"
        " from instances i join series s using (series_id)"
        " where ($study is null or s.StudyInstanceUID = $study or s.study_id = $study)"
        " and ($series is null or s.SeriesInstanceUID = $series or s.series_id = $series)"
        " and ($ids is null or i.series_id in (select unnest($ids)))"
        " order by i.series_id, i.pack_id, i.instance_id",
        {"study": study, "series": series, "ids": None if series_ids is None else list(series_ids)},
    ).to_pylist()
    if not rows and series_ids is not None:
        raise UsageError("there is no series to export; widen the selection")
    if not rows and not (study or series):
        raise UsageError("the vault holds no instances yet; `ingest` brings some")
    if not rows:
        raise UnknownUID(
            "nothing in this vault has that UID; `sql` on `studies` or `series` lists what there is"
        )
    if (study or series) and len({row["subject_id"] for row in rows}) > 1:
        raise AmbiguousUID(
            "this UID belongs to several subjects; see `conflicts`, and give the study_id or series_id of one"
        )
    return rows


def _planned(rows: Sequence[Row], folder: Path) -> Iterator[tuple[Row, Path]]:
    """Yield where each instance goes."""
    subjects_of: dict[str, set[str]] = {}
    for row in rows:
        subjects_of.setdefault(row["study_uid"] or "", set()).add(row["study_id"])
    for row in rows:
        yield row, _path(folder, row, len(subjects_of[row["study_uid"] or ""]) > 1)


def _written(resources: Resources, plan: Iterable[tuple[Row, Path]]) -> Iterator[int]:
    """Write the files; yield the size of each."""
    packs = PackCache(resources)
    for row, path in plan:
        if not _is_there(path, row["sha256"]):
            _write(path, reader_of(resources, packs, row), row["instance_id"])
        yield row["length"]


def _write(path: Path, reader: PackReader, instance_id: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    record = reader.manifest.instance(instance_id)
    write_new(path, checked(reader.instance_bytes(record), record.sha256))


@dataclass(frozen=True, slots=True)
class Files:
    """Files of one pack that a worker is to write; paths are never shown by `repr`.

    Parameters
    ----------
    pack_id : str
        Opaque id.
    marker : Path
        A file that is there where the folder is the caller's own.
    files : tuple
        Path, instance id and SHA-256 of each.
    """

    pack_id: str
    marker: Path = field(repr=False)
    files: tuple[tuple[Path, str, str], ...] = field(repr=False)


def write_files(bench: Bench, job: Files) -> int:
    """Write files of a pack that was lent, in a worker; return how many."""
    if not job.marker.exists():
        raise UsageError("a worker does not see the folder: choose one that is mounted on every worker")
    reader = bench.reader(job.pack_id)
    for path, instance_id, sha256 in job.files:
        if not _is_there(path, sha256):
            _write(path, reader, instance_id)
    return len(job.files)


def _written_there(
    resources: Resources, plan: Sequence[tuple[Row, Path]], crew: Crew, folder: Path
) -> Iterator[int]:
    """Have workers write the files, a pack at a time; yield the size of each."""
    parts: dict[str, list[tuple[Row, Path]]] = {}
    for row, path in plan:
        parts.setdefault(row["pack_id"], []).append((row, path.absolute()))
    known = {
        row["pack_id"]: row
        for row in resources.catalog.query(
            "select * from packs where pack_id in (select unnest($ids))", {"ids": list(parts)}
        ).to_pylist()
    }
    lent = [pack_id for pack_id in parts if pack_id in known]
    marker = folder.absolute() / f".{new_id()}.here"
    marker.touch()
    try:
        for done in crew.run([partial(_unit, known[pack_id], parts[pack_id], marker) for pack_id in lent]):
            if done.lost:
                raise WorkerDied("each worker that wrote a series was killed: export without a cluster")
            yield from (row["length"] for row, _ in parts[lent[done.number]])
    finally:
        marker.unlink(missing_ok=True)
    # What a compaction moved meanwhile.
    yield from _written(resources, [item for pack_id in parts.keys() - known for item in parts[pack_id]])


def _unit(pack: Row, part: Sequence[tuple[Row, Path]], marker: Path) -> Unit:
    files = tuple((path, row["instance_id"], row["sha256"]) for row, path in part)
    return Unit("export-series", write_files, Files(pack["pack_id"], marker, files), packs=(pack,))


def reader_of(resources: Resources, packs: PackCache, row: Mapping[str, Any]) -> PackReader:
    """Return the reader of the pack that an instance is in, also where a compaction moved it meanwhile."""
    try:
        return packs.reader(row["pack_id"])
    except IntegrityError:
        moved = resources.catalog.query(
            "select pack_id from instances where instance_id = $id and pack_id != $pack",
            {"id": row["instance_id"], "pack": row["pack_id"]},
        ).to_pylist()
        if not moved:
            raise
        return packs.reader(moved[0]["pack_id"])


def checked(parts: Iterator[Buffer], sha256: str) -> Iterator[Buffer]:
    """Pass the parts on and, after the last, make sure of their SHA-256.

    Raises
    ------
    IntegrityError
        They have another one.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
        yield part
    if digest.hexdigest() != sha256:
        raise IntegrityError(
            "a stored file no longer has the SHA-256 it came in with; run `voxelvault verify`"
        )


def _is_there(path: Path, sha256: str) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
            return True
    raise UsageError("a file to be written is there already with other bytes; choose an empty folder")


def _path(folder: Path, row: Mapping[str, Any], shared: bool) -> Path:
    # UIDs were checked at ingest to be digits and dots; a lone "." or ".." must still not pass.
    study = _name(row["study_uid"], row["study_id"])
    study = f"{study}-{row['study_id'][:8]}" if shared else study
    series = _name(row["series_uid"], "no-series")
    name = _name(row["sop_uid"], row["instance_id"])
    if row["superseded"] or row["version"] > 1:
        name += f".v{row['version']}"
    return folder / study / series / f"{name}.dcm"


def _name(uid: str | None, otherwise: str) -> str:
    return uid if uid and any(character.isdigit() for character in uid) else otherwise


def _line(row: Mapping[str, Any], path: Path, folder: Path) -> list[str]:
    relative = path.relative_to(folder).as_posix()
    values = (
        relative,
        row["sha256"],
        row["length"],
        row["study_uid"],
        row["series_uid"],
        row["sop_uid"],
        row["version"],
    )
    return ["" if value is None else str(value) for value in values]


def _earlier_lines(path: Path) -> list[list[str]]:
    """Return the lines of an earlier export into the same folder; `UsageError` for another's file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        found = list(csv.reader(file))
    if not found or tuple(found[0]) != COLUMNS:
        raise UsageError(f"the folder holds another {MANIFEST}, which is left alone; choose an empty folder")
    return found[1:]


def _write_manifest(path: Path, kept: Sequence[list[str]], lines: Sequence[list[str]]) -> None:
    new = {line[0] for line in lines}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([line for line in kept if line and line[0] not in new])
    writer.writerows(lines)
    replace_file(path, [text.getvalue().encode()])
