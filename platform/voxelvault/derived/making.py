"""Making the copies of one series: read, laid on its grid, cut, sealed. Runs in any process.

In the vault's own process it stands on the open handle; in a worker on a loan that carries the job,
the keys of the packs to read and fresh keys for what is written, and nothing else.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.crypto.streaming_aead import Kind
from voxelvault.derived.bricks import BrickLayout, Painted, brick_shape, check_fill, encoded
from voxelvault.derived.covering import painted
from voxelvault.derived.recipe import AnyRecipe, FrameRecipe, Recipe
from voxelvault.derived.resampling import Regrid, check_whole, regrid, stored
from voxelvault.dicom.even_grid import even_image, even_labels, fill_for
from voxelvault.dicom.slices import FrameGroup
from voxelvault.errors import DicomError, NoPixels, UsageError
from voxelvault.model import SealedRef
from voxelvault.reading.lending import Loan
from voxelvault.reading.masks import MaskPlan
from voxelvault.reading.packs import PackSource
from voxelvault.reading.sources import SeriesSource
from voxelvault.reading.stacks import FrameStack, choose
from voxelvault.reading.volumes import Guard
from voxelvault.storage.layout import DERIVED
from voxelvault.storage.sealed_objects import SealedObjects

Array = npt.NDArray[Any]

MASKS = "masks"
_NOWHERE = tuple(tuple(row) for row in np.eye(4).tolist())


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be made of one series.

    Parameters
    ----------
    series_id : str
        Opaque id.
    recipe : Recipe or FrameRecipe
        What it becomes.
    ids : tuple of str
        Fresh ids, as many as `copies` says; each is also the id of its key.
    plan : MaskPlan, optional
        How its mask is made.
    """

    series_id: str
    recipe: AnyRecipe
    ids: tuple[str, ...]
    plan: MaskPlan | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """One sealed copy: its kind, its id, where it is, and the description that its reader needs."""

    kind: str
    derived_id: str
    ref: SealedRef
    description: str


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a job is done: packs and who counts what is read of them, and where keys and objects go."""

    packs: PackSource
    guard: Guard
    sealed: SealedObjects
    key: Callable[[str], bytes]


def copies(source: SeriesSource, recipe: AnyRecipe, plan: MaskPlan | None) -> int:
    """Return how many objects a series becomes: a volume and its mask, or one for each stored stack."""
    if isinstance(recipe, FrameRecipe):
        return len(source.layouts)
    return 1 if plan is None else 2


def make(source: SeriesSource, job: Job, bench: Bench) -> tuple[Made, ...]:
    """Make the copies of one series.

    Raises
    ------
    StackChoiceNeeded, NoPixels, GeometryError, UsageError
        This series can't become what the recipe says.
    IntegrityError, StorageError
        Reading or writing failed.
    """
    if isinstance(job.recipe, FrameRecipe):
        return _frames(source, job, job.recipe, bench)
    return _bricks(source, job, job.recipe, bench)


def attempt(source: SeriesSource, job: Job, bench: Bench) -> tuple[Made, ...] | str:
    """Make the copies of one series, or say why it can't become what the recipe says."""
    try:
        return make(source, job, bench)
    except (DicomError, UsageError) as error:
        # As a value: a cluster's workers write what is raised into their own logs.
        return str(error)


def attempt_lent(loan: Loan) -> tuple[Made, ...] | str:
    """Do the job that a loan carries, in a worker process; see `attempt`."""
    opened = loan.open()
    # Safe: whoever could change the payload could change the pickle that it came in.
    source, job = pickle.loads(opened.payload)  # noqa: S301
    return attempt(source, job, Bench(opened.packs, opened, opened.sealed(DERIVED), opened.key))


def _bricks(source: SeriesSource, job: Job, recipe: Recipe, bench: Bench) -> tuple[Made, ...]:
    chosen = choose(source.stacks, recipe.stack)
    if chosen.layout.colour:
        raise NoPixels("colour is not resampled into bricks; load such series slice by slice")
    reader = source.reader(bench.packs, bench.guard, threads=1)
    unit = "" if recipe.units == "stored" else reader.unit_of(chosen, recipe.units)[1]
    fill = fill_for(unit) if recipe.fill is None else recipe.fill
    values = reader.load(chosen, dtype=np.float32, units=recipe.units)
    np.copyto(values, fill, where=np.isnan(values))
    check_whole(values, unit, recipe.dtype)
    upright, affine = _even(values, chosen.group, recipe, fill)
    grid = regrid(upright.shape, affine, recipe.orientation, recipe.spacing)
    image = stored(grid.image(upright), recipe.dtype)
    check_fill(fill, recipe.dtype)
    lines = tuple(tuple(row) for row in grid.affine_ras.tolist())
    chunks = brick_shape(grid.shape, recipe.chunks, recipe.dtype, recipe.codec)
    layout = BrickLayout(grid.shape, chunks, recipe.dtype, recipe.codec, fill, lines, unit)
    made = [_put(Recipe.kind, job.ids[0], image, layout, bench)]
    del values, upright, image
    if job.plan is not None:
        mask, on = _mask(job.plan, chosen, grid, bench)
        # Labels are mostly background: compressed, a mask takes next to no time and room.
        chunks = brick_shape(grid.shape, recipe.chunks, "uint8", "lz4")
        layout = BrickLayout(grid.shape, chunks, "uint8", "lz4", 0.0, lines, "", recipe.masks, painted=on)
        made.append(_put(MASKS, job.ids[1], mask, layout, bench))
    return tuple(made)


def _even(values: Array, group: FrameGroup, recipe: Recipe, fill: float) -> tuple[Array, Array]:
    """Return a volume on an even, upright grid, and (slice, row, column) index to mm, RAS."""
    placed = recipe.spacing is not None or recipe.orientation is not None
    if group.orientation is None and not placed:
        return values, np.eye(4)
    return even_image(values, group, fill)


def _mask(plan: MaskPlan, chosen: FrameStack, grid: Regrid, bench: Bench) -> tuple[Array, Painted]:
    def make(some: MaskPlan) -> Array:
        return some.make(bench.packs, chosen, guard=bench.guard)

    labels = make(plan)
    even = labels if chosen.group.orientation is None else even_labels(labels, chosen.group)[0]
    return grid.mask(even), painted(plan, labels, make)


def _frames(source: SeriesSource, job: Job, recipe: FrameRecipe, bench: Bench) -> tuple[Made, ...]:
    made = []
    for derived_id, row in zip(job.ids, stacks_of(source), strict=True):
        reader = bench.packs.reader(row["pack_id"])
        record = reader.manifest.stacks[row["stack"]]
        frames = np.empty((record.frames, *record.key.shape), record.key.dtype)
        bench.guard.check()
        reader.read(row["stack"], range(record.frames), frames, threads=1)
        bench.guard.count(record.frames, frames.nbytes)
        flat = frames.reshape(record.frames, record.key.shape[0], -1)
        count, rows, columns = flat.shape
        layout = BrickLayout(
            (count, rows, columns),
            (1, rows, columns),
            flat.dtype.name,
            recipe.codec,
            0.0,
            _NOWHERE,
            pack=(row["pack_id"], row["stack"]),
        )
        made.append(_put(FrameRecipe.kind, derived_id, flat, layout, bench))
    return tuple(made)


def stacks_of(source: SeriesSource) -> list[Mapping[str, Any]]:
    """Return the stored stacks of a series in one order."""
    return sorted(source.layouts, key=lambda row: (row["pack_id"], row["stack"]))


def _put(kind: str, derived_id: str, values: Array, layout: BrickLayout, bench: Bench) -> Made:
    ref = bench.sealed.put(Kind.DERIVED, bench.key(derived_id), derived_id, encoded(values, layout))
    return Made(kind, derived_id, ref, layout.to_json())


__all__ = ["MASKS", "Bench", "Job", "Made", "attempt", "attempt_lent", "copies", "make", "stacks_of"]
