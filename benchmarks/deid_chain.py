"""A whole release of headers, one core: CPU time of all its steps, beside dicognito on the same files.

Ours is read for the patients' values, rewritten, searched by the second reader, put in its place, read
again, entered in a DICOMDIR, counted for the card and signed for; theirs is read, changed and written.
Files have no pixels, so that none are copied on either side. CPU seconds of the process itself are
compared: ours waits for the disk to have each file, theirs doesn't, and the wall clock has a row of its
own. Files that dicognito fails on are left out for both; those that ours refuses count for neither more
nor less.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from shutil import rmtree
from tempfile import mkdtemp
from time import perf_counter

import pydicom

from benchmarks.measure import Measured, Place, compare
from voxelvault.releasing.deidentify import Rules, release_folder
from voxelvault.releasing.originals import FolderOriginals
from voxelvault.releasing.projects import using

GOAL = 1.0
SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "dicom"
LARGEST = 1 << 20
EVERY = 3
_PIXELS = 0x7FE0


def measure(place: Place) -> list[Measured]:
    """Both sides over the header of every third small file of the real collection."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    folder = Path(mkdtemp(dir=place.folder))
    try:
        count = _lay(folder / "in")
        clocks = {"user time": _user_time, "wall clock": perf_counter}
        return [_row(folder, count, place.repeats, *clock) for clock in clocks.items()]
    finally:
        rmtree(folder)


def _row(folder: Path, count: int, repeats: int, name: str, clock: Callable[[], float]) -> Measured:
    pair = compare(lambda: _ours(folder), {"dicognito": lambda: _theirs(folder)}, repeats, clock)
    ours, theirs = (f"{count / taken:.0f} files/s" for taken in (pair.ours, pair.theirs))
    goal = GOAL if name == "user time" else None
    claim = f"release a folder of {count} headers / dicognito, {name}"
    return Measured(claim, pair.ratio, goal, ours, theirs)


def _lay(folder: Path) -> int:
    """Write the headers of instances that dicognito takes; return how many there are."""
    folder.mkdir()
    small = [path for path in sorted(SHARED.rglob("*")) if path.is_file() and path.stat().st_size < LARGEST]
    count = 0
    for path in small[::EVERY]:
        try:
            data = _header(path)  # a directory of media has no class
            _anonymized(data)
        except Exception:  # whatever the peer's reason is
            continue
        (folder / f"{count}.dcm").write_bytes(data)
        count += 1
    return count


def _header(path: Path) -> bytes:
    source = pydicom.dcmread(path)
    assert source.SOPClassUID
    for tag in [tag for tag in source.keys() if tag.group == _PIXELS]:
        del source[tag]
    out = BytesIO()
    source.save_as(out)
    return out.getvalue()


def _anonymized(data: bytes) -> None:
    from dicognito.anonymizer import Anonymizer

    source = pydicom.dcmread(BytesIO(data))
    Anonymizer(seed="benchmark").anonymize(source)
    source.save_as(BytesIO())


def _ours(folder: Path) -> None:
    out = mkdtemp(dir=folder)
    release_folder(FolderOriginals(folder / "in"), out, Rules(faces="keep"), using(None))


def _theirs(folder: Path) -> None:
    from dicognito.anonymizer import Anonymizer

    out = Path(mkdtemp(dir=folder))
    anonymizer = Anonymizer(seed="benchmark")
    for path in sorted((folder / "in").iterdir()):
        source = pydicom.dcmread(path)
        anonymizer.anonymize(source)
        source.save_as(out / path.name)


def _user_time() -> float:
    return getrusage(RUSAGE_SELF).ru_utime
