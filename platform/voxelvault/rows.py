"""Catalog rows from headers: what `ingest`, `re-index` and a rebuild all write alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from voxelvault.catalog.catalog import Change, Mode
from voxelvault.dicom.columns import Tags
from voxelvault.dicom.geometry import FrameAttributes
from voxelvault.dicom.read import Header, columns
from voxelvault.model import SealedRef
from voxelvault.storage.pack import InstanceRecord, Manifest, StackRecord

Row = Mapping[str, Any]


def changes(table: str, rows: Sequence[Row], mode: Mode) -> list[Change]:
    """Return the changes that bring rows into a table: one for each set of columns."""
    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        alike.setdefault(tuple(sorted(row)), []).append(row)
    return [Change(table, pa.Table.from_pylist(group), mode) for group in alike.values()]


def pack_row(manifest: Manifest, ref: SealedRef) -> Row:
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
        "codec": manifest.codec,
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


def header_values(header: Header, tags: Tags) -> Row:
    """Return what an instance's row takes from its header: columns, and the whole as DICOM JSON."""
    return {**columns(header, "instances", tags), "header": header.json()}


def instance_row(
    manifest: Manifest,
    record: InstanceRecord,
    values: Row,
    *,
    transfer_syntax: str,
    pixels: str,
    version: int,
) -> Row:
    """Return the row of one instance; `values` are those of `header_values`."""
    identity = manifest.identity
    return {
        **values,
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
        "origin": record.origin or None,
        "received": datetime.fromisoformat(manifest.created),
    }


def frame_rows(manifest: Manifest, record: InstanceRecord, frames: Sequence[FrameAttributes]) -> list[Row]:
    """Return a row for each frame of an instance: where it lies and what its values mean."""
    return [_frame_row(manifest, record, number, attributes) for number, attributes in enumerate(frames)]


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
        "InstanceNumber": frame.instance,
        "temporal_source": frame.temporal_source,
        "image_type": list(frame.image_type),
        "padding": None if frame.padding is None else [float(value) for value in frame.padding],
        "marks": json.dumps(frame.marks) if frame.marks else None,
        "RescaleSlope": frame.slope,
        "RescaleIntercept": frame.intercept,
        "RescaleType": frame.rescale_type,
        "WindowCenter": frame.window_center,
        "WindowWidth": frame.window_width,
        "VOILUTFunction": frame.window_function,
    }


def _floats(values: Iterable[float] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]
