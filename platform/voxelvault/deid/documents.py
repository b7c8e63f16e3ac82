"""Encapsulated documents: a dummy of the same kind, as the table says; or what an option keeps.

With the option for pixels the pages of a PDF go along as pictures, cleaned like any other; with the
one for graphics a model keeps its geometry, as numbers written anew. A clinical document (CDA) and a
material library are text throughout, and always become a dummy.

References
----------
DICOM PS3.3 C.24 (encapsulated document), PS3.15 Table E.1-1 (0042,0011).
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from voxelvault.deid.classes import Content
from voxelvault.deid.model import Action, Option, Refused, Rewritten
from voxelvault.deid.needed import pdfium

Picture = npt.NDArray[np.uint8]

MOST_PAGES, MOST_PIXELS = 200, 40_000_000
"""A document with more pages, or a page with more pixels, is refused: it would cost hours."""

DOTS = 150
"""Pixels per inch of a page that goes along."""

_DOCUMENT, _LENGTH = 0x00420011, 0x00420015
_CDA = b"""<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3"><title>removed</title></ClinicalDocument>
"""


def put_document(
    content: Content,
    source: Dataset,
    rewritten: Rewritten,
    options: frozenset[Option],
    clean_page: Callable[[Picture], Picture],
) -> npt.NDArray[np.float64]:
    """Put a document into the rewritten data set.

    Parameters
    ----------
    content : Content
        One of `classes.DOCUMENTS`.
    source : Dataset
        The object as it came.
    rewritten : Rewritten
        Gets the document, and the count of what was done.
    options : frozenset of Option
        In force.
    clean_page : callable
        Takes and returns a page (row, column, 3) uint8 with its text blanked.

    Returns
    -------
    ndarray
        (vertex, 3) mm: a model's geometry, to be held against the face; empty for anything else.

    Raises
    ------
    Refused
        The document is not what its class says.
    """
    element = source.get(_DOCUMENT)
    data = bytes(element.value or b"") if element is not None else b""
    vertices = np.empty((0, 3))
    action = Action.CLEAN
    if content is Content.PDF and Option.CLEAN_PIXELS in options:
        made = _pages(data, clean_page)
    elif content is Content.STL and Option.CLEAN_GRAPHICS in options:
        made, vertices = _triangles(data)
    elif content is Content.OBJ and Option.CLEAN_GRAPHICS in options:
        made, vertices = _geometry(data)
    else:
        made, action = _dummy(content), Action.DUMMY
    rewritten.counts[action] += 1
    rewritten.dataset.add_new(_DOCUMENT, "OB", made + bytes(len(made) % 2))
    rewritten.dataset.add_new(_LENGTH, "UL", len(made))
    return vertices


def _dummy(content: Content) -> bytes:
    if content is Content.PDF:
        return _pdf([np.full((110, 85, 3), 255, np.uint8)], 10)
    dummies = {
        Content.CDA: _CDA,
        Content.STL: bytes(84),
        Content.OBJ: b"# removed\n",
        Content.MTL: b"# removed\n",
    }
    return dummies[content]


def _pages(data: bytes, clean_page: Callable[[Picture], Picture]) -> bytes:
    """Return a PDF of pictures of a PDF's pages, each cleaned."""
    return _pdf([clean_page(page) for page in _pictures(data)], DOTS)


def _pictures(data: bytes) -> Iterator[Picture]:
    library = pdfium()
    try:
        document = library.PdfDocument(data)
        if not 0 < len(document) <= MOST_PAGES:
            raise Refused("content_unclean")
        for page in document:
            width, height = page.get_size()
            if width * height * (DOTS / 72) ** 2 > MOST_PIXELS:
                raise Refused("content_unclean")
            bitmap = page.render(scale=DOTS / 72, rev_byteorder=True)
            yield np.ascontiguousarray(bitmap.to_numpy()[..., :3])
    except library.PdfiumError:
        raise Refused("content_unclean") from None


def _pdf(pages: list[Picture], dots: int) -> bytes:
    from time import gmtime

    from PIL import Image

    pictures = [Image.fromarray(page) for page in pages]
    # One time for all, and no title: a PDF tells of its making.
    fixed: dict[str, Any] = {name: gmtime(0) for name in ("creationDate", "modDate")}
    target = io.BytesIO()
    pictures[0].save(
        target, "PDF", save_all=True, append_images=pictures[1:], resolution=dots, title="", **fixed
    )
    return target.getvalue()


def _triangles(data: bytes) -> tuple[bytes, npt.NDArray[np.float64]]:
    """Return a binary STL with the same triangles, and nothing in its header and attributes."""
    if len(data) >= 84 and len(data) - 84 in (50 * _count(data), 50 * _count(data) + 1):
        kind = np.dtype([("numbers", "<f4", 12), ("attribute", "<u2")])
        found = np.frombuffer(data, kind, _count(data), 84)["numbers"]
    else:
        found = _written_triangles(data)
    if not np.isfinite(found).all():
        raise Refused("content_unclean")
    made = np.zeros(len(found), np.dtype([("numbers", "<f4", 12), ("attribute", "<u2")]))
    made["numbers"] = found
    header = bytes(80) + struct.pack("<I", len(made))
    return header + made.tobytes(), found[:, 3:].reshape(-1, 3).astype(np.float64)


def _count(data: bytes) -> int:
    return int(struct.unpack_from("<I", data, 80)[0])


_NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_FACET = re.compile(
    rb"facet\s+normal\s+(N)\s+(N)\s+(N)\s+outer\s+loop\s+"
    rb"vertex\s+(N)\s+(N)\s+(N)\s+vertex\s+(N)\s+(N)\s+(N)\s+vertex\s+(N)\s+(N)\s+(N)\s+"
    rb"endloop\s+endfacet".replace(b"N", _NUMBER)
)


def _written_triangles(data: bytes) -> npt.NDArray[np.float32]:
    found = [[float(number) for number in numbers] for numbers in _FACET.findall(data)]
    if not found or not data.lstrip().startswith(b"solid"):
        raise Refused("content_unclean")
    return np.array(found, np.float32)


_KEPT_LINES = {b"v": 3, b"vn": 3, b"vt": 1}
"""Lines of numbers, with the least of them."""

_CORNER = re.compile(rb"-?\d+(?:/(?:-?\d+)?(?:/-?\d+)?)?")


def _geometry(data: bytes) -> tuple[bytes, npt.NDArray[np.float64]]:
    """Return an OBJ with vertices and faces alone, each number written anew."""
    made: list[bytes] = []
    vertices: list[list[float]] = []
    for line in data.splitlines():
        word, *rest = line.split() or [b""]
        if word in _KEPT_LINES:
            numbers = _numbers(rest, _KEPT_LINES[word])
            made.append(word + b" " + b" ".join(f"{number:.7g}".encode() for number in numbers))
            vertices += [numbers[:3]] if word == b"v" else []
        elif word in (b"f", b"l", b"p") and rest and all(map(_CORNER.fullmatch, rest)):
            made.append(b" ".join([word, *rest]))
    if not vertices:
        raise Refused("content_unclean")
    return b"\n".join(made) + b"\n", np.array(vertices)


def _numbers(words: list[bytes], least: int) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise Refused("content_unclean") from None
    if len(numbers) < least or not all(map(math.isfinite, numbers)):
        raise Refused("content_unclean")
    return numbers


__all__ = ["put_document"]
