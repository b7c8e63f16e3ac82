"""What the catalog says of segmentations, structure sets and reports, and which series they are about."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from voxelvault.dicom import rtstruct, segmentation, structured_report
from voxelvault.dicom.coding import Code
from voxelvault.dicom.read import Header
from voxelvault.resources import Resources

Row = Mapping[str, Any]

_CLASSES = {
    "SEG": segmentation.SOP_CLASSES,
    "RTSTRUCT": rtstruct.SOP_CLASSES,
    "SR": structured_report.SOP_CLASSES,
}

# Only what tells segments and references apart leaves the database: headers of many frames are long.
_GROUPS = '$."52009230"."Value"[*]'
_SEGMENT = '."0062000A"."Value"[0]."0062000B"."Value"[0]'
_SOURCE = '."00089124"."Value"[*]."00082112"."Value"[*]."00081155"."Value"[0]'
_TYPE, _SEGMENTS, _SERIES, _ELSEWHERE = "00620001", "00620002", "00081115", "00081200"
_SPACE, _SPACES, _REGIONS, _OBSERVATIONS = "00200052", "30060010", "30060020", "30060080"


def _part(*tags: str) -> str:
    """Return the SQL that gives a header's elements as one JSON text."""
    pairs = ", ".join(f"'{tag}', json_extract(header, '$.\"{tag}\"')" for tag in tags)
    return f"json_object({pairs}) as part"


_COLUMNS = {
    "SEG": f"""
        {_part(_SPACE, _TYPE, _SEGMENTS, _SERIES, _ELSEWHERE)},
        json_extract_string(header, '{_GROUPS}{_SEGMENT}') as drawn,
        case when json_extract(header, '$."{_SERIES}"') is null
            then list_distinct(json_extract_string(header, '{_GROUPS}{_SOURCE}')) end as images""",
    "RTSTRUCT": f"""
        {_part(_SPACES, _REGIONS, _OBSERVATIONS)},
        list_transform(json_extract(header, '$."30060039"."Value"[*]'), lambda item: {{
            'number': json_extract_string(item, '$."30060084"."Value"[0]'),
            'kinds': json_extract_string(item, '$."30060040"."Value"[*]."30060042"."Value"[0]')}}) as drawn,
        null::VARCHAR[] as images""",
}


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One segment or region that may be laid on a series.

    Parameters
    ----------
    kind : str
        SEG or RTSTRUCT.
    label : str
        SegmentLabel or ROIName: what `mask` takes.
    number : int
        Segment or ROI number.
    instance_id : str
        Opaque id of the object: what `source=` takes.
    type : Code or None
        What it is, coded.
    algorithm : str
        How it was made: AUTOMATIC, SEMIAUTOMATIC, MANUAL.
    frames : int or None
        Frames or closed contours it has; None in a label map, where each frame may show it.
    refers : bool
        The object names this series; False: it only lies in the same frame of reference.
    """

    kind: str
    label: str
    number: int
    instance_id: str
    type: Code | None = None
    algorithm: str = ""
    frames: int | None = None
    refers: bool = True
    pack_id: str = field(default="", repr=False)
    series_id: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One stored object: its segments, each with its frame of reference, and what it names.

    Parameters
    ----------
    subject_id : str
        Whose it is; it is never laid on another subject's series.
    segments : tuple of (SegmentInfo, str or None)
        Segments and their FrameOfReferenceUID.
    series : frozenset of str
        SeriesInstanceUIDs that it names.
    images : frozenset of str
        SOPInstanceUIDs that it names, where it names no series.
    """

    subject_id: str
    segments: tuple[tuple[SegmentInfo, str | None], ...]
    series: frozenset[str]
    images: frozenset[str]

    def infos_for(self, target: Row, images: Mapping[str, frozenset[str]]) -> list[SegmentInfo]:
        """Return the segments that may be laid on a series, marked as naming it or not."""
        if self.subject_id != target["subject_id"]:
            return []
        refers = target["SeriesInstanceUID"] in self.series or bool(
            self.images & images.get(target["series_id"], frozenset())
        )
        space = target["FrameOfReferenceUID"]
        return [
            replace(info, refers=refers)
            for info, own in self.segments
            if refers or (own is not None and own == space)
        ]


def target_rows(resources: Resources, series_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return what tells whether an object is about these series."""
    rows: list[dict[str, Any]] = resources.catalog.query(
        "select series_id, study_id, subject_id, SeriesInstanceUID, FrameOfReferenceUID from series"
        " where series_id in (select unnest($ids))",
        {"ids": list(series_ids)},
    ).to_pylist()
    return rows


def object_rows(
    resources: Resources, targets: Sequence[Row], kind: str, columns: str
) -> list[dict[str, Any]]:
    """Return current objects of a kind, SEG, RTSTRUCT or SR, of the series' subjects; the oldest first."""
    query = (
        f"select instance_id, pack_id, series_id, study_id, subject_id, {columns} from instances"  # noqa: S608
        " where subject_id in (select unnest($subjects)) and SOPClassUID in (select unnest($classes))"
        " and not superseded order by ContentDate, ContentTime, instance_id"
    )
    wanted = {
        "subjects": sorted({target["subject_id"] for target in targets}),
        "classes": list(_CLASSES[kind]),
    }
    rows: list[dict[str, Any]] = resources.catalog.query(query, wanted).to_pylist()
    return rows


def stored_objects(resources: Resources, targets: Sequence[Row]) -> list[StoredObject]:
    """Return the segmentations and structure sets of the series' subjects."""
    read = {"SEG": _segmentation, "RTSTRUCT": _structures}
    return [
        read[kind](row, Header({tag: element for tag, element in json.loads(row["part"]).items() if element}))
        for kind in read
        for row in object_rows(resources, targets, kind, _COLUMNS[kind])
    ]


def named_images(
    resources: Resources, targets: Sequence[Row], objects: Sequence[StoredObject]
) -> dict[str, frozenset[str]]:
    """Return SOPInstanceUIDs of series, by series id; empty unless objects name images and no series."""
    named = frozenset[str]().union(*(one.images for one in objects))
    if not named:
        return {}
    rows = resources.catalog.query(
        "select series_id, SOPInstanceUID from instances where not superseded"
        " and series_id in (select unnest($ids)) and SOPInstanceUID in (select unnest($images))",
        {"ids": [target["series_id"] for target in targets], "images": sorted(named)},
    ).to_pylist()
    return {
        target["series_id"]: frozenset(
            row["SOPInstanceUID"] for row in rows if row["series_id"] == target["series_id"]
        )
        for target in targets
    }


def _segmentation(row: Row, part: Header) -> StoredObject:
    label_map = part.get("SegmentationType") == "LABELMAP"
    space = part.get("FrameOfReferenceUID")
    drawn = Counter(row["drawn"] or ())
    segments = [one for one in segmentation.segments_of(part) if one.number or not label_map]
    infos = [
        SegmentInfo(
            "SEG",
            one.label,
            one.number,
            row["instance_id"],
            one.type,
            one.algorithm,
            None if label_map or not drawn else drawn[str(one.number)],
            pack_id=row["pack_id"],
            series_id=row["series_id"],
        )
        for one in segments
    ]
    return StoredObject(
        row["subject_id"],
        tuple((info, space) for info in infos),
        segmentation.referenced_series(part),
        frozenset(row["images"] or ()),
    )


def _structures(row: Row, part: Header) -> StoredObject:
    structures = rtstruct.read_structure_set(part)
    closed = {
        item["number"]: sum(kind in rtstruct.CLOSED for kind in item["kinds"] or ())
        for item in row["drawn"] or ()
    }
    segments = tuple(
        (
            SegmentInfo(
                "RTSTRUCT",
                region.label,
                region.number,
                row["instance_id"],
                region.type,
                region.algorithm,
                closed.get(str(region.number), 0),
                pack_id=row["pack_id"],
                series_id=row["series_id"],
            ),
            region.frame_of_reference,
        )
        for region in structures.regions
    )
    return StoredObject(row["subject_id"], segments, structures.series, frozenset())


__all__ = [
    "SegmentInfo",
    "StoredObject",
    "named_images",
    "object_rows",
    "stored_objects",
    "target_rows",
]
