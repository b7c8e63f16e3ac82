"""Opening the series of a selection: one by one for a loop, or all of them for lazy arrays."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import finalize

from voxelvault.cohorts.selecting import Chosen
from voxelvault.reading.handles import Handle
from voxelvault.reading.many import OpenedMany, open_many
from voxelvault.reading.stacks import named_series
from voxelvault.series import Series, series_of

if TYPE_CHECKING:
    import dask.array
    import xarray

AT_ONCE = 1000
"""Series under one handle of a loop: their frames' places are in memory together."""


class _Loop:
    """Series opened for a loop: closed when none of them is in use any more, or with the vault.

    A finalizer can run in the middle of anything, so it only notes what is to be closed; the next
    loop closes it.
    """

    _left: ClassVar[deque[_Loop]] = deque()

    def __init__(self, many: OpenedMany) -> None:
        self._many: OpenedMany | None = many

    def watch(self, user: object) -> None:
        """Note when the object through which the series are used is gone."""
        finalize(user, self._left.append, self).atexit = False

    def close(self) -> None:
        """Close them, once."""
        many, self._many = self._many, None
        if many is not None:
            many.close()

    @classmethod
    def close_left(cls) -> None:
        """Close what is no longer in use."""
        while cls._left:
            cls._left.popleft().close()


class _Use:
    """What all series of a loop hold on to."""


class _Shared(Handle):
    """The handle of many series as one of them sees it: closing that one leaves the others open."""

    def __init__(self, whole: Handle, use: _Use | None = None) -> None:
        self._whole = whole
        self._use = use

    def check(self) -> None:
        """Refuse reads after the closing of all."""
        self._whole.check()

    def count(self, frames: int, size: int) -> None:
        """Count a read."""
        self._whole.count(frames, size)

    def close(self) -> None:
        """Leave it to who opened all of them."""


def opened(chosen: Chosen, series_ids: Sequence[str]) -> OpenedMany:
    """Open series under one handle: one decision, one entry in the log."""
    _Loop.close_left()
    cohort_id = chosen.frozen.cohort_id if chosen.frozen else None
    kind = "cohort" if cohort_id else "selection"
    return open_many(chosen.resources, series_ids, kind_code=kind, cohort_id=cohort_id)


def one_by_one(chosen: Chosen, series_ids: Sequence[str]) -> Iterator[Series]:
    """Yield the series, open for reading as long as one of them is in use.

    Raises
    ------
    UnknownUID
        Some were erased since they were selected.
    PolicyDenied, AuditError
        Then nothing was read.
    """
    for start in range(0, len(series_ids), AT_ONCE):
        many = opened(chosen, series_ids[start : start + AT_ONCE])
        loop, use = _Loop(many), _Use()
        chosen.keep(loop)
        loop.watch(use)
        for series_id in many.series_ids:
            yield _series(chosen, many, series_id, use)


def _series(chosen: Chosen, many: OpenedMany, series_id: str, use: _Use | None = None) -> Series:
    # Its reader holds this handle, too: lazy arrays outlive their series.
    return series_of(chosen.resources, many, series_id, _Shared(many.handle, use))


def to_dask(
    chosen: Chosen, series_ids: Sequence[str], stack: int | str | None, units: str | None
) -> dict[str, dask.array.Array]:
    """Return a lazy volume for each series that has pixels, by opaque id.

    Raises
    ------
    StackChoiceNeeded
        A series is several volumes; pass stack=, or use `to_xarray`.
    """
    many = opened(chosen, series_ids)
    chosen.keep(many)
    found = {}
    for series_id in many.series_ids:
        one = _series(chosen, many, series_id)
        if one.stacks:
            with named_series(series_id):
                found[series_id] = one.volume(stack, units=units)
    return found


def to_xarray(
    chosen: Chosen, series_ids: Sequence[str], stack: int | str | None, units: str | None
) -> xarray.DataTree:
    """Return a tree with a node for each series that has pixels, and one in it for each of several volumes.

    Raises
    ------
    PolicyDenied, AuditError
        Then nothing was read.
    """
    import xarray

    many = opened(chosen, series_ids)
    chosen.keep(many)
    nodes: dict[str, Any] = {}
    for series_id in many.series_ids:
        one = _series(chosen, many, series_id)
        about = {"Modality": one.modality, "labels": chosen.labels.of(series_id)}
        which = range(len(one.stacks)) if stack is None else [stack]
        for number in which if one.stacks else ():
            single = stack is not None or len(one.stacks) == 1
            path = series_id if single else f"{series_id}/stack {number}"
            array = one.to_xarray(number, units=units).rename("image")
            nodes[path] = array.to_dataset().assign_attrs(about)
    tree = xarray.DataTree.from_dict(nodes)
    tree.attrs["series"] = len({path.partition("/")[0] for path in nodes})
    return tree


__all__ = ["one_by_one", "opened", "to_dask", "to_xarray"]
