"""Text of a data set: (0008,0005) Specific Character Set, code extensions included.

Never fails and never warns: bytes that mean nothing in their set become U+FFFD. pydicom's tables
say which set is which Python codec; its decoder isn't used since it warns, and splits values at
bytes that are half of a Chinese or Japanese character.

References
----------
DICOM PS3.3 C.12.1.1.2, PS3.5 6.1 (code extension 6.1.2.5).
"""

from __future__ import annotations

import re
from functools import lru_cache

_ESCAPE = b"\x1b"
_FRAGMENT = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_DEFAULT = "iso8859"
_BY_PYTHON = frozenset(["iso2022_jp", "iso2022_jp_2"])  # codecs that follow escape sequences themselves
_TEXT_ENDS = re.compile(rb"[\\\r\n\t\f]")
_NAME_ENDS = re.compile(rb"[\\\r\n\t\f^=]")


@lru_cache(maxsize=256)
def encodings_of(value: bytes) -> tuple[str, ...]:
    """Return the Python codecs that a (0008,0005) value names, the default for those unknown."""
    from pydicom.charset import STAND_ALONE_ENCODINGS, python_encoding

    terms = [_corrected(term) for term in value.decode("latin-1").strip("\0 ").split("\\")]
    if terms[0] in STAND_ALONE_ENCODINGS:
        terms = terms[:1]
    return tuple(python_encoding.get(term, _DEFAULT) for term in terms)


def _corrected(term: str) -> str:
    """Put the usual misspellings right: `ISO-IR 100`, `ISO_2022_IR_87`, lower case."""
    term = term.strip().upper()
    if term.startswith("ISO") and (digits := re.search(r"IR.?(\d+)$", term)):
        return f"ISO {'2022 ' if '2022' in term else ''}IR {digits[1]}".replace("ISO IR", "ISO_IR")
    return term


def decode(raw: bytes, encodings: tuple[str, ...], *, name: bool = False) -> str:
    """Decode one whole value field, delimiters included.

    Parameters
    ----------
    raw : bytes
        The value field.
    encodings : tuple of str
        From `encodings_of`.
    name : bool
        A person name: `^` and `=` end a code extension too (PS3.5 6.1.2.5.3).

    Returns
    -------
    str
        Text, padding kept.
    """
    if _ESCAPE not in raw:
        return str(raw, encodings[0], "replace")
    ends = _NAME_ENDS if name else _TEXT_ENDS
    return "".join(_fragment(part, encodings[0], ends) for part in _FRAGMENT.findall(raw))


def _fragment(part: bytes, first: str, ends: re.Pattern[bytes]) -> str:
    from pydicom.charset import CODES_TO_ENCODINGS

    if not part.startswith(_ESCAPE):
        return part.decode(first, "replace")
    size = 4 if part[1:3] in (b"$(", b"$)") else 3
    encoding = CODES_TO_ENCODINGS.get(part[:size])
    if encoding is None:
        return part.decode(first, "replace")
    if encoding in _BY_PYTHON:
        return part.decode(encoding, "replace")
    end = ends.search(part, size)
    stop = end.start() if end else len(part)
    return part[size:stop].decode(encoding, "replace") + part[stop:].decode(first, "replace")


__all__ = ["decode", "encodings_of"]
