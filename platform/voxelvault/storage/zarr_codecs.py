"""The codecs of a pack's stacks that zarr lacks.

`fast` and `raw` stacks are plain zarr (`blosc`, `bytes`): any zarr reader opens them. HTJ2K, the
sender's own codestreams and what other packages' codecs made need the codecs here; zarr finds them
by the entry points ``zarr.codecs``, or when this module is imported.

References
----------
Zarr v3 core specification, section codecs.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.decode import DecoderPool
from voxelvault.errors import UsageError
from voxelvault.model import FrameSpec
from voxelvault.storage.codecs import codec_named, stored_codec
from voxelvault.storage.importing import whole

with whole("zarr"):
    from zarr.abc.codec import ArrayBytesCodec
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer as ZarrBuffer
    from zarr.core.buffer import NDBuffer
    from zarr.core.common import JSON
    from zarr.registry import register_codec

ADDED_NAME = "voxelvault.added"
HTJ2K_NAME = "voxelvault.htj2k"
DICOM_FRAME_NAME = "voxelvault.dicom_frame"


class _FrameCodec(ArrayBytesCodec):
    """One chunk is one frame: (1, row, column[, sample])."""

    is_fixed_size = False

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Refuse: the size of a codestream depends on what it holds."""
        raise UsageError("the size of a codestream is not known before it is made")

    def _decode_sync(self, chunk_bytes: ZarrBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        dtype = chunk_spec.dtype.to_native_dtype()
        frames = np.empty(chunk_spec.shape, dtype)
        if chunk_spec.shape[0] != 1:
            raise UsageError("a codestream holds one frame: open the array with chunks of one frame")
        self.decode_frame(chunk_bytes.to_bytes(), frames[0])
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(cast(Any, frames))

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> ZarrBuffer:
        if chunk_spec.shape[0] != 1:
            raise UsageError("a codestream holds one frame: write the array in chunks of one frame")
        frame = np.ascontiguousarray(chunk_array.as_numpy_array()[0])
        return chunk_spec.prototype.buffer.from_bytes(self.encode_frame(frame))

    async def _decode_single(self, chunk_data: ZarrBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> ZarrBuffer | None:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)

    def decode_frame(self, chunk: bytes, out: npt.NDArray[Any]) -> None:
        """Fill `out`, (row, column[, sample]), from the chunk."""
        raise UsageError("this codec does not decode")

    def encode_frame(self, frame: npt.NDArray[Any]) -> bytes:
        """Return the chunk of one frame."""
        raise UsageError("a sender's codestreams are kept, never made: write the array with another codec")


@dataclass(frozen=True)
class Htj2kCodec(_FrameCodec):
    """Lossless High-Throughput JPEG 2000 of 8- and 16-bit integers (ITU-T T.814)."""

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Htj2kCodec:
        """Return the codec; it has no configuration."""
        return cls()

    def to_dict(self) -> dict[str, JSON]:
        """Return its form in `zarr.json`."""
        return {"name": HTJ2K_NAME}

    def decode_frame(self, chunk: bytes, out: npt.NDArray[Any]) -> None:
        """Fill `out`, (row, column[, sample]), from the chunk."""
        codec_named("htj2k").decode_into(chunk, out)

    def encode_frame(self, frame: npt.NDArray[Any]) -> bytes:
        """Return the codestream of one frame."""
        return bytes(codec_named("htj2k").encode(frame))


@dataclass(frozen=True)
class AddedCodec(_FrameCodec):
    """A codec that another package adds (`voxelvault.codecs`).

    Parameters
    ----------
    codec : str
        Its name there.
    """

    codec: str

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> AddedCodec:
        """Return the codec that a `zarr.json` describes."""
        return cls(str(cast(dict[str, Any], data["configuration"])["codec"]))

    def to_dict(self) -> dict[str, JSON]:
        """Return its form in `zarr.json`."""
        return {"name": ADDED_NAME, "configuration": {"codec": self.codec}}

    def decode_frame(self, chunk: bytes, out: npt.NDArray[Any]) -> None:
        """Fill `out`, (row, column[, sample]), from the chunk."""
        stored_codec(self.codec).decode_into(chunk, out)

    def encode_frame(self, frame: npt.NDArray[Any]) -> bytes:
        """Return the chunk of one frame."""
        return bytes(stored_codec(self.codec).encode(frame))


@dataclass(frozen=True)
class DicomFrameCodec(_FrameCodec):
    """A frame in the sender's own encoding, decoded in a child process.

    Parameters
    ----------
    transfer_syntax : str
        Transfer Syntax UID of the codestream (PS3.5 A.4).
    frame : FrameSpec
        What the header says of each frame; checked against the codestream before it is decoded.
    """

    transfer_syntax: str
    frame: FrameSpec

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> DicomFrameCodec:
        """Return the codec that a `zarr.json` describes."""
        configuration = cast(dict[str, Any], data["configuration"])
        return cls(str(configuration["transfer_syntax"]), FrameSpec(**configuration["frame"]))

    def to_dict(self) -> dict[str, JSON]:
        """Return its form in `zarr.json`."""
        configuration: dict[str, JSON] = {
            "transfer_syntax": self.transfer_syntax,
            "frame": asdict(self.frame),
        }
        return {"name": DICOM_FRAME_NAME, "configuration": configuration}

    def decode_frame(self, chunk: bytes, out: npt.NDArray[Any]) -> None:
        """Fill `out`, (row, column[, sample]), with stored values."""
        _decoders().decode(self.transfer_syntax, chunk, self.frame, out)


@cache
def _decoders() -> DecoderPool:
    return DecoderPool()


register_codec(ADDED_NAME, AddedCodec)
register_codec(HTJ2K_NAME, Htj2kCodec)
register_codec(DICOM_FRAME_NAME, DicomFrameCodec)


__all__ = ["ADDED_NAME", "DICOM_FRAME_NAME", "HTJ2K_NAME", "AddedCodec", "DicomFrameCodec", "Htj2kCodec"]
