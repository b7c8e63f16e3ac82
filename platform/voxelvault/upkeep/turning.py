"""Merges and moves that died before their outcome was entered, and keys that hang out of place.

Keys are stored before the catalog, so such a merge was made, or only its keys came along: then they
go back below the subject that the catalog names, for whoever erased the other one would destroy them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import UTC
from typing import Any

import pyarrow as pa

from voxelvault.audit.events import Kind, Outcome
from voxelvault.crypto.keyring import KeyRing
from voxelvault.errors import KeyUnavailable
from voxelvault.resources import Resources
from voxelvault.storage.pack import Manifest
from voxelvault.upkeep.ledger import Ledger, Turn
from voxelvault.upkeep.lifecycle import turn_event

Query = Callable[..., pa.Table]


def hang_keys(query: Query, keys: KeyRing, above: Iterable[str]) -> int:
    """Stage that studies' keys hang below the subject that the catalog names; return how many did not.

    Parameters
    ----------
    query : callable
        Asks the catalog, under its lease.
    keys : KeyRing
        Its `commit` stores what is staged.
    above : iterable of str
        Keys below which they may hang.
    """
    # What another process moved before it died counts as well.
    keys.refresh()
    rows = query(
        "with found as (select study_id, subject_id, key_id from studies"
        " union select study_id, subject_id, key_id from packs)"
        " select * from found where study_id in"
        " (select study_id from found where key_id in (select unnest($keys)))",
        {"keys": sorted(keys.below(above))},
    ).to_pylist()
    own: dict[str, set[str]] = {}
    for row in rows:
        own.setdefault(row["study_id"], set()).add(row["key_id"])
    return sum(_hang(keys, row["key_id"], own[row["study_id"]], row["subject_id"]) for row in rows)


def _hang(keys: KeyRing, key_id: str, beside: Collection[str], subject_id: str) -> bool:
    # A key that is gone hangs nowhere.
    with suppress(KeyUnavailable):
        # The key of a study that joined another one hangs below that one's.
        if keys.parent_of(key_id) not in {*beside, subject_id}:
            keys.reparent(key_id, subject_id)
            return True
    return False


def settle_turns(resources: Resources, query: Query, ledger: Ledger, before: float) -> dict[str, bool]:
    """Put back the keys of merges and moves that were not made; return by action which of them were.

    Parameters
    ----------
    resources : Resources
        The open vault.
    query : callable
        Asks the catalog, under its lease.
    ledger : Ledger
        What the log says.
    before : float
        Seconds since the epoch; younger ones may be at work.
    """
    old = [turn for turn in ledger.begun.values() if turn.when.replace(tzinfo=UTC).timestamp() <= before]
    if old:
        whose = {one for turn in old for role in ("subject", "into") for one in turn.ids[role]}
        hang_keys(query, resources.keys, whose)
        resources.keys.commit()
    return {turn.action: _in_catalog(query, turn) for turn in old}


def _in_catalog(query: Query, turn: Turn) -> bool:
    """Tell whether a catalog is one after a merge or a move."""
    if turn.kind == Kind.SUBJECT_MERGED:
        left = "select 1 from patients where subject_id = $subject and merged_into is null"
        return not query(left, {"subject": turn.ids["subject"][0]}).num_rows
    left = "select 1 from studies where study_id = $study and subject_id = $subject"
    return not query(left, {"study": turn.ids["study"][0], "subject": turn.ids["subject"][0]}).num_rows


def made_by_keys(
    keys: KeyRing, turn: Turn, manifests: Collection[Manifest], merged: Mapping[str, Any]
) -> bool:
    """Tell, without a catalog to go by, whether a merge or a move without outcome was made.

    Parameters
    ----------
    keys : KeyRing
        Of the vault.
    turn : Turn
        The merge or the move.
    manifests : collection of Manifest
        The packs that there are.
    merged : mapping of str to str
        Who went up in whom, as far as a former catalog tells: of a subject without images no key does.
    """
    into, studies = turn.ids["into"][0], turn.ids.get("study", ())
    if turn.kind == Kind.SUBJECT_MERGED and merged.get(turn.ids["subject"][0]) == into:
        return True
    found = {one.study_key_id for one in manifests if one.identity.study_id in studies}
    return any(_below(keys, key_id, into) for key_id in found)


def _below(keys: KeyRing, key_id: str | None, subject_id: str) -> bool:
    while key_id is not None and key_id != subject_id:
        try:
            key_id = keys.parent_of(key_id)
        except KeyUnavailable:
            return False
    return key_id is not None


def log_turns(resources: Resources, ledger: Ledger, made: Mapping[str, bool]) -> None:
    """Enter the outcomes that are missing; `made` tells by action which merges and moves were made."""
    info = resources.catalog.head() if made else None
    for action, counts in made.items():
        turn, outcome = ledger.begun[action], Outcome.OK if counts else Outcome.FAILED
        resources.audit.append(
            [
                turn_event(
                    resources,
                    Kind(turn.kind),
                    action,
                    dict(turn.ids),
                    outcome,
                    None,
                    info if counts else None,
                )
            ]
        )


__all__ = ["hang_keys", "log_turns", "made_by_keys", "settle_turns"]
