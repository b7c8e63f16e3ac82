"""Series: the handle that a notebook reads images through.

Opening one takes one policy decision and one audit entry; every read under it is covered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from voxelvault import conversion
from voxelvault.audit.events import Event, Kind
from voxelvault.dicom.read import Header
from voxelvault.dicom.resample import resample_regular
from voxelvault.dicom.slices import FrameGroup
from voxelvault.errors import AmbiguousUID, NoPixels, PolicyDenied, UnknownUID, UsageError
from voxelvault.model import new_id
from voxelvault.packs import PackCache
from voxelvault.policy.access import Request, require
from voxelvault.resources import Resources
from voxelvault.stacks import FrameRef, FrameStack, choose, frame_stacks
from voxelvault.storage.codecs import DICOM_FRAME

if TYPE_CHECKING:
    import dask.array
    import xarray

Array = npt.NDArray[Any]

BLOCK_BYTES = 16 << 20
"""Stored bytes of one dask block, about."""


def open_series(resources: Resources, uid: str, study: str | None = None) -> Series:
    """Find a series by its UID, ask the policy, enter it in the log, and return its handle.

    Raises
    ------
    UnknownUID
        There is no such series.
    AmbiguousUID
        Several studies or subjects have one; `study` may tell them apart.
    PolicyDenied, AuditError
        Then nothing was read.
    """
    rows = resources.catalog.query(
        "select * from series where SeriesInstanceUID = $uid"
        " and ($study is null or StudyInstanceUID = $study)",
        {"uid": uid, "study": study},
    ).to_pylist()
    if not rows:
        raise UnknownUID("no such series in this vault; `vault.sql('select * from series')` lists them")
    if len({row["subject_id"] for row in rows}) > 1:
        raise AmbiguousUID("this UID belongs to several subjects; see `conflicts`, and merge or correct them")
    if len(rows) > 1:
        raise AmbiguousUID("several studies have a series of this UID; pass study=")
    row = rows[0]
    scope = {"series_id": row["series_id"]}
    require(
        resources.policy,
        Request(Kind.HANDLE_OPENED, (row["series_id"],), resources.purpose, resources.who),
    )
    instances = resources.catalog.query(
        "select instance_id, sha256, pixels from instances"
        " where series_id = $series_id and not superseded order by InstanceNumber, instance_id",
        scope,
    ).to_pylist()
    action = new_id()
    members = hashlib.sha256("".join(sorted(item["sha256"] for item in instances)).encode()).hexdigest()
    ids = {"series": (row["series_id"],), "study": (row["study_id"],), "subject": (row["subject_id"],)}
    resources.audit.append(
        [
            Event(
                kind=Kind.HANDLE_OPENED,
                who=resources.who,
                purpose=resources.purpose,
                action=action,
                ids=ids,
                counts={"members": len(instances)},
                digests={"members": members},
                codes={"type": ("series",)},
            )
        ]
    )
    frames = resources.catalog.query(
        "select f.* from frames f join instances i using (instance_id)"
        " where f.series_id = $series_id and i.series_id = $series_id and not i.superseded",
        scope,
    ).to_pylist()
    stacks = resources.catalog.query("select * from stacks where series_id = $series_id", scope).to_pylist()
    return Series(resources, row, instances, frame_stacks(frames, stacks), Handle(resources, action, ids))


class Handle:
    """What the log knows of an open handle: which, and how much was read under it."""

    def __init__(self, resources: Resources, action: str, ids: Mapping[str, tuple[str, ...]]) -> None:
        self._resources = resources
        self._action = action
        self._ids = ids
        self.frames = 0
        self.bytes = 0
        self.closed = False

    def check(self) -> None:
        """Refuse reads after closing."""
        if self.closed:
            raise PolicyDenied("this handle is closed; open the series again")

    def read(self, frames: int, size: int) -> None:
        """Count a read."""
        self.frames += frames
        self.bytes += size

    def close(self) -> None:
        """Enter the counts in the log, once."""
        if self.closed:
            return
        self.closed = True
        self._resources.audit.append(
            [
                Event(
                    kind=Kind.HANDLE_CLOSED,
                    who=self._resources.who,
                    purpose=self._resources.purpose,
                    action=self._action,
                    ids=self._ids,
                    counts={"frames": self.frames, "bytes": self.bytes},
                    codes={"type": ("series",)},
                )
            ]
        )


class Series(AbstractContextManager["Series"]):
    """One series of a vault, open for reading.

    Arrays have the axes (slice, row, column), or (slice, row, column, sample) with RGB samples for
    colour; slices are in order of space. Where the series is more than one volume (time points,
    echoes, orientations, image sizes), `stack=` says which: an index or a label of `stacks`.
    """

    def __init__(
        self,
        resources: Resources,
        row: Mapping[str, Any],
        instances: Sequence[Mapping[str, Any]],
        stacks: tuple[FrameStack, ...],
        handle: Handle,
    ) -> None:
        self._resources = resources
        self._row = row
        self._instances = instances
        self._stacks = stacks
        self.handle = handle
        self._packs = PackCache(resources)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an open series cannot be pickled; open the vault and the series where you need them")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the handle; the log gets the number of frames and bytes read."""
        self.handle.close()

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self._instances)

    def __repr__(self) -> str:
        what = "; ".join(f"{len(stack.refs)} of {stack.layout}" for stack in self._stacks[:4])
        more = f" and {len(self._stacks) - 4} more stacks" if len(self._stacks) > 4 else ""
        return f"<Series {self.modality}: {len(self)} instances, {what or 'no pixels'}{more}>"

    def _repr_html_(self) -> str:
        from voxelvault.display.html import card

        return card("Series", self.summary())

    def summary(self) -> dict[str, object]:
        """Return what may be shown of the series without naming anybody: sizes, spacing, units."""
        found: dict[str, object] = {"Modality": self.modality, "instances": len(self)}
        if self._resources.options.identifying:
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
        return conversion.unit_of(units, chosen.attributes[0], self._header(chosen.refs[0]))[1]

    def header(self, index: int = 0) -> Header:
        """Return the header of one instance, by its place in InstanceNumber order."""
        return self._header_of(self._instances[index]["instance_id"])

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
        self.handle.check()
        chosen = choose(self._stacks, stack)
        shape = self._shape(chosen)
        target = np.dtype(dtype) if dtype is not None else self._dtype(chosen, units)
        if out is None:
            out = np.empty(shape, target)
        if out.shape != shape or not out.flags.c_contiguous or (dtype is not None and out.dtype != target):
            raise UsageError(f"out= must be a C-contiguous array of shape {shape} and dtype {target}")
        if out.dtype.kind in "iu" and not chosen.layout.colour and units != "stored":
            return self._load_whole_numbers(chosen, out, units)
        self._read(chosen, range(len(chosen.refs)), out, units, padding == "mask")
        return out

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a sealed series is always decoded into a fresh array")
        return self.load(dtype=dtype)

    def frames(self, stack: int | str | None = None) -> dask.array.Array:
        """Return stored values, lazily: (frame, row, column[, sample]), the frames in order of space."""
        return self._lazy(choose(self._stacks, stack), "stored")

    @property
    def pixels(self) -> dask.array.Array:
        """Stored values, lazily; `frames(stack)` where there are several stacks."""
        return self.frames()

    def volume(
        self, stack: int | str | None = None, *, units: str | None = None, resample: bool = False
    ) -> dask.array.Array:
        """Return modality values, lazily: (slice, row, column) float32, HU for CT.

        Slices lie where `geometry(stack).positions` says; `resample=True` interpolates them onto an
        even, upright grid (`to_xarray(resample=True)` has its affine).
        """
        import dask.array

        chosen = choose(self._stacks, stack)
        if resample:
            values = self._resampled(chosen, units)[0]
            return dask.array.from_array(values, chunks=(16, *values.shape[1:]))
        return self._lazy(chosen, units or "modality" if not chosen.layout.colour else None)

    def to_xarray(
        self, stack: int | str | None = None, *, units: str | None = None, resample: bool = False
    ) -> xarray.DataArray:
        """Return a lazy, labelled volume.

        Returns
        -------
        xarray.DataArray
            Axes (slice, row, column[, sample]). Coordinate `position` (slice, lps): centre of each
            slice's first pixel, mm. Where the axes run along the patient's, `x`, `y`, `z` hold mm
            along them. `attrs`: `units`, `affine_lps` and `affine_ras` as nested lists where there
            is one, `spacing` (slice, row, column) mm, `frame_of_reference` is left out: it is a UID.
        """
        from voxelvault.labelled import data_array

        chosen = choose(self._stacks, stack)
        unit = self.unit(stack, units)
        if not resample:
            kind = None if chosen.layout.colour else units
            return data_array(self._lazy(chosen, kind), chosen.group.positions, self._affine(chosen), unit)
        values, affine = self._resampled(chosen, units)
        steps = np.arange(values.shape[0])[:, None] * affine[:3, 2] + affine[:3, 3]
        return data_array(values, steps, affine, unit)

    def show(
        self, window: str | tuple[float, float] | None = None, *, stack: int | str | None = None
    ) -> object:
        """Show the volume with a slice slider and window presets.

        Parameters
        ----------
        window : str or (centre, width), optional
            A preset such as ``brain``, ``bone``, ``lung``, or values in the unit of the series.
        stack : int or str, optional
            Which volume.
        """
        from voxelvault.display.viewer import viewer
        from voxelvault.display.window import Window

        chosen = choose(self._stacks, stack)
        middle = chosen.attributes[len(chosen.attributes) // 2]
        own = None
        if middle.window_center is not None and middle.window_width:
            own = Window(middle.window_center, middle.window_width, middle.window_function)
        rows, columns = chosen.group.pixel_spacing or (1.0, 1.0)
        orientation = chosen.group.orientation
        return viewer(
            self._slice_reader(chosen),
            len(chosen.refs),
            window=window,
            header=own,
            hounsfield=middle.rescale_type == "HU",
            aspect=rows / columns,
            orientation=None if orientation is None else [float(cosine) for cosine in orientation],
            inverted=chosen.layout.inverted,
        )

    def _slice_reader(self, chosen: FrameStack) -> Callable[[int], Array]:
        def read(index: int) -> Array:
            self.handle.check()
            shape = self._shape(chosen)[1:]
            out = np.empty((1, *shape), self._dtype(chosen, None))
            self._read(chosen, [index], out, None, mask=True)
            return np.asarray(out[0])

        return read

    def _affine(self, chosen: FrameStack) -> npt.NDArray[np.float64] | None:
        return chosen.group.affine_lps if chosen.group.regular else None

    def _resampled(
        self, chosen: FrameStack, units: str | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        if chosen.layout.colour:
            raise UsageError("colour is not resampled; use `load` and `geometry`")
        done = resample_regular(self.load(self._stacks.index(chosen), units=units), chosen.group)
        return done.volume, done.affine_lps

    def _shape(self, chosen: FrameStack) -> tuple[int, ...]:
        layout = chosen.layout
        frame = (layout.rows, layout.columns)
        return (len(chosen.refs), *frame, 3) if layout.colour else (len(chosen.refs), *frame)

    def _dtype(self, chosen: FrameStack, units: str | None) -> np.dtype[Any]:
        if chosen.layout.palette:
            return np.dtype(np.uint8)
        if chosen.layout.colour or units == "stored":
            return np.dtype(chosen.layout.dtype)
        return np.dtype(np.float32)

    def _load_whole_numbers(self, chosen: FrameStack, out: Array, units: str | None) -> Array:
        for index in range(len(chosen.refs)):
            values = np.empty((1, *out.shape[1:]), np.float64)
            self._read(chosen, [index], values, units, mask=False)
            info = np.iinfo(out.dtype)
            whole = np.rint(values)
            if np.abs(whole - values).max() > 1e-6 or whole.min() < info.min or whole.max() > info.max:
                raise UsageError(f"{out.dtype} cannot hold these values; use float32")
            out[index] = whole[0]
        return out

    def _lazy(self, chosen: FrameStack, units: str | None) -> dask.array.Array:
        import dask.array

        frames = _LazyFrames(self, chosen, units)
        per_block = max(1, BLOCK_BYTES // max(1, int(np.prod(frames.shape[1:])) * frames.dtype.itemsize))
        return dask.array.from_array(
            frames, chunks=(per_block, *frames.shape[1:]), asarray=False, name=f"series-{new_id()}"
        )

    def _read(
        self,
        chosen: FrameStack,
        indexes: Sequence[int],
        out: Array,
        units: str | None,
        mask: bool,
        threads: int | None = None,
    ) -> None:
        """Fill `out` with the frames of those indexes; each pack's frames are read together."""
        groups: dict[tuple[str, int], list[int]] = {}
        for position, index in enumerate(indexes):
            ref = chosen.refs[index]
            groups.setdefault((ref.pack_id, ref.stack), []).append(position)
        for (pack_id, stack), positions in groups.items():
            reader = self._packs.reader(pack_id)
            turns = self._turns(chosen, [indexes[p] for p in positions], units, mask)
            whole = len(groups) == 1
            reader.read(
                stack,
                [chosen.refs[indexes[p]].frame for p in positions],
                out if whole else _Slots(out, positions),  # type: ignore[arg-type]
                None if turns is None and whole else _converter(turns),
                threads=threads,
            )
        self.handle.read(len(indexes), out.nbytes)

    def _turns(
        self, chosen: FrameStack, indexes: Sequence[int], units: str | None, mask: bool
    ) -> list[conversion.Turn] | None:
        """Return what makes values of each frame; None where stored values are wanted as they are."""
        refs = [chosen.refs[index] for index in indexes]
        key = self._packs.reader(refs[0].pack_id).manifest.stacks[refs[0].stack].key
        if units != "stored" and chosen.layout.colour:
            return [self._colour_turn(ref) for ref in refs]
        kind, _, mapping = conversion.unit_of(units, chosen.attributes[0], self._header(chosen.refs[0]))
        if kind == "stored":
            turn = conversion.stored_turn(key)
            return None if turn is None else [turn] * len(refs)
        if mapping is not None:
            return [conversion.real_world_turn(key, mapping)] * len(refs)
        factor = conversion.suv_factor(self._header(chosen.refs[0])) if kind == "suvbw" else 1.0
        return [conversion.modality_turn(key, chosen.attributes[index], factor, mask) for index in indexes]

    def _colour_turn(self, ref: FrameRef) -> conversion.Turn:
        reader = self._packs.reader(ref.pack_id)
        key = reader.manifest.stacks[ref.stack].key
        if key.spec.photometric == "PALETTE COLOR":
            return conversion.palette_turn(
                key, reader.literal_head(reader.manifest.instance(ref.instance_id))
            )
        codestream = reader.chunks(ref.stack, [ref.frame])[0] if key.codec == DICOM_FRAME else None
        return conversion.rgb_turn(key, codestream)

    def _header(self, ref: FrameRef) -> Header:
        return self._header_of(ref.instance_id)

    def _header_of(self, instance_id: str) -> Header:
        found = self._headers.get(instance_id)
        if found is None:
            rows = self._resources.catalog.query(
                "select header from instances where instance_id = $id and series_id = $series",
                {"id": instance_id, "series": self._row["series_id"]},
            ).to_pylist()
            if not rows:
                raise NoPixels("the catalog lacks this instance; run `voxelvault verify`")
            found = self._headers[instance_id] = Header.from_json(rows[0]["header"])
        return found

    @cached_property
    def _headers(self) -> dict[str, Header]:
        return {}


class _LazyFrames:
    """A volume as dask sees it: reads the frames that a block asks for, in the block's own thread."""

    def __init__(self, series: Series, chosen: FrameStack, units: str | None) -> None:
        self._series, self._chosen, self._units = series, chosen, units
        self.shape = series._shape(chosen)
        if units == "stored" and chosen.layout.samples == 1:
            self.shape = self.shape[:3]
        self.dtype = series._dtype(chosen, units)
        if units == "stored":
            self.dtype = np.dtype(chosen.layout.dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, key: tuple[slice, ...]) -> Array:
        self._series.handle.check()
        indexes = range(*key[0].indices(self.shape[0]))
        out = np.empty((len(indexes), *self.shape[1:]), self.dtype)
        self._series._read(self._chosen, indexes, out, self._units, mask=True, threads=1)
        return np.asarray(out[(slice(None), *key[1:])])


class _Slots:
    """Rows of an array by a list of positions: where the frames of one pack go in a volume."""

    def __init__(self, out: Array, positions: Sequence[int]) -> None:
        self._out, self._positions = out, positions

    def __getitem__(self, position: int) -> Array:
        return np.asarray(self._out[self._positions[position]])


def _converter(turns: Sequence[conversion.Turn] | None) -> Callable[[int, Array, Array], None]:
    def convert(position: int, stored: Array, slot: Array) -> None:
        if turns is None:
            slot[...] = stored
        else:
            turns[position](stored, slot)

    return convert
