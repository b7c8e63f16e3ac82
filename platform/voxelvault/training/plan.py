"""What a data set consists of: which samples there are, and what each is made of. Decides, reads nothing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from voxelvault.errors import UsageError

KINDS = ("volumes", "slices", "patches")
SAMPLINGS = ("random", "balanced")
ARRAYS = ("numpy", "torch", "monai")

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the samples should be.

    Parameters
    ----------
    kind : {"volumes", "slices", "patches"}
        What one sample holds of a series.
    stack : int or str, optional
        Which volume of each series, where there are several.
    units : str, optional
        As of `Series.load`.
    fill : float, optional
        Instead of padding and outside the volume; -1024 for Hounsfield units and else 0 by default.
    patch_size : tuple of int
        (axis 0, axis 1, axis 2) of patches.
    patches_per_volume : int
        Patches of each volume an epoch.
    sampling : {"random", "balanced"}
        Where patches lie: anywhere, or a share of them about voxels of the mask.
    foreground : float
        That share, 0 to 1.
    seed : int
        What all drawing starts from; not negative.
    memory : int
        Bytes of decoded volumes that a process keeps for the next patches.

    Raises
    ------
    UsageError
        A value is none of those.
    """

    kind: str = "volumes"
    stack: int | str | None = None
    units: str | None = None
    fill: float | None = None
    patch_size: tuple[int, ...] = (96, 96, 96)
    patches_per_volume: int = 1
    sampling: str = "random"
    foreground: float = 0.5
    seed: int = 0
    memory: int = 256 << 20

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, KINDS)
        _one_of("sampling", self.sampling, SAMPLINGS)
        object.__setattr__(self, "patch_size", tuple(map(_whole, self.patch_size)))
        if len(self.patch_size) != 3 or min(self.patch_size) < 1:
            raise UsageError("patch_size is three whole numbers above 0, one for each axis of the volume")
        if self.patches_per_volume < 1 or self.seed < 0 or not 0 <= self.foreground <= 1:
            raise UsageError("patches_per_volume is at least 1, seed at least 0, foreground from 0 to 1")


@dataclass(frozen=True, slots=True)
class Unit(Generic[M]):
    """One series, or the series of one study that make a sample together.

    Parameters
    ----------
    id : str
        Opaque id of the series or study.
    subject_id : str
        Opaque id.
    members : mapping of str to M
        What to read, by the key that it has in the sample.
    slices : int
        Of the first member's volume; counted where samples are slices.
    labels : tuple
        What the samples' `label` is: one for each slice, or one for all; None for no such entry.
    """

    id: str
    subject_id: str
    members: dict[str, M]
    slices: int = 0
    labels: tuple[Any, ...] = (None,)


@dataclass(frozen=True)
class Plan(Generic[M]):
    """All samples of a data set: units in order, and for each its volume, slices or patches."""

    wish: Wish
    units: tuple[Unit[M], ...]
    _ends: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ends, end = [], 0
        for unit in self.units:
            end += self._parts(unit)
            ends.append(end)
        object.__setattr__(self, "_ends", ends)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def find(self, index: int) -> tuple[Unit[M], int]:
        """Return the unit of a sample, and which of its slices or patches it is."""
        number = bisect_right(self._ends, index)
        unit = self.units[number]
        return unit, index - self._ends[number] + self._parts(unit)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Keys under which samples have images."""
        return tuple(self.units[0].members) if self.units else ()

    def _parts(self, unit: Unit[M]) -> int:
        if self.wish.kind == "slices":
            return unit.slices
        return self.wish.patches_per_volume if self.wish.kind == "patches" else 1


def labels_of(labels: Sequence[Mapping[str, Any]], wanted: str | Sequence[str] | None) -> list[Any]:
    """Return the label of each series as its sample has it.

    Parameters
    ----------
    labels : sequence of mapping
        By column; empty for a series without.
    wanted : str or sequence of str, optional
        A column: its value. Several: a dictionary. By default the only column there is, or all; none
        by an empty sequence.

    Raises
    ------
    UsageError
        No such column, or a series lacks its value.
    """
    columns = sorted({column for row in labels for column in row})
    chosen = [wanted] if isinstance(wanted, str) else list(columns if wanted is None else wanted)
    if not chosen:
        return [None] * len(labels)
    if unknown := sorted(set(chosen) - set(columns)):
        raise UsageError(
            f"no label column {', '.join(map(repr, unknown))}; there are: {', '.join(columns) or 'none'}"
        )
    lacking = sum(1 for row in labels if any(row.get(name) is None for name in chosen))
    if lacking:
        raise UsageError(
            f"{lacking} of {len(labels)} series have no label in {', '.join(map(repr, chosen))}; leave them"
            f" out (with_labels(..., columns={chosen!r}, missing='drop')), name another column with label=,"
            " or none with label=[]"
        )
    single = len(chosen) == 1 and (wanted is None or isinstance(wanted, str))
    return [row[chosen[0]] if single else {name: row[name] for name in chosen} for row in labels]


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"no {name} {value!r}; choose one of {', '.join(known)}")


def _whole(length: Any) -> int:
    """Return a whole number as one; 0, which is refused, for any other."""
    return int(length) if hasattr(length, "__index__") else 0


__all__ = ["ARRAYS", "KINDS", "Plan", "Unit", "Wish", "labels_of"]
