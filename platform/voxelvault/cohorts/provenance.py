"""Where a training set came from, for W&B or MLflow: digests, counts and opaque ids, nobody's data."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from voxelvault.audit.checkpoint import open_checkpoint
from voxelvault.cohorts.digests import canonical, keyed_digest, members_digest
from voxelvault.cohorts.parts import Assigned, recipe_digest
from voxelvault.cohorts.selecting import Chosen
from voxelvault.cohorts.showing import counts
from voxelvault.reading.segments import segments_in_vault
from voxelvault.resources import Resources

_PACKAGES = "voxelvault numpy pydicom imagecodecs zarr duckdb torch monai".split()


def provenance(chosen: Chosen, series_ids: Sequence[str], split: Assigned | None) -> dict[str, Any]:
    """Return what fixes a selection, as values that JSON takes.

    Parameters
    ----------
    chosen : Chosen
        The selection.
    series_ids : sequence of str
        Its series.
    split : Assigned, optional
        The cohort's split.
    """
    resources, frozen = chosen.resources, chosen.frozen
    head = resources.catalog.head()
    found: dict[str, Any] = {
        "vault_id": resources.settings.vault_id,
        "cohort": _cohort(chosen),
        "part": chosen.part,
        **counts(resources, series_ids),
        **_members(chosen, series_ids),
        "selection": frozen.selection["digest"] if frozen else keyed_digest(resources, chosen.text),
        "labels": _labels(chosen, series_ids),
        "segmentations": _segmentations(resources, series_ids),
        "split": None if split is None else _split(split),
        "caches": _caches(resources, series_ids),
        "catalog": {"digest": head.digest, "snapshot": head.snapshot},
        "audit": _log(resources),
        "versions": {"python": platform.python_version(), **_versions()},
    }
    return found


def _cohort(chosen: Chosen) -> dict[str, Any] | None:
    frozen = chosen.frozen
    if frozen is None:
        return None
    return {
        "cohort_id": frozen.cohort_id,
        "name": frozen.name,
        "members": frozen.members,
        "subjects": frozen.subjects,
        "members_sha256": frozen.members_sha256,
        "catalog": {"digest": frozen.catalog_digest, "snapshot": frozen.catalog_snapshot},
    }


def _members(chosen: Chosen, series_ids: Sequence[str]) -> dict[str, Any]:
    frozen = chosen.frozen
    source = "cohort_members where cohort_id = $cohort" if frozen else "instances where not superseded"
    digests = chosen.resources.catalog.query(
        f"select sha256 from {source} and series_id in (select unnest($ids))",  # noqa: S608 - ours
        {"ids": list(series_ids), "cohort": frozen.cohort_id if frozen else None},
    )["sha256"].to_pylist()
    return {"instances": len(digests), "members_sha256": members_digest(digests)}


def _segmentations(resources: Resources, series_ids: Sequence[str]) -> dict[str, Any]:
    """Return what masks could be made of now: a cohort's members are its images, not objects about them."""
    found = segments_in_vault(resources, series_ids)
    ids = sorted({info.instance_id for infos in found.values() for info in infos})
    digests = resources.catalog.query(
        "select sha256 from instances where instance_id in (select unnest($ids))", {"ids": ids}
    )["sha256"].to_pylist()
    return {"objects": len(digests), "sha256": members_digest(digests)}


def _labels(chosen: Chosen, series_ids: Sequence[str]) -> dict[str, Any] | None:
    """Return columns and a keyed digest: a plain one of a few labels could be guessed back."""
    labels = chosen.labels
    if not labels.columns:
        return None
    rows = {series_id: labels.of(series_id) for series_id in series_ids}
    return {
        "columns": list(labels.columns),
        "labelled": sum(bool(row) for row in rows.values()),
        "digest": keyed_digest(chosen.resources, [rows, labels.instances if labels.reduced else {}]),
    }


def _split(split: Assigned) -> dict[str, Any]:
    parts = {name: split.ids(name) for name in split.recipe.parts}
    return {
        "recipe": split.recipe.plain(),
        "recipe_sha256": recipe_digest(split.recipe),
        "parts": {
            name: {"series": len(ids), "sha256": members_digest([canonical(ids)])}
            for name, ids in parts.items()
        },
    }


def _caches(resources: Resources, series_ids: Sequence[str]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = resources.catalog.query(
        "select kind, recipe_sha256, count(distinct series_id)::BIGINT as series from derived"
        " where series_id in (select unnest($ids)) group by all order by kind, recipe_sha256",
        {"ids": list(series_ids)},
    ).to_pylist()
    return found


def _log(resources: Resources) -> dict[str, Any]:
    head = open_checkpoint(resources.log.checkpoint(), resources.log.key)
    return {"size": head.size, "root": head.root.hex()}


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


__all__ = ["provenance"]
