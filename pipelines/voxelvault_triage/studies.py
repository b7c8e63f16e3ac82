"""Studies as they are in the vault: what was sent in of them, when, and what of it is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from voxelvault import Vault
from voxelvault.errors import UnknownUID
from voxelvault_triage.model import Study
from voxelvault_triage.ready import gaps

_SENT = "i.origin is null and not i.superseded"
"""Images and the like as they were sent in: what pipelines made is left out."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A study, and when its last image came in.

    Parameters
    ----------
    study : Study
        With the digest of its content.
    last : datetime
        UTC.
    instances : int
        How many there are.
    """

    study: Study
    last: datetime
    instances: int


def read_studies(vault: Vault, study_ids: Iterable[str]) -> list[Arrived]:
    """Return studies as they are now; those of which nothing was sent in are left out.

    Parameters
    ----------
    study_ids : iterable of str
        Opaque ids.
    """
    rows = vault.resources.catalog.query(
        "select s.study_id, s.subject_id, coalesce(s.StudyInstanceUID, '') as StudyInstanceUID,"  # noqa: S608
        " list(i.sha256 order by i.sha256) as digests, max(i.received) as last"
        f" from studies s join instances i using (study_id) where {_SENT}"
        " and s.study_id in (select unnest($ids)) group by all order by last, s.study_id",
        {"ids": sorted(set(study_ids))},
    ).to_pylist()
    return [_arrived(row) for row in rows]


def _arrived(row: dict[str, Any]) -> Arrived:
    digests, last = row.pop("digests"), row.pop("last")
    content = hashlib.sha256("".join(digests).encode()).hexdigest()
    return Arrived(Study(**row, content=content), last, len(digests))


def with_uids(vault: Vault, uids: Sequence[str]) -> list[str]:
    """Return the opaque ids of the studies of these StudyInstanceUIDs.

    Raises
    ------
    UnknownUID
        Some are not in this vault.
    """
    rows = vault.sql(
        "select study_id, StudyInstanceUID from studies where StudyInstanceUID in (select unnest($uids))",
        {"uids": list(uids)},
    ).fetchall()
    if {uid for _, uid in rows} != set(uids):
        raise UnknownUID("some of these studies are not in this vault; `sql` on `studies` lists them")
    return [study_id for study_id, _ in rows]


def selected(vault: Vault, where: str) -> list[str]:
    """Return the opaque ids of the studies with series that a condition selects; see `Vault.select`."""
    wanted = vault.select(where).series_ids
    rows = vault.resources.catalog.query(
        "select distinct study_id from series where series_id in (select unnest($ids))",
        {"ids": list(wanted)},
    )
    return [str(one) for one in rows["study_id"].to_pylist()]


def changed(vault: Vault, pipeline: str, model: str) -> dict[str, tuple[datetime, int]]:
    """Return studies with images that came in after what this pipeline and model were last asked about.

    Returns
    -------
    dict of str to tuple of datetime and int
        By opaque id: when the last image came in, and how many there are.
    """
    rows = vault.resources.catalog.query(
        "with sent as (select study_id, max(received) as last, count(*) as n from instances i"  # noqa: S608
        f" where {_SENT} group by study_id), done as (select study_id, max(arrived) as arrived from tasks"
        " where pipeline = $pipeline and coalesce(model, '') = $model group by study_id)"
        " select sent.* from sent left join done using (study_id)"
        " where arrived is null or last > arrived",
        {"pipeline": pipeline, "model": model},
    ).to_pylist()
    return {row["study_id"]: (row["last"], row["n"]) for row in rows}


def missing_slices(vault: Vault, study_id: str) -> int:
    """Count the steps between slices of a study in which one is missing."""
    rows = vault.resources.catalog.query(
        "select f.series_id, f.ImageOrientationPatient as orientation, f.ImagePositionPatient as position"  # noqa: S608
        f" from frames f join instances i using (instance_id) where {_SENT} and f.study_id = $id"
        " and f.ImagePositionPatient is not null and f.ImageOrientationPatient is not null",
        {"id": study_id},
    ).to_pylist()
    volumes: dict[tuple[str, tuple[float, ...]], list[float]] = {}
    for row in rows:
        facing = np.asarray(row["orientation"], np.float64)
        normal = np.cross(facing[:3], facing[3:])
        key = row["series_id"], tuple(np.round(facing, 3).tolist())
        volumes.setdefault(key, []).append(float(normal @ np.asarray(row["position"], np.float64)))
    return gaps(volumes.values())


__all__ = ["Arrived", "changed", "missing_slices", "read_studies", "selected", "with_uids"]
