"""What may follow what: analysis tasks as UPS states, reading items as a reader sees them. No clock, no disk.

References
----------
DICOM PS3.18 section 11 and PS3.4 CC.1.1 (Unified Procedure Step: states, Transaction UID, cancelation).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from voxelvault.errors import UsageError
from voxelvault_triage.model import Verdict


class TaskState(StrEnum):
    """State of an analysis; that a study is not analysed is a result, not a state."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


class ItemState(StrEnum):
    """State of a study on the list of those to be read."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    COMPLETED = "completed"


class Priority(StrEnum):
    """What sorts; the words are those of Scheduled Procedure Step Priority (0074,1200)."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"

    @property
    def level(self) -> int:
        """0 is the most urgent."""
        return list(Priority).index(self)


PRIORITIES: Mapping[Verdict | None, Priority] = {
    Verdict.POSITIVE: Priority.HIGH,
    # Nobody knows what is in it: it may not wait behind what a model took for normal.
    None: Priority.MEDIUM,
    Verdict.NOT_ANALYSED: Priority.MEDIUM,
    Verdict.NEGATIVE: Priority.LOW,
}
"""Priority by verdict; None for a study that is not analysed yet, or whose analysis failed."""

_TASKS = {
    (TaskState.SCHEDULED, TaskState.IN_PROGRESS),
    (TaskState.SCHEDULED, TaskState.CANCELED),
    (TaskState.IN_PROGRESS, TaskState.COMPLETED),
    (TaskState.IN_PROGRESS, TaskState.CANCELED),
}
_ITEMS = {
    (ItemState.WAITING, ItemState.CLAIMED),
    (ItemState.CLAIMED, ItemState.WAITING),
    (ItemState.CLAIMED, ItemState.COMPLETED),
}


def require_task(now: str, then: TaskState, held: str | None, given: str | None) -> None:
    """Refuse a change of a task that its state does not allow, or that another performer made.

    Parameters
    ----------
    now : str
        Its state.
    then : TaskState
        What it is to become.
    held, given : str or None
        Transaction UID that it was started under, and that of who asks.

    Raises
    ------
    UsageError
        It may not.
    """
    if (now, then) not in _TASKS:
        raise UsageError(f"this analysis is {now}: it can't become {then}; look at the list again")
    if now == TaskState.IN_PROGRESS and held != given:
        raise UsageError("another performer has this analysis in hand; look at the list again")


def require_item(
    now: str, then: ItemState, claimed_by: str | None, who: str, *, superseded: bool = False
) -> None:
    """Refuse a change of a reading item that its state does not allow, or that is another reader's.

    Raises
    ------
    UsageError
        It may not.
    """
    if superseded:
        raise UsageError("images came in since: this item gave way to a newer one; look at the list again")
    if now == ItemState.CLAIMED and claimed_by != who:
        raise UsageError("another reader has claimed this study; ask for it to be released")
    if now == then:
        raise UsageError(f"this study is {now} already; look at the list again")
    if (now, then) not in _ITEMS:
        advice = "claim it first" if now == ItemState.WAITING else "look at the list again"
        raise UsageError(f"this study is {now}: it can't become {then}; {advice}")


__all__ = ["PRIORITIES", "ItemState", "Priority", "TaskState", "require_item", "require_task"]
