"""What tests of burned-in text share: how survivors are counted, and the second OCR engine."""

from __future__ import annotations

import io
import re
import subprocess
from typing import Any

import numpy as np
from PIL import Image

from voxelvault.deid.burned_in import Box
from voxelvault.testing.burned_text import Frame, Planted


def covered(shape: tuple[int, ...], boxes: list[Box]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return where a frame was blanked."""
    mask = np.zeros(shape[:2], bool)
    for box in boxes:
        mask[box.rows, box.columns] = True
    return mask


def survivors(frame: Frame, boxes: list[Box]) -> list[Planted]:
    """Return the strings of which any pixel is left."""
    mask = covered(frame.pixels.shape, boxes)
    return [one for one in frame.planted if (one.ink & ~mask).any()]


def read_by_tesseract(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    """Return what Debian's tesseract reads, letters and digits alone; enlarged, for it wants large type."""
    image = Image.fromarray(picture)
    image = image.resize((image.width * 3, image.height * 3), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "PNG")
    command = ["tesseract", "stdin", "stdout", "--psm", "11"]
    done = subprocess.run(command, input=out.getvalue(), capture_output=True, check=True)
    return re.sub(r"[^A-Za-z0-9]", "", done.stdout.decode("utf-8", "replace")).upper()


def readable(planted: Planted, seen: str) -> bool:
    """Say whether what was read holds four characters of a string in a row, or the half of it."""
    wanted = re.sub(r"[^A-Za-z0-9]", "", planted.text).upper()
    size = max(4, len(wanted) // 2)
    return any(wanted[at : at + size] in seen for at in range(len(wanted) - size + 1))
