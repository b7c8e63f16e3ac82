"""Headers and volumes for the geometry tests, from real files and from made ones."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import dcm2niix
import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset

from voxelvault.dicom.geometry import FrameAttributes, FrameGroup, frame_attributes, to_modality
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def header_of(dataset: Dataset) -> Header:
    return Header.from_json(json.dumps(dataset.to_json_dict()))


def made(
    position: Sequence[float],
    orientation: Sequence[float],
    spacing: Sequence[float] = (2.0, 3.0),
    **more: Any,
) -> Dataset:
    """Return a classic header of one slice; numbers are cut to what a DS can hold."""
    dataset = Dataset()
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [f"{value:.9g}" for value in position]
    dataset.ImageOrientationPatient = [f"{value:.9g}" for value in orientation]
    dataset.PixelSpacing = list(spacing)
    dataset.update({})
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    return dataset


def frames_of(datasets: Iterable[Dataset]) -> list[FrameAttributes]:
    return [frame for dataset in datasets for frame in frame_attributes(header_of(dataset))]


def read(paths: Iterable[Path]) -> list[FrameAttributes]:
    """Return the frames of real files, through the project's own parser."""
    return [
        frame for path in paths for frame in frame_attributes(Header.from_part10(parse(path.read_bytes())))
    ]


def files_in(folder: Path, pattern: str = "*") -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file() and path.name != "DIRFILE")


def volume_of(paths: Sequence[Path], frames: Sequence[FrameAttributes], group: FrameGroup) -> np.ndarray:
    """Return (slice, row, column) float64 modality values, by pydicom's decoder, in the group's order."""
    planes = [plane for path in paths for plane in _planes(path)]
    return np.stack(
        [
            to_modality(planes[i], frames[i].slope, frames[i].intercept, np.empty(planes[i].shape))
            for i in group.order
        ]
    )


def _planes(path: Path) -> list[np.ndarray]:
    pixels = pydicom.dcmread(path, force=True).pixel_array
    return list(pixels) if pixels.ndim == 3 else [pixels]


def niftis(folder: Path, out: Path, *options: str) -> list[nibabel.Nifti1Image]:
    """Convert a folder by dcm2niix."""
    out.mkdir(exist_ok=True)
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "n_%s_%e_%r", *options, "-o", str(out), str(folder)]
    subprocess.run(command, check=False, capture_output=True, timeout=120)
    return [nibabel.load(path) for path in sorted(out.glob("*.nii"))]


def assert_same_in_space(
    volume: np.ndarray, affine_ras: np.ndarray, image: nibabel.Nifti1Image, atol: float = 1e-3
) -> None:
    """Assert that both hold the same value at the same place, voxel for voxel."""
    theirs = np.asarray(image.dataobj, dtype=np.float64)
    while theirs.ndim > 3:
        theirs = theirs[..., 0]
    to_ours = np.linalg.inv(affine_ras) @ image.affine
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in theirs.shape], indexing="ij")).reshape(3, -1)
    mapped = (to_ours @ np.vstack([corners, np.ones(corners.shape[1])]))[:3]
    assert np.abs(mapped - mapped.round()).max() < 0.05, "the grids differ"
    assert sorted(theirs.shape) == sorted(volume.shape)
    index = np.indices(theirs.shape).reshape(3, -1)
    column, row, slice_ = (to_ours @ np.vstack([index, np.ones(index.shape[1])]))[:3].round().astype(int)
    np.testing.assert_allclose(volume[slice_, row, column], theirs.reshape(-1), rtol=1e-4, atol=atol)
