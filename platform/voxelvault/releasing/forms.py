"""What a release can be beside DICOM: volumes in other tools' formats, or tables of the metadata.

Both are made from a vault of files that were de-identified and searched already. What lies in the
release of a study is told again, as read from the disk, for the second reader.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import pyarrow
import pyarrow.parquet

from voxelvault.dicom.read import Header
from voxelvault.errors import StorageError
from voxelvault.formats.exporting import FORMATS, export_volumes
from voxelvault.formats.ome_zarr import stored_values
from voxelvault.formats.report import Item, LeavesTheVault
from voxelvault.releasing.targets import lying, prune, short_name
from voxelvault.resources import Resources

VOLUMES, TABLES = "volumes", "tables"
"""Folders of a release."""

_GROUP = 64
"""Series exported at once: their names are settled together."""


class Form(Protocol):
    """One form of a release."""

    pattern: str
    media_type: str

    def write(self, resources: Resources, folder: Path) -> Collection[str]:
        """Write everything; return the UIDs of the series that this form can't take."""

    def lying(self, folder: Path, study_uid: str) -> Iterator[tuple[bytes, bool]]:
        """Yield what lies in the release of a study, and whether most of it is pixels."""

    def drop(self, folder: Path, studies: Collection[str]) -> None:
        """Take studies away again."""


@dataclass(slots=True)
class Volumes:
    """Each volume a file (NIfTI) or a folder (OME-Zarr): `volumes/<patient>/<study>/<series UID>…`.

    Parameters
    ----------
    format : {"nifti", "ome-zarr"}
        Which.
    resample : bool
        Interpolate uneven slices, instead of leaving such series out.
    """

    format: str
    resample: bool = False
    pattern: str = ""
    media_type: str = ""
    _folders: dict[str, set[Path]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.pattern = f"{VOLUMES}/**"
        self.media_type = {"nifti": "application/gzip"}.get(self.format, "application/vnd+zarr")

    def write(self, resources: Resources, folder: Path) -> Collection[str]:
        """Write every volume; a series is there with all of its volumes, or not at all."""
        FORMATS[self.format].ready()
        series = {row["series_id"]: row for row in _series(resources)}
        refused: set[str] = set()
        ids = sorted(series, key=lambda one: short_name(series[one]["SeriesInstanceUID"]))
        for start in range(0, len(ids), _GROUP):
            refused |= self._some(resources, folder / VOLUMES, ids[start : start + _GROUP], series)
        return refused

    def _some(
        self, resources: Resources, folder: Path, ids: Sequence[str], series: Mapping[str, Any]
    ) -> set[str]:
        whole = self._exported(resources, folder, ids)
        for series_id, items in whole.items():
            row = series[series_id]
            place = folder / short_name(row["PatientID"]) / short_name(row["StudyInstanceUID"])
            place.mkdir(parents=True, exist_ok=True)
            self._folders.setdefault(row["StudyInstanceUID"], set()).add(place)
            for path in (path for item in items for path in _files_of(folder / item.path)):
                path.rename(place / path.name.replace(series_id, row["SeriesInstanceUID"]))
        return {series[one]["SeriesInstanceUID"] for one in ids if one not in whole}

    def _exported(self, resources: Resources, folder: Path, ids: Sequence[str]) -> dict[str, list[Item]]:
        """Export series; return what was written, of those of which everything was."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LeavesTheVault)
            report = export_volumes(resources, folder, ids, self.format, resample=self.resample)
        if report.stopped == "interrupted":
            raise KeyboardInterrupt
        if report.stopped:
            raise StorageError(report.stopped)
        short = {item.series_id for item in report.skipped}
        whole: dict[str, list[Item]] = {}
        for item in report.written:
            if item.series_id not in short:
                whole.setdefault(item.series_id, []).append(item)
                continue
            for path in _files_of(folder / item.path):
                _remove(path)
        return whole

    def lying(self, folder: Path, study_uid: str) -> Iterator[tuple[bytes, bool]]:
        """Yield the files of a study, and their names; of Zarr, what the chunks decode to as well."""
        for place in sorted(self._folders.get(study_uid, ())):
            paths = [place / path for path, _ in lying(place)]
            yield "\n".join(path.relative_to(folder).as_posix() for path in paths).encode(), False
            for path in paths:
                yield path.read_bytes(), path.suffix != ".json"
            for path in place.glob(f"*{FORMATS['ome-zarr'].ending}"):
                yield from ((data, True) for data in stored_values(path))

    def drop(self, folder: Path, studies: Collection[str]) -> None:
        """Take the volumes of studies away."""
        for study in studies:
            for place in self._folders.pop(study, ()):
                shutil.rmtree(place)
        prune(folder / VOLUMES)


def _files_of(path: Path) -> list[Path]:
    """Return a volume, and its sidecar where it has one."""
    ending = FORMATS["nifti"].ending
    if not path.name.endswith(ending):
        return [path]
    return [path, path.with_name(path.name.removesuffix(ending) + ".json")]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "patients": ("PatientID", "PatientSex", "PatientAge", "EthnicGroup"),
    "studies": ("StudyInstanceUID", "PatientID", "StudyDate", "StudyDescription", "AccessionNumber"),
    "series": (
        *("SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Modality", "BodyPartExamined"),
        *("SeriesNumber", "SeriesDate", "SeriesDescription", "ProtocolName", "Manufacturer"),
        *("ManufacturerModelName", "FrameOfReferenceUID"),
    ),
    "instances": (
        *("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "SOPClassUID"),
        *("InstanceNumber", "Rows", "Columns", "NumberOfFrames", "header"),
    ),
}
"""Columns of each table; the first is its key, `header` is DICOM JSON without pixels."""

_NUMBERS = frozenset({"SeriesNumber", "InstanceNumber", "Rows", "Columns", "NumberOfFrames"})
"""Columns of whole numbers; all others are text. What a header lacks is null."""


@dataclass(slots=True)
class Tables:
    """Parquet tables, one row group a patient: `tables/<patients, studies, series, instances>.parquet`."""

    pattern: str = f"{TABLES}/*.parquet"
    media_type: str = "application/vnd.apache.parquet"
    _groups: dict[str, list[int]] = field(default_factory=dict, repr=False)
    _resources: Resources | None = field(default=None, repr=False)

    def write(self, resources: Resources, folder: Path) -> Collection[str]:
        """Write the tables of everything."""
        self._resources = resources
        self._write(resources, folder, ())
        return ()

    def _write(self, resources: Resources, folder: Path, without: Collection[str]) -> None:
        place = folder / TABLES
        place.mkdir(parents=True, exist_ok=True)
        self._groups = {}
        schemas = {
            name: pyarrow.schema([(column, _type(column)) for column in columns])
            for name, columns in _COLUMNS.items()
        }
        writers = {
            name: pyarrow.parquet.ParquetWriter(
                place / f"{name}.parquet", schema, compression="zstd", store_schema=False
            )
            for name, schema in schemas.items()
        }
        try:
            for number, headers in enumerate(_patients(resources, without)):
                for study in {_text(one, "StudyInstanceUID") for one, _ in headers}:
                    self._groups.setdefault(study or "", []).append(number)
                for name, rows in _tables(headers).items():
                    writers[name].write_table(pyarrow.Table.from_pylist(rows, schemas[name]))
        finally:
            for writer in writers.values():
                writer.close()

    def lying(self, folder: Path, study_uid: str) -> Iterator[tuple[bytes, bool]]:
        """Yield the rows of a study's patient, as they are read back."""
        for name in _COLUMNS:
            with pyarrow.parquet.ParquetFile(folder / TABLES / f"{name}.parquet") as file:
                rows = (file.read_row_group(number).to_pylist() for number in self._groups.get(study_uid, ()))
                for row in chain.from_iterable(rows):
                    if row.get("StudyInstanceUID", study_uid) == study_uid:
                        told = ("" if value is None else str(value) for value in row.values())
                        yield "\n".join(told).encode(), False

    def drop(self, folder: Path, studies: Collection[str]) -> None:
        """Write the tables again without some studies."""
        assert self._resources is not None  # noqa: S101 - written before
        self._write(self._resources, folder, studies)


def _patients(resources: Resources, without: Collection[str]) -> Iterator[list[tuple[Header, str]]]:
    """Yield the headers of each patient, as such and as text, in an order that tells nothing."""
    subjects = resources.catalog.query(
        "select subject_id, min(StudyInstanceUID) as study from series group by subject_id"
    ).to_pylist()
    for subject in sorted(subjects, key=lambda row: short_name(row["study"])):
        rows = resources.catalog.query(
            "select i.header from instances i join series s using (series_id)"
            " where i.subject_id = $subject and not i.superseded"
            " and s.StudyInstanceUID not in (select unnest($without)) order by i.SOPInstanceUID",
            {"subject": subject["subject_id"], "without": sorted(without)},
        )["header"].to_pylist()
        if rows:
            yield [(Header.from_json(text), text) for text in rows]


def _type(column: str) -> pyarrow.DataType:
    return pyarrow.int64() if column in _NUMBERS else pyarrow.string()


def _tables(headers: Sequence[tuple[Header, str]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, dict[Any, dict[str, Any]]] = {name: {} for name in _COLUMNS}
    for header, text in headers:
        for name, columns in _COLUMNS.items():
            row = {column: text if column == "header" else _value(header, column) for column in columns}
            found[name].setdefault(row[columns[0]], row)
    return {name: list(rows.values()) for name, rows in found.items()}


def _value(header: Header, name: str) -> str | int | None:
    return _number(header, name) if name in _NUMBERS else _text(header, name)


def _number(header: Header, name: str) -> int | None:
    try:
        return int(str(header.get(name)))
    except ValueError:
        return None


def _text(header: Header, name: str) -> str | None:
    value = header.get(name)
    return None if value is None else str(value)


def _series(resources: Resources) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = resources.catalog.query(
        "select series_id, SeriesInstanceUID, StudyInstanceUID,"
        " (select min(header) from instances i where i.series_id = s.series_id) as header from series s"
    ).to_pylist()
    return [{**row, "PatientID": _text(Header.from_json(row["header"]), "PatientID") or ""} for row in rows]


def form_of(format: str, *, resample: bool = False) -> Form:
    """Return the form of that name: nifti, ome-zarr or parquet."""
    return Tables() if format == "parquet" else Volumes(format, resample)


__all__ = ["TABLES", "VOLUMES", "Form", "Tables", "Volumes", "form_of"]
