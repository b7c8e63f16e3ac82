"""What comes is read once by both parsers, and refused without a word of it where one of them fails."""

from __future__ import annotations

import traceback
from io import BytesIO

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from deid_support import image, rewritten
from voxelvault.deid.instance import deidentify
from voxelvault.deid.model import Refused
from voxelvault.deid.source import Source, read_source


def file_of(dataset: Dataset) -> bytes:
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_texts_at_the_root_are_read_in_their_character_set() -> None:
    dataset = image()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientID = "Mühle"
    source = read_source(file_of(dataset))
    assert source.text(0x00100020) == source.header.get("PatientID") == "Mühle"
    assert source.text(0x00100010) == ""


def test_what_pydicom_trips_over_is_refused_and_not_quoted() -> None:
    data = file_of(image())
    broken = data.replace(b"\x02\0\x10\0UI", b"\x02\0\x10\0FD")
    with pytest.raises(Refused) as caught:
        read_source(broken)
    assert caught.value.reason == "data_set_malformed"
    assert "1.2.840" not in "".join(traceback.format_exception(caught.value))


def test_a_sequence_that_is_none_is_removed() -> None:
    root = image()
    tag = Tag(0x00409096)
    made = Dataset({**dict(root.items()), tag: RawDataElement(tag, "SQ", 3, b"\xfe\xff\0", 0, False, True)})
    made.file_meta = root.file_meta
    assert tag not in rewritten(made).dataset


def test_whatever_goes_wrong_with_a_file_refuses_that_file_alone() -> None:
    read = read_source(file_of(image()))
    source = Source(read.data, read.part10, None)  # type: ignore[arg-type]
    with pytest.raises(Refused) as caught:
        deidentify(source, None, None, None, None)  # type: ignore[arg-type]
    assert caught.value.reason == "data_set_malformed"
    assert caught.value.__suppress_context__
