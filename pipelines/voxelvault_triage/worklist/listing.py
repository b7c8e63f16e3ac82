"""The list of studies to be read, as people and programs see it: one logged query, nothing kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

from voxelvault import Vault
from voxelvault.errors import UnknownUID, UsageError
from voxelvault_triage.model import Verdict
from voxelvault_triage.models.registry import demonstrations
from voxelvault_triage.notice import GENERAL, notice
from voxelvault_triage.worklist.order import Rules, left, level, ordered
from voxelvault_triage.worklist.states import Priority


@dataclass(frozen=True, slots=True)
class Prior:
    """An earlier or later study of the same patient.

    Parameters
    ----------
    StudyInstanceUID, StudyDescription : str
        As in its header.
    StudyDate : date or None
        As in its header.
    modalities : tuple of str
        Of its series that were sent in.
    verdict : str or None
        The most urgent of the pipelines that rank studies.
    """

    StudyInstanceUID: str = field(repr=False)
    StudyDate: date | None = field(repr=False)
    StudyDescription: str = field(repr=False)
    modalities: tuple[str, ...] = ()
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One study on the list.

    Parameters
    ----------
    item_id, study_id, task_id : str
        The vault's random ids.
    StudyInstanceUID, StudyDescription : str
        As in the header.
    pipeline, model : str
        Which analysis ranked it; `model` is a digest.
    state : str
        One of `ItemState`.
    task_state : str
        One of `TaskState`.
    priority : Priority
        As ranked or overridden.
    overridden : bool
        A reader chose the priority.
    claimed_by : str or None
        Who reads it.
    arrived : datetime
        When its last image came in, UTC.
    verdict : Verdict or None
        None while it is not analysed yet, or where that failed.
    score, threshold, volume_ml : float or None
        None where it was not analysed.
    reason : str
        Why it was not analysed, or why a reader chose the priority.
    series_id : str or None
        What was analysed.
    checks : tuple of str
        Pipelines that rank nothing and flagged the study, such as a check of quality.
    priors : tuple of Prior
        Other studies of the same patient, the newest first.
    demonstration : bool
        The model is one.
    """

    item_id: str
    study_id: str
    task_id: str
    StudyInstanceUID: str = field(repr=False)
    StudyDescription: str = field(repr=False)
    pipeline: str
    model: str
    state: str
    task_state: str
    priority: Priority
    overridden: bool
    claimed_by: str | None
    arrived: datetime
    verdict: Verdict | None
    score: float | None
    threshold: float | None
    volume_ml: float | None
    reason: str
    series_id: str | None = None
    checks: tuple[str, ...] = ()
    priors: tuple[Prior, ...] = field(default=(), repr=False)
    demonstration: bool = False

    def document(self, now: datetime, rules: Rules) -> dict[str, Any]:
        """Return it as `triage worklist --json` prints it."""
        return {
            "StudyInstanceUID": self.StudyInstanceUID,
            "state": self.state,
            "priority": str(self.priority),
            "score": self.score,
            "threshold": self.threshold,
            "volume_ml": self.volume_ml,
            "reason": self.reason,
            "model": self.model,
            "pipeline": self.pipeline,
            "verdict": self.verdict and str(self.verdict),
            "task_state": self.task_state,
            "overridden": self.overridden,
            "claimed_by": self.claimed_by,
            "arrived": self.arrived.isoformat() + "Z",
            "level": level(self, now, rules),
            "left_s": round(left(self, now, rules).total_seconds()),
            "item": self.item_id,
            "checks": list(self.checks),
            "priors": [
                {
                    "StudyInstanceUID": prior.StudyInstanceUID,
                    "StudyDate": prior.StudyDate and prior.StudyDate.isoformat(),
                    "StudyDescription": prior.StudyDescription,
                    "modalities": list(prior.modalities),
                    "verdict": prior.verdict,
                }
                for prior in self.priors
            ],
            "notice": notice(self.demonstration),
        }


_RANKED = "(select p.pipeline from reading_items r join tasks p on p.task_id = r.task_id)"
"""Pipelines that give studies a place on the list."""
_AGAIN = (
    "(select any_value(n.state) from tasks n where t.superseded and not n.superseded"
    " and n.study_id = t.study_id and n.content = t.content and n.pipeline = t.pipeline"
    " and n.model is not distinct from t.model)"
)
"""State of the attempt that follows one which failed or whose runner ended; null where none does."""
_ITEMS = (
    "select i.item_id, i.study_id, i.task_id, coalesce(s.StudyInstanceUID, '') as StudyInstanceUID,"  # noqa: S608
    " coalesce(s.StudyDescription, '') as StudyDescription, t.pipeline, coalesce(t.model, '') as model,"
    f" i.state, coalesce({_AGAIN}, t.state) as task_state, i.priority, i.overridden, i.claimed_by, i.arrived,"
    " t.verdict, t.score, t.threshold, t.volume_ml, t.series_id,"
    f" coalesce(i.reason, if({_AGAIN} is null, t.reason, null), '') as reason,"
    " (select list(distinct c.pipeline order by c.pipeline) from tasks c where c.study_id = i.study_id"
    f" and not c.superseded and c.verdict = 'positive' and c.pipeline not in {_RANKED}) as checks"
    " from reading_items i join tasks t using (task_id) join studies s on s.study_id = i.study_id"
    " where not i.superseded and ($all or i.state != 'completed')"
    " and ($pipeline is null or t.pipeline = $pipeline)"
)
_PRIORS = (
    "select a.study_id as of_study, coalesce(b.StudyInstanceUID, '') as StudyInstanceUID, b.StudyDate,"  # noqa: S608
    " coalesce(b.StudyDescription, '') as StudyDescription, (select list(distinct Modality order by Modality)"
    " from series x where x.study_id = b.study_id and exists"
    " (from instances y where y.series_id = x.series_id and y.origin is null)) as modalities,"
    " (select arg_min(verdict, list_position(['positive', 'not-analysed', 'negative'], verdict)) from tasks t"
    f" where t.study_id = b.study_id and not t.superseded and t.pipeline in {_RANKED})"
    " as verdict from studies a join studies b using (subject_id) where a.study_id in (select unnest($ids))"
    " and b.study_id != a.study_id order by b.StudyDate desc nulls last, b.StudyInstanceUID"
)


def listing(
    vault: Vault,
    now: datetime,
    rules: Rules | None = None,
    *,
    completed: bool = False,
    pipeline: str | None = None,
) -> list[Item]:
    """Return the studies that are to be read, in order; an identifying read, in the log.

    Parameters
    ----------
    vault : Vault
        Open.
    now : datetime
        UTC, without a zone.
    rules : Rules, optional
        How it is ordered.
    completed : bool
        Those too that were read.
    pipeline : str, optional
        Only what this pipeline listed.
    """
    rows = _rows(vault, _ITEMS, {"all": completed, "pipeline": pipeline})
    priors: dict[str, list[Prior]] = {}
    if rows:
        for row in _rows(vault, _PRIORS, {"ids": sorted({row["study_id"] for row in rows})}):
            of_study, modalities = row.pop("of_study"), tuple(row.pop("modalities") or ())
            priors.setdefault(of_study, []).append(Prior(**row, modalities=modalities))
    known = demonstrations(vault)
    items = [
        replace(
            _item(row),
            priors=tuple(priors.get(row["study_id"], ())),
            demonstration=row["model"] in known,
        )
        for row in rows
    ]
    return ordered(items, now, rules or Rules())


def _rows(vault: Vault, query: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = vault.sql(query, parameters).arrow().to_pylist()
    return found


def _item(row: dict[str, Any]) -> Item:
    verdict = row.pop("verdict")
    priority, checks = Priority(row.pop("priority")), tuple(row.pop("checks") or ())
    return Item(**row, priority=priority, checks=checks, verdict=Verdict(verdict) if verdict else None)


def notices(items: Sequence[Item]) -> str:
    """Return what must stand below a list: a sentence for each kind of model in it."""
    return " ".join(dict.fromkeys(notice(item.demonstration) for item in items)) or GENERAL


def find(items: Sequence[Item], wanted: str) -> list[Item]:
    """Return all items of a StudyInstanceUID, or the one whose id begins so.

    Raises
    ------
    UnknownUID
        There is none on the list.
    UsageError
        Studies of several patients have this UID, or several items' ids begin so.
    """
    found = [one for one in items if one.StudyInstanceUID == wanted]
    if not found and len(wanted) >= 6:
        found = [one for one in items if one.item_id.startswith(wanted)]
        if len(found) > 1:
            raise UsageError("several items' ids begin so; give more of it")
    if not found:
        raise UnknownUID("this study is not on the list; `triage worklist` shows those that are")
    if len({one.study_id for one in found}) > 1:
        raise UsageError("several studies have this UID; give an item's id, as the list shows it")
    return found


__all__ = ["Item", "Prior", "find", "listing", "notices"]
