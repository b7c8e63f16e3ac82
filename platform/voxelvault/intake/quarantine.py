"""Files kept aside: why, what to do, and how to get them back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow as pa

from voxelvault.audit.events import Event, Kind
from voxelvault.crypto.keyring import Role
from voxelvault.crypto.streaming_aead import Kind as SealedKind
from voxelvault.dicom.sources import Source
from voxelvault.errors import DicomError, StorageError, UsageError
from voxelvault.files import disk_error, write_new
from voxelvault.model import Buffer, SealedRef, new_id
from voxelvault.policy.access import Request, require
from voxelvault.resources import Resources


class Reason(Enum):
    """The closed set of reasons: code, sentence, what to do."""

    MALFORMED = (
        "malformed",
        "the file contradicts itself: lengths, nesting or encoding do not fit its size",
        "ask the sender for it again; `quarantine export` gives the bytes back as they came",
    )
    HEADER_TOO_LARGE = (
        "header_too_large",
        "its header would take more memory than that of any real object, as hostile files' do",
        "treat the sender as suspect; `quarantine export` gives the bytes back as they came",
    )
    UNRECOGNISED = (
        "unrecognised",
        "it is named as DICOM but does not begin like it",
        "check that it arrived whole; if it isn't DICOM, leave it out",
    )
    INVALID_UID = (
        "invalid_uid",
        "an identifying UID is too long, or has other characters than letters, digits and ._- (PS3.5 9.1)",
        "correct the UID at the source and ingest the corrected file",
    )
    DECODER_CRASHED = (
        "decoder_crashed",
        "its codestream killed or stalled the decoder, as hostile files do",
        "treat the sender as suspect; `quarantine retry` after an update of the decoders",
    )
    CODEC_MISMATCH = (
        "codec_mismatch",
        "a frame did not come back from its codec as it went in, so it was not trusted to it",
        "run `quarantine retry`; if it stays, report the codec's version",
    )
    MEDIA_DIRECTORY = (
        "media_directory",
        "a DICOMDIR lists a medium's files, of several patients maybe, so it is nobody's instance",
        "no action is needed: the files it names come in one by one, and it is kept as it came",
    )
    UNFORESEEN = (
        "unforeseen",
        "reading it failed in a way that this version does not know",
        "report the version and the kind of file; `quarantine retry` after an update",
    )
    CHANGED = (
        "changed",
        "it was written to while it was read",
        "ingest it again when nobody writes to it; no bytes of it were stored",
    )
    UNREADABLE = (
        "unreadable",
        "the file could not be read, or is no file that may be read",
        "check permission and disk, then ingest it again; no bytes of it were stored",
    )

    @property
    def code(self) -> str:
        """The word that stands in the catalog and in audit entries."""
        return self.value[0]

    @property
    def sentence(self) -> str:
        """What is wrong, for people."""
        return self.value[1]

    @property
    def advice(self) -> str:
        """What to do about it."""
        return self.value[2]

    @classmethod
    def of(cls, code: str) -> Reason:
        """Return the reason with that code."""
        return next(reason for reason in cls if reason.code == code)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One file kept aside, as shown to whoever may see it.

    Parameters
    ----------
    quarantine_id : str
        Opaque id; also that of the sealed object.
    reason : Reason
        Why.
    source : str
        Where it came from. May identify a patient: for interactive output only.
    size : int
        In bytes; 0 when nothing of it could be stored.
    sha256 : str
        Of the file.
    """

    quarantine_id: str
    reason: Reason
    source: str
    size: int
    sha256: str = ""

    @property
    def likeness(self) -> tuple[str, str]:
        """What tells whether a file is here already: its bytes, or its place where there are none."""
        return self.sha256 or self.source, self.reason.code


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that can't come in as an instance: its source, the reason, its bytes if any.

    Where another process looked at it, `sha256` and `size` stand for the bytes, which are read again
    when they are sealed.
    """

    source: Source
    reason: Reason
    data: Buffer | None = field(repr=False)
    quarantine_id: str = field(default_factory=new_id)
    sha256: str = ""
    size: int = 0

    def described(self) -> Quarantined:
        """Return what a report says of it."""
        source = self.source.display
        if self.sha256:
            return Quarantined(self.quarantine_id, self.reason, source, self.size, self.sha256)
        if self.data is None:
            return Quarantined(self.quarantine_id, self.reason, source, 0)
        digest = hashlib.sha256(self.data).hexdigest()
        return Quarantined(self.quarantine_id, self.reason, source, len(self.data), digest)


def known_aside(query: Callable[..., pa.Table], items: Sequence[Quarantined]) -> dict[tuple[str, str], str]:
    """Return which of these files are in quarantine already: their likeness and quarantine id."""
    if not items:
        return {}
    rows = query(
        "select quarantine_id, sha256, source, reason from quarantine where not resolved"
        " and (sha256 in (select unnest($digests)) or (sha256 = '' and source in (select unnest($sources))))",
        {"digests": [item.sha256 for item in items], "sources": [item.source for item in items]},
    ).to_pylist()
    return {(row["sha256"] or row["source"], row["reason"]): row["quarantine_id"] for row in rows}


def _at_hand(refused: Refused) -> Refused:
    """Return it with its bytes; where they are others now, or gone, none are kept."""
    if not refused.sha256:
        return refused
    data: Buffer | None = None
    with suppress(StorageError, DicomError):
        data = refused.source.read()
    if data is None or hashlib.sha256(data).hexdigest() != refused.sha256:
        return replace(refused, reason=Reason.CHANGED, data=None, sha256="", size=0)
    return replace(refused, data=data)


def seal_aside(resources: Resources, refused: Refused) -> tuple[Quarantined, Mapping[str, Any]]:
    """Seal one file's bytes under a key of its own; return what to report and its catalog row."""
    refused = _at_hand(refused)
    item = refused.described()
    row: dict[str, Any] = {
        "quarantine_id": item.quarantine_id,
        "reason": item.reason.code,
        "detail": item.reason.sentence,
        "source": item.source,
        "size": item.size,
        "sha256": item.sha256,
        "seen": datetime.now(UTC).replace(tzinfo=None),
        "resolved": False,
    }
    if refused.data is not None:
        key_id = resources.keys.new_key(Role.QUARANTINE)
        ref = resources.sealed.put(
            SealedKind.QUARANTINE,
            resources.keys.dek(key_id),
            key_id,
            [refused.data],
            object_id=item.quarantine_id,
        )
        row |= {
            "object_id": ref.object_id,
            "key_id": ref.key_id,
            "kind": ref.kind,
            "length": ref.length,
            "object_sha256": ref.sha256,
        }
    return item, row


def quarantine_list(resources: Resources, ids: Sequence[str] = ()) -> list[Quarantined]:
    """Return what is kept aside; the listing is an audit entry, since sources may identify people."""
    rows = _rows(resources, Kind.QUARANTINE_LISTED, ids)
    return [_item(row) for row in rows]


def quarantine_export(
    resources: Resources, out: str | os.PathLike[str], ids: Sequence[str] = ()
) -> list[Path]:
    """Write files kept aside into a folder, byte for byte, each named by its quarantine id.

    Raises
    ------
    UsageError
        An id is unknown, or a file of that name is there.
    IntegrityError
        The sealed bytes are not what was stored.
    """
    folder = Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error) from None
    written = []
    for row in _rows(resources, Kind.QUARANTINE_EXPORTED, ids):
        if row["object_id"]:
            path = folder / f"{row['quarantine_id']}.dcm"
            write_new(path, [quarantined_bytes(resources, row)])
            written.append(path)
    return written


def quarantined_bytes(resources: Resources, row: Mapping[str, Any]) -> bytes:
    """Return the bytes of one file kept aside, checked against its digest."""
    ref = SealedRef(row["object_id"], row["key_id"], row["kind"], row["length"], row["object_sha256"])
    return bytes(resources.sealed.open_whole(ref, resources.keys.dek(ref.key_id)))


def _rows(resources: Resources, kind: Kind, ids: Sequence[str]) -> list[dict[str, Any]]:
    require(resources.policy, Request(kind, tuple(ids), resources.purpose, resources.who))
    found: list[dict[str, Any]] = resources.catalog.query(
        "select * from quarantine where not resolved order by seen, quarantine_id"
    ).to_pylist()
    if ids:
        known = {row["quarantine_id"] for row in found}
        if missing := set(ids) - known:
            raise UsageError(f"not in quarantine: {', '.join(sorted(missing))}; see `quarantine list`")
        found = [row for row in found if row["quarantine_id"] in ids]
    resources.audit.append(
        [
            Event(
                kind=kind,
                who=resources.who,
                purpose=resources.purpose,
                ids={"quarantine": tuple(ids)} if ids else {},
                counts={"items": len(found)},
            )
        ]
    )
    return found


def _item(row: Mapping[str, Any]) -> Quarantined:
    return Quarantined(
        row["quarantine_id"], Reason.of(row["reason"]), row["source"], row["size"], row["sha256"] or ""
    )
