"""What reading one series needs, apart from who may: light, frozen, fit to travel within a loan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from voxelvault.reading.frame_table import FrameTable
from voxelvault.reading.headers import HeaderSource, PackHeaders
from voxelvault.reading.packs import PackSource
from voxelvault.reading.stacks import FrameStack, frame_stacks

if TYPE_CHECKING:
    from voxelvault.reading.lent import Lender
    from voxelvault.reading.volumes import Guard, VolumeReader

Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class SeriesSource:
    """One series as the catalog has it: rows, and volumes arranged when they are first looked at.

    It holds no key and reads nothing by itself, but its rows identify people: it travels sealed, as
    the payload of a loan.

    Parameters
    ----------
    row : mapping
        Of the catalog's `series`.
    instances : sequence of mapping
        `instance_id`, `sha256`, `pixels`, `pack_id` of each, in order of InstanceNumber.
    packs : sequence of mapping
        Rows of the catalog's `packs`.
    frames : FrameTable
        Rows of `frames`, of these instances.
    layouts : sequence of mapping
        Rows of `stacks`.
    """

    row: Row = field(repr=False)
    instances: Sequence[Row] = field(repr=False)
    packs: Sequence[Row] = field(repr=False)
    frames: FrameTable = field(repr=False)
    layouts: Sequence[Row] = field(repr=False)
    _arranged: list[tuple[FrameStack, ...]] = field(default_factory=list, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return SeriesSource, (self.row, self.instances, self.packs, self.frames, self.layouts)

    def __repr__(self) -> str:
        return f"<SeriesSource {self.series_id}: {len(self.instances)} instances>"

    @property
    def series_id(self) -> str:
        """Opaque id of the series."""
        return str(self.row["series_id"])

    @property
    def study_id(self) -> str:
        """Opaque id of its study."""
        return str(self.row["study_id"])

    @property
    def subject_id(self) -> str:
        """Opaque id of its subject."""
        return str(self.row["subject_id"])

    @property
    def modality(self) -> str:
        """Modality, such as CT."""
        return str(self.row["Modality"] or "unknown")

    @property
    def stacks(self) -> tuple[FrameStack, ...]:
        """Volumes of the series, the one with most frames first."""
        if not self._arranged:
            self._arranged.append(frame_stacks(self.frames, self.layouts))
        return self._arranged[0]

    def reader(
        self,
        packs: PackSource,
        guard: Guard,
        headers: HeaderSource | None = None,
        threads: int | None = None,
        lender: Lender | None = None,
    ) -> VolumeReader:
        """Return a reader of these volumes.

        Parameters
        ----------
        packs : PackSource
            Opens the packs: `OpenedMany.packs`, or `OpenLoan.packs` in a worker.
        guard : Guard
            The handle, or the open loan.
        headers : HeaderSource, optional
            By default headers come out of the packs.
        threads : int, optional
            Decoding threads of each read.
        lender : Lender, optional
            Lets the reader travel to other processes.
        """
        from voxelvault.reading.volumes import VolumeReader

        places = {row["instance_id"]: row["pack_id"] for row in self.instances}
        return VolumeReader(packs, headers or PackHeaders(packs, places), guard, threads, lender)


__all__ = ["SeriesSource"]
