"""The record of a run: a chain of entries that server and sites hold alike; what a model's history is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voxelvault_fl.errors import JobRefused, MessageRefused
from voxelvault_fl.jobs.strict import canonical, made, plain

Plain = Mapping[str, Any]

KINDS = ("start", "joined", "attempt", "round", "evaluation", "end")


@dataclass(frozen=True, slots=True)
class Record:
    """One entry.

    Parameters
    ----------
    kind : str
        One of `KINDS`: the sites that joined at the start, and later; a try that too few answered; a
        round; figures of a round's model; which round's model is the result.
    job : str
        Digest of the job.
    round : int
        0 for the start.
    previous : str
        Digest of the entry before; empty for the first.
    sites : mapping
        Site to what it gave: ``update`` (SHA-256 of the bytes of its weights), ``examples``, ``bytes``,
        ``spent``, ``attested`` (the signed head of its answer, base64).
    aside : mapping of str to str
        Site to the rule for which it was left out.
    aggregate : str
        Digest of the model after this entry (`weights_digest`).
    metrics : mapping of str to float
        Over all sites that measured.
    sent, received : int
        Bytes of messages.
    """

    kind: str
    job: str
    round: int
    previous: str
    aggregate: str
    sites: Plain = field(default_factory=dict)
    aside: Plain = field(default_factory=dict)
    metrics: Plain = field(default_factory=dict)
    sent: int = 0
    received: int = 0

    @property
    def document(self) -> bytes:
        """Canonical JSON."""
        return canonical(plain(self))

    @property
    def digest(self) -> str:
        """SHA-256 of the document, hexadecimal."""
        return hashlib.sha256(self.document).hexdigest()


def record_of(said: Any) -> Record:
    """Return an entry from plain data, or from its JSON.

    Raises
    ------
    MessageRefused
        It is none.
    """
    try:
        found = made(Record, json.loads(said) if isinstance(said, bytes | str) else said, "record")
    except (JobRefused, ValueError):
        raise MessageRefused("record", "an entry of the run's record is malformed") from None
    if found.kind not in KINDS:
        raise MessageRefused("record", "an entry of the run's record is of no known kind")
    return found


def extended(known: Sequence[Record], more: Sequence[Record], job: str) -> tuple[Record, ...]:
    """Return a chain with new entries, of which some may be known already.

    Raises
    ------
    MessageRefused
        The rule is ``forked``: the entries don't continue what is known, or are of another job; or
        ``record``: a run starts once, each round comes once and in turn, none after the end.
    """
    chain = list(known)
    heads = {one.digest for one in chain}
    for one in more:
        if one.digest in heads:
            continue
        if one.job != job or one.previous != (chain[-1].digest if chain else ""):
            raise MessageRefused("forked", "the run's record was rewritten since it was last seen")
        if not _in_order(chain, one):
            raise MessageRefused("record", "the run's record has a round twice, or one that can't be next")
        chain.append(one)
        heads.add(one.digest)
    return tuple(chain)


def _in_order(chain: Sequence[Record], one: Record) -> bool:
    """Tell whether an entry can be next: each model that a site is shown is one round's, and the only one."""
    last = max((entry.round for entry in chain if entry.kind in ("start", "round")), default=-1)
    if one.kind == "start":
        return not chain and one.round == 0
    if one.kind == "round":
        return last >= 0 and one.round == last + 1 and all(entry.kind != "end" for entry in chain)
    return 0 <= one.round <= last


def aggregate_of(chain: Sequence[Record], round: int) -> str:
    """Return the digest of the model that a round gave.

    Raises
    ------
    MessageRefused
        The rule is ``record``: that round isn't recorded.
    """
    for one in reversed(chain):
        if one.round == round and one.kind in ("start", "round"):
            return one.aggregate
    raise MessageRefused("record", "no such round is recorded")


__all__ = ["KINDS", "Record", "aggregate_of", "extended", "record_of"]
