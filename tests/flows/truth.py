"""What pydicom says that a file's pixels are: the other side of every comparison."""

from __future__ import annotations

import warnings
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

JPEG = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55, 57, 70)}
JPEG_LS = {f"1.2.840.10008.1.2.4.{number}" for number in (80, 81)}
JPEG_XL = {f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112)}
RLE, DEFLATED_FRAMES = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1"


class Truth:
    """One file, read by pydicom; by imagecodecs where pydicom has no decoder at hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.dataset = pydicom.dcmread(path, force=True)
            self.frames_in_all = int(self.dataset.get("NumberOfFrames") or 1)
        if "TransferSyntaxUID" not in self.dataset.file_meta:
            implicit, little = self.dataset.original_encoding
            plain = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
            self.dataset.file_meta.TransferSyntaxUID = plain if little else "1.2.840.10008.1.2.2"

    @property
    def palette(self) -> bool:
        return bool(self.dataset.PhotometricInterpretation == "PALETTE COLOR")

    @cached_property
    def stored(self) -> np.ndarray:
        """(frame, row, column[, sample]): stored values, YBR turned to RGB."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pixels = self.dataset.pixel_array
            except (RuntimeError, NotImplementedError):
                pixels = np.stack(self._decoded())
        return (
            pixels
            if self.frames_in_all > 1 or pixels.ndim > 3
            else pixels[None]
            if self._flat(pixels)
            else pixels
        )

    def _flat(self, pixels: np.ndarray) -> bool:
        return pixels.ndim == (3 if self.dataset.SamplesPerPixel > 1 else 2)

    def _decoded(self) -> list[np.ndarray]:
        dataset, syntax = self.dataset, str(self.dataset.file_meta.TransferSyntaxUID)
        streams = generate_frames(dataset.PixelData, number_of_frames=self.frames_in_all)
        return [self._frame(dataset, syntax, stream) for stream in streams]

    def _frame(self, dataset: Dataset, syntax: str, stream: bytes) -> np.ndarray:
        shape = (dataset.Rows, dataset.Columns)
        if syntax == DEFLATED_FRAMES:
            return self._native(zlib.decompress(stream, wbits=-15), shape)
        if syntax == RLE:
            assert dataset.BitsAllocated == 1
            return self._native(imagecodecs.packbits_decode(stream[64:]), shape)
        decode: Any = imagecodecs.jpegls_decode if syntax in JPEG_LS else imagecodecs.jpeg_decode
        if syntax in JPEG_XL:
            decode = imagecodecs.jpegxl_decode
        pixels = decode(stream)
        if pixels.ndim == 3 and pixels.shape[0] == 3:
            pixels = np.moveaxis(pixels, 0, -1)
        return self._signed(pixels)

    def _native(self, data: bytes, shape: tuple[int, int]) -> np.ndarray:
        if self.dataset.BitsAllocated > 1:
            kind = f"<u{self.dataset.BitsAllocated // 8}"
            return np.frombuffer(data, kind, shape[0] * shape[1]).reshape(shape)
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return bits[: shape[0] * shape[1]].reshape(shape)

    def _signed(self, pixels: np.ndarray) -> np.ndarray:
        if self.dataset.PixelRepresentation == 0:
            return pixels
        unused = self.dataset.BitsAllocated - self.dataset.BitsStored
        wide = pixels.astype(f"i{self.dataset.BitsAllocated // 8}")
        return (wide << unused) >> unused

    def values(self, frame: int) -> np.ndarray:
        """Return one frame's values: RGB uint8, or float64 in the modality's unit."""
        pixels = self.stored[frame]
        if self.palette:
            colours = apply_color_lut(pixels, self._lookup)
            return (colours >> 8).astype(np.uint8) if colours.dtype.itemsize > 1 else colours
        if pixels.ndim == 3:
            return pixels
        if self.dataset.get("ModalityLUTSequence"):
            return apply_modality_lut(pixels, self.dataset).astype(np.float64)
        slope, intercept = self.rescale(frame)
        return pixels.astype(np.float64) * slope + intercept

    @cached_property
    def _lookup(self) -> Dataset:
        """The data set with palettes of big endian files turned round, which pydicom forgets to do."""
        dataset = self.dataset
        wide = "RedPaletteColorLookupTableData" in dataset and dataset.original_encoding[1] is False
        for name in ("Red", "Green", "Blue") if wide else ():
            element = dataset[f"{name}PaletteColorLookupTableData"]
            element.value = np.frombuffer(element.value, ">u2").astype("<u2").tobytes()
        return dataset

    def rescale(self, frame: int) -> tuple[float, float]:
        """Return slope and intercept: per frame, shared, root, dose grid (PS3.3 C.7.6.16.1.1, C.8.8.3)."""
        for group in self.groups(frame):
            if "PixelValueTransformationSequence" in group:
                item = group.PixelValueTransformationSequence[0]
                return float(item.RescaleSlope), float(item.RescaleIntercept)
        if self.dataset.get("Modality") == "RTDOSE" and "DoseGridScaling" in self.dataset:
            return float(self.dataset.DoseGridScaling), 0.0
        slope, intercept = self.dataset.get("RescaleSlope"), self.dataset.get("RescaleIntercept")
        return float(1 if slope is None else slope), float(intercept or 0)

    def groups(self, frame: int) -> list[Dataset]:
        """Return the frame's functional groups, its own before the shared ones."""
        own = self.dataset.get("PerFrameFunctionalGroupsSequence") or []
        return [*own[frame : frame + 1], *(self.dataset.get("SharedFunctionalGroupsSequence") or [])]

    def position(self, frame: int) -> np.ndarray | None:
        """Return ImagePositionPatient of a frame where the header says it frame by frame."""
        for group in self.groups(frame):
            if "PlanePositionSequence" in group:
                return np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        if self.frames_in_all > 1 or not self.dataset.get("ImagePositionPatient"):
            return None
        return np.array(self.dataset.ImagePositionPatient, float)
