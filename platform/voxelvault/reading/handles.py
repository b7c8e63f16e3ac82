"""Open handles: found by UID, allowed by the policy, entered in the log; closing records what was read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voxelvault.audit.events import Event, Kind
from voxelvault.errors import AmbiguousUID, PolicyDenied, UnknownUID
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.reading.stacks import FrameStack, frame_stacks
from voxelvault.resources import Resources


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
    handle = Handle(resources, action, ids)
    return OpenedSeries(row, tuple(instances), frame_stacks(frames, stacks), tuple(packs), handle)


class Handle:
    """What the log knows of an open handle: which, and how much was read under it."""

    def __init__(self, resources: Resources, action: str, ids: Mapping[str, tuple[str, ...]]) -> None:
        self._resources = resources
        self._action = action
        self._ids = ids
        self.frames = 0
        self.bytes = 0
        self.closed = False

    def check(self) -> None:
        """Refuse reads after closing."""
        if self.closed:
            raise PolicyDenied("this handle is closed; open the series again")

    def count(self, frames: int, size: int) -> None:
        """Count a read."""
        self.frames += frames
        self.bytes += size

    def close(self) -> None:
        """Enter the counts in the log, once."""
        if self.closed:
            return
        self.closed = True
        self._resources.audit.append(
            [
                Event(
                    kind=Kind.HANDLE_CLOSED,
                    who=self._resources.who,
                    purpose=self._resources.purpose,
                    action=self._action,
                    ids=self._ids,
                    counts={"frames": self.frames, "bytes": self.bytes},
                    codes={"type": ("series",)},
                )
            ]
        )
