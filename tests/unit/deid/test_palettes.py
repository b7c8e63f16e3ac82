"""Tables are cut to their descriptors and spell nothing."""

from __future__ import annotations

from struct import pack

import numpy as np
import pytest

from deid_support import image, rewritten
from voxelvault.deid.palettes import cut, spells


def test_what_stands_behind_the_last_entry_goes() -> None:
    table = np.arange(256, dtype="<u2").tobytes()
    assert cut(table + b"hidden", pack("<3H", 256, 0, 16)) == table
    assert cut(bytes(range(256)) + b"hidden", pack("<3H", 256, 0, 8)) is not None
    assert cut(bytes(range(256)), pack("<3H", 256, 0, 8)) == bytes(range(256))
    assert cut(table, b"") is None


@pytest.mark.parametrize("step", [257, -257, 256, 1])
def test_ramps_spell_nothing(step: int) -> None:
    ramp = (np.arange(256) * step % 65536).astype("<u2").tobytes()
    assert not spells(ramp)
    assert spells(ramp[:100] + b"SMITH^JOHN^1950" + ramp[100:])


def test_a_palette_that_spells_goes() -> None:
    source = image()
    source.RedPaletteColorLookupTableDescriptor = [256, 0, 16]
    ramp = (np.arange(256) * 257).astype("<u2").tobytes()
    source.RedPaletteColorLookupTableData = ramp
    source.add_new(0x00281202, "OW", ramp)
    out = rewritten(source).dataset
    assert out.RedPaletteColorLookupTableData == ramp
    assert "GreenPaletteColorLookupTableData" not in out
    source.RedPaletteColorLookupTableData = b"SMITH^JOHN^1950 " + ramp[16:]
    assert "RedPaletteColorLookupTableData" not in rewritten(source).dataset


def test_a_small_table_of_nothing_but_letters_spells() -> None:
    assert spells(b"SMITH^JO")
    assert not spells(b"SMITH\0JO" + bytes(8))
    assert not spells(b"aabbccdd")


def test_a_descriptor_may_be_signed() -> None:
    source = image()
    source.PixelRepresentation = 1
    source.add_new(0x00283002, "SS", [16, -2048, 16])
    source.add_new(0x00283006, "OW", bytes(32) + b"hidden")
    assert rewritten(source).dataset[0x00283006].value == bytes(32)
