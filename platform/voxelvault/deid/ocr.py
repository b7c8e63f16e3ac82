"""Text in pictures: the one place that knows the OCR engine.

RapidOCR with the models in its own wheel, named by path: nothing is fetched. Detection says where
there may be text at the scale that it is given; recognition says what it reads there, right side up
or upside down.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from voxelvault.errors import MissingExtra

Picture: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

MODELS = {
    "det_model_path": "ch_PP-OCRv4_det_infer.onnx",
    "rec_model_path": "ch_PP-OCRv4_rec_infer.onnx",
    "cls_model_path": "ch_ppocr_mobile_v2.0_cls_infer.onnx",
}
_ABSENT = "text in pixels needs OCR: pip install 'voxelvault[deid]' (and the system's libGL)"
LARGEST = 1536
"""Pictures are looked at in tiles of at most so many pixels a side."""
OVERLAP = 256


@dataclass(frozen=True)
class Reading:
    """A place where there may be text.

    Attributes
    ----------
    top, left, bottom, right : float
        Of the picture that was given, in pixels.
    text : str
        The best reading; may be empty.
    score : float
        0 to 1.
    """

    top: float
    left: float
    bottom: float
    right: float
    text: str
    score: float


@cache
def engine() -> Any:
    """Load the engine, once a process.

    Returns
    -------
    RapidOCR
        One thread: a release works on many instances at a time.

    Raises
    ------
    MissingExtra
        It isn't installed, or its models aren't in its wheel.
    """
    spec = find_spec("rapidocr_onnxruntime")
    if spec is None or spec.origin is None:
        raise MissingExtra(_ABSENT)
    paths = {name: Path(spec.origin).parent / "models" / file for name, file in MODELS.items()}
    if not all(path.is_file() for path in paths.values()):
        raise MissingExtra(_ABSENT)
    try:
        from rapidocr_onnxruntime import RapidOCR
    except ImportError:
        raise MissingExtra(_ABSENT) from None
    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    # The detector must take pictures at the scale they come in: that is decided here.
    return RapidOCR(
        **{name: str(path) for name, path in paths.items()},
        det_limit_side_len=32,
        intra_op_num_threads=1,
        inter_op_num_threads=1,
    )


def read(picture: Picture) -> list[Reading]:
    """Find and read text.

    Parameters
    ----------
    picture : numpy.ndarray
        (row, column) or (row, column, 3) uint8.

    Returns
    -------
    list of Reading
        Whatever may be text, in no order; also what can't be read.

    Raises
    ------
    MissingExtra
        The engine isn't installed.
    """
    found: list[Reading] = []
    rows, columns = picture.shape[:2]
    for top in _starts(rows):
        for left in _starts(columns):
            tile = picture[top : top + LARGEST, left : left + LARGEST]
            if tile.min() != tile.max():
                found += [_moved(one, top, left) for one in _read_tile(np.ascontiguousarray(tile))]
    return found


def _starts(size: int) -> Sequence[int]:
    return range(0, max(1, size - OVERLAP), LARGEST - OVERLAP)


def _moved(one: Reading, down: int, right: int) -> Reading:
    box = one.top + down, one.left + right, one.bottom + down, one.right + right
    return Reading(*box, one.text, one.score)


def _read_tile(tile: Picture) -> list[Reading]:
    coloured = np.repeat(tile[..., None], 3, axis=2) if tile.ndim == 2 else tile[..., ::-1]
    framed = np.pad(coloured, ((0, max(0, 32 - tile.shape[0])), (0, max(0, 32 - tile.shape[1])), (0, 0)))
    corners, _ = engine().text_det(np.ascontiguousarray(framed))
    if corners is None or not len(corners):
        return []
    boxes = [_box(quad, tile.shape) for quad in np.asarray(corners)]
    boxes = [box for box in boxes if box[2] - box[0] > 1 and box[3] - box[1] > 1]
    ways = [way for box in boxes for way in _ways(framed[box[0] : box[2], box[1] : box[3]])]
    texts = engine().text_rec(ways)[0] if ways else []
    pairs = zip(texts[::2], texts[1::2], strict=True)
    return [Reading(*box, *max(pair, key=_worth)) for box, pair in zip(boxes, pairs, strict=True)]


def _box(quad: Any, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    (left, top), (right, bottom) = quad.min(0), quad.max(0)
    low = max(0, int(top) - 1), max(0, int(left) - 1)
    return *low, min(shape[0], int(bottom) + 2), min(shape[1], int(right) + 2)


def _ways(part: Picture) -> tuple[Picture, Picture]:
    """Return a crop lying down, one way up and the other."""
    lying = np.rot90(part) if part.shape[0] > 1.2 * part.shape[1] else part
    return np.ascontiguousarray(lying), np.ascontiguousarray(np.rot90(lying, 2))


def _worth(reading: tuple[str, float]) -> float:
    return float(reading[1]) * min(len(reading[0]), 8)


__all__ = ["LARGEST", "MODELS", "Picture", "Reading", "engine", "read"]
