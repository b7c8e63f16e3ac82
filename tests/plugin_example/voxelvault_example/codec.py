"""A codec: zlib over the bytes of a frame."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault.model import Buffer
from voxelvault.storage.codecs import ChunkCodec


def _encode(frame: npt.NDArray[Any]) -> bytes:
    return zlib.compress(np.ascontiguousarray(frame).tobytes(), 1)


def _decode_into(chunk: Buffer, out: npt.NDArray[Any]) -> None:
    out[...] = np.frombuffer(zlib.decompress(chunk), out.dtype).reshape(out.shape)


def _holds(dtype: np.dtype[Any], samples: int, bits: int) -> bool:
    return dtype.kind in "iu"


ZLIB = ChunkCodec("example-zlib", _encode, _decode_into, holds=_holds)
