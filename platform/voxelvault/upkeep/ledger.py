"""What the log says of packs: which were intended, committed, replaced and taken away. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from voxelvault.audit.events import Kind, Outcome
from voxelvault.audit.leaf import Entry

READERS = 7 * 86_400.0
"""Seconds that the objects of a compacted pack stay for readers at work: as long as a loan lasts."""

REPLACING = frozenset({Kind.COMPACTED, Kind.INSTANCE_REMOVED, Kind.STUDY_KEY_DESTROYED})
"""Events by which packs go, and others may come for them."""

TURNING = frozenset({Kind.SUBJECT_MERGED, Kind.STUDY_MOVED})
"""Events by which images come to another subject."""

NEW = ("pack", "quarantine")
"""Roles of an ingest's intent: what it is about to write."""


@dataclass(slots=True)
class Replacement:
    """Packs that one action replaces or takes away.

    Attributes
    ----------
    kind, action : str
        As entered.
    since : float
        When it was intended, seconds since the epoch.
    ids : dict of str to set of str
        By role: `pack` goes, `into` comes or gets another manifest, `object` is to be deleted,
        `written` are new manifests, `key` is to be destroyed, `quarantine` are files to be deleted.
    """

    kind: str
    action: str
    since: float = 0.0
    ids: dict[str, set[str]] = field(default_factory=dict)

    @property
    def old(self) -> set[str]:
        """Packs that go."""
        return self.ids.get("pack", set())

    @property
    def new(self) -> set[str]:
        """Packs that come, or stay under another manifest."""
        return self.ids.get("into", set())

    def add(self, ids: Mapping[str, Iterable[str]]) -> None:
        """Take the ids of one more entry."""
        for role, some in ids.items():
            self.ids.setdefault(role, set()).update(some)


@dataclass(frozen=True, slots=True)
class Turn:
    """A merge or a move: where in the log it stands, when it was intended, in UTC, and of whom."""

    place: int
    kind: str
    action: str
    when: datetime
    ids: Mapping[str, tuple[str, ...]]


@dataclass(slots=True)
class Ledger:
    """What the log says of packs.

    Attributes
    ----------
    manifests : dict
        Pack id to the digest of its manifest, as last committed.
    positions : dict
        Pack id to the entry that first committed it.
    intents : dict
        Pack, quarantine or manifest's object id to the action that intended it.
    replacing : set
        Those of `intents` that an outcome names where they were committed: packs, and what a
        replacement writes. A pack that it doesn't name was begun by a worker that died.
    finished : set
        Actions with an outcome.
    gone : dict
        Packs that were compacted, erased or removed, each with the time since when nobody but readers
        at work needs its objects; 0 where nobody may.
    replaced : dict
        Manifests' objects that were written for packs that stay, or gave way to these, each with the
        action.
    sources : dict
        Pack id to the packs that it was made of.
    replacements : dict
        Replacements by action and, where one action joins several groups, by the pack that comes.
    turns : list of Turn
        Merges and moves that were made, in order.
    begun : dict of str to Turn
        By action, those whose outcome was never entered: made or not, the catalog and the keys know.
    """

    manifests: dict[str, str] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    intents: dict[str, str] = field(default_factory=dict)
    replacing: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    gone: dict[str, float] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    sources: dict[str, set[str]] = field(default_factory=dict)
    replacements: dict[tuple[str, str], Replacement] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    begun: dict[str, Turn] = field(default_factory=dict)

    def unfinished(self, pack_id: str) -> bool:
        """Tell whether a pack was intended by an action whose outcome was never entered."""
        action = self.intents.get(pack_id, "")
        return action != "" and action not in self.finished

    def left_behind(self, owner: str) -> bool:
        """Tell whether what was written for a pack or a quarantined file was never committed."""
        return (self.unfinished(owner) or owner in self.replacing) and owner not in self.manifests

    def retired(self, object_id: str, owner: str, before: float) -> bool:
        """Tell whether an object nothing refers to is a former manifest, or of a pack that went before."""
        former = object_id in self.replaced and self.replaced[object_id] in self.finished
        return former or (owner in self.gone and self.gone[owner] <= before)

    def open_replacements(self) -> list[Replacement]:
        """Return the replacements whose outcome was never entered."""
        return [found for (action, _), found in self.replacements.items() if action not in self.finished]

    def committed(self, found: Replacement, pack_ids: Collection[str]) -> bool:
        """Tell whether a catalog with these packs is one after a replacement that has no outcome."""
        old = found.old - self.gone.keys()
        if not old or old & set(pack_ids):
            return False
        later = {pack_id for other in self.replacements.values() for pack_id in other.old}
        return found.new <= {*pack_ids, *later}

    def lost(self, pack_ids: Collection[str]) -> set[str]:
        """Return the packs that were committed, never taken away, and aren't among these.

        A pack whose replacement has no outcome yet may be there or not: the commit decides.
        """
        leaving = {pack_id for found in self.open_replacements() for pack_id in found.old}
        return self.living() - leaving - set(pack_ids)

    def living(self) -> set[str]:
        """Return the packs that were committed and never taken away."""
        return set(self.manifests) - self.gone.keys()

    def place(self, pack_id: str) -> int:
        """Return where in the log the oldest part of a pack came in."""
        waiting, passed, found = [pack_id], set[str](), []
        while waiting:
            one = waiting.pop()
            if one not in passed:
                passed.add(one)
                waiting += self.sources.get(one, ())
                found.append(self.positions.get(one, 0))
        return min(found)


def read_ledger(entries: Iterable[Entry]) -> Ledger:
    """Read what the log says of packs."""
    ledger = Ledger()
    for entry in entries:
        intent = entry.outcome == Outcome.INTENT
        if entry.kind == Kind.INGEST and intent:
            for role in NEW:
                ledger.intents.update(dict.fromkeys(entry.ids.get(role, ()), entry.action))
            ledger.replacing.update(entry.ids.get("pack", ()))
        elif entry.kind == Kind.INGEST:
            ledger.finished.add(entry.action)
        elif entry.kind in REPLACING:
            _replace(ledger, entry, intent)
        elif entry.kind in TURNING:
            _turn(ledger, entry, intent)
        for pack_id, digest in entry.manifests.items():
            ledger.manifests[pack_id] = digest
            ledger.positions.setdefault(pack_id, entry.index)
    return ledger


def _replace(ledger: Ledger, entry: Entry, intent: bool) -> None:
    if intent:
        key = _key(entry)
        found = ledger.replacements.setdefault(
            key, Replacement(entry.kind, entry.action, entry.when.timestamp())
        )
        found.add(entry.ids)
        fresh = {*entry.ids.get("into", ()), *entry.ids.get("written", ())} - ledger.manifests.keys()
        ledger.intents.update(dict.fromkeys(fresh, entry.action))
        ledger.replacing |= fresh
        former = (*entry.ids.get("object", ()), *entry.ids.get("written", ()))
        ledger.replaced.update(dict.fromkeys(former, entry.action))
        return
    ledger.finished.add(entry.action)
    if entry.outcome != Outcome.OK:
        return
    since = entry.when.timestamp() if entry.kind == Kind.COMPACTED else 0.0
    old = set(entry.ids.get("pack", ()))
    ledger.gone.update(dict.fromkeys(old, since))
    if _key(entry) in ledger.replacements:
        old = ledger.replacements[_key(entry)].old
    for pack_id in entry.manifests.keys() - ledger.manifests.keys():
        ledger.sources.setdefault(pack_id, set()).update(old)


def _turn(ledger: Ledger, entry: Entry, intent: bool) -> None:
    before = ledger.begun.pop(entry.action, None)
    when = before.when if before else entry.when.replace(tzinfo=None)
    turn = Turn(entry.index, entry.kind, entry.action, when, entry.ids)
    if intent:
        ledger.begun[entry.action] = turn
    elif entry.outcome == Outcome.OK:
        ledger.turns.append(turn)


def _key(entry: Entry) -> tuple[str, str]:
    return entry.action, entry.ids["into"][0] if entry.kind == Kind.COMPACTED and entry.ids else ""


__all__ = ["READERS", "REPLACING", "Ledger", "Replacement", "Turn", "read_ledger"]
