"""Which frames belong to one volume: what always separates, and what does when places repeat.

Two frames at one place are two time points, echoes, components, or copies. What differs in contrast
(echo, phase, b-value, segment, …) always separates, so that no volume mixes it. What may differ from
slice to slice of one volume (times, acquisition numbers, image types) separates only where places
repeat, and only if it explains the repetition exactly. What nothing explains is counted off
in instance order if every place repeats equally often, and is left unordered if not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from voxelvault.dicom.frames import FrameAttributes, Mark

Key: TypeAlias = Callable[[FrameAttributes], Mark | None]

COMPONENTS = frozenset(
    "M MAGNITUDE P PHASE PHASE_MAP R REAL I IMAGINARY MIXED W WATER F FAT IP IN_PHASE OP OPP_PHASE OUT_PHASE "
    "M_FFE P_FFE R_FFE I_FFE M_SE P_SE R_SE I_SE M_IR P_IR R_IR I_IR VELOCITY LOCALIZER".split()
)
"""Values of ImageType and FrameType, third on, that name another quantity at the same place."""

ECHO_TOLERANCE = 0.01
"""Echo times that differ by less than this part are one echo."""


@dataclass(frozen=True, slots=True)
class Part:
    """Frames that belong together so far.

    Parameters
    ----------
    members : tuple of int
        Indexes into the frames.
    keys : tuple of (name, value)
        What set them apart.
    certain : bool
        False when places repeat and nothing tells the repetitions apart.
    """

    members: tuple[int, ...]
    keys: tuple[tuple[str, str | float], ...] = ()
    certain: bool = True


def component(frame: FrameAttributes) -> str | None:
    """Return the quantity that the frame shows, where image type or component names one.

    Parameters
    ----------
    frame : FrameAttributes
        The frame.
    """
    named = [value for value in frame.image_type[2:] if value in COMPONENTS]
    mark = frame.mark("ComplexImageComponent")
    return named[0] if named else (str(mark) if mark else None)


def _mark(name: str) -> Key:
    return lambda frame: frame.mark(name)


ALWAYS: tuple[tuple[str, Key], ...] = (
    ("frame of reference", _mark("FrameOfReferenceUID")),
    ("stack", _mark("StackID")),
    ("component", component),
    ("echo", lambda frame: frame.echo),
    ("b", _mark("DiffusionBValue")),
    ("segment", _mark("ReferencedSegmentNumber")),
    ("inversion time", _mark("InversionTime")),
    ("energy window", _mark("EnergyWindowVector")),
)
"""Separate wherever they differ."""

ON_REPEAT: tuple[tuple[str, Key], ...] = (
    ("direction", _mark("DiffusionGradientOrientation")),
    ("label", _mark("ASLContext")),
    ("flip angle", _mark("FlipAngle")),
    ("phase", _mark("NominalCardiacTriggerDelayTime")),
    ("phase", _mark("PhaseVector")),
    ("phase", _mark("RRIntervalVector")),
    ("phase", _mark("TimeSlotVector")),
    ("time", lambda frame: frame.temporal),
    ("time", _mark("TriggerTime")),
    ("time", _mark("FrameReferenceTime")),
    ("time", _mark("AcquisitionTime")),
    ("image type", lambda frame: "/".join(frame.image_type) or None),
    ("acquisition", lambda frame: frame.acquisition),
    ("time", _mark("ContentTime")),
    ("rotation", _mark("RotationVector")),
    ("detector", _mark("DetectorVector")),
)
"""Separate only where places repeat, first match first."""

_RANKED = frozenset(
    {"time", "phase", "direction", "frame of reference", "acquisition", "image type", "detector"}
)


def separate(frames: Sequence[FrameAttributes], members: Sequence[int], places: Sequence[int]) -> list[Part]:
    """Split frames of one orientation into volumes.

    Parameters
    ----------
    frames : sequence of FrameAttributes
        All frames.
    members : sequence of int
        Those of one orientation and spacing.
    places : sequence of int
        The place of each frame of `frames` along the normal, by number.

    Returns
    -------
    list of Part
        Every member is in exactly one part.
    """
    parts = [Part(tuple(members))]
    for name, key in ALWAYS:
        parts = [piece for part in parts for piece in _split(frames, part, name, key)]
    return [piece for part in parts for piece in _resolve(frames, part, places)]


def _resolve(frames: Sequence[FrameAttributes], part: Part, places: Sequence[int]) -> list[Part]:
    """Split until no place repeats."""
    repeats = Counter(places[i] for i in part.members)
    most = max(repeats.values())
    if most == 1:
        return [part]
    for name, key in ON_REPEAT:
        pieces = _split(frames, part, name, key)
        if len(pieces) > 1 and (_explains(pieces, places, most) or _balanced(pieces, places, repeats)):
            return [done for piece in pieces for done in _resolve(frames, piece, places)]
    if min(repeats.values()) != most:
        return [replace(part, certain=False)]
    return _count_off(frames, part, places)


def _explains(pieces: Sequence[Part], places: Sequence[int], most: int) -> bool:
    """Say whether the pieces are as many as the repetitions, and no place repeats in any."""
    return len(pieces) == most and all(
        len({places[i] for i in piece.members}) == len(piece.members) for piece in pieces
    )


def _balanced(pieces: Sequence[Part], places: Sequence[int], repeats: Counter[int]) -> bool:
    """Say whether every piece covers every place, equally often."""
    for piece in pieces:
        counts = Counter(places[i] for i in piece.members)
        if len(counts) != len(repeats) or len(set(counts.values())) != 1:
            return False
    return True


def _split(frames: Sequence[FrameAttributes], part: Part, name: str, key: Key) -> list[Part]:
    """Split by a key; the part itself when all agree."""
    by_value: dict[Mark | None, list[int]] = defaultdict(list)
    for i in part.members:
        by_value[key(frames[i])].append(i)
    if name == "echo":
        by_value = _joined_echoes(by_value)
    if len(by_value) == 1:
        return [part]
    ranked = sorted(by_value, key=_sortable)
    return [
        replace(part, members=tuple(by_value[value]), keys=(*part.keys, (name, _shown(name, value, rank))))
        for rank, value in enumerate(ranked, 1)
    ]


def _joined_echoes(by_value: dict[Mark | None, list[int]]) -> dict[Mark | None, list[int]]:
    joined: dict[Mark | None, list[int]] = defaultdict(list)
    last: float | None = None
    for value in sorted(by_value, key=_sortable):
        if isinstance(value, float) and (last is None or value - last > ECHO_TOLERANCE * abs(last)):
            last = value
        joined[last if isinstance(value, float) else value] += by_value[value]
    return joined


def _count_off(frames: Sequence[FrameAttributes], part: Part, places: Sequence[int]) -> list[Part]:
    """Make the k-th frame of every place the k-th repetition, in order of time and instance."""
    rounds: dict[int, list[int]] = defaultdict(list)
    seen: Counter[int] = Counter()
    for i in sorted(part.members, key=lambda i: chronological(frames[i], i)):
        seen[places[i]] += 1
        rounds[seen[places[i]]].append(i)
    return [
        replace(part, members=tuple(members), keys=(*part.keys, ("repeat", float(number))))
        for number, members in rounds.items()
    ]


def chronological(frame: FrameAttributes, index: int) -> tuple[float, ...]:
    """Return what orders frames in the order of their making, as far as the header tells.

    The instance number comes before the clock, which may pass midnight.

    Parameters
    ----------
    frame : FrameAttributes
        The frame.
    index : int
        Its index, which decides when nothing else does.
    """
    times = (frame.instance, frame.temporal, frame.frame, index)
    return tuple(float("inf") if value is None else float(value) for value in times)


def _sortable(value: Mark | None) -> tuple[int, float, str]:
    if value is None:
        return (2, 0.0, "")
    return (1, 0.0, value) if isinstance(value, str) else (0, float(value), "")


def _shown(name: str, value: Mark | None, rank: int) -> str | float:
    """Return a value fit for a label: ranks for whatever might identify (times, UIDs)."""
    if name in _RANKED or name == "stack":
        return float(rank)
    return "none" if value is None else value


def places_along(distances: np.ndarray[tuple[int], np.dtype[np.float64]], tolerance: float) -> list[int]:
    """Give each distinct distance a number; those within `tolerance` of a neighbour are one place.

    Parameters
    ----------
    distances : ndarray
        float64, shape (frame,), mm along the normal.
    tolerance : float
        mm.
    """
    ranks = np.argsort(distances, kind="stable")
    steps = np.diff(distances[ranks], prepend=distances[ranks[:1]]) > tolerance
    numbers = np.empty(len(distances), dtype=int)
    numbers[ranks] = np.cumsum(steps)
    return numbers.tolist()
