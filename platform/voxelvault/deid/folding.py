"""Text made comparable: compatibility forms, case, accents and what can't be seen are taken away."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_ALIKE = str.maketrans(
    {"ø": "o", "đ": "d", "ł": "l", "æ": "ae", "œ": "oe", "\u0131": "i", "þ": "th", "ð": "d"}
)
_WORD = re.compile(r"[^\W_]+")
_CONTROLS = re.compile(r"[\x01-\x08\x0b\x0e-\x1f]")
# Beside words, white space and what a keyboard has: signs of measures and of print.
_STRANGE = re.compile(
    r"[^\w\s -~\xa7\xa9\xae\xb0-\xb3\xb5\xb7\xb9\xd7\xf7\u2010-\u2026\u2032\u2033\u2122\u2264\u2265]"
)


def readable(text: str) -> str | None:
    """Return a text without what nobody sees or reads, in which something may be told all the same.

    Parameters
    ----------
    text : str
        As decoded.

    Returns
    -------
    str or None
        Up to the first NUL, behind which old buffers lie; without invisible, private and pictorial
        characters. None for what has control characters, as text in another encoding has.
    """
    text = text.strip("\0").split("\0")[0]
    if text.isascii() and text.isprintable():
        return text
    return None if _CONTROLS.search(text) else _STRANGE.sub("", unicodedata.normalize("NFC", text))


@lru_cache(maxsize=4096)
def _folded_character(character: str) -> str:
    forms = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", character).casefold())
    kept = "".join(one for one in forms if unicodedata.category(one) not in ("Mn", "Cf", "Me"))
    # Hangul syllables come apart in NFKD; together they are what people write.
    return unicodedata.normalize("NFC", kept.translate(_ALIKE))


def fold(text: str) -> str:
    """Return the text in NFKC, case-folded, without accents and invisible characters.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        For comparison only.
    """
    return text.casefold() if text.isascii() else "".join(map(_folded_character, text))


def fold_with_places(text: str) -> tuple[str, list[int]]:
    """Fold, and tell for each character of the result which one of `text` it came from.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str, list of int
        The folded text, and one index a character with `len(text)` behind the last.
    """
    if text.isascii():
        return text.casefold(), list(range(len(text) + 1))
    pieces, places = [], []
    for index, character in enumerate(text):
        folded = _folded_character(character)
        pieces.append(folded)
        places += [index] * len(folded)
    return "".join(pieces), [*places, len(text)]


def spellings(text: str) -> Iterator[str]:
    """Yield the folded text, and with umlauts written out where it has any.

    Parameters
    ----------
    text : str
        A name or a word.

    Yields
    ------
    str
        ``muller`` and ``mueller`` for ``Müller``.
    """
    yield fold(text)
    written = unicodedata.normalize("NFC", text).casefold().translate(_UMLAUTS)
    if fold(written) != fold(text):
        yield fold(written)


def words(text: str) -> list[str]:
    """Return the runs of letters and digits of a folded text, in order."""
    return _WORD.findall(text)


__all__ = ["fold", "fold_with_places", "readable", "spellings", "words"]
