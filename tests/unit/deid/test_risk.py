"""Which pixels are searched, and where text is expected in them."""

from __future__ import annotations

from typing import Any

import pytest

from voxelvault.deid.burned_in import Box
from voxelvault.deid.risk import known_banners, may_hold_text, outside_regions
from voxelvault.dicom.read import Header

CLASSES = "1.2.840.10008.5.1.4.1.1."


def _header(sop_class: str = "2", **more: Any) -> Header:
    values = {
        "00080016": CLASSES + sop_class,
        "00280004": more.pop("photometric", "MONOCHROME2"),
        "00280100": more.pop("bits", 16),
        "00080060": more.pop("modality", "CT"),
        "00280301": more.pop("burned", None),
        "00080070": more.pop("maker", None),
        "00081090": more.pop("model", None),
        "0008103E": more.pop("series", None),
        "00080064": more.pop("conversion", None),
        "00200032": more.pop("place", -100.0),
    }
    model: dict[str, Any] = {
        tag: {"vr": "CS", "Value": [value]} for tag, value in values.items() if value is not None
    }
    if "kinds" in more:
        model["00080008"] = {"vr": "CS", "Value": more["kinds"]}
    if "regions" in more:
        tags = ("0018601A", "00186018", "0018601E", "0018601C")
        items = [
            {tag: {"vr": "UL", "Value": [edge]} for tag, edge in zip(tags, region, strict=True)}
            for region in more["regions"]
        ]
        model["00186011"] = {"vr": "SQ", "Value": items}
    return Header(model)


@pytest.mark.parametrize(
    "header",
    [
        _header("6.1", modality="US", bits=8),
        _header("7", modality="OT", bits=8),
        _header("1.1", modality="DX"),
        _header("1.2", modality="MG"),
        _header("12.1", modality="XA"),
        _header("77.1.1", modality="ES", bits=8, photometric="RGB"),
        _header(burned="YES"),
        _header(bits=8),
        _header(photometric="RGB"),
        _header(kinds=["DERIVED", "SECONDARY", "SCREEN SAVE"]),
        _header(kinds=["DERIVED", "SECONDARY", "DOSE_INFO"]),
        _header("77.1.6", modality="SM", bits=8, kinds=["ORIGINAL", "PRIMARY", "LABEL"]),
        _header("77.1.6", modality="SM", bits=8, photometric="RGB", kinds=["DERIVED", "PRIMARY"]),
        _header("9999.1", modality="XX"),
        _header("7", modality="SEG", bits=8),
        _header("6.1", modality="REG", bits=8),
        _header("7.3", modality="RTDOSE"),
        _header(place=None),
        _header("4", modality="MR", place=None),
        _header(kinds=["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]),
        _header(series="Patient Protocol"),
        _header(series="Dose Report"),
        _header(conversion="DF"),
        Header({}),
    ],
)
def test_whatever_may_hold_text_is_searched(header: Header) -> None:
    assert may_hold_text(header)


@pytest.mark.parametrize(
    "header",
    [
        _header(),
        _header(kinds=["ORIGINAL", "PRIMARY", "AXIAL"]),
        _header("4", modality="MR", kinds=["DERIVED", "PRIMARY", "ADC"]),
        _header("4", modality="MR", kinds=["DERIVED", "SECONDARY", "TEXTURE", "ANGIOGRAPHY"]),
        _header(series="CT LOW DOSE CHEST"),
        _header("20", modality="NM", place=None),
        _header("128", modality="PT"),
        _header("481.2", modality="RTDOSE", bits=32),
        _header("66.4", modality="SEG", bits=1),
        _header("77.1.6", modality="SM", bits=8, photometric="RGB", kinds=["DERIVED", "PRIMARY", "VOLUME"]),
    ],
)
def test_what_a_scanner_measured_is_not(header: Header) -> None:
    assert not may_hold_text(header)


def test_outside_of_ultrasound_regions() -> None:
    outside = outside_regions(_header("6.1", regions=[(60, 0, 79, 49), (80, 10, 89, 19)]), 100, 50)
    assert outside is not None
    assert outside[:60].all()
    assert not outside[60:80].any()
    assert outside[85, 5]
    assert not outside[85, 15]
    assert outside_regions(_header("6.1"), 100, 50) is None
    assert outside_regions(_header("6.1", regions=[(300, 300, 400, 400)]), 100, 50) is None


def test_banners_of_known_devices_by_their_layout() -> None:
    known = _header("6.1", maker="Philips Medical Systems", model="CX50")
    assert known_banners(known, 600, 800) == [Box(0, 0, 60, 800)]
    assert known_banners(known, 601, 800) == []
    assert known_banners(_header("6.1", maker="Philips", model="CX500"), 600, 800) == []
