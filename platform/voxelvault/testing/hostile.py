"""Files and archives that attack whoever opens them; each is small."""

from __future__ import annotations

import functools
import gzip
import io
import struct
import tarfile
import zipfile
import zlib

from pydicom.dataset import Dataset

from voxelvault.testing.synthetic_kinds import CODESTREAMS, GREY
from voxelvault.testing.synthetic_object import (
    DEFLATED,
    IMPLICIT,
    encapsulated,
    header,
    image,
    put_pixels,
    to_bytes,
)

MARKUP = "<script>alert('planted')</script><img src=x onerror=alert(1)>"
PATH_UID = "../../../../tmp/planted-escape"

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_UNDEFINED = b"\xff\xff\xff\xff"


def _small(**attributes: object) -> Dataset:
    """Return an image whose header is then made to lie."""
    made = put_pixels(header("CT", series=66), GREY)
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def _claim(**attributes: object) -> bytes:
    return to_bytes(_small(**attributes))


def _without(keyword: str) -> bytes:
    made = _small()
    file = to_bytes(made)
    data_element = made[keyword]
    tag = struct.pack("<HH", data_element.tag.group, data_element.tag.element)
    at = file.index(tag + b"UI", 300)
    return file[:at] + file[at + 8 + int.from_bytes(file[at + 6 : at + 8], "little") :]


def _bare(elements: bytes, transfer_syntax: str = IMPLICIT) -> bytes:
    """Return `elements` after a good preamble, meta and identification."""
    made = header("OT", series=67, transfer_syntax=transfer_syntax)
    return to_bytes(made) + elements


def _nested(depth: int, *, defined: bool) -> bytes:
    """Return sequences within sequences (PS3.5 7.5), of known or of undefined length."""
    tag, item = b"\x40\x00\x75\x02", b"\xfe\xff\x00\xe0"
    if not defined:
        return (tag + _UNDEFINED + item + _UNDEFINED) * depth
    lengths = range(16 * (depth - 1) + 8, 0, -16)
    return b"".join(tag + struct.pack("<I", n) + item + struct.pack("<I", n - 8) for n in lengths)


def _pixel_length(length: int) -> bytes:
    """Return a file of about 1 KB whose pixel element claims `length` bytes."""
    file = image(GREY[:4, :4], "CT", series=68)
    at = file.rindex(_PIXEL_DATA)
    return file[: at + 8] + struct.pack("<I", length) + file[at + 12 :]


def _codestream_that_lies() -> bytes:
    """Return a JPEG 2000 frame whose own header claims 60,000 by 60,000 pixels."""
    syntax = "1.2.840.10008.1.2.4.90"
    frame, encode, _ = CODESTREAMS[syntax]
    coded = bytearray(encode(frame))
    coded[8:16] = struct.pack(">II", 60000, 60000)
    return encapsulated([bytes(coded)], syntax, frame)


def _fragment_past_the_end() -> bytes:
    """Return encapsulated pixels whose last fragment claims 4 GB."""
    syntax = "1.2.840.10008.1.2.4.90"
    frame, encode, _ = CODESTREAMS[syntax]
    file = encapsulated([encode(frame)], syntax, frame)
    at = file.rindex(b"\xfe\xff\x00\xe0")
    return file[: at + 4] + b"\xf0\xff\xff\xff" + file[at + 8 :]


def _deflate_bomb(size: int = 256 << 20) -> bytes:
    """Return a deflated data set that inflates a thousandfold."""
    file = to_bytes(header("OT", series=69, transfer_syntax=DEFLATED))
    start = 144 + int.from_bytes(file[140:144], "little")
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    element = _PIXEL_DATA + b"OB\0\0" + struct.pack("<I", size)
    body = zlib.decompress(file[start:], -zlib.MAX_WBITS) + element
    packed = deflater.compress(body)
    for _ in range(size >> 20):
        packed += deflater.compress(bytes(1 << 20))
    return file[:start] + packed + deflater.flush()


def hostile() -> dict[str, bytes]:
    """Return hostile files.

    Returns
    -------
    dict
        Name to bytes. Some are valid and only carry bad values (`markup in a name`, `path in a
        UID`); a reader must treat each without crashing, escaping or exhausting memory.
    """
    return dict(_hostile())


@functools.cache
def _hostile() -> dict[str, bytes]:
    return _no_dicom() | _lying_headers() | _lying_pixels() | _lying_structure() | _bad_values()


def _no_dicom() -> dict[str, bytes]:
    return {
        "empty": b"",
        "magic only": bytes(128) + b"DICM",
        "text": b"This is not DICOM.\n" * 40,
        "zeros": bytes(4096),
    }


def _lying_headers() -> dict[str, bytes]:
    counted = _claim(NumberOfFrames=99)
    return {
        "claims 8 GB": _claim(Rows=65535, Columns=65535, NumberOfFrames=2),
        "claims a billion frames": _claim(NumberOfFrames=10**9),
        "frames not a number": counted.replace(b"IS\x02\x0099", b"IS\x02\x001A"),
        "negative frames": counted.replace(b"IS\x02\x0099", b"IS\x02\x00-1"),
        "no rows": _claim(Rows=0),
        "twelve bits allocated": _claim(BitsAllocated=12),
        "more bits stored than allocated": _claim(BitsStored=32),
    }


def _lying_pixels() -> dict[str, bytes]:
    jpeg, jpeg_ls = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80"
    return {
        "pixels claim 4 GB": _pixel_length(0xFFFFFFF0),
        "pixels of undefined length without items": _pixel_length(0xFFFFFFFF),
        "fragment past the end": _fragment_past_the_end(),
        "codestream that lies": _codestream_that_lies(),
        "garbage codestream": encapsulated([b"\xff\xd8\xff" + bytes(range(256)) * 3], jpeg, GREY),
        "blank fragment": encapsulated([b"\0\0"], jpeg_ls, GREY),
        "truncated in the pixels": _claim()[:-500],
    }


def _lying_structure() -> dict[str, bytes]:
    good = _claim()
    return {
        "nested 10,000 deep": _bare(_nested(10_000, defined=False)),
        "nested 10,000 deep, lengths known": _bare(_nested(10_000, defined=True)),
        "element past the end": _bare(b"\x10\x00\x10\x40" + b"\x00\x00\x00\x7f" + b"x" * 20),
        "stray delimiters": _bare(b"\xfe\xff\xdd\xe0\0\0\0\0\xfe\xff\x0d\xe0\0\0\0\0" * 20),
        "truncated in the meta": good[:200],
        "truncated in a header": good[:700],
        "meta length that lies": good[:140] + b"\xf0\xff\xff\x7f" + good[144:],
        "deflate bomb": _deflate_bomb(),
        "unknown transfer syntax": good.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.9.9.9\0", 1),
        "trailing garbage": good + b"\xde\xad\xbe\xef" * 64,
    }


def _bad_values() -> dict[str, bytes]:
    return {
        "no SOP Instance UID": _without("SOPInstanceUID"),
        "no study": _without("StudyInstanceUID"),
        "no series": _without("SeriesInstanceUID"),
        "path in a UID": _hacked_uids(),
        "markup in a name": _claim(PatientName=MARKUP, SeriesDescription=MARKUP, StudyDescription=MARKUP),
    }


def _hacked_uids() -> bytes:
    """Return an image whose UIDs are paths, written past pydicom's checks."""
    file = _claim()
    for tag in (b"\x08\x00\x18\x00UI", b"\x20\x00\x0d\x00UI", b"\x20\x00\x0e\x00UI"):
        at = file.index(tag)
        length = int.from_bytes(file[at + 6 : at + 8], "little")
        value = PATH_UID.encode()[: length - 1] + tag[2:3]
        file = file[: at + 8] + value.ljust(length, b"\0") + file[at + 8 + length :]
    return file


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def hostile_archives() -> dict[str, bytes]:
    """Return hostile archives, by file name.

    Returns
    -------
    dict
        File name (its suffix tells the format) to bytes. Each holds one good file beside what is
        wrong with it, except the bombs.
    """
    return dict(_hostile_archives())


@functools.cache
def _hostile_archives() -> dict[str, bytes]:
    good = image(GREY, "CT", series=70)
    file = (_member("good.dcm"), good)
    return {
        "bomb.zip": _zip({"zeros.dcm": bytes(256 << 20)}),
        "many.zip": _zip({f"{at}.dcm": b"" for at in range(20_000)}),
        "nested.zip": _zip(
            {"inner.zip": _zip({"inner.zip": _zip({"zeros": bytes(1 << 20)})}), "good.dcm": good}
        ),
        "escape.zip": _zip({"../../planted-escape.dcm": good, "good.dcm": good}),
        "absolute.zip": _zip({"/tmp/planted-escape.dcm": good, "good.dcm": good}),  # noqa: S108
        "lying.zip": _lying_zip(good),
        "cut.zip": _zip({"good.dcm": good})[:-30],
        "bomb.tar.gz": gzip.compress(_tar((_member("zeros.dcm"), bytes(256 << 20))), 6, mtime=0),
        "escape.tar": _tar((_member("../../planted-escape.dcm"), good), file),
        "symlink.tar": _tar((_member("link.dcm", tarfile.SYMTYPE, "/etc/passwd"), b""), file),
        "hardlink.tar": _tar((_member("link.dcm", tarfile.LNKTYPE, "../../etc/passwd"), b""), file),
        "device.tar": _tar((_member("device.dcm", tarfile.CHRTYPE), b""), file),
        "fifo.tar": _tar((_member("pipe.dcm", tarfile.FIFOTYPE), b""), file),
        "cut.tar": _tar(file)[:700],
    }


def _lying_zip(good: bytes) -> bytes:
    """Return a zip whose directory says that a member is 10 bytes long."""
    whole = bytearray(_zip({"good.dcm": good}))
    at = whole.rindex(b"PK\x01\x02")
    whole[at + 24 : at + 28] = struct.pack("<I", 10)
    return bytes(whole)


__all__ = ["MARKUP", "PATH_UID", "hostile", "hostile_archives"]
