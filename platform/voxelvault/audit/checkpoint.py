"""Signed tree heads: C2SP signed notes whose text is a checkpoint.

References
----------
C2SP signed-note: https://c2sp.org/signed-note; C2SP tlog-checkpoint: https://c2sp.org/tlog-checkpoint
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from voxelvault.audit.merkle import HASH_SIZE
from voxelvault.errors import IntegrityError

_ED25519 = b"\x01"
_DASH = "\N{EM DASH} "
_NOTE_LIMIT = 1 << 17
_NOT_A_CHECKPOINT = "this is not a checkpoint; give the file that `audit checkpoint --export` wrote"
_NOT_A_KEY = "this is not a log's verifier key; copy it whole from where it was published"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head.

    Parameters
    ----------
    origin : str
        Which log: `voxelvault/<vault id>`.
    size : int
        Number of entries.
    root : bytes
        Root hash, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The note text that is signed."""
        return f"{self.origin}\n{self.size}\n{_encode(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note text.

        Parameters
        ----------
        text : str
            Text of a note whose signature was verified; extension lines are ignored.

        Returns
        -------
        Checkpoint
            The tree head.

        Raises
        ------
        IntegrityError
            It is not a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) < 4 or not lines[0] or not re.fullmatch("0|[1-9][0-9]{0,18}", lines[1], re.ASCII):
            raise IntegrityError(_NOT_A_CHECKPOINT)
        root = _decode(lines[2])
        if len(root) != HASH_SIZE:
            raise IntegrityError(_NOT_A_CHECKPOINT)
        return cls(lines[0], int(lines[1]), root)


@dataclass(frozen=True, slots=True)
class NoteKey:
    """An Ed25519 public key and the name it signs notes under.

    Parameters
    ----------
    name : str
        Key name, no spaces, no plus: the log's origin.
    public_key : bytes
        32 bytes.
    """

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes that tell keys of one name apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:4]

    def __str__(self) -> str:
        """Return the verifier key as Go's `note` package and its kin read it."""
        return f"{self.name}+{self.key_id.hex()}+{_encode(_ED25519 + self.public_key)}"

    @classmethod
    def parse(cls, text: str) -> NoteKey:
        """Read a verifier key `<name>+<key id>+<base64>`.

        Parameters
        ----------
        text : str
            As `str(key)` gives it.

        Returns
        -------
        NoteKey
            The key.

        Raises
        ------
        IntegrityError
            It is not an Ed25519 verifier key, or a letter was mistyped.
        """
        name, _, rest = text.strip().partition("+")
        if not name.isprintable():  # bytes of a command line that are no UTF-8 among others
            raise IntegrityError(_NOT_A_KEY)
        key = cls(name, _decode(rest.partition("+")[2], _NOT_A_KEY)[1:])
        if len(key.public_key) != 32 or str(key) != text.strip():
            raise IntegrityError(_NOT_A_KEY)
        return key


def sign_note(text: str, key: NoteKey, sign: Callable[[bytes], bytes]) -> str:
    """Sign a text.

    Parameters
    ----------
    text : str
        Lines, the last of them ended too.
    key : NoteKey
        Name and public key of the signer.
    sign : callable
        Returns the Ed25519 signature, 64 bytes, of a message.

    Returns
    -------
    str
        The signed note.
    """
    return f"{text}\n{_DASH}{key.name} {_encode(key.key_id + sign(text.encode()))}\n"


def open_note(note: str, key: NoteKey) -> str:
    """Verify a signed note.

    Parameters
    ----------
    note : str
        Text, blank line, signature lines; those of other keys are ignored.
    key : NoteKey
        Whose signature is wanted.

    Returns
    -------
    str
        The text that was signed.

    Raises
    ------
    IntegrityError
        It is no note, or this key did not sign it.
    """
    text, blank, signatures = note.rpartition("\n\n")
    if not blank or len(note) > _NOTE_LIMIT or not signatures.endswith("\n"):
        raise IntegrityError(_NOT_A_CHECKPOINT)
    text += "\n"
    mine = [signature for name, signature in _signatures(signatures) if _is_by(key, name, signature)]
    if not mine:
        raise IntegrityError("this log's key did not sign the checkpoint; it belongs to another log")
    for signature in mine:
        _check(key, signature[4:], text)
    return text


def open_checkpoint(note: str, key: NoteKey) -> Checkpoint:
    """Verify and read a signed checkpoint.

    Parameters
    ----------
    note : str
        The signed note.
    key : NoteKey
        The log's key; its name is the log's origin.

    Returns
    -------
    Checkpoint
        The tree head that the log signed.

    Raises
    ------
    IntegrityError
        Not signed by this key, not a checkpoint, or of another log.
    """
    checkpoint = Checkpoint.parse(open_note(note, key))
    if checkpoint.origin != key.name:
        raise IntegrityError("the checkpoint belongs to another log; give one of this vault")
    return checkpoint


def _signatures(lines: str) -> Iterator[tuple[str, bytes]]:
    for line in lines[:-1].split("\n"):
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space:
            raise IntegrityError(_NOT_A_CHECKPOINT)
        yield name, _decode(encoded)


def _is_by(key: NoteKey, name: str, signature: bytes) -> bool:
    return name == key.name and signature[:4] == key.key_id


def _check(key: NoteKey, signature: bytes, text: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, text.encode())
    except InvalidSignature:
        raise IntegrityError("the checkpoint's signature is wrong; restore audit/ from a copy") from None


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str, complaint: str = _NOT_A_CHECKPOINT) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise IntegrityError(complaint) from None
