"""A witness of others' logs: it cosigns a tree head that continues the last one that it cosigned.

It trusts no log and reads no entry. Of each log it keeps one document, the newest checkpoint that it
cosigned, and replaces it by compare-and-set before it answers: of two requests at once that continue
one state differently, one is refused, also where two processes answer.

References
----------
C2SP tlog-witness: https://c2sp.org/tlog-witness
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from voxelvault.audit.checkpoint import (
    NOTE_LIMIT,
    Checkpoint,
    NoteKey,
    decode64,
    open_checkpoint,
    signature_line,
    signatures_by,
    split_note,
)
from voxelvault.audit.cosignature import WitnessKey, cosign
from voxelvault.audit.merkle import EMPTY_ROOT, HASH_SIZE, verify_consistency
from voxelvault.errors import IntegrityError, ObjectChanged, ObjectMissing, StorageError
from voxelvault.model import ObjectStore

BODY_LIMIT = NOTE_LIMIT + (1 << 12)
"""Longest request in bytes: a note and a proof of 63 lines."""

SIZE_TYPE = "text/x.tlog.size"
_TEXT = "text/plain; charset=utf-8"
_MOST_HASHES = 63
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a witness answers, as HTTP says it.

    Parameters
    ----------
    status : int
        200, or 400, 403, 404, 409, 422 as the specification has them; 503 when it couldn't be kept.
    body : str
        Signature lines, a checkpoint, a size, or one line that says why not.
    kind : str
        Media type.
    """

    status: int
    body: str
    kind: str = _TEXT


@dataclass(frozen=True, slots=True)
class Submission:
    """The body of `add-checkpoint`.

    Parameters
    ----------
    old : int
        Size that the proof starts from.
    path : tuple of bytes
        RFC 6962 consistency proof, hashes of 32 bytes.
    note : str
        The log's signed checkpoint.
    """

    old: int
    path: tuple[bytes, ...]
    note: str

    @classmethod
    def parse(cls, body: bytes) -> Submission:
        """Read a request.

        Raises
        ------
        IntegrityError
            It is none; the witness says 400.
        """
        try:
            head, blank, note = body.decode("utf-8").partition("\n\n")
        except UnicodeDecodeError:
            raise IntegrityError(_MALFORMED) from None
        first, *lines = head.split("\n")
        old = _OLD.fullmatch(first)
        if not old or not blank or len(body) > BODY_LIMIT or len(lines) > _MOST_HASHES:
            raise IntegrityError(_MALFORMED)
        path = tuple(decode64(line, _MALFORMED) for line in lines)
        if any(len(one) != HASH_SIZE for one in path):
            raise IntegrityError(_MALFORMED)
        return cls(int(old[1]), path, note)


_MALFORMED = "this is no request to a witness; send what C2SP tlog-witness has"


class Witness:
    """Cosigns the checkpoints of the logs that it knows; several threads and processes may share one.

    Parameters
    ----------
    key : WitnessKey
        Its name and public key.
    sign : callable
        Returns the Ed25519 signature, 64 bytes, of a message.
    logs : iterable of NoteKey
        Keys of the logs; the name of each is its log's origin, which may have several.
    objects : ObjectStore
        Where it keeps what it cosigned, below `witness/`. Put back an older copy of that, and it can be
        made to cosign a fork.
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(
        self,
        key: WitnessKey,
        sign: Callable[[bytes], bytes],
        logs: Iterable[NoteKey],
        objects: ObjectStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.key, self._sign, self._objects, self._clock = key, sign, objects, clock
        self._logs: dict[str, list[NoteKey]] = {}
        for log in logs:
            self._logs.setdefault(log.name, []).append(log)

    def add_checkpoint(self, body: bytes) -> Answer:
        """Cosign a checkpoint if it continues the last one.

        Parameters
        ----------
        body : bytes
            Of the request `add-checkpoint`; from anybody.

        Returns
        -------
        Answer
            200 with the cosignature's line once the new state is kept, else why not.
        """
        try:
            asked = Submission.parse(body)
            text, signatures = split_note(asked.note)
            checkpoint = Checkpoint.parse(text)
        except IntegrityError as error:
            return _no(400, str(error))
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            return _no(404, "this witness doesn't know the log; ask its keeper to add the log's key")
        signed = [key for key in keys if signatures_by(key, signatures)]
        try:
            for key in signed:
                open_checkpoint(asked.note, key)
        except IntegrityError as error:
            return _no(403, str(error))
        if not signed:
            return _no(403, "no known key of this log signed the checkpoint")
        try:
            return self._continue(
                asked,
                checkpoint,
                text,
                [signature_line(key, data) for key in signed for data in signatures_by(key, signatures)],
            )
        except StorageError:
            return _no(503, "the witness can't keep its state now; ask again later")

    def _continue(self, asked: Submission, new: Checkpoint, text: str, lines: list[str]) -> Answer:
        last, version = self._last(new.origin)
        if asked.old > new.size:
            return _no(400, "the old size is larger than the checkpoint's")
        if asked.old != last.size:
            return Answer(409, f"{last.size}\n", SIZE_TYPE)
        if not _continues(last, new, asked.path):
            return _no(422, "the checkpoint doesn't continue the one that was cosigned")
        line = cosign(text, self.key, self._sign, int(self._clock()))
        kept = f"{text}\n{''.join(dict.fromkeys(lines))}{line}"
        try:
            self._objects.swap(_place(origin_hash(new.origin)), kept.encode(), version)
        except ObjectChanged:
            # Another request came first; what it left is the state now.
            return Answer(409, f"{self._last(new.origin)[0].size}\n", SIZE_TYPE)
        return Answer(200, line)

    def _last(self, origin: str) -> tuple[Checkpoint, str | None]:
        try:
            data, version = self._objects.versioned(_place(origin_hash(origin)))
        except ObjectMissing:
            return Checkpoint(origin, 0, EMPTY_ROOT), None
        return Checkpoint.parse(split_note(data.decode())[0]), version

    def checkpoint(self, hashed: str) -> Answer:
        """Return the newest checkpoint that was cosigned of a log, for those who watch it.

        Parameters
        ----------
        hashed : str
            SHA-256 of the log's origin, hexadecimal, in lower case.
        """
        known = {origin_hash(origin) for origin in self._logs}
        try:
            if hashed in known:
                return Answer(200, self._objects.get(_place(hashed)).decode())
        except ObjectMissing:
            pass
        except StorageError:
            return _no(503, "the witness can't read its state now; ask again later")
        return _no(404, "this witness never cosigned a checkpoint of that log")


def origin_hash(origin: str) -> str:
    """Return the name that a witness serves a log's checkpoint under."""
    return hashlib.sha256(origin.encode()).hexdigest()


def _continues(last: Checkpoint, new: Checkpoint, path: tuple[bytes, ...]) -> bool:
    if new.size == 0 and new.root != EMPTY_ROOT:
        return False
    try:
        verify_consistency(last.size, new.size, path, last.root, new.root)
    except IntegrityError:
        return False
    return True


def _place(hashed: str) -> str:
    return f"witness/{hashed}"


def _no(status: int, why: str) -> Answer:
    return Answer(status, f"{why}\n")


__all__ = ["BODY_LIMIT", "SIZE_TYPE", "Answer", "Submission", "Witness", "origin_hash"]
