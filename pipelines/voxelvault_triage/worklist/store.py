"""Analyses in the vault, and the places that they give studies on the reading list.

Each change is decided under the catalog's lease, then logged, then made. What readers do with the list
stands in `reading`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from voxelvault import Vault
from voxelvault.audit.events import Kind
from voxelvault.errors import UsageError
from voxelvault.model import new_id
from voxelvault.tasks import Query, Step, now, record
from voxelvault_triage.model import Analysis, Reason, Study, sentences
from voxelvault_triage.worklist.states import (
    PRIORITIES,
    ItemState,
    Priority,
    TaskState,
    require_task,
)

Row = dict[str, Any]

SUPERSEDED = Reason("superseded", "Images came in before it was analysed.")
LOST_RUNNER = Reason("runner-died", "The process that had it in hand ended.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A study that is to be analysed.

    Parameters
    ----------
    study : Study
        With the digest of its content.
    arrived : datetime
        When its last image came in, UTC.
    priority : Priority
        In the queue of analyses.
    """

    study: Study
    arrived: datetime
    priority: Priority = Priority.MEDIUM


@dataclass(frozen=True, slots=True)
class Task:
    """An analysis in hand.

    Parameters
    ----------
    task_id, study_id, content, model : str
        As in the table `tasks`.
    attempt : int
        From 1.
    transaction_uid : str
        Under which it was started.
    """

    task_id: str
    study_id: str
    content: str
    model: str
    attempt: int
    transaction_uid: str


def schedule(
    vault: Vault,
    wanted: Sequence[Wanted],
    pipeline: str,
    version: str,
    model: str,
    *,
    again: bool = False,
    listed: bool = True,
) -> list[str]:
    """Schedule analyses: once for a study's content, a pipeline and a model; return the new tasks' ids.

    What was found in an earlier content of the study is superseded, and the study is on the list of
    those to be read again.

    Parameters
    ----------
    vault : Vault
        Open for writing.
    wanted : sequence of Wanted
        Studies, each once.
    pipeline, version, model : str
        By whom; `model` is a digest, or empty.
    again : bool
        Also where all attempts failed before.
    listed : bool
        Studies get a place on the reading list; False for a check of quality.
    """

    def decide(query: Query) -> list[Step]:
        known = _of_studies(query, pipeline, [one.study.study_id for one in wanted])
        steps: list[Step] = []
        for one in wanted:
            steps += _scheduled(one, known.get(one.study.study_id, []), pipeline, version, model, again)
        if not listed:
            steps = [step for step in steps if step.kind is not Kind.READING_LISTED]
        return steps

    done = record(vault.resources, decide)
    return [str(step.values["task_id"]) for step in done if step.kind is Kind.TASK_SCHEDULED]


def _of_studies(query: Query, pipeline: str, study_ids: Sequence[str]) -> dict[str, list[Row]]:
    """Return the tasks that count of some studies, each with its reading item."""
    rows = query(
        "select t.*, i.item_id, i.state as item_state, i.overridden from tasks t"
        " left join reading_items i on i.study_id = t.study_id and not i.superseded"
        " and i.task_id in (select task_id from tasks p where p.pipeline = $pipeline)"
        " where t.pipeline = $pipeline and not t.superseded and t.study_id in (select unnest($ids))",
        {"pipeline": pipeline, "ids": list(study_ids)},
    ).to_pylist()
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["study_id"], []).append(row)
    return found


def _scheduled(
    one: Wanted, known: Sequence[Row], pipeline: str, version: str, model: str, again: bool
) -> list[Step]:
    same = [row for row in known if (row["content"], row["model"] or "") == (one.study.content, model)]
    if same and not (again and same[0]["state"] == TaskState.CANCELED):
        return []
    steps, task_id, at = [], new_id(), now()
    for row in known:
        if row["state"] == TaskState.SCHEDULED:
            steps.append(_canceled(row["task_id"], SUPERSEDED))
        steps.append(Step(Kind.TASK_SUPERSEDED, {"task_id": row["task_id"]}))
    steps.append(
        Step(
            Kind.TASK_SCHEDULED,
            {
                "task_id": task_id,
                "study_id": one.study.study_id,
                "former_id": known[0]["task_id"] if known else None,
                "attempt": 1,
                "arrived": one.arrived,
                "scheduled": at,
                "content": one.study.content,
                "model": model,
                "pipeline": pipeline,
                "version": version,
                "priority": Priority.LOW if _judged(one, known) else one.priority,
            },
        )
    )
    # Who was read stays read when only the model is another one.
    if any(row["item_id"] and row["content"] == one.study.content for row in known):
        return steps
    for item_id in {row["item_id"] for row in known if row["item_id"]}:
        steps.append(Step(Kind.READING_SUPERSEDED, {"item_id": item_id}))
    listed = {"item_id": new_id(), "study_id": one.study.study_id, "task_id": task_id, "listed": at}
    listed |= {"arrived": one.arrived, "priority": PRIORITIES[None]}
    return [*steps, Step(Kind.READING_LISTED, listed)]


def _judged(one: Wanted, known: Sequence[Row]) -> bool:
    """Tell whether another model has judged these images: a study that none has judged goes before it."""
    done = TaskState.COMPLETED
    by_another = any((row["content"], row["state"]) == (one.study.content, done) for row in known)
    return by_another and one.priority is Priority.MEDIUM


def _canceled(task_id: str, why: Reason) -> Step:
    values = {"task_id": task_id, "ended": now(), "reasons": [why.code], "reason": why.sentence}
    return Step(Kind.TASK_CANCELED, values)


def start(vault: Vault, task_ids: Sequence[str]) -> list[Task]:
    """Take scheduled analyses in hand, each under a Transaction UID of its own; others are left out."""
    started: list[Task] = []

    def decide(query: Query) -> list[Step]:
        rows = query(
            "select * from tasks where task_id in (select unnest($ids)) and state = 'SCHEDULED'",
            {"ids": list(task_ids)},
        ).to_pylist()
        by_id = {row["task_id"]: row for row in rows}
        for row in (by_id[task_id] for task_id in task_ids if task_id in by_id):
            transaction = f"2.25.{uuid4().int}"
            ids = {name: str(row[name] or "") for name in ("task_id", "study_id", "content", "model")}
            started.append(Task(**ids, attempt=row["attempt"], transaction_uid=transaction))
        return [
            Step(
                Kind.TASK_STARTED,
                {"task_id": one.task_id, "transaction_uid": one.transaction_uid, "started": now()},
            )
            for one in started
        ]

    record(vault.resources, decide)
    return started


@dataclass(frozen=True, slots=True)
class Ended:
    """An analysis that has a result.

    Parameters
    ----------
    task : Task
        In hand.
    analysis : Analysis
        What was found.
    series_id : str or None
        Opaque id of the series that was analysed.
    """

    task: Task
    analysis: Analysis
    series_id: str | None = None


def complete(vault: Vault, ended: Sequence[Ended]) -> dict[str, Priority]:
    """Complete analyses and rank their studies, all in one commit.

    Returns
    -------
    dict of str to Priority
        By task's id. What is not in hand any more under its Transaction UID is left out, unchanged.
    """
    done: dict[str, Priority] = {}

    def decide(query: Query) -> list[Step]:
        rows = _rows(query, [one.task.task_id for one in ended])
        known = _known(query, rows.values())
        steps: list[Step] = []
        for one in ended:
            try:
                row = _in_hand(rows, one.task, TaskState.COMPLETED)
            except UsageError:
                continue
            done[one.task.task_id] = priority = PRIORITIES[one.analysis.verdict]
            steps += [_completed(one), *_ranked(known, row, priority)]
        return steps

    record(vault.resources, decide)
    return done


def _completed(one: Ended) -> Step:
    finding, reasons = one.analysis.finding, one.analysis.gated.reasons
    values: Row = {
        "task_id": one.task.task_id,
        "series_id": one.series_id,
        "ended": now(),
        "verdict": str(one.analysis.verdict),
        "reasons": [reason.code for reason in reasons],
        "reason": sentences(reasons) or None,
    }
    if finding is not None:
        values |= {name: float(getattr(finding, name)) for name in ("score", "threshold", "volume_ml")}
    return Step(Kind.TASK_COMPLETED, values)


def give_up(vault: Vault, task: Task, why: Reason, *, again: bool) -> str | None:
    """Cancel an analysis that failed; schedule another attempt if asked, and return its id.

    Raises
    ------
    UsageError
        It is not in hand under this Transaction UID; nothing was changed.
    """

    def decide(query: Query) -> list[Step]:
        row = _in_hand(_rows(query, [task.task_id]), task, TaskState.CANCELED)
        steps = [_canceled(task.task_id, why)]
        if again and not row["superseded"]:
            return [*steps, *_retried(row, row["attempt"] + 1)]
        return [*steps, *_ranked(_known(query, [row]), row, PRIORITIES[None])]

    done = record(vault.resources, decide)
    new = [step.values["task_id"] for step in done if step.kind is Kind.TASK_SCHEDULED]
    return str(new[0]) if new else None


def take_over(vault: Vault, pipeline: str) -> int:
    """Cancel what a runner that is no more had in hand, and schedule it again; return how many.

    Only for who holds the runner's lock.
    """

    def decide(query: Query) -> list[Step]:
        rows = query(
            "select * from tasks where pipeline = $pipeline and state = 'IN PROGRESS'", {"pipeline": pipeline}
        ).to_pylist()
        steps: list[Step] = []
        for row in rows:
            steps.append(_canceled(row["task_id"], LOST_RUNNER))
            # That its runner died is no fault of the study.
            steps += [] if row["superseded"] else _retried(row, row["attempt"])
        return steps

    done = record(vault.resources, decide)
    return sum(step.kind is Kind.TASK_CANCELED for step in done)


def scheduled(vault: Vault, pipeline: str, most: int) -> list[str]:
    """Return the analyses that are scheduled and in nobody's hand, the most urgent first."""
    rows = vault.resources.catalog.query(
        "select task_id from tasks where pipeline = $pipeline and state = 'SCHEDULED' order by"
        " case priority when 'HIGH' then 0 when 'LOW' then 2 else 1 end, scheduled, task_id limit $n",
        {"pipeline": pipeline, "n": most},
    )
    found: list[str] = rows["task_id"].to_pylist()
    return found


def unfinished(vault: Vault, pipeline: str) -> int:
    """Count the analyses that are scheduled or in hand."""
    rows = vault.resources.catalog.query(
        "select count(*) as n from tasks where pipeline = $pipeline"
        " and state in ('SCHEDULED', 'IN PROGRESS')",
        {"pipeline": pipeline},
    )
    return int(rows["n"].to_pylist()[0])


def _retried(row: Row, attempt: int) -> list[Step]:
    kept = "study_id content model pipeline version priority arrived".split()
    values = {name: row[name] for name in kept} | {"task_id": new_id(), "former_id": row["task_id"]}
    values |= {"scheduled": now(), "attempt": attempt}
    return [Step(Kind.TASK_SUPERSEDED, {"task_id": row["task_id"]}), Step(Kind.TASK_SCHEDULED, values)]


def _rows(query: Query, task_ids: Sequence[str]) -> dict[str, Row]:
    rows = query("select * from tasks where task_id in (select unnest($ids))", {"ids": list(task_ids)})
    return {row["task_id"]: row for row in rows.to_pylist()}


def _in_hand(rows: Mapping[str, Row], task: Task, then: TaskState) -> Row:
    if task.task_id not in rows:
        raise UsageError("this analysis is not in the vault any more: its study was removed")
    row = rows[task.task_id]
    require_task(row["state"], then, row["transaction_uid"], task.transaction_uid)
    return row


Known = Mapping[tuple[str, str], Sequence[Row]]
"""Tasks that count, each with its reading item, by pipeline and study."""


def _known(query: Query, rows: Collection[Row]) -> Known:
    """Return what is known of the studies of some tasks, by a query a pipeline."""
    return {
        (pipeline, study_id): found
        for pipeline in {row["pipeline"] for row in rows}
        for study_id, found in _of_studies(query, pipeline, [row["study_id"] for row in rows]).items()
    }


def _ranked(known: Known, row: Row, priority: Priority) -> list[Step]:
    """Return the step by which the study's item gets its place, unless a reader has decided."""
    if row["superseded"]:
        return []
    of_study = known.get((row["pipeline"], row["study_id"]), [])
    found = {one["item_id"]: one for one in of_study if one["item_id"]}
    return [
        Step(
            Kind.READING_RANKED,
            {
                "item_id": item_id,
                "task_id": row["task_id"],
                "ranked": now(),
                "priority": None if one["overridden"] else priority,
            },
        )
        for item_id, one in found.items()
        if one["item_state"] != ItemState.COMPLETED
    ]


__all__ = [
    "Ended",
    "Task",
    "Wanted",
    "complete",
    "give_up",
    "schedule",
    "start",
    "take_over",
    "unfinished",
]
