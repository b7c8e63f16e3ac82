"""How one frame becomes one chunk: lossless codecs that we write and read in-process.

A table from codec name to a pair of functions. `htj2k` is the default for 8- and 16-bit integers;
`fast` is Blosc-Zstd with shuffle, which plain zarr reads too; `raw` is the bytes themselves.
Packages add codecs of their own by the entry point group `voxelvault.codecs`.
A chunk in the sender's own encoding has the codec `dicom_frame` and is decoded elsewhere, in a
child process: only codestreams that we encoded are decoded here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

import imagecodecs as _typed_too_narrowly
import numpy as np
import numpy.typing as npt

from voxelvault import plugins
from voxelvault.errors import IntegrityError, MissingExtra, PluginFailed, UsageError
from voxelvault.model import Buffer

imagecodecs: Any = _typed_too_narrowly  # it takes every buffer, its stubs only three

Frame: TypeAlias = npt.NDArray[Any]

DICOM_FRAME = "dicom_frame"
"""Codec name of chunks that hold the sender's own codestream."""


def holds_anything(dtype: np.dtype[Any], samples: int, bits: int) -> bool:
    """Take frames of every kind."""
    return True


@dataclass(frozen=True, slots=True)
class ChunkCodec:
    """One lossless codec: `encode(frame) -> bytes` and `decode_into(chunk, out)`, C order.

    `holds(dtype, samples, bits)` tells whether it takes such frames; others go to `fast`. `bits` is
    BitsAllocated: single bits come as uint8.

    Where `prove_first` is set, a chunk is compared with the manifest's digest before it is decoded:
    an entropy decoder in this process sees only codestreams that we encoded, not those of someone
    who once held the pack's key.
    """

    name: str
    encode: Callable[[Frame], Buffer]
    decode_into: Callable[[Buffer, Frame], None]
    prove_first: bool = False
    holds: Callable[[np.dtype[Any], int, int], bool] = holds_anything


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


def _htj2k_holds(dtype: np.dtype[Any], samples: int, bits: int) -> bool:
    """Take 8- and 16-bit integers with one or three samples, no single bits."""
    return dtype.kind in "iu" and dtype.itemsize <= 2 and samples in (1, 3) and bits > 1


CODECS = {
    "htj2k": ChunkCodec("htj2k", _htj2k_encode, _htj2k_decode, prove_first=True, holds=_htj2k_holds),
    "fast": ChunkCodec("fast", _fast_encode, _fast_decode),
    "raw": ChunkCodec("raw", _raw_encode, _raw_decode),
}


def own_names() -> frozenset[str]:
    """Return the names that no package can take."""
    return frozenset((*CODECS, DICOM_FRAME))


def codec_named(name: str) -> ChunkCodec:
    """Return the codec of that name: ours, or one that an installed package adds.

    Raises
    ------
    UsageError
        There is none, or two packages add it.
    PluginFailed
        The package that adds it can't be loaded.
    """
    found = CODECS.get(name) or _added(name)
    if found is None:
        names = sorted({*CODECS, *(plugin.name for plugin in plugins.listed(plugins.CODECS, own_names()))})
        raise UsageError(f"no codec {name!r}; choose one of {', '.join(names)}")
    return found


def stored_codec(name: str) -> ChunkCodec:
    """Return the codec that a stored chunk needs.

    Raises
    ------
    MissingExtra
        No package here adds it; the message names the codec.
    PluginFailed
        The package that adds it can't be loaded.
    """
    found = CODECS.get(name) or _added(name)
    if found is None:
        raise MissingExtra(
            f"these frames were stored by the codec {name!r} of a package that is not installed here; "
            "install it as it was on the machine that stored them"
        )
    return found


@cache
def _added(name: str) -> ChunkCodec | None:
    made = plugins.load(plugins.CODECS, name, own_names())
    if made is None:
        return None
    if not isinstance(made, ChunkCodec) or made.name != name:
        raise PluginFailed(
            f"the codec {name!r} that a package adds is no ChunkCodec of that name; mend or uninstall it"
        )
    # In this process it decodes nothing that its own encoder did not write.
    return replace(made, prove_first=True)


def codec_for(preferred: str, dtype: np.dtype[Any], samples: int, bits: int) -> str:
    """Return the codec that a stack gets: the preferred one where it can hold such frames.

    Floats, 32-bit integers and single bits, which HTJ2K can't hold, go to `fast`.

    Parameters
    ----------
    preferred : str
        A name of `CODECS`, or of a codec that a package adds.
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
    return preferred if codec_named(preferred).holds(dtype, samples, bits) else "fast"


__all__ = [
    "CODECS",
    "DICOM_FRAME",
    "ChunkCodec",
    "blosc_settings",
    "codec_for",
    "codec_named",
    "holds_anything",
    "htj2k_codestream",
    "own_names",
    "stored_codec",
    "warm_up",
]
