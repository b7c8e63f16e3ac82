"""One stored instance as a DICOM file of the transfer syntax that is asked for.

Where a frame is stored as lossless HTJ2K and nothing but values lies in its words, the chunk itself
is served, never decoded; the header is rewritten to agree with it. Everything else is decoded and,
for HTJ2K, coded anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom import native
from voxelvault.dicom.decode import photometric_of_decoded
from voxelvault.dicom.elements import Dataset, ElementReader
from voxelvault.dicom.part10 import Part10, parse
from voxelvault.dicom.read import Header
from voxelvault.dicom.served_header import (
    EXPLICIT_LITTLE,
    GRID_OFFSETS,
    HTJ2K_LOSSLESS,
    PER_FRAME,
    VECTORS,
    Cells,
    coded_spec,
    extraction_changes,
    lossy_changes,
    nth_value,
    overlay_changes,
    spec_changes,
)
from voxelvault.dicom.write import (
    Change,
    Encoder,
    dataset_bytes,
    encapsulated_pixels,
    file_head,
    native_pixels,
    sequence,
)
from voxelvault.errors import IntegrityError, MalformedDicom, NoPixels, UsageError
from voxelvault.model import Buffer, FrameSpec
from voxelvault.storage.codecs import DICOM_FRAME, codec_for, htj2k_codestream
from voxelvault.storage.pack import InstanceRecord
from voxelvault.storage.pack_reader import PackReader

Array = npt.NDArray[Any]
Changes = dict[int, Change | bytes | None]

_LEFT_OUT = frozenset([0x4FFE0001, 0xFFFAFFFA, 0xFFFCFFFC])
"""Signatures, which no longer hold once a header is rewritten, and padding."""

_UNDEFINED = 0xFFFFFFFF
_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
_ONE_SAMPLE = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")


class ServedInstance:
    """One instance, served from its pack.

    Parameters
    ----------
    reader : PackReader
        Of its pack.
    record : InstanceRecord
        How it is stored.
    """

    def __init__(self, reader: PackReader, record: InstanceRecord) -> None:
        self._reader, self._record = reader, record
        self._key = reader.manifest.stacks[record.stack].key if record.count else None

    @cached_property
    def _parts(self) -> tuple[Part10, Dataset, bytes]:
        """The parsed file up to its pixels, and elements behind them with the bytes they lie in."""
        record = self._record
        if record.original is not None:
            return parse(b"".join(bytes(part) for part in self._reader.original(record))), {}, b""
        literals = b"".join(self._reader.literals(record))
        head = literals[: record.pieces[0]]
        tail = literals[len(literals) - record.pieces[-1] :] if len(record.pieces) > 1 else b""
        part10 = parse(head)
        return part10, _behind(part10, head, tail, sum(record.pieces[1::2])), tail

    @cached_property
    def header(self) -> Header:
        """The instance's header, up to its pixels."""
        return Header.from_part10(self._parts[0])

    @property
    def frames(self) -> int:
        """How many frames can be served."""
        return self._record.count

    @property
    def _kept(self) -> bool:
        """Whether the frames are the sender's own codestreams."""
        return self._key is not None and self._key.codec == DICOM_FRAME

    @cached_property
    def _spec(self) -> FrameSpec:
        """What describes the decoded frames: chroma for each pixel, components as they decode."""
        assert self._key is not None  # noqa: S101  callers served pixels
        spec = self._key.spec
        if self._kept:
            first = self._reader.chunks(self._record.stack, [self._record.first])[0]
            photometric = photometric_of_decoded(self._key.transfer_syntax, spec, first)
            return replace(spec, photometric=photometric, planar=0)
        return spec

    @property
    def sent(self) -> str:
        """Transfer syntax UID that it came in."""
        return self._parts[0].transfer_syntax

    @property
    def transfer_syntaxes(self) -> tuple[str, ...]:
        """UIDs that it can be served in; first the one it came in."""
        return tuple(dict.fromkeys((self.sent, *self._made)))

    @cached_property
    def _made(self) -> tuple[str, ...]:
        """UIDs that it can be made in, apart from the file as it came."""
        if self._key is None:
            return () if self._parts[0].pixels is not None else (EXPLICIT_LITTLE,)
        kept = (self._key.transfer_syntax,) if self._kept else ()
        return (*kept, EXPLICIT_LITTLE, *((HTJ2K_LOSSLESS,) if self._codable() else ()))

    def _codable(self) -> bool:
        if self._key is None or self._spec.floating:
            return False
        spec = self._spec
        known = _ONE_SAMPLE if spec.samples == 1 else ("RGB", "YBR_FULL", "YBR_FULL_422")
        dtype = native.native_dtype(spec)
        return spec.photometric in known and codec_for("htj2k", dtype, spec.samples, spec.bits_allocated) == (
            "htj2k"
        )

    def as_sent(self) -> bytes:
        """Return the file as it came in, byte for byte.

        Raises
        ------
        IntegrityError
            It no longer has the SHA-256 it came in with.
        """
        data = b"".join(bytes(part) for part in self._reader.instance_bytes(self._record))
        if hashlib.sha256(data).hexdigest() != self._record.sha256:
            raise IntegrityError(
                "a stored file no longer has the SHA-256 it came in with; run `voxelvault verify`"
            )
        return data

    def whole(self, transfer_syntax: str | None) -> bytes:
        """Return the instance; see `Instance.as_dicom`."""
        part10 = self._parts[0]
        if transfer_syntax is None:
            return self.as_sent()
        _require(transfer_syntax, self.transfer_syntaxes)
        is_file = part10.has_meta and part10.has_preamble
        if transfer_syntax == self.sent and (is_file or transfer_syntax not in self._made):
            return self.as_sent()
        return self._file(transfer_syntax, range(self.frames), {})

    def frame(self, index: int, transfer_syntax: str | None) -> bytes:
        """Return one frame; see `Instance.frame_as_dicom`."""
        if self._key is None:
            raise NoPixels("this instance has no frame that can be served; `as_dicom` gives the whole file")
        if not 0 <= index < self.frames:
            raise UsageError(f"there is no frame {index}: this instance has frames 0 to {self.frames - 1}")
        chosen = transfer_syntax or self._own_syntax()
        _require(chosen, self._made)
        cut = self._cut(index) if self.frames > 1 else {}
        return self._file(chosen, [index], cut)

    def _own_syntax(self) -> str:
        """Return the transfer syntax that costs least: the sender's codestream, or ours."""
        assert self._key is not None  # noqa: S101  `frame` asked
        if self._kept:
            return self._key.transfer_syntax
        return HTJ2K_LOSSLESS if self._codable() else EXPLICIT_LITTLE

    def _cut(self, index: int) -> Changes:
        """Return what makes the header that of one frame of several (PS3.3 C.12.3)."""
        part10 = self._parts[0]
        if GRID_OFFSETS in part10.dataset:
            raise UsageError("a dose grid's frames have no place of their own; serve the whole instance")
        encoder = Encoder(part10.data, big_endian=part10.big_endian)
        changes = extraction_changes(self.header, index)
        groups = part10.dataset.get(PER_FRAME)
        if groups is not None and groups.items is not None and len(groups.items) == self.frames:
            item = encoder.item(groups.items[index], encoder.sign(part10.dataset))
            changes[PER_FRAME] = sequence(PER_FRAME, [item])
        for tag in VECTORS & part10.dataset.keys():
            found = part10.dataset[tag]
            raw = bytes(encoder.little(found.vr, part10.value(tag)))
            value = nth_value(raw, found.vr, index, self.frames, 2)
            changes[tag] = None if value is None else (found.vr, value)
        return changes

    def _file(self, transfer_syntax: str, frames: Sequence[int], cut: Changes) -> bytes:
        changes, pixels = self._pixels(transfer_syntax, frames)
        part10, behind, tail = self._parts
        parts = [(Encoder(part10.data, big_endian=part10.big_endian), part10.dataset)]
        parts.append((Encoder(tail, big_endian=part10.big_endian), behind))
        merged = {**changes, **cut}
        return b"".join(
            (
                file_head(
                    part10.value(0x00080016).strip(b"\0 "), self._instance_uid(merged), transfer_syntax
                ),
                dataset_bytes(parts, merged, _LEFT_OUT),
                *(bytes(piece) for piece in pixels),
            )
        )

    def _instance_uid(self, changes: Changes) -> bytes:
        changed = changes.get(0x00080018)
        return changed[1] if isinstance(changed, tuple) else self._parts[0].value(0x00080018).strip(b"\0 ")

    def _pixels(self, transfer_syntax: str, frames: Sequence[int]) -> tuple[Changes, list[Buffer]]:
        """Return what the header must say, and the pixel element."""
        if self._key is None:
            return {}, []
        numbers = [self._record.first + number for number in frames]
        if self._kept and transfer_syntax == self._key.transfer_syntax:
            return {}, list(encapsulated_pixels(self._reader.chunks(self._record.stack, numbers)))
        cells = Cells.of(self.header, self._key.spec)
        if transfer_syntax == HTJ2K_LOSSLESS and self._straight(cells):
            chunks = self._reader.chunks(self._record.stack, numbers)
            return spec_changes(self._agreed(self._spec, chunks)), list(encapsulated_pixels(chunks))
        words = np.empty((len(numbers), *self._key.shape), self._key.dtype)
        self._reader.read(self._record.stack, numbers, words)
        values, spec, changes = self._values(words, cells)
        if transfer_syntax == HTJ2K_LOSSLESS:
            return self._coded(values, spec, changes)
        return changes, list(_native_element(values, spec))

    def _straight(self, cells: Cells) -> bool:
        """Tell whether stored chunks can be served: ours, of values alone, their colours truly RGB."""
        key = self._key
        return (
            key is not None
            and key.codec == "htj2k"
            and not key.high_bits
            and cells.plain
            and not cells.embedded(self.header)
            and (key.spec.samples == 1 or key.spec.photometric == "RGB")
        )

    def _agreed(self, spec: FrameSpec, chunks: Sequence[Buffer]) -> FrameSpec:
        found = {coded_spec(spec, chunk) for chunk in chunks}
        if len(found) != 1:
            raise IntegrityError("the frames of an instance differ in kind; run `voxelvault verify`")
        return found.pop()

    def _values(self, words: Array, cells: Cells) -> tuple[Array, FrameSpec, Changes]:
        """Return values alone, what describes them, and what changes in the header for it."""
        spec = self._spec
        if self._kept:
            if not np.array_equal(native.stored_values(words, spec), words):
                spec = replace(spec, bits_stored=spec.bits_allocated)
            changes = spec_changes(spec)
            return words, spec, {**changes, **lossy_changes(self.header, self.sent)}
        if spec.floating or spec.bits_allocated == 1:
            return words, spec, {}
        values = cells.values(words) if words.shape[-1] != 2 or spec.samples != 3 else words
        if values is words or np.array_equal(values, words):
            moved = overlay_changes(cells, self.header, words)
            return words, spec, moved
        return values, spec, {**spec_changes(spec), **overlay_changes(cells, self.header, words)}

    def _coded(self, values: Array, spec: FrameSpec, changes: Changes) -> tuple[Changes, list[Buffer]]:
        if values.ndim == 4 and values.shape[-1] == 2:
            values = native.expand_422(values)
        if spec.photometric == "YBR_FULL_422":
            spec = replace(spec, photometric="YBR_FULL")
        mixed = spec.photometric == "RGB"
        chunks = [htj2k_codestream(np.ascontiguousarray(frame), mixed=mixed) for frame in values]
        agreed = spec_changes(self._agreed(spec, chunks))
        return {**changes, **agreed}, list(encapsulated_pixels(chunks))


def _require(transfer_syntax: str, possible: Sequence[str]) -> None:
    if transfer_syntax not in possible:
        raise UsageError(
            f"it can't be served in that transfer syntax; choose one of {', '.join(dict.fromkeys(possible))}"
        )


def _native_element(values: Array, spec: FrameSpec) -> Sequence[Buffer]:
    packed = native.pack_native(values, spec)
    if spec.floating:
        tag, vr = (0x7FE00008, "OF") if spec.bits_allocated == 32 else (0x7FE00009, "OD")
        return list(native_pixels(tag, vr, packed))
    return list(native_pixels(0x7FE00010, "OW" if spec.bits_allocated > 8 else "OB", packed))


def _behind(part10: Part10, head: bytes, tail: bytes, pixels: int) -> Dataset:
    """Return the elements behind the pixels; none where nothing tells where they begin."""
    span = part10.pixels
    if span is None:
        return {}
    order = "big" if part10.big_endian else "little"
    length = int.from_bytes(head[-4:], order)  # type: ignore[arg-type]
    if span.encapsulated:
        start = len(_DELIMITER) if tail.startswith(_DELIMITER) else len(tail)
    else:
        start = len(tail) if length == _UNDEFINED or length < pixels else length - pixels
    try:
        reader = ElementReader(tail, big_endian=part10.big_endian)
        return reader.elements(start, len(tail), implicit=part10.implicit)[0] if start < len(tail) else {}
    except MalformedDicom:
        return {}  # loose bytes, no elements


__all__ = ["ServedInstance"]
