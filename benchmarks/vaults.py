"""Vaults to measure on, their packs, and codecs run bare."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import numpy as np

import voxelvault as vv
from voxelvault.reading.packs import PackCache
from voxelvault.storage.codecs import codec_named
from voxelvault.storage.pack_reader import PackReader


@contextmanager
def vault_of(folder: Path, files: Path, codec: str, cores: int) -> Iterator[vv.Vault]:
    """Make a vault, take the files in, and remove it afterwards."""
    place = Path(mkdtemp(dir=folder))
    try:
        with vv.create(place / "vault", codec=codec) as vault:
            vault.options.threads = cores
            report = vault.ingest(files, progress=False)
            if not report.complete or not report.stored:
                raise RuntimeError(f"the files did not all come in: {report}")
            yield vault
    finally:
        rmtree(place)


def reader_of(vault: vv.Vault, uid: str) -> PackReader:
    """Return the reader of a series' only pack."""
    rows = vault.sql(
        "select pack_id from packs join series using (series_id) where SeriesInstanceUID = ?", [uid]
    ).fetchall()
    ((pack_id,),) = rows
    return PackCache(vault.resources).reader(pack_id)


def decode_loop(
    codec: str, chunks: Sequence[bytes], out: np.ndarray[Any, Any], cores: int
) -> Callable[[], None]:
    """Return a bare loop that decodes chunks at hand into an array, on so many threads."""
    decode = codec_named(codec).decode_into

    def one(index: int) -> None:
        decode(chunks[index], out[index])

    return each(one, len(chunks), cores)


def each(work: Callable[[int], object], count: int, cores: int) -> Callable[[], None]:
    """Return a loop that does the work for every index, on so many threads."""

    def alone() -> None:
        for index in range(count):
            work(index)

    def together() -> None:
        with ThreadPoolExecutor(cores) as executor:
            for _ in executor.map(work, range(count)):
                pass

    return alone if cores == 1 else together


class Scratch(threading.local):
    """One array a thread, to decode into."""

    def __init__(self) -> None:
        self.arrays: dict[tuple[Any, ...], np.ndarray[Any, Any]] = {}

    def like(self, frame: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return this thread's array of that shape and dtype."""
        key = (frame.shape, frame.dtype.str)
        if key not in self.arrays:
            self.arrays[key] = np.empty_like(frame)
        return self.arrays[key]


__all__ = ["Scratch", "decode_loop", "each", "reader_of", "vault_of"]
