"""Ingest of uncompressed CT, against a bare loop of encode and decode of the same frames."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import mkdtemp

import imagecodecs

import voxelvault as vv
from benchmarks.heads import pixels_of
from benchmarks.measure import Measured, Place, rate, seconds
from benchmarks.vaults import Scratch, each

GOAL = 0.5


def measure(place: Place) -> list[Measured]:
    """Parse, HTJ2K, verify, seal, fsync, catalog, audit, as `vault.ingest` does it all."""
    frames = [frame for files in place.heads.series for frame in pixels_of(files)]
    scratch = Scratch()

    def bare(index: int) -> None:
        frame = frames[index]
        chunk = imagecodecs.htj2k_encode(frame, reversible=True)
        imagecodecs.htj2k_decode(chunk, out=scratch.like(frame))

    loop = each(bare, len(frames), place.cores)
    bare(0)
    ours, theirs = [], []
    for turn in range(1 + place.repeats):
        taken = _ingest(place), seconds(loop)
        if turn:  # the first one loads libraries
            ours.append(taken[0])
            theirs.append(taken[1])
    ratio = median(b / a for a, b in zip(ours, theirs, strict=True))
    size = sum(frame.nbytes for frame in frames)
    own, bare_time = median(ours), median(theirs)
    return [
        Measured(
            "ingest of CT / bare HTJ2K encode + decode", ratio, GOAL, rate(size, own), rate(size, bare_time)
        )
    ]


def _ingest(place: Place) -> float:
    folder = Path(mkdtemp(dir=place.folder))
    try:
        with vv.create(folder / "vault") as vault:
            vault.options.threads = place.cores
            return seconds(lambda: vault.ingest(place.heads.folder, progress=False))
    finally:
        rmtree(folder)
