"""Catalog rows from headers: what `ingest`, `re-index` and a rebuild all write alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from voxelvault.catalog.catalog import Change
from voxelvault.dicom.geometry import FrameAttributes, frame_attributes
from voxelvault.dicom.read import Header, columns
from voxelvault.model import SealedRef
from voxelvault.storage.pack import InstanceRecord, Manifest, StackRecord

Row = Mapping[str, Any]


def changes(rows: Mapping[str, Sequence[Row]], mode: Mapping[str, str]) -> list[Change]:
    """Return one change a table that has rows; `mode` says how each table takes them."""
    return [
        Change(table, pa.Table.from_pylist(list(found)), mode[table])  # type: ignore[arg-type]
        for table, found in rows.items()
        if found
    ]


def pack_row(manifest: Manifest, ref: SealedRef, codec: str) -> Row:
    """Return the row that makes a pack part of its series."""
    identity = manifest.identity
    return {
        "pack_id": manifest.pack_id,
        "series_id": identity.series_id,
        "study_id": identity.study_id,
        "subject_id": identity.subject_id,
        "key_id": manifest.study_key_id,
        "manifest_object_id": ref.object_id,
        "manifest_length": ref.length,
        "manifest_sha256": ref.sha256,
        "manifest_kind": ref.kind,
        "created": datetime.fromisoformat(manifest.created),
        "codec": codec,
    }


def stack_row(manifest: Manifest, number: int, stack: StackRecord) -> Row:
    """Return the row of one stack."""
    key, identity = stack.key, manifest.identity
    return {
        "pack_id": manifest.pack_id,
        "stack": number,
        "series_id": identity.series_id,
        "study_id": identity.study_id,
        "subject_id": identity.subject_id,
        "frames": stack.frames,
        "rows": key.spec.rows,
        "columns": key.spec.columns,
        "samples": key.spec.samples,
        "dtype": np.dtype(key.dtype).name,
        "codec": key.codec,
        "TransferSyntaxUID": key.transfer_syntax,
        "PhotometricInterpretation": key.spec.photometric,
        "PlanarConfiguration": key.spec.planar,
        "BitsAllocated": key.spec.bits_allocated,
        "BitsStored": key.spec.bits_stored,
        "PixelRepresentation": key.spec.pixel_representation,
    }


def instance_row(
    manifest: Manifest, record: InstanceRecord, header: Header, transfer_syntax: str, pixels: str, version: int
) -> Row:
    """Return the row of one instance, its whole header as DICOM JSON included."""
    identity = manifest.identity
    return {
        **columns(header, "instances"),
        "TransferSyntaxUID": transfer_syntax,
        "instance_id": record.instance_id,
        "pack_id": manifest.pack_id,
        "series_id": identity.series_id,
        "study_id": identity.study_id,
        "subject_id": identity.subject_id,
        "version": version,
        "superseded": False,
        "sha256": record.sha256,
        "length": record.length,
        "stored": "original" if record.original else "split",
        "pixels": pixels,
        "header": header.json(),
    }


def frame_rows(manifest: Manifest, record: InstanceRecord, header: Header) -> list[Row]:
    """Return a row for each frame of an instance: where it lies and what its values mean."""
    if record.stack < 0:
        return []
    found = frame_attributes(header)
    # A header may describe fewer frames than its pixels hold; the last description serves the rest.
    padded = [*found, *[found[-1]] * (record.count - len(found))] if found else []
    return [
        _frame_row(manifest, record, number, attributes)
        for number, attributes in enumerate(padded[: record.count])
    ]


def _frame_row(manifest: Manifest, record: InstanceRecord, number: int, frame: FrameAttributes) -> Row:
    identity = manifest.identity
    return {
        "pack_id": manifest.pack_id,
        "stack": record.stack,
        "frame": record.first + number,
        "instance_id": record.instance_id,
        "series_id": identity.series_id,
        "study_id": identity.study_id,
        "subject_id": identity.subject_id,
        "FrameNumber": number + 1,
        "ImagePositionPatient": _floats(frame.position),
        "ImageOrientationPatient": _floats(frame.orientation),
        "PixelSpacing": _floats(frame.pixel_spacing),
        "SliceThickness": frame.slice_thickness,
        "temporal": frame.temporal,
        "echo": frame.echo,
        "acquisition": frame.acquisition,
        "RescaleSlope": frame.slope,
        "RescaleIntercept": frame.intercept,
        "RescaleType": frame.unit,
        "WindowCenter": frame.window_center,
        "WindowWidth": frame.window_width,
    }


def _floats(values: Iterable[float] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]
