"""Files kept aside get another chance: the sealed bytes are ingested from memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.dicom.sources import Source
from voxelvault.errors import UsageError, VoxelVaultError
from voxelvault.intake.candidates import Candidate, examine
from voxelvault.intake.commit import commit_batch
from voxelvault.intake.here import write_packs
from voxelvault.intake.ingest import (
    BATCH_BYTES,
    IngestOptions,
    IngestReport,
    issuer_of,
    without_duplicates,
)
from voxelvault.intake.memory import HeldSource
from voxelvault.intake.quarantine import Quarantined, Reason, Refused, quarantined_bytes
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.rows import changes

Row = Mapping[str, Any]

IDS_AN_ENTRY = 256
"""Ids that one audit entry names; a leaf has 64 KiB at most."""


@dataclass(frozen=True, slots=True)
class SealedSource(HeldSource):
    """A file that the vault itself keeps aside; its sealed bytes stay until maintenance drops them."""

    quarantine_id: str = ""


@dataclass(slots=True)
class RetryReport:
    """What became of the files.

    Attributes
    ----------
    stored : list of str
        Quarantine ids of those that are instances of the vault now.
    kept : list of Quarantined
        Those that stay, each with the reason it has now.
    """

    stored: list[str] = field(default_factory=list)
    kept: list[Quarantined] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True when nothing stays that could come in: DICOMDIRs are nobody's instances."""
        return all(item.reason is Reason.MEDIA_DIRECTORY for item in self.kept)

    def __str__(self) -> str:
        return f"{len(self.stored)} files came in, {len(self.kept)} stay in quarantine"


def quarantine_retry(
    resources: Resources, ids: Sequence[str] = (), *, issuer: str | None = None
) -> RetryReport:
    """Ingest files kept aside once more: after an update of the decoders, say.

    A file that comes in is marked as resolved. Killed in between, it is found to be in the vault
    at the next retry, and marked then. DICOMDIRs, and files of which no bytes were stored, stay.

    Parameters
    ----------
    resources : Resources
        The open vault.
    ids : sequence of str
        Which; by default all.
    issuer : str, optional
        Stands in where a header has no IssuerOfPatientID; by default as for `ingest`.

    Returns
    -------
    RetryReport
        Which came in, and why the others stay.

    Raises
    ------
    UsageError
        An id is not in quarantine.
    IntegrityError
        A sealed file is not what was stored.
    """
    require(resources.policy, Request(Kind.QUARANTINE_RETRIED, tuple(ids), resources.purpose, resources.who))
    require_writable(resources)
    rows = _rows(resources, ids)
    options = IngestOptions(issuer=issuer)
    report, action = RetryReport(), new_id()
    chosen = [row["quarantine_id"] for row in rows]
    _log(resources, action, Outcome.INTENT, chosen, 0)
    try:
        for batch in _batches(rows):
            _retry(resources, batch, options, report)
    except VoxelVaultError:
        _log(resources, action, Outcome.FAILED, report.stored, 0)
        raise
    size = sum(row["size"] for row in rows if row["quarantine_id"] in set(report.stored))
    _log(resources, action, Outcome.OK if report.complete else Outcome.PARTIAL, report.stored, size)
    return report


def _rows(resources: Resources, ids: Sequence[str]) -> list[Row]:
    found: list[Row] = resources.catalog.query(
        "select * from quarantine where not resolved and (len($ids::VARCHAR[]) = 0"
        " or quarantine_id in (select unnest($ids::VARCHAR[]))) order by seen, quarantine_id",
        {"ids": list(ids)},
    ).to_pylist()
    if missing := set(ids) - {row["quarantine_id"] for row in found}:
        raise UsageError(f"not in quarantine: {', '.join(sorted(missing))}; see `quarantine list`")
    return found


def _batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        if batch and size + row["size"] > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row["size"]
    if batch:
        yield batch


def _retry(resources: Resources, rows: Sequence[Row], options: IngestOptions, report: RetryReport) -> None:
    candidates: list[Candidate] = []
    for row in rows:
        outcome = _examined(resources, row, options)
        if isinstance(outcome, Candidate):
            candidates.append(outcome)
        else:
            report.kept.append(_item(row, outcome))
    if not candidates:
        return
    failed = _store(resources, candidates, options)
    came_in = [_id_of(candidate.source) for candidate in candidates if _id_of(candidate.source) not in failed]
    by_id = {row["quarantine_id"]: row for row in rows}
    report.kept += [_item(by_id[quarantine_id], reason) for quarantine_id, reason in failed.items()]
    resolved = [{"quarantine_id": quarantine_id, "resolved": True} for quarantine_id in came_in]
    resources.catalog.commit(changes("quarantine", resolved, "merge"), resources.keys.commit)
    report.stored += came_in


def _examined(resources: Resources, row: Row, options: IngestOptions) -> Candidate | Reason:
    """Return the file as something to store, or why it stays."""
    if not row["object_id"]:
        return Reason.of(row["reason"])
    data = quarantined_bytes(resources, row)
    source = SealedSource(Path(row["source"]), len(data), None, data, quarantine_id=row["quarantine_id"])
    outcome = examine(source, issuer_of(source, options))
    if outcome is None:
        return Reason.of(row["reason"])
    return outcome.reason if isinstance(outcome, Refused) else outcome


def _store(
    resources: Resources, candidates: Sequence[Candidate], options: IngestOptions
) -> dict[str, Reason]:
    """Store files, a pack for each series; return which could not be, and why."""
    aside: list[Refused] = []
    fresh = without_duplicates(resources, candidates, IngestReport())
    groups: dict[Any, list[Candidate]] = {}
    for candidate in fresh:
        groups.setdefault(candidate.group, []).append(candidate)
    if groups:
        action, codec = new_id(), options.codec or resources.settings.codec
        with ThreadPoolExecutor(resources.options.threads or os.cpu_count() or 1) as executor:
            drafts = write_packs(resources, action, list(groups.values()), codec, executor, aside)
        # They are in quarantine already: nothing is put aside a second time.
        commit_batch(resources, action, drafts, [])
    return {_id_of(refused.source): refused.reason for refused in aside}


def _id_of(source: Source) -> str:
    return source.quarantine_id if isinstance(source, SealedSource) else ""


def _item(row: Row, reason: Reason) -> Quarantined:
    then = Quarantined(
        row["quarantine_id"], Reason.of(row["reason"]), row["source"], row["size"], row["sha256"] or ""
    )
    return replace(then, reason=reason)


def _log(resources: Resources, action: str, outcome: Outcome, ids: Sequence[str], size: int) -> None:
    parts = [tuple(ids[at : at + IDS_AN_ENTRY]) for at in range(0, len(ids), IDS_AN_ENTRY)] or [()]
    resources.audit.append(
        [
            Event(
                kind=Kind.QUARANTINE_RETRIED,
                who=resources.who,
                purpose=resources.purpose,
                action=action,
                outcome=outcome,
                ids={"quarantine": part} if part else {},
                counts={"items": len(part), "bytes": size if number == 0 else 0},
            )
            for number, part in enumerate(parts)
        ]
    )


__all__ = ["RetryReport", "quarantine_retry"]
