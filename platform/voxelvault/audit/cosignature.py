"""Cosignatures: a witness states when it found a tree head to continue all that it saw of the log.

References
----------
C2SP tlog-cosignature: https://c2sp.org/tlog-cosignature (Ed25519, `cosignature/v1`)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from voxelvault.audit.checkpoint import NoteKey, signature_line, signatures_by, split_note
from voxelvault.errors import IntegrityError

_TIME = 8


@dataclass(frozen=True, slots=True)
class WitnessKey(NoteKey):
    """An Ed25519 public key that cosigns; the signed message doesn't name it, so each witness has its own."""

    KIND: ClassVar[bytes] = b"\x04"


def cosign(text: str, key: WitnessKey, sign: Callable[[bytes], bytes], when: int) -> str:
    """Cosign a checkpoint.

    Parameters
    ----------
    text : str
        Text of the note, all lines ended.
    key : WitnessKey
        Of the witness.
    sign : callable
        Returns the Ed25519 signature, 64 bytes, of a message.
    when : int
        Seconds since the epoch, more than 0.

    Returns
    -------
    str
        The signature line, ended.
    """
    return signature_line(key, when.to_bytes(_TIME, "big") + sign(_message(text, when)))


def cosigned(note: str, keys: Iterable[WitnessKey]) -> dict[WitnessKey, int]:
    """Verify the cosignatures of a note; those of other keys are ignored.

    Parameters
    ----------
    note : str
        A checkpoint with its signatures.
    keys : iterable of WitnessKey
        Witnesses that are trusted.

    Returns
    -------
    dict of WitnessKey to int
        Which of them cosigned, and when: seconds since the epoch, the latest.

    Raises
    ------
    IntegrityError
        It is no note, or a cosignature of one of these keys is wrong.
    """
    text, signatures = split_note(note)
    found = {key: [_time(key, text, data) for data in signatures_by(key, signatures)] for key in keys}
    return {key: max(times) for key, times in found.items() if times}


def _time(key: WitnessKey, text: str, data: bytes) -> int:
    when = int.from_bytes(data[:_TIME], "big")
    try:
        if not 0 < when < 1 << 63:
            raise InvalidSignature
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(data[_TIME:], _message(text, when))
    except (InvalidSignature, ValueError):
        raise IntegrityError(
            "a witness's cosignature is wrong; ask the witness for another with `audit cosign`"
        ) from None
    return when


def _message(text: str, when: int) -> bytes:
    return f"cosignature/v1\ntime {when}\n{text}".encode()


__all__ = ["WitnessKey", "cosign", "cosigned"]
