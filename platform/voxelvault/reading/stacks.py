"""Which frames of a series make one volume: from catalog rows to choices. Decides, reads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from voxelvault.dicom.frames import FrameAttributes
from voxelvault.dicom.geometry import arrange
from voxelvault.dicom.slices import FrameGroup
from voxelvault.errors import NoPixels, StackChoiceNeeded
from voxelvault.reading.frame_table import FrameTable

Row = Mapping[str, Any]

NAMED = 12
"""Stacks that an error message lists; a series of time points may have hundreds."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What arrays can be joined by: frame size, samples, dtype.

    Parameters
    ----------
    rows, columns, samples : int
        Of each frame.
    dtype : str
        NumPy name of the stored values.
    palette : bool
        The stored values are indexes into a colour palette.
    inverted : bool
        Low values are white (MONOCHROME1).
    """

    rows: int
    columns: int
    samples: int
    dtype: str
    palette: bool = False
    inverted: bool = False

    @property
    def colour(self) -> bool:
        """True when `load` gives RGB."""
        return self.samples > 1 or self.palette

    def __str__(self) -> str:
        kind = f"{self.dtype} palette" if self.palette else self.dtype
        colour = " colour" if self.colour and not self.palette else ""
        return f"{self.columns}x{self.rows} {kind}{colour}" + (" inverted" if self.inverted else "")


@dataclass(frozen=True, slots=True)
class FrameRef:
    """Where one frame is stored, and which instance it belongs to."""

    pack_id: str
    stack: int
    frame: int
    instance_id: str
    number: int
    """Index of the frame in its instance, from 0."""


@dataclass(frozen=True, slots=True)
class FrameStack:
    """Frames that make one volume or one time point, in order of space.

    Parameters
    ----------
    label : str
        What `stack=` takes.
    layout : Layout
        Of every frame.
    refs : tuple of FrameRef
        Where the frames are, in order.
    attributes : tuple of FrameAttributes
        What the headers say of each, in the same order.
    group : FrameGroup
        Positions, spacing, affines.
    """

    label: str
    layout: Layout
    refs: tuple[FrameRef, ...]
    attributes: tuple[FrameAttributes, ...]
    group: FrameGroup


def frame_stacks(frames: FrameTable, stacks: Sequence[Row]) -> tuple[FrameStack, ...]:
    """Return the volumes of a series, the one with most frames first.

    Parameters
    ----------
    frames : FrameTable
        Rows of the catalog's `frames` for one series.
    stacks : sequence of mapping
        Rows of the catalog's `stacks` for it.
    """
    layouts = {(row["pack_id"], row["stack"]): _layout(row) for row in stacks}
    attributes, refs = frames.attributes(), _refs(frames)
    by_layout: dict[Layout, list[int]] = {}
    for number, ref in enumerate(refs):
        by_layout.setdefault(layouts[ref.pack_id, ref.stack], []).append(number)
    found = [
        _frame_stack(layout, [refs[i] for i in members], described, group, several=len(by_layout) > 1)
        for layout, members in by_layout.items()
        for described in [[attributes[i] for i in members]]
        for group in arrange(described).groups
    ]
    return _told_apart(sorted(found, key=lambda stack: -len(stack.refs)))


def _told_apart(stacks: Sequence[FrameStack]) -> tuple[FrameStack, ...]:
    """Give numbers to stacks whose labels are alike: a label must name one."""
    total, seen = Counter(stack.label for stack in stacks), Counter[str]()
    found = []
    for stack in stacks:
        seen[stack.label] += 1
        again = f"{stack.label} #{seen[stack.label]}"
        found.append(replace(stack, label=again) if total[stack.label] > 1 else stack)
    return tuple(found)


def choose(stacks: Sequence[FrameStack], stack: int | str | None) -> FrameStack:
    """Return the stack that is meant.

    Raises
    ------
    NoPixels
        There are none.
    StackChoiceNeeded
        There are several and none, or an unknown one, is named.
    """
    if not stacks:
        raise NoPixels("this series has no pixels that can be decoded; `export` gives its files as they came")
    if stack is None and len(stacks) == 1:
        return stacks[0]
    if isinstance(stack, int) and not isinstance(stack, bool) and 0 <= stack < len(stacks):
        return stacks[stack]
    for found in stacks:
        if found.label == stack:
            return found
    labels = ", ".join(f"{number}: {found.label!r}" for number, found in enumerate(stacks[:NAMED]))
    more = f", … {len(stacks) - 1}; `stacks` lists all {len(stacks)}" if len(stacks) > NAMED else ""
    problem = "this series has several stacks" if stack is None else "this series has no such stack"
    raise StackChoiceNeeded(f"{problem}; pass stack= one of {labels}{more}")


@contextmanager
def named_series(series_id: str) -> Iterator[None]:
    """Say which series an error is about, where many are open.

    Raises
    ------
    NoPixels, StackChoiceNeeded
        As for `choose`, with the opaque id.
    """
    try:
        yield
    except (NoPixels, StackChoiceNeeded) as error:
        raise type(error)(str(error).replace("this series", f"series {series_id}", 1)) from None


def _layout(row: Row) -> Layout:
    photometric = row["PhotometricInterpretation"]
    return Layout(
        row["rows"],
        row["columns"],
        row["samples"],
        row["dtype"],
        photometric == "PALETTE COLOR",
        photometric == "MONOCHROME1",
    )


def _frame_stack(
    layout: Layout,
    refs: Sequence[FrameRef],
    attributes: Sequence[FrameAttributes],
    group: FrameGroup,
    several: bool,
) -> FrameStack:
    order = [int(index) for index in group.order]
    return FrameStack(
        f"{layout} {group.label}".strip() if several else group.label,
        layout,
        tuple(refs[index] for index in order),
        tuple(attributes[index] for index in order),
        group,
    )


def _refs(frames: FrameTable) -> list[FrameRef]:
    columns = [frames.values(name) for name in ("pack_id", "stack", "frame", "instance_id", "FrameNumber")]
    return [
        FrameRef(pack_id, stack, frame, instance_id, number - 1)
        for pack_id, stack, frame, instance_id, number in zip(*columns, strict=True)
    ]
