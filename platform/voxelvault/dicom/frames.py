"""What a header says of each of its frames: place, time, echo and the way to real values.

Enhanced objects say it per frame, then for all frames (shared), then at the root, in that order
of precedence (PS3.3 C.7.6.16.1.1). Classic objects say it at the root only; nuclear medicine and
dose grids say it in vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeAlias

from voxelvault.dicom.coerce import (
    Cosines,
    HeaderLike,
    Vector,
    as_cosines,
    as_integer,
    as_joined,
    as_length,
    as_number,
    as_positive,
    as_seconds,
    as_spacing,
    as_stored,
    as_text,
    as_texts,
    as_vector,
    first_item,
)
from voxelvault.dicom.frame_vectors import vector_places
from voxelvault.dicom.functional_groups import Lookup, rescale
from voxelvault.errors import GeometryError

Mark: TypeAlias = float | str

MOST_FRAMES = 1 << 20
"""More are refused: a header may claim any number, and each is described in memory."""


@dataclass(frozen=True, slots=True)
class FrameAttributes:
    """Place, time and values of one frame; None where the header does not say.

    Parameters
    ----------
    position : tuple of 3 floats, optional
        Centre of the first transmitted pixel, mm, patient coordinates (LPS).
    orientation : tuple of 6 floats, optional
        Direction cosines of a row (growing column index), then of a column (growing row index).
    pixel_spacing : tuple of 2 floats, optional
        Distance between rows, then between columns, mm, in the patient; never the detector's.
    slice_thickness : float, optional
        mm; says nothing of the distance between slices.
    temporal : float, optional
        Time point: an index, or a time in the unit of `temporal_source`; only order has a meaning.
    temporal_source : str, optional
        Keyword that `temporal` was taken from.
    echo : float, optional
        Echo time, ms.
    acquisition : int, optional
        AcquisitionNumber or FrameAcquisitionNumber.
    instance : int, optional
        InstanceNumber.
    frame : int
        Index of the frame in its instance, from 0.
    slope, intercept : float
        Stored value to the modality's value; 1 and 0 when absent or unusable.
    rescale_type : str, optional
        Unit of the modality's value: HU, BQML, GY and so on; None when unknown.
    window_center, window_width : float, optional
        First VOI window, in the modality's values.
    window_function : str
        LINEAR, LINEAR_EXACT or SIGMOID.
    image_type : tuple of str
        FrameType, or ImageType.
    padding : tuple of 2 ints, optional
        Smallest and largest stored value that is padding, both included.
    marks : tuple of (name, value)
        What else may tell frames at one place apart, by DICOM keyword.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1 (position, orientation), C.7.6.16.2 (functional groups),
    C.11.1 (modality LUT), C.7.5.1.1.2 (padding).
    """

    position: Vector | None = None
    orientation: Cosines | None = None
    pixel_spacing: tuple[float, float] | None = None
    slice_thickness: float | None = None
    temporal: float | None = None
    temporal_source: str | None = None
    echo: float | None = None
    acquisition: int | None = None
    instance: int | None = None
    frame: int = 0
    slope: float = 1.0
    intercept: float = 0.0
    rescale_type: str | None = None
    window_center: float | None = None
    window_width: float | None = None
    window_function: str = "LINEAR"
    image_type: tuple[str, ...] = ()
    padding: tuple[int, int] | None = None
    marks: tuple[tuple[str, Mark], ...] = ()

    def mark(self, name: str) -> Mark | None:
        """Return the named mark, None when the header does not have it."""
        # A loop: it runs dozens of times a frame, and a generator takes three times as long.
        for key, value in self.marks:
            if key == name:
                return value
        return None

    def to_row(self) -> dict[str, Any]:
        """Return plain values by field name, fit for JSON or a table row."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> FrameAttributes:
        """Return what `to_row` was called on; JSON's lists become tuples, unknown names are left out.

        Parameters
        ----------
        row : mapping
            Field names and plain values.
        """
        known = {field.name for field in fields(cls)}
        return cls(**{name: _tuples(value) for name, value in row.items() if name in known})


def frame_attributes(header: HeaderLike, frames: int | None = None) -> list[FrameAttributes]:
    """Describe each frame of one instance.

    A Siemens mosaic (`is_mosaic`) is one frame without a place: its position is that of the whole
    sheet of tiles, which is no plane in the patient.

    Parameters
    ----------
    header : HeaderLike
        The instance's header.
    frames : int, optional
        How many frames the pixels hold, where the caller knows better than NumberOfFrames.

    Returns
    -------
    list of FrameAttributes
        One per frame, in stored order.

    Raises
    ------
    GeometryError
        More frames are claimed than `MOST_FRAMES`.

    References
    ----------
    DICOM PS3.3 C.7.6.16, C.8.4.8 (NM multi-frame), C.8.8.3.2 (grid frame offsets).
    """
    count = frames if frames is not None else max(as_integer(header.get("NumberOfFrames")) or 1, 1)
    if count > MOST_FRAMES:
        raise GeometryError(f"the header claims {count} frames; pass the number that the pixels hold")
    shared = first_item(header, "SharedFunctionalGroupsSequence")
    per_frame = header.items_of("PerFrameFunctionalGroupsSequence")
    root = _root_facts(header)
    if shared is None and not per_frame:
        return _classic(root, count)
    own = [*per_frame[:count], *[None] * (count - len(per_frame))]
    return [_describe(root, group, shared, index) for index, group in enumerate(own)]


def is_mosaic(header: HeaderLike) -> bool:
    """Say whether the frame is a Siemens mosaic: a sheet of tiles, one slice each.

    Parameters
    ----------
    header : HeaderLike
        The instance's header.
    """
    return "MOSAIC" in as_texts(header.values("ImageType"))


def pixel_aspect(header: HeaderLike) -> float:
    """Return row spacing over column spacing, for display only; 1.0 when nothing is said.

    Parameters
    ----------
    header : HeaderLike
        The instance's header.

    References
    ----------
    DICOM PS3.3 C.7.6.3.1.7 (pixel aspect ratio), 10.7.1.3 (pixel spacing).
    """
    shared = first_item(header, "SharedFunctionalGroupsSequence")
    measures = first_item(shared, "PixelMeasuresSequence") if shared else None
    for source in (measures, header):
        for keyword in (
            "PixelSpacing",
            "ImagerPixelSpacing",
            "NominalScannedPixelSpacing",
            "PixelAspectRatio",
        ):
            pair = as_spacing(source.values(keyword)) if source else None
            if pair:
                return pair[0] / pair[1]
    return 1.0


@dataclass(frozen=True, slots=True)
class _Root:
    """Facts of the instance that every frame falls back on, read once."""

    header: HeaderLike
    modality: str
    padding: tuple[int, int] | None
    mosaic: bool
    detector: HeaderLike | None
    marks: tuple[tuple[str, Mark], ...]
    vectors: tuple[tuple[str, Sequence[Any]], ...]


_TEMPORAL = ("TemporalPositionIdentifier", "TriggerTime", "FrameReferenceTime")
_ROOT_NUMBERS = (
    "TriggerTime",
    "FrameReferenceTime",
    "InversionTime",
    "FlipAngle",
    "DiffusionBValue",
    "EchoNumbers",
)
_FRAME_NUMBERS = (
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    ("SegmentIdentificationSequence", "ReferencedSegmentNumber"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("MRArterialSpinLabelingSequence", "ASLContext"),
    ("FrameContentSequence", "StackID"),
)
_NM_VECTORS = (
    "EnergyWindowVector",
    "DetectorVector",
    "PhaseVector",
    "RotationVector",
    "RRIntervalVector",
    "TimeSlotVector",
    "TimeSliceVector",
)


def _root_facts(header: HeaderLike) -> _Root:
    marks: list[tuple[str, Mark]] = []
    for keyword in _ROOT_NUMBERS:
        _add(marks, keyword, as_number(header.get(keyword)))
    for keyword in ("AcquisitionTime", "ContentTime"):
        _add(marks, keyword, as_seconds(header.get(keyword)))
    _add(marks, "DiffusionGradientOrientation", as_joined(header.values("DiffusionGradientOrientation")))
    _add(marks, "ComplexImageComponent", as_text(header.get("ComplexImageComponent")))
    _add(marks, "FrameOfReferenceUID", as_text(header.get("FrameOfReferenceUID")))
    modality = as_text(header.get("Modality")) or ""
    detector = first_item(header, "DetectorInformationSequence") if modality == "NM" else None
    vectors = tuple((keyword, header.values(keyword)) for keyword in _NM_VECTORS if detector is not None)
    return _Root(header, modality, _padding(header), is_mosaic(header), detector, tuple(marks), vectors)


def _classic(root: _Root, count: int) -> list[FrameAttributes]:
    """Describe frames without functional groups: alike, but for what vectors say."""
    first = _describe(root, None, None, 0)
    if count == 1:
        return [first]
    places = vector_places(root.header, count)
    step, times = as_positive(root.header.get("FrameTime")), root.header.values("FrameTimeVector")
    cine = step is not None or len(times) >= count
    # The root's position is the first frame's: it holds for all only if they show one place in time.
    fixed = first.position if cine else None
    found = []
    for index in range(count):
        described = replace(
            first,
            frame=index,
            position=places[index] if places else fixed,
            marks=tuple({**dict(root.marks), **_vector_marks(root, index)}.items()),
        )
        if cine and not places:
            described = replace(described, temporal=index * (step or 1.0), temporal_source="FrameTime")
        found.append(described)
    return found


def _vector_marks(root: _Root, index: int) -> dict[str, Mark]:
    numbers = ((name, as_number(vector[index])) for name, vector in root.vectors if index < len(vector))
    return {name: number for name, number in numbers if number is not None}


def _describe(root: _Root, own: HeaderLike | None, shared: HeaderLike | None, index: int) -> FrameAttributes:
    """Describe frame `index`: its own groups, then the shared ones, then the root."""
    header = root.header
    look = Lookup(own, shared, header)
    position = as_vector(look.values("PlanePositionSequence", "ImagePositionPatient"))
    orientation = as_cosines(look.values("PlaneOrientationSequence", "ImageOrientationPatient"))
    if root.detector is not None:
        orientation = orientation or as_cosines(root.detector.values("ImageOrientationPatient"))
    if root.mosaic:
        position = orientation = None
    image_type = look.image_type()
    slope, intercept, unit = rescale(look, root.modality, image_type)
    temporal, source = _temporal(look, root)
    return FrameAttributes(
        position=position,
        orientation=orientation,
        pixel_spacing=as_spacing(look.values("PixelMeasuresSequence", "PixelSpacing")),
        slice_thickness=as_length(look.get("PixelMeasuresSequence", "SliceThickness")),
        temporal=temporal,
        temporal_source=source,
        echo=as_number(look.get("MREchoSequence", "EffectiveEchoTime") or header.get("EchoTime")),
        acquisition=as_integer(look.group_value("FrameContentSequence", "FrameAcquisitionNumber"))
        or as_integer(header.get("AcquisitionNumber")),
        instance=as_integer(header.get("InstanceNumber")),
        frame=index,
        slope=slope,
        intercept=intercept,
        rescale_type=unit,
        window_center=as_number(look.get("FrameVOILUTSequence", "WindowCenter")),
        window_width=as_positive(look.get("FrameVOILUTSequence", "WindowWidth")),
        window_function=as_text(look.get("FrameVOILUTSequence", "VOILUTFunction")) or "LINEAR",
        image_type=image_type,
        padding=root.padding,
        marks=root.marks if own is None and shared is None else _marks(look, root),
    )


def _temporal(look: Lookup, root: _Root) -> tuple[float | None, str | None]:
    """Return the best statement of the time point and the keyword it comes from."""
    tries: list[tuple[str, Any]] = [
        ("TemporalPositionIndex", look.group_value("FrameContentSequence", "TemporalPositionIndex")),
        (
            "TemporalPositionTimeOffset",
            look.group_value("TemporalPositionSequence", "TemporalPositionTimeOffset"),
        ),
    ]
    tries += [(keyword, root.header.get(keyword)) for keyword in _TEMPORAL]
    for keyword, value in tries:
        number = as_number(value)
        if number is not None:
            return number, keyword
    seconds = as_seconds(look.group_value("FrameContentSequence", "FrameAcquisitionDateTime"), date=True)
    if seconds is not None:
        return seconds, "FrameAcquisitionDateTime"
    seconds = as_seconds(root.header.get("AcquisitionTime"))
    return (seconds, "AcquisitionTime") if seconds is not None else (None, None)


def _marks(look: Lookup, root: _Root) -> tuple[tuple[str, Mark], ...]:
    """Return the root's marks, overridden by the frame's own."""
    marks = dict(root.marks)
    for sequence, keyword in _FRAME_NUMBERS:
        value = look.group_value(sequence, keyword)
        mark: Mark | None = as_number(value) if keyword != "StackID" else None
        mark = mark if mark is not None else as_text(value)
        if mark is not None:
            marks[keyword] = mark
    for item in look.items("MRDiffusionSequence"):
        for direction in item.items_of("DiffusionGradientDirectionSequence"):
            marks["DiffusionGradientOrientation"] = (
                as_joined(direction.values("DiffusionGradientOrientation")) or ""
            )
    component = look.group_value("MRImageFrameTypeSequence", "ComplexImageComponent")
    if component:
        marks["ComplexImageComponent"] = str(component)
    return tuple(marks.items())


def _padding(header: HeaderLike) -> tuple[int, int] | None:
    """Return the padding range in the sign of the pixels, whatever VR the sender chose."""
    bits = as_integer(header.get("BitsAllocated")) or 16
    signed = as_integer(header.get("PixelRepresentation")) == 1
    value = as_integer(header.get("PixelPaddingValue"))
    if value is None or bits not in (1, 8, 16, 32, 64):
        return None
    limit = as_integer(header.get("PixelPaddingRangeLimit"))
    ends = [as_stored(end, bits, signed=signed) for end in (value, value if limit is None else limit)]
    return min(ends), max(ends)


def _add(marks: list[tuple[str, Mark]], keyword: str, value: Mark | None) -> None:
    if value is not None:
        marks.append((keyword, value))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


__all__ = ["FrameAttributes", "HeaderLike", "frame_attributes", "is_mosaic", "pixel_aspect"]
