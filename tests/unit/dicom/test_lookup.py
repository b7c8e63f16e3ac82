"""Palettes and modality tables, from heads of files in both byte orders."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from voxelvault.dicom.lookup import Table, modality_table, palette_table
from voxelvault.errors import DecodeError
from voxelvault.testing.synthetic import BIG_ENDIAN, EXPLICIT, header, to_bytes

RAMP = np.arange(256, dtype=np.uint16) * 250 + 7


def palette(
    entries: dict[str, np.ndarray], first: int = 0, bits: int = 16, syntax: str = EXPLICIT, **more: object
) -> bytes:
    made = header(transfer_syntax=syntax, attributes={"PixelRepresentation": 0, **more})
    for name, values in entries.items():
        wire = values.astype(values.dtype.newbyteorder(">")) if syntax == BIG_ENDIAN else values
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [len(values) % (1 << 16), first, bits])
        setattr(made, f"{name}PaletteColorLookupTableData", wire.tobytes())
        made[f"{name}PaletteColorLookupTableData"].VR = "OW"
    return to_bytes(made)


COLOURS = {"Red": RAMP, "Green": RAMP[::-1], "Blue": RAMP // 2}
EXPECTED = np.stack([RAMP >> 8, RAMP[::-1] >> 8, (RAMP // 2) >> 8], axis=-1)


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
def test_sixteen_bit_colours_in_either_byte_order(syntax: str) -> None:
    table = palette_table(palette(COLOURS, syntax=syntax))
    np.testing.assert_array_equal(table.entries, EXPECTED)
    assert table.entries.dtype == np.uint8


def test_dark_pixels_of_a_wide_palette_stay_dark() -> None:
    """Scaling belongs to the table: a frame that only uses its darkest entries is scaled alike."""
    table = palette_table(palette(COLOURS))
    np.testing.assert_array_equal(table.apply(np.array([[0, 1]]))[0, :, 0], [0, 1])


def test_eight_bit_colours_in_sixteen_bit_entries() -> None:
    small = {name: values >> 8 for name, values in COLOURS.items()}
    np.testing.assert_array_equal(palette_table(palette(small)).entries, EXPECTED)


def test_eight_bit_entries() -> None:
    small = {name: (values >> 8).astype(np.uint8) for name, values in COLOURS.items()}
    np.testing.assert_array_equal(palette_table(palette(small, bits=8)).entries, EXPECTED)


def test_values_beyond_the_ends_get_the_end_entries() -> None:
    table = palette_table(palette(COLOURS, first=10))
    np.testing.assert_array_equal(table.apply(np.array([0, 10, 265, 266])), EXPECTED[[0, 0, 255, 255]])


def test_more_entries_than_an_eight_bit_index() -> None:
    many = {name: (np.arange(1000) // 4).astype(np.uint8) for name in COLOURS}
    table = palette_table(palette(many, bits=8))
    assert table.apply(np.array([999], np.uint16)).tolist() == [[249, 249, 249]]


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("vr", ["US", "OW"])
def test_modality_table(syntax: str, vr: str) -> None:
    made, item = header(transfer_syntax=syntax, attributes={"PixelRepresentation": 0}), Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [256, 3, 16], "OD"
    wire = RAMP.astype(">u2" if syntax == BIG_ENDIAN else "<u2")
    item.add_new(0x00283006, vr, wire.tobytes() if vr == "OW" else [int(v) for v in RAMP])
    made.ModalityLUTSequence = Sequence([item])
    table = modality_table(to_bytes(made))
    np.testing.assert_array_equal(table.apply(np.array([0, 3, 4, 999])), [7, 7, 257, RAMP[-1]])


@pytest.mark.parametrize("read", [palette_table, modality_table])
def test_a_header_without_one(read: type[Table]) -> None:
    with pytest.raises(DecodeError, match="not usable"):
        read(to_bytes(header()))


def test_a_table_that_is_too_short() -> None:
    with pytest.raises(DecodeError, match="palette is not usable"):
        palette_table(palette({**COLOURS, "Green": RAMP[:20].astype(np.uint8)}))


def segmented(red: bytes, count: int, bits: int, syntax: str = EXPLICIT) -> bytes:
    made = header(transfer_syntax=syntax, attributes={"PixelRepresentation": 0})
    for name in COLOURS:
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [count % (1 << 16), 0, bits])
        made.add_new(f"Segmented{name}PaletteColorLookupTableData", "OW", red)
    return to_bytes(made)


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("bits", [8, 16])
def test_segments_discrete_linear_and_copied(syntax: str, bits: int) -> None:
    order = ">" if syntax == BIG_ENDIAN else "<"
    code = "B" if bits == 8 else "H"
    red = struct.pack(f"{order}9{code}", 0, 2, 10, 20, 1, 4, 60, 2, 2) + struct.pack(f"{order}2H", 0, 0)
    table = palette_table(segmented(red + b"\0" * (len(red) % 2), 12, bits, syntax))
    assert table.entries[:, 0].tolist() == [10, 20, 30, 40, 50, 60, 10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize(
    "codes",
    [
        [0, 1, 5, 2, 9, 3, 0],  # copies itself
        [0, 1, 5, 2, 1, 0xFFFF, 0xFFFF],  # copies what lies outside
        [0, 0] * 20 + [2, 0xFFFF, 0, 0],  # copies nothing, 65,535 times
        [1, 5, 9],  # a line that begins nowhere
        [1, 0, 9],
        [7, 1, 1],
        [0, 3, 1],
    ],
)
def test_segments_that_make_no_sense(codes: list[int]) -> None:
    with pytest.raises(DecodeError, match="not usable"):
        palette_table(segmented(struct.pack(f"<{len(codes)}H", *codes), 1 << 16, 16))


def test_a_table_whose_other_colours_are_missing() -> None:
    whole = palette(COLOURS)
    with pytest.raises(DecodeError, match="palette is not usable"):
        palette_table(whole.replace(b"\x28\x00\x03\x12", b"\x28\x00\x04\x12"))


@pytest.mark.parametrize("vr", ["CQ", "SS"])
def test_another_element_of_the_header_is_none_of_its_business(vr: str) -> None:
    """pydicom refused the whole header for a character set of an unknown VR, or with a NUL in it."""
    odd = palette(COLOURS, SpecificCharacterSet="ISO_IR 100").replace(
        b"\x05\x00CS", b"\x05\x00" + vr.encode()
    )
    np.testing.assert_array_equal(palette_table(odd).entries, EXPECTED)
    np.testing.assert_array_equal(palette_table(odd.replace(b"IR 100", b"IR \0\1\2")).entries, EXPECTED)
