"""The closed set of events, and what each may carry.

An event names no patient: ids are random, codes are words of ours, digests and counts are numbers.
So entries outlive an erasure. What people typed (a query, a reason) goes into `text`, which is
sealed apart from the entry and can be erased.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from voxelvault.errors import UsageError
from voxelvault.model import new_id


class Kind(StrEnum):
    """What happened."""

    VAULT_CREATED = "vault.created"
    VAULT_OPENED = "vault.opened"
    INGEST = "ingest"
    HANDLE_OPENED = "handle.opened"
    HANDLE_CLOSED = "handle.closed"
    QUERY = "query"
    IDENTIFYING_READ = "identifying.read"
    COHORT_FROZEN = "cohort.frozen"
    COHORT_SPLIT = "cohort.split"
    DERIVED_BUILT = "derived.built"
    DERIVED_REMOVED = "derived.removed"
    EXPORT = "export"
    VERIFY = "verify"
    REPAIR = "repair"
    CATALOG_CHANGED = "catalog.changed"
    SLOT_ADDED = "slot.added"
    SLOT_REMOVED = "slot.removed"
    KEYS_ROTATED = "keys.rotated"
    SUBJECT_MERGED = "subject.merged"
    STUDY_MOVED = "study.moved"
    STUDY_KEY_DESTROYED = "study.key.destroyed"
    INSTANCE_REMOVED = "instance.removed"
    COMPACTED = "compacted"
    CATALOG_REBUILT = "catalog.rebuilt"
    COHORT_ERASED = "cohort.erased"
    QUARANTINE_LISTED = "quarantine.listed"
    QUARANTINE_EXPORTED = "quarantine.exported"
    QUARANTINE_RETRIED = "quarantine.retried"
    CHECKPOINT_EXPORTED = "checkpoint.exported"
    PROOF_GIVEN = "proof.given"
    RESTORE_ACCEPTED = "restore.accepted"
    OPTION_CHANGED = "option.changed"
    PROJECT_MADE = "project.made"
    CUSTODIAN_ENROLLED = "custodian.enrolled"
    CUSTODIAN_REMOVED = "custodian.removed"
    APPROVER_ENROLLED = "approver.enrolled"
    APPROVER_REMOVED = "approver.removed"
    LEDGER_REQUESTED = "ledger.requested"
    LEDGER_APPROVED = "ledger.approved"
    LEDGER_OPENED = "ledger.opened"
    RELEASE_MADE = "release.made"
    DOCUMENT_STORED = "document.stored"
    DOCUMENT_REMOVED = "document.removed"
    TASK_SCHEDULED = "task.scheduled"
    TASK_STARTED = "task.started"
    TASK_COMPLETED = "task.completed"
    TASK_CANCELED = "task.canceled"
    TASK_SUPERSEDED = "task.superseded"
    READING_LISTED = "reading.listed"
    READING_RANKED = "reading.ranked"
    READING_CLAIMED = "reading.claimed"
    READING_RELEASED = "reading.released"
    READING_COMPLETED = "reading.completed"
    READING_OVERRIDDEN = "reading.overridden"
    READING_SUPERSEDED = "reading.superseded"
    FEDERATED_ENTERED = "federated.entered"
    FEDERATED_CHARGED = "federated.charged"


class Outcome(StrEnum):
    """How it ended; `INTENT` for what is about to be done and gets an outcome under the same action."""

    INTENT = "intent"
    OK = "ok"
    PARTIAL = "partial"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class _Allowed:
    ids: frozenset[str] = frozenset()
    counts: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    manifests: bool = False
    text: bool = False


def _allow(
    ids: str = "",
    counts: str = "",
    digests: str = "",
    codes: str = "",
    *,
    manifests: bool = False,
    text: bool = False,
) -> _Allowed:
    # Every kind may say why it was denied or failed, and how many milliseconds it took.
    return _Allowed(
        frozenset(ids.split()),
        frozenset([*counts.split(), "milliseconds"]),
        frozenset(digests.split()),
        frozenset([*codes.split(), "reason"]),
        manifests,
        text,
    )


_SCOPE = "subject study series instance cohort"
_HEADS = "record catalog"
_NUMBERS = "record_number snapshot"
_VAULT = f"generation {_NUMBERS}"
_READ = "frames instances bytes"

ALLOWED: Mapping[Kind, _Allowed] = {
    Kind.VAULT_CREATED: _allow(counts=_VAULT, digests=_HEADS, codes="provider"),
    Kind.VAULT_OPENED: _allow(counts=_VAULT, digests=_HEADS, codes="mode provider"),
    Kind.INGEST: _allow(
        f"{_SCOPE} pack object quarantine",
        f"files instances series studies subjects frames bytes duplicates quarantined conflicts {_NUMBERS}",
        _HEADS,
        "codec mode origin",
        manifests=True,
    ),
    Kind.HANDLE_OPENED: _allow(f"{_SCOPE} grant", "members", "members", "type", text=True),
    Kind.HANDLE_CLOSED: _allow(f"{_SCOPE} grant", f"members samples {_READ}", "members", "type"),
    Kind.QUERY: _allow("series cohort", "members rows columns", "members catalog", text=True),
    Kind.IDENTIFYING_READ: _allow(
        "series cohort project", "members rows documents", "members catalog", "columns", text=True
    ),
    Kind.COHORT_FROZEN: _allow("cohort", "members subjects snapshot", "members catalog"),
    Kind.COHORT_SPLIT: _allow("cohort", "members subjects parts snapshot", "members recipe catalog"),
    Kind.DERIVED_BUILT: _allow("cohort", "series derived bytes snapshot", "recipe catalog", "type"),
    Kind.DERIVED_REMOVED: _allow("cohort", "derived bytes snapshot", "recipe catalog", "type"),
    Kind.EXPORT: _allow(_SCOPE, f"members files {_READ}", "members manifest", "format"),
    Kind.VERIFY: _allow(counts=f"objects packs entries failures {_READ}", digests="checkpoint", codes="mode"),
    Kind.REPAIR: _allow("object pack", "objects packs bytes", f"checkpoint {_HEADS}", "mode", manifests=True),
    Kind.CATALOG_CHANGED: _allow(counts=f"rows files {_NUMBERS}", digests="catalog", codes="mode"),
    Kind.SLOT_ADDED: _allow("slot", "generation record_number", "record", "provider"),
    Kind.SLOT_REMOVED: _allow("slot", "generation record_number", "record", "provider"),
    Kind.KEYS_ROTATED: _allow("slot key", "generation record_number", "record", "provider"),
    Kind.SUBJECT_MERGED: _allow("subject into study", f"studies {_NUMBERS}", _HEADS, text=True),
    Kind.STUDY_MOVED: _allow("study subject into", _NUMBERS, _HEADS, text=True),
    Kind.STUDY_KEY_DESTROYED: _allow(
        "subject study key pack object quarantine slot",
        f"generation objects instances {_NUMBERS}",
        _HEADS,
        "provider",
        text=True,
    ),
    Kind.INSTANCE_REMOVED: _allow(
        "subject study instance pack into key object quarantine written slot",
        f"generation objects instances {_NUMBERS}",
        _HEADS,
        manifests=True,
        text=True,
    ),
    Kind.COMPACTED: _allow("pack into", f"packs instances frames bytes {_NUMBERS}", _HEADS, manifests=True),
    Kind.CATALOG_REBUILT: _allow(
        "pack", f"packs instances rows lost {_NUMBERS}", f"checkpoint {_HEADS}", "reason"
    ),
    Kind.COHORT_ERASED: _allow("cohort", "members subjects snapshot", "members catalog"),
    Kind.QUARANTINE_LISTED: _allow("quarantine", "items"),
    Kind.QUARANTINE_EXPORTED: _allow("quarantine", "items bytes"),
    Kind.QUARANTINE_RETRIED: _allow("quarantine", "items bytes"),
    Kind.CHECKPOINT_EXPORTED: _allow(counts="size", digests="root"),
    Kind.PROOF_GIVEN: _allow(counts="entry size", digests="root"),
    Kind.RESTORE_ACCEPTED: _allow(
        counts="pinned_size found_size pinned_record_number found_record_number",
        digests="pinned_root found_root",
        text=True,
    ),
    Kind.OPTION_CHANGED: _allow(digests="record", codes="option value"),
    Kind.PROJECT_MADE: _allow("project", "custodians approvers", "document"),
    Kind.CUSTODIAN_ENROLLED: _allow("project custodian", "custodians", "document"),
    Kind.CUSTODIAN_REMOVED: _allow("project custodian", "custodians", "document"),
    Kind.APPROVER_ENROLLED: _allow(
        "project approver request", "approvers", "document request statement second"
    ),
    Kind.APPROVER_REMOVED: _allow("project approver", "approvers", "document"),
    # `statement` is the digest of what an approver signed, `second` that of the other one's.
    Kind.LEDGER_REQUESTED: _allow("project request", "pseudonyms", "request", "maps", text=True),
    Kind.LEDGER_APPROVED: _allow("project request approver", "pseudonyms", "request statement", "maps"),
    Kind.LEDGER_OPENED: _allow(
        "project request approver", "pseudonyms batches rows", "request statement second", "maps"
    ),
    Kind.RELEASE_MADE: _allow(
        "project custodian release series cohort",
        f"members subjects studies series files refused pairs {_READ}",
        "policy receipts members",
        "profile options format notes reason",
    ),
    Kind.DOCUMENT_STORED: _allow("document", "bytes", "document about", "area"),
    Kind.DOCUMENT_REMOVED: _allow("document project", "documents", "about", "area"),
    # The tables `tasks` and `reading_items` are made of these alone. Times are microseconds since the
    # epoch, score, threshold and volume (mL) billionths.
    Kind.TASK_SCHEDULED: _allow(
        "task study former", "attempt scheduled arrived", "content model", "pipeline version priority"
    ),
    Kind.TASK_STARTED: _allow("task transaction", "started"),
    Kind.TASK_COMPLETED: _allow(
        "task series", "ended score threshold volume_ml", codes="verdict reasons", text=True
    ),
    Kind.TASK_CANCELED: _allow("task", "ended", codes="reasons", text=True),
    Kind.TASK_SUPERSEDED: _allow("task"),
    Kind.READING_LISTED: _allow("item study task", "arrived listed", codes="priority"),
    Kind.READING_RANKED: _allow("item task", "ranked", codes="priority"),
    Kind.READING_CLAIMED: _allow("item", "claimed"),
    Kind.READING_RELEASED: _allow("item"),
    Kind.READING_COMPLETED: _allow("item", "completed"),
    Kind.READING_OVERRIDDEN: _allow("item", codes="priority", text=True),
    Kind.READING_SUPERSEDED: _allow("item"),
    # `record` is the digest of the entry that all parties of a run hold; it names the one before. `epsilon`
    # was the name of `epsilon_millionths` in logs of before.
    Kind.FEDERATED_ENTERED: _allow(
        counts="round sites aside sent received examples epsilon epsilon_millionths",
        digests="job record previous aggregate app update cohort",
        codes="entry",
    ),
    Kind.FEDERATED_CHARGED: _allow(counts="round steps epsilon epsilon_millionths", digests="job"),
}
"""What an event of each kind may carry, by name; anything else is refused.

`ids` are random ids by role, `counts` whole numbers, `digests` SHA-256, `codes` words of a closed
set (or column names), `manifests` pack ids with the digest of their manifest.
"""

_ID = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# A code starts with a letter: no UID, date or number passes for one.
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}")
_WHO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@/=,+-]{0,254}")
_UID = re.compile(r"[0-9]+(\.[0-9]+){2,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something to be entered in the log.

    Parameters
    ----------
    kind : Kind
        What happened.
    who : str
        The caller: an account, a role or a process; no spaces.
    outcome : Outcome
        How it ended.
    purpose : str, optional
        Code of the purpose of use; an empty one is none.
    action : str
        Random id that joins an intent with its outcome, an opened handle with its closing.
    ids : mapping of str to tuple of str
        Random ids by role.
    counts : mapping of str to int
        Whole numbers, not negative.
    digests : mapping of str to str
        SHA-256, hexadecimal.
    manifests : mapping of str to str
        Pack ids, each with the SHA-256 of its manifest.
    codes : mapping of str to tuple of str
        Words of closed sets, such as a quarantine reason.
    text : str, optional
        Free text: sealed apart, committed to by HMAC, erasable.

    Raises
    ------
    UsageError
        The kind does not carry this, or a value is not what its field holds.
    """

    kind: Kind
    who: str
    outcome: Outcome = Outcome.OK
    purpose: str | None = None
    action: str = field(default_factory=new_id)
    ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    text: str | None = None

    def __post_init__(self) -> None:
        allowed = ALLOWED[self.kind]
        for name in ("ids", "counts", "digests", "codes"):
            self._refuse(getattr(self, name).keys() - getattr(allowed, name), name)
        self._refuse({"manifests"} if self.manifests and not allowed.manifests else set(), "field")
        self._refuse({"text"} if self.text is not None and not allowed.text else set(), "field")
        _match(_WHO, [self.who], "who is asking: an account name without spaces")
        _match(_PURPOSE, [self.purpose] if self.purpose else [], "a purpose: a code such as IRB-2031")
        _match(_ID, [self.action, *self.manifests], "an id")
        _match(_DIGEST, [*self.digests.values(), *self.manifests.values()], "a digest")
        for ids in self.ids.values():
            _match(_ID, ids, "an id")
        for codes in self.codes.values():
            _match(_CODE, codes, "a code")
        if not all(type(count) is int and 0 <= count < 1 << 63 for count in self.counts.values()):
            raise UsageError(f"an audit event of kind {self.kind} carries a count that is no whole number")

    def _refuse(self, names: set[str], what: str) -> None:
        if names:
            raise UsageError(
                f"an audit event of kind {self.kind} carries no {what} {', '.join(sorted(names))}"
            )


def _match(pattern: re.Pattern[str], values: Iterable[object], what: str) -> None:
    if isinstance(values, str) or not all(_fits(pattern, value) for value in values):
        # The value is not repeated: it may be the very thing that must not be written down.
        raise UsageError(f"this is not {what}; nothing was logged or done")


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and bool(pattern.fullmatch(value)) and not _UID.fullmatch(value)
