"""Series: the handle that a notebook reads images through.

Opening one takes one policy decision and one audit entry; every read under it is covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.read import Header
from voxelvault.dicom.resample import resample_regular
from voxelvault.dicom.slices import FrameGroup
from voxelvault.errors import UsageError
from voxelvault.reading.handles import Handle
from voxelvault.reading.lending import Loan, OpenLoan
from voxelvault.reading.lent import lent_reader, lent_source
from voxelvault.reading.many import OpenedMany, find_series, open_many
from voxelvault.reading.picture_face import PictureFace
from voxelvault.reading.served_face import Instance, ServedFace, find_instance
from voxelvault.reading.sources import SeriesSource
from voxelvault.reading.stacks import FrameStack, choose
from voxelvault.reading.volumes import Array, VolumeReader
from voxelvault.reading.zarr_face import ZarrFace
from voxelvault.resources import Resources

if TYPE_CHECKING:
    import dask.array
    import xarray

    from voxelvault.reading.segments import SegmentInfo


def open_series(
    resources: Resources,
    uid: str,
    study: str | None = None,
    subject: str | None = None,
    kind_code: str = "series",
) -> Series:
    """Open a series by its UID; see `find_series` for what may go wrong."""
    opened = find_series(resources, uid, study, subject, kind_code)
    series = series_of(resources, opened, opened.series_ids[0])
    series.stacks  # noqa: B018 - arranged while it opens, so that no first frame waits for it
    return series


def series_of(
    resources: Resources, opened: OpenedMany, series_id: str, handle: Handle | None = None
) -> Series:
    """Return one of many open series; closing it closes the handle of all, or the one that is passed."""
    handle = handle or opened.handle
    return Series(opened.series(series_id), opened.reader(series_id, guard=handle), handle, resources)


def series_on(loan: OpenLoan, source: SeriesSource) -> Series:
    """Return a series in a process that was lent its packs: what a unit of work on a cluster reads.

    Parameters
    ----------
    loan : OpenLoan
        The bench that the unit of work is called with.
    source : SeriesSource
        Came along with the unit; its packs are among those lent.
    """
    return Series(source, source.reader(loan.packs, loan, threads=1), loan)


def open_instance(resources: Resources, uid: str) -> Instance:
    """Open one instance by its SOPInstanceUID, under a handle of its series; see `find_series`."""
    series_id, instance_id = find_instance(resources, uid)
    opened = open_many(resources, [series_id], kind_code="series")
    series = series_of(resources, opened, series_id)
    (found,) = (one for one in series.instances if one.instance_id == instance_id)
    return found.owning(series)


def _lent_series(loan: Loan) -> Series:
    return Series(lent_source(loan), lent_reader(loan), loan.open())


class Series(PictureFace, ZarrFace, ServedFace, AbstractContextManager["Series"]):
    """One series of a vault, open for reading.

    Arrays have the axes (slice, row, column), or (slice, row, column, sample) with RGB samples for
    colour; slices are in order of space. Where the series is more than one volume (time points,
    echoes, orientations, image sizes), `stack=` says which: an index or a label of `stacks`.
    """

    def __init__(
        self,
        source: SeriesSource,
        reader: VolumeReader,
        handle: Handle | OpenLoan,
        resources: Resources | None = None,
    ) -> None:
        self._source = source
        self._row = source.row
        self._instances = source.instances
        self._reader = reader
        self._vault = resources
        self.handle = handle

    def __reduce__(self) -> tuple[Any, ...]:
        # Refused once closed; what travels holds no key and no UID.
        return _lent_series, (self._reader.lender.loan(),)

    @property
    def source(self) -> SeriesSource:
        """What reading it needs, apart from who may: for a unit of work that is lent its packs."""
        return self._source

    def open_packs(self) -> None:
        """Open each pack, which the first read of it does otherwise; raises what doesn't open."""
        for row in self._source.packs:
            self._reader.pack(row["pack_id"])

    def count(self, frames: int, size: int) -> None:
        """Count what another process read under this handle: frames, and bytes of them."""
        self._reader.count(frames, size)

    @property
    def _stacks(self) -> tuple[FrameStack, ...]:
        return self._source.stacks

    @property
    def _resources(self) -> Resources:
        if self._vault is None:
            raise UsageError(
                "this series was lent to this process without the catalog; do this where the vault is open"
            )
        return self._vault

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the handle; the log gets the number of frames and bytes read.

        In a worker process there is nothing to close: the handle is the lender's.
        """
        if isinstance(self.handle, Handle):
            self.handle.close()

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self._instances)

    def __repr__(self) -> str:
        what = "; ".join(f"{len(stack.refs)} of {stack.layout}" for stack in self._stacks[:4])
        more = f" and {len(self._stacks) - 4} more stacks" if len(self._stacks) > 4 else ""
        count = "1 instance" if len(self) == 1 else f"{len(self)} instances"
        return f"<Series {self.modality}: {count}, {what or 'no pixels'}{more}>"

    def _repr_html_(self) -> str:
        from voxelvault.display.html import card

        return card("Series", self.summary())

    def summary(self) -> dict[str, object]:
        """Return what may be shown of the series without naming anybody: sizes, spacing, units."""
        found: dict[str, object] = {"Modality": self.modality, "instances": len(self)}
        if self._vault is not None and self._vault.options.identifying:
            found["SeriesInstanceUID"] = self.uid
            found["SeriesDescription"] = self._row["SeriesDescription"]
        for number, stack in enumerate(self._stacks):
            spacing = stack.group.spacing
            grid = "uneven" if spacing is None else " × ".join(f"{step:.4g}" for step in spacing) + " mm"  # noqa: RUF001
            found[f"stack {number}"] = f"{stack.label}: {len(stack.refs)} of {stack.layout}, {grid}"
        return found

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""
        return str(self._row["SeriesInstanceUID"])

    @property
    def modality(self) -> str:
        """Modality, such as CT."""
        return str(self._row["Modality"] or "unknown")

    @property
    def stacks(self) -> tuple[str, ...]:
        """Labels that `stack=` takes; one for each volume of the series."""
        return tuple(stack.label for stack in self._stacks)

    def geometry(self, stack: int | str | None = None) -> FrameGroup:
        """Return positions, spacing and affines of a volume (mm, patient coordinates)."""
        return choose(self._stacks, stack).group

    @property
    def affine_lps(self) -> npt.NDArray[np.float64]:
        """(column, row, slice) index to mm, LPS: float64, shape (4, 4). `GeometryError` if uneven."""
        return self.geometry().affine_lps

    @property
    def affine_ras(self) -> npt.NDArray[np.float64]:
        """(column, row, slice) index to mm, RAS as in NIfTI: float64, shape (4, 4)."""
        return self.geometry().affine_ras

    def unit(self, stack: int | str | None = None, units: str | None = None) -> str:
        """Return the unit of what `load` gives, such as HU; empty when the header names none."""
        chosen = choose(self._stacks, stack)
        if chosen.layout.colour:
            return ""
        return self._reader.unit_of(chosen, units)[1]

    def members(self, stack: int | str | None = None) -> list[tuple[str, int]]:
        """Return which instance (opaque id) and FrameNumber each slice of a volume comes from."""
        return [(ref.instance_id, ref.number + 1) for ref in choose(self._stacks, stack).refs]

    def header(self, index: int = 0, *, stack: int | str | None = None) -> Header:
        """Return the header of one instance, by its place in InstanceNumber order or in a volume.

        Parameters
        ----------
        index : int
            Which instance; with `stack`, which slice of that volume.
        stack : int or str, optional
            A volume, as `load` takes it.
        """
        if stack is not None:
            return self._reader.header(choose(self._stacks, stack).refs[index].instance_id)
        return self._reader.header(self._instances[index]["instance_id"])

    def headers(self, stack: int | str | None = None) -> list[Header]:
        """Return the header of each slice's instance, in order of space; one query for all of them."""
        return self._reader.headers([instance_id for instance_id, _ in self.members(stack)])

    def scaling(self, stack: int | str | None = None) -> tuple[float, float] | None:
        """Return the slope and intercept that make stored values what `load` gives.

        None where no one pair does: colour, a slope for each slice (PET), a table, a real world map.
        """
        chosen = choose(self._stacks, stack)
        if chosen.layout.colour or self._reader.unit_of(chosen, None)[0] != "modality":
            return None
        pairs = {(frame.slope, frame.intercept) for frame in chosen.attributes}
        return pairs.pop() if len(pairs) == 1 else None

    def load(
        self,
        stack: int | str | None = None,
        *,
        dtype: npt.DTypeLike | None = None,
        out: Array | None = None,
        units: str | None = None,
        padding: str = "mask",
    ) -> Array:
        """Read a volume into memory: the fast path.

        Parameters
        ----------
        stack : int or str, optional
            Which volume, where there are several.
        dtype : dtype, optional
            float32 by default; for colour the stored dtype. An integer dtype must hold every value.
        out : ndarray, optional
            (slice, row, column[, sample]), C order; filled and returned.
        units : {"modality", "stored", "real_world", "suvbw"}, optional
            Modality values (HU for CT) by default, or the real world value map where a header has
            only that; SUV by body weight only on request.
        padding : {"mask", "keep"}
            Whether padding becomes NaN in floating arrays.

        Returns
        -------
        ndarray
            (slice, row, column), or (slice, row, column, 3) RGB.

        Raises
        ------
        StackChoiceNeeded
            Several volumes; the message lists them.
        NoPixels
            Nothing that can be decoded.
        UsageError
            `out` does not fit, or an integer dtype cannot hold the values.
        IntegrityError
            A stored byte is not what it was.
        """
        chosen = choose(self._stacks, stack)
        return self._reader.load(chosen, dtype=dtype, out=out, units=units, mask=padding == "mask")

    def frame(
        self,
        index: int,
        stack: int | str | None = None,
        *,
        units: str | None = None,
        out: Array | None = None,
    ) -> Array:
        """Read one slice of a volume; parameters as of `load`.

        Returns
        -------
        ndarray
            (row, column), or (row, column, 3) RGB.

        Raises
        ------
        UsageError
            There is no such slice, or `out` does not fit.
        """
        chosen = choose(self._stacks, stack)
        shape, target = self._reader.shape(chosen, units), self._reader.dtype(chosen, units)
        if not 0 <= index < len(chosen.refs):
            raise UsageError(f"there is no slice {index}: this volume has slices 0 to {len(chosen.refs) - 1}")
        if out is None:
            out = np.empty(shape[1:], target)
        if (out.shape, out.dtype) != (shape[1:], target) or not out.flags.c_contiguous:
            raise UsageError(f"out= must be a C-contiguous array of shape {shape[1:]} and dtype {target}")
        self._reader.read(chosen, [index], out[None], units, mask=True)
        return out

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a sealed series is always decoded into a fresh array")
        return self.load(dtype=dtype)

    def frames(self, stack: int | str | None = None) -> dask.array.Array:
        """Return stored values, lazily: (frame, row, column[, sample]), the frames in order of space."""
        return self._reader.lazy(choose(self._stacks, stack), "stored")

    @property
    def pixels(self) -> dask.array.Array:
        """Stored values, lazily; `frames(stack)` where there are several stacks."""
        return self.frames()

    def volume(
        self, stack: int | str | None = None, *, units: str | None = None, resample: bool = False
    ) -> dask.array.Array:
        """Return what `load` gives, lazily: (slice, row, column) float32, HU for CT.

        Slices lie where `geometry(stack).positions` says; `resample=True` interpolates them onto an
        even, upright grid (`to_xarray(resample=True)` has its affine).
        """
        import dask.array

        chosen = choose(self._stacks, stack)
        if resample:
            values = self._resampled(chosen, units)[0]
            return dask.array.from_array(  # type: ignore[no-untyped-call,no-any-return]
                values, chunks=(16, *values.shape[1:])
            )
        return self._reader.lazy(chosen, units)

    def to_xarray(
        self, stack: int | str | None = None, *, units: str | None = None, resample: bool = False
    ) -> xarray.DataArray:
        """Return a lazy, labelled volume.

        Returns
        -------
        xarray.DataArray
            Axes (slice, row, column[, sample]). Coordinates `position_x`, `position_y`, `position_z`
            (slice): centre of each slice's first pixel, mm, LPS. Where the axes run along the
            patient's, `x`, `y`, `z` hold mm along them and find slices (`sel(z=40, method="nearest")`).
            `attrs`: `units`; where there is one affine, `affine_lps` and `affine_ras` as nested lists
            and `spacing` (slice, row, column) mm.
        """
        from voxelvault.reading.labelled import data_array

        chosen = choose(self._stacks, stack)
        unit = self.unit(stack, units)
        if not resample:
            lazy, positions = self._reader.lazy(chosen, units), chosen.group.positions
            placed = chosen.group.affine_lps if chosen.group.regular else None
            return data_array(lazy, positions, placed, unit, self.modality)
        values, affine = self._resampled(chosen, units)
        steps = np.arange(values.shape[0])[:, None] * affine[:3, 2] + affine[:3, 3]
        return data_array(values, steps, affine, unit, self.modality)

    @property
    def segmentations(self) -> list[SegmentInfo]:
        """Segments and regions in this vault that `mask` can lay on this series; one entry in the log.

        Of SEG and RTSTRUCT objects of the same subject that name this series or lie in its frame of
        reference; those that name it come first.
        """
        from voxelvault.reading.segments import segments_in_vault

        self.handle.check()
        series_id = str(self._row["series_id"])
        return segments_in_vault(self._resources, [series_id])[series_id]

    def mask(
        self,
        label: str | int | Sequence[str | int] | None = None,
        *,
        source: str | None = None,
        stack: int | str | None = None,
        fractional: bool = False,
    ) -> Array:
        """Lay segments or contours on this series' grid, by frame of reference and position.

        Each voxel gets the nearest pixel of the nearest plane; slices without a frame stay empty. A
        voxel is within contours when its centre is. Objects that name this series go before others
        in its frame of reference.

        Parameters
        ----------
        label : str, int or sequence of them, optional
            Labels or numbers, as `segmentations` lists them; all labels by default.
        source : str, optional
            Opaque instance id of the object that is meant, where several have the label.
        stack : int or str, optional
            Which volume, where there are several.
        fractional : bool
            The stored fraction instead of what is at least half.

        Returns
        -------
        ndarray
            (slice, row, column) uint8: 1 within the segment; for several labels the place of each in
            the sequence from 1, later ones over earlier. With `fractional` float32, 0 to 1.

        Raises
        ------
        UsageError
            No such label, or several objects have it.
        GeometryError
            It lies in another frame of reference, or one of the two has no place in the patient.

        References
        ----------
        DICOM PS3.3 C.8.20.2 (segmentation), C.8.8.6 (ROI contour), C.7.4.1 (frame of reference).
        """
        from voxelvault.reading.segments import read_mask

        self.handle.check()
        chosen = choose(self._stacks, stack)
        series_id = str(self._row["series_id"])
        return read_mask(self._resources, series_id, chosen, label, source, fractional)

    def _resampled(
        self, chosen: FrameStack, units: str | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        if chosen.layout.colour:
            raise UsageError("colour is not resampled; use `load` and `geometry`")
        done = resample_regular(self.load(self._stacks.index(chosen), units=units), chosen.group)
        return done.volume, done.affine_lps
