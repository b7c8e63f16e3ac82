"""Pseudonyms: keyed, stateless, the same within a project and unlinkable between two.

Every pseudonym is HMAC-SHA-256 under a sub-key of its own domain, so no table of them is needed,
references between files stay whole, and a pseudonym says nothing of another. A bare hash of an
eight-digit patient id falls in minutes; a keyed one doesn't, without the key.

References
----------
RFC 2104 (HMAC), RFC 5869 (HKDF), RFC 9562 5.8 (UUID version 8), DICOM PS3.5 B.2 (UUID-derived
UIDs), PS3.15 E.3.6 (modified dates); Hripcsak et al., J Am Med Inform Assoc 2016;23:1040
(dates shifted by up to a year, one shift a patient).
"""

from __future__ import annotations

import hmac
import unicodedata
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from voxelvault.errors import UsageError

KEY_LENGTH = 32
MOST_DAYS = 365
"""Dates go back by 1 to this many whole days: the range of i2b2 and of shift and truncate."""

_ROOT = "1.2.840.10008."
_LABEL = b"voxelvault/1/deid/"
_DOMAINS = ("uid", "patient", "study", "accession", "device", "other", "date", "receipt")
# No vowels: no pseudonym spells a name or a word by chance.
_ALPHABET = "0123456789BCDFGHJKLMNPQRSTVWXZ"
_SYMBOLS = 15


@dataclass(frozen=True)
class ProjectPseudonyms:
    """The pseudonyms of one project.

    Parameters
    ----------
    key : bytes
        The project key, 32 random bytes; never shown by `repr`.
    project_id : str
        Random id of the project.
    scope : str
        Empty, or a name of an export whose pseudonyms shall not link to the project's others.

    Raises
    ------
    UsageError
        The key has another length.
    """

    key: bytes = field(repr=False)
    project_id: str
    scope: str = ""

    def __post_init__(self) -> None:
        if len(self.key) != KEY_LENGTH:
            raise UsageError("a project key has 32 bytes; open the project again")

    def uid(self, value: str) -> str:
        """Return the UID for a UID: `2.25.` and 122 bits; registered ones and empty ones stay.

        References
        ----------
        DICOM PS3.5 B.2.
        """
        value = value.strip("\0 ")
        if not value or is_registered(value):
            return value
        bits = int.from_bytes(self._mac("uid", value)[:16], "big")
        return f"2.25.{bits & ~(0xF << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62}"

    def patient(self, subject: str) -> str:
        """Return the patient's id, 16 symbols."""
        return self._symbols("patient", subject, "P")

    def study_id(self, value: str) -> str:
        """Return the study's id, 16 symbols (SH)."""
        return self._symbols("study", normal_id(value), "S")

    def accession(self, value: str) -> str:
        """Return the accession number, 16 symbols (SH)."""
        return self._symbols("accession", normal_id(value), "A")

    def device(self, value: str) -> str:
        """Return the id of a device, 16 symbols (SH)."""
        return self._symbols("device", normal_id(value), "D")

    def other(self, value: str) -> str:
        """Return the pseudonym of any other identifier, 16 symbols (SH)."""
        return self._symbols("other", normal_id(value), "X")

    def days(self, subject: str) -> int:
        """Return by how many whole days this patient's dates move: -1 to -`MOST_DAYS`."""
        return -1 - int.from_bytes(self._mac("date", subject)[:8], "big") % MOST_DAYS

    def digest(self, data: bytes) -> str:
        """Return the HMAC of a source file's SHA-256, hexadecimal: says nothing without the key."""
        return self._mac("receipt", sha256(data).digest()).hex()

    def _symbols(self, domain: str, value: str, first: str) -> str:
        number = int.from_bytes(self._mac(domain, value)[:16], "big")
        symbols = []
        for _ in range(_SYMBOLS):
            number, symbol = divmod(number, len(_ALPHABET))
            symbols.append(_ALPHABET[symbol])
        return first + "".join(symbols)

    def _mac(self, domain: str, value: str | bytes) -> bytes:
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        return hmac.digest(self._keys[domain], length_prefixed(data), "sha256")

    @cached_property
    def _keys(self) -> dict[str, bytes]:
        salt = length_prefixed(self.project_id.encode(), self.scope.encode())
        return {name: HKDF(SHA256(), 32, salt, _LABEL + name.encode()).derive(self.key) for name in _DOMAINS}


def length_prefixed(*parts: bytes) -> bytes:
    """Join byte strings so that no other parts give the same: each after its length, 4 bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def normal_id(value: str) -> str:
    """Return an identifier as it is keyed: compatibility forms, case and white space don't matter."""
    return " ".join(unicodedata.normalize("NFKC", value).replace("\0", " ").casefold().split())


@lru_cache(maxsize=4096)
def is_registered(uid: str) -> bool:
    """Tell whether a UID is the standard's own, so that it names no study or file.

    Some equipment makes UIDs for its files below the standard's root, with dates and serial
    numbers in them. Those are no registered ones: of the standard's components one has four digits
    at most, no other has more than three, and the first is one of a few.
    """
    if uid in _registered():
        return True
    components = uid.removeprefix(_ROOT).split(".")
    known = uid.startswith(_ROOT) and len(components) <= 8 and components[0] in _arcs()
    return known and all(map(_short_number, components)) and sum(len(one) > 3 for one in components) <= 1


@cache
def _registered() -> frozenset[str]:
    from pydicom._uid_dict import UID_dictionary

    return frozenset(UID_dictionary)


@cache
def _arcs() -> frozenset[str]:
    """Return what stands first below the root: classes, context groups, contexts and the like."""
    below = (uid.removeprefix(_ROOT).split(".")[0] for uid in _registered() if uid.startswith(_ROOT))
    return frozenset([*below, "6"])


def _short_number(component: str) -> bool:
    return component.isascii() and component.isdigit() and len(component) <= 4


__all__ = [
    "KEY_LENGTH",
    "MOST_DAYS",
    "ProjectPseudonyms",
    "is_registered",
    "length_prefixed",
    "normal_id",
]
