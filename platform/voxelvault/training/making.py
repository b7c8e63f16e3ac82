"""From the series of a cohort to its data set: what is asked of the catalog, and the handle it stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from voxelvault.errors import UsageError
from voxelvault.reading.many import OpenedMany, open_many
from voxelvault.reading.masks import MaskPlan, without_repeats
from voxelvault.reading.segments import SegmentInfo, plan_masks, segments_in_vault
from voxelvault.reading.stacks import FrameStack, choose
from voxelvault.training.dataset import Dataset, Transform, arrays_for
from voxelvault.training.plan import Plan, Unit, Wish, labels_of
from voxelvault.training.supply import Bricks, Member, OwnPlace, OwnSupply

if TYPE_CHECKING:
    from voxelvault.resources import Resources


LabelsOf = Callable[[str, str | None], Mapping[str, Any]]
"""``(series_id, instance_id or None)`` to labels by column."""


@dataclass(frozen=True)
class Cached:
    """What a cache holds of the series of a data set.

    Parameters
    ----------
    images, masks : mapping of str to Bricks
        By series id.
    keys : mapping of str to bytes
        By key id.
    """

    images: Mapping[str, Bricks]
    masks: Mapping[str, Bricks] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Request:
    """Which series make which samples.

    Parameters
    ----------
    groups : sequence of (str, mapping of str to str)
        Opaque id of each sample's unit, and its series by key.
    labels : callable
        Labels of a series or one of its instances.
    label : str or sequence of str, optional
        Which columns.
    masks : str, sequence of str, or None
        Labels of the mask; None for no masks.
    cohort_id : str, optional
        The frozen cohort, for the log.
    """

    groups: Sequence[tuple[str, Mapping[str, str]]]
    labels: LabelsOf
    label: str | Sequence[str] | None = None
    masks: str | Sequence[str] | None = None
    cohort_id: str | None = None


def make_dataset(
    resources: Resources,
    wish: Wish,
    request: Request,
    transform: Transform | None = None,
    arrays: str | None = None,
    cached: Cached | None = None,
    default_arrays: str = "numpy",
) -> Dataset:
    """Open a data set: one policy decision and one audit entry for all its series.

    Parameters
    ----------
    resources : Resources
        The open vault.
    wish : Wish
        What the samples are.
    request : Request
        Which series.
    transform : callable, optional
        Of each sample.
    arrays : {"numpy", "torch", "monai"}, optional
        What images are; by default MetaTensors where the transform is MONAI's.
    cached : Cached, optional
        Read images (and masks) from there.
    default_arrays : str
        For other transforms, and none.

    Raises
    ------
    UsageError
        Nothing to read, or a wish that these series can't fill.
    PolicyDenied, AuditError
        Then nothing was read.
    """
    series_ids = [series_id for _, members in request.groups for series_id in members.values()]
    if cached is not None and wish.kind == "slices":
        raise UsageError("slices are read from frames, not from bricks; leave cache= out")
    if not series_ids:
        raise UsageError("there are no series to make samples of; look at the selection's `len`")
    painted = _mask_plans(resources, request, cached)
    extra = [series_id for plan in painted.values() for series_id in plan.series_ids]
    opened = open_many(
        resources, list(dict.fromkeys(series_ids + extra)), kind_code="loader", cohort_id=request.cohort_id
    )
    try:
        plan = Plan(wish, _units(opened, wish, request, painted, cached))
        supply = OwnSupply(resources, OwnPlace(resources, opened, cached.keys if cached else {}), plan)
        chosen = arrays or arrays_for(transform, default_arrays)
        return Dataset(supply, transform, chosen, wish.seed, _note(wish, request))
    except BaseException:
        opened.close()
        raise


def _units(
    opened: OpenedMany,
    wish: Wish,
    request: Request,
    painted: Mapping[str, MaskPlan],
    cached: Cached | None,
) -> tuple[Unit[Member], ...]:
    """Return the units of a data set, with labels; per slice where slices have their own."""
    drafts = [_draft(opened, wish, unit_id, members, painted, cached) for unit_id, members in request.groups]
    rows = [_label_rows(request.labels, draft, wish) for draft in drafts]
    flat = labels_of([row for several in rows for row in several], request.label)
    ends = iter(flat)
    return tuple(
        Unit(draft.id, draft.subject_id, draft.members, draft.slices, tuple(next(ends) for _ in several))
        for draft, several in zip(drafts, rows, strict=True)
    )


@dataclass(frozen=True)
class _Draft:
    id: str
    subject_id: str
    members: dict[str, Member]
    slices: int
    chosen: FrameStack | None


def _draft(
    opened: OpenedMany,
    wish: Wish,
    unit_id: str,
    members: Mapping[str, str],
    painted: Mapping[str, MaskPlan],
    cached: Cached | None,
) -> _Draft:
    made = {key: _member(opened, series_id, painted, cached) for key, series_id in members.items()}
    first = opened.series(next(iter(members.values())))
    chosen = choose(first.stacks, wish.stack) if wish.kind == "slices" and cached is None else None
    return _Draft(unit_id, first.subject_id, made, 0 if chosen is None else len(chosen.refs), chosen)


def _member(
    opened: OpenedMany, series_id: str, painted: Mapping[str, MaskPlan], cached: Cached | None
) -> Member:
    if cached is None:
        return Member(series_id, opened.series(series_id), painted.get(series_id))
    return Member(series_id, bricks=cached.images[series_id], mask_bricks=cached.masks.get(series_id))


def _label_rows(labels: LabelsOf, draft: _Draft, wish: Wish) -> list[Mapping[str, Any]]:
    """Return the labels of a unit: those of its first series that has any, or of each slice's instance."""
    ids = [member.series_id for member in draft.members.values()]
    if draft.chosen is not None:
        return [labels(ids[0], ref.instance_id) for ref in draft.chosen.refs]
    return [next((row for series_id in ids if (row := labels(series_id, None))), {})]


def _mask_plans(resources: Resources, request: Request, cached: Cached | None) -> dict[str, MaskPlan]:
    """Return what the masks of each unit's first series are painted from."""
    if request.masks is None or cached is not None:
        return {}
    firsts = [next(iter(members.values())) for _, members in request.groups]
    found = segments_in_vault(resources, firsts)
    lacking = sum(1 for series_id in firsts if not found[series_id])
    if lacking:
        raise UsageError(
            f"{lacking} of {len(firsts)} series have no segmentation in this vault; leave them out"
            " (with_labels(from_='SEG') says which have one)"
        )
    labels = [request.masks] if isinstance(request.masks, str) else list(request.masks)
    known = {info.label.casefold() for infos in found.values() for info in infos}
    if unknown := [label for label in labels if label.casefold() not in known]:
        raise UsageError(f"none of these series has a segment {', '.join(map(repr, unknown))}")
    return {series_id: _plan_for(found[series_id], labels) for series_id in firsts}


def _plan_for(found: Sequence[SegmentInfo], labels: Sequence[str]) -> MaskPlan:
    """Return what a mask is painted from: each label has its place as value, also where others lack."""
    here = {info.label.casefold() for info in found}
    parts = [
        replace(source, values=tuple((number, value) for number, _ in source.values))
        for value, label in enumerate(labels, 1)
        if label.casefold() in here
        for source in plan_masks(found, [label]).sources
    ]
    return MaskPlan(without_repeats(parts))


def _note(wish: Wish, request: Request) -> str:
    size = "x".join(map(str, wish.patch_size))
    what = {"slices": "slices", "volumes": "volumes", "patches": f"patches of {size}"}[wish.kind]
    return f"{what} of {len(request.groups)} {'series' if len(request.groups[0][1]) == 1 else 'studies'}"


__all__ = ["Cached", "Request", "make_dataset"]
