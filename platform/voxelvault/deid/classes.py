"""Which objects a release may hold, by what their content is; what nobody can clean is refused.

The walk over the elements (`apply`) cleans reports, presentation states, plans and measurements: all
they hold is elements. Pixels, documents, models and waveforms are bytes, and have a handler each.

References
----------
DICOM PS3.3 A (information object definitions), PS3.6 A (UIDs).
"""

from __future__ import annotations

import csv
from enum import StrEnum
from functools import cache
from importlib.resources import files

from voxelvault.deid.model import Refused

_STORAGE = "1.2.840.10008.5.1.4."


class Content(StrEnum):
    """What an object holds beside its elements."""

    IMAGE = "image"
    DATA = "data"
    WAVEFORM = "waveform"
    PDF = "pdf"
    CDA = "cda"
    STL = "stl"
    OBJ = "obj"
    MTL = "mtl"


DOCUMENTS = frozenset([Content.PDF, Content.CDA, Content.STL, Content.OBJ, Content.MTL])


def content_of(sop_class: str) -> Content:
    """Return what objects of a SOP class hold.

    Parameters
    ----------
    sop_class : str
        UID.

    Raises
    ------
    Refused
        No handler knows the class: raw data, sound, private classes, and what isn't a patient's.
    """
    found = _known().get(sop_class)
    if found is None:
        raise Refused("class_unknown")
    return found


@cache
def _known() -> dict[str, Content]:
    text = (files("voxelvault.deid") / "rules" / "classes.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {_STORAGE + row["class"]: Content(row["kind"]) for row in rows}


__all__ = ["DOCUMENTS", "Content", "content_of"]
