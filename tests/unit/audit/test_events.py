"""What an event may carry, and that nothing else gets into a leaf."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from voxelvault.audit.events import ALLOWED, Event, Kind, Outcome
from voxelvault.audit.leaf import LEAF_LIMIT, TextRef, decode_leaf, encode_leaf
from voxelvault.errors import IntegrityError, NewerFormat, UsageError
from voxelvault.model import new_id

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ID, DIGEST, NONCE = "0123456789abcdef" * 2, "ab" * 32, bytes(range(32))


def test_every_kind_says_what_it_carries() -> None:
    assert set(ALLOWED) == set(Kind)


def test_who_opened_a_ledger_is_told_by_ids_and_what_was_signed_by_digest() -> None:
    opened = Event(
        kind=Kind.LEDGER_OPENED,
        who="a",
        purpose="IRB-2031",
        ids={"project": (ID,), "request": (ID,), "approver": (ID, ID)},
        counts={"batches": 2, "rows": 3, "pseudonyms": 0},
        digests={"request": DIGEST, "statement": DIGEST, "second": DIGEST},
        codes={"maps": ("patients", "uids")},
    )
    assert decode_leaf(0, encode_leaf(opened, WHEN, NONCE)).kind == Kind.LEDGER_OPENED
    with pytest.raises(UsageError):
        Event(kind=Kind.LEDGER_OPENED, who="a", text="PAT-1 is P0X7")


def test_the_bytes_of_a_leaf_do_not_change() -> None:
    event = Event(
        kind=Kind.INGEST,
        who="alice@example.org",
        outcome=Outcome.PARTIAL,
        purpose="IRB-2031",
        action=ID,
        ids={"study": (ID,)},
        counts={"instances": 3},
        digests={"record": DIGEST},
        manifests={ID: DIGEST},
        codes={"reason": ("disk-full",)},
    )
    assert encode_leaf(event, WHEN, NONCE) == (
        b'{"action":"0123456789abcdef0123456789abcdef","codes":{"reason":["disk-full"]},'
        b'"counts":{"instances":3},"digests":{"record":"' + b"ab" * 32 + b'"},"format":1,'
        b'"ids":{"study":["0123456789abcdef0123456789abcdef"]},"kind":"ingest",'
        b'"manifests":{"0123456789abcdef0123456789abcdef":"' + b"ab" * 32 + b'"},'
        b'"nonce":"' + NONCE.hex().encode() + b'","outcome":"partial","purpose":"IRB-2031",'
        b'"when":"2026-01-02T03:04:05.678901Z","who":"alice@example.org"}'
    )


def test_a_leaf_reads_back() -> None:
    event = Event(kind=Kind.HANDLE_OPENED, who="a", ids={"series": (ID, ID)}, codes={"type": ("cohort",)})
    leaf = encode_leaf(event, WHEN.astimezone(timezone(timedelta(hours=5))), NONCE, TextRef(ID, DIGEST))
    entry = decode_leaf(7, leaf)
    assert (entry.index, entry.when, entry.leaf) == (7, WHEN, leaf)
    assert (entry.kind, entry.outcome, entry.who, entry.purpose) == ("handle.opened", "ok", "a", None)
    assert (entry.ids, entry.codes, entry.counts) == (event.ids, event.codes, {})
    assert (entry.action, entry.text) == (event.action, TextRef(ID, DIGEST))


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": {"patient": (ID,)}},
        {"ids": {"study": ("1.2.840.113619.2.1",)}},
        {"ids": {"study": ID}},
        {"ids": {"study": (ID.upper(),)}},
        {"counts": {"weight": 3}},
        {"counts": {"instances": -1}},
        {"counts": {"instances": 1.5}},
        {"counts": {"instances": True}},
        {"counts": {"instances": 1 << 63}},
        {"digests": {"record": "ab"}},
        {"digests": {"name": DIGEST}},
        {"manifests": {"1.2.3": DIGEST}},
        {"manifests": {ID: "x"}},
        {"codes": {"reason": ("Doe^Jane",)}},
        {"codes": {"reason": ("19700101",)}},
        {"codes": {"reason": ("1.2.840.10008",)}},
        {"codes": {"reason": ("two words",)}},
        {"codes": {"reason": "word"}},
        {"codes": {"reason": ("ends\n",)}},
        {"who": "Jane Doe"},
        {"who": ""},
        {"purpose": "to look at Jane"},
        {"purpose": "1.2.840.113619.2.1"},
        {"action": "x"},
        {"text": "free text"},
    ],
)
def test_what_a_field_does_not_hold_is_refused_and_not_repeated(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        Event(**{"kind": Kind.INGEST, "who": "a", **wrong})  # type: ignore[arg-type]
    for planted in ("Jane", "1.2.840", "19700101", "free"):
        assert planted not in str(caught.value)


def test_an_empty_purpose_is_none() -> None:
    leaf = encode_leaf(Event(kind=Kind.QUERY, who="a", purpose=""), WHEN, NONCE)
    assert b"purpose" not in leaf
    assert decode_leaf(0, leaf).purpose is None


def test_manifests_only_where_they_belong() -> None:
    with pytest.raises(UsageError, match="manifests"):
        Event(kind=Kind.QUERY, who="a", manifests={ID: DIGEST})


def test_a_leaf_that_no_bundle_holds_is_refused() -> None:
    event = Event(kind=Kind.INGEST, who="a", manifests={new_id(): DIGEST for _ in range(1000)})
    with pytest.raises(UsageError, match="split"):
        encode_leaf(event, WHEN, NONCE)
    fits = Event(kind=Kind.INGEST, who="a", manifests={new_id(): DIGEST for _ in range(600)})
    assert len(encode_leaf(fits, WHEN, NONCE)) <= LEAF_LIMIT


def test_kinds_of_a_newer_version_are_passed_on() -> None:
    leaf = encode_leaf(Event(kind=Kind.QUERY, who="a"), WHEN, NONCE)
    assert decode_leaf(0, leaf.replace(b'"query"', b'"novel"')).kind == "novel"


def test_a_newer_format_says_so() -> None:
    document = json.loads(encode_leaf(Event(kind=Kind.QUERY, who="a"), WHEN, NONCE)) | {"format": 2}
    with pytest.raises(NewerFormat, match="update"):
        decode_leaf(0, json.dumps(document).encode())


@pytest.mark.parametrize("leaf", [b"", b"{}", b"[]", b'{"format":1}', b'{"format":"1"}', b"\xff", b"null"])
def test_what_is_no_leaf_is_refused(leaf: bytes) -> None:
    with pytest.raises(IntegrityError, match="entry 3"):
        decode_leaf(3, leaf)
