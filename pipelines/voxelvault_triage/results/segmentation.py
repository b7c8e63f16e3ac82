"""The mask as DICOM segmentation: binary, frame by frame on the source's own frames.

References
----------
DICOM PS3.3 A.51, C.8.20 (segmentation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset

from voxelvault.errors import GeometryError, UsageError
from voxelvault_triage.model import Analysis
from voxelvault_triage.results.source import Source, put_identity, quietly
from voxelvault_triage.results.uids import ResultUIDs
from voxelvault_triage.results.vocabulary import Code, Vocabulary

MAKER = "voxelvault"

Mask = npt.NDArray[np.bool_]


def coded(code: Code) -> CodedConcept:
    """Return a code as highdicom takes it."""
    return CodedConcept(code.value, code.scheme, code.meaning)


@dataclass(frozen=True, slots=True)
class Part:
    """Frames of the mask that one segmentation holds, beside the images they lie on."""

    images: Sequence[Dataset]
    frames: Mask


def parts_of(source: Source, mask: Mask) -> list[Part]:
    """Lay the mask's slices beside their images: all single frames together, each multi-frame image alone.

    Raises
    ------
    UsageError
        The mask has not the shape of the source's stack.
    """
    rows, columns = int(source.images[0].get("Rows") or 0), int(source.images[0].get("Columns") or 0)
    if mask.shape != (len(source.places), rows, columns):
        raise UsageError("the mask is not on the grid of the series: one value for each of its voxels")
    near = _near(np.asarray(mask.any(axis=(1, 2))))
    single = [
        (slice_, image)
        for slice_, (image, _) in enumerate(source.places)
        if near[slice_] and not _several(source, image)
    ]
    parts = [Part([source.images[image] for _, image in single], mask[[slice_ for slice_, _ in single]])]
    for number, image in enumerate(source.images):
        if _several(source, number):
            parts.append(Part([image], _spread(source, mask, number)))
    return [part for part in parts if part.frames.any()]


def _near(filled: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Tell which slices have mask, or a neighbour with mask.

    Readers give a slice the nearest frame: where steps are uneven, one without mask would get its
    neighbour's if no empty frame lay on it.
    """
    padded = np.pad(filled, 1)
    return np.asarray(padded[:-2] | filled | padded[2:])


def _several(source: Source, image: int) -> bool:
    return "PerFrameFunctionalGroupsSequence" in source.images[image]


def _spread(source: Source, mask: Mask, image: int) -> Mask:
    """Return a multi-frame image's share of the mask, in the order of its frames."""
    frames = np.zeros((int(source.images[image].get("NumberOfFrames") or 1), *mask.shape[1:]), bool)
    for slice_, (which, number) in enumerate(source.places):
        if which == image:
            frames[number - 1] |= mask[slice_]
    return frames


def segmentations(
    analysis: Analysis, source: Source, uids: ResultUIDs, words: Vocabulary, notice: str
) -> list[Dataset]:
    """Return the mask as segmentation objects: none where it is empty, mostly one.

    Raises
    ------
    GeometryError
        The source's frames have no place in the patient.
    UsageError
        The mask is not on the source's grid.
    """
    finding = analysis.finding
    if finding is None or not finding.mask.any():
        return []
    made = []
    for number, part in enumerate(parts_of(source, finding.mask), 1):
        try:
            with quietly():
                one = _segmentation(analysis, part, number, uids, words, notice)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            # What it says may quote the header.
            raise GeometryError(
                "the source's frames have no place in the patient that a segmentation could name"
            ) from None
        put_identity(one, source.identity)
        made.append(one)
    return made


def _segmentation(
    analysis: Analysis, part: Part, number: int, uids: ResultUIDs, words: Vocabulary, notice: str
) -> Dataset:
    described = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=words.label,
        segmented_property_category=coded(words.category),
        segmented_property_type=coded(words.segment),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=analysis.pipeline,
            family=CodedConcept("123110", "DCM", "Artificial Intelligence"),
            version=analysis.version,
            source=MAKER,
            parameters=_model(analysis),
        ),
        tracking_uid=uids.tracking(words.label),
        tracking_id=f"{analysis.pipeline} {words.label}"[:64],
        anatomic_regions=[coded(words.site)] if words.site else None,
    )
    return hd.seg.Segmentation(
        source_images=part.images,
        pixel_array=part.frames.astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[described],
        omit_empty_frames=False,
        series_instance_uid=uids.series("SEG"),
        series_number=9001,
        sop_instance_uid=uids.instance("SEG", number),
        instance_number=number,
        content_label="AI_RESULT",
        content_description=notice[:64],
        series_description=f"AI result, mask: {words.label}"[:64],
        **equipment(analysis),
    )


def _model(analysis: Analysis) -> dict[str, str] | None:
    said = {"model-sha256": analysis.model, "model": analysis.model_name}
    return {name: value for name, value in said.items() if value} or None


def equipment(analysis: Analysis) -> dict[str, Any]:
    """Return who made an object: the pipeline, its version, its model."""
    return {
        "manufacturer": MAKER,
        "manufacturer_model_name": analysis.pipeline[:64],
        "software_versions": analysis.version[:64],
        "device_serial_number": (analysis.model or "none")[:64],
    }


__all__ = ["MAKER", "coded", "equipment", "parts_of", "segmentations"]
