"""Areas of a sequential JPEG blanked block by block: every other coefficient stays, bit by bit.

The Huffman code is read, not the picture: a block that is touched gets a flat one in its place, and
where the DC prediction of the next block changes, its difference is written anew. So nothing is
compressed a second time.

References
----------
ITU-T T.81 A.2 (order of blocks), B.2 (segments), C (Huffman tables), F.1.2, F.2.2 (sequential coding).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from voxelvault.deid.burned_in import Box
from voxelvault.deid.stripping import jpeg_segments

_SOF0, _SOF1, _DHT, _DQT, _DRI, _SOS = 0xC0, 0xC1, 0xC4, 0xDB, 0xDD, 0xDA
_OTHER_SOF = frozenset({0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7})
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


class _Unfit(Exception):
    """The codestream can't be blanked block by block."""


@dataclass
class _Component:
    across: int
    down: int
    quantiser: int
    flat: int = 0
    dc: int = 0
    ac: int = 0


@dataclass
class _Table:
    """A Huffman table, both ways."""

    codes: dict[int, tuple[int, int]]
    """Symbol to (code, length)."""
    lookup: list[int] = field(default_factory=list)
    """The next 16 bits to symbol << 8 | length; 0 where no code begins so."""


@dataclass
class _Frame:
    """What the segments before a scan have said."""

    precision: int = 8
    rows: int = 0
    columns: int = 0
    components: dict[int, _Component] = field(default_factory=dict)
    first_quantisers: dict[int, int] = field(default_factory=dict)
    tables: dict[int, _Table] = field(default_factory=dict)
    written: dict[int, _Table] = field(default_factory=dict)
    """The same, or where a DC table is made for this picture alone, one with every category."""
    restart: int = 0


def blank_blocks(codestream: bytes, boxes: Sequence[Box], colour: str) -> bytes | None:
    """Blank areas of a baseline or extended sequential JPEG.

    Parameters
    ----------
    codestream : bytes
        One frame, without trailing bytes.
    boxes : sequence of Box
        What to blank; whole MCUs go.
    colour : str
        Colour space of the components, as `photometric_of_decoded` names it.

    Returns
    -------
    bytes or None
        None where the process is another, or its tables can't say what is needed.
    """
    frame, out = _Frame(), bytearray(b"\xff\xd8")
    try:
        for marker, segment in jpeg_segments(codestream):
            _take(frame, marker, segment, colour)
            if marker == _DHT:
                segment = _huffman(frame, segment[4:])
            out += _scan(frame, segment, boxes) if marker == _SOS else segment
        if not frame.rows:
            return None
    except (_Unfit, ValueError, IndexError, KeyError, struct.error):
        return None
    return bytes(out + b"\xff\xd9")


def _take(frame: _Frame, marker: int, segment: bytes, colour: str) -> None:
    body = segment[4:]
    if marker in _OTHER_SOF or marker == 0xCC:
        raise _Unfit
    if marker == _DQT:
        _quantisers(frame, body)
    elif marker in (_SOF0, _SOF1):
        frame.precision = body[0]
        frame.rows, frame.columns = struct.unpack_from(">HH", body, 1)
        for at in range(6, 6 + 3 * body[5], 3):
            frame.components[body[at]] = _Component(body[at + 1] >> 4, body[at + 1] & 15, body[at + 2])
    elif marker == _DRI:
        frame.restart = int.from_bytes(body[:2], "big")
    elif marker == _SOS:
        if not frame.rows:
            raise _Unfit
        _flat_values(frame, colour)


def _quantisers(frame: _Frame, body: bytes) -> None:
    at = 0
    while at < len(body):
        wide = body[at] >> 4
        frame.first_quantisers[body[at] & 15] = int.from_bytes(body[at + 1 : at + 2 + wide], "big")
        at += 1 + 64 * (1 + wide)


def _huffman(frame: _Frame, body: bytes) -> bytes:
    """Take the tables of a segment; return the segment as it is written."""
    at, out = 0, b""
    while at < len(body):
        name, counts = body[at], body[at + 1 : at + 17]
        symbols = body[at + 17 : at + 17 + sum(counts)]
        frame.tables[name] = frame.written[name] = _table(counts, symbols)
        at += 17 + sum(counts)
        categories = range(16 if frame.precision > 8 else 12)
        if name < 16 and not set(categories) <= set(symbols):
            # T.81 K.3.1, which has a code for every category of 8 bits, went on with.
            counts = bytes([0, 1, 5, *[1] * (len(categories) - 6), *[0] * (19 - len(categories))])
            symbols = bytes(categories)
            frame.written[name] = _table(counts, symbols)
        out += bytes([name]) + counts + symbols
    return b"\xff\xc4" + (len(out) + 2).to_bytes(2, "big") + out


def _table(counts: bytes, symbols: bytes) -> _Table:
    table, code, at = _Table({}, [0] * 65536), 0, 0
    for length, count in enumerate(counts, 1):
        for symbol in symbols[at : at + count]:
            table.codes[symbol] = (code, length)
            first, span = code << (16 - length), 1 << (16 - length)
            if first + span > 65536:
                raise _Unfit
            table.lookup[first : first + span] = [symbol << 8 | length] * span
            code += 1
        at += count
        code <<= 1
    return table


def _flat_values(frame: _Frame, colour: str) -> None:
    """Set each component's DC coefficient of black, beyond the range where it isn't whole: that clips."""
    middle = 1 << (frame.precision - 1)
    for index, one in enumerate(frame.components.values()):
        quantiser = max(1, frame.first_quantisers[one.quantiser])
        if index and colour.startswith("YBR"):
            one.flat = 0
        elif colour == "MONOCHROME1":
            one.flat = -(-8 * (middle - 1) // quantiser)
        else:
            one.flat = -8 * middle // quantiser


def _scan(frame: _Frame, segment: bytes, boxes: Sequence[Box]) -> bytes:
    length = int.from_bytes(segment[2:4], "big")
    head, data = segment[: 2 + length], segment[2 + length :]
    count = head[4]
    scanned = []
    for at in range(5, 5 + 2 * count, 2):
        component = frame.components[head[at]]
        component.dc, component.ac = head[at + 1] >> 4, 0x10 | head[at + 1] & 15
        scanned.append(component)
    units = _Units(frame, scanned)
    out, unit = bytearray(head), 0
    for index, interval in enumerate(_RESTART.split(data)):
        if index:
            out += bytes([0xFF, 0xD0 + (index - 1) % 8])
        last = min(units.count, unit + frame.restart) if frame.restart else units.count
        out += _interval(frame, interval.replace(b"\xff\x00", b"\xff"), units, range(unit, last), boxes)
        unit = last
    if unit != units.count:
        raise _Unfit
    return bytes(out)


class _Units:
    """The MCUs of a scan: which blocks they hold and which pixels they cover (T.81 A.2)."""

    def __init__(self, frame: _Frame, scanned: list[_Component]) -> None:
        widest = max(one.across for one in frame.components.values())
        highest = max(one.down for one in frame.components.values())
        if len(scanned) == 1:
            one = scanned[0]
            self.blocks = [one]
            self.wide, self.high = 8 * widest // one.across, 8 * highest // one.down
        else:
            self.blocks = [one for one in scanned for _ in range(one.across * one.down)]
            self.wide, self.high = 8 * widest, 8 * highest
        self.columns = -(-frame.columns // self.wide)
        self.count = self.columns * -(-frame.rows // self.high)

    def touched(self, unit: int, boxes: Sequence[Box]) -> bool:
        """Say whether a unit holds pixels of a box."""
        top, left = unit // self.columns * self.high, unit % self.columns * self.wide
        return any(
            box.top < top + self.high
            and top < box.bottom
            and box.left < left + self.wide
            and left < box.right
            for box in boxes
        )


def _interval(frame: _Frame, data: bytes, units: _Units, numbers: range, boxes: Sequence[Box]) -> bytes:
    """Write the units between two restarts; DC predictions begin at 0."""
    out = _Bits()
    before, after = {id(one): 0 for one in units.blocks}, {id(one): 0 for one in units.blocks}
    blocks = _read_blocks(frame, data, units, numbers)
    copied = end = 0  # bits up to `copied` are written
    for unit, component, start, middle, stop, difference in blocks:
        key = id(component)
        value = before[key] + difference
        if units.touched(unit, boxes):
            out.copy(data, copied, start)
            _write_dc(out, frame.written[component.dc], component.flat - after[key])
            out.put(*frame.tables[component.ac].codes[0])
            after[key], copied = component.flat, stop
        elif before[key] != after[key] or frame.written[component.dc] is not frame.tables[component.dc]:
            out.copy(data, copied, start)
            _write_dc(out, frame.written[component.dc], value - after[key])
            after[key], copied = value, middle
        else:
            after[key] = value
        before[key] = value
        end = stop
    out.copy(data, copied, end)
    return out.stuffed()


def _read_blocks(
    frame: _Frame, data: bytes, units: _Units, numbers: range
) -> Iterator[tuple[int, _Component, int, int, int, int]]:
    """Yield unit, component, bits where the block, its AC part and the next block begin, DC difference."""
    size, at = 8 * len(data), 0
    padded = data + bytes(8)
    for unit in numbers:
        for component in units.blocks:
            start = at
            entry = frame.tables[component.dc].lookup[_next16(padded, at)]
            category, at = entry >> 8, at + (entry & 255)
            if not entry or category > 15:
                raise _Unfit
            difference = _extended(padded, at, category)
            middle = at = at + category
            at = _skip_ac(frame.tables[component.ac].lookup, padded, at, size)
            yield unit, component, start, middle, at, difference


def _next16(data: bytes, at: int) -> int:
    byte = at >> 3
    return (data[byte] << 16 | data[byte + 1] << 8 | data[byte + 2]) >> (8 - (at & 7)) & 0xFFFF


def _extended(data: bytes, at: int, category: int) -> int:
    if not category:
        return 0
    bits = _next16(data, at) >> (16 - category)
    return bits if bits >> (category - 1) else bits - (1 << category) + 1


def _skip_ac(lookup: list[int], data: bytes, at: int, size: int) -> int:
    """Return where a block ends."""
    position = 1
    while position < 64:
        byte = at >> 3
        entry = lookup[(data[byte] << 16 | data[byte + 1] << 8 | data[byte + 2]) >> (8 - (at & 7)) & 0xFFFF]
        run, category = entry >> 12, entry >> 8 & 15
        at += (entry & 255) + category
        if not entry or at > size:
            raise _Unfit
        if category:
            position += run + 1
        elif run == 15:
            position += 16
        else:
            break
    return at


def _write_dc(out: _Bits, table: _Table, difference: int) -> None:
    category = abs(difference).bit_length()
    out.put(*table.codes[category])
    out.put(difference if difference > 0 else difference + (1 << category) - 1, category)


class _Bits:
    """Bits written in order."""

    def __init__(self) -> None:
        self._out, self._held, self._count = bytearray(), 0, 0

    def put(self, value: int, count: int) -> None:
        """Append the lowest `count` bits."""
        self._held = self._held << count | value
        self._count += count
        if self._count > 4096:
            rest = self._count % 8
            self._out += (self._held >> rest).to_bytes(self._count // 8, "big")
            self._held, self._count = self._held & ((1 << rest) - 1), rest

    def copy(self, data: bytes, start: int, stop: int) -> None:
        """Append bits of other data."""
        while start < stop:
            end = min(stop, start + 4096)
            part = int.from_bytes(data[start >> 3 : (end + 7) >> 3], "big") >> (-end % 8)
            self.put(part & ((1 << (end - start)) - 1), end - start)
            start = end

    def stuffed(self) -> bytes:
        """Return it all, filled up with ones, a zero byte behind each byte of ones."""
        fill = -self._count % 8
        self.put((1 << fill) - 1, fill)
        rest = self._held.to_bytes((self._count + 7) // 8, "big") if self._count else b""
        return bytes(self._out + rest).replace(b"\xff", b"\xff\x00")


__all__ = ["blank_blocks"]
