"""What the log says of packs, and how it tells an older catalog or older keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from voxelvault.audit.events import Kind, Outcome
from voxelvault.audit.rollback import check_heads
from voxelvault.errors import RollbackDetected
from voxelvault.upkeep.ledger import read_ledger


def entry(kind: Kind, outcome: Outcome = Outcome.OK, **values: Any) -> Any:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    fields: dict[str, Any] = {
        "action": "a",
        "ids": {},
        "counts": {},
        "manifests": {},
        "index": 0,
        "when": when,
    }
    return SimpleNamespace(kind=kind, outcome=outcome, **(fields | values))


def test_an_intent_without_outcome_is_unfinished() -> None:
    intent = entry(Kind.INGEST, Outcome.INTENT, ids={"pack": ("p",), "quarantine": ("q",)})
    assert read_ledger([intent]).unfinished("p")
    assert not read_ledger([intent]).unfinished("stranger")
    done = read_ledger([intent, entry(Kind.INGEST, manifests={"p": "digest"})])
    assert not done.unfinished("p")
    assert done.manifests == {"p": "digest"}


def test_what_was_erased_is_gone() -> None:
    erased = [
        entry(Kind.STUDY_KEY_DESTROYED, Outcome.INTENT, ids={"pack": ("kept",)}),
        entry(Kind.STUDY_KEY_DESTROYED, ids={"pack": ("p",)}),
        entry(Kind.INSTANCE_REMOVED, ids={"pack": ("old",)}, manifests={"new": "digest"}),
    ]
    ledger = read_ledger(erased)
    assert ledger.gone == {"p": 0.0, "old": 0.0}
    assert ledger.manifests == {"new": "digest"}


def test_only_what_nothing_committed_is_left_behind() -> None:
    intent = entry(Kind.INGEST, Outcome.INTENT, ids={"pack": ("p",), "quarantine": ("q",)})
    assert all(map(read_ledger([intent]).left_behind, "pq"))
    done = read_ledger([intent, entry(Kind.INGEST, manifests={"p": "digest"})])
    assert not any(map(done.left_behind, "pq"))
    recovered = read_ledger([intent, entry(Kind.REPAIR, manifests={"p": "digest"})])
    assert recovered.unfinished("p")
    assert not recovered.left_behind("p")
    assert not recovered.left_behind("stranger")


def test_what_was_committed_and_never_taken_away_is_lost() -> None:
    ledger = read_ledger(
        [
            entry(Kind.INGEST, manifests={"p": "1", "old": "2", "there": "3"}),
            entry(Kind.INSTANCE_REMOVED, ids={"pack": ("old",)}),
        ]
    )
    assert ledger.lost(["there"]) == {"p"}
    assert ledger.lost(["there", "p", "more"]) == set()


class Log:
    def __init__(self, entries: Sequence[Any]) -> None:
        self._entries = entries
        self.size = len(entries)
        self.read = 0

    def entries(self, start: int, stop: int) -> Sequence[Any]:
        self.read += stop - start
        return self._entries[start:stop]


def opened(snapshot: int, record: int = 1) -> Any:
    return entry(Kind.VAULT_OPENED, counts={"snapshot": snapshot, "record_number": record})


def test_older_parts_are_told_apart() -> None:
    log: Any = Log([opened(3, 2), entry(Kind.QUERY)])
    check_heads(log, {"snapshot": 3, "record_number": 2})
    check_heads(log, {"snapshot": 4, "record_number": 3})
    with pytest.raises(RollbackDetected, match="catalog/"):
        check_heads(log, {"snapshot": 2, "record_number": 2})
    with pytest.raises(RollbackDetected, match="keys/"):
        check_heads(log, {"snapshot": 3, "record_number": 1})


def test_outcomes_out_of_order_hide_nothing() -> None:
    log: Any = Log([entry(Kind.INGEST, counts={"snapshot": 9}), *[entry(Kind.QUERY)] * 255, opened(7)])
    with pytest.raises(RollbackDetected):
        check_heads(log, {"snapshot": 8, "record_number": 1})


def test_an_accepted_restore_begins_anew() -> None:
    log: Any = Log([opened(9, 9), entry(Kind.RESTORE_ACCEPTED), opened(2)])
    check_heads(log, {"snapshot": 2, "record_number": 1})


def test_a_long_log_is_not_read_whole() -> None:
    log: Any = Log([*[entry(Kind.QUERY)] * 5000, opened(1)])
    check_heads(log, {"snapshot": 1, "record_number": 1})
    assert log.read < 600


def test_an_empty_log_and_an_older_one_tell_nothing() -> None:
    check_heads(Log([]), {"snapshot": 0, "record_number": 1})  # type: ignore[arg-type]
    check_heads(Log([entry(Kind.QUERY)] * 3), {"snapshot": 0, "record_number": 1})  # type: ignore[arg-type]


def replaced(outcome: Outcome = Outcome.OK, kind: Kind = Kind.COMPACTED, **values: Any) -> Any:
    ids = {"pack": ("a", "b"), "into": ("ab",)}
    manifests = {"ab": "digest"} if outcome is Outcome.OK else {}
    return entry(kind, outcome, **({"ids": ids, "manifests": manifests, "action": "r"} | values))


def test_a_compaction_without_outcome_is_what_the_commit_made_of_it() -> None:
    came = [entry(Kind.INGEST, manifests={"a": "1", "b": "2"}), replaced(Outcome.INTENT)]
    ledger = read_ledger(came)
    (found,) = ledger.open_replacements()
    assert ledger.lost(["ab"]) == ledger.lost(["a", "b"]) == set()
    assert (ledger.committed(found, ["ab"]), ledger.committed(found, ["a", "b"])) == (True, False)
    assert ledger.left_behind("ab")
    done = read_ledger([*came, replaced()])
    assert done.open_replacements() == []
    assert (done.living(), done.sources) == ({"ab"}, {"ab": {"a", "b"}})
    assert not done.left_behind("ab")


def test_another_compaction_that_took_the_packs_settles_an_older_one() -> None:
    """Killed before its commit: the packs are gone, but not by it."""
    came = [entry(Kind.INGEST, manifests={"a": "1", "b": "2"}), replaced(Outcome.INTENT)]
    later = {"pack": ("a", "b"), "into": ("ba",)}
    after = [replaced(Outcome.INTENT, ids=later, action="s")]
    ledger = read_ledger([*came, *after, replaced(ids=later, manifests={"ba": "digest"}, action="s")])
    (found,) = ledger.open_replacements()
    assert not ledger.committed(found, ["ba"])
    assert ledger.left_behind("ab")


def test_a_pack_stands_where_its_oldest_part_came_in() -> None:
    ledger = read_ledger(
        [
            entry(Kind.INGEST, manifests={"a": "1"}, index=3),
            entry(Kind.INGEST, manifests={"b": "2"}, index=7),
            replaced(index=9),
        ]
    )
    assert (ledger.place("a"), ledger.place("b"), ledger.place("ab")) == (3, 7, 3)


def test_objects_wait_for_readers_of_compacted_packs_only() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    ledger = read_ledger([replaced(), replaced(kind=Kind.INSTANCE_REMOVED, ids={"pack": ("c",)}, action="t")])
    assert [ledger.retired("object", owner, since - 1) for owner in ("a", "c", "ab")] == [False, True, False]
    assert ledger.retired("object", "a", since)
