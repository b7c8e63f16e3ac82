"""The second reader's own tables of character sets, and its own decoder.

Part of the second reader: it shares no code with the rewriting, so that a set which the one takes for
another doesn't hide from both what stands there. Python's codecs do the work.

References
----------
DICOM PS3.3 C.12.1.1.2 (defined terms, escape sequences), PS3.5 6.1.2.5 (code extension).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

PLAIN = "latin_1"
"""Of the default repertoire and of sets that nobody knows: every byte is a character in it."""

_BY_NUMBER = {
    **{6: PLAIN, 100: PLAIN, 101: "iso8859_2", 109: "iso8859_3", 110: "iso8859_4", 144: "iso8859_5"},
    **{127: "iso8859_6", 126: "iso8859_7", 138: "iso8859_8", 148: "iso8859_9", 203: "iso8859_15"},
    **{13: "shift_jis", 166: "tis_620", 87: "iso2022_jp_2", 159: "iso2022_jp_2", 149: "euc_kr"},
    **{58: "gb2312", 192: "utf_8"},
}
_BY_NAME = {"GB18030": "gb18030", "GBK": "gb18030"}
_BY_ESCAPE = {
    **{b"(B": PLAIN, b"(J": "shift_jis", b")I": "shift_jis", b"-A": PLAIN, b"-B": "iso8859_2"},
    **{b"-C": "iso8859_3", b"-D": "iso8859_4", b"-L": "iso8859_5", b"-G": "iso8859_6", b"-F": "iso8859_7"},
    **{b"-H": "iso8859_8", b"-M": "iso8859_9", b"-b": "iso8859_15", b"-T": "tis_620"},
    **{b"$)C": "euc_kr", b"$)A": "gb2312", b"$B": "iso2022_jp_2", b"$(D": "iso2022_jp_2"},
}
_PAIRED = frozenset([b"$B", b"$(D"])
"""Sets of two bytes a character, of which either may look like a delimiter."""

_ESCAPE = re.compile(rb"\x1b(\$[()][A-Z]|\$[A-Z]|[-()][A-Za-z])")
_NUMBER = re.compile(r"\b(?:IR|2022)\W?(\d+)$")


@lru_cache(maxsize=256)
def codecs_of(value: bytes) -> tuple[str, ...]:
    """Return the Python codecs of a Specific Character Set (0008,0005), its first one first."""
    return tuple(map(_codec, value.decode("latin-1").strip("\0 ").upper().split("\\")))


def _codec(term: str) -> str:
    if number := _NUMBER.search(term.strip().replace("_", " ")):
        return _BY_NUMBER.get(int(number[1]), PLAIN)
    return next((codec for name, codec in _BY_NAME.items() if name in term), PLAIN)


def decoded(raw: bytes, codecs: tuple[str, ...], *, name: bool = False) -> str:
    """Return a whole value field as text; what a set lacks becomes U+FFFD.

    Parameters
    ----------
    raw : bytes
        With delimiters and padding.
    codecs : tuple of str
        From `codecs_of`.
    name : bool
        Of a person, where ^ and = go back to the first set, too.
    """
    ends = b"\\\r\n\t\f" + (b"^=" if name else b"")
    return "".join(_pieces(raw, codecs[0], ends))


def _pieces(raw: bytes, first: str, ends: bytes) -> Iterator[str]:
    start, escape = 0, b""
    for match in [*_ESCAPE.finditer(raw), None]:
        run = raw[start : match.start() if match else len(raw)]
        if escape in _PAIRED:
            yield (b"\x1b" + escape + run).decode(_BY_ESCAPE[escape], "replace")
        else:
            stop = next((at for at, byte in enumerate(run) if byte in ends), len(run)) if escape else len(run)
            yield run[:stop].decode(_BY_ESCAPE.get(escape, first), "replace")
            yield run[stop:].decode(first, "replace")
        if match:
            start, escape = match.end(), match[1]


__all__ = ["codecs_of", "decoded"]
