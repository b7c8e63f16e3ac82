"""How one frame becomes one chunk: lossless codecs that we write and read in-process.

A table from codec name to a pair of functions. `htj2k` is the default for 8- and 16-bit integers;
`fast` is Blosc-Zstd with shuffle, which plain zarr reads too; `raw` is the bytes themselves.
A chunk in the sender's own encoding has the codec `dicom_frame` and is decoded elsewhere, in a
child process: only codestreams that we encoded are decoded here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import imagecodecs as _typed_too_narrowly
import numpy as np
import numpy.typing as npt

from voxelvault.errors import IntegrityError, UsageError
from voxelvault.model import Buffer

imagecodecs: Any = _typed_too_narrowly  # it takes every buffer, its stubs only three

Frame: TypeAlias = npt.NDArray[Any]

DICOM_FRAME = "dicom_frame"
"""Codec name of chunks that hold the sender's own codestream."""


@dataclass(frozen=True, slots=True)
class ChunkCodec:
    """One lossless codec: `encode(frame) -> bytes` and `decode_into(chunk, out)`, C order.

    Where `prove_first` is set, a chunk is compared with the manifest's digest before it is decoded:
    an entropy decoder in this process sees only codestreams that we encoded, not those of someone
    who once held the pack's key.
    """

    name: str
    encode: Callable[[Frame], Buffer]
    decode_into: Callable[[Buffer, Frame], None]
    prove_first: bool = False


_warm_lock = threading.Lock()
_warm = False


def warm_up() -> None:
    """Encode and decode once, alone, before any thread does.

    OpenJPH fills its tables at first use without a lock: two threads arriving together can get
    silently wrong frames (fixed upstream in aous72/OpenJPH pull 243, not in every wheel).
    """
    global _warm
    if _warm:
        return
    with _warm_lock:
        if _warm:
            return
        for dtype in (np.uint8, np.int16, np.uint16):
            for shape in ((64, 64), (64, 64, 3)):
                frame = np.arange(np.prod(shape), dtype=np.int64).astype(dtype).reshape(shape)
                decoded = np.empty_like(frame)
                imagecodecs.htj2k_decode(_htj2k_encode_cold(frame), out=decoded)
                if not np.array_equal(frame, decoded):
                    raise IntegrityError("the installed HTJ2K codec is broken; reinstall imagecodecs")
        _warm = True


def _htj2k_encode_cold(frame: Frame) -> bytes:
    planar = {"planar": False} if frame.ndim == 3 else {}
    return bytes(imagecodecs.htj2k_encode(frame, reversible=True, **planar))


def _htj2k_encode(frame: Frame) -> bytes:
    warm_up()
    return _htj2k_encode_cold(frame)


def htj2k_codestream(frame: Frame, *, mixed: bool) -> bytes:
    """Return a frame as lossless HTJ2K, decoded again and compared.

    Parameters
    ----------
    frame : ndarray
        (row, column) or (row, column, 3), 8- or 16-bit integers.
    mixed : bool
        Colour only: by the reversible transform, which takes the samples for red, green and blue.

    Raises
    ------
    IntegrityError
        It did not come back as it went in.
    """
    warm_up()
    colour = {"planar": False, "rgb": mixed} if frame.ndim == 3 else {}
    coded = bytes(imagecodecs.htj2k_encode(frame, reversible=True, **colour))
    decoded = imagecodecs.htj2k_decode(coded, **({"planar": False} if frame.ndim == 3 else {}))
    if not np.array_equal(decoded, frame):
        raise IntegrityError("a frame did not survive HTJ2K; ask for native pixels instead")
    return coded


def _htj2k_decode(chunk: Buffer, out: Frame) -> None:
    warm_up()
    imagecodecs.htj2k_decode(chunk, out=out)


def _flat(frame: Frame) -> npt.NDArray[np.uint8]:
    # An assignment to .shape never copies, where reshape() might and lose what is decoded.
    view = frame.view()
    view.shape = (-1,)
    return view.view(np.uint8)


def blosc_settings(itemsize: int) -> dict[str, str | int]:
    """Return what `fast` is, in the words of zarr's blosc codec.

    Bytes are shuffled rather than bits, in blocks of half a CT frame: as small, and decoded half
    again as fast. Values of one byte have no bytes to shuffle.
    """
    shuffle = "shuffle" if itemsize > 1 else "bitshuffle"
    return {"typesize": itemsize, "cname": "zstd", "clevel": 1, "shuffle": shuffle, "blocksize": 1 << 18}


@cache
def _blosc() -> Any:
    # numcodecs' build has a newer Zstandard than imagecodecs': a third faster. One thread a frame,
    # as zarr sets it too: the frames of a read are spread over threads already.
    import numcodecs.blosc

    numcodecs.blosc.use_threads = False
    return numcodecs.blosc


def _fast_encode(frame: Frame) -> bytes:
    blosc, settings = _blosc(), blosc_settings(frame.itemsize)
    shuffle = blosc.SHUFFLE if settings["shuffle"] == "shuffle" else blosc.BITSHUFFLE
    return bytes(
        blosc.compress(
            _flat(frame),
            str(settings["cname"]).encode(),
            settings["clevel"],
            shuffle,
            settings["blocksize"],
            frame.itemsize,
        )
    )


def _fast_decode(chunk: Buffer, out: Frame) -> None:
    # Bytes 4 and 12 of a chunk say how long it is decoded and as it lies: the decoder believes both.
    decoded, encoded = (int.from_bytes(chunk[at : at + 4], "little") for at in (4, 12))
    if (decoded, encoded) != (out.nbytes, len(chunk)):
        raise IntegrityError("a chunk has the wrong length; run `voxelvault verify`")
    _blosc().decompress(chunk, _flat(out))


def _raw_encode(frame: Frame) -> Buffer:
    return frame.tobytes()


def _raw_decode(chunk: Buffer, out: Frame) -> None:
    if len(chunk) != out.nbytes:
        raise IntegrityError("a raw chunk has the wrong length; run `voxelvault verify`")
    _flat(out)[:] = np.frombuffer(chunk, np.uint8)


CODECS = {
    "htj2k": ChunkCodec("htj2k", _htj2k_encode, _htj2k_decode, prove_first=True),
    "fast": ChunkCodec("fast", _fast_encode, _fast_decode),
    "raw": ChunkCodec("raw", _raw_encode, _raw_decode),
}


def codec_named(name: str) -> ChunkCodec:
    """Return the codec of that name.

    Raises
    ------
    UsageError
        There is none.
    """
    try:
        return CODECS[name]
    except KeyError:
        raise UsageError(f"no codec {name!r}; choose one of {', '.join(sorted(CODECS))}") from None


def codec_for(preferred: str, dtype: np.dtype[Any], samples: int, bits: int) -> str:
    """Return the codec that a stack gets: the preferred one where it can hold such frames.

    HTJ2K holds 8- and 16-bit integers with one or three samples; floats, 32-bit integers and
    single bits go to `fast`.

    Parameters
    ----------
    preferred : str
        A name of `CODECS`.
    dtype : numpy.dtype
        Of the stored values.
    samples : int
        Samples of a pixel.
    bits : int
        BitsAllocated: single bits come as uint8.

    Raises
    ------
    UsageError
        There is no codec of that name.
    """
    codec_named(preferred)
    fits = dtype.kind in "iu" and dtype.itemsize <= 2 and samples in (1, 3) and bits > 1
    return "fast" if preferred == "htj2k" and not fits else preferred


__all__ = [
    "CODECS",
    "DICOM_FRAME",
    "ChunkCodec",
    "blosc_settings",
    "codec_for",
    "codec_named",
    "htj2k_codestream",
    "warm_up",
]
