"""States and order, without a vault: what may follow what, who comes first, and that nobody starves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.output import table
from voxelvault_triage.cli.worklist import _COLUMNS, fitted
from voxelvault_triage.model import Verdict
from voxelvault_triage.worklist.order import Rules, left, level, ordered
from voxelvault_triage.worklist.states import (
    PRIORITIES,
    ItemState,
    Priority,
    TaskState,
    require_item,
    require_task,
)

NOON = datetime(2026, 3, 1, 12)


@dataclass(frozen=True)
class Waits:
    minutes: float
    priority: Priority = Priority.LOW
    state: str = ItemState.WAITING

    @property
    def arrived(self) -> datetime:
        return NOON - timedelta(minutes=self.minutes)


@pytest.mark.parametrize("now", TaskState)
@pytest.mark.parametrize("then", TaskState)
def test_tasks_go_one_way(now: TaskState, then: TaskState) -> None:
    """PS3.4 CC.1.1: SCHEDULED, IN PROGRESS, then COMPLETED or CANCELED; these two are final."""
    fine = {
        TaskState.SCHEDULED: {TaskState.IN_PROGRESS, TaskState.CANCELED},
        TaskState.IN_PROGRESS: {TaskState.COMPLETED, TaskState.CANCELED},
    }
    if then in fine.get(now, set()):
        require_task(now, then, "2.25.1", "2.25.1")
    else:
        with pytest.raises(UsageError, match="can't become"):
            require_task(now, then, "2.25.1", "2.25.1")


def test_only_the_performer_that_started_it_ends_it() -> None:
    with pytest.raises(UsageError, match="another performer"):
        require_task("IN PROGRESS", TaskState.COMPLETED, "2.25.1", "2.25.2")


def test_an_item_is_its_reader_s() -> None:
    require_item("waiting", ItemState.CLAIMED, None, "ann")
    require_item("claimed", ItemState.COMPLETED, "ann", "ann")
    with pytest.raises(UsageError, match="another reader"):
        require_item("claimed", ItemState.WAITING, "ann", "bob")
    with pytest.raises(UsageError, match="claim it first"):
        require_item("waiting", ItemState.COMPLETED, None, "ann")
    with pytest.raises(UsageError, match="can't become"):
        require_item("completed", ItemState.CLAIMED, "ann", "ann")
    with pytest.raises(UsageError, match="waiting already"):
        require_item("waiting", ItemState.WAITING, None, "ann")
    with pytest.raises(UsageError, match="images came in"):
        require_item("waiting", ItemState.CLAIMED, None, "ann", superseded=True)


def test_what_nobody_judged_never_stands_behind_what_a_model_took_for_normal() -> None:
    order = [
        PRIORITIES[verdict].level for verdict in (Verdict.POSITIVE, Verdict.NOT_ANALYSED, Verdict.NEGATIVE)
    ]
    assert order == [0, 1, 2]
    assert PRIORITIES[None] is PRIORITIES[Verdict.NOT_ANALYSED]


def test_flagged_first_then_unknown_then_the_longest_wait() -> None:
    flagged, unknown = Waits(1, Priority.HIGH), Waits(2, Priority.MEDIUM)
    old, new, taken = Waits(30), Waits(3), Waits(40, Priority.HIGH, ItemState.CLAIMED)
    assert ordered([new, taken, old, unknown, flagged], NOON, Rules()) == [flagged, unknown, old, new, taken]


def test_nobody_starves() -> None:
    """However many flagged studies come in, one that waits long enough stands before all later ones."""
    rules, patient = Rules(), Waits(241)
    assert level(patient, NOON, rules) == 0
    flood = [Waits(minutes, Priority.HIGH) for minutes in range(240)]
    assert ordered([*flood, patient], NOON, rules)[0] is patient
    assert level(Waits(121), NOON, rules) == 1
    assert level(Waits(-5), NOON, rules) == 2


def test_what_waits_comes_to_the_top_just_when_its_time_is_up() -> None:
    rules = Rules()
    for priority, limit in rules.limits.items():
        minutes = limit // timedelta(minutes=1)
        assert level(Waits(minutes, priority), NOON, rules) == 0
        assert level(Waits(minutes - 1, priority), NOON, rules) == min(1, priority.level)


def test_the_clock_runs_from_arrival() -> None:
    assert left(Waits(29, Priority.HIGH), NOON, Rules()) == timedelta(minutes=1)
    assert left(Waits(300), NOON, Rules()) == timedelta(minutes=-60)


def test_a_watched_list_fits_its_window_and_keeps_the_notice() -> None:
    lines, below = [f"{number:03} {'x' * 100}" for number in range(30)], ["", "not a medical device"]
    drawn = fitted(lines, below, (40, 12))
    assert len(drawn) == 11
    assert max(map(len, drawn)) == 39
    assert drawn[-1] == "not a medical device"
    assert drawn[8].startswith("… 22 lines more")
    assert fitted(lines[:3], below, (200, 50)) == [*lines[:3], *below]


def test_a_window_cuts_the_end_of_a_reason_and_never_a_uid() -> None:
    assert (_COLUMNS[1], _COLUMNS[-1]) == ("study", "priors")
    uid, reason = "1.2." + "9" * 60, "not analysed: " + "a long reason, " * 8
    *_, line = table(["", "study", "finding"], [["1", uid, reason]], widest=None)
    assert reason.strip() in line
    assert uid in fitted([line], [], (100, 40))[0]
