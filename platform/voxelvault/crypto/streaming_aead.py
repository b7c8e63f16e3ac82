"""How a sealed object looks, and how ranges of it open.

::

    0        8       10     12      14         16          32       48
    VOXVAULT | format | kind | suite | reserved | object id | key id |      clear, authenticated
    48     49     81             88
    0x28 | salt | nonce prefix |                                            Tink's header
    88 … : segments of 64 KiB ciphertext, a 16-byte tag at the end of each

From byte 48 on an object is a stream of Tink's AES256-GCM-HKDF streaming AEAD (RAW prefix,
65,536-byte ciphertext segments, of which the first holds the header). The key of the stream is
HKDF-SHA256(DEK, salt, AAD) and AAD is the preamble followed by the 16-byte vault id, so an object
under another id, kind, key or vault does not open. The nonce of segment *i* is prefix | *i* | last:
segments can't be swapped, and a stream can't be cut unnoticed at its end. Cutting is invisible to
an *earlier* range, so whoever reads ranges compares the object's length first.

References
----------
https://developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming
NIST SP 800-38D (GCM), RFC 5869 (HKDF)
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from voxelvault.errors import IntegrityError, NewerFormat, UsageError
from voxelvault.model import FORMAT, Buffer

MAGIC = b"VOXVAULT"
SUITE = 1
PREAMBLE_LENGTH = 48
HEADER_LENGTH = 40
HEAD_LENGTH = PREAMBLE_LENGTH + HEADER_LENGTH
"""What `Opener` wants to see first: preamble and header."""
SEGMENT = 1 << 16
TAG = 16
PLAIN_SEGMENT = SEGMENT - TAG
FIRST_PLAIN = PLAIN_SEGMENT - HEADER_LENGTH
MAX_SEGMENTS = 1 << 32

_PREAMBLE = struct.Struct(">8sHHHH16s16s")
_NONCE = struct.Struct(">7sIB")
# Segments leave the sealer in batches: one digest update and one write for 1 MiB, not for each 64 KiB.
_BATCH = 16 * SEGMENT


class Kind(IntEnum):
    """What a sealed object holds; part of what its seal authenticates."""

    MANIFEST = 1
    SHARD = 2
    HEADERS = 3
    ORIGINAL = 4
    PARQUET = 5
    CATALOG = 6
    LOG = 7
    TEXT = 8
    DERIVED = 9
    QUARANTINE = 10
    PROJECT = 11
    DOCUMENT = 12


@dataclass(frozen=True, slots=True)
class Preamble:
    """The 48 clear bytes at the head of a sealed object.

    Parameters
    ----------
    kind : int
        One of `Kind`.
    object_id, key_id : str
        32 hexadecimal digits: the object itself, and the key that opens it.
    """

    kind: int
    object_id: str
    key_id: str

    def pack(self) -> bytes:
        """Return the preamble as it is written, 48 bytes."""
        ids = bytes.fromhex(self.object_id), bytes.fromhex(self.key_id)
        if len(ids[0]) != 16 or len(ids[1]) != 16:
            raise UsageError("object and key ids are 32 hexadecimal digits: make them with model.new_id()")
        return _PREAMBLE.pack(MAGIC, FORMAT, self.kind, SUITE, 0, *ids)

    @classmethod
    def unpack(cls, head: Buffer) -> Preamble:
        """Read the preamble from the first bytes of an object.

        Raises
        ------
        IntegrityError
            The bytes are no sealed object of ours.
        NewerFormat
            A newer version of this package wrote them.
        """
        if len(head) < PREAMBLE_LENGTH or bytes(head[:8]) != MAGIC:
            raise IntegrityError("not a sealed object: restore it from a copy, then verify the vault")
        _, form, kind, suite, reserved, object_id, key_id = _PREAMBLE.unpack_from(head)
        if form > FORMAT or (form == FORMAT and suite > SUITE):
            raise NewerFormat(f"sealed in format {form}, suite {suite}: upgrade voxelvault to read it")
        if (form, suite, reserved) != (FORMAT, SUITE, 0):
            raise IntegrityError("the head of a sealed object is damaged: restore it from a copy")
        return cls(kind, object_id.hex(), key_id.hex())


def sealed_length(plain: int) -> int:
    """Return the length in bytes of the object that `plain` bytes make."""
    later = max(0, plain - FIRST_PLAIN)
    return HEAD_LENGTH + plain + TAG * (1 + -(-later // PLAIN_SEGMENT))


def plain_length(sealed: int) -> int:
    """Return how many bytes of plaintext an object of `sealed` bytes holds.

    Raises
    ------
    IntegrityError
        No sealed object has this length.
    """
    segments = -(-(sealed - PREAMBLE_LENGTH) // SEGMENT)
    plain = sealed - HEAD_LENGTH - TAG * segments
    if plain < 0 or segments > MAX_SEGMENTS or sealed_length(plain) != sealed:
        raise IntegrityError(f"no sealed object is {sealed} bytes long: it was cut; restore it from a copy")
    return plain


def _stream_cipher(dek: bytes, salt: bytes, preamble: bytes, vault_id: str) -> AESGCM:
    """Derive the stream's key; the preamble and the vault are its associated data."""
    vault = bytes.fromhex(vault_id)
    if len(dek) != 32 or len(vault) != 16:
        raise UsageError("sealing takes a 32-byte key and a vault id of 32 hexadecimal digits")
    return AESGCM(HKDF(SHA256(), 32, salt=salt, info=preamble + vault).derive(dek))


class Sealer:
    """Seal one object, written in pieces of any size, in bounded memory.

    Parameters
    ----------
    dek : bytes
        The object's data encryption key, 32 bytes.
    preamble : Preamble
        Goes in front and is authenticated.
    vault_id : str
        32 hexadecimal digits; authenticated, not written.
    sink : callable
        Takes each piece of the object in order as a memoryview, valid during the call only.

    Notes
    -----
    A sealer whose sink failed stays closed: nothing half-written can be finished.
    """

    def __init__(
        self, dek: bytes, preamble: Preamble, vault_id: str, sink: Callable[[memoryview], object]
    ) -> None:
        clear = preamble.pack()
        salt, self._prefix = os.urandom(32), os.urandom(7)
        self._cipher = _stream_cipher(dek, salt, clear, vault_id)
        self._sink = sink
        self._digest = hashlib.sha256()
        self._length = 0
        self._segments = 0
        self._closed = False
        self._batch = memoryview(bytearray(_BATCH + HEAD_LENGTH))
        self._batch[:HEAD_LENGTH] = clear + bytes([HEADER_LENGTH]) + salt + self._prefix
        self._filled = HEAD_LENGTH
        self._pending = memoryview(bytearray(PLAIN_SEGMENT))
        self._waiting = 0
        self._room = FIRST_PLAIN

    def write(self, data: Buffer) -> None:
        """Add plaintext; whole segments are sealed straight from `data`.

        Raises
        ------
        UsageError
            The sealer is closed, or its sink failed before.
        """
        self._must_be_open()
        view = memoryview(data)
        if not view.nbytes:
            return
        view = view.cast("B")
        at, end = 0, len(view)
        while at < end:
            # A segment is sealed once more is known to follow: only the last one carries the last flag.
            if self._waiting == self._room:
                self._seal(self._pending[: self._waiting], last=False)
                self._waiting = 0
            if not self._waiting and end - at > self._room:
                stop = at + self._room
                self._seal(view[at:stop], last=False)
            else:
                stop = min(end, at + self._room - self._waiting)
                self._pending[self._waiting : self._waiting + stop - at] = view[at:stop]
                self._waiting += stop - at
            at = stop

    def close(self) -> tuple[int, str]:
        """Seal what is left and return the object's length and the SHA-256 of its bytes, hexadecimal.

        Raises
        ------
        UsageError
            The sealer is closed, or its sink failed before.
        """
        self._must_be_open()
        self._seal(self._pending[: self._waiting], last=True)
        self._flush()
        self._closed = True
        return self._length, self._digest.hexdigest()

    def _must_be_open(self) -> None:
        if self._closed:
            raise UsageError("this object is closed or failed: seal it anew under a fresh id")

    def _seal(self, plain: memoryview, *, last: bool) -> None:
        if self._segments == MAX_SEGMENTS:
            raise UsageError("one object holds at most 256 TiB: split it")
        nonce = _NONCE.pack(self._prefix, self._segments, last)
        # Counted before it is used: an interrupt in between may lose a nonce, never use one twice.
        self._segments += 1
        stop = self._filled + len(plain) + TAG
        self._cipher.encrypt_into(nonce, plain, None, self._batch[self._filled : stop])
        self._filled = stop
        self._room = PLAIN_SEGMENT
        if stop + SEGMENT > len(self._batch):
            self._flush()

    def _flush(self) -> None:
        piece = self._batch[: self._filled]
        self._closed = True
        self._digest.update(piece)
        self._sink(piece)
        self._length += self._filled
        self._filled = 0
        self._closed = False


class Opener:
    """Open ranges of one sealed object; safe to share between threads.

    Parameters
    ----------
    dek : bytes
        The object's data encryption key, 32 bytes.
    head : buffer
        The object's first 88 bytes.
    vault_id : str
        32 hexadecimal digits.
    length : int
        Length of the whole object in bytes, as the manifest has it. The caller compares it with the
        stored object before reading a range.
    expect : Preamble
        What the object must say of itself.

    Raises
    ------
    IntegrityError
        The object is another one than expected, or its length is impossible.
    NewerFormat
        A newer version of this package wrote it.
    """

    def __init__(self, dek: bytes, head: Buffer, vault_id: str, length: int, expect: Preamble) -> None:
        head = bytes(head)
        if Preamble.unpack(head) != expect:
            raise IntegrityError(
                f"object {expect.object_id} is not what its reference says: verify the vault"
            )
        if len(head) != HEAD_LENGTH or head[PREAMBLE_LENGTH] != HEADER_LENGTH:
            raise IntegrityError(f"object {expect.object_id} has a damaged header: restore it from a copy")
        salt, self._prefix = head[PREAMBLE_LENGTH + 1 : -7], head[-7:]
        self.size = plain_length(length)
        self._object_id = expect.object_id
        self._length = length
        self._last = (length - PREAMBLE_LENGTH - 1) // SEGMENT
        self._cipher = _stream_cipher(dek, salt, head[:PREAMBLE_LENGTH], vault_id)

    def cipher_range(self, start: int, stop: int) -> tuple[int, int]:
        """Return the byte range of the object that holds plaintext bytes `start` to `stop`.

        An empty range needs no bytes, save that of an empty object: its tag.

        Raises
        ------
        UsageError
            The range reaches outside the object.
        """
        segments = self._segments(start, stop)
        if not segments:
            return HEAD_LENGTH, HEAD_LENGTH
        return self._cipher_start(segments[0]), self._cipher_stop(segments[-1])

    def open_range(self, cipher: Buffer, start: int, stop: int, out: memoryview) -> None:
        """Decrypt `cipher`, the bytes of `cipher_range(start, stop)`, into `out`.

        Whole segments are decrypted straight into `out`; only the two at the borders are copied.

        Raises
        ------
        IntegrityError
            A byte of it was changed, moved or cut; `out` is then all zero.
        UsageError
            The range reaches outside the object, or `out` is not as long as the range.
        """
        segments = self._segments(start, stop)
        out = out.cast("B") if out.nbytes else out
        if out.nbytes != stop - start:
            raise UsageError("the destination must be as long as the range: pass one of stop - start bytes")
        first, end = self.cipher_range(start, stop)
        if len(cipher) != end - first:
            raise IntegrityError(f"object {self._object_id} ends too soon: restore it from a copy")
        try:
            self._open_segments(memoryview(cipher), segments, (start, stop), out)
        except InvalidTag:
            out[:] = bytes(out.nbytes)
            raise IntegrityError(
                f"object {self._object_id} was changed or sealed under another key: restore it from a copy"
            ) from None

    def _open_segments(
        self, cipher: memoryview, segments: range, span: tuple[int, int], out: memoryview
    ) -> None:
        """Decrypt segment by segment: a few lines, since at 64 KiB every call more is felt."""
        start, stop = span
        decrypt, nonce, prefix, last = self._cipher.decrypt_into, _NONCE.pack, self._prefix, self._last
        at = 0
        for segment in segments:
            begin = segment * PLAIN_SEGMENT - HEADER_LENGTH if segment else 0
            end = min(self.size, (segment + 1) * PLAIN_SEGMENT - HEADER_LENGTH)
            sealed = cipher[at : at + end - begin + TAG]
            at += len(sealed)
            if start <= begin and end <= stop:
                decrypt(
                    nonce(prefix, segment, segment == last), sealed, None, out[begin - start : end - start]
                )
                continue
            # Only the segments at the borders of the range are decrypted aside.
            whole = memoryview(bytearray(end - begin))
            decrypt(nonce(prefix, segment, segment == last), sealed, None, whole)
            low, high = max(start, begin), min(stop, end)
            out[low - start : high - start] = whole[low - begin : high - begin]

    def _segments(self, start: int, stop: int) -> range:
        if not 0 <= start <= stop <= self.size:
            raise UsageError(f"bytes {start} to {stop} are not in an object of {self.size} bytes")
        if start == stop and self.size:
            return range(0)
        # The first segment is shorter by the header: count as if the header were plaintext.
        return range(
            (start + HEADER_LENGTH) // PLAIN_SEGMENT,
            (max(stop - 1, 0) + HEADER_LENGTH) // PLAIN_SEGMENT + 1,
        )

    def _cipher_start(self, segment: int) -> int:
        return PREAMBLE_LENGTH + segment * SEGMENT if segment else HEAD_LENGTH

    def _cipher_stop(self, segment: int) -> int:
        return min(self._length, PREAMBLE_LENGTH + (segment + 1) * SEGMENT)


__all__ = ["HEAD_LENGTH", "Kind", "Opener", "Preamble", "Sealer", "plain_length", "sealed_length"]
