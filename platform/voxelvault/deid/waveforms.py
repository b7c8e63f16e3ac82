"""Waveforms go along sample by sample: no more bytes than the header accounts for.

References
----------
DICOM PS3.3 C.10.9 (waveform module).
"""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from voxelvault.deid.model import Refused

_SOUND = frozenset(["AB", "MB", "UB"])
"""Interpretations of 8-bit samples, mu-law and A-law among them: a voice may speak (C.10.9.1.5)."""

_WAVEFORMS, _DATA, _PADDING = 0x54000100, 0x54001010, 0x5400100A


def put_samples(source: Dataset, rewritten: Dataset) -> None:
    """Put the samples of each multiplex group into the rewritten data set.

    Parameters
    ----------
    source, rewritten : Dataset
        The same object before and after its elements were rewritten.

    Raises
    ------
    Refused
        The header does not account for the samples, or they are sound.
    """
    before, after = source.get(_WAVEFORMS), rewritten.get(_WAVEFORMS)
    if before is None or after is None or len(before.value) != len(after.value):
        raise Refused("content_unclean")
    for group, made in zip(before.value, after.value, strict=True):
        _put(group, made)


def _put(group: Dataset, made: Dataset) -> None:
    try:
        bits, kind = int(group.WaveformBitsAllocated), str(group.WaveformSampleInterpretation)
        needed = int(group.NumberOfWaveformChannels) * int(group.NumberOfWaveformSamples) * bits // 8
        data: Any = group[_DATA].value
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Refused("content_unclean") from None
    if kind in _SOUND or bits not in (8, 16, 32, 64) or not isinstance(data, bytes) or len(data) < needed:
        raise Refused("content_unclean")
    vr = "OB" if bits == 8 else "OW"
    made.add_new(_DATA, vr, data[:needed] + bytes(needed % 2))
    padding = group.get(_PADDING)
    if padding is not None and isinstance(padding.value, bytes):
        made.add_new(_PADDING, vr, padding.value[: max(2, bits // 8)])


__all__ = ["put_samples"]
