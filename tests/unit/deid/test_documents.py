"""Documents, models and waveforms: what stays of them, and that nothing else does."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pypdfium2
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from voxelvault.deid.classes import DOCUMENTS, Content, content_of
from voxelvault.deid.documents import put_document
from voxelvault.deid.model import Action, Option, Refused, Rewritten
from voxelvault.deid.waveforms import put_samples

EVERYTHING = frozenset([Option.CLEAN_PIXELS, Option.CLEAN_GRAPHICS])
SECRET = b"ZQXJONES4711"
TRIANGLE = [0, 0, 1, 0, 0, 0, 10, 0, 0, 0, 10, 0]


def put(
    content: Content, data: bytes, options: frozenset[Option] = EVERYTHING
) -> tuple[bytes, Rewritten, Any]:
    source = Dataset()
    source.EncapsulatedDocument = data
    rewritten = Rewritten(Dataset())
    vertices = put_document(content, source, rewritten, options, lambda page: page)
    made = rewritten.dataset.EncapsulatedDocument
    length = rewritten.dataset.EncapsulatedDocumentLength
    assert len(made) - length == length % 2
    return made[:length], rewritten, vertices


def pdf() -> bytes:
    target = io.BytesIO()
    page = Image.fromarray(np.full((200, 100, 3), 255, np.uint8))
    page.save(
        target, "PDF", save_all=True, append_images=[page], title=SECRET.decode(), author=SECRET.decode()
    )
    return target.getvalue() + b"\n% " + SECRET


def binary_stl() -> bytes:
    return SECRET.ljust(80) + struct.pack("<I", 1) + struct.pack("<12fH", *TRIANGLE, 0x4711)


WRITTEN_STL = b"""solid %b
facet normal 0 0 1
outer loop
vertex 0 0 0
vertex 10 0 0
vertex 0 10 0
endloop
endfacet
endsolid %b
""" % (SECRET, SECRET)
OBJ = b"# %b\nmtllib %b.mtl\no %b\nv 0 0 0\nv 10 0.5 0\nv 0 10 0\nvn 0 0 1\nusemtl x\nf 1//1 2//1 3//1\n" % (
    SECRET,
    SECRET,
    SECRET,
)
GIVEN = {
    Content.PDF: pdf(),
    Content.CDA: b"<x>%b</x>" % SECRET,
    Content.STL: binary_stl(),
    Content.OBJ: OBJ,
    Content.MTL: b"newmtl %b" % SECRET,
}


@pytest.mark.parametrize("options", [frozenset[Option](), EVERYTHING])
@pytest.mark.parametrize("content", sorted(DOCUMENTS))
def test_nothing_that_was_written_into_a_document_stays(content: Content, options: frozenset[Option]) -> None:
    made, _, _ = put(content, GIVEN[content], options)
    assert made
    assert SECRET not in made


@pytest.mark.parametrize("content", sorted(DOCUMENTS))
def test_without_an_option_a_document_becomes_a_dummy(content: Content) -> None:
    made, rewritten, vertices = put(content, GIVEN[content], frozenset())
    assert rewritten.counts == {Action.DUMMY: 1}
    assert made == put(content, b"", frozenset())[0]
    assert len(vertices) == 0


def test_a_dummy_pdf_opens_and_so_do_pages_that_went_along() -> None:
    dummy, kept = (put(Content.PDF, pdf(), options)[0] for options in (frozenset(), EVERYTHING))
    assert len(pypdfium2.PdfDocument(dummy)) == 1
    assert len(pypdfium2.PdfDocument(kept)) == 2
    assert put(Content.PDF, pdf())[0] == kept


@pytest.mark.parametrize("data", [binary_stl(), binary_stl() + b"\0", WRITTEN_STL])
def test_a_model_keeps_its_triangles_and_no_more(data: bytes) -> None:
    made, _, vertices = put(Content.STL, data)
    assert made[:80] == bytes(80)
    assert struct.unpack("<12fH", made[84:]) == (*TRIANGLE, 0)
    assert vertices.tolist() == [[0, 0, 0], [10, 0, 0], [0, 10, 0]]


def test_an_obj_keeps_vertices_and_faces() -> None:
    made, _, vertices = put(Content.OBJ, OBJ)
    assert made == b"v 0 0 0\nv 10 0.5 0\nv 0 10 0\nvn 0 0 1\nf 1//1 2//1 3//1\n"
    assert vertices.shape == (3, 3)


@pytest.mark.parametrize(
    ("content", "data"),
    [
        (Content.PDF, b"no PDF"),
        (Content.STL, b"no model"),
        (Content.STL, bytes(80) + struct.pack("<I", 10**9)),
        (Content.STL, bytes(80) + struct.pack("<I", 1) + struct.pack("<12fH", *[float("nan")] * 12, 0)),
        (Content.OBJ, b"v 0 0 name"),
        (Content.OBJ, b""),
    ],
)
def test_what_is_not_what_its_class_says_is_refused(content: Content, data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        put(content, data)
    assert caught.value.reason == "content_unclean"


def group(kind: str = "SS", bits: int = 16, samples: int = 3, data: bytes = bytes(range(12))) -> Dataset:
    found = Dataset()
    found.WaveformBitsAllocated, found.WaveformSampleInterpretation = bits, kind
    found.NumberOfWaveformChannels, found.NumberOfWaveformSamples = 2, samples
    found.add_new(0x54001010, "OW", data)
    return found


def waveform(one: Dataset) -> bytes:
    source, made = Dataset(), Dataset()
    source.WaveformSequence, made.WaveformSequence = [one], [Dataset()]
    put_samples(source, made)
    return bytes(made.WaveformSequence[0].WaveformData)


def test_samples_go_along_and_nothing_behind_them() -> None:
    assert waveform(group(data=bytes(range(12)) + SECRET)) == bytes(range(12))


@pytest.mark.parametrize("one", [group("MB", 8), group(samples=4), group(bits=7), Dataset()])
def test_sound_and_samples_that_the_header_does_not_account_for_are_refused(one: Dataset) -> None:
    with pytest.raises(Refused):
        waveform(one)


def test_classes_are_known_by_their_content_and_others_refused() -> None:
    known = {
        "1.1.2": Content.IMAGE,
        "1.1.88.33": Content.DATA,
        "1.1.9.1.1": Content.WAVEFORM,
        "1.1.104.1": Content.PDF,
        "1.1.481.3": Content.DATA,
        "1.1.66.4": Content.IMAGE,
    }
    for name, content in known.items():
        assert content_of(f"1.2.840.10008.5.1.4.{name}") is content
    for unknown in ("1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.1.1.9.4.1", "1.3.12.2.1107.5.9.1", ""):
        with pytest.raises(Refused, match="SOP class"):
            content_of(unknown)
