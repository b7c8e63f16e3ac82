"""What an entry says of the series that it is about: which, where they are few, and their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from voxelvault.audit.events import Event

NAMED = 256
"""Series that an entry names; of more it has number and digest alone: it holds no more than 64 KiB."""


def about(event: Event, series_ids: Sequence[str], cohort_id: str | None = None) -> Event:
    """Return an event that says which series it is about.

    Parameters
    ----------
    event : Event
        Of a kind that carries `series` and `cohort`, and a count and digest of `members`.
    series_ids : sequence of str
        Opaque ids, in any order.
    cohort_id : str, optional
        Opaque id of the cohort that they are of.
    """
    members = tuple(sorted(set(series_ids)))
    named = {"series": members} if 0 < len(members) <= NAMED else {}
    cohort = {} if cohort_id is None else {"cohort": (cohort_id,)}
    digest = hashlib.sha256("".join(members).encode()).hexdigest()
    return replace(
        event,
        ids={**event.ids, **cohort, **named},
        counts={**event.counts, "members": len(members)},
        digests={**event.digests, "members": digest},
    )


__all__ = ["NAMED", "about"]
