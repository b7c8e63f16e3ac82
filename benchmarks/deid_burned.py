"""Burned-in text: frames with planted strings and frames without, and what each tool leaves of either.

Ours is the release's own way with one file, text recognised and blanked; the others run with their
defaults. Judged by the generator's own glyphs: a string is left where one pixel of its ink can be told
from those beside it.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from scipy.ndimage import maximum_filter, minimum_filter

from benchmarks.deid_corpus import quietly
from benchmarks.deid_tools import TOOLS
from voxelvault.testing.burned_text import KINDS, Frame, background, plant

CLASSES = {"ultrasound": ("6.1", "US"), "xray": ("1.1", "DX"), "screenshot": ("7", "OT")}
"""SOP class below Storage, and Modality, by kind of frame."""
OURS = "voxelvault"


@dataclass(frozen=True)
class Case:
    """One file: a frame with strings, or without."""

    name: str
    frame: Frame


def make(folder: Path, frames: int) -> list[Case]:
    """Write so many frames of each kind with strings, and as many without."""
    folder.mkdir(parents=True)
    cases = []
    for kind in KINDS:
        for index in range(frames):
            draw = random.Random(f"{kind} {index}")
            cases.append(
                Case(f"{kind}-{index}-text.dcm", plant(kind, draw, rows=240, columns=320, strings=3))
            )
            clean = background(kind, random.Random(f"{kind} without {index}"), 240, 320)
            cases.append(Case(f"{kind}-{index}-none.dcm", Frame(kind, clean, clean, ())))
    for number, case in enumerate(cases):
        _dataset(case.frame, number).save_as(folder / case.name, enforce_file_format=True)
    return cases


def _dataset(frame: Frame, number: int) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    sop_class, made.Modality = CLASSES[frame.kind]
    made.SOPClassUID, made.SOPInstanceUID = f"1.2.840.10008.5.1.4.1.1.{sop_class}", f"2.25.9{number:05}"
    made.StudyInstanceUID, made.SeriesInstanceUID = "2.25.81", "2.25.82"
    made.PatientName, made.PatientID = "Planted^Nobody", "4711"
    made.Rows, made.Columns = frame.pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PixelData = frame.pixels.tobytes()
    made["PixelData"].VR = "OB"
    return made


def voxelvault(files: Sequence[Path], out: Path) -> None:
    """Ours: one file after the other, as a release does it."""
    from voxelvault.deid.faces.finding import Faces
    from voxelvault.deid.instance import deidentify
    from voxelvault.deid.leak_check import Searcher
    from voxelvault.deid.model import Context, Person, Refused
    from voxelvault.deid.needles import Needles
    from voxelvault.deid.pixels import PixelCleaner
    from voxelvault.deid.profile import profile
    from voxelvault.deid.pseudonym import ProjectPseudonyms
    from voxelvault.deid.source import read_source
    from voxelvault.deid.text import TextCleaner
    from voxelvault.dicom.decode import DecoderPool

    pseudonyms, person = ProjectPseudonyms(bytes(32), "benchmark"), Person("benchmark")
    context = Context(profile("basic"), pseudonyms, person, TextCleaner(person, uid=pseudonyms.uid))
    with DecoderPool(1) as pool:
        cleaner = PixelCleaner(pool, pictures=False)
        for path in files:
            try:
                made = deidentify(
                    read_source(path.read_bytes()), context, Searcher(Needles()), cleaner, Faces()
                )
            except Refused:
                continue
            (out / path.name).write_bytes(made.data)


PIXEL_TOOLS: dict[str, Any] = {
    OURS: voxelvault,
    **{name: tool for name, tool in TOOLS.items() if not isinstance(tool, partial) and name != OURS},
}


def table(root: Path, frames: int, versions: dict[str, str]) -> str:
    """Return the table of all tools over `frames` frames of each kind with strings, and without."""
    cases = make(root / "burned", frames)
    head = "| tool | strings left | frames with some left | most blanked of a frame without text |"
    head += " files/s, one core | refused |"
    return "\n".join([head, "|---" * 6 + "|", *(_row(name, cases, root, versions) for name in PIXEL_TOOLS)])


def _row(name: str, cases: Sequence[Case], root: Path, versions: dict[str, str]) -> str:
    out = root / ("burned-" + re.sub(r"\W+", "-", name))
    out.mkdir()
    line = [sys.executable, "-m", "benchmarks.deid_burned", name, str(root / "burned"), str(out)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    found = re.search(r"SECONDS ([\d.]+)", done.stdout)
    strings = left = refused = 0
    bad: set[str] = set()
    lost = [0.0]
    for case in cases:
        made = _pixels(out / case.name)
        if made is None:
            refused += 1
            continue
        same = made == case.frame.pixels
        survive = [one for one in case.frame.planted if (same & one.ink & _stands_out(made)).any()]
        strings, left = strings + len(case.frame.planted), left + len(survive)
        bad |= {case.name} if survive else set()
        if not case.frame.planted:
            lost.append(float(1 - same.mean()))
    rate = f"{(len(cases) - refused) / float(found[1]):.1f}" if found and len(cases) > refused else "-"
    texts = sum(bool(case.frame.planted) for case in cases)
    return (
        f"| {name} {versions[name]} | {left} of {strings} | {len(bad)} of {texts} | {100 * max(lost):.2f} %"
        f" | {rate} | {refused} |"
    )


def _stands_out(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which pixels differ from one beside them: black ink in a black box is no ink."""
    return np.asarray(maximum_filter(pixels, 3) != minimum_filter(pixels, 3))


def _pixels(path: Path) -> np.ndarray[Any, Any] | None:
    try:
        read = pydicom.dcmread(path)
        return np.asarray(read.pixel_array)
    except Exception:  # not there, or no image
        return None


def main() -> None:
    """Run one tool over a folder."""
    quietly()
    name, source, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    files = sorted(source.glob("*.dcm"))
    PIXEL_TOOLS[name](files[:1], out)  # loads what is loaded once
    start = time.process_time()
    PIXEL_TOOLS[name](files, out)
    print(f"\nSECONDS {time.process_time() - start:.3f}")


if __name__ == "__main__":
    main()
