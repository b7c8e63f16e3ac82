"""Which series make a sample together: one alone, or those of a study under keys of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from voxelvault.errors import UsageError

if TYPE_CHECKING:
    from voxelvault.resources import Resources

RESERVED = ("affine_ras", "id", "label", "mask", "slice", "subject")
"""Keys of a sample that are no image's."""

Groups = list[tuple[str, dict[str, str]]]


def by_series(series_ids: Sequence[str]) -> Groups:
    """Return a sample for each series, under the key `image`."""
    return [(series_id, {"image": series_id}) for series_id in series_ids]


def by_study(
    resources: Resources, series_ids: Sequence[str], roles: Mapping[str, Collection[str]] | None
) -> Groups:
    """Return a sample for each study.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : sequence of str
        Opaque ids.
    roles : mapping of str to collection of str, optional
        Which series each key may stand for; by default the modality is the key.

    Returns
    -------
    list of (str, dict)
        Study id, and series id by key; studies in order of their ids.

    Raises
    ------
    UsageError
        A study lacks a key, has several series for one, or a key is a sample's own.
    """
    rows = resources.catalog.query(
        "select series_id, study_id, lower(coalesce(Modality, 'other')) as modality from series"
        " where series_id in (select unnest($ids)) order by study_id, series_id",
        {"ids": list(series_ids)},
    ).to_pylist()
    keys = sorted({row["modality"] for row in rows}) if roles is None else list(roles)
    if taken := sorted(set(keys) & set(RESERVED)):
        raise UsageError(f"{', '.join(taken)} is a sample's own key; choose another for the series")
    studies: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        found = studies.setdefault(row["study_id"], {key: [] for key in keys})
        for key in keys:
            if row["modality"] == key if roles is None else row["series_id"] in roles[key]:
                found[key].append(row["series_id"])
    _check(studies)
    return [(study, {key: ids[0] for key, ids in found.items()}) for study, found in studies.items()]


def _check(studies: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    for wrong, problem in ((0, "no series"), (2, "several series")):
        for key in sorted({key for found in studies.values() for key in found}):
            count = sum(1 for found in studies.values() if min(len(found[key]), 2) == wrong)
            if count:
                raise UsageError(
                    f"{count} of {len(studies)} studies have {problem} for '{key}': narrow the selection or"
                    " the condition in roles="
                )


__all__ = ["RESERVED", "by_series", "by_study"]
