"""One step of a project's life in a vault's log: what is about to be done, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.errors import KeyUnavailable, PolicyDenied
from voxelvault.policy.access import Request, require
from voxelvault.resources import Resources

Ids = Mapping[str, tuple[str, ...]]


class Entry:
    """The entry of a step under way; without a vault there is no log, and nothing is entered."""

    def __init__(self, resources: Resources | None, event: Event | None) -> None:
        self._resources, self._event = resources, event

    def add(self, **more: Mapping[str, Any]) -> None:
        """Say more: `ids`, `counts`, `digests`, `codes`, as `Event` takes them."""
        if self._event is not None:
            event = self._event
            self._event = replace(
                event,
                ids={**event.ids, **more.get("ids", {})},
                counts={**event.counts, **more.get("counts", {})},
                digests={**event.digests, **more.get("digests", {})},
                codes={**event.codes, **more.get("codes", {})},
            )

    def intend(self, **more: Mapping[str, Any]) -> None:
        """Say more, and enter what is about to be done.

        Raises
        ------
        AuditError
            It can't be entered; then the step must not be done.
        """
        self.add(**more)
        self.enter(Outcome.INTENT)

    def enter(self, outcome: Outcome) -> None:
        """Enter how it ended."""
        if self._resources is not None and self._event is not None:
            self._resources.audit.append([replace(self._event, outcome=outcome)])


@contextmanager
def step(resources: Resources | None, kind: Kind, ids: Ids, purpose: str | None = None) -> Iterator[Entry]:
    """Do one step of a project's life: the body calls `intend` ahead of its effect.

    Parameters
    ----------
    resources : Resources, optional
        The open vault, whose policy is asked and whose log is written.
    kind : Kind
        Which step.
    ids : mapping of str to tuple of str
        What it is about.
    purpose : str, optional
        That of a request; by default the session's.

    Raises
    ------
    PolicyDenied
        The vault's policy says no.
    """
    if resources is None:
        yield Entry(None, None)
        return
    purpose = purpose or resources.purpose
    entry = Entry(resources, Event(kind=kind, who=resources.who, purpose=purpose, ids=ids))
    try:
        require(resources.policy, Request(kind, (), purpose, resources.who))
        yield entry
    except (KeyUnavailable, PolicyDenied):
        entry.enter(Outcome.DENIED)
        raise
    except BaseException:
        entry.enter(Outcome.FAILED)
        raise
    entry.enter(Outcome.OK)


__all__ = ["Entry", "step"]
