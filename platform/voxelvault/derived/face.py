"""What a selection offers for caching: bricks and faster copies of frames. Mixed into `Selection`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from voxelvault.derived.cache import Cache
    from voxelvault.derived.recipe import AnyRecipe
    from voxelvault.resources import Resources


class Chosen(Protocol):
    """What this room needs of a selection."""

    @property
    def resources(self) -> Resources:
        """The open vault."""

    @property
    def cohort_id(self) -> str | None:
        """Opaque id of the frozen cohort."""

    def readable_ids(self) -> tuple[str, ...]:
        """Return the ids of the series to open."""


class Cacheable:
    """Derived copies of a selection."""

    def cache(
        self: Chosen,
        spacing: float | Sequence[float] | None = (1.0, 1.0, 1.0),
        orientation: str | None = "RAS",
        dtype: str = "float32",
        chunks: int | Sequence[int] = 32,
        *,
        masks: str | Sequence[str] = (),
        units: str | None = None,
        stack: int | str | None = None,
        codec: str = "raw",
        fill: float | None = None,
        executor: Executor | None = None,
        progress: bool = True,
        limit_bytes: int | None = None,
    ) -> Cache:
        """Resample each series once into sealed bricks, from which loaders read 3D patches fast.

        What was cached by the same recipe before is kept, so a build that was stopped is taken up by
        running it again; what was made of other instances than there are now is made anew. Grids are
        those of MONAI's `Orientationd` and then `Spacingd`: closest axes, no rotation, linear for
        images and nearest for masks. `vault.caches()` lists caches, `vault.evict` removes them.

        Parameters
        ----------
        spacing : float, sequence of float, or None
            mm along the new axes; None leaves it as it is.
        orientation : str or None
            Letters to which the axes grow; None keeps (slice, row, column).
        dtype : {"float32", "float16", "int16", "uint8"}
            Of the bricks. Patches come as float32; `int16` takes half the room and is read fastest.
            It rounds Hounsfield units to whole ones; series of other fractions, such as uptake, are
            refused.
        chunks : int or sequence of int
            Edge of a brick in voxels, about; or its exact shape.
        masks : str or sequence of str
            Labels of segmentations to be cached beside the images, at most 255: 1 is the first.
        units : {"modality", "stored", "real_world", "suvbw"}, optional
            As of `Series.load`.
        stack : int or str, optional
            Which volume, where series have several.
        codec : {"raw", "lz4", "zstd", "fast"}
            `raw` is fastest, `lz4` takes less room for whole numbers, `zstd` least. `fast` copies
            the frames as they are instead, for loaders of slices: `cache_frames`.
        fill : float, optional
            Instead of padding and outside; by default -1024 for Hounsfield units, else 0.
        executor : concurrent.futures.Executor, optional
            Where the work is done: threads by default; processes started by spawn or forkserver, or
            a Dask client's `get_executor()`, get keys on loan.
        progress : bool
            Show a progress bar.
        limit_bytes : int, optional
            Most bytes that all caches of the vault may take; those longest unused make room.

        Returns
        -------
        Cache
            Give it to `loader` and `dataset`; `.refused` says which series can't be cached, and why.

        Raises
        ------
        UsageError
            An argument is none that can be, or every series is refused: the message says why.
        NoSpace
            The disk is full; what was made before stays.
        """
        from voxelvault.derived.recipe import recipe

        if codec == "fast":
            return Cacheable.cache_frames(self, executor=executor, progress=progress, limit_bytes=limit_bytes)
        how = recipe(
            spacing,
            orientation,
            dtype,
            chunks,
            units=units,
            stack=stack,
            masks=masks,
            codec=codec,
            fill=fill,
        )
        return _build(self, how, executor, progress, limit_bytes)

    def cache_frames(
        self: Chosen,
        codec: str = "fast",
        *,
        executor: Executor | None = None,
        progress: bool = True,
        limit_bytes: int | None = None,
    ) -> Cache:
        """Copy the stored frames into a codec that decodes faster: for shuffled slices.

        Parameters
        ----------
        codec : {"fast", "zstd", "raw"}
            `fast` is Blosc-LZ4; `zstd` takes a fifth less room, and decodes at half the speed.
        executor, progress, limit_bytes
            As for `cache`.
        """
        from voxelvault.derived.recipe import frame_recipe

        return _build(self, frame_recipe(codec), executor, progress, limit_bytes)


def _build(
    chosen: Chosen, recipe: AnyRecipe, executor: Executor | None, progress: bool, limit_bytes: int | None
) -> Cache:
    """Build a cache behind a progress bar."""
    from voxelvault.derived.building import build_cache
    from voxelvault.display.progress import Progress

    series_ids = chosen.readable_ids()
    with Progress("cache", len(series_ids), unit="series", shown=None if progress else False) as bar:
        return build_cache(
            chosen.resources,
            series_ids,
            recipe,
            cohort_id=chosen.cohort_id,
            executor=executor,
            limit_bytes=limit_bytes,
            advance=bar.advance,
        )


__all__ = ["Cacheable"]
