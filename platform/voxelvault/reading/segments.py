"""Which segments, regions and findings a vault holds for a series: from the catalog, one entry in the log.

An object counts for a series of the same subject when it names the series or its images, or lies in
the same frame of reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing

from voxelvault.audit.about import about
from voxelvault.audit.events import Event, Kind
from voxelvault.dicom.read import Header
from voxelvault.dicom.structured_report import Finding, findings, referenced_series
from voxelvault.errors import UsageError
from voxelvault.model import MOST_LABELS
from voxelvault.policy.access import Request, require
from voxelvault.reading.many import open_many
from voxelvault.reading.masks import Array, MaskPlan, MaskSource, without_repeats
from voxelvault.reading.segment_rows import (
    SegmentInfo,
    named_images,
    object_rows,
    stored_objects,
    target_rows,
)
from voxelvault.reading.stacks import FrameStack
from voxelvault.resources import Resources


def segments_in_vault(resources: Resources, series_ids: Sequence[str]) -> dict[str, list[SegmentInfo]]:
    """Return the segments and regions that may be laid on each series; those that name it first.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : sequence of str
        Opaque ids.

    Returns
    -------
    dict of str to list of SegmentInfo
        By series id; an empty list where there is nothing.

    Raises
    ------
    PolicyDenied, AuditError
        Then nothing was read.
    """
    _enter(resources, series_ids, Kind.QUERY, "segments")
    targets = target_rows(resources, series_ids)
    objects = stored_objects(resources, targets)
    images = named_images(resources, targets, objects)
    found: dict[str, list[SegmentInfo]] = {series_id: [] for series_id in series_ids}
    for target in targets:
        infos = [info for one in objects for info in one.infos_for(target, images)]
        found[target["series_id"]] = sorted(infos, key=lambda info: not info.refers)
    return found


def labels_in_vault(
    resources: Resources, series_ids: Sequence[str], kind: str | None = None
) -> dict[str, list[str]]:
    """Return the labels that each series has segments or regions of.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : sequence of str
        Opaque ids.
    kind : {"SEG", "RTSTRUCT"}, optional
        Both by default.

    Returns
    -------
    dict of str to list of str
        By series id: labels without repetition.
    """
    return {
        series_id: list(dict.fromkeys(info.label for info in infos if kind in (None, info.kind)))
        for series_id, infos in segments_in_vault(resources, series_ids).items()
    }


def findings_in_vault(resources: Resources, series_ids: Sequence[str]) -> dict[str, list[Finding]]:
    """Return what structured reports found on each series, or on its study where they name no series.

    Findings are diagnoses: the log has an identifying read of these series. Reports that a pipeline of
    this vault made are left out: what a model says is no label.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_ids : sequence of str
        Opaque ids.

    Returns
    -------
    dict of str to list of Finding
        By series id.
    """
    _enter(resources, series_ids, Kind.IDENTIFYING_READ, "findings")
    targets = target_rows(resources, series_ids)
    rows = [row for row in object_rows(resources, targets, "SR", "header, origin") if not row["origin"]]
    found: dict[str, list[Finding]] = {series_id: [] for series_id in series_ids}
    for row in rows:
        header = Header.from_json(row["header"])
        named, said = referenced_series(header), findings(header)
        for target in targets:
            same_study = not named and row["study_id"] == target["study_id"]
            if row["subject_id"] == target["subject_id"] and (
                target["SeriesInstanceUID"] in named or same_study
            ):
                found[target["series_id"]] += said
    return found


def plan_masks(
    found: Iterable[SegmentInfo],
    labels: str | int | Sequence[str | int] | None = None,
    source: str | None = None,
) -> MaskPlan:
    """Choose the segments that a mask is made of.

    Parameters
    ----------
    found : iterable of SegmentInfo
        What a series has.
    labels : str, int, sequence of them, or None
        Labels or numbers; all labels by default. The value in the mask is 1 for one, else the place
        in the sequence from 1. A label that one object gives to several segments means all of them.
    source : str, optional
        Opaque instance id of the object that is meant.

    Returns
    -------
    MaskPlan
        What makes the mask.

    Raises
    ------
    UsageError
        There is no such label here, or several objects have it.
    """
    known = [info for info in found if source in (None, info.instance_id)]
    if not known:
        raise UsageError(
            "no segmentation or structure set in this vault lies on this series; see `segmentations`"
            if source is None
            else "source= is no object that lies on this series; see instance_id in `segmentations`"
        )
    if labels is None:
        labels = list(dict.fromkeys(info.label for info in known))
    several = [labels] if isinstance(labels, str | int) else list(labels)
    if not several:
        raise UsageError("no label was asked for; see `segmentations` for those there are")
    sources = [part for value, label in enumerate(several, 1) for part in _sources(known, label, value)]
    return MaskPlan(without_repeats(sources))


def plan_for(found: Sequence[SegmentInfo], labels: Sequence[str]) -> MaskPlan | None:
    """Choose the segments of a mask that many series have alike, though some lack some of its labels.

    Parameters
    ----------
    found : sequence of SegmentInfo
        What a series has.
    labels : sequence of str
        The value in the mask is the place in the sequence, from 1: the same in every series.

    Returns
    -------
    MaskPlan or None
        What makes the mask; None where the series has none of the labels.

    Raises
    ------
    UsageError
        More labels than a mask has values, or several objects have one.
    """
    if len(labels) > MOST_LABELS:
        raise UsageError(f"a mask holds {MOST_LABELS} labels; ask for fewer at once")
    here = {info.label.casefold() for info in found}
    sources = [
        part
        for value, label in enumerate(labels, 1)
        if label.casefold() in here
        for part in _sources(found, label, value)
    ]
    return MaskPlan(without_repeats(sources)) if sources else None


def read_mask(
    resources: Resources,
    series_id: str,
    stack: FrameStack,
    labels: str | int | Sequence[str | int] | None = None,
    source: str | None = None,
    fractional: bool = False,
) -> Array:
    """Find the segments of a series, open them under a handle of their own, and make the mask.

    Parameters
    ----------
    resources : Resources
        The open vault.
    series_id : str
        Opaque id of the series.
    stack : FrameStack
        Which of its volumes.
    labels, source
        As for `plan_masks`.
    fractional : bool
        As for `MaskPlan.make`.

    Returns
    -------
    ndarray
        (slice, row, column) uint8, or float32.

    Raises
    ------
    UsageError, GeometryError, NoPixels, PolicyDenied, AuditError
        As `plan_masks` and `MaskPlan.make` do.
    """
    plan = plan_masks(segments_in_vault(resources, [series_id])[series_id], labels, source)
    with closing(open_many(resources, plan.series_ids, kind_code="mask")) as opened:
        return plan.make(opened.packs, stack, fractional=fractional, guard=opened.handle)


def _sources(known: Sequence[SegmentInfo], label: str | int, value: int) -> list[MaskSource]:
    meant = [info for info in known if label == (info.label if isinstance(label, str) else info.number)]
    if not meant and isinstance(label, str):
        meant = [info for info in known if info.label.casefold() == label.casefold()]
    if not meant:
        raise UsageError("this series has no segment of that label; see `segmentations` for those it has")
    # An object drawn on this very series goes before one that only lies in the same space.
    meant = [info for info in meant if info.refers] or meant
    objects = list(dict.fromkeys(info.instance_id for info in meant))
    if len(objects) > 1:
        raise UsageError(
            f"{len(objects)} objects have a segment of that label; pass source= one of"
            f" {', '.join(objects[:8])}"
        )
    first = meant[0]
    numbers = tuple((info.number, value) for info in meant)
    return [MaskSource(first.kind, first.instance_id, first.pack_id, first.series_id, numbers, first.refers)]


def _enter(resources: Resources, series_ids: Sequence[str], kind: Kind, what: str) -> None:
    """Ask the policy and enter the look-up in the log, before it is made."""
    require(resources.policy, Request(kind, tuple(series_ids), resources.purpose, resources.who))
    entry = Event(kind=kind, who=resources.who, purpose=resources.purpose, text=what)
    resources.audit.append([about(entry, series_ids)])


__all__ = [
    "SegmentInfo",
    "findings_in_vault",
    "labels_in_vault",
    "plan_for",
    "plan_masks",
    "read_mask",
    "segments_in_vault",
]
