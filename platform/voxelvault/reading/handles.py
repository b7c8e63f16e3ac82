"""Open handles: found by UID, allowed by the policy, entered in the log; closing records what was read."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from voxelvault.audit.events import Event, Kind
from voxelvault.errors import AmbiguousUID, PolicyDenied, UnknownUID
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.reading.processes import check_process, opened
from voxelvault.reading.stacks import FrameStack, frame_stacks
from voxelvault.resources import Resources

GRANTS_NAMED = 256
"""Grants that the closing of a handle names, the last ones: an entry holds no more than 64 KiB."""


@dataclass(frozen=True, slots=True)
class OpenedSeries:
    """What a series handle stands on: catalog rows, instances in InstanceNumber order, volumes, handle."""

    row: Mapping[str, Any]
    instances: tuple[Mapping[str, Any], ...]
    stacks: tuple[FrameStack, ...]
    packs: tuple[Mapping[str, Any], ...]
    handle: Handle


def find_series(
    resources: Resources, uid: str, study: str | None = None, subject: str | None = None
) -> OpenedSeries:
    """Find a series by its UID, ask the policy, enter it in the log, and read what its handle needs.

    Raises
    ------
    UnknownUID
        There is no such series.
    AmbiguousUID
        Several studies or subjects have one; `study` and `subject` tell them apart.
    PolicyDenied, AuditError
        Then nothing was read.
    """
    rows = resources.catalog.query(
        "select * from series where SeriesInstanceUID = $uid"
        " and ($study is null or StudyInstanceUID = $study)"
        " and ($subject is null or subject_id = $subject)",
        {"uid": uid, "study": study, "subject": subject},
    ).to_pylist()
    if not rows:
        raise UnknownUID("no such series in this vault; a query on the table `series` lists them")
    subjects = sorted({row["subject_id"] for row in rows})
    if len(subjects) > 1:
        raise AmbiguousUID(
            f"this UID belongs to several subjects; pass subject= one of {', '.join(subjects[:4])}, or, where"
            " `conflicts` shows that they are one person, merge them"
        )
    if len(rows) > 1:
        raise AmbiguousUID("several studies have a series of this UID; pass study=")
    row = rows[0]
    scope = {"series_id": row["series_id"]}
    require(
        resources.policy,
        Request(Kind.HANDLE_OPENED, (row["series_id"],), resources.purpose, resources.who),
    )
    instances = resources.catalog.query(
        "select instance_id, sha256, pixels from instances"
        " where series_id = $series_id and not superseded order by InstanceNumber, instance_id",
        scope,
    ).to_pylist()
    action = new_id()
    members = hashlib.sha256("".join(sorted(item["sha256"] for item in instances)).encode()).hexdigest()
    ids = {"series": (row["series_id"],), "study": (row["study_id"],), "subject": (row["subject_id"],)}
    resources.audit.append(
        [
            Event(
                kind=Kind.HANDLE_OPENED,
                who=resources.who,
                purpose=resources.purpose,
                action=action,
                ids=ids,
                counts={"members": len(instances)},
                digests={"members": members},
                codes={"type": ("series",)},
            )
        ]
    )
    current = {item["instance_id"] for item in instances}
    frames = resources.catalog.query("select * from frames where series_id = $series_id", scope).to_pylist()
    frames = [frame for frame in frames if frame["instance_id"] in current]
    stacks = resources.catalog.query("select * from stacks where series_id = $series_id", scope).to_pylist()
    packs = resources.catalog.query("select * from packs where series_id = $series_id", scope).to_pylist()
    opened()
    handle = Handle(resources, action, ids)
    return OpenedSeries(row, tuple(instances), frame_stacks(frames, stacks), tuple(packs), handle)


class Handle:
    """What the log knows of an open handle: which, and how much was read under it.

    Parameters
    ----------
    resources : Resources
        The open vault.
    action : str
        Joins its opening and closing in the log.
    ids : mapping of str to tuple of str
        Opaque ids by role, as its opening was entered.
    kind_code : str
        What was opened: ``series``, ``cohort``, ``loader`` and so on.
    """

    def __init__(
        self,
        resources: Resources,
        action: str,
        ids: Mapping[str, tuple[str, ...]],
        kind_code: str = "series",
    ) -> None:
        self._resources = resources
        self._action = action
        self._ids = ids
        self._kind_code = kind_code
        self._grants: list[str] = []
        self._ends: list[Callable[[], object]] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.frames = 0
        self.bytes = 0
        self.closed = False

    def __reduce__(self) -> NoReturn:
        raise TypeError("a handle stays in its process; lend what it opened (`reading.lending.lend`)")

    def check(self) -> None:
        """Refuse reads after closing, and in a forked child."""
        check_process(self._pid)
        if self.closed:
            raise PolicyDenied("this handle is closed; open the series again")

    def count(self, frames: int, size: int) -> None:
        """Count a read."""
        with self._lock:
            self.frames += frames
            self.bytes += size

    def lent(self, grant_id: str, end: Callable[[], object]) -> None:
        """Note a grant that stands on this handle: its closing names it, and calls `end`."""
        with self._lock:
            self._grants.append(grant_id)
            self._ends.append(end)

    def close(self) -> None:
        """Enter the counts in the log, once; a forked child leaves that to its parent."""
        if self.closed or os.getpid() != self._pid:
            return
        self.closed = True
        while self._ends:
            self._ends.pop()()
        grants = tuple(self._grants[-GRANTS_NAMED:])
        self._resources.audit.append(
            [
                Event(
                    kind=Kind.HANDLE_CLOSED,
                    who=self._resources.who,
                    purpose=self._resources.purpose,
                    action=self._action,
                    ids={**self._ids, **({"grant": grants} if grants else {})},
                    counts={"frames": self.frames, "bytes": self.bytes},
                    codes={"type": (self._kind_code,)},
                )
            ]
        )
