"""`series.load` of a sealed series, against pydicom reading its plain files, and against bare decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from benchmarks.heads import uid_of
from benchmarks.measure import Measured, Place, compare, rate
from benchmarks.vaults import decode_loop, reader_of, vault_of

GOALS = {"htj2k": 1.0, "fast": 1.5}
BARE_GOAL = 0.8
Array = np.ndarray[Any, Any]


def measure(place: Place) -> list[Measured]:
    """Both codecs; stored values as `pixel_array` gives them, and HU in float32 as `load` does."""
    files = place.heads.series[0]
    found = []
    for codec, goal in GOALS.items():
        with vault_of(place.folder, files[0].parent, codec, place.cores) as vault:
            found += _measure(place, vault, codec, goal, files)
    return found


def _measure(place: Place, vault: Any, codec: str, goal: float, files: list[Path]) -> list[Measured]:
    series = vault.series(uid_of(files))
    stored = series.load(units="stored")
    values = series.load()
    size = stored.nbytes
    found = []
    for what, out, units in (("stored values", stored, "stored"), ("float32 HU", values, None)):
        with _Peers(files, out, place.cores) as peers:
            pair = compare(partial(series.load, units=units, out=out), peers.ways, place.repeats)
        found.append(
            Measured(
                f"load, {codec}, {what} / pydicom",
                pair.ratio,
                goal,
                rate(size, pair.ours),
                f"{rate(size, pair.theirs)} ({pair.name})",
            )
        )
    reader = reader_of(vault, series.uid)
    chunks = reader.chunks(0, range(len(files)))
    bare = decode_loop(codec, chunks, np.empty_like(stored), place.cores)
    pair = compare(lambda: series.load(units="stored", out=stored), {"bare": bare}, place.repeats)
    found.append(
        Measured(
            f"load, {codec}, stored values / bare decode",
            pair.ratio,
            BARE_GOAL,
            rate(size, pair.ours),
            rate(size, pair.theirs),
        )
    )
    return found


class _Peers:
    """pydicom filling an array from files: alone, in threads, and in processes over shared memory."""

    def __init__(self, files: Sequence[Path], out: Array, cores: int) -> None:
        self._files, self._out, self._cores = files, out, cores
        self._threads = ThreadPoolExecutor(cores)
        self._memory = SharedMemory(create=True, size=out.nbytes)
        self._processes: ProcessPoolExecutor | None = None
        self.ways: dict[str, Callable[[], object]] = {"alone": self._alone}
        if cores > 1:
            self._processes = ProcessPoolExecutor(cores, get_context("spawn"))
            self.ways = {"threads": self._in_threads, "processes": self._in_processes}

    def __enter__(self) -> _Peers:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        if self._processes is not None:
            self._processes.shutdown()
        self._memory.close()
        self._memory.unlink()

    def _alone(self) -> None:
        for index, path in enumerate(self._files):
            read_into(path, self._out[index])

    def _in_threads(self) -> None:
        for _ in self._threads.map(read_into, self._files, self._out):
            pass

    def _in_processes(self) -> None:
        assert self._processes is not None
        parts = np.array_split(np.arange(len(self._files)), 4 * self._cores)
        work = [
            (self._memory.name, self._out.shape, self._out.dtype.str, p[0], [self._files[i] for i in p])
            for p in parts
            if len(p)
        ]
        for _ in self._processes.map(_read_part, work):
            pass


def read_into(path: Path, out: Array) -> None:
    """Read one file with pydicom; rescaled where the array is a floating one."""
    dataset = pydicom.dcmread(path)
    if out.dtype.kind != "f":
        out[...] = dataset.pixel_array
        return
    np.multiply(dataset.pixel_array, np.float32(dataset.RescaleSlope), out=out, casting="unsafe")
    out += np.float32(dataset.RescaleIntercept)


_attached: dict[str, SharedMemory] = {}


def _read_part(work: tuple[str, tuple[int, ...], str, int, list[Path]]) -> None:
    name, shape, dtype, first, files = work
    if name not in _attached:
        _attached[name] = SharedMemory(name)
    out: Array = np.ndarray(shape, dtype, _attached[name].buf)
    for index, path in enumerate(files, first):
        read_into(path, out[index])
