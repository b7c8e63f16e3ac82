"""The slice that shows it best as a secondary capture: windowed, the mask's outline burned in.

What is burned in is the outline and the notice, on purpose, and nothing that names anybody.

References
----------
DICOM PS3.3 A.8.1 (secondary capture), C.7.6.1 (derived images), C.8.6.1 (SC equipment).
"""

from __future__ import annotations

from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from voxelvault.display.image import annotate, edge_letters
from voxelvault.display.window import choose_window, to_uint8
from voxelvault.series import Series
from voxelvault_triage.model import Analysis
from voxelvault_triage.notice import DEMONSTRATION
from voxelvault_triage.results.segmentation import MAKER
from voxelvault_triage.results.source import Source, put_identity, quietly
from voxelvault_triage.results.uids import ResultUIDs
from voxelvault_triage.results.vocabulary import Vocabulary

BURNED_IN = "NOT A MEDICAL DEVICE"
BURNED_IN_OF_DEMONSTRATIONS = f"DEMONSTRATION - {BURNED_IN}"
COLOUR = (255, 64, 64)

SMALLEST = 192
"""Shorter side of a key image, in pixels, at least."""

Picture = npt.NDArray[np.uint8]


def outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels of a (row, column) mask that touch its outside."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def drawn(
    values: npt.NDArray[Any], mask: npt.NDArray[np.bool_], window: Any, letters: Any, text: str
) -> Picture:
    """Return a slice as a picture, (row, column, 3) uint8 RGB: the mask's outline in it, the notice below.

    Parameters
    ----------
    values : ndarray
        (row, column), modality values.
    mask : ndarray
        (row, column) bool.
    window : (centre, width) or None
        None: from the values.
    letters : tuple of 4 str
        Sides of the body at the left, right, top and bottom edge.
    text : str
        The notice; names nobody.
    """
    grey = to_uint8(values, choose_window(window if window else "auto", values))
    picture = np.repeat(grey[..., None], 3, axis=2)
    picture[outline(mask)] = COLOUR
    # Small pictures are enlarged, so that what is written on them can be read.
    times = max(1, -(-SMALLEST // min(picture.shape[:2])))
    picture = picture.repeat(times, axis=0).repeat(times, axis=1)
    named = annotate(Image.fromarray(picture), letters)
    return np.concatenate([np.asarray(named, dtype=np.uint8), _strip(picture.shape[1], text)])


def _strip(width: int, text: str) -> Picture:
    """Return the notice as a strip to go below a picture, (row, column, 3) uint8."""
    font = ImageFont.load_default(max(8, width // 28))
    strip = Image.new("RGB", (width, width // 14))
    place = (width / 2, strip.height / 2)
    ImageDraw.Draw(strip).text(place, text, fill=(255, 214, 102), font=font, anchor="mm")
    return np.asarray(strip, dtype=np.uint8)


def key_image(
    analysis: Analysis, series: Series, source: Source, uids: ResultUIDs, words: Vocabulary, notice: str
) -> Dataset | None:
    """Return the key image of a flagged study; None where nothing is flagged or the source is in colour."""
    finding = analysis.finding
    if finding is None or not finding.flagged or not 0 <= finding.key_frame < len(source.places):
        return None
    values = series.frame(finding.key_frame, analysis.gated.stack)
    if values.ndim != 2:
        return None
    mask = finding.mask[finding.key_frame] if finding.mask.any() else np.zeros(values.shape, bool)
    number, frame = source.places[finding.key_frame]
    orientation = series.geometry(analysis.gated.stack).orientation
    letters = edge_letters(None if orientation is None else [float(value) for value in np.ravel(orientation)])
    text = BURNED_IN_OF_DEMONSTRATIONS if notice == DEMONSTRATION else BURNED_IN
    with quietly():
        made = _capture(drawn(values, mask, words.window, letters, text), analysis, source, uids)
        # Right edge, bottom edge; the standard's words for head and foot (PS3.3 C.7.6.1.1.1).
        made.PatientOrientation = [letters[at].replace("S", "H").replace("I", "F") for at in (1, 3)]
        made.ConversionType, made.Laterality = "WSD", ""
        made.ImageType = ["DERIVED", "SECONDARY"]
        made.BurnedInAnnotation = "YES" if source.images[number].get("BurnedInAnnotation") == "YES" else "NO"
        made.DerivationDescription = "Windowed; outline of the mask and a notice are burned in, no identity"
        made.ImageComments = notice
        made.SourceImageSequence = [_reference(source.images[number], frame)]
    put_identity(made, source.identity)
    return made


def _capture(picture: Picture, analysis: Analysis, source: Source, uids: ResultUIDs) -> Dataset:
    made = hd.sc.SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=source.images[0].StudyInstanceUID,
        series_instance_uid=uids.series("SC"),
        series_number=9003,
        sop_instance_uid=uids.instance("SC"),
        instance_number=1,
        manufacturer=MAKER,
        patient_orientation=("L", "P"),
        series_description="AI result, key image",
    )
    made.SecondaryCaptureDeviceManufacturer = MAKER
    made.SecondaryCaptureDeviceManufacturerModelName = analysis.pipeline[:64]
    made.SecondaryCaptureDeviceSoftwareVersions = analysis.version[:64]
    return made


def _reference(image: Dataset, frame: int) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    if int(image.get("NumberOfFrames") or 1) > 1:
        item.ReferencedFrameNumber = frame
    return item


__all__ = ["drawn", "key_image", "outline"]
