"""In which order studies are read, and how long they may wait. No clock: `now` comes in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from voxelvault_triage.worklist.states import ItemState, Priority

MINUTE = timedelta(minutes=1)
AGEING: Final = 120.0
"""Minutes a level: MEDIUM and LOW reach the top just when their time is up, after two hours and four.

Half of it takes most of the gain away where readers are busy, since then much of the list stands level.
"""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a list is ordered.

    Parameters
    ----------
    ageing : timedelta
        A study that has waited so long counts as one priority more urgent, and again after as much:
        in the end it stands before whatever came later, so that nobody starves.
    limits : mapping of Priority to timedelta
        From arrival until it should have been read.
    """

    ageing: timedelta = AGEING * MINUTE
    limits: Mapping[Priority, timedelta] = field(
        default_factory=lambda: {
            Priority.HIGH: 30 * MINUTE,
            Priority.MEDIUM: 120 * MINUTE,
            Priority.LOW: 240 * MINUTE,
        }
    )


class Waiting(Protocol):
    """What stands in the list."""

    @property
    def state(self) -> str:
        """One of `ItemState`."""

    @property
    def priority(self) -> Priority:
        """As ranked or overridden."""

    @property
    def arrived(self) -> datetime:
        """When its last image came in, UTC."""


W = TypeVar("W", bound=Waiting)


def level(item: Waiting, now: datetime, rules: Rules) -> int:
    """Return how urgent a study is now: 0 for HIGH, and for whatever has waited long enough."""
    steps = (now - item.arrived) // rules.ageing if rules.ageing else 0
    return max(0, item.priority.level - max(0, steps))


def ordered(items: Iterable[W], now: datetime, rules: Rules) -> list[W]:
    """Return studies as they are to be read: those that nobody has claimed first, the longest wait first."""

    def place(item: W) -> tuple[bool, int, datetime]:
        return item.state == ItemState.CLAIMED, level(item, now, rules), item.arrived

    return sorted(items, key=place)


def left(item: Waiting, now: datetime, rules: Rules) -> timedelta:
    """Return how much of its time a study has left; negative when it is overdue."""
    return item.arrived + rules.limits[item.priority] - now


__all__ = ["Rules", "left", "level", "ordered"]
