"""From the series of a selection to its data set: what is asked of the catalog, and its handle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxelvault.errors import NoPixels, UsageError
from voxelvault.reading.many import OpenedMany, open_many
from voxelvault.reading.sources import SeriesSource
from voxelvault.reading.stacks import FrameStack, choose, named_series
from voxelvault.training.copies import Copies, copies_for
from voxelvault.training.dataset import Dataset, Transform, arrays_for
from voxelvault.training.fitting import check_fit
from voxelvault.training.masks import Masks, masks_for
from voxelvault.training.patches import Box
from voxelvault.training.plan import Plan, Unit, Wish, labels_of
from voxelvault.training.supply import Member, OwnPlace, OwnSupply

if TYPE_CHECKING:
    from voxelvault.reading.handles import Handle
    from voxelvault.resources import Resources

LabelsOf = Callable[[str, "str | None"], Mapping[str, Any]]
"""``(series_id, instance_id or None)`` to labels by column."""


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
        Labels of the mask; None for no masks, or for those of the cache.
    unmasked : {"raise", "background"}
        What becomes of series that have none of these labels.
    cache : Cache, CacheInfo, Recipe, FrameRecipe, or None
        Read from there.
    cohort_id : str, optional
        The frozen cohort, for the log.
    keep : callable
        Takes the handle, which is to be closed with the vault.
    """

    groups: Sequence[tuple[str, Mapping[str, str]]]
    labels: LabelsOf
    label: str | Sequence[str] | None = None
    masks: str | Sequence[str] | None = None
    unmasked: str = "raise"
    cache: object = None
    cohort_id: str | None = None
    keep: Callable[[Handle], object] = lambda _: None

    @property
    def series_ids(self) -> list[str]:
        """All series, in order."""
        return [series_id for _, members in self.groups for series_id in members.values()]

    @property
    def firsts(self) -> list[str]:
        """The first series of each unit: masks lie on it, and slices are its."""
        return [next(iter(members.values())) for _, members in self.groups]


def make_dataset(
    resources: Resources,
    wish: Wish,
    request: Request,
    transform: Transform | None = None,
    arrays: str | None = None,
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
    default_arrays : str
        For other transforms, and none.

    Raises
    ------
    UsageError
        Nothing to read, or a wish that these series can't fill.
    PolicyDenied, AuditError
        Then nothing was read.
    """
    series_ids = request.series_ids
    if not series_ids:
        raise UsageError("there are no series to make samples of; look at the selection's `len`")
    if wish.kind == "slices" and any(len(members) > 1 for _, members in request.groups):
        raise UsageError("slices are of one series each: leave out group= and roles=, or ask for volumes")
    copies = copies_for(resources, series_ids, request.cache, wish)
    masks = masks_for(resources, request.firsts, request.masks, request.unmasked, copies)
    if wish.kind == "patches" and wish.sampling == "balanced" and not masks:
        raise UsageError(
            "sampling='balanced' draws patches about a mask: pass masks= with labels of segmentations, or a"
            " cache that was built with masks="
        )
    wanted = list(dict.fromkeys([*series_ids, *masks.series_ids]))
    opened = open_many(resources, wanted, kind_code="loader", cohort_id=request.cohort_id)
    try:
        _check_pixels(opened, copies, series_ids)
        if wish.kind == "patches":
            _check_places(opened, request)
            _check_fit(opened, wish, copies, series_ids)
        plan = Plan(wish, _units(opened, wish, request, copies, masks))
        supply = OwnSupply(resources, OwnPlace(resources, opened, copies.keys), plan)
        chosen = arrays or arrays_for(transform, default_arrays)
        dataset = Dataset(supply, transform, chosen, wish.seed, _note(wish, request))
    except BaseException:
        opened.close()
        raise
    # The handle alone: the samples' memory goes when nobody has the data set any more.
    request.keep(opened.handle)
    return dataset


def _check_pixels(opened: OpenedMany, copies: Copies, series_ids: Sequence[str]) -> None:
    """Refuse series without frames now, and not in the middle of an epoch."""
    without = sum(one not in copies.images and not len(opened.series(one).frames) for one in series_ids)
    if without:
        raise NoPixels(
            f"{without} of {len(series_ids)} series have no pixels that can be decoded: leave them out with"
            " where('frame_count > 0')"
        )


def _check_places(opened: OpenedMany, request: Request) -> None:
    """Refuse to cut several series at one place where mm don't mean the same in all of them."""
    several = [members.values() for _, members in request.groups if len(members) > 1]
    spaces = [{opened.series(one).row.get("FrameOfReferenceUID") for one in members} for members in several]
    wrong = sum(1 for found in spaces if len(found) > 1 or None in found)
    if wrong:
        raise UsageError(
            f"{wrong} of {len(request.groups)} samples have series that share no frame of reference, so no"
            " patch is at one place in all: leave them out, ask for volumes, or register the series first"
        )


def _check_fit(opened: OpenedMany, wish: Wish, copies: Copies, series_ids: Sequence[str]) -> None:
    """Compare patches with the sizes that the catalog has: nothing is arranged or read for it."""
    found = (
        copies.images[one].layout.shape if one in copies.images else _stored_shape(opened.series(one))
        for one in series_ids
    )
    check_fit([shape for shape in found if shape is not None], wish.patch_size)


def _stored_shape(source: SeriesSource) -> Box | None:
    """Return (slice, row, column) of a series' frames; of several volumes, of all their slices together."""
    planes = {(row["rows"], row["columns"]) for row in source.layouts}
    if len(planes) != 1:
        return None
    return len(source.frames), *planes.pop()


@dataclass(frozen=True)
class _Draft:
    """A unit without its labels; `chosen` is the stack whose slices it has."""

    id: str
    subject_id: str
    members: dict[str, Member]
    chosen: FrameStack | None


def _units(
    opened: OpenedMany, wish: Wish, request: Request, copies: Copies, masks: Masks
) -> tuple[Unit[Member], ...]:
    """Return the units of a data set, with labels; per slice where slices have their own."""
    drafts = [_draft(opened, wish, *group, copies, masks) for group in request.groups]
    rows = [_label_rows(request.labels, draft) for draft in drafts]
    flat = iter(labels_of([row for several in rows for row in several], request.label))
    return tuple(
        Unit(
            draft.id,
            draft.subject_id,
            draft.members,
            0 if draft.chosen is None else len(draft.chosen.refs),
            tuple(next(flat) for _ in several),
        )
        for draft, several in zip(drafts, rows, strict=True)
    )


def _draft(
    opened: OpenedMany, wish: Wish, unit_id: str, series: Mapping[str, str], copies: Copies, masks: Masks
) -> _Draft:
    first = opened.series(next(iter(series.values())))
    members = {
        key: _member(opened, series_id, copies, masks, series_id == first.series_id)
        for key, series_id in series.items()
    }
    with named_series(first.series_id):
        chosen = choose(first.stacks, wish.stack) if wish.kind == "slices" else None
    return _Draft(unit_id, first.subject_id, members, chosen)


def _member(opened: OpenedMany, series_id: str, copies: Copies, masks: Masks, masked: bool) -> Member:
    bricks = copies.images.get(series_id)
    return Member(
        series_id,
        None if bricks else opened.series(series_id),
        masks.plans.get(series_id) if masked else None,
        bricks,
        masks.bricks.get(series_id) if masked else None,
        masked and series_id in masks.background,
        copies.frames.get(series_id, ()),
    )


def _label_rows(labels: LabelsOf, draft: _Draft) -> list[Mapping[str, Any]]:
    """Return the labels of a unit: of each slice's instance, or its first series' that has any."""
    ids = [member.series_id for member in draft.members.values()]
    if draft.chosen is not None:
        return [labels(ids[0], ref.instance_id) for ref in draft.chosen.refs]
    return [next((row for series_id in ids if (row := labels(series_id, None))), {})]


def _note(wish: Wish, request: Request) -> str:
    size = "x".join(map(str, wish.patch_size))
    what = {"slices": "slices", "volumes": "volumes", "patches": f"patches of {size}"}[wish.kind]
    return f"{what} of {len(request.groups)} {'series' if len(request.groups[0][1]) == 1 else 'studies'}"


__all__ = ["LabelsOf", "Request", "make_dataset"]
