"""Decoding of frames: the table of decoders and the child processes that run them on foreign codestreams."""

from __future__ import annotations

from voxelvault.dicom.decode_pool import DecoderPool
from voxelvault.dicom.decoders import (
    BIG_ENDIAN,
    DECODERS,
    NATIVE,
    VIDEO,
    Decoder,
    can_decode,
    check_frame,
    decode_frame,
    photometric_of_decoded,
    warm_up_htj2k,
)

__all__ = [
    "BIG_ENDIAN",
    "DECODERS",
    "NATIVE",
    "VIDEO",
    "Decoder",
    "DecoderPool",
    "can_decode",
    "check_frame",
    "decode_frame",
    "photometric_of_decoded",
    "warm_up_htj2k",
]
