"""The PyTorch loader of a cohort: worker processes that start in any notebook and end when they should.

Needs torch (extra `train`). Batches cross from worker to trainer in shared memory (/dev/shm): torch
makes it, unlinks it at once, and nothing of it reaches a disk but by the machine's own swap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from multiprocessing.connection import wait
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from voxelvault.errors import UsageError, VoxelVaultError, WorkerDied
from voxelvault.training.carrying import Carried
from voxelvault.training.collating import collate
from voxelvault.training.dataset import Dataset, Draw
from voxelvault.training.drawing import shuffled
from voxelvault.training.workers import WorkerContext, settle, start_server

PRELOAD = ("torch", "numcodecs.blosc", "voxelvault.training.loader", "voxelvault.training.supply")
"""Modules that the fork server imports, once for all workers."""

_NEWS = 5.0
"""Seconds within which the death of a worker is known, once a connection to it broke."""

_MONAI = ("voxelvault.training.monai_bridge", "monai.transforms")


class Epochs(Sampler[Any]):
    """Which sample comes when: an order for each epoch, drawn from the data set's seed.

    Each iteration is the next epoch; every index carries its number to the worker, whose copy of the
    data set may be older.

    Parameters
    ----------
    dataset : Dataset
        Whose samples.
    shuffle : bool
        Draw an order; else as they are.
    order : Sampler, optional
        Gives the indexes instead, or lists of them; its own `set_epoch` is called where it has one.
    """

    def __init__(self, dataset: Dataset, shuffle: bool, order: Any = None) -> None:
        self._dataset = dataset
        self._shuffle = shuffle
        self._order = order
        self.epoch = dataset.epoch

    def __len__(self) -> int:
        return len(self._dataset if self._order is None else self._order)

    def __iter__(self) -> Iterator[Any]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        for index in self._indexes(epoch):
            yield [Draw(epoch, i) for i in index] if isinstance(index, list) else Draw(epoch, int(index))

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is."""
        self.epoch = epoch

    def _indexes(self, epoch: int) -> Any:
        if self._order is None:
            count, seed = len(self._dataset), self._dataset.seed
            return shuffled(count, seed, epoch) if self._shuffle else range(count)
        if hasattr(self._order, "set_epoch"):
            self._order.set_epoch(epoch)
        return self._order


class Loader(DataLoader[Any]):
    """A `torch.utils.data.DataLoader` over a data set of this vault.

    Parameters
    ----------
    dataset : Dataset
        Samples.
    batch_size : int
        Samples a batch.
    shuffle : bool
        A new order each epoch, the same again for the same seed and epoch.
    num_workers : int
        Processes that read and transform; 0 for none.
    options
        Anything else that `DataLoader` takes. `persistent_workers` is True here by default, the start
        method a fork server that doesn't import the caller's script.

    Raises
    ------
    UsageError
        The start method is fork, or a parameter is torch's to refuse.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int | None = 1,
        shuffle: bool = False,
        num_workers: int = 0,
        *,
        sampler: Any = None,
        batch_sampler: Any = None,
        collate_fn: Callable[[Sequence[Any]], Any] | None = None,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        **options: Any,
    ) -> None:
        chosen: dict[str, Any]
        if batch_sampler is not None:
            chosen = {"batch_sampler": Epochs(dataset, False, batch_sampler)}
        else:
            chosen = {"sampler": Epochs(dataset, shuffle, sampler), "batch_size": batch_size}
        if num_workers:
            options = {"persistent_workers": True} | options
            options["multiprocessing_context"] = worker_context(multiprocessing_context, dataset.arrays)
        super().__init__(
            dataset,  # type: ignore[arg-type]
            num_workers=num_workers,
            collate_fn=Carried(collate_fn or (collate if batch_size or batch_sampler else _as_is)),
            worker_init_fn=Carried(_Start(worker_init_fn)),
            **chosen,
            **options,
        )
        self._source, self._lent = dataset, ""
        self._epochs: Epochs = next(iter(chosen.values()))

    def __repr__(self) -> str:
        workers = "no workers" if not self.num_workers else f"{self.num_workers} workers"
        count = f"{len(self)} batches" if self.batch_size is None else f"batches of {self.batch_size}"
        return f"<Loader: {self._source!r}, {count}, {workers}>"

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is; otherwise it is the one after the last."""
        self._epochs.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches of the next epoch.

        Raises
        ------
        WorkerDied
            A worker process was killed; iterate again to start others.
        """
        batches = None
        self._renew()
        try:
            batches = super().__iter__()
            for batch in batches:
                if self.num_workers:
                    self._source.count(batch)
                yield batch
        except GeneratorExit:
            raise
        except VoxelVaultError as error:
            raise _plain(error) from None
        except BaseException as error:
            lost = _lost(batches, error)
            if lost or isinstance(error, KeyboardInterrupt):
                self._end(batches)
            if lost:
                raise WorkerDied(
                    "a worker process of the loader was killed, most often for want of memory: lower"
                    " num_workers or batch_size, and iterate again"
                ) from error
            raise

    def close(self) -> None:
        """End the workers and close the handle; the log gets its counts."""
        self._end(self._iterator)
        self._source.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _renew(self) -> None:
        """Let workers go that would outlive their loan: a training may take weeks."""
        if self.num_workers:
            before, self._lent = self._lent, self._source.grant_id()
            if before not in ("", self._lent):
                self._end(self._iterator)

    def _end(self, batches: Any) -> None:
        self._iterator = None
        if hasattr(batches, "_shutdown_workers"):
            for process in batches._workers:
                # A worker that was in the middle of a long read needn't finish it.
                process.terminate()
            batches._shutdown_workers()


class _Start:
    """What a worker does first."""

    def __init__(self, own: Callable[[int], None] | None) -> None:
        self.own = own

    def __call__(self, number: int) -> None:
        settle()
        torch.set_num_threads(1)
        if self.own is not None:
            self.own(number)


def worker_context(asked: Any, arrays: str) -> Any:
    """Return the multiprocessing context of the workers; the fork server begins to import at once.

    Parameters
    ----------
    asked : context, str or None
        A start method; None for a fork server whose workers don't import the caller's script.
    arrays : str
        What samples hold: MetaTensors need MONAI in every worker.

    Raises
    ------
    UsageError
        It is fork.
    """
    name = asked if isinstance(asked, str) else getattr(asked, "_name", None)
    if name == "fork":
        raise UsageError("forked workers would hang on what they inherit; leave multiprocessing_context out")
    if name == "forkserver" or asked is None:
        start_server((*PRELOAD, *_MONAI) if arrays == "monai" else PRELOAD)
    return WorkerContext() if asked is None else asked


def torch_options() -> tuple[str, ...]:
    """Return the names of what torch's own loader takes beside a data set."""
    return tuple(
        name for name in signature(DataLoader.__init__).parameters if name not in ("self", "dataset")
    )


def _as_is(sample: Any) -> Any:
    return sample


def _lost(batches: Any, error: BaseException) -> bool:
    """Say whether a worker of this iteration is dead that should be alive.

    A connection that breaks may tell of it before the process that started the worker does.
    """
    workers = getattr(batches, "_workers", ())
    if isinstance(error, ConnectionError | EOFError | FileNotFoundError):
        ended = wait([process.sentinel for process in workers], _NEWS)
        for process in workers:
            # Its files close a moment before it can be waited for.
            if process.sentinel in ended:
                process.join()
    return any(process.exitcode not in (None, 0) for process in workers)


def _plain(error: VoxelVaultError) -> VoxelVaultError:
    """Return a worker's error with its own line; torch puts the worker's traceback into the message."""
    text = str(error)
    if not text.startswith("Caught "):
        return error
    return type(error)(text.rstrip().rsplit("\n", 1)[-1].partition(": ")[2])


__all__ = ["Epochs", "Loader", "torch_options", "worker_context"]
