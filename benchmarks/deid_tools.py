"""De-identifiers with their defaults, each in a process of its own: `benchmarks.deid_tools NAME IN OUT`.

Prints CPU seconds of the work itself, without the start.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.deid_corpus import quietly


def voxelvault(files: list[Path], out: Path, preset: str = "research") -> None:
    """Ours, headers alone: the values of each file's patient, the walk, the new file."""
    from pydicom import dcmread

    from voxelvault.deid.apply import rewrite
    from voxelvault.deid.conformance import mark
    from voxelvault.deid.model import Context
    from voxelvault.deid.person import collect
    from voxelvault.deid.profile import profile
    from voxelvault.deid.pseudonym import ProjectPseudonyms
    from voxelvault.deid.text import TextCleaner
    from voxelvault.deid.writing import file_bytes

    pseudonyms, policy = ProjectPseudonyms(bytes(32), "benchmark"), profile(preset)
    days = pseudonyms.days(SUBJECT) if preset == "research" else None
    for path in files:
        source = dcmread(path)
        person = collect([dcmread(path, stop_before_pixels=True)], SUBJECT)
        cleaner = TextCleaner(person, uid=pseudonyms.uid, days=days)
        rewritten = rewrite(source, Context(policy, pseudonyms, person, cleaner))
        mark(rewritten, rewritten.applied)
        (out / path.name).write_bytes(file_bytes(rewritten))


def dicognito(files: list[Path], out: Path) -> None:
    """Run dicognito: one anonymizer for all files, a random seed."""
    from dicognito.anonymizer import Anonymizer
    from pydicom import dcmread

    anonymizer = Anonymizer()

    def one(path: Path) -> None:
        source = dcmread(path)
        anonymizer.anonymize(source)
        source.save_as(out / path.name)

    _each(files, one)


def pydicom_deid(files: list[Path], out: Path) -> None:
    """Run pydicom deid: its default recipe, private elements removed."""
    from deid.dicom import get_identifiers, replace_identifiers

    def one(path: Path) -> None:
        ids = get_identifiers([str(path)])
        replace_identifiers([str(path)], ids, save=True, output_folder=str(out), remove_private=True)

    _each(files, one)


def dicom_anonymizer(files: list[Path], out: Path) -> None:
    """Run dicom-anonymizer: its default table."""
    from dicomanonymizer import anonymize_dicom_file

    _each(files, lambda path: anonymize_dicom_file(str(path), str(out / path.name)))


def _each(files: list[Path], work: Callable[[Path], object]) -> None:
    for path in files:
        try:
            work(path)
        except Exception:  # a file it fails on is one it doesn't write
            continue


SUBJECT = "benchmark"
TOOLS: dict[str, Callable[[list[Path], Path], None]] = {
    "voxelvault": voxelvault,
    "voxelvault, basic": partial(voxelvault, preset="basic"),
    "dicognito": dicognito,
    "pydicom deid": pydicom_deid,
    "dicom-anonymizer": dicom_anonymizer,
}


def main() -> None:
    """Run one tool over a folder."""
    quietly()
    logging.disable(logging.CRITICAL)
    name, source, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    files = sorted(source.glob("*.dcm"))
    TOOLS[name](files[:2], out)  # loads what is loaded once
    start = time.process_time()
    TOOLS[name](files, out)
    sys.stderr.flush()
    print(f"\nSECONDS {time.process_time() - start:.3f}")


if __name__ == "__main__":
    main()
