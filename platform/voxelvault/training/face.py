"""What a selection offers for training: data set, loader, plain iteration. Mixed into `Selection`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from voxelvault.errors import MissingExtra, UsageError
from voxelvault.training.dataset import Dataset, Transform, arrays_for
from voxelvault.training.making import Request, make_dataset
from voxelvault.training.options import refuse_unknown
from voxelvault.training.plan import Wish
from voxelvault.training.roles import by_series, by_study

if TYPE_CHECKING:
    from voxelvault.derived.cache import Cache
    from voxelvault.derived.listing import CacheInfo
    from voxelvault.derived.recipe import AnyRecipe
    from voxelvault.reading.handles import Handle
    from voxelvault.resources import Resources
    from voxelvault.training.loader import Loader


class Labelled(Protocol):
    """Labels of a selection."""

    def of(self, series_id: str, instance_id: str | None = None) -> dict[str, Any]:
        """Return those of a series, or of one of its instances."""


class Chosen(Protocol):
    """What this room needs of a selection."""

    @property
    def resources(self) -> Resources:
        """The open vault."""

    @property
    def labels(self) -> Labelled:
        """Labels by series."""

    @property
    def cohort_id(self) -> str | None:
        """Opaque id of the frozen cohort."""

    @property
    def series_ids(self) -> tuple[str, ...]:
        """Opaque ids."""

    @property
    def keep(self) -> Callable[[Handle], None]:
        """Takes what is to be closed with the vault."""

    def readable_ids(self) -> tuple[str, ...]:
        """Return the ids of the series to open."""

    def where(self, condition: str) -> Chosen:
        """Return those that meet an SQL condition."""


class Trainable:
    """Data sets and loaders of a selection."""

    def dataset(
        self: Chosen,
        kind: str = "volumes",
        *,
        stack: int | str | None = None,
        units: str | None = None,
        fill: float | None = None,
        cache: Cache | CacheInfo | AnyRecipe | None = None,
        masks: str | Sequence[str] | None = None,
        unmasked: str = "raise",
        label: str | Sequence[str] | None = None,
        transform: Transform | None = None,
        arrays: str | None = None,
        patch_size: int | Sequence[int] = (96, 96, 96),
        patches_per_volume: int = 1,
        sampling: str = "random",
        foreground: float = 0.5,
        seed: int = 0,
        group: str = "series",
        roles: Mapping[str, str] | None = None,
        memory: int = 256 << 20,
        **unknown: Any,
    ) -> Dataset:
        """Return the samples as a data set: by index, for any loader; torch isn't needed.

        Parameters
        ----------
        kind : {"volumes", "slices", "patches"}
            What a sample is: a whole series, one of its slices, or a box of it.
        stack : int or str, optional
            Which volume of each series, where there are several.
        units : str, optional
            As of `Series.load`: Hounsfield units or the modality's own by default.
        fill : float, optional
            In place of padding, and outside the volume: -1024 for Hounsfield units and else 0 by default.
        cache : Cache or CacheInfo, optional
            Read volumes and patches from bricks, as `cache` returned them for these series or more, or
            `vault.caches()` lists them. Fast copies of frames (`cache_frames`) are used wherever there
            are some.
        masks : str or sequence of str, optional
            Labels of stored segmentations and structure sets; the mask has 1 for the first, 2 for the
            second and so on. With a cache, all those it was built with by default; some of them, or in
            another order, as long as none that is left out covers a part of them.
        unmasked : {"raise", "background"}
            What becomes of series that have none of these labels: an error, or a mask of zeros.
        label : str or sequence of str, optional
            Label column, or several; by default the only one there is, or all; none with ``[]``.
        transform : callable, optional
            Gets each sample. Functions and lambdas of a notebook work in worker processes as well.
        arrays : {"numpy", "torch", "monai"}, optional
            What images and masks are: MetaTensors by default where the transform is one of MONAI's.
        patch_size : int or sequence of int
            Of patches, all alike or along the image's axes. Smaller volumes are padded with `fill` on
            either side, and a warning (`PaddedPatches`) counts them; longer than twice all volumes along
            an axis is an error.
        patches_per_volume : int
            Patches of each volume in an epoch.
        sampling : {"random", "balanced"}
            Where patches lie: anywhere, or a share of them about voxels of the mask, labels alike.
        foreground : float
            That share.
        seed : int
            What patches, order and the transform's chance are drawn from, together with epoch and index.
        group : {"series", "study"}
            What makes a sample: one series, or those of one study together.
        roles : mapping of str to str, optional
            For studies: key in the sample, and the SQL condition that finds its series. By default each
            modality is a key, in lower case.
        memory : int
            Bytes of decoded volumes that each process keeps for the next patches, where there is no cache.
        **unknown
            Refused, with the option that was probably meant.

        Returns
        -------
        Dataset
            Close it (or use ``with``) to enter in the log how much was read.

        Raises
        ------
        UsageError
            Labels or masks are missing, or a wish that these series can't fill.
        PolicyDenied, AuditError
            Then nothing was read.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "unknown")}
        return _made(self, given | unknown, "numpy")

    def loader(
        self,
        batch_size: int | None = 1,
        num_workers: int = 0,
        transform: Transform | None = None,
        shuffle: bool = False,
        *,
        kind: str = "volumes",
        **options: Any,
    ) -> Loader:
        """Return a PyTorch loader of the samples; needs the extra `train`.

        Workers come from a fork server: notebooks and unguarded scripts work, and nothing is inherited
        that could hang. The same samples come with any number of workers; each iteration is the next
        epoch. Batches have arrays as tensors (MetaTensors under a MONAI transform), ids as lists.

        Parameters
        ----------
        batch_size : int, optional
            Samples a batch; None for single samples.
        num_workers : int
            Worker processes.
        transform : callable, optional
            Gets each sample: a dictionary of tensors, or of MetaTensors for MONAI's transforms.
        shuffle : bool
            A new order each epoch.
        kind : {"volumes", "slices", "patches"}
            As of `dataset`.
        options
            Of `dataset`, and what `torch.utils.data.DataLoader` takes.

        Returns
        -------
        Loader
            A `torch.utils.data.DataLoader`; `close` ends its workers and the handle.

        Raises
        ------
        MissingExtra
            PyTorch is not installed.
        UsageError, PolicyDenied, AuditError
            As `dataset` does.
        """
        try:
            from voxelvault.training.loader import Loader, torch_options, worker_context
        except ModuleNotFoundError as error:
            raise MissingExtra("a loader needs PyTorch: pip install 'voxelvault[train]'") from error
        refuse_unknown(options, _OF_LOADER, torch_options(), "torch.utils.data.DataLoader")
        own = {name: options.pop(name) for name in _OF_DATASET if name in options}
        if num_workers:
            # Its fork server imports while the series are opened here.
            asked = options.get("multiprocessing_context")
            options["multiprocessing_context"] = worker_context(
                asked, own.get("arrays") or arrays_for(transform, "torch")
            )
        wished = {"kind": kind, "transform": transform, **own}
        dataset = _made(self, wished, "torch")  # type: ignore[arg-type]
        try:
            return Loader(dataset, batch_size, shuffle, num_workers, **options)
        except BaseException:
            dataset.close()
            raise

    def iterate(
        self,
        batch_size: int | None = None,
        *,
        kind: str = "volumes",
        shuffle: bool = False,
        epoch: int = 0,
        threads: int = 2,
        **options: Any,
    ) -> Iterator[Any]:
        """Yield samples once, in NumPy, read ahead by threads: no torch, no processes.

        Parameters
        ----------
        batch_size : int, optional
            Samples stacked along a new first axis; single samples by default.
        kind : {"volumes", "slices", "patches"}
            As of `dataset`.
        shuffle : bool
            In the epoch's own order.
        epoch : int
            Which.
        threads : int
            That read ahead.
        options
            Of `dataset`.

        Yields
        ------
        dict
            As of `Dataset`.
        """
        from voxelvault.training.ahead import read_ahead

        refuse_unknown(options, (*_OF_ITERATION, *_OF_DATASET))
        with _made(self, {"kind": kind, **options}, "numpy") as dataset:  # type: ignore[arg-type]
            dataset.set_epoch(epoch)
            yield from read_ahead(dataset, batch_size, shuffle, threads)


_OF_WISH = (
    "kind",
    "stack",
    "units",
    "fill",
    "patch_size",
    "patches_per_volume",
    "sampling",
    "foreground",
    "seed",
    "memory",
)
_OF_REQUEST = ("cache", "masks", "unmasked", "label")
_OF_DATASET = (*_OF_WISH, *_OF_REQUEST, "arrays", "group", "roles")
_OF_ITERATION = ("batch_size", "shuffle", "epoch", "threads", "transform")
_OF_LOADER = ("batch_size", "num_workers", "transform", "shuffle", *_OF_DATASET)


def _made(selection: Chosen, options: Mapping[str, Any], default_arrays: str) -> Dataset:
    refuse_unknown(options, (*_OF_DATASET, "transform"))
    given = {name: value for name, value in options.items() if name != "transform"}
    if isinstance(given.get("patch_size"), int):
        given["patch_size"] = (given["patch_size"],) * 3
    wish = Wish(**{name: given[name] for name in _OF_WISH if name in given})
    request = Request(
        _groups(selection, given.get("group", "series"), given.get("roles")),
        selection.labels.of,
        cohort_id=selection.cohort_id,
        keep=selection.keep,
        **{name: given[name] for name in _OF_REQUEST if name in given},
    )
    transform, arrays = options.get("transform"), given.get("arrays")
    return make_dataset(selection.resources, wish, request, transform, arrays, default_arrays)


def _groups(
    selection: Chosen, group: str, roles: Mapping[str, str] | None
) -> list[tuple[str, dict[str, str]]]:
    ids = selection.readable_ids()
    if group == "series" and not roles:
        return by_series(ids)
    if group not in ("series", "study"):
        raise UsageError(f"no group {group!r}; choose one of series, study")
    found = None
    if roles is not None:
        found = {key: set(selection.where(condition).series_ids) for key, condition in roles.items()}
    return by_study(selection.resources, ids, found)


__all__ = ["Trainable"]
