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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from voxelvault.audit.merkle import HASH_SIZE
from voxelvault.errors import IntegrityError

_DASH = "\N{EM DASH} "
NOTE_LIMIT = 1 << 17
"""Longest note in characters."""

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
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
        return f"{self.origin}\n{self.size}\n{encode64(self.root)}\n"

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
        root = decode64(lines[2])
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

    KIND: ClassVar[bytes] = b"\x01"
    """Signature type of the specification."""

    @property
    def key_id(self) -> bytes:
        """The four bytes that tell keys of one name apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + self.KIND + self.public_key).digest()[:4]

    def __str__(self) -> str:
        """Return the verifier key as Go's `note` package and its kin read it."""
        return f"{self.name}+{self.key_id.hex()}+{encode64(self.KIND + self.public_key)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a verifier key `<name>+<key id>+<base64>`.

        Parameters
        ----------
        text : str
            As `str(key)` gives it.

        Returns
        -------
        NoteKey
            The key, of the class that was asked.

        Raises
        ------
        IntegrityError
            It is not an Ed25519 verifier key, or a letter was mistyped.
        """
        name, _, rest = text.strip().partition("+")
        # No spaces, and no bytes of a command line that are no UTF-8.
        if not name or not name.isprintable() or any(map(str.isspace, name)):
            raise IntegrityError(_NOT_A_KEY)
        key = cls(name, decode64(rest.partition("+")[2], _NOT_A_KEY)[1:])
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
    return f"{text}\n{signature_line(key, sign(text.encode()))}"


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
    text, signatures = split_note(note)
    mine = signatures_by(key, signatures)
    if not mine:
        raise IntegrityError("this log's key did not sign the checkpoint; it belongs to another log")
    for signature in mine:
        _check(key, signature, text)
    return text


def split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Take a note apart without verifying anything.

    Parameters
    ----------
    note : str
        Text, blank line, signature lines.

    Returns
    -------
    tuple of str and list
        The text with its last line's end, and key name and key id with signature of each line.

    Raises
    ------
    IntegrityError
        It is no note.
    """
    text, blank, lines = note.rpartition("\n\n")
    if not blank or len(note) > NOTE_LIMIT or not lines.endswith("\n") or _CONTROL.search(note):
        raise IntegrityError(_NOT_A_CHECKPOINT)
    return text + "\n", list(_signatures(lines))


def signatures_by(key: NoteKey, signatures: Iterable[tuple[str, bytes]]) -> list[bytes]:
    """Return what stands behind the key id in the lines that name this key; nothing is verified."""
    return [data[4:] for name, data in signatures if name == key.name and data[:4] == key.key_id]


def signature_line(key: NoteKey, signature: bytes) -> str:
    """Return one line of a note's end, ended itself."""
    return f"{_DASH}{key.name} {encode64(key.key_id + signature)}\n"


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
        yield name, decode64(encoded)


def _check(key: NoteKey, signature: bytes, text: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, text.encode())
    except InvalidSignature:
        raise IntegrityError("the checkpoint's signature is wrong; restore audit/ from a copy") from None


def encode64(data: bytes) -> str:
    """Return base64 with its padding."""
    return base64.b64encode(data).decode("ascii")


def decode64(text: str, complaint: str = _NOT_A_CHECKPOINT) -> bytes:
    """Read base64; `IntegrityError` with the complaint if it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise IntegrityError(complaint) from None
