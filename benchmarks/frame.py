"""One random frame of a series of a thousand, by a handle just opened and by one in use."""

from __future__ import annotations

import random
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import voxelvault as vv
from benchmarks.heads import uid_of
from benchmarks.measure import Measured, Place, milliseconds, seconds
from benchmarks.vaults import vault_of
from voxelvault.storage.codecs import codec_named

EXTRA = 0.001
"""Seconds that a frame may take over twice its bare decoding."""


def measure(place: Place) -> list[Measured]:
    """Compare the time of a frame with twice its bare decoding and a millisecond."""
    files = place.long.series[0]
    uid = uid_of(files)
    with vault_of(place.folder, place.long.folder, "htj2k", place.cores) as vault:
        picks = random.Random(0).sample(range(len(files)), min(len(files), 20 * place.repeats))
        handle = vault.series(uid)
        out = handle.frame(picks[0], units="stored")
        warm, cold, bare, opening = [], [], [], []
        codec = codec_named("htj2k")
        for turn, index in enumerate(picks):
            # The encoder has no choices: this is the chunk as it is stored.
            chunk = codec.encode(handle.frame(index, units="stored"))
            bare.append(seconds(partial(codec.decode_into, chunk, out)))
            warm.append(seconds(partial(handle.frame, index, units="stored", out=out)))
            if turn % 4 == 0:
                taken = _cold(vault, uid, index, out)
                opening.append(taken[0])
                cold.append(taken[1])
    allowed = 2 * median(bare) + EXTRA
    return [
        _row("one frame of 1,000, handle in use", median(warm), allowed, median(bare)),
        _row("one frame of 1,000, handle just opened", median(cold), allowed, median(bare)),
        Measured("opening that handle: catalog, policy, log", 0, None, milliseconds(median(opening)), ""),
    ]


def _cold(vault: vv.Vault, uid: str, index: int, out: np.ndarray[Any, Any]) -> tuple[float, float]:
    start = perf_counter()
    with vault.series(uid) as series:
        opened = perf_counter()
        series.frame(index, units="stored", out=out)
        return opened - start, perf_counter() - opened


def _row(claim: str, taken: float, allowed: float, bare: float) -> Measured:
    return Measured(
        f"{claim} / (2 x bare decode + 1 ms)",
        taken / allowed,
        1.0,
        milliseconds(taken),
        f"bare decode {milliseconds(bare)}",
        at_most=True,
    )
