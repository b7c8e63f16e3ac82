"""The tables, their keys, and which column has which SQL type.

Columns that a DICOM attribute fills carry its keyword (PS3.6) and come in from the tag list, which is
data that a site can extend; the columns here are the vault's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from voxelvault.errors import CatalogError

ID = "VARCHAR"


@dataclass(frozen=True)
class Table:
    """One table of the catalog.

    Parameters
    ----------
    name : str
        As SQL knows it.
    key : tuple of str
        Columns that name a row; the engine has no primary keys, so every write goes by them.
    columns : mapping of str to str
        Column to SQL type, in order.
    unit : str or None
        Table whose rows arrive together with these: rows of one pack are committed all or none, so
        knowing the pack is knowing them.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    unit: str | None = None


def _table(name: str, key: str, columns: Mapping[str, str], unit: str | None = None) -> Table:
    return Table(name, tuple(key.split()), MappingProxyType(dict(columns)), unit)


def _ids(names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), ID)


PATIENTS = _table(
    "patients",
    "subject_id",
    _ids("subject_id key_id")
    | {"provisional": "BOOLEAN", "merged_into": ID, "only_study": "VARCHAR", "patientless": "BOOLEAN"},
)
STUDIES = _table("studies", "study_id", _ids("study_id subject_id key_id"))
SERIES = _table("series", "series_id", _ids("series_id study_id subject_id"))
PACKS = _table(
    "packs",
    "pack_id",
    _ids("pack_id series_id study_id subject_id key_id manifest_object_id")
    | {
        "manifest_length": "BIGINT",
        "manifest_sha256": "VARCHAR",
        "manifest_kind": "INTEGER",
        "created": "TIMESTAMP",
        "codec": "VARCHAR",
    },
    unit="packs",
)
INSTANCES = _table(
    "instances",
    "instance_id",
    _ids("instance_id pack_id series_id study_id subject_id")
    | {
        "version": "INTEGER",
        "superseded": "BOOLEAN",
        "sha256": "VARCHAR",
        "length": "BIGINT",
        "stored": "VARCHAR",
        "pixels": "VARCHAR",
        "origin": "VARCHAR",
        "header": "VARCHAR",
        "received": "TIMESTAMP",
    },
    unit="packs",
)
STACKS = _table(
    "stacks",
    "pack_id stack",
    _ids("pack_id series_id study_id subject_id")
    | {
        "stack": "INTEGER",
        "frames": "BIGINT",
        "rows": "INTEGER",
        "columns": "INTEGER",
        "samples": "INTEGER",
        "dtype": "VARCHAR",
        "codec": "VARCHAR",
        "TransferSyntaxUID": "VARCHAR",
        "PhotometricInterpretation": "VARCHAR",
        "PlanarConfiguration": "INTEGER",
        "BitsAllocated": "INTEGER",
        "BitsStored": "INTEGER",
        "PixelRepresentation": "INTEGER",
    },
    unit="packs",
)
FRAMES = _table(
    "frames",
    "pack_id stack frame",
    _ids("pack_id")
    | {"stack": "INTEGER", "frame": "BIGINT"}
    | _ids("instance_id series_id study_id subject_id")
    | {
        "FrameNumber": "INTEGER",
        "ImagePositionPatient": "DOUBLE[]",
        "ImageOrientationPatient": "DOUBLE[]",
        "PixelSpacing": "DOUBLE[]",
        "SliceThickness": "DOUBLE",
        "temporal": "DOUBLE",
        "echo": "DOUBLE",
        "acquisition": "INTEGER",
        "InstanceNumber": "INTEGER",
        "temporal_source": "VARCHAR",
        "image_type": "VARCHAR[]",
        "padding": "DOUBLE[]",
        "marks": "VARCHAR",
        "RescaleSlope": "DOUBLE",
        "RescaleIntercept": "DOUBLE",
        "RescaleType": "VARCHAR",
        "WindowCenter": "DOUBLE",
        "WindowWidth": "DOUBLE",
        "VOILUTFunction": "VARCHAR",
    },
    unit="packs",
)
QUARANTINE = _table(
    "quarantine",
    "quarantine_id",
    {
        "quarantine_id": ID,
        "reason": "VARCHAR",
        "detail": "VARCHAR",
        "source": "VARCHAR",
        "SOPInstanceUID": "VARCHAR",
        "object_id": ID,
        "key_id": ID,
        "kind": "INTEGER",
        "length": "BIGINT",
        "object_sha256": "VARCHAR",
        "sha256": "VARCHAR",
        "size": "BIGINT",
        "seen": "TIMESTAMP",
        "resolved": "BOOLEAN",
    },
)
CONFLICTS = _table(
    "conflicts",
    "conflict_id",
    {"conflict_id": ID, "kind": "VARCHAR"}
    | _ids("subject_id other_subject_id instance_id study_id")
    | {"detail": "VARCHAR", "found": "TIMESTAMP", "resolved": "BOOLEAN"},
)
MERGES = _table(
    "merges",
    "subject_id",
    _ids("subject_id into_subject_id") | {"merged": "TIMESTAMP"},
)
MOVES = _table(
    "moves",
    "subject_id StudyInstanceUID",
    _ids("subject_id StudyInstanceUID into_subject_id") | {"moved": "TIMESTAMP"},
)
COHORTS = _table(
    "cohorts",
    "cohort_id",
    _ids("cohort_id")
    | {
        "name": "VARCHAR",
        "frozen": "TIMESTAMP",
        "catalog_digest": "VARCHAR",
        "catalog_snapshot": "BIGINT",
        "members": "BIGINT",
        "subjects": "BIGINT",
        "members_sha256": "VARCHAR",
        "selection": "VARCHAR",
        "labels": "VARCHAR",
        "split": "VARCHAR",
    },
)
COHORT_MEMBERS = _table(
    "cohort_members",
    "cohort_id instance_id",
    _ids("cohort_id instance_id series_id study_id subject_id")
    | {"sha256": "VARCHAR", "label": "VARCHAR", "part": "VARCHAR"},
)
DERIVED = _table(
    "derived",
    "derived_id",
    _ids("derived_id series_id study_id subject_id key_id object_id")
    | {
        "kind": "VARCHAR",
        "recipe": "VARCHAR",
        "recipe_sha256": "VARCHAR",
        "source_sha256": "VARCHAR",
        "description": "VARCHAR",
        "wrapped_dek": "VARCHAR",
        "object_kind": "INTEGER",
        "object_length": "BIGINT",
        "object_sha256": "VARCHAR",
        "created": "TIMESTAMP",
        "used": "TIMESTAMP",
    },
)
RELEASES = _table(
    "releases",
    "release_id",
    _ids("release_id cohort_id") | {"name": "VARCHAR", "receipt": "VARCHAR", "released": "TIMESTAMP"},
)

TASKS = _table(
    "tasks",
    "task_id",
    _ids("task_id study_id series_id former_id")
    | {
        "state": "VARCHAR",
        "transaction_uid": "VARCHAR",
        "pipeline": "VARCHAR",
        "version": "VARCHAR",
        "model": "VARCHAR",
        "content": "VARCHAR",
        "priority": "VARCHAR",
        "attempt": "INTEGER",
        "arrived": "TIMESTAMP",
        "scheduled": "TIMESTAMP",
        "started": "TIMESTAMP",
        "ended": "TIMESTAMP",
        "verdict": "VARCHAR",
        "reasons": "VARCHAR[]",
        "reason": "VARCHAR",
        "score": "DOUBLE",
        "threshold": "DOUBLE",
        "volume_ml": "DOUBLE",
        "superseded": "BOOLEAN",
        "entry": "BIGINT",
    },
)
READING_ITEMS = _table(
    "reading_items",
    "item_id",
    _ids("item_id study_id task_id")
    | {
        "state": "VARCHAR",
        "priority": "VARCHAR",
        "claimed_by": "VARCHAR",
        "arrived": "TIMESTAMP",
        "listed": "TIMESTAMP",
        "ranked": "TIMESTAMP",
        "claimed": "TIMESTAMP",
        "completed": "TIMESTAMP",
        "overridden": "BOOLEAN",
        "reason": "VARCHAR",
        "superseded": "BOOLEAN",
        "entry": "BIGINT",
    },
)

TABLES: Mapping[str, Table] = MappingProxyType(
    {
        table.name: table
        for table in (
            PATIENTS,
            STUDIES,
            SERIES,
            PACKS,
            INSTANCES,
            STACKS,
            FRAMES,
            QUARANTINE,
            CONFLICTS,
            MERGES,
            MOVES,
            COHORTS,
            COHORT_MEMBERS,
            DERIVED,
            RELEASES,
            TASKS,
            READING_ITEMS,
        )
    }
)
"""Every table with the vault's own columns."""

LARGE = ("instances", "frames")
"""Tables with a row an instance or more: their row groups are kept small, in series order."""


def schema(typed: Mapping[str, Mapping[str, str]] | None = None) -> Mapping[str, Table]:
    """Return the tables with the typed DICOM columns of a tag list.

    Parameters
    ----------
    typed : mapping of str to mapping of str to str
        Table to DICOM keyword to SQL type.

    Raises
    ------
    CatalogError
        The list names an unknown table, or gives one of the vault's own columns another type.
    """
    tables = dict(TABLES)
    for name, columns in (typed or {}).items():
        if name not in tables:
            raise CatalogError(f"the tag list names a table {name!r}: use one of {', '.join(TABLES)}")
        tables[name] = _with(tables[name], columns)
    return MappingProxyType(tables)


def _with(table: Table, columns: Mapping[str, str]) -> Table:
    lower = {column.lower(): column for column in table.columns}
    for column, sql_type in columns.items():
        own = lower.get(column.lower())
        if own and (own != column or table.columns[own] != sql_type):
            raise CatalogError(f"the tag list redefines {table.name}.{own}: leave it out of the list")
        # Types and names go into SQL text: nothing but words may pass.
        if not (column.isidentifier() and sql_type.rstrip("[]").replace("_", "").isalnum()):
            raise CatalogError(
                f"the tag list has no usable name and type for {table.name}: use keyword and SQL type"
            )
    return replace(table, columns=MappingProxyType({**table.columns, **columns}))


__all__ = ["LARGE", "TABLES", "Table", "schema"]
