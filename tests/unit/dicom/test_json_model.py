"""Headers that share what they have in common are the headers that they would be alone."""

from __future__ import annotations

import pytest

from voxelvault.dicom import json_model as module
from voxelvault.dicom.json_model import Repeated, json_model, measured_model
from voxelvault.dicom.part10 import parse
from voxelvault.testing.synthetic_series import ct_series


def test_a_series_shares_its_elements() -> None:
    parts = [parse(data) for data in ct_series(4, 8, 8)]
    repeated = Repeated()
    found = [measured_model(part10, repeated)[0] for part10 in parts]
    assert found == [json_model(part10) for part10 in parts]
    assert found[0]["00080060"] is found[3]["00080060"]
    assert found[0]["00080018"] != found[3]["00080018"]


def test_the_character_set_and_the_vr_tell_equal_bytes_apart() -> None:
    def file(charset: bytes, tag: bytes, vr: bytes) -> bytes:
        named = b"\x08\x00\x05\x00CS" + len(charset).to_bytes(2, "little") + charset
        return bytes(128) + b"DICM" + named + tag + vr + (4).to_bytes(2, "little") + b"\xc3\xa4a "

    name, text = b"\x10\x00\x10\x00", b"\x10\x00\x00\x40"
    parts = [
        parse(file(charset, tag, vr))
        for charset in (b"ISO_IR 100", b"ISO_IR 192")
        for tag, vr in ((name, b"PN"), (text, b"LT"), (text, b"LO"))
    ]
    repeated = Repeated()
    for _ in range(2):
        assert [measured_model(part, repeated)[0] for part in parts] == [json_model(part) for part in parts]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPEATED_MOST", 8)
    repeated = Repeated()
    for data in ct_series(3, 8, 8):
        part10 = parse(data)
        assert measured_model(part10, repeated)[0] == json_model(part10)
        assert len(repeated.elements) <= 8
        assert len(repeated.keys) <= 8
