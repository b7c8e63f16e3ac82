"""Head CT to measure with: real slices where they lie beside the project, synthetic ones elsewhere.

The real series are short, so each slice stands in several times, shifted and mirrored: the noise and
the anatomy stay those of a scanner, and no two frames are equal.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

ROOT = Path(__file__).resolve().parents[1].parent / "shared/data/dicom/neurolabusc+dcm_qa_ct/In"
REAL = ("GE", "Philips/S21570/S2010")
"""Two head CT series, 512 x 512, uncompressed: int16, and 12 bits in uint16."""

Frames = list[npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Heads:
    """Series of head CT as plain files.

    Parameters
    ----------
    folder : Path
        One folder a series, and in it one file a slice.
    real : bool
        Made from real slices.
    """

    folder: Path
    real: bool

    @property
    def files(self) -> list[Path]:
        """Every file, series by series, slices in order."""
        return sorted(self.folder.rglob("*.dcm"))

    @property
    def series(self) -> list[list[Path]]:
        """The files of each series."""
        return [sorted(part.glob("*.dcm")) for part in sorted(self.folder.iterdir())]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files)


def make_heads(folder: Path, slices: int, series: int = 2) -> Heads:
    """Write `series` series of `slices` slices each.

    Parameters
    ----------
    folder : Path
        New or empty.
    slices, series : int
        How many.
    """
    real = ROOT.is_dir()
    for number in range(series):
        place = folder / f"series-{number}"
        place.mkdir(parents=True)
        base = _real(ROOT / REAL[number % len(REAL)]) if real else _synthetic()
        for index, dataset in enumerate(_slices(base, slices)):
            dataset.save_as(place / f"{index:05d}.dcm", enforce_file_format=True)
    return Heads(folder, real)


def uid_of(files: list[Path]) -> str:
    """Return the SeriesInstanceUID of a series' files."""
    return str(pydicom.dcmread(files[0], specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)


def pixels_of(files: list[Path]) -> Frames:
    """Return the stored values of each file, in order."""
    return [pydicom.dcmread(path).pixel_array for path in files]


def _real(folder: Path) -> list[Dataset]:
    found = [pydicom.dcmread(path) for path in sorted(folder.iterdir()) if path.is_file()]
    return [dataset for dataset in found if "PixelData" in dataset and "ImagePositionPatient" in dataset]


def _synthetic() -> list[Dataset]:
    from voxelvault.testing.synthetic_series import ct_series

    return [pydicom.dcmread(io.BytesIO(data)) for data in ct_series(28, 512, 512)]


def _slices(base: list[Dataset], count: int) -> Iterator[Dataset]:
    """Yield one series: fresh UIDs, slices 1 mm apart along the normal, every frame another."""
    study, series = generate_uid(), generate_uid()
    row, column = np.split(np.array(base[0].ImageOrientationPatient, float), 2)
    origin, step = np.array(base[0].ImagePositionPatient, float), np.cross(row, column)
    stored = [dataset.pixel_array for dataset in base]
    for index in range(count):
        turn, which = divmod(index, len(base))
        dataset = base[which]
        frame = np.roll(stored[which], (3 * turn, -5 * turn), (0, 1))
        frame = np.ascontiguousarray(frame[:, ::-1] if turn % 2 else frame)
        dataset.PixelData = frame.tobytes()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = [f"{value:.6f}"[:16] for value in origin + index * step]
        dataset.SliceLocation = f"{float((origin + index * step) @ step):.4f}"
        yield dataset


__all__ = ["Heads", "make_heads", "pixels_of", "uid_of"]
