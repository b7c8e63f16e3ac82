"""Keys, codes and fingerprints as text that people copy, with a checksum against typing errors."""

from __future__ import annotations

import base64
import hashlib

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Crockford's base32: what people mistake for a digit is read as that digit.
_MISREAD = str.maketrans(
    {"O": "0", "I": "1", "L": "1", "-": None, " ": None, "\t": None, "\n": None, "\r": None}
)
_CHECK_BITS = 20


def _check(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"voxelvault/1/code" + data).digest()[:3], "big") >> (
        24 - _CHECK_BITS
    )


def to_groups(data: bytes) -> str:
    """Return bytes as groups of four base32 symbols; the last 20 bits are a checksum.

    Raises
    ------
    ValueError
        The length is not a multiple of five bytes.
    """
    if len(data) % 5:
        raise ValueError("groups hold a multiple of five bytes")
    number = int.from_bytes(data, "big") << _CHECK_BITS | _check(data)
    count = (len(data) * 8 + _CHECK_BITS) // 5
    symbols = "".join(_ALPHABET[number >> 5 * i & 31] for i in reversed(range(count)))
    return "-".join(symbols[i : i + 4] for i in range(0, count, 4))


def from_groups(text: str, length: int) -> bytes:
    """Return the `length` bytes of a text that `to_groups` made; case, blanks and dashes don't matter.

    Raises
    ------
    ValueError
        The text has another length, a foreign symbol, or its checksum does not fit.
    """
    symbols = text.upper().translate(_MISREAD)
    if len(symbols) != (length * 8 + _CHECK_BITS) // 5:
        raise ValueError("wrong number of symbols")
    number = 0
    for symbol in symbols:
        number = number << 5 | _ALPHABET.index(symbol)
    data = (number >> _CHECK_BITS).to_bytes(length, "big")
    if _check(data) != number & ((1 << _CHECK_BITS) - 1):
        raise ValueError("checksum does not fit")
    return data


def to_line(prefix: str, data: bytes) -> str:
    """Return bytes as one line: the prefix, then base64url of the bytes and a 4-byte checksum."""
    check = hashlib.sha256(prefix.encode() + data).digest()[:4]
    return prefix + base64.urlsafe_b64encode(data + check).rstrip(b"=").decode()


def from_line(prefix: str, text: str) -> bytes:
    """Return the bytes of a text that `to_line` made; white space around it and within doesn't matter.

    Raises
    ------
    ValueError
        Another prefix, a foreign character, or the checksum does not fit.
    """
    text = "".join(text.split())
    if not text.startswith(prefix):
        raise ValueError("wrong prefix")
    body = text[len(prefix) :]
    raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    # Comparing the text, not the checksum alone, leaves one spelling a key.
    if len(raw) < 4 or to_line(prefix, raw[:-4]) != text:
        raise ValueError("checksum does not fit")
    return raw[:-4]


def to_base64(data: bytes) -> str:
    """Return bytes as base64, for JSON."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """Return the bytes of a text that `to_base64` made.

    Raises
    ------
    ValueError
        It is none.
    """
    return base64.b64decode(text, validate=True)


__all__ = ["from_base64", "from_groups", "from_line", "to_base64", "to_groups", "to_line"]
