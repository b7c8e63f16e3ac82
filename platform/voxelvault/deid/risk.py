"""Which pixels are searched for burned-in text, and where in them text is expected.

References
----------
DICOM PS3.3 C.7.6.1.1.2 (ImageType), C.7.6.1 (BurnedInAnnotation), C.8.5.5 (US regions).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from voxelvault.deid.burned_in import Box
from voxelvault.dicom.read import Header

_STORAGE = "1.2.840.10008.5.1.4.1.1."


def _classes(names: str) -> frozenset[str]:
    return frozenset(_STORAGE + name for name in names.split())


_SLICES = _classes("2 2.1 2.2 4 4.1 4.4 128 128.1 130")
"""CT, MR and PET: made by machines that burn nothing in, as long as they show a place in the patient."""
_COUNTS = _classes("20")
"""Nuclear medicine: the same, but its projections have no place."""
_NUMBERS = _classes("30 66.4 66.7 66.8 481.2")
"""Parametric maps, segmentations, height maps, dose: nothing that anybody draws on."""
_TILES = _STORAGE + "77.1.6"
_PLACES = (
    "ImagePositionPatient",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_SUSPICIOUS = re.compile(
    "SCREEN|SAVE|CAPTURE|DOSE|REPORT|LABEL|OVERVIEW|THUMBNAIL|PHOTO|RESULT"
    "|(?<![A-Z])(PROT(?![A-Z])|PROTOCOL|TABLE|GRAPH|TEXT(?![A-Z]))"
)
_PAGE = re.compile(
    r"(PATIENT|SCAN|EXAM)[ _]?PROTOCOL|DOSE[ _]?(REPORT|INFO|SUMMARY|RECORD|PAGE|SHEET)"
    r"|SCREEN[ _]?(SAVE|SHOT|CAPTURE)|(PATIENT|EXAM)[ _]?SUMMARY"
)
"""What scanners call the series of a page that they print like an image."""
_CONVERTED = frozenset("DV DI DF SD SI DRW".split())
"""ConversionType of what was filmed, scanned, drawn or taken off a screen."""


def may_hold_text(header: Header) -> bool:
    """Say whether text may be burned into an object's pixels.

    Parameters
    ----------
    header : Header
        Of an image.

    Returns
    -------
    bool
        False only for grey images of more than 8 bits of the sectional classes that lie somewhere in a
        body, for numbers and for tiles of slides, as long as nothing in the header speaks against it.
    """
    kinds = [str(kind).upper() for kind in header.values("ImageType")]
    if _speaks_of_text(header, kinds):
        return True
    sop_class = str(header.get("SOPClassUID") or "")
    if sop_class in _NUMBERS or (sop_class == _TILES and "VOLUME" in kinds):
        return False
    placed = sop_class in _SLICES and any(header.get(place) is not None for place in _PLACES)
    grey = str(header.get("PhotometricInterpretation") or "").startswith("MONOCHROME")
    deep = header.get("BitsAllocated") != 8
    return not ((placed or sop_class in _COUNTS) and grey and deep)


def _speaks_of_text(header: Header, kinds: Sequence[str]) -> bool:
    burned = str(header.get("BurnedInAnnotation") or "").strip().upper() == "YES"
    converted = str(header.get("ConversionType") or "").strip().upper() in _CONVERTED
    page = _PAGE.search(str(header.get("SeriesDescription") or "").upper())
    return burned or converted or bool(page) or any(_SUSPICIOUS.search(kind) for kind in kinds)


def outside_regions(header: Header, rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """Return where an ultrasound frame shows no echoes, by its own regions.

    Parameters
    ----------
    header : Header
        Of the image.
    rows, columns : int
        Size of a frame in pixels.

    Returns
    -------
    numpy.ndarray or None
        (row, column) bool; None where the header has no regions, or they make no sense.
    """
    outside = np.ones((rows, columns), bool)
    try:
        for region in header.items_of("SequenceOfUltrasoundRegions"):
            top, left, bottom, right = (int(region.get(f"RegionLocation{edge}")) for edge in _EDGES)
            outside[max(0, top) : bottom + 1, max(0, left) : right + 1] = False
    except (TypeError, ValueError):
        return None
    return outside if not outside.all() else None


_EDGES = ("MinY0", "MinX0", "MaxY1", "MaxX1")


def known_banners(header: Header, rows: int, columns: int) -> list[Box]:
    """Return the areas where a device of the catalogue writes who the patient is.

    Parameters
    ----------
    header : Header
        Of the image.
    rows, columns : int
        Size of a frame in pixels; the catalogue knows layouts by it.

    Returns
    -------
    list of Box
        Empty for devices that aren't in the catalogue.
    """
    maker, model = (str(header.get(key) or "") for key in ("Manufacturer", "ManufacturerModelName"))
    return [
        Box(*box)
        for device in _catalogue()
        if (device["rows"], device["columns"]) == (rows, columns)
        and re.fullmatch(device["manufacturer"], maker, re.IGNORECASE)
        and re.fullmatch(device["model"], model, re.IGNORECASE)
        for box in device["banners"]
    ]


@cache
def _catalogue() -> Sequence[dict[str, Any]]:
    text = (files("voxelvault.deid") / "rules" / "devices.toml").read_text("utf-8")
    devices: list[dict[str, Any]] = tomllib.loads(text)["device"]
    return devices


__all__ = ["known_banners", "may_hold_text", "outside_regions"]
