"""What a header says of each of its frames: place, time, echo and the way to real values.

Enhanced objects say it per frame, then for all frames (shared), then at the root, in that order
of precedence (PS3.3 C.7.6.16.1.1). Classic objects say it at the root only; nuclear medicine and
dose grids say it in vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

from voxelvault.dicom.coerce import (
    Cosines,
    HeaderLike,
    Vector,
    as_cosines,
    as_integer,
    as_joined,
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

Mark: TypeAlias = float | str


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
        return next((value for key, value in self.marks if key == name), None)

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

    References
    ----------
    DICOM PS3.3 C.7.6.16, C.8.4.8 (NM multi-frame), C.8.8.3.2 (grid frame offsets).
    """
    count = frames if frames is not None else _frame_count(header)
    shared = first_item(header, "SharedFunctionalGroupsSequence")
    per_frame = header.items_of("PerFrameFunctionalGroupsSequence")
    root = _root_facts(header)
    if shared is None and not per_frame and count == 1 and not header.values("GridFrameOffsetVector"):
        return [_describe(root, None, None, 0)]
    places = None if per_frame else vector_places(header, count)
    return [
        _describe(root, per_frame[i] if i < len(per_frame) else None, shared, i, places, count)
        for i in range(count)
    ]


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
_FRAME_TYPES = (
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "XAXRFFrameCharacteristicsSequence",
    "ParametricMapFrameTypeSequence",
    "MRSpectroscopyFrameTypeSequence",
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
    return _Root(header, modality, _padding(header), is_mosaic(header), detector, tuple(marks))


def _describe(
    root: _Root,
    own: HeaderLike | None,
    shared: HeaderLike | None,
    index: int,
    places: Sequence[Vector] | None = None,
    count: int = 1,
) -> FrameAttributes:
    """Describe frame `index`: its own groups, then the shared ones, then the root."""
    header = root.header
    look = _Lookup(own, shared, header)
    position = (
        places[index] if places else as_vector(look.values("PlanePositionSequence", "ImagePositionPatient"))
    )
    orientation = as_cosines(look.values("PlaneOrientationSequence", "ImageOrientationPatient"))
    if root.detector is not None:
        orientation = orientation or as_cosines(root.detector.values("ImageOrientationPatient"))
    if root.mosaic:
        position = orientation = None
    image_type = look.image_type()
    slope, intercept, unit = _rescale(look, root.modality, image_type)
    temporal, source = _temporal(look, root, index, count)
    return FrameAttributes(
        position=position,
        orientation=orientation,
        pixel_spacing=as_spacing(look.values("PixelMeasuresSequence", "PixelSpacing")),
        slice_thickness=as_positive(look.get("PixelMeasuresSequence", "SliceThickness")),
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
        marks=_marks(look, root, index) if own is not None or shared is not None or count > 1 else root.marks,
    )


class _Lookup:
    """Finds an attribute in a frame's own groups, the shared ones, or at the root."""

    def __init__(self, own: HeaderLike | None, shared: HeaderLike | None, root: HeaderLike) -> None:
        self._groups = tuple(group for group in (own, shared) if group is not None)
        self._root = root

    def items(self, sequence: str) -> Iterator[HeaderLike]:
        """Yield the sequence's first item, from the nearest group on."""
        for group in self._groups:
            item = first_item(group, sequence)
            if item is not None:
                yield item

    def values(self, sequence: str, keyword: str) -> Sequence[Any]:
        """Return all values of the nearest place that has any."""
        for item in self.items(sequence):
            found = item.values(keyword)
            if found:
                return found
        return self._root.values(keyword)

    def get(self, sequence: str, keyword: str) -> Any:
        """Return the first value of the nearest place that has any."""
        return next(iter(self.values(sequence, keyword)), None)

    def group_value(self, sequence: str, keyword: str) -> Any:
        """Return the first value in the frame's groups, never the root's."""
        found = (item.get(keyword) for item in self.items(sequence))
        return next((value for value in found if value is not None), None)

    def image_type(self) -> tuple[str, ...]:
        """Return FrameType, or ImageType."""
        for sequence in _FRAME_TYPES if self._groups else ():
            for item in self.items(sequence):
                if item.values("FrameType"):
                    return as_texts(item.values("FrameType"))
        return as_texts(self._root.values("ImageType"))


def _rescale(look: _Lookup, modality: str, image_type: Sequence[str]) -> tuple[float, float, str | None]:
    """Return slope, intercept and unit (PS3.3 C.11.1.1.2; C.8.9.1.1.3 Units; C.8.8.3 DoseUnits)."""
    sequence = "PixelValueTransformationSequence"
    if modality == "RTDOSE":
        scaling = as_number(look.get(sequence, "DoseGridScaling"))
        return (scaling, 0.0, as_text(look.get(sequence, "DoseUnits"))) if scaling else (1.0, 0.0, None)
    slope = as_number(look.get(sequence, "RescaleSlope"))
    if not slope:  # absent, or zero, which would erase the image
        return 1.0, 0.0, None
    intercept = as_number(look.get(sequence, "RescaleIntercept")) or 0.0
    unit = as_text(look.get(sequence, "RescaleType")) or as_text(look.get("", "Units"))
    if unit is None and modality == "CT" and "LOCALIZER" not in image_type:
        unit = "HU"
    return slope, intercept, unit


def _temporal(look: _Lookup, root: _Root, index: int, count: int) -> tuple[float | None, str | None]:
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
    step = as_positive(root.header.get("FrameTime"))
    if count > 1 and step:
        return index * step, "FrameTime"
    seconds = as_seconds(look.group_value("FrameContentSequence", "FrameAcquisitionDateTime"), date=True)
    if seconds is not None:
        return seconds, "FrameAcquisitionDateTime"
    seconds = as_seconds(root.header.get("AcquisitionTime"))
    return (seconds, "AcquisitionTime") if seconds is not None else (None, None)


def _marks(look: _Lookup, root: _Root, index: int) -> tuple[tuple[str, Mark], ...]:
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
    for keyword in _NM_VECTORS:
        vector = root.header.values(keyword)
        value = as_number(vector[index]) if index < len(vector) else None
        if value is not None:
            marks[keyword] = value
    return tuple(marks.items())


def _frame_count(header: HeaderLike) -> int:
    return max(as_integer(header.get("NumberOfFrames")) or 1, 1)


def _padding(header: HeaderLike) -> tuple[int, int] | None:
    """Return the padding range in the sign of the pixels, whatever VR the sender chose."""
    bits = as_integer(header.get("BitsAllocated")) or 16
    signed = as_integer(header.get("PixelRepresentation")) == 1
    value = as_integer(header.get("PixelPaddingValue"))
    if value is None:
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
