"""Volumes go out in other tools' formats: the owner's right, logged, and said aloud."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from voxelvault.audit.about import about
from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.crew import Crew
from voxelvault.display.progress import Progress
from voxelvault.errors import (
    AuditError,
    ObjectMissing,
    StorageError,
    UsageError,
    VoxelVaultError,
)
from voxelvault.export import ExportReport, export, instance_rows
from voxelvault.files import disk_error
from voxelvault.formats import nifti, ome_zarr
from voxelvault.formats.report import LEFT, FormatReport, Item, LeavesTheVault
from voxelvault.formats.volumes import Volume, read_volume
from voxelvault.intake.interrupt import interruptible
from voxelvault.policy.access import Request, require
from voxelvault.reading.many import open_many
from voxelvault.resources import Resources
from voxelvault.series import Series, series_of

AT_ONCE = 500
"""Series under one handle: their frames' places are in memory together."""

CALLER = 4
"""Frames between the warning and who called `Vault.export` or `Selection.export`."""


@dataclass(frozen=True, slots=True)
class Format:
    """How to write one format.

    Parameters
    ----------
    ending : str
        Of the files' names.
    code : str
        Its name in the log.
    scaling, free : bool
        As for `read_volume`.
    ready : callable
        Raises where a package is missing.
    write : callable
        Writes a volume to a path that isn't there yet; returns its size.
    """

    ending: str
    code: str
    scaling: bool
    free: bool
    ready: Callable[[], None]
    write: Callable[[Volume, Path], int]


FORMATS: Mapping[str, Format] = {
    "nifti": Format(nifti.ENDING, "nifti", True, False, nifti.require_nibabel, nifti.write_nifti),
    "ome-zarr": Format(ome_zarr.ENDING, "ome_zarr", False, True, lambda: None, ome_zarr.write_ome_zarr),
}


@dataclass
class _Progress:
    """Items so far; becomes the report whatever happens."""

    written: list[Item] = field(default_factory=list)
    kept: list[Item] = field(default_factory=list)
    skipped: list[Item] = field(default_factory=list)
    without_pixels: int = 0
    stopped: str = ""

    @property
    def outcome(self) -> Outcome:
        return Outcome.PARTIAL if self.skipped or self.stopped else Outcome.OK

    def report(self, folder: Path, name: str) -> FormatReport:
        parts = (tuple(self.written), tuple(self.kept), tuple(self.skipped))
        return FormatReport(folder, name, *parts, self.without_pixels, self.stopped)


def export_volumes(
    resources: Resources,
    out: Path,
    series_ids: Sequence[str],
    format: str,
    *,
    resample: bool = False,
    cohort_id: str | None = None,
    advance: Callable[[int], object] = lambda steps: None,
) -> FormatReport:
    """Write the volumes of some series, decrypted.

    A volume is a file (or folder) named by the series' opaque id, with `_stack-<n>` where a series
    has several. What is there already is left alone, so an export that ended early can be run again.
    A series that can't be written in the format is left out, and the report says why.

    Parameters
    ----------
    resources : Resources
        The open vault.
    out : Path
        Folder; made if need be.
    series_ids : sequence of str
        Opaque ids.
    format : {"nifti", "ome-zarr"}
        NIfTI with JSON sidecars, or plain OME-Zarr 0.5.
    resample : bool
        Interpolate uneven slices onto an even grid, instead of leaving such series out.
    cohort_id : str, optional
        The cohort they are of, for the log.
    advance : callable
        Called with 1 for each series done.

    Returns
    -------
    FormatReport
        Also when the disk filled up or Ctrl-C came: it says how far it got.

    Warns
    -----
    LeavesTheVault
        Always.

    Raises
    ------
    UsageError
        No such format, or no series.
    MissingExtra, PolicyDenied, AuditError, StorageError
        Then nothing was written.
    """
    chosen = FORMATS.get(format)
    if chosen is None:
        raise UsageError(f"no such format; choose one of dicom, {', '.join(FORMATS)}")
    if Path(out).expanduser().is_file():
        raise UsageError("the place to export to is a file; name a folder")
    if not series_ids:
        raise UsageError("there is no series to export; widen the selection")
    chosen.ready()
    folder = Path(out).expanduser()
    entry = _entry(resources, chosen, series_ids, cohort_id)
    require(resources.policy, Request(Kind.EXPORT, tuple(series_ids), resources.purpose, resources.who))
    resources.audit.append([replace(entry, outcome=Outcome.INTENT)])
    warnings.warn(LEFT, LeavesTheVault, stacklevel=CALLER)
    progress = _Progress()
    ended = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _export(resources, folder, series_ids, chosen, resample, cohort_id, progress, advance)
        ended = True
    except OSError as error:
        raise disk_error(error) from None
    finally:
        outcome = progress.outcome if ended else Outcome.PARTIAL if progress.written else Outcome.FAILED
        counts = {
            **entry.counts,
            "files": len(progress.written),
            "bytes": sum(i.bytes for i in progress.written),
        }
        resources.audit.append([replace(entry, outcome=outcome, counts=counts)])
    return progress.report(folder, format)


def _entry(resources: Resources, chosen: Format, series_ids: Sequence[str], cohort_id: str | None) -> Event:
    entry = Event(
        kind=Kind.EXPORT,
        who=resources.who,
        purpose=resources.purpose,
        codes={"format": (chosen.code,)},
    )
    return about(entry, series_ids, cohort_id)


def _export(
    resources: Resources,
    folder: Path,
    series_ids: Sequence[str],
    chosen: Format,
    resample: bool,
    cohort_id: str | None,
    progress: _Progress,
    advance: Callable[[int], object],
) -> None:
    with interruptible() as stop:
        for series_id, series in _opened(resources, series_ids, cohort_id):
            if stop.is_set():
                progress.stopped = "interrupted"
                return
            try:
                _write_series(series, series_id, folder, chosen, resample, progress)
            except VoxelVaultError as error:
                if _ends_all(error):
                    progress.stopped = str(error)
                    return
                progress.skipped.append(Item(series_id, reason=str(error)))
            advance(1)


def _opened(
    resources: Resources, series_ids: Sequence[str], cohort_id: str | None
) -> Iterator[tuple[str, Series]]:
    for start in range(0, len(series_ids), AT_ONCE):
        batch = series_ids[start : start + AT_ONCE]
        many = open_many(resources, batch, kind_code="export", cohort_id=cohort_id)
        try:
            for series_id in many.series_ids:
                yield series_id, series_of(resources, many, series_id)
        finally:
            many.close()


def _write_series(
    series: Series, series_id: str, folder: Path, chosen: Format, resample: bool, progress: _Progress
) -> None:
    progress.without_pixels += not series.stacks
    for number, label, path in _paths(series, series_id, folder, chosen.ending):
        item = Item(series_id, label, path.name)
        if path.exists():
            progress.kept.append(item)
            continue
        try:
            volume = read_volume(series, number, scaling=chosen.scaling, free=chosen.free, resample=resample)
            facts = {
                **volume.facts,
                "ConversionSoftware": "voxelvault",
                "ConversionSoftwareVersion": version("voxelvault"),
            }
            size = chosen.write(replace(volume, facts=facts), path)
        except VoxelVaultError as error:
            if _ends_all(error):
                raise
            progress.skipped.append(replace(item, path="", reason=str(error)))
            continue
        progress.written.append(replace(item, bytes=size, reason=volume.note))


def _ends_all(error: VoxelVaultError) -> bool:
    """Tell whether the next series would meet the same: a full disk, a log that takes no entry."""
    return isinstance(error, StorageError | AuditError) and not isinstance(error, ObjectMissing)


def _paths(series: Series, series_id: str, folder: Path, ending: str) -> Iterator[tuple[int, str, Path]]:
    width = len(str(len(series.stacks) - 1))
    for number, label in enumerate(series.stacks):
        several = len(series.stacks) > 1
        tail = f"_stack-{number:0{width}}" if several else ""
        yield number, label if several else "", folder / f"{series_id}{tail}{ending}"


def export_as(
    resources: Resources,
    out: str | os.PathLike[str],
    format: str = "dicom",
    *,
    study: str | None = None,
    series: str | None = None,
    series_ids: Sequence[str] | None = None,
    cohort_id: str | None = None,
    resample: bool = False,
    progress: bool = True,
    crew: Crew | None = None,
) -> ExportReport | FormatReport:
    """Write original files or volumes, with a progress bar; parameters as of `export`, `export_volumes`."""
    if crew is not None and format != "dicom":
        raise UsageError("workers write original files alone; leave out client= for other formats")
    if format == "dicom" and resample:
        raise UsageError("original files are never resampled; choose format='nifti' or 'ome-zarr'")
    with Progress(
        "export", shown=None if progress else False, unit="file" if format == "dicom" else "series"
    ) as bar:
        if format == "dicom":
            return export(
                resources,
                out,
                study=study,
                series=series,
                series_ids=series_ids,
                cohort_id=cohort_id,
                advance=lambda files, _size: bar.advance(files),
                crew=crew,
            )
        if series_ids is None:
            rows = instance_rows(resources, study, series)
            series_ids = sorted({row["series_id"] for row in rows if not row["superseded"]})
        bar.expect(len(series_ids))
        return export_volumes(
            resources,
            Path(out),
            series_ids,
            format,
            resample=resample,
            cohort_id=cohort_id,
            advance=bar.advance,
        )


__all__ = ["FORMATS", "export_as", "export_volumes"]
