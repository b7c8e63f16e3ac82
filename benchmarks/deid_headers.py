"""De-identifying headers, one core: files a second, beside dicognito on the same files in one run.

Both read each file with pydicom, de-identify it, and write it; pixels pass through untouched on both
sides. Files that dicognito fails on are left out for both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pydicom

from benchmarks.measure import Measured, Place, compare
from voxelvault.deid.apply import rewrite
from voxelvault.deid.conformance import mark
from voxelvault.deid.model import Context, Person
from voxelvault.deid.profile import profile
from voxelvault.deid.pseudonym import ProjectPseudonyms
from voxelvault.deid.text import TextCleaner
from voxelvault.deid.writing import file_bytes

GOAL = 1.0
SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "dicom"
LARGEST = 1 << 20
EVERY = 3


def measure(place: Place) -> list[Measured]:
    """Both sides over every third small file of the real collection."""
    warnings.simplefilter("ignore")
    folder = Path(mkdtemp(dir=place.folder))
    try:
        files = [path for path in _candidates() if _passes(partial(_theirs, [path], folder))]
        pair = compare(
            lambda: _ours(files, folder), {"dicognito": lambda: _theirs(files, folder)}, place.repeats
        )
    finally:
        rmtree(folder)
    ours, theirs = (f"{len(files) / taken:.0f} files/s" for taken in (pair.ours, pair.theirs))
    return [Measured("de-identify headers / dicognito, the same files", pair.ratio, GOAL, ours, theirs)]


def _candidates() -> list[Path]:
    small = [path for path in sorted(SHARED.rglob("*")) if path.is_file() and path.stat().st_size < LARGEST]
    return [path for path in small[::EVERY] if _passes(partial(_class_of, path))]


def _class_of(path: Path) -> object:
    return pydicom.dcmread(path).SOPClassUID


def _passes(work: Callable[[], object]) -> bool:
    try:
        work()
    except Exception:  # whatever the peer's reason is
        return False
    return True


def _ours(files: list[Path], folder: Path) -> None:
    pseudonyms = ProjectPseudonyms(bytes(32), "benchmark")
    person = Person("subject", names=frozenset(["Doe^Jane"]), ids=frozenset(["4711008"]))
    cleaner = TextCleaner(person, uid=pseudonyms.uid, days=pseudonyms.days(person.subject))
    context = Context(profile("research"), pseudonyms, person, cleaner)
    for number, path in enumerate(files):
        source = pydicom.dcmread(path)
        rewritten = rewrite(source, context)
        for tag, element in source.items():
            if tag.group == 0x7FE0:
                rewritten.dataset[tag] = element
        mark(rewritten, rewritten.applied)
        (folder / f"{number}.dcm").write_bytes(file_bytes(rewritten))


def _theirs(files: list[Path], folder: Path) -> None:
    from dicognito.anonymizer import Anonymizer

    anonymizer = Anonymizer(seed="benchmark")
    for number, path in enumerate(files):
        source = pydicom.dcmread(path)
        anonymizer.anonymize(source)
        source.save_as(folder / f"{number}.dcm")
